//! Random schedules: messages are delivered in any order between channels, answers are late or lost,
//! channels close, coordinators die and others begin, messages come twice. Then the faults end, and
//! everything must come to its end. Each seed is one schedule, always the same.

use std::collections::VecDeque;

use flotilla_protocol::ExecutionId;
use flotilla_protocol::message::TaskJob;
use flotilla_turn::rows::{CommitAnswer, IgnoredRow};
use flotilla_turn::{Effect, Input};
use serde_json::json;

use crate::broker::Queue;
use crate::messages::{failed, request, started, succeeded};
use crate::world::{Fate, Lane, World};

const SCHEDULES: u64 = 150;
const STEPS: usize = 400;
const LANES: [Lane; 5] = [
    Lane::Loads,
    Lane::Commits,
    Lane::Channels,
    Lane::Publications,
    Lane::Others,
];

pub const CHAIN: &str = "
ref: t.chain
vars: {n: 0}
tasks:
  - {name: a, action: core.noop, timeout: 5, publish: [{n: \"{{ result() }}\"}], on_success: b}
  - {name: b, action: core.noop, timeout: 5, input: {n: \"{{ vars.n }}\"}, publish: [{n: \"{{ vars.n + result() }}\"}], on_success: c}
  - {name: c, action: core.noop, timeout: 5, input: {seen: \"{{ task.a.result }}\"}}
output_map: {n: \"{{ vars.n }}\"}
";
pub const DIAMOND: &str = "
ref: t.diamond
vars: {left: 0, right: 0}
tasks:
  - {name: a, action: core.noop, timeout: 5, on_success: [b, c]}
  - {name: b, action: core.noop, timeout: 5, retry: {count: 3}, publish: [{left: \"{{ result() }}\"}], on_success: d, on_failure: d}
  - {name: c, action: core.noop, timeout: 5, publish: [{right: \"{{ result() }}\"}], on_complete: d}
  - {name: d, join: all, action: core.noop, timeout: 5, input: {l: \"{{ vars.left }}\", r: \"{{ vars.right }}\"}}
output_map: {l: \"{{ vars.left }}\", r: \"{{ vars.right }}\"}
";
pub const RETRIES: &str = "
ref: t.retries
vars: {rounds: 0}
tasks:
  - {name: begin, on_success: a}
  - {name: a, action: core.noop, timeout: 5, retry: {count: 2, delay: 1, jitter: 0.5}, publish: [{rounds: \"{{ vars.rounds + 1 }}\"}], on_success: b, on_timeout: b}
  - {name: b, action: core.noop, timeout: 5, retry: {count: 1, delay: 200}, next: [{when: \"{{ vars.rounds < 3 }}\", do: a}]}
";
pub const FAILING: &str = "
ref: t.failing
tasks:
  - {name: a, action: core.noop, timeout: 5, retry: {count: 2, delay: 3}}
  - {name: b, action: core.noop, timeout: 5, on_success: d}
  - {name: c, action: core.noop, timeout: 5, on_success: d}
  - {name: d, join: all, action: core.noop, timeout: 5}
";

/// `SplitMix64`.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).expect("small")
    }

    fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

struct Schedule {
    world: World,
    random: Random,
    /// Jobs in the hands of workers.
    working: VecDeque<TaskJob>,
    crashes: bool,
    started: u128,
    asked: Vec<u128>,
}

#[test]
fn whatever_happens_everything_ends_and_nothing_happens_twice() {
    let given = std::env::var("TURNS_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let count = std::env::var("TURNS_SCHEDULES")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(SCHEDULES);
    let seeds = given.map_or(0..count, |seed: u64| seed..seed + 1);
    for seed in seeds {
        if let Err(panic) = std::panic::catch_unwind(|| Schedule::new(seed).run()) {
            eprintln!("rerun: TURNS_SEED={seed} cargo test -p flotilla-turn --test turns whatever");
            std::panic::resume_unwind(panic);
        }
    }
}

impl Schedule {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let partitions = i32::try_from(1 + random.below(3)).expect("small");
        let mut world = World::new(partitions, &[CHAIN, DIAMOND, RETRIES, FAILING]);
        world.config.cached_executions = [0, 1, 100][random.below(3)];
        world.start_coordinator();
        if random.percent(50) {
            world.start_coordinator();
        }
        Self {
            crashes: random.percent(50),
            world,
            random,
            working: VecDeque::new(),
            started: 0,
            asked: Vec::new(),
        }
    }

    fn run(mut self) {
        for _ in 0..STEPS {
            self.step();
        }
        self.heal();
        self.check_end();
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..4 => self.start(),
            4..12 => self.work(),
            12..15 => self.pass(),
            15..17 => self.fault(),
            _ => self.act(),
        }
    }

    fn start(&mut self) {
        let workflow = ["t.chain", "t.diamond", "t.retries", "t.failing"][self.random.below(4)];
        let again = self.random.percent(20) && self.started > 0;
        if !again {
            self.started += 1;
            self.asked.push(self.started);
        }
        let workflow = if again { "t.chain" } else { workflow };
        let mut request = request(workflow, self.started);
        if self.random.percent(50) {
            request.reply_to = Some(flotilla_turn::message::ReplyAddress {
                reply_to: format!("client {}", self.started),
                correlation_id: None,
            });
        }
        self.world.put_request(request);
    }

    fn work(&mut self) {
        if self.random.percent(50) {
            let Some(job) = self.world.take_job() else {
                return;
            };
            if self.random.percent(50) {
                let partition = self.world.partition_of(job.execution_id);
                self.world.put_inbox(partition, started(&job));
                if self.random.percent(5) {
                    return; // The worker hangs; the deadline ends the attempt.
                }
            }
            let twice = self.random.percent(10);
            self.working.extend(twice.then(|| job.clone()));
            self.working.push_back(job);
        } else {
            let at = self.random.below(self.working.len());
            if let Some(job) = self.working.remove(at) {
                self.complete(&job);
            }
        }
    }

    fn complete(&mut self, job: &TaskJob) {
        let completed = if self.random.percent(30) {
            failed(job)
        } else {
            succeeded(job, &json!(self.random.below(10)))
        };
        if self.random.percent(10) {
            self.world.complete(completed.clone());
        }
        self.world.complete(completed);
    }

    fn pass(&mut self) {
        let seconds = [0.05, 0.3, 1.0, 4.0, 40.0][self.random.below(5)];
        self.world.pass(seconds);
    }

    fn living(&mut self) -> Option<usize> {
        let living: Vec<usize> = (0..self.world.coordinators.len())
            .filter(|no| self.world.coordinators[*no].is_some())
            .collect();
        living.get(self.random.below(living.len())).copied()
    }

    fn fault(&mut self) {
        let Some(no) = self.living() else {
            self.world.start_coordinator();
            return;
        };
        match self.random.below(4) {
            0 if self.crashes => self.world.crash(no),
            1 if self.random.percent(50) => drop(self.world.start_coordinator()),
            2 if self.random.percent(20) => self.world.input(no, Input::Stop),
            _ => {
                let consumers = self.world.broker.consumers(no);
                if let Some((channel, _)) = consumers.get(self.random.below(consumers.len())) {
                    self.world.lose_channel(no, *channel);
                }
            }
        }
    }

    fn act(&mut self) {
        let Some(no) = self.living() else { return };
        if self.world.coordinator(no).stopped {
            return self.world.crash(no);
        }
        match self.random.below(10) {
            0 => {
                self.world.tick(no);
            }
            1..4 => {
                let inputs = 1 + self.random.below(8);
                self.world.run_some(no, inputs);
            }
            4..6 => {
                let consumers = self.world.broker.consumers(no);
                if let Some((channel, generation)) =
                    consumers.get(self.random.below(consumers.len()))
                {
                    self.world.deliver_one(no, *channel, *generation);
                }
            }
            _ => {
                let lane = LANES[self.random.below(LANES.len())];
                if self.world.has_effect(no, lane) {
                    self.carry_out(no, lane);
                }
            }
        }
    }

    fn carry_out(&mut self, no: usize, lane: Lane) {
        match lane {
            Lane::Commits => {
                let fate = match self.random.below(20) {
                    0 => Fate::LostBefore,
                    1 => Fate::LostAfter,
                    _ => Fate::Answered,
                };
                self.world.commit(no, fate);
            }
            Lane::Publications => self.publish(no),
            Lane::Loads if self.random.percent(5) => {
                self.world.pop(no, lane);
                self.world.input(no, Input::LoadFailed);
            }
            Lane::Loads | Lane::Channels | Lane::Others => self.world.carry_out(no, lane),
        }
    }

    /// Each of a batch arrives and is confirmed, or arrives or not and nobody knows.
    fn publish(&mut self, no: usize) {
        let Effect::Publish(batch) = self.world.pop(no, Lane::Publications) else {
            panic!("only publications are in this lane");
        };
        for publication in batch {
            match self.random.below(20) {
                0 => self.world.input(no, Input::PublishFailed(publication.id)),
                1 => {
                    self.world.broker.publish(&publication);
                    self.world.note_published(&publication);
                    self.world.input(no, Input::PublishFailed(publication.id));
                }
                _ => self.world.publish(no, &[publication]),
            }
        }
    }

    fn heal(&mut self) {
        for no in 0..self.world.coordinators.len() {
            if self.world.coordinators[no]
                .as_ref()
                .is_some_and(|held| held.stopped)
            {
                self.world.crash(no);
            }
        }
        self.world.start_coordinator();
        for _ in 0..1500 {
            for no in 0..self.world.coordinators.len() {
                if self.world.coordinators[no]
                    .as_ref()
                    .is_some_and(|held| !held.stopped)
                {
                    self.world.input(no, Input::Tick);
                    self.world.calm(no);
                } else if self.world.coordinators[no].is_some() {
                    self.world.crash(no);
                }
            }
            while let Some(job) = self.world.take_job() {
                self.working.push_back(job);
            }
            while let Some(job) = self.working.pop_front() {
                self.complete(&job);
            }
            if self.is_over() {
                return;
            }
            self.world.pass(2.5);
        }
    }

    fn is_over(&self) -> bool {
        let database = &self.world.database;
        let ended = |id: &u128| ["succeeded", "failed"].contains(&self.world.status(*id));
        self.asked.iter().all(ended)
            && database.jobs.is_empty()
            && database.replies.is_empty()
            && self.world.broker.unacknowledged() == 0
    }

    fn check_end(&self) {
        let database = &self.world.database;
        if std::env::var("TURNS_SEED").is_ok() {
            self.show();
        }
        for id in &self.asked {
            let status = self.world.status(*id);
            if status == "-" && self.world.forwarded.contains(&"poison".to_owned()) {
                continue; // Its taker died while it was taken alone.
            }
            let log = self.world.log(*id).join("\n");
            assert!(
                ["succeeded", "failed"].contains(&status),
                "{id} is {status}:\n{log}"
            );
        }
        assert!(
            database.jobs.is_empty(),
            "the outbox holds {:?}",
            database.jobs
        );
        assert!(
            database.replies.is_empty(),
            "the outbox holds {:?}",
            database.replies
        );
        assert!(
            database.timers.is_empty(),
            "timers of ended executions: {:?}",
            database.timers
        );
        let queues = &self.world.broker.queues;
        let full = |(queue, held): (&Queue, &VecDeque<_>)| {
            matches!(queue, Queue::Of(_)) && !held.is_empty()
        };
        assert!(!queues.iter().any(full), "messages that nobody has taken");
        assert_eq!(
            self.world.broker.unacknowledged(),
            0,
            "messages that are not acknowledged"
        );
        // Between two that live, a mark can be found before the first has taken it back.
        let innocents = self.world.forwarded.iter().any(|reason| reason == "poison");
        assert!(
            self.crashes || self.world.coordinators.len() > 2 || !innocents,
            "an innocent message is called poison"
        );
        let ids: Vec<&ExecutionId> = database.executions.keys().collect();
        assert_eq!(
            ids.len(),
            self.asked.len(),
            "executions that nobody asked for"
        );
        let unknown = |row: &&IgnoredRow| row.reason == "unknown_execution";
        assert_eq!(database.ignored.iter().find(unknown), None);
    }
}

impl Schedule {
    /// The end of one schedule, for whoever looks for a fault.
    fn show(&self) {
        eprintln!("queues {:?}", self.world.broker.queues);
        eprintln!("partitions {:#?}", self.world.database.partitions);
        for (no, coordinator) in self.world.coordinators.iter().enumerate() {
            if let Some(held) = coordinator {
                let partitions: Vec<_> = held.turns.partitions().collect();
                eprintln!(
                    "{no} {} holds {partitions:?}, {:?}",
                    held.owner, held.effects
                );
                eprintln!("consumes {:?}", self.world.broker.consumers(no));
            }
        }
    }
}

/// What is in memory and what is loaded again make no difference.
#[test]
fn the_size_of_the_cache_changes_nothing() {
    for seed in 0..60 {
        let logs = |cached| {
            let mut random = Random(seed);
            let mut world = World::new(2, &[CHAIN, DIAMOND, RETRIES, FAILING]);
            world.config.cached_executions = cached;
            world.join();
            let workflows = ["t.chain", "t.diamond", "t.retries", "t.failing"];
            for id in 1..=4 {
                world.put_start(workflows[random.below(4)], id);
            }
            for _ in 0..300 {
                world.calm(0);
                let jobs = &mut world
                    .broker
                    .queues
                    .get_mut(&Queue::Pool("default".to_owned()))
                    .expect("a pool");
                let count = jobs.len();
                if count == 0 {
                    world.pass(1.0);
                    world.tick(0);
                    continue;
                }
                jobs.rotate_left(random.below(count));
                let job = world.take_job().expect("a job");
                let result = json!(random.below(10));
                let completed = if random.percent(30) {
                    failed(&job)
                } else {
                    succeeded(&job, &result)
                };
                world.complete(completed);
            }
            (1..=4).map(|id| world.log(id)).collect::<Vec<_>>()
        };
        assert_eq!(logs(0), logs(100), "seed {seed}");
    }
}

/// An answer that must never come: the rows and the memory have parted.
pub fn assert_no_conflict(answer: &CommitAnswer) {
    if let CommitAnswer::Refused { error } = answer {
        assert!(!error.contains("CONFLICT"), "{error}");
    }
}
