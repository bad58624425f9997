//! Sub-workflows: an attempt of a task may be an execution of its own, a child.
//!
//! ```text
//! parent ──Start, Command──► child        (with the same turn, in the same partition)
//!        ◄──────Ended───────
//! ```
//!
//! The state machine of one execution says what its relatives are to be told ([`FamilyMessage`]), and
//! [`follow`] carries that out until nobody has anything to say. A run waits for its child with the status
//! `running`. One that does not wait any more (its time is over) leaves a child that was told to stop,
//! and does not hear of its end.

use std::collections::VecDeque;
use std::sync::Arc;

use chrono::{DateTime, SubsecRound, Utc};
use flotilla_protocol::message::{CompletionStatus, TaskError};
use flotilla_protocol::{ExecutionId, RunNo};

use super::changes::{Changes, TimerChange, TimerKind};
use super::event::{AttemptId, Command, Event, IgnoredReason, Report};
use super::failure::kind;
use super::retry::after;
use super::run::Run;
use super::step::Step;
use super::{Execution, ExecutionStatus};
use crate::json::Json;
use crate::scope::Ended;

/// How deep children may be nested; an execution that a user starts has the depth 0.
pub const MAX_DEPTH: usize = 10;
/// Errors of a child that its parent is told.
const MAX_TOLD_ERRORS: usize = 10;

/// The run whose current attempt an execution is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    /// The execution that the run belongs to.
    pub execution_id: ExecutionId,
    /// The run.
    pub run: RunNo,
}

/// What an execution has to say to its relatives.
#[derive(Debug, Clone, PartialEq)]
pub enum FamilyMessage {
    /// A child is to be started.
    Start(ChildStart),
    /// A child is to follow a command, if it has not ended.
    Command {
        /// The child.
        child: ExecutionId,
        /// What is to happen.
        command: Command,
    },
    /// It has ended.
    Ended {
        /// The run that waits for it.
        parent: Parent,
        /// Its id.
        child: ExecutionId,
    },
}

/// A child that is to be started.
#[derive(Debug, Clone, PartialEq)]
pub struct ChildStart {
    /// Its id.
    pub id: ExecutionId,
    /// The run that waits for it.
    pub parent: Parent,
    /// Reference of its workflow; the newest version of that is meant.
    pub workflow: Arc<str>,
    /// Its parameters, an object.
    pub parameters: Json,
}

/// Why a child cannot be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildRefusal {
    /// One word, as for a start message that is rejected; or `limit_exceeded`.
    pub kind: &'static str,
    /// One sentence for people.
    pub message: String,
}

/// Executions that may be each other's relatives, with what has changed in each.
pub trait Family {
    /// One of them; `None` if it is not held here, and nobody needs to be told.
    fn member(&mut self, id: ExecutionId) -> Option<(&mut Execution, &mut Changes)>;

    /// Adds a child.
    ///
    /// # Errors
    /// Why that cannot be.
    fn start(&mut self, child: ChildStart) -> Result<(), ChildRefusal>;
}

/// Carries out what `first` has to say to its relatives, and what follows from that, until nothing more
/// does.
pub fn follow(family: &mut impl Family, first: ExecutionId, now: DateTime<Utc>) {
    let mut speakers = VecDeque::from([first]);
    while let Some(id) = speakers.pop_front() {
        let Some((_, changes)) = family.member(id) else {
            continue;
        };
        for message in std::mem::take(&mut changes.family) {
            speakers.extend(deliver(family, message, now));
        }
    }
}

/// Delivers a message; gives who may have something to say after that.
fn deliver(
    family: &mut impl Family,
    message: FamilyMessage,
    now: DateTime<Utc>,
) -> Option<ExecutionId> {
    match message {
        FamilyMessage::Start(child) => {
            let (id, parent) = (child.id, child.parent);
            match family.start(child) {
                Ok(()) => Some(id),
                Err(refusal) => tell(family, parent, id, refused(refusal), now),
            }
        }
        FamilyMessage::Command { child, command } => {
            let event = Event::Controlled {
                command,
                message_id: None,
            };
            let (execution, changes) = family.member(child)?;
            // What it cannot do now it need not do.
            execution.apply(&event, now, changes);
            Some(child)
        }
        FamilyMessage::Ended { parent, child } => {
            let (execution, _) = family.member(child)?;
            let report = Box::new(execution.report());
            tell(family, parent, child, report, now)
        }
    }
}

/// Tells a run how its child has ended, if it still waits for that one.
fn tell(
    family: &mut impl Family,
    parent: Parent,
    child: ExecutionId,
    report: Box<Report>,
    now: DateTime<Utc>,
) -> Option<ExecutionId> {
    let (execution, changes) = family.member(parent.execution_id)?;
    let run = execution.live.get(&parent.run)?;
    if execution.child(run) != Some(child) {
        return None;
    }
    let attempt = AttemptId {
        task_id: execution.task_id(parent.run),
        attempt: run.attempt,
    };
    execution.apply(&Event::ChildEnded { attempt, report }, now, changes);
    Some(parent.execution_id)
}

impl Execution {
    /// The child that a run waits for.
    #[must_use]
    pub fn child(&self, run: &Run) -> Option<ExecutionId> {
        self.is_child(run)
            .then(|| ExecutionId::of_child(self.task_id(run.no), run.attempt))
    }

    /// Whether a run waits for a child.
    pub(super) fn is_child(&self, run: &Run) -> bool {
        run.is_with_a_worker() && self.workflow.tasks[run.task.0].is_workflow
    }

    /// Likewise, by its number.
    pub(super) fn is_child_run(&self, no: RunNo) -> bool {
        self.live.get(&no).is_some_and(|run| self.is_child(run))
    }

    /// Whether the attempts of a run are children.
    pub(super) fn runs_workflow(&self, no: RunNo) -> bool {
        let run = self.live.get(&no);
        run.is_some_and(|run| self.workflow.tasks[run.task.0].is_workflow)
    }

    /// Whether a worker has the current attempt of a run, or is to have it.
    #[must_use]
    pub fn has_a_worker(&self, run: &Run) -> bool {
        run.is_with_a_worker() && !self.workflow.tasks[run.task.0].is_workflow
    }

    pub(super) fn is_any_with_a_worker(&self) -> bool {
        self.live.values().any(|run| self.has_a_worker(run))
    }

    pub(super) fn child_ended(
        &mut self,
        id: AttemptId,
        report: &Report,
        now: DateTime<Utc>,
        changes: &mut Changes,
    ) -> Result<(), IgnoredReason> {
        let no = self.current_attempt(id)?;
        if !self.is_child_run(no) {
            return Err(IgnoredReason::StaleAttempt);
        }
        let (ended, retryable) = self.end_of_attempt(no, report);
        let began = self.live.get(&no).and_then(|run| run.dispatched_at);
        let mut step = Step::new(self, now, changes);
        // It may have ended as it began, and so may the next.
        step.defers_children = began.map(stored) == Some(stored(now));
        step.attempt_ended(no, ended, retryable);
        step.settle();
        Ok(())
    }

    /// How the end of this execution looks to the run that waits for it.
    fn report(&self) -> Report {
        let status = match self.status {
            ExecutionStatus::Succeeded => CompletionStatus::Succeeded,
            ExecutionStatus::TimedOut => CompletionStatus::TimedOut,
            ExecutionStatus::Cancelled => CompletionStatus::Cancelled,
            ExecutionStatus::Failed
            | ExecutionStatus::Running
            | ExecutionStatus::Pausing
            | ExecutionStatus::Paused
            | ExecutionStatus::Cancelling
            | ExecutionStatus::Failing => CompletionStatus::Failed,
        };
        let error = (status != CompletionStatus::Succeeded).then(|| {
            let (name, word) = (&self.workflow.reference, self.status.word());
            let ended = format!("{name} ended as {word}");
            let message = match self.errors.first() {
                Some(first) => format!("{ended}: {}", first.message),
                None => ended,
            };
            let told = self.errors.len().min(MAX_TOLD_ERRORS);
            let details = Json::of(&serde_json::json!({
                "execution_id": self.id,
                "status": word,
                "errors": self.errors[..told],
            }));
            TaskError {
                kind: kind::CHILD_FAILED.to_owned(),
                message,
                retryable: None,
                details: Some(details.raw().to_owned()),
            }
        });
        Report {
            status,
            result: self.output.clone(),
            error,
            started_at: None,
            finished_at: None,
            worker: None,
        }
    }
}

impl Step<'_> {
    /// Starts the child of a run that was dispatched.
    pub(super) fn start_child(&mut self, no: RunNo) {
        let Some(run) = self.execution.live.get(&no) else {
            return;
        };
        let (Some(id), Some(workflow), Some(parameters)) = (
            self.execution.child(run),
            run.action.clone(),
            run.input.clone(),
        ) else {
            return;
        };
        let parent = Parent {
            execution_id: self.execution.id,
            run: no,
        };
        self.changes.family.push(FamilyMessage::Start(ChildStart {
            id,
            parent,
            workflow,
            parameters,
        }));
        self.limit_child(no);
    }

    /// Sets the timer of a run that waits for a child.
    fn limit_child(&mut self, no: RunNo) {
        let Some(run) = self.execution.live.get(&no) else {
            return;
        };
        if let Some(due) = deadline(run) {
            self.set_timer(no, TimerKind::Deadline, due);
        }
    }

    pub(super) fn command_child(&mut self, child: ExecutionId, command: Command) {
        self.changes
            .family
            .push(FamilyMessage::Command { child, command });
    }

    /// Children are paused with their parent; the time that they may take runs on, and acts at resume.
    pub(super) fn pause_children(&mut self) {
        for (no, child) in self.children() {
            self.command_child(child, Command::Pause);
            self.changes.timers.push(TimerChange::Clear { run: no });
        }
    }

    /// Those whose time has passed meanwhile do not go on.
    pub(super) fn resume_children(&mut self) {
        for (no, child) in self.children() {
            let Some(run) = self.execution.live.get(&no) else {
                continue;
            };
            let has_passed = |at: DateTime<Utc>| at <= self.now;
            if run.until.is_some_and(has_passed) {
                self.end_overdue(no);
            } else if deadline(run).is_some_and(has_passed) {
                self.end_late_child(no);
            } else {
                self.command_child(child, Command::Resume);
                self.rest_timer(no);
                self.limit_child(no);
            }
        }
    }

    /// A run has waited for its child as long as it may.
    pub(super) fn end_late_child(&mut self, no: RunNo) {
        let run = self.execution.live.get(&no);
        let timeout = run.and_then(|run| run.timeout).unwrap_or_default();
        self.order_stop(no, "its parent has waited too long");
        let message = format!("the sub-workflow took longer than {timeout} s");
        self.attempt_ended(no, Ended::overdue(&message), true);
    }

    /// The runs that wait for children.
    fn children(&self) -> Vec<(RunNo, ExecutionId)> {
        let live = self.execution.live.values();
        live.filter_map(|run| Some((run.no, self.execution.child(run)?)))
            .collect()
    }

    /// Tells the run that waits for this execution how it has ended.
    pub(super) fn tell_parent(&mut self) {
        if let Some(parent) = self.execution.parent {
            self.changes.family.push(FamilyMessage::Ended {
                parent,
                child: self.execution.id,
            });
        }
    }
}

/// When a run has waited for its child as long as it may.
fn deadline(run: &Run) -> Option<DateTime<Utc>> {
    Some(after(stored(run.dispatched_at?), run.timeout?))
}

/// A time as rows keep it.
fn stored(at: DateTime<Utc>) -> DateTime<Utc> {
    at.trunc_subsecs(6)
}

/// The report of a child that could not be started. Another attempt would be refused as well.
fn refused(refusal: ChildRefusal) -> Box<Report> {
    Box::new(Report {
        status: CompletionStatus::Failed,
        result: None,
        error: Some(TaskError {
            kind: refusal.kind.to_owned(),
            message: refusal.message,
            retryable: Some(false),
            details: None,
        }),
        started_at: None,
        finished_at: None,
        worker: None,
    })
}
