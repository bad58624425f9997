//! What may still happen to an execution that has failed or is to end, by what its definition says of
//! failures and cancels.

use chrono::{DateTime, Utc};

use super::retry::after;
use super::run::Run;
use super::{CANCEL_GRACE_S, Execution, ExecutionStatus};
use crate::workflow::{CancellationPolicy, FailPolicy};

impl Execution {
    /// Whether the graph has ended, and the tasks of `finally` run.
    #[must_use]
    pub fn in_finally(&self) -> bool {
        let mut finally = self.workflow.finally.iter();
        finally.any(|task| self.visits[task.0] > self.generation.finals)
    }

    /// Whether a failure keeps everything from starting.
    pub(super) fn is_draining(&self) -> bool {
        let goes_on = match self.workflow.fail_policy {
            FailPolicy::Continue => true,
            FailPolicy::Drain | FailPolicy::Cancel => false,
        };
        self.status == ExecutionStatus::Failing && !goes_on && !self.in_finally()
    }

    /// Whether attempts may be dispatched.
    pub(super) fn starts_new(&self) -> bool {
        match self.status {
            ExecutionStatus::Running => true,
            ExecutionStatus::Failing => !self.is_draining(),
            ExecutionStatus::Cancelling => self.in_finally(),
            ExecutionStatus::Pausing
            | ExecutionStatus::Paused
            | ExecutionStatus::Succeeded
            | ExecutionStatus::Failed
            | ExecutionStatus::Cancelled
            | ExecutionStatus::TimedOut => false,
        }
    }

    /// Whether the attempt of a run is told to stop: the execution is cancelled, or has failed and
    /// cancels the rest, or the task that the item belongs to wants no more of them.
    #[must_use]
    pub fn is_told_to_stop(&self, run: &Run) -> bool {
        let failure_stops = || {
            self.workflow.fail_policy == FailPolicy::Cancel
                && !self.errors.is_empty()
                && !run.branch.cut
        };
        let is_told = match self.status {
            ExecutionStatus::Cancelling => {
                self.workflow.cancellation_policy == CancellationPolicy::CancelRunning
                    || failure_stops()
            }
            ExecutionStatus::Failing => failure_stops(),
            ExecutionStatus::Running
            | ExecutionStatus::Pausing
            | ExecutionStatus::Paused
            | ExecutionStatus::Succeeded
            | ExecutionStatus::Failed
            | ExecutionStatus::Cancelled
            | ExecutionStatus::TimedOut => false,
        };
        let is_finally = self.workflow.tasks[run.task.0].is_finally;
        is_told && !is_finally
            || run.item.is_some_and(|item| {
                self.spread(item.of)
                    .is_some_and(|spread| spread.progress.cancelling)
            })
    }

    /// Whether the time of an attempt is bounded by a timer, since nothing may hold the end up: it was
    /// told to stop, or it is of `finally` and the execution was cancelled.
    pub(super) fn is_cancelling(&self, run: &Run) -> bool {
        let is_finally = self.workflow.tasks[run.task.0].is_finally;
        is_finally && self.status == ExecutionStatus::Cancelling || self.is_told_to_stop(run)
    }

    /// Whether what ends now ends on account of a cancel, so that nothing follows it.
    pub(super) fn is_stopping(&self, run: &Run) -> bool {
        self.status == ExecutionStatus::Cancelling || self.is_told_to_stop(run)
    }

    /// Seconds that an attempt has once it is to stop.
    pub(super) fn grace_s(&self, run: &Run) -> f64 {
        let own = || run.timeout.unwrap_or(CANCEL_GRACE_S);
        self.workflow.cancel_grace.unwrap_or_else(own)
    }

    /// When the time of a run of `finally` is over that is dispatched after a cancel.
    pub(super) fn finally_until(&self, run: &Run) -> DateTime<Utc> {
        let whole = run.item.and_then(|item| self.live.get(&item.of));
        let since = whole.unwrap_or(run).created_at;
        after(since, self.grace_s(run))
    }
}
