//! Signs of life: what workers say of attempts that run, and their silence.
//!
//! The broker hands a job that is not acknowledged to another worker when its own dies. A job that may
//! outlast the broker's patience is acknowledged while it runs; from then on its worker's silence means
//! that it is dead, and the same attempt is published again.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use flotilla_protocol::RunNo;

use super::changes::{Changes, JobCancel, TimerChange, TimerKind, TransitionKind};
use super::event::{AttemptId, IgnoredReason, Outcome};
use super::failure::kind;
use super::log::RunEntry;
use super::retry::after;
use super::run::{Run, RunStatus};
use super::step::Step;
use super::time::earlier;
use super::{DEADLINE_SLACK_S, Execution};
use crate::json::Json;
use crate::scope::Ended;

/// What a worker says of an attempt that it runs.
#[derive(Clone, Copy)]
pub(super) struct Said<'a> {
    pub worker: Option<&'a str>,
    pub started_at: Option<DateTime<Utc>>,
    /// Seconds of silence that mean its death, once the job is acknowledged.
    pub heartbeat_s: Option<f64>,
}

impl Said<'_> {
    /// What the log says of a start after which silence counts.
    fn detail(self, heartbeat_s: Option<f64>) -> Option<Json> {
        let silence_s = heartbeat_s.or(self.heartbeat_s)?;
        let detail = if self.heartbeat_s.is_some() {
            serde_json::json!({"acknowledged": true, "heartbeat": silence_s})
        } else {
            serde_json::json!({ "heartbeat": silence_s })
        };
        Some(Json::of(&detail))
    }
}

impl Execution {
    /// The run of which a heartbeat speaks, if that attempt is with a worker. It changes nothing.
    ///
    /// # Errors
    /// Why nobody waits for the attempt.
    pub fn hear(&self, attempt: AttemptId) -> Result<RunNo, IgnoredReason> {
        self.current_run(attempt)
    }

    pub(super) fn attempt_started(
        &mut self,
        id: AttemptId,
        said: Said<'_>,
        now: DateTime<Utc>,
        changes: &mut Changes,
    ) -> Result<(), IgnoredReason> {
        let no = self.current_run(id)?;
        let is_told = self.is_told_to_stop_run(no);
        let run = self.live.get(&no);
        let is_cancelling = run.is_some_and(|run| self.is_cancelling(run));
        let Some(run) = self.live.get_mut(&no) else {
            return Err(IgnoredReason::UnknownTask);
        };
        let task = &self.workflow.tasks[run.task.0];
        let limit = task.max_redeliveries;
        // Whoever acknowledges the job of a run that runs goes on with it.
        let goes_on = said.heartbeat_s.is_some() && run.status == RunStatus::Running;
        if !goes_on {
            run.starts += 1;
        }
        if run.starts > limit.saturating_add(1) {
            let reason = format!(
                "{} workers started the attempt, and none finished it",
                run.starts - 1
            );
            // The worker that is about to run it would be the next to die.
            changes.cancels.push(JobCancel {
                task_id: id.task_id,
                attempt: id.attempt,
                reason: Some(reason.clone()),
            });
            return self.give_up(id, kind::WORKER_LOST, &reason, now, changes);
        }
        let from = run.status.word();
        run.status = RunStatus::Running;
        run.started_at = said.started_at.or(Some(now));
        run.worker = said.worker.map(Arc::from);
        if is_told {
            // Its worker took the job after the cancel was told; the time that it has runs already.
            changes.cancels.push(JobCancel {
                task_id: id.task_id,
                attempt: id.attempt,
                reason: None,
            });
        } else if !is_cancelling {
            // Of `finally` during a cancel the time runs already, too.
            changes
                .timers
                .extend(timer_of_start(run, said, task.heartbeat, now).or_else(|| {
                    // Its job has come back, whatever a worker before said of it: the broker waits again.
                    (from == RunStatus::Running.word()).then_some(TimerChange::Clear { run: no })
                }));
        }
        changes.touched.insert(no);
        let detail = said.detail(task.heartbeat);
        let mut step = Step::new(self, now, changes);
        step.log_run(
            TransitionKind::TaskStarted,
            no,
            RunEntry {
                attempt: Some(id.attempt),
                from: Some(from),
                to: Some("running"),
                detail,
            },
        );
        Ok(())
    }

    /// Nothing was heard for too long. Where the task says for how long it may be silent, that ends the
    /// attempt. Else its job is acknowledged: the same attempt is published again, as the broker would
    /// deliver it again, unless too many workers have died of it.
    pub(super) fn fell_silent(
        &mut self,
        no: RunNo,
        now: DateTime<Utc>,
        changes: &mut Changes,
    ) -> Outcome {
        let Some(run) = self.live.get(&no) else {
            return Outcome::Nothing;
        };
        let task = &self.workflow.tasks[run.task.0];
        let limit = task.max_redeliveries;
        let (attempt, starts) = (run.attempt, run.starts);
        if let Some(heartbeat) = task.heartbeat {
            let message = format!("nothing was heard of the attempt for {heartbeat} s");
            let mut step = Step::new(self, now, changes);
            step.order_stop(no, "the attempt has been silent for too long");
            step.attempt_ended(no, Ended::overdue(&message), true);
            step.settle();
            return Outcome::Applied;
        }
        if starts > limit {
            let id = AttemptId {
                task_id: self.task_id(no),
                attempt,
            };
            return self
                .give_up(id, kind::WORKER_LOST, "its workers died", now, changes)
                .into();
        }
        Step::new(self, now, changes).resend_silent(no);
        Outcome::Applied
    }
}

/// The timer that the start of an attempt sets: what it is waited for, or the time over all attempts.
fn timer_of_start(
    run: &Run,
    said: Said<'_>,
    heartbeat: Option<f64>,
    now: DateTime<Utc>,
) -> Option<TimerChange> {
    let (kind, due) = match patience(said, run.timeout, heartbeat) {
        Some((kind, seconds)) => earlier(kind, after(now, seconds), run.until),
        None => (TimerKind::TotalTimeout, run.until?),
    };
    let run = run.no;
    Some(TimerChange::Set { run, kind, due })
}

/// The timer of an attempt that runs: where its task says so, or of an acknowledged job, the worker's
/// silence counts, and whoever keeps the time of heartbeats keeps the time limit too.
fn patience(
    said: Said<'_>,
    timeout: Option<f64>,
    heartbeat: Option<f64>,
) -> Option<(TimerKind, f64)> {
    match heartbeat.or(said.heartbeat_s) {
        Some(heartbeat_s) => Some((TimerKind::Heartbeat, heartbeat_s)),
        None => timeout.map(|timeout| (TimerKind::Deadline, timeout + DEADLINE_SLACK_S)),
    }
}
