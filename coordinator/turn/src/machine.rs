//! The state of a coordinator between inputs, and one function per input.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use flotilla_engine::{DefinitionHash, Workflow};
use uuid::Uuid;

use crate::cache::Cache;
use crate::channels::{Channels, Stage};
use crate::decision::Decision;
use crate::effect::{Destination, Effect, Input, LoadRequest, Loaded};
use crate::gather::{MAX_TURN_MESSAGES, Poisoned, Recovery, Turn};
use crate::message::{ChannelId, Delivered, DeliveryId, Message};
use crate::partitions::Partition;
use crate::publications::Publications;
use crate::restore::restore;
use crate::rows::{
    Commit, Epoch, FoundStart, OutboxJob, OutboxReply, PartitionNo, TakenPartition, TimerRow,
    TurnNo,
};
use crate::timers::Timers;

/// Seconds of timers that are kept in memory; more are loaded when half of them have passed.
pub const TIMER_HORIZON_S: i64 = 300;
/// Milliseconds between two looks for partitions that are free.
const TAKE_INTERVAL_MS: i64 = 500;
/// Milliseconds before a turn that failed is taken again.
const RETRY_AFTER_MS: i64 = 200;

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
    pub(crate) phase: Phase,
    /// Messages that the next turn may take; less than the maximum after a refused commit.
    pub(crate) turn_limit: usize,
    pub(crate) not_before: Option<DateTime<Utc>>,
    pub(crate) first_inbox: usize,
    pub(crate) last_start_partition: PartitionNo,
    pub(crate) last_renewal: DateTime<Utc>,
    last_take: DateTime<Utc>,
    turns_begun: u64,
    stopping: Stopping,
}

/// Where the turn under way stands.
pub(crate) enum Phase {
    Idle,
    Loading {
        turn: Turn,
        found: Found,
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
    starts: Option<Vec<FoundStart>>,
    workflows: BTreeMap<DefinitionHash, Result<Arc<Workflow>, String>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stopping {
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
            phase: Phase::Idle,
            turn_limit: MAX_TURN_MESSAGES,
            not_before: None,
            first_inbox: 0,
            last_start_partition: -1,
            last_renewal: now,
            last_take: DateTime::UNIX_EPOCH,
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
                self.suspect_marked(delivery, already, out)
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

    /// The partitions that are held.
    pub fn partitions(&self) -> impl Iterator<Item = PartitionNo> {
        self.partitions.keys().copied()
    }

    /// Begins a turn if none is under way and there is something to do. The driver calls it when it
    /// has handed over every input that is there, so that they make one turn.
    pub fn advance(&mut self, out: &mut Vec<Effect>) {
        if !matches!(self.phase, Phase::Idle) || self.not_before.is_some_and(|at| self.now < at) {
            return;
        }
        self.not_before = None;
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

    fn ensure_open(&mut self, channel: ChannelId, out: &mut Vec<Effect>) {
        if !self.channels.contains(channel) {
            let generation = self.channels.open(channel);
            out.push(Effect::OpenChannel {
                channel,
                generation,
            });
        }
    }

    fn refill_timers(&mut self, out: &mut Vec<Effect>) {
        let half = TimeDelta::seconds(TIMER_HORIZON_S / 2);
        let until = self.now + TimeDelta::seconds(TIMER_HORIZON_S);
        for (partition, held) in &mut self.partitions {
            if held.timers_asked.is_none() && held.timers_until - self.now < half {
                held.timers_asked = Some(until);
                let (from, epoch) = (held.timers_until, held.epoch);
                out.push(Effect::LoadTimers {
                    partition: *partition,
                    epoch,
                    from,
                    until,
                });
            }
        }
    }

    fn timers_loaded(
        &mut self,
        partition: PartitionNo,
        epoch: Epoch,
        until: DateTime<Utc>,
        timers: Option<Vec<TimerRow>>,
    ) {
        let Some(held) = self
            .partitions
            .get_mut(&partition)
            .filter(|held| held.epoch == epoch)
        else {
            return;
        };
        held.timers_asked = None;
        if let Some(timers) = timers {
            held.timers_until = until;
            for timer in timers {
                self.timers.set(timer);
            }
        }
    }

    fn take_partition(&mut self, taken: TakenPartition, out: &mut Vec<Effect>) {
        let no = taken.partition;
        if self.partitions.contains_key(&no) {
            self.lose_partition(no, out);
        }
        self.now = self.now.max(taken.now);
        let mut partition = Partition::new(&taken);
        for timer in &taken.timers {
            self.timers.set(*timer);
        }
        for recovery in recoveries(taken) {
            partition.owe(recovery.turn, recovery.jobs.len() + recovery.replies.len());
            self.recoveries.push_back(recovery);
        }
        self.partitions.insert(no, partition);
        self.ensure_open(ChannelId::Inbox(no), out);
        self.ensure_open(ChannelId::Start, out);
    }

    /// Forgets a partition that is no longer ours.
    pub(crate) fn lose_partition(&mut self, no: PartitionNo, out: &mut Vec<Effect>) {
        self.partitions.remove(&no);
        self.cache.remove_partition(no);
        self.timers.remove_partition(no);
        self.publications.remove_partition(no);
        self.recoveries.retain(|recovery| recovery.partition != no);
        self.poisoned.retain(|poisoned| poisoned.partition != no);
        self.close_channel(ChannelId::Inbox(no), out);
        if self.partitions.is_empty() {
            self.close_channel(ChannelId::Start, out);
        }
    }

    fn close_channel(&mut self, channel: ChannelId, out: &mut Vec<Effect>) {
        if let Some(generation) = self.channels.close(channel) {
            out.push(Effect::CloseChannel {
                channel,
                generation,
            });
        }
    }

    fn channel_closed(&mut self, channel: ChannelId, generation: u64, out: &mut Vec<Effect>) {
        if self.channels.current(channel, generation).is_some() {
            self.channels.close(channel);
            if self.stopping == Stopping::No {
                self.ensure_open(channel, out);
            }
        }
    }

    fn delivered(&mut self, delivered: Delivered, out: &mut Vec<Effect>) {
        let id = delivered.id;
        let suspect_key = delivered.suspect_key.clone();
        let stage = match (&delivered.message, &suspect_key) {
            (Message::Forward(_), _) => Stage::Forwarding,
            (Message::Start(_) | Message::Inbox(_) | Message::Salvaged { .. }, Some(_)) => {
                Stage::Marking
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
                forward: (**forward).clone(),
            });
        } else if let Some(key) = suspect_key {
            out.push(Effect::MarkSuspect { delivery: id, key });
        }
    }

    fn suspect_marked(&mut self, id: DeliveryId, already: bool, out: &mut Vec<Effect>) {
        let Some(delivery) = self.channels.delivery(id) else {
            return;
        };
        delivery.stage = Stage::Marked;
        if already {
            let message = Arc::clone(&delivery.message);
            self.poison(id, &message, "its taker died of it, more than once", out);
        }
    }

    fn forwarded(&mut self, id: DeliveryId, out: &mut Vec<Effect>) {
        if let Some(delivery) = self.channels.delivery(id) {
            delivery.stage = Stage::Done;
            out.extend(self.channels.settle(id.channel).map(Effect::Acknowledge));
        }
    }

    fn loaded(&mut self, loaded: Loaded, out: &mut Vec<Effect>) {
        let Phase::Loading { turn, mut found } = std::mem::replace(&mut self.phase, Phase::Idle)
        else {
            return;
        };
        for workflow in loaded.workflows {
            match workflow {
                Ok(workflow) => found.workflows.insert(workflow.hash, Ok(workflow)),
                Err((hash, message)) => found.workflows.insert(hash, Err(message)),
            };
        }
        for rows in &loaded.executions {
            if let Some(Ok(workflow)) = found.workflows.get(&rows.row.definition_hash) {
                match restore(rows, Arc::clone(workflow)) {
                    Ok(held) => self.cache.insert(held),
                    Err(error) => {
                        let id = rows.row.execution_id;
                        tracing::error!(workflow.id = %id, %error, "an execution cannot be read");
                    }
                }
            }
        }
        if found.starts.is_none() && !loaded.starts.is_empty() {
            let repeated = self.repeated(&loaded.starts);
            found.starts = Some(loaded.starts);
            if !repeated.is_empty() {
                self.phase = Phase::Loading { turn, found };
                let request = LoadRequest {
                    starts: Vec::new(),
                    executions: repeated,
                };
                out.push(Effect::Load(request));
                return;
            }
        }
        self.decide(turn, found, out);
    }

    /// Executions of ours that were started before and whose end the sender wants to know.
    fn repeated(&self, starts: &[FoundStart]) -> Vec<flotilla_protocol::ExecutionId> {
        starts
            .iter()
            .filter_map(|found| found.existing.as_ref())
            .filter(|existing| self.partitions.contains_key(&existing.partition))
            .map(|existing| existing.execution_id)
            .filter(|id| !self.cache.contains(*id))
            .collect()
    }

    fn load_failed(&mut self) {
        if let Phase::Loading { turn, .. } = std::mem::replace(&mut self.phase, Phase::Idle) {
            self.put_back(turn);
            self.not_before = Some(self.now + TimeDelta::milliseconds(RETRY_AFTER_MS));
        }
    }

    fn decide(&mut self, turn: Turn, found: Found, out: &mut Vec<Effect>) {
        let starts = found.starts.unwrap_or_default();
        let workflows = found.workflows;
        let decided = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            self.decide_items(&turn, starts, workflows)
        }));
        match decided {
            Ok(decision) => self.commit(turn, decision, out),
            Err(_) => self.turn_refused(turn, None, "the engine panicked", out),
        }
    }

    /// A commit's id: the same for every sending of it, and nobody else's.
    pub(crate) fn next_turn_id(&mut self) -> Uuid {
        self.turns_begun += 1;
        Uuid::from_u128(self.config.owner.as_u128() ^ u128::from(self.turns_begun))
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

    /// Lets go of everything, at the end of a clean stop.
    fn leave(&mut self, out: &mut Vec<Effect>) {
        for channel in self.channels.ids() {
            self.close_channel(channel, out);
        }
        let held = std::mem::take(&mut self.partitions);
        let released = held
            .iter()
            .map(|(no, partition)| (*no, partition.epoch))
            .collect();
        out.push(Effect::ReleasePartitions(released));
        out.push(Effect::Stopped);
        self.stopping = Stopping::Done;
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

/// What the former owner owed, by turn.
fn recoveries(taken: TakenPartition) -> Vec<Recovery> {
    let mut by_turn: BTreeMap<TurnNo, (Vec<OutboxJob>, Vec<OutboxReply>)> = BTreeMap::new();
    for job in taken.jobs {
        by_turn.entry(job.turn).or_default().0.push(job);
    }
    for reply in taken.replies {
        by_turn.entry(reply.turn).or_default().1.push(reply);
    }
    let (partition, epoch) = (taken.partition, taken.epoch);
    by_turn
        .into_iter()
        .map(|(turn, (jobs, replies))| Recovery {
            partition,
            epoch,
            turn,
            jobs,
            replies,
        })
        .collect()
}
