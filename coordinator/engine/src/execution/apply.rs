//! One function per event: whether it counts, and the step that it begins.

use chrono::{DateTime, Utc};
use flotilla_protocol::RunNo;
use flotilla_protocol::message::CompletionStatus;

use super::Execution;
use super::alive::Said;
use super::changes::{Changes, TimerKind};
use super::event::{AttemptId, Event, IgnoredReason, Outcome, Report};
use super::failure::kind;
use super::log::Origin;
use super::run::RunStatus;
use super::spread::Spread;
use super::step::Step;
use crate::json::Json;
use crate::scope::{EndStatus, Ended};

impl Execution {
    /// Applies an event: changes the state and adds what has changed to `changes`.
    pub fn apply(&mut self, event: &Event, now: DateTime<Utc>, changes: &mut Changes) -> Outcome {
        let outcome = match event {
            Event::AttemptEnded { attempt, report } => {
                self.attempt_ended(*attempt, report, now, changes).into()
            }
            Event::ChildEnded { attempt, report } => {
                self.child_ended(*attempt, report, now, changes).into()
            }
            Event::AttemptStarted {
                attempt,
                worker,
                started_at,
            } => {
                let said = Said {
                    worker: worker.as_deref(),
                    started_at: *started_at,
                    heartbeat_s: None,
                };
                self.attempt_started(*attempt, said, now, changes).into()
            }
            Event::AttemptAcknowledged {
                attempt,
                worker,
                started_at,
                heartbeat_s,
            } => {
                let said = Said {
                    worker: worker.as_deref(),
                    started_at: *started_at,
                    heartbeat_s: Some(*heartbeat_s),
                };
                self.attempt_started(*attempt, said, now, changes).into()
            }
            Event::JobDied { attempt, reason } => {
                self.job_died(*attempt, reason, now, changes).into()
            }
            Event::JobReturned { attempt } => self.job_returned(*attempt, now, changes),
            Event::CompletionPoisoned { attempt, reason } => self
                .give_up(*attempt, kind::INVALID_RESULT, reason, now, changes)
                .into(),
            Event::TimerFired { run, kind } => self.timer_fired(*run, *kind, now, changes),
            Event::JobLost { attempt } => self.job_lost(*attempt, now, changes),
            Event::Controlled {
                command,
                message_id,
            } => self.controlled(command, message_id.as_deref(), now, changes),
            Event::RerunOrdered(rerun) => self.rerun(rerun, now, changes),
        };
        self.trim_links();
        self.trim_fired();
        debug_assert_eq!(self.check(), Ok(()), "after {event:?}");
        outcome
    }

    /// The run that a message about `attempt` speaks of, if that attempt is with a worker.
    pub(super) fn current_run(&self, id: AttemptId) -> Result<RunNo, IgnoredReason> {
        let no = self.current_attempt(id)?;
        if self.is_child_run(no) {
            // No worker has it.
            return Err(IgnoredReason::StaleAttempt);
        }
        Ok(no)
    }

    /// The run that has `id` as its current attempt.
    pub(super) fn current_attempt(&self, id: AttemptId) -> Result<RunNo, IgnoredReason> {
        let AttemptId { task_id, attempt } = id;
        let no = task_id.run();
        if no == 0 || no > self.last_run || self.task_id(no) != task_id {
            return Err(IgnoredReason::UnknownTask);
        }
        if self.status.is_final() {
            return Err(IgnoredReason::ExecutionFinished);
        }
        let Some(run) = self.live.get(&no) else {
            return Err(IgnoredReason::AlreadyCompleted);
        };
        match run.status {
            RunStatus::Dispatched | RunStatus::Running if run.attempt == attempt => Ok(no),
            RunStatus::Retrying if run.attempt == attempt => Err(IgnoredReason::AlreadyCompleted),
            RunStatus::Dispatched
            | RunStatus::Running
            | RunStatus::Retrying
            | RunStatus::Waiting
            | RunStatus::Delayed
            | RunStatus::Spread
            | RunStatus::Ended(_) => Err(IgnoredReason::StaleAttempt),
        }
    }

    fn attempt_ended(
        &mut self,
        id: AttemptId,
        report: &Report,
        now: DateTime<Utc>,
        changes: &mut Changes,
    ) -> Result<(), IgnoredReason> {
        let no = self.current_run(id)?;
        if let Some(run) = self.live.get_mut(&no) {
            run.started_at = report.started_at.or(run.started_at);
            if let Some(worker) = &report.worker {
                run.worker = Some(worker.as_str().into());
            }
        }
        let (ended, retryable) = self.end_of_attempt(no, report);
        let mut step = Step::new(self, now, changes);
        step.attempt_ended(no, ended, retryable);
        step.settle();
        Ok(())
    }

    /// How an attempt has ended by its report, and whether the retry rule may be asked.
    pub(super) fn end_of_attempt(&self, no: RunNo, report: &Report) -> (Ended, bool) {
        let result = report.result.clone().unwrap_or_else(Json::null);
        let is_stopping = self.live.get(&no).is_some_and(|run| self.is_stopping(run));
        let status = match report.status {
            CompletionStatus::Succeeded => EndStatus::Succeeded,
            CompletionStatus::TimedOut => EndStatus::TimedOut,
            CompletionStatus::Cancelled if is_stopping => EndStatus::Cancelled,
            // Nobody asked for the cancel: to the workflow it is a failure.
            CompletionStatus::Failed | CompletionStatus::Cancelled => EndStatus::Failed,
        };
        let ended = match status {
            EndStatus::Succeeded => Ended::succeeded(result),
            EndStatus::Failed
            | EndStatus::TimedOut
            | EndStatus::Cancelled
            | EndStatus::Skipped
            | EndStatus::Omitted => Ended::reported(status, result, report.error.as_ref()),
        };
        let retryable = report
            .error
            .as_ref()
            .and_then(|error| error.retryable)
            .unwrap_or(true);
        (ended, retryable)
    }

    /// The broker gave the job up. Unless its workers died too often it is simply sent again: the
    /// broker counts clean closes, too, so a job may die merely for having stood beside a bad one.
    fn job_died(
        &mut self,
        id: AttemptId,
        reason: &str,
        now: DateTime<Utc>,
        changes: &mut Changes,
    ) -> Result<(), IgnoredReason> {
        let no = self.current_run(id)?;
        if reason != "delivery_limit" {
            let reason = format!("the job was refused: {reason}");
            return self.give_up(id, kind::CONTRACT_VIOLATION, &reason, now, changes);
        }
        if self.is_told_to_stop_run(no) {
            self.end_lost(no, now, changes);
            return Ok(());
        }
        let gave_up = self
            .live
            .get(&no)
            .is_none_or(|run| run.starts >= self.workflow.tasks[run.task.0].max_redeliveries);
        if gave_up {
            return self.give_up(id, kind::WORKER_LOST, "its workers died", now, changes);
        }
        Step::new(self, now, changes).resend(no, reason);
        Ok(())
    }

    /// A bundle has come back. Its jobs that are done have been heard of before; the others are sent
    /// again alone, so that one that kills its workers is counted, and only that one.
    fn job_returned(
        &mut self,
        id: AttemptId,
        now: DateTime<Utc>,
        changes: &mut Changes,
    ) -> Outcome {
        let Ok(no) = self.current_run(id) else {
            return Outcome::Nothing;
        };
        if self.is_told_to_stop_run(no) {
            self.end_lost(no, now, changes);
        } else {
            Step::new(self, now, changes).resend(no, "returned");
        }
        Outcome::Applied
    }

    /// Ends a run whose job is lost and that is to be cancelled anyway.
    fn end_lost(&mut self, no: RunNo, now: DateTime<Utc>, changes: &mut Changes) {
        let ended = Ended::cancelled("the job was lost, and it was to be cancelled");
        let mut step = Step::new(self, now, changes);
        step.end_run(no, ended);
        step.settle();
    }

    /// The broker has lost the job. What a worker runs is left to its deadline, and what is to be
    /// cancelled needs no job.
    fn job_lost(&mut self, id: AttemptId, now: DateTime<Utc>, changes: &mut Changes) -> Outcome {
        let Ok(no) = self.current_run(id) else {
            return Outcome::Nothing;
        };
        let is_dispatched = self
            .live
            .get(&no)
            .is_some_and(|run| run.status == RunStatus::Dispatched);
        if !is_dispatched || self.is_told_to_stop_run(no) {
            return Outcome::Nothing;
        }
        Step::new(self, now, changes).resend(no, "lost");
        Outcome::Applied
    }

    /// Ends the attempt as failed, without a retry.
    pub(super) fn give_up(
        &mut self,
        id: AttemptId,
        kind: &str,
        message: &str,
        now: DateTime<Utc>,
        changes: &mut Changes,
    ) -> Result<(), IgnoredReason> {
        let no = self.current_run(id)?;
        let mut step = Step::new(self, now, changes);
        let origin = Origin {
            given_up: true,
            ..Origin::default()
        };
        step.end_run_of(no, Ended::failed(kind, message), origin);
        step.settle();
        Ok(())
    }

    fn timer_fired(
        &mut self,
        no: RunNo,
        timer: TimerKind,
        now: DateTime<Utc>,
        changes: &mut Changes,
    ) -> Outcome {
        if timer == TimerKind::ExecutionTimeout {
            return self.time_is_up(now, changes);
        }
        let Some(run) = self.live.get(&no) else {
            return Outcome::Nothing;
        };
        let is_expected = match timer {
            TimerKind::Retry => run.status == RunStatus::Retrying && !run.held,
            TimerKind::Dispatch => {
                let puts_off = |spread: &Spread| spread.progress.put_off;
                let is_put_off =
                    run.status == RunStatus::Delayed || run.spread.as_deref().is_some_and(puts_off);
                is_put_off && !run.held
            }
            TimerKind::Delay => run.status == RunStatus::Delayed && !run.held,
            TimerKind::TotalTimeout => {
                let has_passed = run.until.is_some_and(|until| until <= now);
                has_passed && run.is_under_way() && !self.is_cancelling(run)
            }
            TimerKind::ExecutionTimeout => false,
            TimerKind::Deadline | TimerKind::Heartbeat => {
                run.status == RunStatus::Running && !self.is_cancelling(run)
            }
            TimerKind::Cancel => run.is_with_a_worker() && self.is_cancelling(run),
        };
        if !is_expected {
            return Outcome::Nothing;
        }
        let (timeout, grace_s) = (run.timeout, self.grace_s(run));
        let (is_told, is_child) = (self.is_told_to_stop(run), self.is_child(run));
        let mut step = Step::new(self, now, changes);
        match timer {
            TimerKind::Retry | TimerKind::Dispatch | TimerKind::Delay => step.wait_is_over(no),
            TimerKind::TotalTimeout => step.total_is_over(no),
            TimerKind::ExecutionTimeout => {}
            TimerKind::Heartbeat => return self.fell_silent(no, now, changes),
            TimerKind::Deadline if is_child => step.end_late_child(no),
            TimerKind::Deadline => {
                let message = format!("no answer within {} s", timeout.unwrap_or_default());
                step.attempt_ended(no, Ended::overdue(&message), true);
            }
            TimerKind::Cancel => {
                if !is_told {
                    step.tell_worker(no, None);
                }
                let message = format!("it did not stop within {grace_s} s of the cancel");
                step.end_run(no, Ended::cancelled(&message));
            }
        }
        step.settle();
        Outcome::Applied
    }
}
