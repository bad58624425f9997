//! The jobs that this worker has, from their delivery to the confirm of their completion.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use flotilla_protocol::message::TaskJob;
use flotilla_protocol::{ExecutionId, TaskId};
use serde::Deserialize;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::attempt::Stop;
use crate::pulse::Pulse;

/// How many answered jobs are remembered whose acknowledgement did not reach the broker.
const MAX_ANSWERED: usize = 10_000;

/// Names an attempt: what `message_id` says, with the execution that the answer needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
pub(crate) struct JobKey {
    pub(crate) execution_id: ExecutionId,
    pub(crate) task_id: TaskId,
    pub(crate) attempt: u32,
}

impl From<&TaskJob> for JobKey {
    fn from(job: &TaskJob) -> Self {
        Self {
            execution_id: job.execution_id,
            task_id: job.task_id,
            attempt: job.attempt,
        }
    }
}

/// A delivery to acknowledge. Its tag means something on its own channel only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Receipt {
    /// Counts the sessions of this worker.
    pub(crate) session: u64,
    /// The number of the queue within the session.
    pub(crate) pool: usize,
    /// The delivery.
    pub(crate) tag: u64,
}

/// How far a job is.
#[derive(Debug)]
pub(crate) enum Phase {
    /// All places are taken: it waits for one.
    Waiting(Box<TaskJob>),
    /// It was delivered before: it runs once `task.started` is confirmed.
    Announcing(Box<TaskJob>),
    /// It runs. `stop` ends it early.
    Running {
        pulse: Pulse,
        stop: oneshot::Sender<Stop>,
    },
    /// It has ended, or was told to; its completion is not confirmed yet.
    Ended,
}

/// One job.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) reply_to: Arc<str>,
    /// Its deliveries: more than one if it came again while it was here.
    pub(crate) receipts: Vec<Receipt>,
    /// When the first of them came: from then on the broker waits.
    pub(crate) delivered_at: Instant,
    pub(crate) phase: Phase,
    /// How often the attempt has been run before, as far as its delivery tells.
    pub(crate) runs_before: u32,
    /// Whether the coordinator knows that it is acknowledged before its end.
    pub(crate) is_acknowledged: bool,
}

/// All jobs of this worker.
#[derive(Debug, Default)]
pub(crate) struct HeldJobs {
    jobs: HashMap<JobKey, Held>,
    answered: Answered,
}

/// What a delivered job is to this worker.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It is not here: take it.
    New,
    /// It is here already; this delivery is acknowledged together with the first.
    Attached,
    /// It is here already and acknowledged: its coordinator has sent it again, since it heard nothing.
    SentAgain,
    /// Its completion is confirmed, only the acknowledgement was lost: acknowledge it.
    Answered,
}

/// What a cancel has met.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Cancelled {
    /// A job that has not begun, and now will not.
    Unrun,
    /// A job that has begun: it has been told to end, or was ending anyway.
    Ending,
    /// No job: the attempt is not here.
    NotHere,
}

impl HeldJobs {
    /// Looks whether a job that has been delivered is here already, so that it does not run beside itself.
    pub(crate) fn arrive(&mut self, key: JobKey, receipt: Receipt) -> Arrival {
        if let Some(held) = self.jobs.get_mut(&key) {
            held.receipts.push(receipt);
            return if held.is_acknowledged {
                Arrival::SentAgain
            } else {
                Arrival::Attached
            };
        }
        if self.answered.remove(key) {
            return Arrival::Answered;
        }
        Arrival::New
    }

    pub(crate) fn insert(&mut self, key: JobKey, held: Held) {
        self.jobs.insert(key, held);
    }

    pub(crate) fn find(&mut self, key: JobKey) -> Option<&mut Held> {
        self.jobs.get_mut(&key)
    }

    pub(crate) fn look(&self, key: JobKey) -> Option<&Held> {
        self.jobs.get(&key)
    }

    pub(crate) fn remove(&mut self, key: JobKey) -> Option<Held> {
        self.jobs.remove(&key)
    }

    /// The completion of a job is confirmed: returns the deliveries to acknowledge.
    pub(crate) fn answered(&mut self, key: JobKey, session: u64) -> Vec<Receipt> {
        let mut receipts = self
            .jobs
            .remove(&key)
            .map(|held| held.receipts)
            .unwrap_or_default();
        receipts.retain(|receipt| receipt.session == session);
        if receipts.is_empty() {
            self.answered.insert(key);
        }
        receipts
    }

    /// The channels of a session are gone, and its deliveries come again. Forgets the jobs that have
    /// not begun, here or elsewhere they will be delivered anew; those that run go on. `owed` are
    /// those that are answered and were not acknowledged.
    pub(crate) fn session_lost(&mut self, owed: impl Iterator<Item = JobKey>) {
        owed.for_each(|key| self.answered.insert(key));
        self.jobs.retain(|_, held| {
            held.receipts.clear();
            match held.phase {
                Phase::Waiting(_) | Phase::Announcing(_) => false,
                Phase::Running { .. } | Phase::Ended => true,
            }
        });
    }

    /// How many jobs have begun and are not answered yet.
    pub(crate) fn begun(&self) -> usize {
        let begun = self.jobs.values().filter(|held| match held.phase {
            Phase::Waiting(_) | Phase::Announcing(_) => false,
            Phase::Running { .. } | Phase::Ended => true,
        });
        begun.count()
    }

    pub(crate) fn contains(&self, key: JobKey) -> bool {
        self.jobs.contains_key(&key)
    }

    /// Tells all that run to end.
    pub(crate) fn stop_all(&mut self) {
        for held in self.jobs.values_mut() {
            held.stop(Stop::Abandon);
        }
    }

    /// Ends an attempt, or keeps it from running.
    pub(crate) fn cancel(&mut self, key: JobKey, reason: &str) -> Cancelled {
        let Some(held) = self.jobs.get_mut(&key) else {
            return Cancelled::NotHere;
        };
        match held.phase {
            Phase::Waiting(_) | Phase::Announcing(_) => {
                held.phase = Phase::Ended;
                Cancelled::Unrun
            }
            Phase::Running { .. } | Phase::Ended => {
                held.stop(Stop::Cancel(reason.to_owned()));
                Cancelled::Ending
            }
        }
    }
}

impl Held {
    /// Tells a job that runs to end.
    fn stop(&mut self, why: Stop) {
        if let Phase::Running { .. } = self.phase
            && let Phase::Running { stop, .. } = std::mem::replace(&mut self.phase, Phase::Ended)
        {
            // An error means that it has ended just now.
            let _ = stop.send(why);
        }
    }
}

/// Jobs that were answered while their delivery could not be acknowledged, the oldest first.
#[derive(Debug, Default)]
struct Answered {
    keys: BTreeSet<JobKey>,
    order: VecDeque<JobKey>,
}

impl Answered {
    fn insert(&mut self, key: JobKey) {
        if self.keys.insert(key) {
            self.order.push_back(key);
        }
        while self.order.len() > MAX_ANSWERED {
            if let Some(oldest) = self.order.pop_front() {
                self.keys.remove(&oldest);
            }
        }
    }

    /// Each key helps once: should the completion have been lost after all, the job runs again the
    /// next time that it is sent.
    fn remove(&mut self, key: JobKey) -> bool {
        self.keys.remove(&key)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use flotilla_protocol::amqp::{ConnectOptions, Publisher, PublisherOptions};
    use uuid::Uuid;

    pub(crate) fn key(id: u128) -> JobKey {
        JobKey {
            execution_id: ExecutionId(Uuid::from_u128(id)),
            task_id: TaskId(Uuid::from_u128(id)),
            attempt: 1,
        }
    }

    /// Signs of life that reach nobody.
    fn pulse(key: JobKey) -> Pulse {
        let options = ConnectOptions::new("amqp://127.0.0.1:1/%2f", "test");
        let publisher = Publisher::start(PublisherOptions::new(options));
        Pulse::new(publisher, "inbox".into(), key, "test".into())
    }

    fn receipt(session: u64, tag: u64) -> Receipt {
        Receipt {
            session,
            pool: 0,
            tag,
        }
    }

    fn with_running(key: JobKey, receipt: Receipt) -> (HeldJobs, oneshot::Receiver<Stop>) {
        let mut jobs = HeldJobs::default();
        assert_eq!(jobs.arrive(key, receipt), Arrival::New);
        let (stop, stopped) = oneshot::channel();
        let held = Held {
            reply_to: "inbox".into(),
            receipts: vec![receipt],
            delivered_at: Instant::now(),
            phase: Phase::Running {
                pulse: pulse(key),
                stop,
            },
            runs_before: 0,
            is_acknowledged: false,
        };
        jobs.insert(key, held);
        (jobs, stopped)
    }

    #[tokio::test]
    async fn a_second_delivery_of_a_running_job_is_acknowledged_with_the_first() {
        let (mut jobs, _stopped) = with_running(key(1), receipt(1, 1));
        assert_eq!(jobs.arrive(key(1), receipt(1, 2)), Arrival::Attached);
        assert_eq!(jobs.answered(key(1), 1), [receipt(1, 1), receipt(1, 2)]);
        assert_eq!(jobs.arrive(key(1), receipt(1, 3)), Arrival::New);
    }

    #[tokio::test]
    async fn a_job_that_outlives_its_channel_takes_the_next_delivery() {
        let (mut jobs, _stopped) = with_running(key(1), receipt(1, 1));
        jobs.session_lost(std::iter::empty());
        assert_eq!(jobs.arrive(key(1), receipt(2, 1)), Arrival::Attached);
        assert_eq!(jobs.answered(key(1), 2), [receipt(2, 1)]);
    }

    #[tokio::test]
    async fn a_job_answered_without_a_channel_is_not_run_again() {
        let (mut jobs, _stopped) = with_running(key(1), receipt(1, 1));
        jobs.session_lost(std::iter::empty());
        assert_eq!(jobs.answered(key(1), 2), []);
        assert_eq!(jobs.arrive(key(1), receipt(2, 1)), Arrival::Answered);
        assert_eq!(jobs.arrive(key(1), receipt(2, 2)), Arrival::New);
    }

    #[tokio::test]
    async fn a_job_whose_acknowledgement_waits_when_its_channel_ends_is_not_run_again() {
        let (mut jobs, _stopped) = with_running(key(1), receipt(1, 1));
        assert_eq!(jobs.answered(key(1), 1), [receipt(1, 1)]);
        jobs.session_lost([key(1)].into_iter());
        assert_eq!(jobs.arrive(key(1), receipt(2, 1)), Arrival::Answered);
        assert_eq!(jobs.arrive(key(1), receipt(2, 2)), Arrival::New);
    }

    #[tokio::test]
    async fn stopping_reaches_what_runs() {
        let (mut jobs, mut stopped) = with_running(key(1), receipt(1, 1));
        jobs.stop_all();
        assert_eq!(stopped.try_recv(), Ok(Stop::Abandon));
        assert_eq!(jobs.begun(), 1);
        assert!(jobs.remove(key(1)).is_some());
        assert_eq!(jobs.begun(), 0);
    }

    #[tokio::test]
    async fn a_cancel_reaches_its_own_attempt_alone() {
        let (mut jobs, mut stopped) = with_running(key(1), receipt(1, 1));
        let mut later = key(1);
        later.attempt = 2;
        assert_eq!(jobs.cancel(later, "why"), Cancelled::NotHere);
        assert!(stopped.try_recv().is_err());
        assert_eq!(jobs.cancel(key(1), "why"), Cancelled::Ending);
        assert_eq!(stopped.try_recv(), Ok(Stop::Cancel("why".to_owned())));
        assert_eq!(jobs.cancel(key(1), "again"), Cancelled::Ending);
    }
}
