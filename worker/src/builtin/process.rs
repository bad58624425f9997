//! A child process with all that it starts: one process group, which does not outlive its attempt.

use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use crate::context::Leftovers;

/// How long a process group may clean up between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(2);
/// How often a group that was told to end is looked at.
const LOOK: Duration = Duration::from_millis(10);

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
    pub(super) async fn wait(&mut self) -> std::io::Result<std::process::ExitStatus> {
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
