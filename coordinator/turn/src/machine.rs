//! The state of a coordinator between inputs, and one function per input.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use flotilla_engine::{DefinitionHash, Workflow};
use uuid::Uuid;

use crate::cache::Cache;
use crate::channels::{Channels, Stage};
use crate::decision::Decision;
use crate::effect::{Destination, Effect, Input, LoadRequest};
use crate::gather::{MAX_TURN_MESSAGES, Poisoned, Recovery, Turn};
use crate::message::{ChannelId, Delivered, DeliveryId, Message};
use crate::partitions::Partition;
use crate::publications::Publications;
use crate::rows::{Commit, Epoch, FoundStart, PartitionNo, TurnNo};
use crate::suspects::Suspects;
use crate::timers::Timers;

/// Seconds of timers that are kept in memory; more are loaded when half of them have passed.
pub const TIMER_HORIZON_S: i64 = 300;
/// Milliseconds between two looks for partitions that are free.
const TAKE_INTERVAL_MS: i64 = 500;
/// Milliseconds before a turn that failed is taken again.
pub(crate) const RETRY_AFTER_MS: i64 = 200;

/// What does not change while a coordinator runs.
#[derive(Debug, Clone)]
pub struct Config {
    /// This process, new at each start.
    pub owner: Uuid,
    /// Seconds of a lease.
    pub lease_s: f64,
    /// Executions kept in memory.
    pub cached_executions: usize,
    /// Publications without a confirm above which no starts are taken.
    pub max_unconfirmed: usize,
}

/// The turn logic of one coordinator.
pub struct Turns {
    pub(crate) config: Config,
    pub(crate) now: DateTime<Utc>,
    pub(crate) partitions: BTreeMap<PartitionNo, Partition>,
    pub(crate) channels: Channels,
    pub(crate) cache: Cache,
    pub(crate) timers: Timers,
    pub(crate) publications: Publications,
    pub(crate) recoveries: VecDeque<Recovery>,
    pub(crate) poisoned: VecDeque<Poisoned>,
    pub(crate) suspects: Suspects,
    pub(crate) phase: Phase,
    /// Messages that the next turn may take; less than the maximum after a refused commit.
    pub(crate) turn_limit: usize,
    pub(crate) not_before: Option<DateTime<Utc>>,
    pub(crate) first_inbox: usize,
    pub(crate) last_start_partition: PartitionNo,
    pub(crate) last_renewal: DateTime<Utc>,
    last_take: DateTime<Utc>,
    /// Whether it has looked for partitions at least once.
    has_looked: bool,
    pub(crate) turns_begun: u64,
    pub(crate) stopping: Stopping,
}

/// Where the turn under way stands.
pub(crate) enum Phase {
    Idle,
    Loading {
        turn: Turn,
        found: Found,
        /// A partition has begun anew meanwhile: what comes may be older than that.
        is_void: bool,
    },
    Committing {
        turn: Turn,
        decision: Box<Decision>,
        commit: Arc<Commit>,
        attempts: u32,
    },
}

/// What has been found for a turn so far.
#[derive(Default)]
pub(crate) struct Found {
    pub(crate) starts: Option<Vec<FoundStart>>,
    pub(crate) workflows: BTreeMap<DefinitionHash, Result<Arc<Workflow>, String>>,
}

/// How far a clean stop has come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stopping {
    No,
    /// Turns and publications end.
    Finishing,
    /// The watermark is written once more.
    Leaving,
    Done,
}

impl Turns {
    /// A coordinator that owns nothing yet.
    #[must_use]
    pub fn new(config: Config, now: DateTime<Utc>) -> Self {
        Self {
            cache: Cache::new(config.cached_executions),
            config,
            now,
            partitions: BTreeMap::new(),
            channels: Channels::default(),
            timers: Timers::default(),
            publications: Publications::default(),
            recoveries: VecDeque::new(),
            poisoned: VecDeque::new(),
            suspects: Suspects::default(),
            phase: Phase::Idle,
            turn_limit: MAX_TURN_MESSAGES,
            not_before: None,
            first_inbox: 0,
            last_start_partition: -1,
            last_renewal: now,
            last_take: DateTime::UNIX_EPOCH,
            has_looked: false,
            turns_begun: 0,
            stopping: Stopping::No,
        }
    }

    /// Takes an input. `now` is the database's clock, as well as the driver knows it; time that
    /// would run backwards stands still.
    pub fn handle(&mut self, now: DateTime<Utc>, input: Input, out: &mut Vec<Effect>) {
        self.now = self.now.max(now);
        match input {
            Input::Tick => self.tick(out),
            Input::PartitionsTaken(taken) => {
                self.has_looked = true;
                for partition in taken {
                    self.take_partition(partition, out);
                }
            }
            Input::ChannelOpened {
                channel,
                generation,
            } => {
                if let Some(held) = self.channels.current(channel, generation) {
                    held.is_open = true;
                }
            }
            Input::ChannelClosed {
                channel,
                generation,
            } => self.channel_closed(channel, generation, out),
            Input::Delivered(delivered) => self.delivered(delivered, out),
            Input::Loaded(loaded) => self.loaded(loaded, out),
            Input::LoadFailed => self.load_failed(),
            Input::TimersLoaded {
                partition,
                epoch,
                until,
                timers,
            } => {
                self.timers_loaded(partition, epoch, until, timers);
            }
            Input::CommitAnswered(answer) => self.commit_answered(answer, out),
            Input::PublishConfirmed(ids) => {
                for id in ids {
                    self.confirm(id);
                }
            }
            Input::PublishReturned(id) => self.publish_returned(id, out),
            Input::PublishFailed(id) => self.publications.fail(id),
            Input::Forwarded(delivery) => self.forwarded(delivery, out),
            Input::SuspectMarked { delivery, already } => {
                self.suspect_marked(delivery, already, out);
            }
            Input::ProbeFailed { partition } => {
                if let Some(held) = self.partitions.get_mut(&partition) {
                    held.probe_sent_at = None;
                }
            }
            Input::Stop => self.stopping = self.stopping.max_finishing(),
        }
    }

    /// When something is due without any further input.
    #[must_use]
    pub fn next_due(&self) -> Option<DateTime<Utc>> {
        self.timers.next_due()
    }

    /// Whether it reads everything that it can: the queues that every coordinator reads, and the
    /// inboxes of its partitions and the start queue if it has got any.
    #[must_use]
    pub fn consumes(&self) -> bool {
        self.has_looked && self.channels.are_open()
    }

    /// The partitions that are held.
    pub fn partitions(&self) -> impl Iterator<Item = PartitionNo> {
        self.partitions.keys().copied()
    }

    /// Begins a turn if none is under way and there is something to do. The driver calls it when it
    /// has handed over every input that is there, so that they make one turn.
    pub fn advance(&mut self, now: DateTime<Utc>, out: &mut Vec<Effect>) {
        self.now = self.now.max(now);
        if !matches!(self.phase, Phase::Idle) || self.not_before.is_some_and(|at| self.now < at) {
            return;
        }
        self.not_before = None;
        self.mark_next_suspect(out);
        let mut turn = match self.stopping {
            Stopping::No => self.gather(out),
            Stopping::Finishing if self.publications.len() == 0 => {
                self.stopping = Stopping::Leaving;
                Turn {
                    items: Vec::new(),
                    renews: true,
                }
            }
            Stopping::Finishing => Turn::default(),
            Stopping::Leaving => {
                self.leave(out);
                return;
            }
            Stopping::Done => return,
        };
        turn.renews |= self.is_renewal_due();
        if turn.items.is_empty() && (!turn.renews || self.partitions.is_empty()) {
            return;
        }
        let request = self.missing(&turn);
        if request == LoadRequest::default() {
            self.decide(turn, Found::default(), out);
        } else {
            self.phase = Phase::Loading {
                turn,
                found: Found::default(),
                is_void: false,
            };
            out.push(Effect::Load(request));
        }
    }

    fn is_renewal_due(&self) -> bool {
        #[expect(clippy::cast_possible_truncation, reason = "a lease is some seconds")]
        let third_ms = (self.config.lease_s * 1000.0 / 3.0) as i64;
        self.now - self.last_renewal >= TimeDelta::milliseconds(third_ms)
    }

    fn tick(&mut self, out: &mut Vec<Effect>) {
        if self.stopping == Stopping::No {
            for channel in [ChannelId::Control, ChannelId::Dead] {
                self.ensure_open(channel, out);
            }
            if self.now - self.last_take >= TimeDelta::milliseconds(TAKE_INTERVAL_MS) {
                self.last_take = self.now;
                out.push(Effect::TakePartitions);
            }
        }
        let failed = self.publications.take_failed();
        if !failed.is_empty() {
            out.push(Effect::Publish(failed));
        }
        self.refill_timers(out);
    }

    fn delivered(&mut self, delivered: Delivered, out: &mut Vec<Effect>) {
        let id = delivered.id;
        let suspect_key = delivered.suspect_key.clone();
        let stage = match (&delivered.message, &suspect_key) {
            (Message::Forward(_), _) => Stage::Forwarding,
            (Message::Start(_) | Message::Inbox(_) | Message::Salvaged { .. }, Some(_)) => {
                Stage::Suspect
            }
            (Message::Start(_) | Message::Inbox(_) | Message::Salvaged { .. }, None) => {
                Stage::Pending
            }
        };
        let Some(message) = self.channels.push(delivered, stage) else {
            return;
        };
        if let Message::Forward(forward) = &*message {
            out.push(Effect::Forward {
                delivery: id,
                forward: forward.clone(),
            });
        } else if let Some(key) = suspect_key {
            self.suspects.wait(id, key);
        }
    }

    fn forwarded(&mut self, id: DeliveryId, out: &mut Vec<Effect>) {
        if let Some(delivery) = self.channels.delivery(id) {
            delivery.stage = Stage::Done;
            out.extend(self.channels.settle(id.channel).map(Effect::Acknowledge));
        }
    }

    pub(crate) fn confirm(&mut self, id: u64) {
        if let Some(debt) = self.publications.confirm(id) {
            self.settle_debt(debt.partition, debt.epoch, debt.turn);
        }
    }

    pub(crate) fn settle_debt(&mut self, partition: PartitionNo, epoch: Epoch, turn: TurnNo) {
        if let Some(held) = self
            .partitions
            .get_mut(&partition)
            .filter(|held| held.epoch == epoch)
        {
            held.confirm(turn);
        }
    }

    fn publish_returned(&mut self, id: u64, out: &mut Vec<Effect>) {
        let Some(publication) = self.publications.get(id).cloned() else {
            return;
        };
        match &publication.to {
            Destination::Pool { pool, .. } => {
                let pool = Arc::clone(pool);
                out.push(Effect::DeclareAndPublish { pool, publication });
            }
            // The client has gone; nobody is left to tell.
            Destination::Client { .. } => self.confirm(id),
        }
    }
}

impl Stopping {
    fn max_finishing(self) -> Self {
        match self {
            Self::No => Self::Finishing,
            Self::Finishing | Self::Leaving | Self::Done => self,
        }
    }
}
