//! A process of the fleet: started, waited for, stopped or killed, and shown when a test fails.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait::{LIMIT, wait_until};

/// Lines of a log that a failing test shows.
const SHOWN_LINES: usize = 80;

/// A running process; killed when dropped.
#[derive(Debug)]
pub struct Service {
    name: String,
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Service {
    /// Starts a command with its output in files of `folder`.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn spawn(name: &str, folder: &Path, command: &mut Command) -> Self {
        let (stdout, stderr) = (
            folder.join(format!("{name}.out")),
            folder.join(format!("{name}.log")),
        );
        let create = |path: &Path| File::create(path).expect("the folder of the fleet is ours");
        let child = command
            .stdin(Stdio::null())
            .stdout(create(&stdout))
            .stderr(create(&stderr))
            .spawn()
            .expect("the process can be started");
        Self {
            name: name.to_owned(),
            child,
            stdout,
            stderr,
        }
    }

    /// Waits for the line `ready`.
    ///
    /// # Panics
    /// When the process ends before, or says nothing.
    pub async fn ready(mut self) -> Self {
        wait_until(&format!("{} was ready", self.name), LIMIT, async || {
            let said = fs::read_to_string(&self.stdout).unwrap_or_default();
            if said.lines().any(|line| line == "ready") {
                return true;
            }
            let ended = self.child.try_wait().expect("a child can be waited for");
            assert!(ended.is_none(), "{} ended: {ended:?}", self.name);
            false
        })
        .await;
        self
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    ///
    /// # Panics
    /// Never, short of a kernel that does not know its children.
    pub fn is_running(&mut self) -> bool {
        self.child
            .try_wait()
            .expect("a child can be waited for")
            .is_none()
    }

    /// Sends SIGKILL and waits for the end.
    ///
    /// # Panics
    /// When it had ended before: then the test would not test what it says.
    pub fn kill(mut self) {
        assert!(self.is_running(), "{} ended by itself", self.name);
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a child can be waited for");
    }

    /// Sends SIGTERM and waits for a clean end.
    ///
    /// # Panics
    /// When the process fails or takes too long.
    pub async fn stop(mut self) {
        self.signal(Signal::SIGTERM);
        let status = self.ended().await;
        assert!(
            status.success(),
            "{} did not end cleanly: {status}",
            self.name
        );
    }

    /// Waits until the process has ended by itself.
    ///
    /// # Panics
    /// When it does not.
    pub async fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until(&format!("{} ended", self.name), LIMIT, async || {
            status = self.child.try_wait().expect("a child can be waited for");
            status.is_some()
        })
        .await;
        status.expect("it has ended")
    }

    /// Freezes the process: it gets no time until it is thawed.
    ///
    /// # Panics
    /// When the process is gone.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets a frozen process go on.
    ///
    /// # Panics
    /// When the process is gone.
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// When the process is gone.
    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).expect("process ids are small");
        kill(Pid::from_raw(id), signal).expect("the process is there");
    }

    /// What it has written to stdout.
    #[must_use]
    pub fn said(&self) -> String {
        fs::read_to_string(&self.stdout).unwrap_or_default()
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap_or_default()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let ended = self.child.try_wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let shown = lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n");
            eprintln!(
                "---- {} (ended: {ended:?}), the end of its log:\n{shown}\n",
                self.name
            );
        }
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
