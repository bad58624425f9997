//! The worker under test as a process group of its own: started, killed, frozen, thawed, stopped.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use crate::failure::Failure;

/// How long a worker may take to drain at the end.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// A worker that is started by a command.
#[derive(Debug)]
pub struct Process {
    command: String,
    amqp_url: String,
    running: Option<(Child, Pid)>,
}

impl Process {
    /// A worker that does not run yet.
    pub fn new(command: &str, amqp_url: &str) -> Self {
        Self {
            command: command.to_owned(),
            amqp_url: amqp_url.to_owned(),
            running: None,
        }
    }

    /// Starts it. Its stderr is that of the test, its stdout is dropped.
    pub fn start(&mut self) -> Result<(), Failure> {
        let could_not = |error: std::io::Error| {
            Failure::refused(format!("could not start `{}`", self.command)).because(error)
        };
        let child = Command::new("sh")
            .args(["-c", &self.command])
            .env("AMQP_URL", &self.amqp_url)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(could_not)?;
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        let id = id.ok_or_else(|| could_not(std::io::Error::other("the process has no id")))?;
        self.running = Some((child, Pid::from_raw(id)));
        Ok(())
    }

    /// How it has ended, if it has ended by itself.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let (child, _) = self.running.as_mut()?;
        child.try_wait().ok().flatten()
    }

    /// Whether it was started and runs.
    pub fn is_running(&mut self) -> bool {
        self.running.is_some() && self.ended().is_none()
    }

    /// Sends SIGKILL and waits for the end.
    pub async fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        if let Some((mut child, _)) = self.running.take()
            && let Err(error) = child.wait().await
        {
            tracing::warn!(%error, "a killed worker could not be reaped");
        }
    }

    /// Sends SIGSTOP: it gets no time until it is thawed.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Sends SIGCONT.
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Sends SIGTERM, and SIGKILL if that takes too long.
    pub async fn stop(&mut self) {
        self.thaw();
        self.signal(Signal::SIGTERM);
        if let Some((child, _)) = &mut self.running {
            // Whatever comes of it: what is left is killed.
            let _ = tokio::time::timeout(STOP_LIMIT, child.wait()).await;
        }
        self.kill().await;
    }

    /// A group that is gone needs no signal.
    fn signal(&self, signal: Signal) {
        if let Some((_, group)) = &self.running {
            let _ = killpg(*group, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
    }
}
