//! Bodies to messages: the border where everything that arrives is made valid once.
//!
//! ```text
//! envelope, body ── version ── type ── size ── scan.rs ── serde ── lengths ──> message
//!                      └────────┴───────┴────────┴──────────┴─────────┴──────> Refused
//! ```

use serde::de::DeserializeOwned;

use crate::completions::decode_completions;
use crate::envelope::Envelope;
use crate::ids::ExecutionId;
use crate::message::{
    CoordinatorProbe, RawJson, TaskCancel, TaskCompleted, TaskDead, TaskJob, TaskLog, TaskStarted,
    WorkflowControl, WorkflowStart,
};
use crate::names::{self, MAX_DEPTH, MAX_MESSAGE_BYTES};
use crate::refusal::{Refusal, Refused};
use crate::scan::check_json;

/// The body of `workflow.start`.
pub type StartMessage = WorkflowStart;

/// The longest workflow reference, version, task name, worker name or error kind, in bytes.
pub const MAX_NAME_BYTES: usize = 255;
/// The longest idempotency key, in bytes.
pub const MAX_KEY_BYTES: usize = 512;
/// The longest reason or value of a tag, in bytes.
pub const MAX_TEXT_BYTES: usize = 4_096;
/// The largest number of tags.
pub const MAX_TAGS: usize = 64;
/// The commands that `workflow.control` knows.
pub const COMMANDS: [&str; 5] = ["cancel", "pause", "resume", "rerun", "signal"];

/// What a partition's inbox holds.
#[derive(Debug, Clone)]
pub enum InboxMessage {
    /// Attempts have ended; a busy worker sends several at once.
    Completed(Vec<TaskCompleted>),
    /// An attempt has started.
    Started(TaskStarted),
    /// An attempt is alive.
    Heartbeat(TaskStarted),
    /// A job became a dead letter.
    Dead(TaskDead),
    /// Lines of a task's log.
    Log(TaskLog),
    /// The owner's own question how far the inbox has been read.
    Probe(CoordinatorProbe),
    /// A command, handed on from the control queue.
    Control(WorkflowControl),
}

/// Decodes a message of the start queue.
///
/// # Errors
/// [`Refused`] says what the dead letter is to say.
pub fn decode_start(envelope: &Envelope, body: &[u8]) -> Result<StartMessage, Refused> {
    check_envelope(envelope)?;
    expect_type(envelope, names::WORKFLOW_START)?;
    let start: WorkflowStart = parse(body)?;
    check_name("workflow", &start.workflow)?;
    if let Some(version) = &start.version {
        check_name("version", version)?;
    }
    check_object("parameters", start.parameters.as_ref())?;
    if let Some(key) = &start.idempotency_key {
        check_length("idempotency_key", key, MAX_KEY_BYTES)?;
    }
    if start.tags.len() > MAX_TAGS {
        let message = format!("more than {MAX_TAGS} tags");
        return Err(Refused::new(Refusal::InvalidValue, message));
    }
    for (name, value) in &start.tags {
        check_length("a tag's name", name, MAX_NAME_BYTES)?;
        check_length("a tag's value", value, MAX_TEXT_BYTES)?;
    }
    check_seconds("timeout", start.timeout)?;
    Ok(start)
}

/// Decodes a message of a partition's inbox. A missing type means `task.completed`.
///
/// # Errors
/// [`Refused`] says what the dead letter is to say, and may have salvaged completions.
pub fn decode_inbox(envelope: &Envelope, body: &[u8]) -> Result<InboxMessage, Refused> {
    check_envelope(envelope)?;
    match envelope.message_type.as_deref() {
        None | Some(names::TASK_COMPLETED) => decode_completions(body).map(InboxMessage::Completed),
        Some(names::TASK_STARTED) => started(body).map(InboxMessage::Started),
        Some(names::TASK_HEARTBEAT) => started(body).map(InboxMessage::Heartbeat),
        Some(names::TASK_DEAD) => {
            let dead: TaskDead = parse(body)?;
            check_attempt(dead.attempt)?;
            check_length("reason", &dead.reason, MAX_TEXT_BYTES)?;
            Ok(InboxMessage::Dead(dead))
        }
        Some(names::TASK_LOG) => log(body).map(InboxMessage::Log),
        Some(names::COORDINATOR_PROBE) => parse(body).map(InboxMessage::Probe),
        Some(names::WORKFLOW_CONTROL) => decode_control(envelope, body).map(InboxMessage::Control),
        Some(other) => Err(wrong_type(format!("type `{other}` in an inbox"))),
    }
}

/// Decodes a message of the control queue.
///
/// # Errors
/// [`Refused`] says what the dead letter is to say; for `unknown_command`, [`control_names`] has
/// what the reply needs.
pub fn decode_control(envelope: &Envelope, body: &[u8]) -> Result<WorkflowControl, Refused> {
    check_envelope(envelope)?;
    expect_type(envelope, names::WORKFLOW_CONTROL)?;
    // The command comes first: the fields of a command that is not known may be anything.
    let (_, command) = parse_control_names(body)?;
    if !COMMANDS.contains(&command.as_str()) {
        let message = format!("command `{command}`");
        return Err(Refused::new(Refusal::UnknownCommand, message));
    }
    let control: WorkflowControl = parse(body)?;
    if let Some(reason) = &control.reason {
        check_length("reason", reason, MAX_TEXT_BYTES)?;
    }
    for task in &control.from {
        check_name("from", task)?;
    }
    check_object("parameters", control.parameters.as_ref())?;
    check_object("vars", control.vars.as_ref())?;
    Ok(control)
}

/// The execution and the command of a control message, known command or not; `None` if the body
/// does not even have these.
#[must_use]
pub fn control_names(body: &[u8]) -> Option<(ExecutionId, String)> {
    parse_control_names(body).ok()
}

/// Decodes a job, for workers.
///
/// # Errors
/// [`Refused`] says what the dead letter is to say.
pub fn decode_job(envelope: &Envelope, body: &[u8]) -> Result<TaskJob, Refused> {
    check_envelope(envelope)?;
    expect_type(envelope, names::TASK_JOB)?;
    // A job's input may be as large as a message, and the fields around it come on top.
    let limit = MAX_MESSAGE_BYTES + names::MAX_COMPLETION_OVERHEAD_BYTES;
    let job: TaskJob = parse_within(body, limit)?;
    check_attempt(job.attempt)?;
    Ok(job)
}

/// Decodes a request to cancel an attempt, for workers.
///
/// # Errors
/// [`Refused`] says what is wrong; such a request is dropped.
pub fn decode_cancel(envelope: &Envelope, body: &[u8]) -> Result<TaskCancel, Refused> {
    check_envelope(envelope)?;
    expect_type(envelope, names::TASK_CANCEL)?;
    let cancel: TaskCancel = parse(body)?;
    check_attempt(cancel.attempt)?;
    Ok(cancel)
}

fn started(body: &[u8]) -> Result<TaskStarted, Refused> {
    let started: TaskStarted = parse(body)?;
    check_attempt(started.attempt)?;
    check_worker(started.worker.as_deref())?;
    check_seconds("heartbeat", started.heartbeat)?;
    Ok(started)
}

fn log(body: &[u8]) -> Result<TaskLog, Refused> {
    let log: TaskLog = parse(body)?;
    check_attempt(log.attempt)?;
    check_worker(log.worker.as_deref())?;
    for line in &log.lines {
        check_length("stream", &line.stream, MAX_NAME_BYTES)?;
    }
    Ok(log)
}

fn parse_control_names(body: &[u8]) -> Result<(ExecutionId, String), Refused> {
    #[derive(serde::Deserialize)]
    struct Names {
        execution_id: ExecutionId,
        command: String,
    }
    let names: Names = parse(body)?;
    check_length("command", &names.command, MAX_NAME_BYTES)?;
    Ok((names.execution_id, names.command))
}

pub(crate) fn check_envelope(envelope: &Envelope) -> Result<(), Refused> {
    match envelope.version {
        Some(version) if version > names::VERSION => {
            let message = format!(
                "version {version} of the contract, this is {}",
                names::VERSION
            );
            return Err(Refused::new(Refusal::NewerVersion, message));
        }
        Some(version) if version < 0 => return Err(wrong_type(format!("version {version}"))),
        Some(_) | None => {}
    }
    if envelope
        .texts()
        .into_iter()
        .flatten()
        .any(|text| text.contains('\0'))
    {
        let message = "a property holds the character U+0000";
        return Err(Refused::new(Refusal::InvalidValue, message));
    }
    Ok(())
}

pub(crate) fn expect_type(envelope: &Envelope, expected: &str) -> Result<(), Refused> {
    match envelope.message_type.as_deref() {
        Some(other) if other != expected => Err(wrong_type(format!(
            "type `{other}` in place of `{expected}`"
        ))),
        Some(_) | None => Ok(()),
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refused> {
    parse_within(body, MAX_MESSAGE_BYTES)
}

fn parse_within<T: DeserializeOwned>(body: &[u8], limit: usize) -> Result<T, Refused> {
    check_size(body, limit)?;
    check_json(body, MAX_DEPTH)?;
    read(body)
}

pub(crate) fn check_size(body: &[u8], limit: usize) -> Result<(), Refused> {
    if body.len() > limit {
        let message = format!("{} bytes, more than {limit}", body.len());
        return Err(Refused::new(Refusal::TooLarge, message));
    }
    Ok(())
}

/// Runs serde on a body that has been scanned.
pub(crate) fn read<'a, T: serde::Deserialize<'a>>(body: &'a [u8]) -> Result<T, Refused> {
    serde_json::from_slice(body).map_err(|error| {
        let refusal = match error.classify() {
            serde_json::error::Category::Data => Refusal::WrongType,
            serde_json::error::Category::Syntax
            | serde_json::error::Category::Eof
            | serde_json::error::Category::Io => Refusal::NotJson,
        };
        Refused::new(refusal, error.to_string())
    })
}

pub(crate) fn check_attempt(attempt: u32) -> Result<(), Refused> {
    // Postgres keeps it as an int.
    if attempt == 0 || i32::try_from(attempt).is_err() {
        return Err(wrong_type(format!("attempt {attempt}")));
    }
    Ok(())
}

pub(crate) fn check_worker(worker: Option<&str>) -> Result<(), Refused> {
    worker.map_or(Ok(()), |worker| {
        check_length("worker", worker, MAX_NAME_BYTES)
    })
}

fn check_name(field: &str, name: &str) -> Result<(), Refused> {
    if name.is_empty() {
        return Err(wrong_type(format!("`{field}` is empty")));
    }
    check_length(field, name, MAX_NAME_BYTES)
}

pub(crate) fn check_length(field: &str, text: &str, limit: usize) -> Result<(), Refused> {
    if text.len() > limit {
        let message = format!("{field} has {} bytes, more than {limit}", text.len());
        return Err(Refused::new(Refusal::InvalidValue, message));
    }
    Ok(())
}

fn check_object(field: &str, value: Option<&RawJson>) -> Result<(), Refused> {
    match value {
        Some(value) if !value.get().starts_with('{') => {
            Err(wrong_type(format!("`{field}` is not an object")))
        }
        Some(_) | None => Ok(()),
    }
}

fn check_seconds(field: &str, seconds: Option<f64>) -> Result<(), Refused> {
    match seconds {
        Some(seconds) if seconds <= 0.0 => Err(wrong_type(format!("`{field}` is not positive"))),
        Some(_) | None => Ok(()),
    }
}

pub(crate) fn wrong_type(message: String) -> Refused {
    Refused::new(Refusal::WrongType, message)
}
