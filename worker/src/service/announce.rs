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
