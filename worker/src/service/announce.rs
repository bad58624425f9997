//! What the loop does with a job that was delivered before: its start is told first, and it runs once
//! that is confirmed, a suspect a moment later.

use std::time::Duration;

use flotilla_protocol::message::TaskStarted;
use tokio::time::Instant;

use super::held::{JobKey, Phase};
use super::jobs::Start;
use super::{Mode, Service};

/// How long a suspect waits between the confirm of its start and its run. Where its starts were too
/// many the coordinator has given the attempt up and answers with a cancel: a job that kills workers
/// then kills no more of them.
const HESITATION: Duration = Duration::from_millis(300);

impl Service {
    /// Tells that a job will run, before it does: should it kill this worker, somebody has counted.
    pub(super) fn announce(&mut self, key: JobKey) {
        if let Some(held) = self.held.find(key)
            && let Some(job) = held.take_job()
        {
            self.taken += 1;
            held.phase = Phase::Announcing(job);
            let started = started(key, &self.options.worker, chrono::Utc::now());
            self.outbound.announcement(&held.reply_to, key, &started);
        } else {
            // It was cancelled while it waited.
            self.backlog.answered(key);
        }
    }

    pub(super) fn announced(&mut self, key: JobKey) {
        if self.backlog.is_suspect(key) {
            self.stop_hesitating();
            self.hesitating = Some((Instant::now() + HESITATION, key));
        } else {
            self.begin_announced(key);
        }
    }

    /// Runs the suspect that has waited for a cancel long enough.
    pub(super) fn end_hesitation(&mut self, now: Instant) {
        if let Some((_, key)) = self.hesitating.take_if(|(until, _)| *until <= now) {
            self.begin_announced(key);
        }
    }

    /// Gives back the place of a suspect that hesitates. It will not run: its turn has ended, by a cancel
    /// or with the session, or its start was told twice and it hesitates anew.
    pub(super) fn stop_hesitating(&mut self) {
        if self.hesitating.take().is_some() {
            self.taken -= 1;
        }
    }

    fn begin_announced(&mut self, key: JobKey) {
        self.taken -= 1;
        let is_announcing = self
            .held
            .find(key)
            .is_some_and(|held| matches!(held.phase, Phase::Announcing(_)));
        if is_announcing && matches!(self.mode, Mode::Serving) {
            self.begin(key, Start::Told);
        }
    }
}

fn started(key: JobKey, worker: &str, started_at: chrono::DateTime<chrono::Utc>) -> TaskStarted {
    TaskStarted {
        execution_id: key.execution_id,
        task_id: key.task_id,
        attempt: key.attempt,
        worker: Some(worker.to_owned()),
        started_at: Some(started_at),
        acknowledged: false,
        heartbeat: None,
        progress: None,
        detail: None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::backlog::Standing;
    use super::super::held::Held;
    use super::super::outbound::Sent;
    use super::super::{PoolOptions, ServiceOptions, SessionOptions, cancel_channel};
    use super::*;
    use crate::action::Actions;
    use crate::service::key;
    use flotilla_protocol::amqp::{ConnectOptions, Publisher, PublisherOptions};
    use flotilla_protocol::message::{TaskCancel, TaskJob};

    /// A worker of two places, without actions and without a broker.
    fn service() -> Service {
        let connect = ConnectOptions::new("amqp://127.0.0.1:1/%2f", "test");
        let publisher = Publisher::start(PublisherOptions::new(connect.clone()));
        let (sender, cancels) = cancel_channel();
        let pool = PoolOptions {
            prefetch: 1,
            bundles: 0,
            silence_limit: Duration::MAX,
        };
        let options = ServiceOptions {
            worker: "test".into(),
            concurrency: 2,
            started_after: Duration::MAX,
            acknowledge_after: Duration::MAX,
            heartbeat: Duration::MAX,
            drain_timeout: Duration::MAX,
            session: SessionOptions {
                connect,
                pools: Vec::new(),
                pool,
                cancels: sender,
            },
        };
        Service::without_session(options, Actions::default(), cancels, publisher)
    }

    /// A job whose action no worker has: it is answered as soon as it begins.
    fn job(key: JobKey) -> TaskJob {
        let job = serde_json::json!({
            "execution_id": key.execution_id, "task_id": key.task_id, "attempt": key.attempt,
            "workflow": "w@1", "task": "t", "visit": 1, "action": "unknown", "input": {},
            "timeout": null, "heartbeat": null, "idempotency_key": "k", "item": null,
        });
        serde_json::from_value(job).expect("it is a job")
    }

    fn deliver(service: &mut Service, key: JobKey) {
        let held = Held {
            reply_to: "inbox".into(),
            receipts: Vec::new(),
            delivered_at: Instant::now(),
            phase: Phase::Waiting(Box::new(job(key))),
            runs_before: 3,
            is_acknowledged: false,
        };
        service.take(key, held, Standing::Suspect);
    }

    fn is_announcing(service: &Service, key: JobKey) -> bool {
        let held = service.held.look(key);
        held.is_some_and(|held| matches!(held.phase, Phase::Announcing(_)))
    }

    fn end_hesitation(service: &mut Service) {
        service.end_hesitation(Instant::now() + HESITATION);
        assert_eq!(service.hesitating, None);
        assert_eq!(service.taken, 0, "places that nobody gives back");
    }

    #[tokio::test]
    async fn a_suspect_that_is_lost_while_it_hesitates_gives_its_place_back() {
        let mut service = service();
        deliver(&mut service, key(1));
        service.sent(Sent::Announcement(key(1)));
        service.deliveries_lost(std::iter::empty());
        assert_eq!(service.taken, 0);
        deliver(&mut service, key(2));
        service.sent(Sent::Announcement(key(2)));
        assert!(is_announcing(&service, key(2)));
        end_hesitation(&mut service);
    }

    #[tokio::test]
    async fn a_suspect_whose_start_is_told_twice_takes_one_place() {
        let mut service = service();
        deliver(&mut service, key(1));
        service.deliveries_lost(std::iter::empty());
        deliver(&mut service, key(1));
        service.sent(Sent::Announcement(key(1)));
        service.sent(Sent::Announcement(key(1)));
        end_hesitation(&mut service);
    }

    #[tokio::test]
    async fn a_suspect_that_is_cancelled_while_it_hesitates_gives_its_place_back() {
        let mut service = service();
        deliver(&mut service, key(1));
        deliver(&mut service, key(2));
        service.sent(Sent::Announcement(key(1)));
        service.cancel_asked(TaskCancel {
            execution_id: key(1).execution_id,
            task_id: key(1).task_id,
            attempt: 1,
            reason: None,
        });
        service.sent(Sent::Completions {
            reply_to: "inbox".into(),
            keys: vec![key(1)],
        });
        service.start_waiting();
        assert!(is_announcing(&service, key(2)));
        service.sent(Sent::Announcement(key(2)));
        end_hesitation(&mut service);
    }
}
