//! What becomes of a turn: it is committed or taken again. What is refused is in `refused.rs`.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::TimeDelta;
use flotilla_protocol::{ExecutionId, RunNo};

use crate::Turns;
use crate::channels::Stage;
use crate::decision::Decision;
use crate::effect::{Effect, Publication};
use crate::gather::{Item, MAX_TURN_MESSAGES, Turn};
use crate::machine::Phase;
use crate::message::{DeliveryId, Forward};
use crate::mutant::{self, Mutant};
use crate::pacing::in_turns;
use crate::rows::{Commit, CommitAnswer, Epoch, PartitionNo};

/// Seconds for which starts are looked up after one was met that had been made before: where one comes
/// again, as after the death of a coordinator, others do.
const DOUBT_S: i64 = 5;

impl Turns {
    /// Sends the commit of a decided turn.
    pub(crate) fn commit(&mut self, turn: Turn, mut decision: Decision, out: &mut Vec<Effect>) {
        if self.is_planted(Mutant::UnfencedAckOfNoOps) && mutant::is_no_op(&turn, &decision) {
            return self.acknowledge(turn, decision.forwards, out);
        }
        self.spoil_commit(&turn, &mut decision, out);
        let empty = Commit::empty(decision.commit.turn_id, decision.commit.lease_s);
        let commit = Arc::new(std::mem::replace(&mut decision.commit, empty));
        out.push(Effect::Commit {
            commit: Arc::clone(&commit),
            attempts: 0,
        });
        self.phase = Phase::Committing {
            turn,
            decision: Box::new(decision),
            commit,
            attempts: 0,
        };
    }

    pub(crate) fn commit_answered(&mut self, answer: CommitAnswer, out: &mut Vec<Effect>) {
        let Phase::Committing {
            turn,
            decision,
            commit,
            attempts,
        } = std::mem::replace(&mut self.phase, Phase::Idle)
        else {
            return;
        };
        match answer {
            CommitAnswer::Committed { now } => {
                self.now = self.now.max(now);
                self.committed(turn, *decision, &commit, out);
            }
            CommitAnswer::TryAgain { .. } if self.is_planted(Mutant::BlindRetry) => {
                self.discard(&decision.touched);
                self.put_back(turn);
            }
            CommitAnswer::TryAgain { error } => {
                let attempts = attempts + 1;
                tracing::warn!(attempts, error, "the same commit is sent again");
                out.push(Effect::Commit {
                    commit: Arc::clone(&commit),
                    attempts,
                });
                self.phase = Phase::Committing {
                    turn,
                    decision,
                    commit,
                    attempts,
                };
            }
            CommitAnswer::Fenced { lost } => {
                self.fenced(turn, &decision.touched, &commit, lost, out);
            }
            CommitAnswer::StartExists { execution_id } => {
                self.taken_ids.extend(execution_id);
                self.doubts_starts_until = self.now + TimeDelta::seconds(DOUBT_S);
                self.discard(&decision.touched);
                let turn = self.spoil_starts(turn, out);
                self.put_back(turn);
            }
            CommitAnswer::Refused { error } => {
                self.turn_refused(turn, Some(&decision.touched), &error, out);
            }
        }
    }

    fn committed(
        &mut self,
        turn: Turn,
        decision: Decision,
        commit: &Commit,
        out: &mut Vec<Effect>,
    ) {
        self.turn_limit = (self.turn_limit * 2).min(MAX_TURN_MESSAGES);
        self.taken_ids.clear();
        if turn.renews {
            self.last_renewal = self.now;
        }
        let farewells = turn.farewells.clone();
        for fence in &commit.partitions {
            if let Some(held) = self.partitions.get_mut(&fence.partition)
                && held.epoch == fence.epoch
            {
                held.last_turn = fence.turn;
            }
        }
        self.move_timers(commit);
        self.keep_timers(&decision.kept_timers, commit);
        self.note_beats(&decision.beats);
        for id in &decision.finished {
            self.cache.forget(*id);
        }
        self.cache.shrink();
        self.acknowledge(turn, decision.forwards, out);
        self.publish(decision.publications, commit, out);
        for debt in decision.settled {
            self.settle_debt(debt);
        }
        if !decision.cancels.is_empty() {
            out.push(Effect::SendCancels(decision.cancels));
        }
        self.let_go(&farewells, out);
    }

    /// Whether a partition is held in the epoch in which something was decided for it. It may have
    /// begun anew since: then its new beginning says all that the commit says, and more.
    fn is_held(&self, partition: PartitionNo, epoch: Epoch) -> bool {
        self.partitions
            .get(&partition)
            .is_some_and(|held| held.epoch == epoch)
    }

    /// Timers that are due soon follow the rows.
    fn move_timers(&mut self, commit: &Commit) {
        let set = commit.timers_set.iter();
        let set_keys = set.map(|timer| (timer.execution_id, timer.run));
        let changed: Vec<(ExecutionId, RunNo)> = commit
            .timers_cleared
            .iter()
            .copied()
            .chain(set_keys)
            .collect();
        let mut current = BTreeSet::new();
        for fence in &commit.partitions {
            if let Some(held) = self.partitions.get_mut(&fence.partition)
                && held.epoch == fence.epoch
            {
                current.insert(fence.partition);
                if held.timers_asked.is_some() {
                    held.timers_changed.extend(changed.iter().copied());
                }
            }
        }
        for (execution_id, run) in changed {
            if self
                .timers
                .partition_of(execution_id, run)
                .is_some_and(|partition| current.contains(&partition))
            {
                self.timers.clear(execution_id, run);
            }
        }
        for timer in &commit.timers_set {
            let held = self.partitions.get(&timer.partition);
            if current.contains(&timer.partition)
                && held.is_some_and(|held| timer.due_at < held.timer_horizon())
            {
                self.timers.set(*timer);
            }
        }
    }

    fn publish(
        &mut self,
        publications: Vec<(crate::publications::Debt, Arc<Publication>)>,
        commit: &Commit,
        out: &mut Vec<Effect>,
    ) {
        let mut batch = Vec::with_capacity(publications.len());
        for (debt, publication) in publications {
            if !self.is_held(debt.partition, debt.epoch) {
                continue;
            }
            // The debts of a recovery were counted when the partition was taken.
            let is_new = commit
                .partitions
                .iter()
                .any(|fence| fence.partition == debt.partition && fence.turn == debt.turn);
            if let Some(held) = self.partitions.get_mut(&debt.partition).filter(|_| is_new) {
                held.owe(debt.turn, 1);
            }
            self.publications.add(debt, &publication);
            batch.push(publication);
        }
        if !batch.is_empty() {
            let limit = self.unconfirmed_limit();
            let admitted = self.pacing.admit(in_turns(batch), limit);
            if !admitted.is_empty() {
                out.push(Effect::Publish(admitted));
            }
        }
    }

    pub(crate) fn acknowledge(
        &mut self,
        turn: Turn,
        forwards: Vec<(DeliveryId, Forward)>,
        out: &mut Vec<Effect>,
    ) {
        let mut channels = BTreeSet::new();
        for item in turn.items {
            if let Item::Delivery {
                id, suspect_key, ..
            } = item
            {
                channels.insert(id.channel);
                if let Some(delivery) = self.channels.delivery(id) {
                    delivery.stage = Stage::Done;
                }
                if let Some(key) = suspect_key {
                    self.suspects.done(&key);
                    out.push(Effect::ClearSuspect { key });
                }
            }
        }
        for (delivery, forward) in forwards {
            if let Some(held) = self.channels.delivery(delivery) {
                held.stage = Stage::Forwarding;
                out.push(Effect::Forward {
                    delivery,
                    forward: Box::new(forward),
                });
            }
        }
        for channel in channels {
            out.extend(self.channels.settle(channel).map(Effect::Acknowledge));
        }
    }

    /// Somebody else owns partitions of this turn: the rest of it is decided again without them.
    fn fenced(
        &mut self,
        turn: Turn,
        touched: &[ExecutionId],
        commit: &Commit,
        lost: Vec<PartitionNo>,
        out: &mut Vec<Effect>,
    ) {
        tracing::warn!(?lost, "partitions belong to another coordinator now");
        let all = || {
            commit
                .partitions
                .iter()
                .map(|fence| fence.partition)
                .collect()
        };
        let lost: Vec<PartitionNo> = if lost.is_empty() { all() } else { lost };
        if !self.is_planted(Mutant::CacheKeptAfterFence) {
            self.discard(touched);
        }
        if self.is_planted(Mutant::AckOnFence) {
            self.acknowledge(turn, Vec::new(), out);
        } else {
            self.put_back(turn);
        }
        for fence in &commit.partitions {
            if lost.contains(&fence.partition) && self.is_held(fence.partition, fence.epoch) {
                self.lose_partition(fence.partition, out);
            }
        }
    }

    /// Forgets executions whose state in memory was not committed.
    pub(crate) fn discard(&mut self, touched: &[ExecutionId]) {
        for id in touched {
            self.cache.remove(*id);
        }
    }

    /// Gives everything that a turn has taken back to where it came from.
    pub(crate) fn put_back(&mut self, turn: Turn) {
        for item in turn.items.into_iter().rev() {
            match item {
                Item::Delivery {
                    id, suspect_key, ..
                } => {
                    if let Some(delivery) = self.channels.delivery(id) {
                        delivery.stage = if suspect_key.is_some() {
                            Stage::Marked
                        } else {
                            Stage::Pending
                        };
                    }
                }
                Item::Timer(timer) => self.timers.set(timer),
                Item::Recovery(recovery) => self.recoveries.push_front(recovery),
                Item::Poisoned(poisoned) => self.poisoned.push_front(*poisoned),
                Item::LostJob(lost) => self.lost_jobs.push_front(lost),
            }
        }
    }
}
