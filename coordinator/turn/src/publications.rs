//! Messages on their way to the broker, until it has confirmed them.

use std::collections::BTreeMap;
use std::sync::Arc;

use flotilla_engine::execution::{Execution, Job};
use flotilla_protocol::message::{JobItem, TaskJob, WorkflowFinished};
use flotilla_protocol::{RawJson, names};

use crate::Turns;
use crate::cache::Held;
use crate::durations::Durations;
use crate::effect::{Destination, Effect, Publication};
use crate::mutant::Mutant;
use crate::pacing::UNCONFIRMED;
use crate::rows::{Epoch, OutboxReply, PartitionNo, TurnNo};

/// The turn that owes a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Debt {
    pub partition: PartitionNo,
    pub epoch: Epoch,
    pub turn: TurnNo,
}

/// What is published and not confirmed.
#[derive(Debug, Default)]
pub(crate) struct Publications {
    last_id: u64,
    outstanding: BTreeMap<u64, (Debt, Arc<Publication>)>,
    /// To be published again at the next tick.
    again: Vec<u64>,
    /// For a planted bug: debts of partitions that are lost, whose confirms may still come.
    #[cfg(feature = "mutants")]
    pub(crate) orphans: BTreeMap<u64, Debt>,
    /// What has come back, by the pool whose queue is being declared for it.
    returned: BTreeMap<Arc<str>, Vec<u64>>,
    /// Which jobs may travel with others.
    pub durations: Durations,
}

impl Publications {
    pub fn len(&self) -> usize {
        self.outstanding.len()
    }

    pub fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    pub fn add(&mut self, debt: Debt, publication: &Arc<Publication>) {
        self.outstanding
            .insert(publication.id, (debt, Arc::clone(publication)));
    }

    pub fn get(&self, id: u64) -> Option<&Arc<Publication>> {
        self.outstanding
            .get(&id)
            .map(|(_, publication)| publication)
    }

    pub fn confirm(&mut self, id: u64) -> Option<(Debt, Arc<Publication>)> {
        self.outstanding.remove(&id)
    }

    pub fn fail(&mut self, id: u64) {
        self.again.push(id);
    }

    /// Keeps what has come back until the queue of its pool is there; whether it is the first.
    pub fn wait_for_pool(&mut self, pool: &Arc<str>, id: u64) -> bool {
        let waiting = self.returned.entry(Arc::clone(pool)).or_default();
        waiting.push(id);
        waiting.len() == 1
    }

    pub fn pool_declared(&mut self, pool: &str) {
        self.again
            .extend(self.returned.remove(pool).unwrap_or_default());
    }

    pub fn take_failed(&mut self) -> Vec<Arc<Publication>> {
        let again = std::mem::take(&mut self.again);
        again
            .iter()
            .filter_map(|id| self.get(*id).cloned())
            .collect()
    }

    /// What a partition owes, for a planted bug.
    #[cfg(feature = "mutants")]
    pub(crate) fn debts_of(&self, partition: PartitionNo) -> Vec<(u64, Debt)> {
        let outstanding = self.outstanding.iter();
        outstanding
            .filter(|(_, (debt, _))| debt.partition == partition)
            .map(|(id, (debt, _))| (*id, *debt))
            .collect()
    }

    pub fn remove_partition(&mut self, partition: PartitionNo) {
        self.outstanding
            .retain(|_, (debt, _)| debt.partition != partition);
    }
}

impl Turns {
    /// The broker has these publications: their debts are settled, and others may follow them.
    pub(crate) fn confirm(&mut self, ids: &[u64], out: &mut Vec<Effect>) {
        let limit = self.unconfirmed_limit();
        let mut released = Vec::new();
        for id in ids {
            let confirmed = self.publications.confirm(*id);
            if let Some((_, publication)) = &confirmed {
                self.pacing.confirmed(publication, limit, &mut released);
            }
            let debt = confirmed.map(|(debt, _)| debt);
            if let Some(debt) = debt.or_else(|| self.orphaned_debt(*id)) {
                self.settle_debt(debt);
            }
        }
        if !released.is_empty() {
            out.push(Effect::Publish(released));
        }
    }

    /// How many jobs of one execution may be unconfirmed.
    pub(crate) fn unconfirmed_limit(&self) -> usize {
        self.crowd.limit(UNCONFIRMED, self.now)
    }

    pub(crate) fn settle_debt(&mut self, debt: Debt) {
        let any_epoch = self.is_planted(Mutant::RepliesNotMatched);
        if let Some(held) = self
            .partitions
            .get_mut(&debt.partition)
            .filter(|held| held.epoch == debt.epoch || any_epoch)
        {
            held.confirm(debt.turn);
        }
    }

    pub(crate) fn publish_returned(&mut self, id: u64, out: &mut Vec<Effect>) {
        let Some(publication) = self.publications.get(id) else {
            return;
        };
        match &publication.to {
            Destination::Pool { pool, .. } => {
                let pool = Arc::clone(pool);
                if self.publications.wait_for_pool(&pool, id) {
                    out.push(Effect::DeclarePool(pool));
                }
            }
            // The client has gone; nobody is left to tell.
            Destination::Client { .. } => self.confirm(&[id], out),
        }
    }
}

/// The message of a job. `is_brief`: its task's attempts are.
pub(crate) fn job(id: u64, held: &Held, job: Job, is_brief: bool) -> Publication {
    let execution = &held.execution;
    let message_id = names::job_message_id(job.task_id, job.attempt);
    let body = TaskJob {
        execution_id: execution.id,
        task_id: job.task_id,
        attempt: job.attempt,
        workflow: execution.workflow.reference.to_string(),
        task: job.task.to_string(),
        visit: job.visit,
        action: job.action.to_string(),
        input: job.input.raw().to_owned(),
        timeout: job.timeout,
        heartbeat: job.heartbeat,
        idempotency_key: job.task_id.to_string(),
        item: job
            .item
            .map(|(index, batch_size)| JobItem { index, batch_size }),
        secrets: job.secrets.as_ref().map_or_else(Vec::new, places),
        starts: job.starts,
        resent: job.resent,
    };
    Publication {
        id,
        to: Destination::Pool {
            pool: job.pool,
            message_id,
            execution_id: execution.id,
            partition: held.partition,
            traceparent: held.traceparent.clone(),
            may_be_bundled: !job.resent && is_brief && job.heartbeat.is_none(),
        },
        body: to_json(&body),
    }
}

/// The places of an input that a worker fills in.
fn places(secrets: &flotilla_engine::Json) -> Vec<RawJson> {
    serde_json::from_str(secrets.text()).expect("the engine writes a list")
}

/// The message of a reply.
pub(crate) fn reply(
    id: u64,
    reply: &OutboxReply,
    message_type: &str,
    body: Vec<u8>,
) -> Publication {
    Publication {
        id,
        to: Destination::Client {
            reply_to: reply.reply_to.clone(),
            correlation_id: reply.correlation_id.clone(),
            message_type: message_type.to_owned(),
        },
        body,
    }
}

/// The type and body of `workflow.finished`.
pub(crate) fn finished(execution: &Execution) -> (&'static str, Vec<u8>) {
    let errors: RawJson = flotilla_engine::Json::of(&execution.errors)
        .raw()
        .to_owned();
    let body = WorkflowFinished {
        execution_id: execution.id,
        status: execution.status.word().to_owned(),
        output: execution
            .output
            .as_ref()
            .map(|output| output.raw().to_owned()),
        errors,
    };
    (names::WORKFLOW_FINISHED, to_json(&body))
}

/// The JSON text of a message of ours, which always has one.
pub(crate) fn to_json<T: serde::Serialize>(body: &T) -> Vec<u8> {
    serde_json::to_vec(body).expect("our own messages have JSON")
}
