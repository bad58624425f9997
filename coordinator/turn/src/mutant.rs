//! Planted bugs: what the simulation must find, or it proves nothing. They exist only with the feature
//! `mutants`, which the simulation alone turns on, and each has to be planted by name; without the
//! feature the compiler sees that none ever is.

use std::sync::Arc;

use flotilla_engine::execution::{AttemptId, RunStatus};
use flotilla_protocol::ExecutionId;

use crate::Turns;
use crate::channels::Stage;
use crate::decision::Decision;
use crate::effect::Effect;
use crate::gather::{Item, Turn};
use crate::message::ChannelId;
use crate::partitions::Partition;
use crate::publications::Debt;
use crate::rows::{PartitionNo, PartitionTurn};

/// A bug of the turn logic that somebody could really write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mutant {
    /// The turn's messages are acknowledged when its commit is sent.
    AckBeforeCommit,
    /// Its jobs are published when its commit is sent.
    PublishBeforeCommit,
    /// What a former owner owed is not looked at.
    NoOutboxAtTakeOver,
    /// What a former owner owed counts as published.
    RecoveryDropsJobs,
    /// A completion counts for whatever attempt is current.
    NoAttemptCheck,
    /// A completion counts again after the run has ended.
    NoDuplicateCheck,
    /// A turn that changes nothing is acknowledged without a commit.
    UnfencedAckOfNoOps,
    /// A fenced turn's messages are acknowledged.
    AckOnFence,
    /// Executions stay in memory though their partition is lost.
    CacheKeptAfterFence,
    /// A turn counts as published once it is committed.
    MarkBeforeConfirm,
    /// The watermark looks at the newest turn alone.
    WatermarkSkipsUnconfirmed,
    /// Timers are kept in memory and not in rows.
    TimersInMemoryOnly,
    /// A commit whose outcome is not known is decided anew, with another id.
    BlindRetry,
    /// A confirm counts for whatever epoch is current.
    RepliesNotMatched,
    /// Leases are renewed only by turns that have something to do.
    IdleOwnerNeverRenews,
    /// What a lost partition had published in vain is published again.
    LostPartitionPublishes,
    /// Deadlines act without a probe.
    DeadlineWithoutProbe,
    /// A start that somebody else has made is dropped instead of looked up again.
    StartNotLookedUpAgain,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::AckBeforeCommit,
        Self::PublishBeforeCommit,
        Self::NoOutboxAtTakeOver,
        Self::RecoveryDropsJobs,
        Self::NoAttemptCheck,
        Self::NoDuplicateCheck,
        Self::UnfencedAckOfNoOps,
        Self::AckOnFence,
        Self::CacheKeptAfterFence,
        Self::MarkBeforeConfirm,
        Self::WatermarkSkipsUnconfirmed,
        Self::TimersInMemoryOnly,
        Self::BlindRetry,
        Self::RepliesNotMatched,
        Self::IdleOwnerNeverRenews,
        Self::LostPartitionPublishes,
        Self::DeadlineWithoutProbe,
        Self::StartNotLookedUpAgain,
    ];
}

impl Turns {
    /// Plants a bug.
    #[cfg(feature = "mutants")]
    pub fn plant(&mut self, mutant: Mutant) {
        self.planted = Some(mutant);
    }

    /// Whether a bug is planted.
    #[cfg(feature = "mutants")]
    pub(crate) fn is_planted(&self, mutant: Mutant) -> bool {
        self.planted == Some(mutant)
    }

    /// With confirms that are not matched: those for a lost partition are still waited for.
    #[cfg(feature = "mutants")]
    pub(crate) fn keep_orphans(&mut self, partition: PartitionNo) {
        if self.is_planted(Mutant::RepliesNotMatched) {
            let lost = self.publications.debts_of(partition);
            self.publications.orphans.extend(lost);
        }
    }

    #[cfg(not(feature = "mutants"))]
    #[expect(clippy::unused_self, reason = "the same call as with the feature")]
    pub(crate) const fn keep_orphans(&self, _: PartitionNo) {}

    /// The debt that such a confirm is counted for.
    #[cfg(feature = "mutants")]
    pub(crate) fn orphaned_debt(&mut self, id: u64) -> Option<Debt> {
        self.publications.orphans.remove(&id)
    }

    #[cfg(not(feature = "mutants"))]
    #[expect(clippy::unused_self, reason = "the same call as with the feature")]
    pub(crate) const fn orphaned_debt(&self, _: u64) -> Option<Debt> {
        None
    }

    /// Whether a bug is planted: never, in a product.
    #[cfg(not(feature = "mutants"))]
    #[expect(clippy::unused_self, reason = "the same call as with the feature")]
    pub(crate) const fn is_planted(&self, _: Mutant) -> bool {
        false
    }
}

/// Whether a turn has taken messages alone and changes no row; leases are renewed by the next one.
pub(crate) fn is_no_op(turn: &Turn, decision: &Decision) -> bool {
    let is_message = |item: &Item| matches!(item, Item::Delivery { .. });
    !turn.items.is_empty()
        && turn.items.iter().all(is_message)
        && decision.touched.is_empty()
        && decision.publications.is_empty()
        && decision.forwards.is_empty()
        && turn.farewells.is_empty()
}

impl Turns {
    /// What is wrong with a commit that is about to be sent.
    pub(crate) fn spoil_commit(
        &mut self,
        turn: &Turn,
        decision: &mut Decision,
        out: &mut Vec<Effect>,
    ) {
        if self.is_planted(Mutant::PublishBeforeCommit) && !decision.publications.is_empty() {
            let publications = decision.publications.iter();
            let early = publications.map(|(_, publication)| Arc::clone(publication));
            out.push(Effect::Publish(early.collect()));
        }
        if self.is_planted(Mutant::AckBeforeCommit) {
            for item in &turn.items {
                self.finish_delivery(item, out);
            }
        }
        if self.is_planted(Mutant::TimersInMemoryOnly) {
            for timer in std::mem::take(&mut decision.commit.timers_set) {
                self.timers.set(timer);
            }
        }
    }

    /// What becomes of starts that somebody else has made meanwhile.
    pub(crate) fn spoil_starts(&mut self, mut turn: Turn, out: &mut Vec<Effect>) -> Turn {
        if self.is_planted(Mutant::StartNotLookedUpAgain) {
            for item in &turn.items {
                let is_start =
                    matches!(item, Item::Delivery { id, .. } if id.channel == ChannelId::Start);
                if is_start {
                    self.finish_delivery(item, out);
                }
            }
            turn.items.retain(
                |item| !matches!(item, Item::Delivery { id, .. } if id.channel == ChannelId::Start),
            );
        }
        turn
    }

    fn finish_delivery(&mut self, item: &Item, out: &mut Vec<Effect>) {
        if let Item::Delivery { id, .. } = item {
            if let Some(delivery) = self.channels.delivery(*id) {
                delivery.stage = Stage::Done;
            }
            out.extend(self.channels.settle(id.channel).map(Effect::Acknowledge));
        }
    }

    /// The fence of a turn, with a watermark that rises too early.
    pub(crate) fn spoiled_fence(&self, held: &Partition, fence: PartitionTurn) -> PartitionTurn {
        let is_early = self.is_planted(Mutant::MarkBeforeConfirm)
            || (self.is_planted(Mutant::WatermarkSkipsUnconfirmed) && held.is_newest_confirmed());
        if is_early {
            let dispatched_through = held.last_turn;
            return PartitionTurn {
                dispatched_through,
                ..fence
            };
        }
        fence
    }

    /// The attempt for which a completion counts.
    pub(crate) fn spoiled_attempt(&mut self, id: ExecutionId, named: AttemptId) -> AttemptId {
        let (any_attempt, again) = (
            self.is_planted(Mutant::NoAttemptCheck),
            self.is_planted(Mutant::NoDuplicateCheck),
        );
        if !(any_attempt || again) {
            return named;
        }
        let Some(held) = self.cache.use_mut(id) else {
            return named;
        };
        let execution = &mut held.execution;
        let no = named.task_id.run();
        if let Some(run) = execution.live.get(&no).filter(|_| any_attempt) {
            let attempt = run.attempt;
            return AttemptId { attempt, ..named };
        }
        if again && no <= execution.last_run && !execution.live.contains_key(&no) {
            let other = execution.live.values().next().cloned();
            if let Some(mut run) = other {
                (run.no, run.attempt) = (no, named.attempt);
                run.status = RunStatus::Dispatched;
                execution.live.insert(no, run);
                execution.counts.active += 1;
                execution.counts.total += 1;
            }
        }
        named
    }
}
