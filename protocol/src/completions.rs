//! The body of `task.completed`: one completion or a list of them, and what can be salvaged of one
//! that holds a value that cannot be stored.

use serde_json::value::RawValue;

use crate::decode::{MAX_NAME_BYTES, check_attempt, check_length, check_size, check_worker, read};
use crate::ids::{ExecutionId, TaskId};
use crate::message::{CompletionStatus, TaskCompleted, TaskError};
use crate::names::{MAX_BATCH_BYTES, MAX_COMPLETION_OVERHEAD_BYTES, MAX_DEPTH, MAX_MESSAGE_BYTES};
use crate::refusal::{Refusal, Refused};
use crate::scan::check_json;

/// Decodes one completion or a list of them.
pub(crate) fn decode_completions(body: &[u8]) -> Result<Vec<TaskCompleted>, Refused> {
    check_size(body, MAX_BATCH_BYTES)?;
    decode_all(body).map_err(|refused| salvage(body, refused))
}

/// The way of all sound messages: one scan, one parse.
fn decode_all(body: &[u8]) -> Result<Vec<TaskCompleted>, Refused> {
    let completions = if is_list(body) {
        check_json(body, MAX_DEPTH + 1)?;
        read(body)?
    } else {
        check_json(body, MAX_DEPTH)?;
        vec![read(body)?]
    };
    completions.iter().try_for_each(check)?;
    Ok(completions)
}

fn is_list(body: &[u8]) -> bool {
    body.trim_ascii_start().first() == Some(&b'[')
}

fn check(completed: &TaskCompleted) -> Result<(), Refused> {
    check_attempt(completed.attempt)?;
    check_worker(completed.worker.as_deref())?;
    let result = completed
        .result
        .as_ref()
        .map_or(0, |result| result.get().len());
    if result > MAX_MESSAGE_BYTES {
        return Err(too_large("the result", result, MAX_MESSAGE_BYTES));
    }
    if let Some(error) = &completed.error {
        check_length("kind", &error.kind, MAX_NAME_BYTES)?;
        let details = error
            .details
            .as_ref()
            .map_or(0, |details| details.get().len());
        let error = error.message.len() + details;
        if error > MAX_MESSAGE_BYTES {
            return Err(too_large("the error", error, MAX_MESSAGE_BYTES));
        }
    }
    Ok(())
}

fn too_large(what: &str, bytes: usize, limit: usize) -> Refused {
    let message = format!("{what} has {bytes} bytes, more than {limit}");
    Refused::new(Refusal::TooLarge, message)
}

/// Takes a refused body apart and keeps what can be used of it.
fn salvage(body: &[u8], refused: Refused) -> Refused {
    // The parser steps over values without recursion, so that it may see what the scan refused.
    let parts: Vec<&RawValue> = if is_list(body) {
        serde_json::from_slice(body).unwrap_or_default()
    } else {
        serde_json::from_slice(body).map_or_else(|_| Vec::new(), |part| vec![part])
    };
    let salvaged = parts
        .into_iter()
        .filter_map(|part| salvage_one(part.get().as_bytes()));
    Refused {
        salvaged: salvaged.collect(),
        ..refused
    }
}

/// The completion itself, or one that says why it cannot be stored; `None` if it names no attempt.
fn salvage_one(part: &[u8]) -> Option<TaskCompleted> {
    let limit = MAX_MESSAGE_BYTES + MAX_COMPLETION_OVERHEAD_BYTES;
    let decoded = check_size(part, limit)
        .and_then(|()| check_json(part, MAX_DEPTH))
        .and_then(|()| read::<TaskCompleted>(part))
        .and_then(|completed| check(&completed).map(|()| completed));
    match decoded {
        Ok(completed) => Some(completed),
        Err(refused) => stand_in(part, &refused),
    }
}

fn stand_in(part: &[u8], refused: &Refused) -> Option<TaskCompleted> {
    #[derive(serde::Deserialize)]
    struct Attempt {
        execution_id: ExecutionId,
        task_id: TaskId,
        attempt: u32,
    }
    let attempt: Attempt = serde_json::from_slice(part).ok()?;
    check_attempt(attempt.attempt).ok()?;
    let kind = match refused.refusal {
        Refusal::TooLarge => "limit_exceeded",
        Refusal::NotJson
        | Refusal::WrongType
        | Refusal::TooDeep
        | Refusal::InvalidValue
        | Refusal::UnknownCommand
        | Refusal::NewerVersion
        | Refusal::Rejected
        | Refusal::Poison => "invalid_result",
    };
    Some(TaskCompleted {
        execution_id: attempt.execution_id,
        task_id: attempt.task_id,
        attempt: attempt.attempt,
        status: CompletionStatus::Failed,
        result: None,
        error: Some(TaskError {
            kind: kind.to_owned(),
            message: refused.message.clone(),
            retryable: Some(false),
            details: None,
        }),
        started_at: None,
        finished_at: None,
        worker: None,
    })
}
