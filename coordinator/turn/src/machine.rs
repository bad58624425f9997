//! The state of a coordinator between inputs, and one function per input.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use flotilla_engine::{DefinitionHash, Workflow};
use flotilla_protocol::ExecutionId;
use uuid::Uuid;

use crate::cache::Cache;
use crate::channels::{Channels, Stage};
use crate::decision::Decision;
use crate::due::Pace;
use crate::effect::{Effect, Input, LoadRequest};
use crate::fairness::Crowd;
use crate::gather::{MAX_TURN_MESSAGES, Poisoned, Recovery, Turn};
use crate::library::Library;
use crate::message::{ChannelId, Delivered, DeliveryId, Message};
use crate::mutant::Mutant;
use crate::pacing::Pacing;
use crate::partitions::Partition;
use crate::publications::Publications;
use crate::rows::{Commit, ControlLookup, FoundStart, LoadedPast, LostJob, PartitionNo};
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
    /// Seconds between two looks for jobs that were lost.
    pub lost_jobs_interval_s: f64,
}

/// The turn logic of one coordinator.
pub struct Turns {
    pub(crate) config: Config,
    pub(crate) now: DateTime<Utc>,
    pub(crate) partitions: BTreeMap<PartitionNo, Partition>,
    pub(crate) channels: Channels,
    pub(crate) cache: Cache,
    pub(crate) library: Library,
    /// Until when each start is looked up: one that was not had been made before.
    pub(crate) doubts_starts_until: DateTime<Utc>,
    /// Ids that a start was to have and another execution has. Starts are looked up; a child, whose id
    /// follows from its parent, is refused.
    pub(crate) taken_ids: BTreeSet<ExecutionId>,
    pub(crate) timers: Timers,
    pub(crate) publications: Publications,
    pub(crate) pacing: Pacing,
    pub(crate) recoveries: VecDeque<Recovery>,
    pub(crate) poisoned: VecDeque<Poisoned>,
    pub(crate) lost_jobs: VecDeque<LostJob>,
    pub(crate) suspects: Suspects,
    pub(crate) phase: Phase,
    /// Messages that the next turn may take; less than the maximum after a refused commit.
    pub(crate) turn_limit: usize,
    pub(crate) not_before: Option<DateTime<Utc>>,
    pub(crate) first_inbox: usize,
    pub(crate) last_start_partition: PartitionNo,
    pub(crate) crowd: Crowd,
    pub(crate) last_renewal: DateTime<Utc>,
    /// Since when turns are loaded, and none of them has come to be decided.
    pub(crate) loads_since: Option<DateTime<Utc>>,
    last_take: DateTime<Utc>,
    pub(crate) looking: Looking,
    last_lost_jobs: DateTime<Utc>,
    /// Whether it has looked for partitions at least once.
    has_looked: bool,
    /// Looks in a row that found more partitions here than its share.
    pub(crate) excess_looks: u32,
    pub(crate) publisher_is_up: bool,
    /// Since when the broker cannot be reached.
    pub(crate) cut_off_since: Option<DateTime<Utc>>,
    pub(crate) pace: Pace,
    pub(crate) turns_begun: u64,
    pub(crate) stopping: Stopping,
    #[cfg(feature = "mutants")]
    pub(crate) planted: Option<Mutant>,
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
    /// Starts that need no look-up, with what they start.
    pub(crate) known: BTreeMap<DeliveryId, DefinitionHash>,
    /// What was found of the others, in their order.
    pub(crate) starts: Option<Vec<FoundStart>>,
    pub(crate) controls: Vec<ControlLookup>,
    pub(crate) pasts: Vec<LoadedPast>,
    pub(crate) workflows: BTreeMap<DefinitionHash, Result<Arc<Workflow>, String>>,
}

/// Whether a look for partitions is under way. There is one at a time; what is asked for meanwhile
/// follows it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Looking {
    No,
    Once,
    Again,
}

/// How far a clean stop has come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stopping {
    No,
    /// All partitions are being let go.
    Finishing,
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
            library: Library::default(),
            doubts_starts_until: DateTime::UNIX_EPOCH,
            taken_ids: BTreeSet::new(),
            channels: Channels::default(),
            timers: Timers::default(),
            publications: Publications::default(),
            pacing: Pacing::default(),
            recoveries: VecDeque::new(),
            poisoned: VecDeque::new(),
            lost_jobs: VecDeque::new(),
            suspects: Suspects::default(),
            phase: Phase::Idle,
            turn_limit: MAX_TURN_MESSAGES,
            not_before: None,
            first_inbox: 0,
            last_start_partition: -1,
            crowd: Crowd::new(now),
            last_renewal: now,
            loads_since: None,
            last_take: DateTime::UNIX_EPOCH,
            looking: Looking::No,
            last_lost_jobs: now,
            has_looked: false,
            excess_looks: 0,
            publisher_is_up: true,
            cut_off_since: None,
            pace: Pace::new(now),
            turns_begun: 0,
            stopping: Stopping::No,
            #[cfg(feature = "mutants")]
            planted: None,
        }
    }

    /// Takes an input. `now` is the database's clock, as well as the driver knows it; time that
    /// would run backwards stands still.
    pub fn handle(&mut self, now: DateTime<Utc>, input: Input, out: &mut Vec<Effect>) {
        self.now = self.now.max(now);
        match input {
            Input::Tick => self.tick(out),
            Input::PartitionsFreed => self.take_partitions(out),
            Input::WorkflowRegistered => self.library.clear(),
            Input::PartitionsTaken { taken, share } => {
                self.has_looked = true;
                for partition in taken {
                    self.take_partition(partition, out);
                }
                self.shared(share);
                if std::mem::replace(&mut self.looking, Looking::No) == Looking::Again {
                    self.take_partitions(out);
                }
            }
            Input::ChannelOpened {
                channel,
                generation,
            } => self.channel_opened(channel, generation),
            Input::ChannelClosed {
                channel,
                generation,
            } => self.channel_closed(channel, generation, out),
            Input::Delivered(delivered) => self.delivered(delivered, out),
            Input::Loaded(loaded) => self.loaded(loaded, out),
            Input::LoadFailed(failure) => self.load_failed(failure),
            Input::TimersLoaded {
                partition,
                epoch,
                until,
                timers,
            } => {
                self.timers_loaded(partition, epoch, until, timers);
            }
            Input::CommitAnswered(answer) => self.commit_answered(answer, out),
            Input::PublishConfirmed(ids) => self.confirm(&ids, out),
            Input::PublishReturned(id) => self.publish_returned(id, out),
            Input::PublishFailed(id) => self.publications.fail(id),
            Input::PublisherChanged { is_up } => self.publisher_is_up = is_up,
            Input::PoolDeclared(pool) => self.publications.pool_declared(&pool),
            Input::QueueInspected {
                channel,
                generation,
                messages,
            } => self.queue_inspected(channel, generation, messages),
            Input::JobsLost(jobs) => self.lost_jobs.extend(jobs),
            Input::Forwarded(delivery) => self.forwarded(delivery, out),
            Input::SuspectMarked {
                delivery,
                key,
                mark,
            } => self.suspect_marked(delivery, key, mark, out),
            Input::ProbeSent { partition } => self.probe_sent(partition),
            Input::ProbeFailed { partition } => self.probe_failed(partition),
            Input::Stop => self.stop(),
        }
    }

    fn channel_opened(&mut self, channel: ChannelId, generation: u64) {
        let now = self.now;
        if let Some(held) = self.channels.current(channel, generation) {
            held.is_open = true;
            held.hears(now);
            if let ChannelId::Inbox(partition) = channel {
                self.listen_anew(partition);
            }
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

    /// Begins a turn if none is under way and there is something to do. The driver calls it when it
    /// has handed over every input that is there, so that they make one turn.
    pub fn advance(&mut self, now: DateTime<Utc>, out: &mut Vec<Effect>) {
        self.now = self.now.max(now);
        if !matches!(self.phase, Phase::Idle) || self.not_before.is_some_and(|at| self.now < at) {
            return;
        }
        self.not_before = None;
        self.abandon_what_is_cut_off(out);
        self.close_what_leaves(out);
        self.stop_if_done(out);
        let mut turn = match self.stopping {
            Stopping::No => {
                self.mark_next_suspect(out);
                self.gather(out)
            }
            Stopping::Finishing => Turn::default(),
            Stopping::Done => return,
        };
        self.add_farewells(&mut turn);
        let has_work = !(turn.items.is_empty() && turn.farewells.is_empty());
        let renews = has_work || !self.is_planted(Mutant::IdleOwnerNeverRenews);
        turn.renews |= renews && self.is_renewal_due();
        if !has_work && (!turn.renews || self.partitions.is_empty()) {
            return;
        }
        let mut found = Found::default();
        self.known_starts(&turn, &mut found);
        let request = self.missing(&turn, &found.known);
        if request == LoadRequest::default() {
            self.decide(turn, found, out);
        } else {
            self.load(turn, found, request, out);
        }
    }

    fn tick(&mut self, out: &mut Vec<Effect>) {
        if self.stopping == Stopping::No {
            for channel in [ChannelId::Control, ChannelId::Dead] {
                self.ensure_open(channel, out);
            }
            let interval = TimeDelta::milliseconds(TAKE_INTERVAL_MS);
            if self.now - self.last_take >= interval {
                self.take_partitions(out);
            }
            self.look_for_lost_jobs(out);
        }
        let failed = self.publications.take_failed();
        if !failed.is_empty() {
            out.push(Effect::Publish(failed));
        }
        self.refill_timers(out);
        self.watch_reach(out);
        self.renew_while_loading(out);
    }

    fn delivered(&mut self, delivered: Delivered, out: &mut Vec<Effect>) {
        let id = delivered.id;
        let suspect_key = delivered.suspect_key.clone();
        let stage = match (&delivered.message, &suspect_key) {
            (Message::Forward(_), _) => Stage::Forwarding,
            (
                Message::Start(_)
                | Message::Inbox(_)
                | Message::Control(_)
                | Message::Salvaged { .. },
                key,
            ) => key.as_ref().map_or(Stage::Pending, |_| Stage::Suspect),
        };
        let now = self.now;
        let Some(message) = self.channels.push(delivered, stage, now) else {
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

    /// Looks for partitions that are free, unless it could not work for them.
    fn take_partitions(&mut self, out: &mut Vec<Effect>) {
        if self.stopping != Stopping::No || !self.is_reachable() {
            return;
        }
        self.last_take = self.now;
        match self.looking {
            Looking::No => {
                self.looking = Looking::Once;
                out.push(Effect::TakePartitions);
            }
            Looking::Once | Looking::Again => self.looking = Looking::Again,
        }
    }

    /// Nothing more is taken; what has begun is finished.
    fn stop(&mut self) {
        if self.stopping == Stopping::No {
            self.stopping = Stopping::Finishing;
            let all: Vec<PartitionNo> = self.partitions.keys().copied().collect();
            self.leave(&all);
        }
    }

    fn look_for_lost_jobs(&mut self, out: &mut Vec<Effect>) {
        #[expect(clippy::cast_possible_truncation, reason = "some minutes")]
        let interval_ms = (self.config.lost_jobs_interval_s * 1000.0) as i64;
        if self.now - self.last_lost_jobs >= TimeDelta::milliseconds(interval_ms)
            && !self.partitions.is_empty()
        {
            self.last_lost_jobs = self.now;
            out.push(Effect::FindLostJobs(self.partitions().collect()));
        }
    }
}
