//! Workers: they take jobs, announce them, run them, publish completions and acknowledge; they die,
//! stand still and come back, and never answer.

use std::collections::BTreeSet;

use chrono::DateTime;
use flotilla_protocol::RawJson;
use flotilla_protocol::decode::InboxMessage;
use flotilla_protocol::message::{CompletionStatus, TaskCompleted, TaskError, TaskStarted};
use flotilla_turn::rows::PartitionNo;

use crate::broker::{Broker, ChannelNo, ConnectionNo, Published};
use crate::coverage::Happening;
use crate::message::{AttemptKey, Body, Job};
use crate::planted::ShellMutant;
use crate::random::{Random, mix};
use crate::world::World;

/// What workers say of an attempt that fails.
pub(crate) const BROKEN: &str = "it broke";

/// Seconds of silence that mean the death of a worker whose job is acknowledged.
const SILENCE_S: f64 = 5.0;
/// Wait before what has come back is published again, and before a worker that died is replaced.
const AGAIN_AFTER_US: i64 = 300_000;

/// How far a job is.
#[derive(Debug, Clone)]
pub(crate) enum Phase {
    /// It was delivered before: it runs once its start is confirmed.
    Announcing,
    Running {
        is_announced: bool,
    },
    /// It never ends.
    Hanging,
    Ended(Box<TaskCompleted>),
    /// Its completion is confirmed.
    Confirmed,
}

#[derive(Debug)]
pub(crate) struct HeldJob {
    pub job: Job,
    /// Its deliveries: more than one if it came again while it was here.
    pub receipts: Vec<(ChannelNo, u64)>,
    pub phase: Phase,
    /// Whether the job is acknowledged while it runs.
    pub is_acknowledged: bool,
}

pub(crate) struct Worker {
    pub is_paused: bool,
    pub connection: ConnectionNo,
    pub channel: Option<ChannelNo>,
    pub held: Vec<HeldJob>,
    /// Answered jobs whose acknowledgement did not reach the broker.
    answered: BTreeSet<AttemptKey>,
    /// Attempts that shall not run.
    cancelled: BTreeSet<AttemptKey>,
    prefetch: usize,
    /// When it begins, or publishes again after something has come back.
    not_before_us: i64,
}

impl Worker {
    pub fn new(no: usize, broker: &mut Broker<Body>) -> Self {
        Self {
            is_paused: false,
            connection: broker.connect(),
            channel: None,
            held: Vec::new(),
            answered: BTreeSet::new(),
            cancelled: BTreeSet::new(),
            prefetch: [1, 2, 4][no % 3],
            not_before_us: 0,
        }
    }

    /// Its connection is lost: jobs that have not begun are forgotten, those that run go on.
    pub fn session_lost(&mut self) {
        self.channel = None;
        self.held.retain_mut(|held| {
            held.receipts.clear();
            match held.phase {
                Phase::Announcing => false,
                Phase::Running { .. } | Phase::Hanging | Phase::Ended(_) | Phase::Confirmed => true,
            }
        });
    }
}

impl World {
    /// A worker does something, if there is something to do.
    pub fn worker_step(&mut self, no: usize, random: &mut Random) -> bool {
        if self.workers[no].is_paused {
            return false;
        }
        match random.below(5) {
            0 | 1 => self.take_job(no, random),
            2 => self.go_on(no, random),
            3 => self.send_completions(no, random),
            _ => self.acknowledge_job(no),
        }
    }

    /// Takes the next job.
    pub fn take_job(&mut self, no: usize, random: &mut Random) -> bool {
        if self.time_us < self.workers[no].not_before_us {
            return false;
        }
        let Some(channel) = self.worker_channel(no) else {
            return false;
        };
        let Some(delivery) = self.broker.deliver(channel) else {
            return false;
        };
        let (Body::Job(job) | Body::Bundle(job)) = delivery.stored.message else {
            panic!("a pool's queue holds jobs");
        };
        let is_again = delivery.stored.returns > 0;
        if is_again {
            self.note(Happening::JobRedelivered);
        }
        self.say(|| format!("worker {no} takes job {}, again: {is_again}", job.show()));
        let worker = &mut self.workers[no];
        let receipt = (channel, delivery.tag);
        if let Some(held) = worker.held.iter_mut().find(|held| held.job == job) {
            held.receipts.push(receipt);
            return true;
        }
        let phase = if worker.answered.remove(&job.key()) {
            Phase::Confirmed
        } else if worker.cancelled.contains(&job.key()) {
            Phase::Ended(Box::new(cancelled(&job, no)))
        } else if is_again {
            Phase::Announcing
        } else {
            Phase::Running {
                is_announced: false,
            }
        };
        let hangs = self.has_faults && matches!(phase, Phase::Running { .. }) && random.percent(4);
        self.workers[no].held.push(HeldJob {
            job,
            receipts: vec![receipt],
            is_acknowledged: false,
            phase: if hangs { Phase::Hanging } else { phase },
        });
        if hangs {
            self.note(Happening::WorkerHung);
            self.publish_started(no, job, random);
        }
        true
    }

    /// A worker is told to stop an attempt: it does, or remembers not to run it.
    pub fn hear_cancel(&mut self, no: usize, key: AttemptKey) {
        let worker = &mut self.workers[no];
        if worker.is_paused {
            // It is told through a queue of its own, which ends with its connection.
            return;
        }
        let held = worker.held.iter_mut().find(|held| held.job.key() == key);
        let Some(held) = held else {
            worker.cancelled.insert(key);
            return;
        };
        match held.phase {
            Phase::Announcing | Phase::Running { .. } | Phase::Hanging => {
                held.phase = Phase::Ended(Box::new(cancelled(&held.job, no)));
            }
            Phase::Ended(_) | Phase::Confirmed => {}
        }
    }

    fn worker_channel(&mut self, no: usize) -> Option<ChannelNo> {
        let worker = &mut self.workers[no];
        if worker.channel.is_none() {
            if !self.broker.is_connected(worker.connection) {
                worker.connection = self.broker.connect();
            }
            let queue = self.queues.pool;
            let opened = self
                .broker
                .consume(worker.connection, queue, worker.prefetch);
            worker.channel = opened.ok();
        }
        worker.channel
    }

    /// Announces or ends one of the jobs that run.
    pub fn go_on(&mut self, no: usize, random: &mut Random) -> bool {
        let count = self.workers[no].held.len();
        count > 0 && self.go_on_with(no, random.below(count), random)
    }

    /// Announces or ends a job.
    pub fn go_on_with(&mut self, no: usize, at: usize, random: &mut Random) -> bool {
        let held = &self.workers[no].held[at];
        let job = held.job;
        match held.phase {
            Phase::Announcing => {
                let is_told = self.publish_started(no, job, random);
                if is_told {
                    self.workers[no].held[at].phase = Phase::Running { is_announced: true };
                }
                is_told
            }
            Phase::Running { .. } if self.kills(&job) => {
                self.note(Happening::WorkerKilled);
                self.crash_worker(no);
                true
            }
            Phase::Running { .. } if !held.is_acknowledged && self.is_long(&job) => {
                self.acknowledge_early(no, at, random)
            }
            Phase::Running { .. } if held.is_acknowledged && random.percent(50) => {
                self.note(Happening::Heartbeat);
                let alive = InboxMessage::Heartbeat(alive(no, &job, false));
                self.worker_publishes(no, job.partition, alive, random);
                true
            }
            Phase::Running { is_announced } => {
                if !is_announced && random.percent(30) {
                    self.publish_started(no, job, random);
                    self.workers[no].held[at].phase = Phase::Running { is_announced: true };
                    return true;
                }
                let completed = completion(&job, no, self.setup.seed);
                self.say(|| {
                    format!(
                        "worker {no} ends job {}: {:?}",
                        job.show(),
                        completed.status
                    )
                });
                self.workers[no].held[at].phase = Phase::Ended(Box::new(completed));
                true
            }
            Phase::Hanging | Phase::Ended(_) | Phase::Confirmed => false,
        }
    }

    /// Whether a job runs so long that it is acknowledged before its end.
    fn is_long(&self, job: &Job) -> bool {
        let (id, run, attempt) = job.key();
        let low = u64::try_from(id.0.as_u128() & 0xffff_ffff).expect("32 bits");
        let number =
            mix(self.setup.seed ^ (low << 32) ^ (u64::from(run) << 4) ^ u64::from(attempt));
        number.is_multiple_of(5)
    }

    /// Announces that a job that runs is acknowledged, and acknowledges it once that is confirmed.
    fn acknowledge_early(&mut self, no: usize, at: usize, random: &mut Random) -> bool {
        let job = self.workers[no].held[at].job;
        self.say(|| {
            format!(
                "worker {no} announces that job {} is acknowledged",
                job.show()
            )
        });
        let message = InboxMessage::Started(alive(no, &job, true));
        if !self.worker_publishes(no, job.partition, message, random) {
            return false;
        }
        self.note(Happening::AcknowledgedEarly);
        self.acknowledge_held(no, job);
        let held = &mut self.workers[no].held[at];
        held.receipts.clear();
        held.is_acknowledged = true;
        held.phase = Phase::Running { is_announced: true };
        true
    }

    /// Whether a job kills whoever runs it.
    fn kills(&self, job: &Job) -> bool {
        self.setup.has_killer && job.execution_id.0.as_u128() == 1 && job.attempt == 1
    }

    fn publish_started(&mut self, no: usize, job: Job, random: &mut Random) -> bool {
        self.say(|| format!("worker {no} announces job {}", job.show()));
        let message = InboxMessage::Started(alive(no, &job, false));
        self.worker_publishes(no, job.partition, message, random)
    }

    /// Whether it is confirmed.
    fn worker_publishes(
        &mut self,
        no: usize,
        partition: PartitionNo,
        message: InboxMessage,
        random: &mut Random,
    ) -> bool {
        let (queue, body) = (self.queues.inbox(partition), Body::inbox(message));
        if self.broker.has_alarm() {
            self.note(Happening::PublisherBlocked);
            return false;
        }
        if self.goes_astray(random) {
            match random.below(3) {
                0 => self.note(Happening::PublicationLost),
                1 => {
                    self.note(Happening::ConfirmLost);
                    self.arrive(queue, body);
                }
                _ => self.late.publications.push((queue, body)),
            }
            self.say(|| "its publication goes astray".to_owned());
            return self.is_planted(ShellMutant::WorkerTrustsUnconfirmed);
        }
        let is_confirmed = self.arrive(queue, body) == Published::Confirmed;
        if !is_confirmed {
            self.workers[no].not_before_us = self.time_us + AGAIN_AFTER_US;
        }
        is_confirmed
    }

    /// Sends the completions of one inbox that are ready, all in one message.
    pub fn send_completions(&mut self, no: usize, random: &mut Random) -> bool {
        let ended = self.workers[no].held.iter().filter_map(|held| {
            let Phase::Ended(completed) = &held.phase else {
                return None;
            };
            Some((held.job, (**completed).clone()))
        });
        let mut ended: Vec<(Job, TaskCompleted)> = ended.collect();
        if ended.is_empty() || self.time_us < self.workers[no].not_before_us {
            return false;
        }
        let partition = ended[random.below(ended.len())].0.partition;
        ended.retain(|(job, _)| job.partition == partition);
        if ended.len() > 1 {
            self.note(Happening::CompletionArray);
        }
        for (job, _) in &ended {
            let row = self.store.tasks.get(&(job.execution_id, job.task_id.run()));
            if row.is_some_and(|row| row.attempt != job.attempt) {
                self.note(Happening::ZombieCompletion);
            }
        }
        let jobs: Vec<Job> = ended.iter().map(|(job, _)| *job).collect();
        if self.is_planted(ShellMutant::WorkerAcksFirst) {
            for job in &jobs {
                self.acknowledge_held(no, *job);
            }
        }
        self.say(|| {
            let names: Vec<String> = jobs.iter().map(Job::show).collect();
            format!("worker {no} sends the completions of {}", names.join(" "))
        });
        let completed: Vec<TaskCompleted> = ended.into_iter().map(|(_, ended)| ended).collect();
        if self.has_faults && random.percent(self.setup.lossy) {
            self.note(Happening::CompletionTwice);
            let message = InboxMessage::Completed(completed.clone());
            self.worker_publishes(no, partition, message, random);
        }
        if self.worker_publishes(no, partition, InboxMessage::Completed(completed), random) {
            for held in &mut self.workers[no].held {
                if jobs.contains(&held.job) {
                    held.phase = Phase::Confirmed;
                }
            }
        }
        true
    }

    /// Acknowledges a job whose completion is confirmed.
    pub fn acknowledge_job(&mut self, no: usize) -> bool {
        let held = self.workers[no].held.iter();
        let mut confirmed = held.filter(|held| matches!(held.phase, Phase::Confirmed));
        let Some(job) = confirmed.next().map(|held| held.job) else {
            return false;
        };
        self.acknowledge_held(no, job);
        let worker = &mut self.workers[no];
        let at = worker.held.iter().position(|held| held.job == job);
        let held = worker.held.remove(at.expect("it was found"));
        let is_heard = held
            .receipts
            .iter()
            .any(|(channel, _)| self.broker.is_open(*channel));
        if !is_heard {
            self.workers[no].answered.insert(job.key());
        }
        true
    }

    fn acknowledge_held(&mut self, no: usize, job: Job) {
        self.say(|| format!("worker {no} acknowledges job {}", job.show()));
        let held = self.workers[no].held.iter().find(|held| held.job == job);
        let receipts = held.map(|held| held.receipts.clone()).unwrap_or_default();
        for (channel, tag) in receipts {
            if self.broker.waits_for(channel, tag)
                && self.broker.acknowledge(channel, tag, false).is_ok()
            {
                self.check_seen(job.execution_id);
            }
        }
    }

    /// A worker dies; another takes its place.
    pub fn crash_worker(&mut self, no: usize) {
        self.note(Happening::WorkerCrashed);
        self.say(|| format!("worker {no} dies"));
        let connection = self.workers[no].connection;
        self.broker.close_connection(connection);
        self.workers[no] = Worker::new(no, &mut self.broker);
        self.workers[no].not_before_us = self.time_us + AGAIN_AFTER_US;
    }
}

/// What a worker says of an attempt that runs.
fn alive(no: usize, job: &Job, acknowledged: bool) -> TaskStarted {
    TaskStarted {
        execution_id: job.execution_id,
        task_id: job.task_id,
        attempt: job.attempt,
        worker: Some(format!("w{no}")),
        started_at: None,
        acknowledged,
        heartbeat: acknowledged.then_some(SILENCE_S),
        progress: None,
        detail: None,
    }
}

/// How an attempt ends: always the same, whoever runs it.
fn completion(job: &Job, no: usize, seed: u64) -> TaskCompleted {
    let (id, run, attempt) = job.key();
    let low = u64::try_from(id.0.as_u128() & 0xffff_ffff).expect("32 bits");
    let number = mix(seed ^ (low << 40) ^ (u64::from(run) << 8) ^ u64::from(attempt));
    let status = match number % 10 {
        0..7 => CompletionStatus::Succeeded,
        7 | 8 => CompletionStatus::Failed,
        _ => CompletionStatus::TimedOut,
    };
    let is_success = status == CompletionStatus::Succeeded;
    let result: RawJson = RawJson::from(
        serde_json::value::RawValue::from_string(((number >> 8) % 10).to_string()).expect("JSON"),
    );
    TaskCompleted {
        execution_id: id,
        task_id: job.task_id,
        attempt,
        status,
        result: is_success.then_some(result),
        error: (!is_success).then(|| TaskError {
            kind: "broken".to_owned(),
            message: BROKEN.to_owned(),
            retryable: None,
            details: None,
        }),
        // All attempts are brief, so that their tasks' next jobs may travel in bundles.
        started_at: Some(DateTime::UNIX_EPOCH),
        finished_at: Some(DateTime::UNIX_EPOCH),
        worker: Some(format!("w{no}")),
    }
}

fn cancelled(job: &Job, no: usize) -> TaskCompleted {
    TaskCompleted {
        status: CompletionStatus::Cancelled,
        result: None,
        ..completion(job, no, 0)
    }
}
