//! `core.python`: runs a script of Python 3 in a process of its own.
//!
//! Script and input reach the process over a socket, and its result comes back the same way: what it
//! prints is the task's log and nothing else.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::process::{ExitStatus, Stdio};

use flotilla_protocol::RawJson;
use flotilla_protocol::names::MAX_MESSAGE_BYTES;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::Command;

use super::output::Output;
use super::process::{ProcessGroup, attend, how_it_ended, set_environment};
use crate::context::Context;
use crate::error::ActionError;
use crate::log::Stream;

/// What the process runs: it reads the script and runs it.
const RUNNER: &str = include_str!("python.py");
/// The most bytes of an answer: a result of full size with what is around it, or a long traceback.
const MAX_ANSWER_BYTES: usize = MAX_MESSAGE_BYTES + 64;

/// The input of `core.python`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Python {
    script: String,
    input: Option<RawJson>,
    requirements: Option<serde_json::Value>,
}

/// What the process is told.
#[derive(Serialize)]
struct Order<'a> {
    script: &'a str,
    input: &'a RawValue,
}

/// What the process answers: one of these.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Reply {
    #[serde(deserialize_with = "even_null")]
    result: Option<RawJson>,
    error: Option<Raised>,
    /// Why the result is no JSON.
    unusable: Option<String>,
}

/// Null is a result, too.
fn even_null<'de, D: Deserializer<'de>>(json: D) -> Result<Option<RawJson>, D::Error> {
    RawJson::deserialize(json).map(Some)
}

/// An exception that the script did not catch.
#[derive(Debug, Deserialize)]
struct Raised {
    #[serde(rename = "type")]
    class: String,
    message: String,
    line: Option<u32>,
    traceback: String,
    is_syntax: bool,
}

/// Runs the script.
pub(super) async fn run(context: Context, input: Python) -> Result<RawJson, ActionError> {
    if input.requirements.is_some() {
        let message = "requirements: a job installs nothing; install the packages where the worker runs, and leave `requirements` out";
        return Err(ActionError::fatal("invalid_input", message));
    }
    let (near, far) = UnixStream::pair()?;
    let far = far.into_std()?;
    far.set_nonblocking(false)?;
    let mut command = Command::new("python3");
    command
        .args(["-u", "-c", RUNNER])
        .stdin(Stdio::from(OwnedFd::from(far)))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    set_environment(&mut command, &context, &BTreeMap::new());
    let mut group = ProcessGroup::spawn(command, &context.leftovers)
        .map_err(|error| ActionError::fatal("spawn_failed", format!("python3: {error}")))?;
    let order = Order {
        script: &input.script,
        input: input.input.as_deref().unwrap_or(RawValue::NULL),
    };
    let order = serde_json::to_vec(&order)?;
    let mut stdout = Output::new(Stream::Stdout, &context.log);
    let mut stderr = Output::new(Stream::Stderr, &context.log);
    let mut answer = Vec::new();
    let child = group.child();
    let (mut out, mut err) = (child.stdout.take(), child.stderr.take());
    let talking = async {
        tokio::join!(
            talk(near, &order, &mut answer),
            stdout.read(out.as_mut()),
            stderr.read(err.as_mut())
        )
    };
    let status = attend(&mut group, talking).await?;
    judge(status, &answer, &stderr)
}

/// Sends the order, and reads the answer. A process that breaks off has its end to say why.
async fn talk(mut channel: UnixStream, order: &[u8], answer: &mut Vec<u8>) {
    let talking = async {
        channel.write_all(order).await?;
        channel.shutdown().await?;
        let mut limited = channel.take(MAX_ANSWER_BYTES as u64 + 1);
        limited.read_to_end(answer).await
    };
    if let Err(error) = talking.await {
        tracing::debug!(%error, "the script broke off");
    }
}

fn judge(status: ExitStatus, answer: &[u8], stderr: &Output) -> Result<RawJson, ActionError> {
    if answer.len() > MAX_ANSWER_BYTES {
        let message = format!("the result has more than {MAX_MESSAGE_BYTES} bytes");
        return Err(ActionError::fatal("limit_exceeded", message));
    }
    // What broke off is no answer.
    let reply: Reply = serde_json::from_slice(answer).unwrap_or_default();
    if let Some(raised) = reply.error {
        return Err(raised.into());
    }
    if let Some(why) = reply.unusable {
        let message = format!("`result` cannot be written as JSON: {why}");
        return Err(ActionError::fatal("invalid_result", message));
    }
    match (reply.result, how_it_ended(status)) {
        (Some(result), None) => Ok(result),
        (Some(_) | None, Some(error)) => Err(error.with_details(
            serde_json::json!({"exit_code": status.code(), "stderr": stderr.text()}),
        )),
        (None, None) => {
            let message = "the script ended the process before its result was told";
            Err(ActionError::retryable("exit_code", message))
        }
    }
}

impl From<Raised> for ActionError {
    fn from(raised: Raised) -> Self {
        let message = match raised.line {
            Some(line) => format!("{} (line {line} of the script)", raised.message),
            None => raised.message,
        };
        let error = if raised.is_syntax {
            Self::fatal("python_error", message)
        } else {
            Self::retryable("python_error", message)
        };
        error.with_details(serde_json::json!({
            "type": raised.class, "line": raised.line, "traceback": raised.traceback
        }))
    }
}
