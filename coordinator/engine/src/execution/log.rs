//! The log of an execution, and what is counted beside it.

use std::sync::Arc;

use flotilla_protocol::RunNo;
use serde::Serialize;
use serde_json::value::RawValue;

use super::ExecutionStatus;
use super::changes::{Transition, TransitionKind};
use super::failure::ExecutionError;
use super::routes::Follow;
use super::step::Step;
use crate::json::Json;
use crate::scope::{EndStatus, Ended};
use crate::variables::{Write, WriteNo};
use crate::workflow::FailPolicy;

impl Step<'_> {
    /// The execution has a failure that nothing handles.
    pub(super) fn fail(&mut self, error: ExecutionError) {
        self.execution.errors.push(error);
        match self.execution.status {
            // What goes on after a failure goes on after the pause; the resume tells the failure.
            ExecutionStatus::Pausing | ExecutionStatus::Paused
                if self.workflow.fail_policy == FailPolicy::Continue
                    || self.execution.in_finally() => {}
            ExecutionStatus::Running | ExecutionStatus::Pausing | ExecutionStatus::Paused => {
                self.set_status(ExecutionStatus::Failing);
            }
            ExecutionStatus::Failing
            | ExecutionStatus::Cancelling
            | ExecutionStatus::Succeeded
            | ExecutionStatus::Failed
            | ExecutionStatus::Cancelled
            | ExecutionStatus::TimedOut => {}
        }
    }

    pub(super) fn set_status(&mut self, status: ExecutionStatus) {
        self.change_status(status, None);
    }

    /// Gives the execution another status, and says in the log why.
    pub(super) fn change_status(&mut self, status: ExecutionStatus, detail: Option<Json>) {
        let from = self.execution.status;
        self.execution.status = status;
        self.log(Transition {
            seq: 0,
            kind: TransitionKind::ExecutionStatusChanged,
            task_id: None,
            attempt: None,
            from: Some(from.word()),
            to: Some(status.word()),
            detail,
        });
        self.move_limit(from);
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

/// What the log has to say of an end beside what the row keeps, so that it can be followed again.
#[derive(Default)]
pub(super) struct Origin {
    /// What was reported, where the recorded end differs: an expression could not be evaluated.
    pub reported: Option<Ended>,
    /// Whether the attempt was ended without a look at the retry rule.
    pub given_up: bool,
}

#[derive(Serialize)]
struct EndDetail<'a> {
    /// Name and number of each write.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    published: Vec<(&'a str, WriteNo)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reported: Option<Reported<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    given_up: Option<bool>,
}

#[derive(Serialize)]
struct Reported<'a> {
    status: &'static str,
    error: &'a RawValue,
}

#[derive(Serialize)]
struct RetryDetail<'a> {
    ended: &'static str,
    error: &'a RawValue,
    delay_s: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a RawValue>,
}

/// The detail of an end: which write each published name got, and where the end came from. Nothing
/// for an end without any of this, which is most.
pub(super) fn end_detail(follow: &Follow, origin: &Origin) -> Option<Json> {
    if follow.writes.is_empty() && origin.reported.is_none() && !origin.given_up {
        return None;
    }
    Some(of_end(&follow.writes, origin))
}

fn of_end(writes: &[Arc<Write>], origin: &Origin) -> Json {
    Json::of(&EndDetail {
        published: writes
            .iter()
            .map(|write| (&*write.name, write.no))
            .collect(),
        reported: origin.reported.as_ref().map(|reported| Reported {
            status: reported.status.word(),
            error: reported.error.raw(),
        }),
        given_up: origin.given_up.then_some(true),
    })
}

/// The detail of the end of an item: it publishes nothing.
pub(super) fn origin_detail(origin: &Origin) -> Option<Json> {
    (origin.reported.is_some() || origin.given_up).then(|| of_end(&[], origin))
}

/// The detail of a retry: how the attempt ended, and seconds until the next one.
pub(super) fn retry_detail(ended: &Ended, delay_s: f64) -> Json {
    Json::of(&RetryDetail {
        ended: ended.status.word(),
        error: ended.error.raw(),
        delay_s,
        result: (!ended.result.is_null()).then(|| ended.result.raw()),
    })
}
