//! What the loop does when an attempt shall be cancelled, and what it remembers of those that are
//! not here.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use flotilla_protocol::message::TaskCancel;
use tokio::time::Instant;

use super::Service;
use super::held::{Cancelled, JobKey};
use crate::attempt::cancel;

/// How long a cancel is remembered whose job is not here.
const REMEMBERED_FOR: Duration = Duration::from_secs(600);
/// How many cancels are remembered.
const MAX_REMEMBERED: usize = 10_000;
/// The longest reason; a longer one is cut, so that what is remembered is bounded.
const MAX_REASON_BYTES: usize = 1_000;
/// The reason of a cancel that gives none.
const NO_REASON: &str = "the attempt was cancelled";

impl Service {
    /// A cancel has come: ends the attempt if it is here, else remembers that it shall not run.
    pub(super) fn cancel_asked(&mut self, request: TaskCancel) {
        let key = JobKey {
            execution_id: request.execution_id,
            task_id: request.task_id,
            attempt: request.attempt,
        };
        let reason = reason_of(request);
        match self.held.cancel(key, &reason) {
            Cancelled::Unrun => self.complete_cancelled(key, reason),
            Cancelled::Ending => {}
            Cancelled::NotHere => self.cancelled.remember(key, &reason, Instant::now()),
        }
    }

    /// Answers a job that does not run since it was cancelled.
    pub(super) fn complete_cancelled(&mut self, key: JobKey, reason: String) {
        let completion = cancel(key, &self.options.worker, reason);
        self.completed(key, completion);
    }
}

fn reason_of(request: TaskCancel) -> String {
    let mut reason = request
        .reason
        .filter(|reason| !reason.is_empty())
        .unwrap_or_else(|| NO_REASON.to_owned());
    reason.truncate(reason.floor_char_boundary(MAX_REASON_BYTES));
    reason
}

/// Cancelled attempts whose jobs are not here. Their jobs may still be on the way, or come back
/// from a worker that has died.
#[derive(Debug, Default)]
pub(crate) struct CancelledAttempts {
    reasons: BTreeMap<JobKey, Arc<str>>,
    /// The same attempts with the time when each is forgotten, the oldest first.
    order: VecDeque<(Instant, JobKey)>,
}

impl CancelledAttempts {
    /// Why an attempt shall not run, if so. It stays known: its job may come more than once.
    pub(crate) fn reason(&mut self, key: JobKey, now: Instant) -> Option<String> {
        self.forget(now);
        self.reasons.get(&key).map(|reason| (**reason).to_owned())
    }

    fn remember(&mut self, key: JobKey, reason: &str, now: Instant) {
        self.forget(now);
        // Cancels are repeated; only the first of them is in the order.
        if self.reasons.insert(key, reason.into()).is_none() {
            self.order.push_back((now + REMEMBERED_FOR, key));
        }
        if self.order.len() > MAX_REMEMBERED {
            self.forget_oldest();
        }
    }

    fn forget(&mut self, now: Instant) {
        while self.order.front().is_some_and(|(until, _)| *until <= now) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, key)) = self.order.pop_front() {
            self.reasons.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::key;

    #[test]
    fn a_cancel_is_remembered_for_ten_minutes() {
        let mut cancelled = CancelledAttempts::default();
        let start = Instant::now();
        cancelled.remember(key(1), "why", start);
        cancelled.remember(key(1), "again", start + Duration::from_secs(1));
        let last = start + Duration::from_secs(599);
        assert_eq!(cancelled.reason(key(1), last).as_deref(), Some("again"));
        assert_eq!(cancelled.reason(key(2), last), None);
        assert_eq!(cancelled.reason(key(1), start + REMEMBERED_FOR), None);
        assert!(cancelled.order.is_empty());
    }

    #[test]
    fn the_oldest_is_forgotten_when_there_are_too_many() {
        let mut cancelled = CancelledAttempts::default();
        let now = Instant::now();
        for id in 0..=10_000 {
            cancelled.remember(key(id), "why", now);
        }
        assert_eq!(cancelled.reason(key(0), now), None);
        assert!(cancelled.reason(key(1), now).is_some());
        assert!(cancelled.reason(key(10_000), now).is_some());
        assert_eq!(cancelled.reasons.len(), 10_000);
    }

    #[test]
    fn a_reason_is_always_given_and_bounded() {
        let reason = |reason: Option<&str>| {
            reason_of(TaskCancel {
                execution_id: key(1).execution_id,
                task_id: key(1).task_id,
                attempt: 1,
                reason: reason.map(str::to_owned),
            })
        };
        assert_eq!(reason(Some("why")), "why");
        assert_eq!(reason(Some("")), NO_REASON);
        assert_eq!(reason(None), NO_REASON);
        assert_eq!(reason(Some(&"é".repeat(600))), "é".repeat(500));
    }
}
