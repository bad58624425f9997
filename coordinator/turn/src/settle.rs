//! What becomes of a turn: it is committed, taken again, or taken apart.

use std::sync::Arc;

use chrono::TimeDelta;
use flotilla_protocol::decode::InboxMessage;
use flotilla_protocol::message::TaskCompleted;
use flotilla_protocol::{ExecutionId, names};

use crate::Turns;
use crate::channels::Stage;
use crate::decision::Decision;
use crate::effect::{Effect, Publication};
use crate::gather::{Item, MAX_TURN_MESSAGES, Poisoned, Turn};
use crate::machine::Phase;
use crate::message::{ChannelId, DeliveryId, Forward, Message, RefusedMessage};
use crate::rows::{Commit, CommitAnswer, PartitionNo};

/// Seconds after which a timer that poisons its turn is tried again.
const POISONED_TIMER_S: i64 = 60;

impl Turns {
    /// Sends the commit of a decided turn.
    pub(crate) fn commit(&mut self, turn: Turn, mut decision: Decision, out: &mut Vec<Effect>) {
        let empty = empty_commit(&decision.commit);
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
            CommitAnswer::StartExists => {
                self.discard(&decision.touched);
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
        if turn.renews {
            self.last_renewal = self.now;
        }
        for fence in &commit.partitions {
            if let Some(held) = self.partitions.get_mut(&fence.partition) {
                held.last_turn = fence.turn;
            }
        }
        self.move_timers(commit);
        for id in &decision.finished {
            self.cache.remove(*id);
        }
        self.cache.shrink();
        self.acknowledge(turn, decision.forwards, out);
        self.publish(decision.publications, commit, out);
        for debt in decision.settled {
            self.settle_debt(debt.partition, debt.epoch, debt.turn);
        }
    }

    /// Timers that are due soon follow the rows.
    fn move_timers(&mut self, commit: &Commit) {
        for (execution_id, run) in &commit.timers_cleared {
            self.timers.clear(*execution_id, *run);
        }
        for timer in &commit.timers_set {
            let horizon = self
                .partitions
                .get(&timer.partition)
                .map(crate::partitions::Partition::timer_horizon);
            if horizon.is_some_and(|horizon| timer.due_at < horizon) {
                self.timers.set(*timer);
            } else {
                self.timers.clear(timer.execution_id, timer.run);
            }
        }
    }

    fn publish(
        &mut self,
        publications: Vec<(crate::publications::Debt, Arc<Publication>)>,
        commit: &Commit,
        out: &mut Vec<Effect>,
    ) {
        if publications.is_empty() {
            return;
        }
        let mut batch = Vec::with_capacity(publications.len());
        for (debt, publication) in publications {
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
        out.push(Effect::Publish(batch));
    }

    fn acknowledge(
        &mut self,
        turn: Turn,
        forwards: Vec<(DeliveryId, Forward)>,
        out: &mut Vec<Effect>,
    ) {
        let mut channels = std::collections::BTreeSet::new();
        for item in turn.items {
            if let Item::Delivery {
                id, suspect_key, ..
            } = item
            {
                channels.insert(id.channel);
                if let Some(delivery) = self.channels.delivery(id) {
                    delivery.stage = Stage::Done;
                }
                out.extend(suspect_key.map(|key| Effect::ClearSuspect { key }));
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
        self.discard(touched);
        self.put_back(turn);
        for partition in lost {
            self.lose_partition(partition, out);
        }
    }

    /// Forgets executions whose state in memory was not committed.
    fn discard(&mut self, touched: &[ExecutionId]) {
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
                Item::Poisoned(poisoned) => self.poisoned.push_front(poisoned),
            }
        }
    }

    /// The database will never take the turn, or deciding it panicked: it is halved, down to single
    /// messages; one that fails alone is poison. `touched` is `None` where nobody can tell what the
    /// panic left behind.
    pub(crate) fn turn_refused(
        &mut self,
        turn: Turn,
        touched: Option<&[ExecutionId]>,
        error: &str,
        out: &mut Vec<Effect>,
    ) {
        tracing::error!(messages = turn.items.len(), error, "a turn was refused");
        match touched {
            Some(touched) => self.discard(touched),
            None => self.cache.clear(),
        }
        let mut items = turn.items;
        if items.len() > 1 {
            self.turn_limit = (items.len() / 2).clamp(1, MAX_TURN_MESSAGES);
            self.put_back(Turn {
                items,
                renews: false,
            });
            return;
        }
        match items.pop() {
            Some(Item::Delivery { id, message, .. }) => self.poison(id, &message, error, out),
            Some(Item::Timer(mut timer)) => {
                timer.due_at = self.now + TimeDelta::seconds(POISONED_TIMER_S);
                self.timers.set(timer);
            }
            Some(Item::Recovery(_) | Item::Poisoned(_)) | None => {}
        }
    }

    /// A message that nobody can take becomes a dead letter, and the tasks that it completes fail.
    pub(crate) fn poison(
        &mut self,
        id: DeliveryId,
        message: &Message,
        error: &str,
        out: &mut Vec<Effect>,
    ) {
        let refused = match message {
            Message::Start(request) => RefusedMessage {
                reason: "poison",
                ..request.original.clone()
            },
            Message::Inbox(inbox) => self.poisoned_inbox(id.channel, inbox, error),
            Message::Salvaged { refused, .. } => (**refused).clone(),
            Message::Forward(_) => return,
        };
        if let Some(delivery) = self.channels.delivery(id) {
            delivery.stage = Stage::Forwarding;
            out.push(Effect::Forward {
                delivery: id,
                forward: Box::new(Forward::Refused(refused)),
            });
        }
    }

    fn poisoned_inbox(
        &mut self,
        channel: ChannelId,
        message: &InboxMessage,
        error: &str,
    ) -> RefusedMessage {
        let mut refused = RefusedMessage {
            reason: "poison",
            detail: error.to_owned(),
            ..RefusedMessage::default()
        };
        if let ChannelId::Inbox(partition) = channel {
            refused.queue = names::inbox_queue(partition);
            if let InboxMessage::Completed(list) = message {
                refused.body = crate::publications::to_json(list);
                self.poisoned.extend(
                    list.iter()
                        .map(|completed| poisoned(partition, completed, error)),
                );
            }
        }
        refused
    }
}

fn poisoned(partition: PartitionNo, completed: &TaskCompleted, error: &str) -> Poisoned {
    Poisoned {
        partition,
        execution_id: completed.execution_id,
        task_id: completed.task_id,
        attempt: completed.attempt,
        reason: format!("the completion could not be taken: {error}"),
    }
}

fn empty_commit(of: &Commit) -> Commit {
    Commit {
        turn_id: of.turn_id,
        lease_s: of.lease_s,
        partitions: Vec::new(),
        starts: Vec::new(),
        new_executions: Vec::new(),
        executions: Vec::new(),
        new_tasks: Vec::new(),
        tasks: Vec::new(),
        variables: Vec::new(),
        transitions: Vec::new(),
        timers_set: Vec::new(),
        timers_cleared: Vec::new(),
        jobs: Vec::new(),
        replies: Vec::new(),
        ignored: Vec::new(),
    }
}
