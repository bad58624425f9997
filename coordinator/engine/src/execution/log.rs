//! The log of an execution, and what is counted beside it.

use flotilla_protocol::RunNo;

use super::ExecutionStatus;
use super::changes::{Transition, TransitionKind};
use super::failure::ExecutionError;
use super::step::Step;
use crate::json::Json;
use crate::scope::EndStatus;

impl Step<'_> {
    /// The execution has a failure that nothing handles.
    pub(super) fn fail(&mut self, error: ExecutionError) {
        self.execution.errors.push(error);
        match self.execution.status {
            ExecutionStatus::Running | ExecutionStatus::Pausing | ExecutionStatus::Paused => {
                self.set_status(ExecutionStatus::Failing);
            }
            ExecutionStatus::Failing
            | ExecutionStatus::Cancelling
            | ExecutionStatus::Succeeded
            | ExecutionStatus::Failed
            | ExecutionStatus::Cancelled => {}
        }
    }

    pub(super) fn set_status(&mut self, status: ExecutionStatus) {
        let from = self.execution.status.word();
        self.execution.status = status;
        self.log(Transition {
            seq: 0,
            kind: TransitionKind::ExecutionStatusChanged,
            task_id: None,
            attempt: None,
            from: Some(from),
            to: Some(status.word()),
            detail: None,
        });
    }

    pub(super) fn count_end(&mut self, status: EndStatus) {
        let counts = &mut self.execution.counts;
        counts.active -= 1;
        *match status {
            EndStatus::Succeeded => &mut counts.succeeded,
            EndStatus::Failed => &mut counts.failed,
            EndStatus::TimedOut => &mut counts.timed_out,
            EndStatus::Cancelled => &mut counts.cancelled,
            EndStatus::Skipped => &mut counts.skipped,
            EndStatus::Omitted => &mut counts.omitted,
        } += 1;
    }

    /// Adds an entry about a run.
    pub(super) fn log_run(&mut self, kind: TransitionKind, no: RunNo, entry: RunEntry) {
        let RunEntry {
            attempt,
            from,
            to,
            detail,
        } = entry;
        let task_id = Some(self.execution.task_id(no));
        self.log(Transition {
            seq: 0,
            kind,
            task_id,
            attempt,
            from,
            to,
            detail,
        });
    }

    /// Adds an entry to the log and gives it its number.
    pub(super) fn log(&mut self, mut transition: Transition) {
        self.execution.last_seq += 1;
        transition.seq = self.execution.last_seq;
        self.changes.transitions.push(transition);
    }
}

/// What an entry about a run says beside its kind.
#[derive(Default)]
pub(super) struct RunEntry {
    pub attempt: Option<u32>,
    pub from: Option<&'static str>,
    pub to: Option<&'static str>,
    pub detail: Option<Json>,
}
