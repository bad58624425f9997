//! All processes, both servers and what is under way between them, in one place and one thread.
//! Nothing happens by itself: the schedule says what comes next.

use std::sync::Arc;

use flotilla_turn::rows::{Commit, PartitionNo};
use uuid::Uuid;

use crate::broker::{Broker, QueueNo, QueueOptions};
use crate::checks::Checks;
use crate::clients::Clients;
use crate::coordinator::Coordinator;
use crate::coverage::{Coverage, Happening};
use crate::message::Body;
use crate::planted::{Planted, ShellMutant};
use crate::random::Random;
use crate::store::Store;
use crate::worker::Worker;
use crate::workflows;

/// What a schedule begins with; all of it follows from its seed.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub partitions: PartitionNo,
    pub coordinators: usize,
    pub workers: usize,
    /// Executions that clients ask for at most.
    pub starts: u32,
    pub cached_executions: usize,
    pub max_unconfirmed: usize,
    /// How often a job may come back.
    pub delivery_limit: u32,
    /// Chances in a hundred that an order is carried out at once.
    pub eager: usize,
    /// Chances in a hundred that an answer takes its time.
    pub slow: usize,
    /// Chances in a hundred that what is sent over a network is lost, or late.
    pub lossy: usize,
    /// Chances in a thousand of a fault per step.
    pub faulty: usize,
    pub slow_workflow: bool,
    pub has_commands: bool,
    /// Whether the first job of the first execution kills every worker that runs it.
    pub has_killer: bool,
    pub seed: u64,
}

impl Setup {
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x5eed);
        Self {
            partitions: random.pick(&[1, 1, 2, 2, 3]),
            coordinators: random.pick(&[1, 2, 2, 2, 3]),
            workers: random.pick(&[2, 2, 3]),
            starts: random.pick(&[1, 2, 2, 3, 4]),
            cached_executions: random.pick(&[0, 1, 100, 100]),
            max_unconfirmed: random.pick(&[2, 10_000, 10_000]),
            delivery_limit: random.pick(&[1, 3, 20, 20]),
            eager: random.pick(&[0, 50, 80, 95]),
            slow: random.pick(&[0, 20, 50]),
            lossy: random.pick(&[0, 2, 5, 10]),
            faulty: random.pick(&[5, 20, 40, 70]),
            slow_workflow: random.below(40) == 0,
            has_commands: random.percent(40),
            has_killer: random.percent(4),
            seed,
        }
    }
}

/// The queues that are always there.
pub(crate) struct Queues {
    pub start: QueueNo,
    pub control: QueueNo,
    pub dead: QueueNo,
    pub pool: QueueNo,
    pub inboxes: Vec<QueueNo>,
}

impl Queues {
    fn declare(broker: &mut Broker<Body>, setup: &Setup) -> Self {
        let plain = QueueOptions::default();
        let dead = broker.declare("flotilla.dead", plain);
        let inbox = |no| format!("flotilla.inbox.{no}");
        Self {
            start: broker.declare("flotilla.start", plain),
            control: broker.declare("flotilla.control", plain),
            dead,
            pool: broker.declare("flotilla.jobs.default", Self::of_pool(dead, setup)),
            inboxes: (0..setup.partitions)
                .map(|no| broker.declare(&inbox(no), plain))
                .collect(),
        }
    }

    pub fn of_pool(dead: QueueNo, setup: &Setup) -> QueueOptions {
        QueueOptions {
            delivery_limit: Some(setup.delivery_limit),
            dead_letters: Some(dead),
            max_length: None,
        }
    }

    pub fn inbox(&self, partition: PartitionNo) -> QueueNo {
        self.inboxes[usize::try_from(partition).expect("partitions count from 0")]
    }
}

/// A commit that was sent and given up.
pub(crate) struct LateCommit {
    pub commit: Arc<Commit>,
    pub sender: Uuid,
}

/// What was sent, given up by its sender, and may still arrive.
#[derive(Default)]
pub(crate) struct Late {
    pub commits: Vec<LateCommit>,
    pub publications: Vec<(QueueNo, Body)>,
}

/// The fleet.
pub(crate) struct World {
    pub setup: Setup,
    pub planted: Option<Planted>,
    pub store: Store,
    pub broker: Broker<Body>,
    pub queues: Queues,
    /// Time that has passed, by a clock that only goes forward.
    pub time_us: i64,
    /// A place for each coordinator, empty while its process is not there.
    pub coordinators: Vec<Option<Box<Coordinator>>>,
    pub incarnations: u64,
    pub workers: Vec<Worker>,
    pub clients: Clients,
    pub late: Late,
    pub checks: Checks,
    pub coverage: Coverage,
    /// Whether things go wrong; at the end they do not.
    pub has_faults: bool,
    /// What happened, for whoever looks for a fault.
    pub trace: Option<Vec<String>>,
    pub violation: Option<String>,
}

impl World {
    pub fn new(setup: Setup, planted: Option<Planted>) -> Self {
        let mut broker = Broker::default();
        let queues = Queues::declare(&mut broker, &setup);
        let mut store = Store::new(setup.partitions, workflows::workflows());
        if let Some(Planted::Shell(mutant)) = planted {
            store.fence = mutant.fence();
        }
        let workers = (0..setup.workers).map(|no| Worker::new(no, &mut broker));
        let mut world = Self {
            workers: workers.collect(),
            coordinators: (0..setup.coordinators).map(|_| None).collect(),
            clients: Clients::new(&mut broker),
            planted,
            store,
            broker,
            queues,
            time_us: 0,
            incarnations: 0,
            late: Late::default(),
            checks: Checks::default(),
            coverage: Coverage::default(),
            has_faults: true,
            trace: None,
            violation: None,
            setup,
        };
        world.start_coordinator(0);
        if world.setup.seed.is_multiple_of(2) && world.setup.coordinators > 1 {
            world.start_coordinator(1);
        }
        world
    }

    /// Declares an inbox.
    pub fn declare_inbox(&mut self, partition: PartitionNo) {
        let name = format!("flotilla.inbox.{partition}");
        let queue = self.broker.declare(&name, QueueOptions::default());
        if !self.queues.inboxes.contains(&queue) {
            self.queues.inboxes.push(queue);
        }
    }

    pub fn pass(&mut self, micros: i64) {
        self.time_us += micros;
        self.store.now += chrono::TimeDelta::microseconds(micros);
    }

    pub fn note(&mut self, happening: Happening) {
        self.coverage.note(happening);
    }

    /// Tells what happens, if anybody listens.
    pub fn say(&mut self, words: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:9.3} {}", self.time_us as f64 / 1e6, words()));
        }
    }

    /// Something is wrong; the first thing counts.
    pub fn violate(&mut self, what: impl FnOnce() -> String) {
        if self.violation.is_none() {
            let what = what();
            self.say(|| format!("VIOLATION: {what}"));
            self.violation = Some(what);
        }
    }

    pub fn is_planted(&self, mutant: ShellMutant) -> bool {
        self.planted == Some(Planted::Shell(mutant))
    }

    /// Whether something that a network carries goes astray.
    pub fn goes_astray(&self, random: &mut Random) -> bool {
        self.has_faults && random.percent(self.setup.lossy)
    }

    /// Something arrives that its sender has given up.
    pub fn late_step(&mut self, random: &mut Random) -> bool {
        let commits = self.late.commits.len();
        let all = commits + self.late.publications.len();
        if all == 0 {
            return false;
        }
        let at = random.below(all);
        if at < commits {
            let late = self.late.commits.swap_remove(at);
            self.execute_late(&late);
        } else {
            let (queue, body) = self.late.publications.remove(at - commits);
            self.note(Happening::PublicationLate);
            self.say(|| "a publication arrives late".to_owned());
            self.arrive(queue, body);
        }
        true
    }
}
