//! The actions that touch nothing outside of the worker.

use std::time::Duration;

use flotilla_protocol::RawJson;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::text;
use crate::action::{Answer, parse};
use crate::context::Context;
use crate::error::ActionError;

/// `core.noop`: answers null.
pub(super) fn noop(_context: &Context, _input: &RawValue) -> Answer {
    Ok(null())
}

/// `core.echo`: answers its input.
pub(super) fn echo(_context: &Context, input: &RawValue) -> Answer {
    Ok(input.to_owned())
}

#[derive(Deserialize)]
struct Fail {
    times: Option<u32>,
    #[serde(default = "failed")]
    kind: String,
    #[serde(default = "asked_to")]
    message: String,
    #[serde(default = "yes")]
    retryable: bool,
    result: Option<RawJson>,
}

/// `core.fail`: fails the first attempts, or all, and then succeeds.
pub(super) fn fail(context: &Context, input: &RawValue) -> Answer {
    let fail: Fail = parse(input)?;
    if fail.times.is_some_and(|times| context.attempt > times) {
        return Ok(fail.result.unwrap_or_else(null));
    }
    let error = if fail.retryable {
        ActionError::retryable(fail.kind, fail.message)
    } else {
        ActionError::fatal(fail.kind, fail.message)
    };
    Err(match fail.result {
        Some(result) => error.with_result(result),
        None => error,
    })
}

#[derive(Deserialize)]
struct Log {
    message: serde_json::Value,
    #[serde(default)]
    level: Level,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "lowercase")]
enum Level {
    Trace,
    Debug,
    #[default]
    Info,
    Warn,
    Error,
}

/// `core.log`: writes a message to the worker's log and to the task's.
pub(super) fn log(context: &Context, input: &RawValue) -> Answer {
    let Log { message, level } = parse(input)?;
    let message = text(&message);
    context.log(&message);
    match level {
        Level::Trace => tracing::trace!(log.message = message, "core.log"),
        Level::Debug => tracing::debug!(log.message = message, "core.log"),
        Level::Info => tracing::info!(log.message = message, "core.log"),
        Level::Warn => tracing::warn!(log.message = message, "core.log"),
        Level::Error => tracing::error!(log.message = message, "core.log"),
    }
    Ok(null())
}

/// The input of `core.sleep`.
#[derive(Deserialize)]
pub(super) struct Sleep {
    /// Kept as it was written, since the result repeats it.
    seconds: serde_json::Number,
}

/// The result of `core.sleep`.
#[derive(Serialize)]
pub(super) struct Slept {
    slept: serde_json::Number,
}

/// `core.sleep`: answers after a while.
pub(super) async fn sleep(_context: Context, input: Sleep) -> Result<Slept, ActionError> {
    let seconds = input.seconds.as_f64().unwrap_or(f64::NAN);
    let duration = Duration::try_from_secs_f64(seconds)
        .map_err(|error| ActionError::fatal("invalid_input", format!("seconds: {error}")))?;
    tokio::time::sleep(duration).await;
    Ok(Slept {
        slept: input.seconds,
    })
}

fn null() -> RawJson {
    RawValue::NULL.to_owned()
}

fn failed() -> String {
    "failed".to_owned()
}

fn asked_to() -> String {
    "core.fail was asked to fail".to_owned()
}

fn yes() -> bool {
    true
}
