//! What a turn owes: jobs and replies, its own and those that a former owner left.

use std::sync::Arc;

use flotilla_engine::execution::Job;
use flotilla_protocol::ExecutionId;

use crate::decision::Deciding;
use crate::effect::Publication;
use crate::gather::Recovery;
use crate::message::ReplyAddress;
use crate::mutant::Mutant;
use crate::publications::{self, Debt};
use crate::rows::{OutboxJob, OutboxReply, PartitionNo, PartitionTurn, ReplyMessage};

impl Deciding<'_> {
    /// Publishes what a former owner owed, where it still matters.
    pub(crate) fn recover(&mut self, recovery: &Recovery) {
        self.fence_in(recovery.partition);
        let debt = Debt {
            partition: recovery.partition,
            epoch: recovery.epoch,
            turn: recovery.turn,
        };
        let drops_jobs = self.turns.is_planted(Mutant::RecoveryDropsJobs);
        for owed in &recovery.jobs {
            let held = self.turns.cache.use_mut(owed.execution_id);
            let job = held.filter(|_| !drops_jobs).and_then(|held| {
                let job = held
                    .execution
                    .job(owed.run)
                    .filter(|job| job.attempt == owed.attempt)?;
                let id = self.turns.publications.next_id();
                Some(publications::job(id, held, job, false))
            });
            self.settle_debt(debt, job);
        }
        for owed in &recovery.replies {
            let publication = self.owed_reply(owed);
            self.settle_debt(debt, publication);
        }
    }

    pub(crate) fn settle_debt(&mut self, debt: Debt, publication: Option<Publication>) {
        match publication {
            Some(publication) => self
                .decision
                .publications
                .push((debt, Arc::new(publication))),
            None => self.decision.settled.push(debt),
        }
    }

    pub(crate) fn owed_reply(&mut self, owed: &OutboxReply) -> Option<Publication> {
        let id = self.turns.publications.next_id();
        match &owed.message {
            ReplyMessage::Stored { message_type, body } => Some(publications::reply(
                id,
                owed,
                message_type,
                body.clone().into_bytes(),
            )),
            ReplyMessage::Finished { execution_id } => {
                let held = self.turns.cache.use_mut(*execution_id)?;
                if !held.execution.status.is_final() {
                    // It runs again: its end is told when it ends.
                    return None;
                }
                let (message_type, body) = publications::finished(&held.execution);
                Some(publications::reply(id, owed, message_type, body))
            }
        }
    }

    /// Owes a reply to a client, and makes its message.
    pub(crate) fn reply(
        &mut self,
        partition: PartitionNo,
        to: &ReplyAddress,
        message: ReplyMessage,
    ) {
        let fence = self.fence_in(partition);
        let owed = OutboxReply {
            partition,
            turn: fence.turn,
            reply_to: to.reply_to.clone(),
            correlation_id: to.correlation_id.clone(),
            message,
        };
        if let Some(publication) = self.owed_reply(&owed) {
            let debt = Debt {
                partition,
                epoch: fence.epoch,
                turn: fence.turn,
            };
            self.decision
                .publications
                .push((debt, Arc::new(publication)));
            self.decision.commit.replies.push(owed);
        }
    }

    /// Puts a partition of ours into the fence of the commit.
    pub(crate) fn fence_in(&mut self, partition: PartitionNo) -> PartitionTurn {
        let held = self.turns.partitions.get(&partition);
        let next = held.map_or(
            PartitionTurn {
                partition,
                epoch: -1,
                turn: 0,
                dispatched_through: 0,
            },
            |held| self.turns.spoiled_fence(held, held.next_turn(partition)),
        );
        *self.fence.entry(partition).or_insert(next)
    }

    pub(crate) fn fence_all(&mut self) {
        for partition in self.turns.partitions.keys().copied().collect::<Vec<_>>() {
            self.fence_in(partition);
        }
    }

    pub(crate) fn dispatch(&mut self, id: ExecutionId, partition: PartitionNo, jobs: Vec<Job>) {
        let fence = self.fence_in(partition);
        let debt = Debt {
            partition,
            epoch: fence.epoch,
            turn: fence.turn,
        };
        for job in jobs {
            let publication_id = self.turns.publications.next_id();
            let Some(held) = self.turns.cache.use_mut(id) else {
                return;
            };
            self.decision.commit.jobs.push(OutboxJob {
                partition,
                turn: fence.turn,
                execution_id: id,
                run: job.run,
                attempt: job.attempt,
            });
            let durations = &self.turns.publications.durations;
            let is_brief = durations.is_brief(&held.execution, job.run);
            let publication = publications::job(publication_id, held, job, is_brief);
            self.decision
                .publications
                .push((debt, Arc::new(publication)));
        }
    }
}
