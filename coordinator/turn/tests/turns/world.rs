//! Coordinators, one broker and one database in one thread. Nothing happens by itself: a test says
//! which input is handled and which effect is carried out, and with what outcome.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use flotilla_engine::execution::{AttemptId, Event, Outcome, Report};
use flotilla_engine::{Json, execution};
use flotilla_protocol::ExecutionId;
use flotilla_protocol::decode::InboxMessage;
use flotilla_protocol::message::{TaskCompleted, TaskJob};
use flotilla_turn::message::{ChannelId, ControlRequest, DeliveryId, StartRequest};
use flotilla_turn::rows::{Commit, CommitAnswer, PartitionNo};
use flotilla_turn::{Config, Destination, Effect, Input, Publication, Turns};
use uuid::Uuid;

use crate::broker::{Body, Broker, Queue};
use crate::database::Database;
use crate::messages::{execution_id, lane, request, show, show_forward};

/// Effects that are carried out one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    Loads,
    Commits,
    Channels,
    Publications,
    Others,
}

/// What happens to the commit that is sent.
#[derive(Debug, Clone, PartialEq)]
pub enum Fate {
    Answered,
    /// It was not executed, and the answer says nothing.
    LostBefore,
    /// It was executed, and the answer was lost.
    LostAfter,
    /// The database says this and does nothing.
    Says(CommitAnswer),
}

pub struct Coordinator {
    pub turns: Turns,
    pub owner: Uuid,
    pub inputs: VecDeque<Input>,
    pub effects: BTreeMap<Lane, VecDeque<Effect>>,
    pub stopped: bool,
}

pub struct World {
    pub database: Database,
    pub broker: Broker,
    pub now: DateTime<Utc>,
    pub coordinators: Vec<Option<Coordinator>>,
    /// What was passed on: the reason of a dead letter or another word.
    pub forwarded: Vec<String>,
    pub config: Config,
    /// The commit that was sent last.
    pub last_commit: Option<Arc<Commit>>,
}

impl World {
    pub fn new(partitions: PartitionNo, definitions: &[&str]) -> Self {
        let mut world = Self {
            database: Database::new(partitions, definitions),
            broker: Broker::default(),
            now: DateTime::from_timestamp(1_700_000_000, 0).expect("a valid time"),
            coordinators: Vec::new(),
            forwarded: Vec::new(),
            config: Config {
                owner: Uuid::nil(),
                lease_s: 3.0,
                cached_executions: 100,
                max_unconfirmed: 10_000,
                lost_jobs_interval_s: 300.0,
            },
            last_commit: None,
        };
        world.broker.declare(&Queue::Pool("default".to_owned()));
        world
    }

    pub fn start_coordinator(&mut self) -> usize {
        let no = self.coordinators.len();
        let owner =
            Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + ((no as u128 + 1) << 32));
        let config = Config {
            owner,
            ..self.config.clone()
        };
        self.coordinators.push(Some(Coordinator {
            turns: Turns::new(config, self.now),
            owner,
            inputs: VecDeque::new(),
            effects: BTreeMap::new(),
            stopped: false,
        }));
        no
    }

    /// A coordinator that holds all partitions and reads all queues.
    pub fn with_owner(partitions: PartitionNo, definitions: &[&str]) -> Self {
        let mut world = Self::new(partitions, definitions);
        world.join();
        world
    }

    /// A coordinator of one partition that keeps so many executions in memory.
    pub fn with_owner_that_keeps(cached_executions: usize, definitions: &[&str]) -> Self {
        let mut world = Self::new(1, definitions);
        world.config.cached_executions = cached_executions;
        world.join();
        world
    }

    /// Starts a coordinator and lets it take what is free.
    pub fn join(&mut self) -> usize {
        let no = self.start_coordinator();
        self.tick(no);
        self.drain(no, Lane::Others);
        self.run(no);
        self.drain(no, Lane::Channels);
        self.run(no);
        assert!(self.coordinator(no).turns.consumes());
        no
    }

    pub fn coordinator(&mut self, no: usize) -> &mut Coordinator {
        self.coordinators[no].as_mut().expect("it lives")
    }

    pub fn crash(&mut self, no: usize) {
        self.coordinators[no] = None;
        for (channel, generation) in self.broker.consumers(no) {
            self.broker.close(no, channel, generation);
        }
    }

    pub fn lose_channel(&mut self, no: usize, channel: ChannelId) {
        for (of, generation) in self.broker.consumers(no) {
            if of == channel {
                self.broker.close(no, channel, generation);
                self.input(
                    no,
                    Input::ChannelClosed {
                        channel,
                        generation,
                    },
                );
            }
        }
    }

    pub fn pass(&mut self, seconds: f64) {
        #[expect(clippy::cast_possible_truncation, reason = "some seconds")]
        let micros = (seconds * 1e6) as i64;
        self.now += TimeDelta::microseconds(micros);
    }

    pub fn input(&mut self, no: usize, input: Input) {
        // What is still to be done for one that has died has no one to answer to.
        let Some(coordinator) = &mut self.coordinators[no] else {
            return;
        };
        coordinator.inputs.push_back(input);
    }

    /// Handles a tick and begins a turn; gives what was asked for.
    pub fn tick(&mut self, no: usize) -> Vec<String> {
        self.input(no, Input::Tick);
        self.run(no)
    }

    /// Handles all inputs that are there, then begins a turn if it is time; gives what was asked for.
    pub fn run(&mut self, no: usize) -> Vec<String> {
        self.run_some(no, usize::MAX)
    }

    pub fn run_some(&mut self, no: usize, inputs: usize) -> Vec<String> {
        let now = self.now;
        let coordinator = self.coordinators[no].as_mut().expect("it lives");
        let mut out = Vec::new();
        for _ in 0..inputs {
            let Some(input) = coordinator.inputs.pop_front() else {
                break;
            };
            coordinator.turns.handle(now, input, &mut out);
        }
        coordinator.turns.advance(now, &mut out);
        let shown = out.iter().map(show).collect();
        for effect in out {
            if let Effect::ClearSuspect { key } = &effect {
                self.database.clear_suspect(key, coordinator.owner);
                continue;
            }
            coordinator
                .effects
                .entry(lane(&effect))
                .or_default()
                .push_back(effect);
        }
        shown
    }

    /// Delivers everything that is queued for a coordinator.
    pub fn deliver(&mut self, no: usize) {
        for (channel, generation) in self.broker.consumers(no) {
            while self.deliver_one(no, channel, generation) {}
        }
    }

    pub fn deliver_one(&mut self, no: usize, channel: ChannelId, generation: u64) -> bool {
        let Some(delivered) = self.broker.deliver(no, channel, generation) else {
            return false;
        };
        self.input(no, Input::Delivered(delivered));
        true
    }

    pub fn has_effect(&self, no: usize, lane: Lane) -> bool {
        self.coordinators[no].as_ref().is_some_and(|coordinator| {
            coordinator
                .effects
                .get(&lane)
                .is_some_and(|effects| !effects.is_empty())
        })
    }

    /// Carries out all effects of a lane.
    pub fn drain(&mut self, no: usize, lane: Lane) {
        while self.has_effect(no, lane) {
            self.carry_out(no, lane);
        }
    }

    /// Carries out the next effect of a lane.
    pub fn carry_out(&mut self, no: usize, lane: Lane) {
        let effect = self.pop(no, lane);
        self.perform(no, effect);
    }

    pub fn pop(&mut self, no: usize, lane: Lane) -> Effect {
        let effects = self.coordinator(no).effects.entry(lane).or_default();
        effects
            .pop_front()
            .unwrap_or_else(|| panic!("nothing in {lane:?}"))
    }

    /// Carries out the next commit with the given fate.
    pub fn commit(&mut self, no: usize, fate: Fate) {
        let Effect::Commit { commit, .. } = self.pop(no, Lane::Commits) else {
            panic!("no commit");
        };
        self.last_commit = Some(Arc::clone(&commit));
        let unknown = || CommitAnswer::TryAgain {
            error: "unknown".to_owned(),
        };
        let answer = match fate {
            Fate::Answered => self.database.commit(&commit, self.now),
            Fate::LostBefore => unknown(),
            Fate::LostAfter => {
                self.database.commit(&commit, self.now);
                unknown()
            }
            Fate::Says(answer) => answer,
        };
        self.input(no, Input::CommitAnswered(answer));
    }

    fn perform(&mut self, no: usize, effect: Effect) {
        let now = self.now;
        match effect {
            Effect::TakePartitions => {
                let (owner, lease_s) = (self.coordinator(no).owner, self.config.lease_s);
                let (taken, share) = self.database.take(owner, lease_s, now);
                let share = Some(share);
                self.input(no, Input::PartitionsTaken { taken, share });
            }
            Effect::ReleasePartitions { held, resigns } => {
                let owner = self.coordinator(no).owner;
                self.database.release(owner, &held, resigns);
            }
            effect @ (Effect::OpenChannel { .. }
            | Effect::CloseChannel { .. }
            | Effect::InspectQueue { .. }
            | Effect::Acknowledge(_)) => {
                self.perform_on_channel(no, &effect);
            }
            Effect::Load(request) => {
                let loaded = self.database.load(&request);
                self.input(no, Input::Loaded(loaded));
            }
            Effect::LoadTimers {
                partition,
                epoch,
                from,
                until,
            } => {
                let timers = Some(self.database.timers(partition, from, until));
                self.input(
                    no,
                    Input::TimersLoaded {
                        partition,
                        epoch,
                        until,
                        timers,
                    },
                );
            }
            Effect::Commit { .. } => panic!("commits have a fate"),
            Effect::Publish(publications) => self.publish(no, &publications),
            Effect::DeclarePool(pool) => {
                self.broker.declare(&Queue::Pool(pool.to_string()));
                self.input(no, Input::PoolDeclared(pool));
            }
            Effect::SendCancels(_) | Effect::FindLostJobs(_) => {}
            Effect::Forward { delivery, forward } => {
                self.forwarded.push(show_forward(&forward));
                self.input(no, Input::Forwarded(delivery));
            }
            Effect::MarkSuspect { delivery, key } => self.mark_suspect(no, delivery, key),
            Effect::ClearSuspect { key } => {
                let owner = self.coordinator(no).owner;
                self.database.clear_suspect(&key, owner);
            }
            Effect::Renew(held) => {
                let (owner, now) = (self.coordinator(no).owner, self.now);
                let lease_s = self.config.lease_s;
                self.database.renew(owner, &held, lease_s, now);
            }
            Effect::SendProbe(probe) => {
                let partition = probe.partition;
                self.put_inbox(partition, InboxMessage::Probe(probe));
                self.input(no, Input::ProbeSent { partition });
            }
            Effect::Stopped => self.coordinator(no).stopped = true,
        }
    }

    fn mark_suspect(&mut self, no: usize, delivery: DeliveryId, key: String) {
        let (owner, lease_s, now) = (self.coordinator(no).owner, self.config.lease_s, self.now);
        let mark = self.database.mark(&key, owner, lease_s, now);
        self.input(
            no,
            Input::SuspectMarked {
                delivery,
                key,
                mark,
            },
        );
    }

    fn perform_on_channel(&mut self, no: usize, effect: &Effect) {
        if let Effect::OpenChannel {
            channel,
            generation,
        } = *effect
        {
            self.broker.open(no, channel, generation);
            self.input(
                no,
                Input::ChannelOpened {
                    channel,
                    generation,
                },
            );
        } else if let Effect::CloseChannel {
            channel,
            generation,
        } = *effect
        {
            self.broker.close(no, channel, generation);
        } else if let Effect::Acknowledge(id) = *effect {
            self.acknowledge(no, id);
        } else if let Effect::InspectQueue {
            channel,
            generation,
        } = *effect
        {
            let messages = self.broker.ready(&Queue::Of(channel)).len();
            let messages = u32::try_from(messages).ok();
            self.input(
                no,
                Input::QueueInspected {
                    channel,
                    generation,
                    messages,
                },
            );
        }
    }

    /// Publishes each and confirms it, or says that it came back.
    pub fn publish(&mut self, no: usize, publications: &[Arc<Publication>]) {
        for publication in publications {
            let answer = if self.broker.publish(publication) {
                Input::PublishConfirmed(vec![publication.id])
            } else {
                Input::PublishReturned(publication.id)
            };
            self.note_published(publication);
            self.input(no, answer);
        }
    }

    pub fn note_published(&mut self, publication: &Publication) {
        if let Destination::Pool { pool, .. } = &publication.to
            && self.broker.has(&Queue::Pool(pool.to_string()))
        {
            let job: TaskJob = serde_json::from_slice(&publication.body).expect("a job");
            self.database
                .published
                .insert((job.execution_id, job.task_id.run(), job.attempt));
        }
    }

    fn acknowledge(&mut self, no: usize, id: DeliveryId) {
        for message in self.broker.acknowledge(no, id) {
            self.assert_spent(&message);
        }
    }

    /// An acknowledged message must have no further effect on what is committed.
    fn assert_spent(&self, message: &Body) {
        match message {
            Body::Start(request) => {
                let is_known = self.database.starts.values().any(|row| {
                    Some(row.execution_id) == request.start.execution_id
                        || (row.idempotency_key.is_some()
                            && row.idempotency_key == request.start.idempotency_key)
                        || row.execution_id == request.fresh_id
                });
                assert!(
                    is_known || !self.forwarded.is_empty() || self.has_rejected(),
                    "a start was eaten"
                );
            }
            Body::Inbox(InboxMessage::Completed(list)) => {
                for completed in list {
                    self.assert_ignored(completed);
                }
            }
            Body::Inbox(
                InboxMessage::Started(_)
                | InboxMessage::Heartbeat(_)
                | InboxMessage::Dead(_)
                | InboxMessage::Log(_)
                | InboxMessage::Probe(_)
                | InboxMessage::Control(_),
            )
            | Body::Control(_)
            | Body::Job(_) => {}
        }
    }

    fn has_rejected(&self) -> bool {
        self.database
            .replies
            .iter()
            .any(|reply| format!("{:?}", reply.message).contains("rejected"))
            || self
                .broker
                .replies
                .iter()
                .any(|reply| reply.message_type.contains("rejected"))
    }

    fn assert_ignored(&self, completed: &TaskCompleted) {
        if !self
            .database
            .executions
            .contains_key(&completed.execution_id)
        {
            return;
        }
        let mut held = self.database.restore(completed.execution_id);
        let event = Event::AttemptEnded {
            attempt: AttemptId {
                task_id: completed.task_id,
                attempt: completed.attempt,
            },
            report: Box::new(Report {
                status: completed.status,
                result: completed.result.clone().map(Json::new),
                error: completed.error.clone(),
                started_at: None,
                finished_at: None,
                worker: None,
            }),
        };
        let outcome = held
            .execution
            .apply(&event, self.now, &mut execution::Changes::default());
        assert!(
            matches!(outcome, Outcome::Ignored(_)),
            "an acknowledged completion still counts: {completed:?}"
        );
    }

    pub fn put_start(&mut self, workflow: &str, id: u128) {
        self.put_request(request(workflow, id));
    }

    pub fn put_request(&mut self, request: StartRequest) {
        self.broker.put(
            &Queue::Of(ChannelId::Start),
            Body::Start(Box::new(request)),
            100,
        );
    }

    pub fn put_inbox(&mut self, partition: PartitionNo, message: InboxMessage) {
        self.broker.put(
            &Queue::Of(ChannelId::Inbox(partition)),
            Body::Inbox(message),
            100,
        );
    }

    /// Puts a command into the inbox of its execution; into the first one if there is none.
    pub fn put_control(&mut self, request: ControlRequest) {
        let row = self.database.executions.get(&request.control.execution_id);
        let partition = row.map_or(0, |row| row.partition);
        self.broker.put(
            &Queue::Of(ChannelId::Inbox(partition)),
            Body::Control(Box::new(request)),
            100,
        );
    }

    /// Takes the oldest job from the default pool.
    pub fn take_job(&mut self) -> Option<TaskJob> {
        let queue = Queue::Pool("default".to_owned());
        match self.broker.pop(&queue)? {
            Body::Job(job) => Some(*job),
            Body::Start(_) | Body::Inbox(_) | Body::Control(_) => None,
        }
    }

    pub fn partition_of(&self, id: ExecutionId) -> PartitionNo {
        self.database.executions[&id].partition
    }

    pub fn complete(&mut self, completed: TaskCompleted) {
        let partition = self.partition_of(completed.execution_id);
        self.put_inbox(partition, InboxMessage::Completed(vec![completed]));
    }

    /// Lets everything happen, in order and without faults, until nothing is left to do.
    pub fn calm(&mut self, no: usize) {
        for _ in 0..100_000 {
            self.deliver(no);
            self.run(no);
            let lanes = [
                Lane::Others,
                Lane::Channels,
                Lane::Loads,
                Lane::Commits,
                Lane::Publications,
            ];
            let Some(lane) = lanes.into_iter().find(|lane| self.has_effect(no, *lane)) else {
                return;
            };
            if lane == Lane::Commits {
                self.commit(no, Fate::Answered);
            } else {
                self.carry_out(no, lane);
            }
        }
        panic!("it never comes to rest");
    }

    pub fn status(&self, id: u128) -> &'static str {
        self.database
            .executions
            .get(&execution_id(id))
            .map_or("-", |row| row.state.status)
    }

    /// The log of an execution without times.
    pub fn log(&self, id: u128) -> Vec<String> {
        let id = execution_id(id);
        self.database
            .transitions
            .range((id, 0)..=(id, i64::MAX))
            .map(|(_, row)| {
                format!(
                    "{} {:?} {:?} {:?} {}",
                    row.kind.word(),
                    row.task_id.map(flotilla_protocol::TaskId::run),
                    row.attempt,
                    row.to_status,
                    row.detail.as_ref().map_or("", |detail| detail.text())
                )
            })
            .collect()
    }
}
