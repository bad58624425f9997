//! Delays, and the limits that outlive an attempt: of all attempts of a run together, and of the
//! execution as a whole.
//!
//! A run has one timer. Where its time over all attempts passes before what it waits for, the timer
//! is that of the limit; so a limit that is set needs no timer of its own beside the others. The timer
//! of the execution is that of run 0, which no run has.

use chrono::{DateTime, SubsecRound, Utc};
use flotilla_protocol::RunNo;

use super::changes::{Changes, TimerChange, TimerKind};
use super::event::Outcome;
use super::failure::{ExecutionError, FieldError, kind};
use super::log::Origin;
use super::retry::{after, number};
use super::run::{Run, RunStatus};
use super::sight::Sight;
use super::step::Step;
use super::{Execution, ExecutionStatus};
use crate::json::Json;
use crate::scope::{EndStatus, Ended};
use crate::workflow::CancellationPolicy;

/// The number under which the timer of an execution as a whole is kept.
pub const NO_RUN: RunNo = 0;

impl Execution {
    /// Seconds that it may take; `None`: it has no limit. What its start says goes before the definition.
    fn time_limit(&self) -> Option<f64> {
        self.timeout.or(self.workflow.timeout)
    }

    /// When it has taken as long as it may; `None`: it has no limit.
    fn times_out_at(&self) -> Option<DateTime<Utc>> {
        let timeout = self.time_limit()?;
        Some(after(self.generation.began_at, timeout))
    }

    /// Whether it has taken as long as it may.
    fn is_overdue(&self, now: DateTime<Utc>) -> bool {
        self.times_out_at().is_some_and(|at| at <= now)
    }

    /// Whether it ends, or has ended, because it took too long.
    pub(super) fn has_timed_out(&self) -> bool {
        let is_limit =
            |error: &ExecutionError| error.task.is_none() && error.kind == kind::WORKFLOW_TIMEOUT;
        self.errors.iter().any(is_limit)
    }

    /// The timer of the whole has fired.
    pub(super) fn time_is_up(&mut self, now: DateTime<Utc>, changes: &mut Changes) -> Outcome {
        if !has_timer(self.status) || !self.is_overdue(now) {
            return Outcome::Nothing;
        }
        let mut step = Step::new(self, now, changes);
        step.time_out();
        step.settle();
        Outcome::Applied
    }
}

/// Whether time limits act: what runs out during a pause acts at resume, and what is cancelled has
/// timers of its own.
fn has_timer(status: ExecutionStatus) -> bool {
    match status {
        ExecutionStatus::Running | ExecutionStatus::Failing => true,
        ExecutionStatus::Pausing
        | ExecutionStatus::Paused
        | ExecutionStatus::Cancelling
        | ExecutionStatus::Succeeded
        | ExecutionStatus::Failed
        | ExecutionStatus::Cancelled
        | ExecutionStatus::TimedOut => false,
    }
}

/// Of a timer and the time over all attempts the one that comes first.
pub(super) fn earlier(
    kind: TimerKind,
    due: DateTime<Utc>,
    until: Option<DateTime<Utc>>,
) -> (TimerKind, DateTime<Utc>) {
    match until {
        Some(until) if until <= due => (TimerKind::TotalTimeout, until),
        Some(_) | None => (kind, due),
    }
}

impl Step<'_> {
    /// Sets the timer of the whole, at its start.
    pub(super) fn limit_execution(&mut self) {
        if let Some(due) = self.execution.times_out_at() {
            self.changes.timers.push(TimerChange::Set {
                run: NO_RUN,
                kind: TimerKind::ExecutionTimeout,
                due,
            });
        }
    }

    /// The status of the execution was `from`: sets or clears the timer of the whole.
    pub(super) fn move_limit(&mut self, from: ExecutionStatus) {
        match (has_timer(from), has_timer(self.execution.status)) {
            (false, true) => self.limit_execution(),
            (true, false) if self.execution.time_limit().is_some() => {
                self.changes.timers.push(TimerChange::Clear { run: NO_RUN });
            }
            (true, true | false) | (false, false) => {}
        }
    }

    /// At resume: whether the execution has taken too long meanwhile, so that it ends instead.
    pub(super) fn times_out_at_resume(&mut self) -> bool {
        let is_overdue = self.execution.is_overdue(self.now);
        if is_overdue {
            self.time_out();
        }
        is_overdue
    }

    /// The execution has taken as long as it may: what runs is cancelled, and once it has stopped,
    /// the execution ends as timed out.
    fn time_out(&mut self) {
        let timeout = self.execution.time_limit().unwrap_or_default();
        let message = format!("the execution took longer than {timeout} s");
        let error = ExecutionError::new(kind::WORKFLOW_TIMEOUT, message);
        self.execution.errors.push(error);
        let mut detail = serde_json::json!({ "timeout": timeout });
        if self.workflow.cancellation_policy == CancellationPolicy::AllowFinish {
            detail["allow_finish"] = true.into();
        }
        let detail = Json::of(&detail);
        self.change_status(ExecutionStatus::Cancelling, Some(detail));
        self.stop_all(Some(&"the execution has taken too long".to_owned()));
    }

    /// Seconds that a run waits before it begins.
    pub(super) fn delay_s(&self, run: &Run) -> Result<f64, FieldError> {
        let Some(delay) = &self.workflow.tasks[run.task.0].delay else {
            return Ok(0.0);
        };
        let sight = Sight::of_run(self.execution, run);
        let scope = sight.scope(&run.branch.vars, None);
        number(delay, &scope, "delay", 0.0)
    }

    /// Lets a run wait before it begins.
    pub(super) fn delay(&mut self, no: RunNo, delay_s: f64) {
        if let Some(run) = self.execution.live.get_mut(&no) {
            run.status = RunStatus::Delayed;
            self.changes.touched.insert(no);
            self.changes.timers.push(TimerChange::Set {
                run: no,
                kind: TimerKind::Delay,
                due: after(self.now, delay_s),
            });
        }
    }

    /// The time over all attempts of a run begins with the first.
    pub(super) fn begin_total(&mut self, no: RunNo) {
        let Some(run) = self.execution.live.get_mut(&no) else {
            return;
        };
        let total = self.workflow.tasks[run.task.0].total_timeout;
        if run.item.is_none()
            && run.until.is_none()
            && let Some(total) = total
        {
            // A row keeps it as text, which keeps more digits than the times in the log have.
            run.until = Some(after(self.now.trunc_subsecs(6), total));
            run.unsaved.branch = true;
        }
    }

    /// Sets the timer of a run, or that of the time over all its attempts if it comes first.
    pub(super) fn set_timer(&mut self, no: RunNo, kind: TimerKind, due: DateTime<Utc>) {
        let until = self.execution.live.get(&no).and_then(|run| run.until);
        let (kind, due) = earlier(kind, due, until);
        self.changes
            .timers
            .push(TimerChange::Set { run: no, kind, due });
    }

    /// A run waits for nothing else than the time over all its attempts, if that is limited.
    pub(super) fn rest_timer(&mut self, no: RunNo) {
        let Some(run) = self.execution.live.get(&no) else {
            return;
        };
        let is_put_off = run
            .spread
            .as_deref()
            .is_some_and(|spread| spread.progress.put_off);
        if let Some(due) = run.until
            && !is_put_off
            && self.execution.status != ExecutionStatus::Cancelling
        {
            self.changes.timers.push(TimerChange::Set {
                run: no,
                kind: TimerKind::TotalTimeout,
                due,
            });
        }
    }

    /// The time over all attempts of a run has passed. What only waits during a pause is held back.
    pub(super) fn total_is_over(&mut self, no: RunNo) {
        let Some(run) = self.execution.live.get(&no) else {
            return;
        };
        let only_waits = match run.status {
            RunStatus::Retrying | RunStatus::Delayed => true,
            // All of its items that have started may have ended.
            RunStatus::Spread => run.held && has_none_active(run),
            RunStatus::Waiting
            | RunStatus::Dispatched
            | RunStatus::Running
            | RunStatus::Ended(_) => false,
        };
        if only_waits && self.execution.status.is_paused() {
            self.clear_timer(no);
            self.hold_back_late(no);
        } else {
            self.end_overdue(no);
        }
    }

    /// Ends a run that has taken too long in all; another attempt does not follow.
    pub(super) fn end_overdue(&mut self, no: RunNo) {
        let Some(run) = self.execution.live.get(&no) else {
            return;
        };
        let task = &self.workflow.tasks[run.task.0];
        let total = task.total_timeout.unwrap_or_default();
        let message = format!("its attempts took longer than {total} s together");
        let ended = Ended {
            status: EndStatus::TimedOut,
            timeout_is_failure: !task.handles_timeout,
            ..Ended::failed(kind::TASK_TIMEOUT, &message)
        };
        let result = run.spread.as_deref().and_then(|spread| {
            let count = spread.progress.count;
            spread.ends.results(count)
        });
        let ended = Ended {
            result: result.unwrap_or_else(Json::null),
            ..ended
        };
        if run.is_with_a_worker() {
            self.order_stop(no, "the task has taken too long");
        }
        let items = self.cut_off_items(no);
        let origin = Origin {
            given_up: true,
            ..Origin::default()
        };
        self.end_run_of(no, ended, origin);
        self.close_cut_off(items);
    }

    /// Tells the worker of an attempt to stop, without waiting for it.
    pub(super) fn order_stop(&mut self, no: RunNo, reason: &str) {
        self.tell_worker(no, Some(&reason.to_owned()));
    }
}

fn has_none_active(run: &Run) -> bool {
    let spread = run.spread.as_deref();
    spread.is_some_and(|spread| spread.progress.active == 0)
}
