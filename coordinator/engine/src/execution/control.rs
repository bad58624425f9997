//! Cancel, pause and resume.
//!
//! A pause lets come in what is with workers, and holds back what would start: the runs that it
//! releases at resume, in the order of their numbers. A cancel ends what waits, and tells workers to
//! stop; each attempt then has a timer, so that a worker that does not answer holds up nothing.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use flotilla_protocol::RunNo;

use super::changes::{Changes, JobCancel, TimerChange, TimerKind, Transition, TransitionKind};
use super::event::{Command, ControlRefusal, Outcome};
use super::log::RunEntry;
use super::run::{Run, RunStatus};
use super::step::Step;
use super::{Execution, ExecutionStatus};
use crate::json::Json;
use crate::scope::{EndStatus, Ended};
use crate::workflow::{CancellationPolicy, Workflow};

impl Execution {
    pub(super) fn controlled(
        &mut self,
        command: &Command,
        message_id: Option<&str>,
        now: DateTime<Utc>,
        changes: &mut Changes,
    ) -> Outcome {
        if let Some(refusal) = self.refusal(command) {
            return Outcome::Refused(refusal);
        }
        let workflow = Arc::clone(&self.workflow);
        let mut step = Step::new(self, now, changes);
        step.log_control(applied(command, message_id, &workflow));
        match command {
            Command::Cancel { reason } => step.cancel(reason.as_ref()),
            Command::Pause => step.pause(),
            Command::Resume => step.release(),
        }
        step.settle();
        Outcome::Applied
    }

    fn refusal(&self, command: &Command) -> Option<ControlRefusal> {
        if self.status.is_final() {
            return Some(ControlRefusal::AlreadyFinished);
        }
        match command {
            Command::Cancel { .. } => None,
            Command::Pause => {
                let is_pausable =
                    self.status == ExecutionStatus::Running || self.status.is_paused();
                (!is_pausable).then_some(ControlRefusal::WrongStatus)
            }
            Command::Resume => (!self.status.is_paused()).then_some(ControlRefusal::NotPaused),
        }
    }
}

/// What the log says of a command: also where a cancel lets what runs finish, so that no timer bounds it.
fn applied(command: &Command, message_id: Option<&str>, workflow: &Workflow) -> Json {
    let mut detail = named(command, message_id);
    let allows_finish = workflow.cancellation_policy == CancellationPolicy::AllowFinish;
    if allows_finish && matches!(command, Command::Cancel { .. }) {
        detail.insert("allow_finish".to_owned(), true.into());
    }
    Json::of(&detail)
}

fn detail(command: &Command, message_id: Option<&str>) -> Json {
    Json::of(&named(command, message_id))
}

fn named(
    command: &Command,
    message_id: Option<&str>,
) -> serde_json::Map<String, serde_json::Value> {
    let mut detail = serde_json::Map::new();
    detail.insert("command".to_owned(), command.word().into());
    if let Command::Cancel {
        reason: Some(reason),
    } = command
    {
        detail.insert("reason".to_owned(), reason.as_str().into());
    }
    if let Some(message_id) = message_id {
        detail.insert("message_id".to_owned(), message_id.into());
    }
    detail
}

impl Step<'_> {
    /// Notes that a command is carried out, with what it asks for.
    pub(super) fn log_control(&mut self, detail: Json) {
        self.log(Transition {
            seq: 0,
            kind: TransitionKind::ControlApplied,
            task_id: None,
            attempt: None,
            from: None,
            to: None,
            detail: Some(detail),
        });
    }

    fn cancel(&mut self, reason: Option<&String>) {
        if self.execution.status == ExecutionStatus::Cancelling {
            return;
        }
        self.set_status(ExecutionStatus::Cancelling);
        self.stop_all(reason);
    }

    /// Ends what waits, and tells what runs to stop: the execution is cancelled.
    pub(super) fn stop_all(&mut self, reason: Option<&String>) {
        if self.execution.in_finally() {
            return self.cancel_finally();
        }
        let (spreads, others): (Vec<&Run>, Vec<&Run>) = self
            .execution
            .live
            .values()
            .partition(|run| run.status == RunStatus::Spread);
        let spreads: Vec<RunNo> = spreads.into_iter().map(|run| run.no).collect();
        let others: Vec<(RunNo, bool)> = others
            .into_iter()
            .map(|run| (run.no, run.is_with_a_worker()))
            .collect();
        for no in &spreads {
            self.stop_spread(*no);
        }
        for (no, is_with_a_worker) in others {
            if !is_with_a_worker {
                self.end_wait(no);
            } else if self.execution.is_told_to_stop_run(no) {
                self.tell_to_stop(no, reason);
            }
        }
        for no in spreads {
            self.advance(no);
        }
    }

    /// What runs of `finally` goes on, for a while; what a pause has held back of it, too.
    fn cancel_finally(&mut self) {
        self.closed = false;
        self.cancels = true;
        let live: Vec<(RunNo, RunStatus, bool)> = self
            .execution
            .live
            .values()
            .map(|run| (run.no, run.status, run.held))
            .collect();
        for (no, status, is_held) in live {
            match status {
                RunStatus::Dispatched | RunStatus::Running => self.set_grace(no),
                RunStatus::Retrying => self.end_wait(no),
                RunStatus::Waiting | RunStatus::Delayed | RunStatus::Spread if is_held => {
                    self.release_run(no, status);
                }
                RunStatus::Delayed => {
                    self.clear_timer(no);
                    self.begin_run(no, false);
                }
                RunStatus::Waiting | RunStatus::Spread | RunStatus::Ended(_) => {}
            }
        }
    }

    /// A failure stops what else runs, but for what stands beside `fail`.
    pub(super) fn stop_the_rest(&mut self) {
        let running: Vec<RunNo> = self
            .execution
            .live
            .values()
            .filter(|run| run.is_with_a_worker() && self.execution.is_told_to_stop(run))
            .map(|run| run.no)
            .collect();
        let reason = "another task has failed".to_owned();
        for no in running {
            self.tell_to_stop(no, Some(&reason));
        }
    }

    pub(super) fn tell_to_stop(&mut self, no: RunNo, reason: Option<&String>) {
        self.tell_worker(no, reason);
        // What runs within a child has a timer there.
        if !self.execution.is_child_run(no) {
            self.set_grace(no);
        }
    }

    pub(super) fn tell_worker(&mut self, no: RunNo, reason: Option<&String>) {
        let Some(run) = self.execution.live.get(&no) else {
            return;
        };
        if let Some(child) = self.execution.child(run) {
            let reason = reason.cloned();
            return self.command_child(child, Command::Cancel { reason });
        }
        self.changes.cancels.push(JobCancel {
            task_id: self.execution.task_id(no),
            attempt: run.attempt,
            reason: reason.cloned(),
        });
    }

    fn set_grace(&mut self, no: RunNo) {
        let Some(run) = self.execution.live.get(&no) else {
            return;
        };
        self.changes.timers.push(TimerChange::Set {
            run: no,
            kind: TimerKind::Cancel,
            due: super::retry::after(self.now, self.execution.grace_s(run)),
        });
    }

    /// Ends a run that no worker has. What its last attempt left stays.
    pub(super) fn end_wait(&mut self, no: RunNo) {
        let last = self
            .execution
            .live
            .get(&no)
            .and_then(|run| run.ended.clone());
        let ended = match last {
            Some(last) => Ended {
                status: EndStatus::Cancelled,
                ..last
            },
            None => Ended::without_result(EndStatus::Cancelled),
        };
        self.end_run(no, ended);
    }

    fn pause(&mut self) {
        if self.execution.status.is_paused() {
            return;
        }
        self.pause_children();
        let status = if self.execution.is_any_with_a_worker() {
            ExecutionStatus::Pausing
        } else {
            ExecutionStatus::Paused
        };
        self.set_status(status);
    }

    /// Releases what the pause has held back.
    fn release(&mut self) {
        if self.times_out_at_resume() {
            return;
        }
        self.set_status(if self.execution.errors.is_empty() {
            ExecutionStatus::Running
        } else {
            ExecutionStatus::Failing
        });
        self.closed = false;
        self.resume_children();
        let held: Vec<(RunNo, RunStatus)> = self
            .execution
            .live
            .values()
            .filter(|run| run.held)
            .map(|run| (run.no, run.status))
            .collect();
        for (no, status) in held {
            if self.closed {
                // One of them led to `fail`: the others stay where they are.
                return;
            }
            self.release_run(no, status);
        }
    }

    fn release_run(&mut self, no: RunNo, status: RunStatus) {
        let mut is_overdue = false;
        let mut exempt = false;
        if let Some(run) = self.execution.live.get_mut(&no) {
            run.held = false;
            exempt = run.branch.cut;
            is_overdue = run.until.is_some_and(|until| until <= self.now);
            self.changes.touched.insert(no);
        }
        match status {
            RunStatus::Delayed | RunStatus::Retrying | RunStatus::Spread if is_overdue => {
                self.end_overdue(no);
            }
            RunStatus::Waiting => self.enter(no, exempt),
            RunStatus::Delayed | RunStatus::Retrying => self.begin_run(no, exempt),
            RunStatus::Spread => self.open_window(no),
            RunStatus::Dispatched | RunStatus::Running | RunStatus::Ended(_) => {}
        }
    }

    /// Keeps a run whose time has come until the execution is resumed.
    pub(super) fn hold_back(&mut self, no: RunNo) {
        if let Some(run) = self.execution.live.get_mut(&no) {
            run.held = true;
            self.changes.touched.insert(no);
        }
    }

    /// Likewise, where nothing else in the log says that its time has come.
    pub(super) fn hold_back_late(&mut self, no: RunNo) {
        self.hold_back(no);
        let Some(run) = self.execution.live.get(&no) else {
            return;
        };
        let word = run.status.word();
        let attempt = (run.attempt > 0).then_some(run.attempt);
        self.log_run(
            TransitionKind::ControlApplied,
            no,
            RunEntry {
                attempt,
                from: Some(word),
                to: Some(word),
                detail: Some(detail(&Command::Pause, None)),
            },
        );
    }
}
