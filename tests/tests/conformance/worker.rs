//! The worker of the cases. It answers as the script of a case says, and in the order in which the case
//! was played in virtual time: nothing is answered before all that was with workers then is with this
//! one. So no clock decides what comes of a case, whatever dies meanwhile.
//!
//! ```text
//! jobs ──► Worker ── by the pack of the workflow ──► Player of a case ── completions ──► inboxes
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use chrono::{DateTime, Utc};
use flotilla_protocol::amqp::{Acker, ConnectOptions, Connection, Outgoing, Publisher};
use flotilla_protocol::message::{CompletionStatus, TaskCompleted, TaskJob, TaskStarted};
use flotilla_protocol::names;
use flotilla_scripted::{Action, Answer, AnswerStatus, Delivery, Step};
use flotilla_tests::client::publish;
use flotilla_tests::{Client, LIMIT, Start};
use serde_json::value::to_raw_value;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::cases::Playable;
use crate::rows::seconds;

/// A job as it came.
#[derive(Debug)]
pub struct Arrived {
    job: TaskJob,
    tag: u64,
    reply_to: String,
    at: DateTime<Utc>,
}

/// Takes all jobs, and hands each to the player of its case.
pub struct Worker {
    pub acker: Acker,
    reading: JoinHandle<()>,
}

impl Worker {
    /// Begins to take jobs.
    pub async fn start(
        url: &str,
        publisher: Publisher,
        players: BTreeMap<String, mpsc::UnboundedSender<Arrived>>,
    ) -> Self {
        let options = ConnectOptions::new(url, "scripted worker");
        let opened = Connection::open_with_backoff(&options, Some(LIMIT)).await;
        let connection = opened.expect("RabbitMQ answers");
        let queue = names::jobs_queue("default");
        let mut consumer = connection.consume(&queue, 0).await.expect("it is there");
        let acker = consumer.acker();
        let own = acker.clone();
        let reading = tokio::spawn(async move {
            let _connection = connection;
            while let Some(delivery) = consumer.next().await {
                let job: TaskJob = serde_json::from_slice(&delivery.body).expect("a job");
                let reply_to = delivery.envelope.reply_to.expect("it has one");
                // Always, so that deaths of the worker are counted from the first on.
                publish(
                    &publisher,
                    Outgoing::task_started(&reply_to, &started(&job)),
                )
                .await;
                let pack = job.workflow.split('.').next().unwrap_or_default();
                let player = players.get(pack).expect("a job of a case");
                let arrived = Arrived {
                    tag: delivery.tag,
                    at: Utc::now(),
                    reply_to,
                    job,
                };
                // Whoever has answered all of its jobs wants no copy of one.
                if let Err(unwanted) = player.send(arrived) {
                    own.ack(unwanted.0.tag, false).await.expect("it is open");
                }
            }
        });
        Self { acker, reading }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

fn started(job: &TaskJob) -> TaskStarted {
    TaskStarted {
        execution_id: job.execution_id,
        task_id: job.task_id,
        attempt: job.attempt,
        worker: Some("scripted".to_owned()),
        started_at: None,
        acknowledged: false,
        heartbeat: None,
        progress: None,
        detail: None,
    }
}

/// Where all cases wait for the fault that happens amid them.
#[derive(Debug)]
pub struct Gate {
    /// How many are there, or have given up.
    pub reached: Arc<AtomicUsize>,
    /// Whether they may go on.
    pub open: watch::Receiver<bool>,
}

/// Plays one case.
pub struct Player {
    pub case: Arc<Playable>,
    pub start: Start,
    pub jobs: mpsc::UnboundedReceiver<Arrived>,
    pub publisher: Publisher,
    pub acker: Acker,
    /// Makes commands; only where the case has some.
    pub user: Option<Client>,
    /// With faults, completions are sent twice, and some jobs are handed out twice.
    pub gate: Option<Gate>,
}

/// A job that this worker has, or had.
struct Held {
    arrived: Arrived,
    /// All deliveries of it that are not acknowledged.
    tags: Vec<u64>,
    shown: String,
    answer: Option<Answer>,
    /// What was said of it.
    completed: Option<TaskCompleted>,
    is_lost: bool,
    delivery: Delivery,
}

/// What a player has seen.
#[derive(Debug, Default)]
pub struct Jobs {
    /// Jobs in the order in which they came, without copies.
    pub deliveries: Vec<Delivery>,
    /// The run of each, and its execution.
    pub runs: Vec<(Uuid, Uuid)>,
    /// Jobs that came again though nobody had lost them.
    pub copies: usize,
    /// Completions that were sent once more than the script says.
    pub repeated: usize,
}

/// A case under way.
struct Playing<'a> {
    player: &'a mut Player,
    held: Vec<Held>,
    /// Positions in `held`, by the position of the delivery in virtual time.
    matched: BTreeMap<usize, usize>,
    of_task: BTreeMap<String, usize>,
    of_item: BTreeMap<(String, u32), usize>,
    /// Positions in `held` of what is yet to be said once more.
    late: Vec<usize>,
    jobs: Jobs,
}

impl Player {
    /// Takes all steps of the case. An error is the step that could not be taken.
    pub async fn play(mut self) -> Result<Jobs, String> {
        let case = Arc::clone(&self.case);
        let mut playing = Playing {
            player: &mut self,
            held: Vec::new(),
            matched: BTreeMap::new(),
            of_task: BTreeMap::new(),
            of_item: BTreeMap::new(),
            late: Vec::new(),
            jobs: Jobs::default(),
        };
        let half = case.played.steps.len() / 2;
        for (number, step) in case.played.steps.iter().enumerate() {
            if number == half {
                playing.player.wait_at_gate().await;
            }
            if let Err(error) = playing.step(step).await {
                playing.player.wait_at_gate().await;
                return Err(format!("step {number}, {step:?}: {error}"));
            }
        }
        playing.player.wait_at_gate().await;
        playing.repeat_late().await;
        Ok(playing.end())
    }

    async fn wait_at_gate(&mut self) {
        let Some(gate) = &mut self.gate else {
            return;
        };
        if *gate.open.borrow() {
            return;
        }
        gate.reached.fetch_add(1, Ordering::Relaxed);
        let opened = gate.open.wait_for(|is_open| *is_open).await;
        opened.expect("the test opens it");
    }
}

impl Playing<'_> {
    async fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Delivered(delivery) => self.delivered(*delivery).await,
            Step::Answered(delivery, status) => {
                self.answered(*delivery, *status).await;
                Ok(())
            }
            Step::Lost(delivery) => {
                self.lost(*delivery).await;
                Ok(())
            }
            Step::Acted(action) => self.act(action).await,
            // What comes of it is a job, which is waited for.
            Step::TimerFired => Ok(()),
        }
    }

    /// Waits until what a worker got in virtual time has come here.
    async fn delivered(&mut self, virtual_one: usize) -> Result<(), String> {
        let case = Arc::clone(&self.player.case);
        let wanted = &case.played.deliveries[virtual_one];
        let position = loop {
            let open = self.held.iter().position(|held| {
                held.answer.is_none()
                    && *held.shown == *wanted.task
                    && held.delivery.item == wanted.item
            });
            if let Some(position) = open {
                break position;
            }
            let next = tokio::time::timeout(LIMIT / 2, self.player.jobs.recv()).await;
            let Ok(Some(arrived)) = next else {
                return Err(format!("no job of {} came", wanted.task));
            };
            self.arrived(arrived).await;
        };
        self.matched.insert(virtual_one, position);
        let answer = self.answer_to(position);
        self.held[position].answer = Some(answer);
        let has_losses = case
            .played
            .steps
            .iter()
            .any(|step| matches!(step, Step::Lost(_)));
        // Where jobs are lost on purpose, these losses are counted.
        if self.player.gate.is_some() && !has_losses && position % 3 == 1 {
            self.hand_back(position).await;
        }
        Ok(())
    }

    /// The broker takes a job for lost that its worker answers all the same.
    async fn hand_back(&mut self, position: usize) {
        for tag in self.held[position].tags.drain(..) {
            let returned = self.player.acker.nack_requeue(tag).await;
            assert!(returned.expect("it is open"));
        }
    }

    /// Takes a job, or a copy of one.
    async fn arrived(&mut self, arrived: Arrived) {
        let id = (arrived.job.task_id, arrived.job.attempt);
        let known = self.held.iter().position(|held| {
            let job = &held.arrived.job;
            (job.task_id, job.attempt) == id && !held.is_lost
        });
        if let Some(position) = known {
            self.jobs.copies += 1;
            self.held[position].tags.push(arrived.tag);
            if self.held[position].completed.is_some() {
                self.say(position).await;
            }
            return;
        }
        let job = &arrived.job;
        let child = job.workflow.split('.').nth(1).unwrap_or_default();
        let shown = if job.workflow == self.player.case.reference() {
            job.task.clone()
        } else {
            format!("{child}.{}", job.task)
        };
        let delivery = Delivery {
            task: shown.as_str().into(),
            run: 0,
            item: job.item.as_ref().map(|item| item.index),
            attempt: job.attempt,
            action: job.action.as_str().into(),
            input: serde_json::from_str(job.input.get()).expect("it is JSON"),
            from_s: seconds(arrived.at),
            to_s: None,
        };
        self.held.push(Held {
            tags: vec![arrived.tag],
            arrived,
            shown,
            answer: None,
            completed: None,
            is_lost: false,
            delivery,
        });
    }

    /// The answer that the script has for a job, by those before it.
    fn answer_to(&mut self, position: usize) -> Answer {
        let job = &self.held[position].arrived.job;
        let count = self.of_task.entry(job.task.clone()).or_insert(0);
        let of_task = *count;
        *count += 1;
        let item = job.item.as_ref().map(|item| item.index);
        let of_item = item.map_or(of_task, |index| {
            let count = self.of_item.entry((job.task.clone(), index)).or_insert(0);
            *count += 1;
            *count - 1
        });
        let answers = self.player.case.script.answers.get(&job.task);
        answers.map_or_else(Answer::default, |answers| {
            answers.answer(item, of_task, of_item)
        })
    }

    async fn answered(&mut self, virtual_one: usize, status: CompletionStatus) {
        let position = self.matched[&virtual_one];
        let held = &mut self.held[position];
        let job = &held.arrived.job;
        let is_first = held.completed.is_none();
        if is_first {
            let answer = held.answer.clone().unwrap_or_default();
            held.completed = Some(completed(job, &answer, status));
            held.delivery.to_s = Some(seconds(Utc::now()));
        }
        self.say(position).await;
        self.repeat_late().await;
        if is_first && self.player.gate.is_some() {
            // Each other one after something else of the case has been said, perhaps to another run.
            if position.is_multiple_of(2) {
                self.repeat(position).await;
            } else {
                self.late.push(position);
            }
        }
    }

    /// Says how a job ended, and acknowledges the job once the broker has that.
    async fn say(&mut self, position: usize) {
        let held = &mut self.held[position];
        let completed = held.completed.clone().expect("it has ended");
        let message = Outgoing::completed(&held.arrived.reply_to, &[completed]);
        publish(&self.player.publisher, message).await;
        for tag in held.tags.drain(..) {
            let acknowledged = self.player.acker.ack(tag, false).await;
            assert!(acknowledged.expect("it is open"));
        }
    }

    async fn repeat(&mut self, position: usize) {
        self.jobs.repeated += 1;
        self.say(position).await;
    }

    async fn repeat_late(&mut self) {
        for position in std::mem::take(&mut self.late) {
            self.repeat(position).await;
        }
    }

    /// The worker dies over a job: the broker has it again.
    async fn lost(&mut self, virtual_one: usize) {
        let position = self.matched[&virtual_one];
        let held = &mut self.held[position];
        held.is_lost = true;
        held.delivery.to_s = Some(seconds(Utc::now()));
        self.hand_back(position).await;
    }

    async fn act(&mut self, action: &Action) -> Result<(), String> {
        let start = &self.player.start;
        let id = start.execution_id();
        let user = self.player.user.as_mut().ok_or("there is no user")?;
        match action {
            // A command that is refused now was refused then.
            Action::Pause => drop(user.refusal(id, "pause").await),
            Action::Resume => drop(user.refusal(id, "resume").await),
            Action::Cancel => drop(user.refusal(id, "cancel").await),
            Action::StartAgain => {
                user.start(start).await;
                let again = user.reply(names::WORKFLOW_STARTED, &id.to_string()).await;
                if again.body["created"] != false {
                    return Err(format!("it was started twice: {}", again.body));
                }
            }
            // What it gives is a status at a time, which is not compared.
            Action::Check => {}
            Action::Restart | Action::Rerun(_) => {
                return Err("such cases are left out".to_owned());
            }
        }
        Ok(())
    }

    /// What was seen. The last job of a task whose worker always died comes once more than it is run:
    /// that it is to be left alone is found out by its start.
    fn end(self) -> Jobs {
        let mut jobs = self.jobs;
        let lost = |held: &Held| {
            let mut others = self.held.iter().filter(|other| other.is_lost);
            others.any(|other| other.arrived.job.task_id == held.arrived.job.task_id)
        };
        for held in &self.held {
            if held.answer.is_none() && lost(held) {
                continue;
            }
            let job = &held.arrived.job;
            jobs.runs.push((job.execution_id.0, job.task_id.0));
            jobs.deliveries.push(held.delivery.clone());
        }
        jobs
    }
}

fn completed(job: &TaskJob, answer: &Answer, status: CompletionStatus) -> TaskCompleted {
    let is_cancelled = status == CompletionStatus::Cancelled;
    let status = match answer.status {
        _ if is_cancelled => status,
        AnswerStatus::Succeeded => CompletionStatus::Succeeded,
        AnswerStatus::Failed => CompletionStatus::Failed,
        AnswerStatus::TimedOut => CompletionStatus::TimedOut,
        AnswerStatus::Lost | AnswerStatus::Never => panic!("it has no answer"),
    };
    let result = if answer.echo {
        Some(job.input.clone())
    } else {
        let result = answer.result.as_ref();
        result.map(|result| to_raw_value(result.raw()).expect("JSON is JSON"))
    };
    TaskCompleted {
        execution_id: job.execution_id,
        task_id: job.task_id,
        attempt: job.attempt,
        status,
        result: result.filter(|_| !is_cancelled),
        error: answer.error.clone().filter(|_| !is_cancelled),
        started_at: None,
        finished_at: None,
        worker: Some("scripted".to_owned()),
    }
}
