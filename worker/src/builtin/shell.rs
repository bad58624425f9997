//! `core.shell`: runs a program or a script of the shell.
//!
//! Values reach a script through its environment and its standard input and never by being pasted
//! into its text, so that no input can become a command.

use std::collections::BTreeMap;
use std::process::{ExitStatus, Stdio};

use flotilla_protocol::RawJson;
use flotilla_protocol::names::MAX_DEPTH;
use flotilla_protocol::scan::check_json;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::io::AsyncWriteExt;
use tokio::process::{ChildStdin, Command};

use super::output::Output;
use super::process::{ProcessGroup, attend, how_it_ended, set_environment};
use super::text;
use crate::action::Answer;
use crate::context::Context;
use crate::error::ActionError;
use crate::log::{AttemptLog, Stream};

/// The input of `core.shell`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Shell {
    argv: Option<Vec<String>>,
    script: Option<String>,
    stdin: Option<Value>,
    #[serde(default)]
    env: BTreeMap<String, Value>,
    cwd: Option<String>,
}

/// The result of `core.shell`.
#[derive(Debug, Serialize)]
pub(super) struct Finished {
    /// Null if a signal ended the process.
    exit_code: Option<i32>,
    stdout: String,
    stderr: String,
    json: Option<RawJson>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stdout_truncated: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stderr_truncated: bool,
}

/// Refuses to run anything.
pub(super) fn refuse(_context: &Context, _input: &RawValue) -> Answer {
    let message = "this worker runs no programs; start it with --allow-shell";
    Err(ActionError::fatal("shell_not_allowed", message))
}

/// Runs the program.
pub(super) async fn run(context: Context, input: Shell) -> Result<Finished, ActionError> {
    let mut command = command(&input)?;
    set_environment(&mut command, &context, &input.env);
    if let Some(cwd) = &input.cwd {
        command.current_dir(cwd);
    }
    let stdin = input.stdin.as_ref().map(text);
    command
        .stdin(if stdin.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut group = ProcessGroup::spawn(command, &context.leftovers)
        .map_err(|error| ActionError::fatal("spawn_failed", error.to_string()))?;
    let (status, stdout, stderr) = communicate(&mut group, stdin, &context.log).await?;
    judge(status, &stdout, &stderr)
}

fn command(input: &Shell) -> Result<Command, ActionError> {
    match (&input.argv, &input.script) {
        (Some(argv), None) => {
            let (program, arguments) = argv
                .split_first()
                .ok_or_else(|| ActionError::fatal("invalid_input", "`argv` is empty"))?;
            let mut command = Command::new(program);
            command.args(arguments);
            Ok(command)
        }
        (None, Some(script)) => {
            let mut command = Command::new("/bin/sh");
            command.arg("-c").arg(script);
            Ok(command)
        }
        (Some(_), Some(_)) | (None, None) => {
            let message = "either `argv` or `script` is needed";
            Err(ActionError::fatal("invalid_input", message))
        }
    }
}

/// Feeds the process, reads what it writes, and waits for its end, all at once: a process may stop
/// reading while it waits for somebody to take its output.
async fn communicate(
    group: &mut ProcessGroup,
    stdin: Option<String>,
    log: &AttemptLog,
) -> Result<(ExitStatus, Output, Output), ActionError> {
    let child = group.child();
    let (pipe, mut out, mut err) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let mut stdout = Output::new(Stream::Stdout, log);
    let mut stderr = Output::new(Stream::Stderr, log);
    let talking = async {
        tokio::join!(
            feed(pipe, stdin),
            stdout.read(out.as_mut()),
            stderr.read(err.as_mut())
        )
    };
    let status = attend(group, talking).await?;
    Ok((status, stdout, stderr))
}

/// Writes the input. A process that does not want it closes the pipe, and that is its right.
async fn feed(pipe: Option<ChildStdin>, stdin: Option<String>) {
    if let (Some(mut pipe), Some(stdin)) = (pipe, stdin)
        && let Err(error) = pipe.write_all(stdin.as_bytes()).await
    {
        tracing::debug!(%error, "the process did not read all of its input");
    }
}

fn judge(status: ExitStatus, stdout: &Output, stderr: &Output) -> Result<Finished, ActionError> {
    let finished = Finished {
        exit_code: status.code(),
        json: json(stdout),
        stdout: stdout.text(),
        stderr: stderr.text(),
        stdout_truncated: stdout.is_truncated,
        stderr_truncated: stderr.is_truncated,
    };
    match how_it_ended(status) {
        None => Ok(finished),
        Some(error) => Err(error.with_result(finished)),
    }
}

/// The output as JSON, if it is JSON that can be stored.
fn json(stdout: &Output) -> Option<RawJson> {
    let text = stdout.text();
    let is_sound = !stdout.is_truncated
        // The result nests it once more, and the completion again.
        && check_json(text.as_bytes(), MAX_DEPTH - 2).is_ok();
    is_sound.then(|| serde_json::from_str(&text).ok()).flatten()
}
