//! The driver of a coordinator, as a process of the simulation: hands every input to the turn logic
//! and queues what it asks for, in lanes as the real driver has them.
//!
//! ```text
//! store, broker ──► answers ──► mailbox ──► Turns ──► commit, loads, channels, publications, orders
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use flotilla_turn::message::{ChannelId, DeliveryId};
use flotilla_turn::rows::{Commit, CommitAnswer, Epoch, PartitionNo};
use flotilla_turn::{Config, Destination, Effect, Input, LoadRequest, Publication, Turns};
use uuid::Uuid;

use crate::broker::{ChannelNo, ConnectionNo, QueueNo};
use crate::coverage::Happening;
use crate::message::{Body, receive};
use crate::orders::{Order, TakeStage};
use crate::planted::{Planted, ShellMutant};
use crate::random::Random;
use crate::world::World;

/// Seconds of a lease.
pub(crate) const LEASE_S: f64 = 3.0;
/// Seconds after which a job that nobody has started may be lost.
pub(crate) const RESEND_AFTER_S: f64 = 20.0;
/// Deliveries per channel that are not acknowledged.
const PREFETCH: usize = 500;

/// An answer that was longer under way says too little about the time.
const FRESH_US: i64 = 1_000_000;

/// What is to be done on a channel, in order.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ChannelOrder {
    Open,
    Acknowledge(u64),
    Close,
}

/// One opening of a channel.
#[derive(Debug, Default)]
pub(crate) struct OwnChannel {
    /// Once it is open at the broker.
    pub no: Option<ChannelNo>,
    pub orders: VecDeque<ChannelOrder>,
}

/// A process.
pub(crate) struct Coordinator {
    pub owner: Uuid,
    pub turns: Turns,
    pub is_paused: bool,
    /// It has been asked to stop.
    pub is_stopping: bool,
    clock_at: DateTime<Utc>,
    clock_read_us: i64,
    commit_sent_us: i64,
    /// What the turn logic will be told next.
    pub mailbox: VecDeque<Input>,
    /// Answers that are on their way.
    pub answers: Vec<Input>,
    pub commits: VecDeque<Arc<Commit>>,
    pub loads: VecDeque<LoadRequest>,
    pub publishing: VecDeque<Arc<Publication>>,
    pub orders: Vec<Order>,
    /// Orders that are given again once some time has passed.
    pub later: Vec<Order>,
    pub channels: BTreeMap<(ChannelId, u64), OwnChannel>,
    pub consuming: ConnectionNo,
    pub publisher: ConnectionNo,
    taking: Taking,
    has_stopped: bool,
}

/// One look for partitions is under way at a time; what is asked for meanwhile follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Taking {
    No,
    Once,
    Again,
}

impl Coordinator {
    fn look(&mut self) {
        match self.taking {
            Taking::No => {
                self.taking = Taking::Once;
                self.orders.push(Order::Take(TakeStage::Begin));
            }
            Taking::Once | Taking::Again => self.taking = Taking::Again,
        }
    }

    fn look_ended(&mut self) {
        let asked = std::mem::replace(&mut self.taking, Taking::No);
        if asked == Taking::Again && !self.has_stopped {
            self.look();
        }
    }

    /// As the driver's clock does it: an old answer does not set it back.
    fn learn(&mut self, said: DateTime<Utc>, time_us: i64, any_age: bool) {
        let is_fresh = any_age || time_us - self.commit_sent_us < FRESH_US;
        if is_fresh || said > self.clock(time_us) {
            (self.clock_at, self.clock_read_us) = (said, time_us);
        }
    }

    /// The database's clock, as well as this process knows it.
    pub fn clock(&self, time_us: i64) -> DateTime<Utc> {
        self.clock_at + TimeDelta::microseconds(time_us - self.clock_read_us)
    }
}

impl World {
    /// Starts a process in a place that is empty.
    pub fn start_coordinator(&mut self, place: usize) {
        self.incarnations += 1;
        let owner = Uuid::from_u128(
            0x0190_0000_0000_7000_8000_0000_0000_0000 + (u128::from(self.incarnations) << 32),
        );
        self.store.register(owner);
        let config = Config {
            owner,
            lease_s: LEASE_S,
            cached_executions: self.setup.cached_executions,
            max_unconfirmed: self.setup.max_unconfirmed,
            lost_jobs_interval_s: RESEND_AFTER_S / 3.0,
        };
        let mut turns = Turns::new(config, self.store.now);
        if let Some(Planted::Turn(mutant)) = self.planted {
            turns.plant(mutant);
        }
        self.coordinators[place] = Some(Box::new(Coordinator {
            owner,
            turns,
            is_paused: false,
            is_stopping: false,
            clock_at: self.store.now,
            clock_read_us: self.time_us,
            commit_sent_us: 0,
            mailbox: VecDeque::from([Input::Tick]),
            answers: Vec::new(),
            commits: VecDeque::new(),
            loads: VecDeque::new(),
            publishing: VecDeque::new(),
            orders: Vec::new(),
            later: Vec::new(),
            channels: BTreeMap::new(),
            consuming: self.broker.connect(),
            publisher: self.broker.connect(),
            taking: Taking::No,
            has_stopped: false,
        }));
        self.say(|| format!("coordinator {place} starts"));
    }

    /// The process in a place; there must be one.
    pub fn coordinator(&mut self, place: usize) -> &mut Coordinator {
        self.coordinators[place].as_mut().expect("it lives")
    }

    pub fn is_alive(&self, place: usize) -> bool {
        self.coordinators[place].is_some()
    }

    /// Whether it is there and not standing still.
    pub fn is_active(&self, place: usize) -> bool {
        self.coordinators[place]
            .as_ref()
            .is_some_and(|held| !held.is_paused)
    }

    /// An answer sets out for a coordinator.
    pub fn answer(&mut self, place: usize, input: Input, random: &mut Random) {
        let is_slow = self.has_faults && random.percent(self.setup.slow);
        let held = self.coordinator(place);
        if is_slow {
            held.answers.push(input);
        } else {
            held.mailbox.push_back(input);
        }
    }

    /// An answer arrives.
    pub fn answer_step(&mut self, place: usize, random: &mut Random) -> bool {
        let held = self.coordinator(place);
        if held.answers.is_empty() {
            return false;
        }
        let at = random.below(held.answers.len());
        let input = held.answers.swap_remove(at);
        held.mailbox.push_back(input);
        true
    }

    /// The process takes all inputs that are there and begins a turn if it is time.
    pub fn run(&mut self, place: usize) -> bool {
        let Some(mut held) = self.coordinators[place].take() else {
            return false;
        };
        let is_busy = !held.mailbox.is_empty();
        let mut out = Vec::new();
        while let Some(input) = held.mailbox.pop_front() {
            match &input {
                Input::CommitAnswered(CommitAnswer::Committed { now }) => {
                    let any_age = self.is_planted(ShellMutant::OldAnswerSetsClockBack);
                    held.learn(*now, self.time_us, any_age);
                }
                Input::PartitionsTaken { .. } => held.look_ended(),
                Input::Tick => {
                    let later = std::mem::take(&mut held.later);
                    held.orders.extend(later);
                }
                Input::ChannelOpened { .. }
                | Input::ChannelClosed { .. }
                | Input::Delivered(_)
                | Input::Loaded(_)
                | Input::LoadFailed(_)
                | Input::TimersLoaded { .. }
                | Input::CommitAnswered(_)
                | Input::PartitionsFreed
                | Input::WorkflowRegistered
                | Input::PublishConfirmed(_)
                | Input::PublishReturned(_)
                | Input::PublishFailed(_)
                | Input::PublisherChanged { .. }
                | Input::PoolDeclared(_)
                | Input::QueueInspected { .. }
                | Input::JobsLost(_)
                | Input::Forwarded(_)
                | Input::SuspectMarked { .. }
                | Input::ProbeSent { .. }
                | Input::ProbeFailed { .. }
                | Input::Stop => {}
            }
            let now = held.clock(self.time_us);
            let before = out.len();
            held.turns.handle(now, input, &mut out);
            self.check_owned(&held.turns, &out[before..]);
        }
        let now = held.clock(self.time_us);
        held.turns.advance(now, &mut out);
        let has_effects = !out.is_empty();
        for effect in out {
            self.queue_effect(&mut held, effect);
        }
        if held.has_stopped {
            self.say(|| format!("coordinator {place} has stopped"));
            self.broker.close_connection(held.consuming);
            self.broker.close_connection(held.publisher);
            return true;
        }
        self.coordinators[place] = Some(held);
        is_busy || has_effects
    }

    fn queue_effect(&mut self, held: &mut Coordinator, effect: Effect) {
        match effect {
            Effect::TakePartitions => held.look(),
            Effect::ReleasePartitions {
                held: partitions,
                resigns,
            } => self.release(held, &partitions, resigns),
            Effect::OpenChannel {
                channel,
                generation,
            } => queue_on_channel(held, channel, generation, ChannelOrder::Open),
            Effect::CloseChannel {
                channel,
                generation,
            } => queue_on_channel(held, channel, generation, ChannelOrder::Close),
            Effect::Acknowledge(DeliveryId {
                channel,
                generation,
                tag,
            }) => queue_on_channel(held, channel, generation, ChannelOrder::Acknowledge(tag)),
            Effect::Load(request) => held.loads.push_back(request),
            Effect::Commit { commit, .. } => {
                held.commit_sent_us = self.time_us;
                held.commits.push_back(commit);
            }
            Effect::Publish(publications) => held.publishing.extend(publications),
            Effect::LoadTimers {
                partition,
                epoch,
                from,
                until,
            } => held.orders.push(Order::LoadTimers {
                partition,
                epoch,
                from,
                until,
            }),
            Effect::DeclarePool(pool) => held.orders.push(Order::Declare(pool)),
            Effect::SendCancels(cancels) => {
                held.orders.extend(cancels.into_iter().map(Order::Cancel));
            }
            Effect::InspectQueue {
                channel,
                generation,
            } => held.orders.push(Order::Inspect {
                channel,
                generation,
            }),
            Effect::FindLostJobs(partitions) => {
                held.orders.push(Order::FindLostJobs(partitions));
            }
            Effect::Forward { delivery, forward } => {
                held.orders.push(Order::Forward { delivery, forward });
            }
            Effect::MarkSuspect { delivery, key } => {
                held.orders.push(Order::Mark { delivery, key });
            }
            Effect::ClearSuspect { key } => held.orders.push(Order::Clear(key)),
            Effect::Renew(partitions) => held.orders.push(Order::Renew(partitions)),
            Effect::SendProbe(probe) => held.orders.push(Order::Probe(probe)),
            Effect::Stopped => held.has_stopped = true,
        }
    }

    /// Gives partitions back, and tells the others; whether they hear it is another matter.
    fn release(
        &mut self,
        held: &mut Coordinator,
        partitions: &[(PartitionNo, Epoch)],
        resigns: bool,
    ) {
        let released = self.store.release(held.owner, partitions, resigns);
        if released > 0 {
            self.note(Happening::HandedOver);
            self.say(|| format!("{partitions:?} are given back"));
        }
        let is_lost = self.has_faults && released.is_multiple_of(2);
        if !is_lost {
            for other in self.coordinators.iter_mut().flatten() {
                other.answers.push(Input::PartitionsFreed);
            }
        }
    }

    /// Whoever has lost a partition sends no job of it, not even again.
    fn check_owned(&mut self, turns: &Turns, effects: &[Effect]) {
        let mut let_go = Vec::new();
        for effect in effects {
            if let Effect::ReleasePartitions { held, .. } = effect {
                let_go.extend(held.iter().map(|(no, _)| *no));
            }
        }
        for effect in effects {
            let Effect::Publish(publications) = effect else {
                continue;
            };
            for publication in publications {
                if let Destination::Pool { partition, .. } = &publication.to
                    && turns.epoch(*partition).is_none()
                    && !let_go.contains(partition)
                {
                    self.violate(|| format!("a job of {partition}, which is lost, is sent"));
                }
            }
        }
    }

    /// The broker delivers on a channel of a coordinator, whether that stands still or not.
    pub fn deliver(&mut self, place: usize, key: (ChannelId, u64)) -> bool {
        let held = self.coordinators[place].as_mut().expect("it lives");
        let Some(no) = held.channels.get(&key).and_then(|channel| channel.no) else {
            return false;
        };
        let Some(delivery) = self.broker.deliver(no) else {
            return false;
        };
        let inbox = |partition| format!("flotilla.inbox.{partition}");
        let delivered = receive(key.0, key.1, &delivery, inbox);
        held.mailbox.push_back(Input::Delivered(delivered));
        match delivery.stored.message {
            Body::Job(_) => self.note(Happening::JobDied),
            Body::Bundle(_) => self.note(Happening::BundleReturned),
            Body::Start(_)
            | Body::Inbox(..)
            | Body::Control(_)
            | Body::Reply(_)
            | Body::Refused(_) => {}
        }
        self.say(|| format!("{:?} delivers to coordinator {place}", key.0));
        true
    }

    /// The queue that a channel reads.
    pub fn queue_of(&self, channel: ChannelId) -> QueueNo {
        match channel {
            ChannelId::Inbox(partition) => self.queues.inbox(partition),
            ChannelId::Start => self.queues.start,
            ChannelId::Control => self.queues.control,
            ChannelId::Dead => self.queues.dead,
        }
    }

    /// Opens a channel at the broker; the inbox is declared before.
    pub fn open_channel(&mut self, place: usize, key: (ChannelId, u64)) {
        let queue = self.queue_of(key.0);
        if let ChannelId::Inbox(partition) = key.0 {
            self.declare_inbox(partition);
        }
        let held = self.coordinators[place].as_mut().expect("it lives");
        if !self.broker.is_connected(held.consuming) {
            held.consuming = self.broker.connect();
        }
        let opened = self.broker.consume(held.consuming, queue, PREFETCH);
        let no = opened.expect("queue and connection are there");
        held.channels.entry(key).or_default().no = Some(no);
        held.mailbox.push_back(Input::ChannelOpened {
            channel: key.0,
            generation: key.1,
        });
    }
}

fn queue_on_channel(
    held: &mut Coordinator,
    channel: ChannelId,
    generation: u64,
    order: ChannelOrder,
) {
    let key = (channel, generation);
    if let ChannelOrder::Open = order {
        held.channels.insert(key, OwnChannel::default());
    }
    // On a channel that has ended there is nothing left to do.
    if let Some(own) = held.channels.get_mut(&key) {
        own.orders.push_back(order);
    }
}
