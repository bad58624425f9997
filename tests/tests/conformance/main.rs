//! Cases of the neutral form on a whole fleet: each through RabbitMQ and Postgres, all at once, and what
//! is expected of each is compared with its rows, and so is all that was seen in virtual time. Once as
//! they are, and once with completions that are sent twice, jobs that are handed out twice, and a
//! coordinator that is killed amid them.

mod cases;
mod likeness;
mod rows;
mod worker;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use flotilla_protocol::amqp::{ConnectOptions, Publisher, PublisherOptions};
use flotilla_protocol::names;
use flotilla_tests::membership::wait_for_even_shares;
use flotilla_tests::{Client, Fleet, LIMIT, Service, Start, wait_until};
use futures::future::join_all;
use serde_json::value::to_raw_value;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::cases::{Playable, playable};
use crate::likeness::unlike;
use crate::rows::seen;
use crate::worker::{Gate, Jobs, Player, Worker};

/// The least number of cases that a fleet has to play.
const FEWEST_CASES: usize = 30;
/// The least number of things that are compared, of all cases.
const FEWEST_PARTS: usize = 120;

/// Cases that end just before a coordinator dies, and that another one has to go on with, at least.
const SOME_CASES: i64 = 5;

/// Jobs that are handed out twice, at least; others come again when nobody wants them any more.
const SOME_COPIES: usize = 20;

/// What became of the jobs of a case, or which step of it could not be taken.
type Playing = JoinHandle<Result<Jobs, String>>;

#[tokio::test]
async fn a_fleet_does_what_the_cases_expect() {
    let mut run = Run::begin(false).await;
    let jobs = run.jobs().await;
    let late = run.cases.iter().map(|case| case.played.ignored_answers);
    let late = i64::try_from(late.sum::<u64>()).expect("a count");
    let query =
        "SELECT count(*) FROM workflow_ignored_message WHERE message_type = 'task.completed'";
    wait_until("late answers were ignored", LIMIT, async || {
        run.fleet.database.number(query).await >= late
    })
    .await;
    run.compare(&jobs, true).await;
    assert_eq!(sum(&jobs, |jobs| jobs.copies), 0, "no job was sent twice");
    run.rest().await;
}

#[tokio::test]
async fn the_cases_survive_repeated_completions_and_the_death_of_a_coordinator() {
    let mut run = Run::begin(true).await;
    let count = run.cases.len();
    wait_until("all cases are half done", LIMIT, async || {
        run.reached.load(Ordering::Relaxed) == count
    })
    .await;
    let [first, others] = &run.open;
    let ended = "SELECT count(*) FROM workflow_execution_summary WHERE finished_at IS NOT NULL";
    let before = run.fleet.database.number(ended).await;
    first.send(true).expect("they wait for it");
    wait_until("some cases have ended", LIMIT, async || {
        run.fleet.database.number(ended).await >= before + SOME_CASES
    })
    .await;
    let victim = run.coordinators.remove(0);
    let partitions = victim.partitions(&run.fleet.database).await;
    victim.kill();
    let unfinished = format!(
        "SELECT count(*) FROM workflow_execution_summary
         WHERE finished_at IS NULL AND ARRAY[partition] <@ ARRAY{partitions:?}"
    );
    let unfinished = run.fleet.database.number(&unfinished).await;
    assert!(unfinished >= SOME_CASES, "{unfinished} need another owner");
    others.send(true).expect("they wait for it");
    let next = run.fleet.coordinator().await;
    run.coordinators.push(next);
    let jobs = run.jobs().await;
    run.compare(&jobs, false).await;
    let (copies, repeated) = (
        sum(&jobs, |jobs| jobs.copies),
        sum(&jobs, |jobs| jobs.repeated),
    );
    println!("{unfinished} went on elsewhere, {copies} jobs came twice, {repeated} completions");
    assert!(copies >= SOME_COPIES, "{copies}");
    let answered = sum(&jobs, |jobs| jobs.deliveries.len());
    assert!(repeated * 2 > answered, "{repeated} of {answered}");
    run.rest().await;
}

fn sum(jobs: &[Result<Jobs, String>], count: fn(&Jobs) -> usize) -> usize {
    jobs.iter().flatten().map(count).sum()
}

/// All cases on one fleet.
struct Run {
    cases: Vec<Arc<Playable>>,
    starts: Vec<Start>,
    playing: Vec<Playing>,
    client: Client,
    reached: Arc<AtomicUsize>,
    /// Lets every other case go on, and the rest of them.
    open: [watch::Sender<bool>; 2],
    coordinators: Vec<Service>,
    _worker: Worker,
    fleet: Fleet,
}

impl Run {
    /// Starts all cases at once.
    async fn begin(has_faults: bool) -> Self {
        let (cases, left_out) = playable();
        println!("{} cases; left out: {left_out:#?}", cases.len());
        assert!(cases.len() >= FEWEST_CASES, "{}", cases.len());
        let cases: Vec<_> = cases.into_iter().map(Arc::new).collect();
        let fleet = Fleet::new().await;
        register(&fleet, &cases);
        let coordinators = vec![fleet.coordinator().await, fleet.coordinator().await];
        wait_for_even_shares(&fleet.database, &coordinators).await;
        let client = fleet.client().await;
        let connect = ConnectOptions::new(&fleet.amqp_url, "scripted worker");
        let publisher = Publisher::start(PublisherOptions::new(connect));
        let (mut senders, mut receivers) = (BTreeMap::new(), Vec::new());
        for case in &cases {
            let (sender, receiver) = mpsc::unbounded_channel();
            senders.insert(case.pack.clone(), sender);
            receivers.push(receiver);
        }
        let worker = Worker::start(&fleet.amqp_url, publisher.clone(), senders).await;
        let starts: Vec<Start> = cases.iter().map(|case| start(case)).collect();
        let reached = Arc::new(AtomicUsize::new(0));
        let open = [watch::Sender::new(false), watch::Sender::new(false)];
        let mut playing = Vec::new();
        for ((case, start), jobs) in cases.iter().zip(&starts).zip(receivers) {
            let has_events = !case.script.events.is_empty();
            let player = Player {
                case: Arc::clone(case),
                start: start.clone(),
                jobs,
                publisher: publisher.clone(),
                acker: worker.acker.clone(),
                user: if has_events {
                    Some(fleet.client().await)
                } else {
                    None
                },
                gate: has_faults.then(|| Gate {
                    reached: Arc::clone(&reached),
                    open: open[playing.len() % 2].subscribe(),
                }),
            };
            playing.push(player);
        }
        client.start_all(&starts).await;
        let playing = playing
            .into_iter()
            .map(|player| tokio::spawn(player.play()));
        Self {
            playing: playing.collect(),
            cases,
            starts,
            client,
            reached,
            open,
            coordinators,
            _worker: worker,
            fleet,
        }
    }

    /// What the workers of all cases have seen, once these have ended.
    async fn jobs(&mut self) -> Vec<Result<Jobs, String>> {
        let ended = join_all(std::mem::take(&mut self.playing)).await;
        let jobs: Vec<_> = ended
            .into_iter()
            .map(|one| one.expect("no panic"))
            .collect();
        for (start, jobs) in self.starts.iter().zip(&jobs) {
            let id = start.execution_id().to_string();
            if jobs.is_ok() {
                self.client.reply(names::WORKFLOW_FINISHED, &id).await;
            }
        }
        jobs
    }

    /// Compares the rows of all cases with what is expected of them, and with what was seen of them in
    /// process. How many answers came late says something only where none was repeated.
    async fn compare(&self, jobs: &[Result<Jobs, String>], has_late_answers: bool) {
        let mut wrong = Vec::new();
        let mut parts = 0;
        for ((case, start), jobs) in self.cases.iter().zip(&self.starts).zip(jobs) {
            let expected = &case.expectation;
            match jobs {
                Ok(jobs) => {
                    let seen = seen(&self.fleet.database, start.execution_id(), jobs).await;
                    parts += expected.parts();
                    let found = expected.compare(&seen).into_iter();
                    let mut found: Vec<_> = found.map(|one| one.to_string()).collect();
                    found.extend(unlike(&case.played, &seen));
                    if has_late_answers && seen.ignored_answers != case.played.ignored_answers {
                        let (found_here, then) =
                            (seen.ignored_answers, case.played.ignored_answers);
                        found.push(format!("{found_here} late answers, in process {then}"));
                    }
                    wrong.extend(found.iter().map(|one| format!("{}: {one}", case.file)));
                }
                Err(step) => wrong.push(format!("{}: {step}", case.file)),
            }
        }
        assert!(
            wrong.is_empty(),
            "{} differences:\n{}",
            wrong.len(),
            wrong.join("\n")
        );
        println!("{parts} parts of {} expectations hold", self.cases.len());
        assert!(parts >= FEWEST_PARTS, "{parts}");
    }

    async fn rest(self) {
        self.fleet.rest(self.coordinators).await;
    }
}

/// The start of a case.
fn start(case: &Playable) -> Start {
    let mut start = Start::of(case.reference());
    let parameters = case.script.parameters.as_ref();
    start.body.parameters = parameters.map(|json| to_raw_value(json.raw()).expect("JSON is JSON"));
    start
}

/// Registers the workflows of all cases with one command.
fn register(fleet: &Fleet, cases: &[Arc<Playable>]) {
    let folder = fleet.folder.join("cases");
    std::fs::create_dir_all(&folder).expect("there is room");
    for workflow in cases.iter().flat_map(|case| &case.workflows) {
        let name = workflow["ref"].as_str().expect("it has one");
        let file = folder.join(format!("{name}.yaml"));
        std::fs::write(file, workflow.to_string()).expect("there is room");
    }
    fleet.command_ok(&["register", folder.to_str().expect("a path")]);
}
