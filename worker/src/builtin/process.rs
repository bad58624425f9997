//! A child process with all that it starts: one process group, which does not outlive its attempt.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::process::{Child, Command};

use super::text;
use crate::context::{Context, Leftovers};
use crate::error::ActionError;

/// What of the worker's own environment a program does not get: they hold passwords.
const WITHHELD: [&str; 2] = ["AMQP_URL", "DATABASE_URL"];
/// How long the output may go on after the end of the process group: somebody has left the group and
/// keeps the pipe open.
const OUTPUT_LIMIT: Duration = Duration::from_secs(1);

/// How long a process group may clean up between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(2);
/// How often a group that was told to end is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// Gives a command what it is to know of its attempt, and what the user sets.
pub(super) fn set_environment(
    command: &mut Command,
    context: &Context,
    env: &BTreeMap<String, Value>,
) {
    for name in WITHHELD {
        command.env_remove(name);
    }
    command
        .env("FLOTILLA_EXECUTION_ID", context.execution_id.to_string())
        .env("FLOTILLA_TASK_ID", context.task_id.to_string())
        .env("FLOTILLA_ATTEMPT", context.attempt.to_string())
        .env("FLOTILLA_IDEMPOTENCY_KEY", &context.idempotency_key)
        .env("FLOTILLA_WORKFLOW", &context.workflow)
        .env("FLOTILLA_TASK", &context.task);
    for (name, value) in env {
        command.env(name, text(value));
    }
}

/// Waits for the end of a process while somebody talks with it.
pub(super) async fn attend<T>(
    group: &mut ProcessGroup,
    talking: impl Future<Output = T>,
) -> std::io::Result<ExitStatus> {
    let mut talking = std::pin::pin!(talking);
    let mut is_done = false;
    let status = loop {
        tokio::select! {
            status = group.wait() => break status?,
            _ = &mut talking, if !is_done => is_done = true,
        }
    };
    if !is_done && tokio::time::timeout(OUTPUT_LIMIT, talking).await.is_err() {
        tracing::debug!("the output goes on after the end of the process");
    }
    Ok(status)
}

/// The failure that an end means, unless it is a success.
pub(super) fn how_it_ended(status: ExitStatus) -> Option<ActionError> {
    let (kind, message) = match (status.code(), status.signal()) {
        (Some(0), _) => return None,
        (Some(code), _) => ("exit_code", format!("the process exited with {code}")),
        (None, Some(signal)) => ("signal", format!("signal {signal} ended the process")),
        (None, None) => ("signal", format!("the process ended with {status}")),
    };
    Some(ActionError::retryable(kind, message))
}

/// A process group, killed when this is dropped.
pub(super) struct ProcessGroup {
    child: Option<Child>,
    group: Pid,
    leftovers: Leftovers,
}

impl ProcessGroup {
    /// Starts a command as the leader of a group of its own.
    pub(super) fn spawn(mut command: Command, leftovers: &Leftovers) -> std::io::Result<Self> {
        let child = command.process_group(0).spawn()?;
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        let id = id.ok_or_else(|| std::io::Error::other("the process has no id"))?;
        Ok(Self {
            child: Some(child),
            group: Pid::from_raw(id),
            leftovers: leftovers.clone(),
        })
    }

    /// The leader.
    pub(super) fn child(&mut self) -> &mut Child {
        self.child.as_mut().expect("it is taken on drop alone")
    }

    /// Waits for the leader, then kills what it left behind in its group: nobody would wait for it.
    pub(super) async fn wait(&mut self) -> std::io::Result<ExitStatus> {
        let status = self.child().wait().await?;
        signal(self.group, Signal::SIGKILL);
        Ok(status)
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        let Some(child) = self.child.take() else {
            return;
        };
        // Reaped already: `wait` has killed the rest, and the id may belong to another by now.
        if child.id().is_none() {
            return;
        }
        signal(self.group, Signal::SIGTERM);
        let killer = Killer(self.group);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            self.leftovers.add(runtime.spawn(end(child, killer)));
        }
    }
}

/// Sends SIGKILL to a group when it is dropped, even if that is because the runtime goes.
struct Killer(Pid);

impl Drop for Killer {
    fn drop(&mut self) {
        signal(self.0, Signal::SIGKILL);
    }
}

/// Gives a group that got SIGTERM its grace, kills it, and reaps the leader.
async fn end(mut child: Child, killer: Killer) {
    let group = killer.0;
    let ending = async {
        while killpg(group, None).is_ok() {
            // Reaping the leader as soon as it is dead lets the group vanish.
            let _ = child.try_wait();
            tokio::time::sleep(LOOK).await;
        }
    };
    if tokio::time::timeout(GRACE, ending).await.is_ok() {
        std::mem::forget(killer);
        return;
    }
    drop(killer);
    if let Err(error) = child.wait().await {
        tracing::warn!(%error, "a killed process could not be reaped");
    }
}

/// A group that is gone needs no signal.
fn signal(group: Pid, signal: Signal) {
    let _ = killpg(group, signal);
}
