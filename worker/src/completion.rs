//! What became of an attempt, as the bytes of a `task.completed` that the coordinator will take.
//!
//! A completion that broke the contract would be thrown away, and with an array its neighbours would
//! suffer; so what a handler returned is checked here, and replaced by a failure that says what was
//! wrong with it.

use chrono::{DateTime, Utc};
use flotilla_protocol::decode::MAX_NAME_BYTES;
use flotilla_protocol::message::{CompletionStatus, TaskCompleted, TaskError};
use flotilla_protocol::names::{MAX_DEPTH, MAX_MESSAGE_BYTES};
use flotilla_protocol::scan::check_json;
use flotilla_protocol::{RawJson, Refusal};
use serde_json::value::to_raw_value;

use crate::action::Answer;
use crate::error::ActionError;
use crate::secrets::Mask;
use crate::service::JobKey;

/// The longest message of an error; a longer one is cut.
const MAX_ERROR_MESSAGE_BYTES: usize = 64 * 1024;

/// How an attempt ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The handler answered.
    Answered(Answer),
    /// The time limit ended it.
    TimedOut(std::time::Duration),
    /// A cancel ended it or kept it from running, for this reason.
    Cancelled(String),
}

impl Outcome {
    /// The same without the values of secrets.
    pub(crate) fn masked(self, mask: &Mask) -> Self {
        match self {
            Self::Answered(Ok(result)) => Self::Answered(Ok(mask.json(result))),
            Self::Answered(Err(error)) => Self::Answered(Err(ActionError {
                message: mask.text(error.message),
                details: error.details.map(|details| mask.json(details)),
                result: error.result.map(|result| mask.json(result)),
                ..error
            })),
            Self::TimedOut(_) | Self::Cancelled(_) => self,
        }
    }
}

/// Who ran an attempt, and since when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run<'a> {
    pub(crate) key: JobKey,
    pub(crate) worker: &'a str,
    pub(crate) started_at: DateTime<Utc>,
}

/// Writes the completion of a run.
pub(crate) fn encode(run: Run<'_>, outcome: Outcome) -> Vec<u8> {
    let (status, result, error) = match outcome {
        Outcome::Answered(Ok(result)) => (CompletionStatus::Succeeded, Some(result), None),
        Outcome::Answered(Err(error)) => failed(error),
        Outcome::TimedOut(limit) => timed_out(limit),
        Outcome::Cancelled(reason) => cancelled(reason),
    };
    let completed = TaskCompleted {
        execution_id: run.key.execution_id,
        task_id: run.key.task_id,
        attempt: run.key.attempt,
        status,
        result,
        error,
        started_at: Some(run.started_at),
        finished_at: Some(Utc::now()),
        worker: Some(run.worker.to_owned()),
    };
    checked(&completed).unwrap_or_else(|error| {
        tracing::warn!(kind = error.kind, message = error.message, "answer refused");
        let (status, _, error) = failed(error);
        let replaced = TaskCompleted {
            status,
            result: None,
            error,
            ..completed
        };
        serde_json::to_vec(&replaced).expect("texts and numbers can be written")
    })
}

type Parts = (CompletionStatus, Option<RawJson>, Option<TaskError>);

fn failed(error: ActionError) -> Parts {
    let result = error.result;
    let error = TaskError {
        kind: cut(error.kind, MAX_NAME_BYTES),
        message: cut(error.message, MAX_ERROR_MESSAGE_BYTES),
        retryable: Some(error.retryable),
        details: error.details,
    };
    (CompletionStatus::Failed, result, Some(error))
}

fn timed_out(limit: std::time::Duration) -> Parts {
    let error = TaskError {
        kind: "task_timeout".to_owned(),
        message: format!("the attempt took longer than {} s", limit.as_secs_f64()),
        retryable: Some(true),
        details: to_raw_value(&serde_json::json!({"timeout": limit.as_secs_f64()})).ok(),
    };
    (CompletionStatus::TimedOut, None, Some(error))
}

fn cancelled(reason: String) -> Parts {
    let error = TaskError {
        kind: "cancelled".to_owned(),
        message: cut(reason, MAX_ERROR_MESSAGE_BYTES),
        retryable: Some(false),
        details: None,
    };
    (CompletionStatus::Cancelled, None, Some(error))
}

/// The bytes, or why a coordinator would not take them.
fn checked(completed: &TaskCompleted) -> Result<Vec<u8>, ActionError> {
    let result = completed
        .result
        .as_ref()
        .map_or(0, |result| result.get().len());
    check_size("the result", result)?;
    let details = completed
        .error
        .as_ref()
        .and_then(|error| error.details.as_ref());
    let details = details.map_or(0, |details| details.get().len());
    check_size(
        "the details of the error",
        details + MAX_ERROR_MESSAGE_BYTES,
    )?;
    let body = serde_json::to_vec(completed)
        .map_err(|error| ActionError::fatal("invalid_result", error.to_string()))?;
    check_json(&body, MAX_DEPTH)
        .map_err(|refused| ActionError::fatal(kind_of(refused.refusal), refused.message))?;
    Ok(body)
}

fn check_size(what: &str, bytes: usize) -> Result<(), ActionError> {
    if bytes > MAX_MESSAGE_BYTES {
        let message = format!("{what} has {bytes} bytes, more than {MAX_MESSAGE_BYTES}");
        return Err(ActionError::fatal("limit_exceeded", message));
    }
    Ok(())
}

fn kind_of(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::TooLarge => "limit_exceeded",
        Refusal::NotJson
        | Refusal::WrongType
        | Refusal::TooDeep
        | Refusal::InvalidValue
        | Refusal::UnknownCommand
        | Refusal::NewerVersion
        | Refusal::Rejected
        | Refusal::Poison => "invalid_result",
    }
}

fn cut(mut text: String, limit: usize) -> String {
    text.truncate(text.floor_char_boundary(limit));
    // Postgres cannot hold it, and the message is for people.
    if text.contains('\0') {
        text = text.replace('\0', "\u{fffd}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::key;
    use flotilla_protocol::{Envelope, InboxMessage, decode_inbox};
    use serde_json::json;

    fn completion(answer: Answer) -> TaskCompleted {
        let run = Run {
            key: key(1),
            worker: "test",
            started_at: Utc::now(),
        };
        let body = encode(run, Outcome::Answered(answer));
        match decode_inbox(&Envelope::default(), &body) {
            Ok(InboxMessage::Completed(mut all)) => all.pop().unwrap(),
            other => panic!("not a completion: {other:?}"),
        }
    }

    fn kind(answer: Answer) -> String {
        let completed = completion(answer);
        assert_eq!(completed.status, CompletionStatus::Failed);
        assert!(completed.result.is_none());
        completed.error.unwrap().kind
    }

    fn raw(text: String) -> RawJson {
        serde_json::value::RawValue::from_string(text).unwrap()
    }

    #[test]
    fn a_result_of_a_mebibyte_passes_and_a_larger_one_fails() {
        let text = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
        assert!(
            completion(Ok(raw(text(MAX_MESSAGE_BYTES))))
                .result
                .is_some()
        );
        assert_eq!(kind(Ok(raw(text(MAX_MESSAGE_BYTES + 1)))), "limit_exceeded");
    }

    #[test]
    fn a_result_that_cannot_be_stored_fails() {
        let deep = "[".repeat(101) + &"]".repeat(101);
        assert_eq!(kind(Ok(raw(deep))), "invalid_result");
        assert_eq!(kind(Ok(raw(r#""\u0000""#.to_owned()))), "invalid_result");
    }

    #[test]
    fn an_error_is_made_to_fit() {
        let error = ActionError::retryable("k".repeat(300), "m\0".repeat(100_000));
        assert_eq!(kind(Err(error)), "k".repeat(255));
        let details = "x".repeat(MAX_MESSAGE_BYTES);
        let error = ActionError::fatal("k", "m").with_details(json!(details));
        assert_eq!(kind(Err(error)), "limit_exceeded");
    }
}
