//! The coordinators and workers of a run: processes of the real binary.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::Failure;
use crate::options::RunOptions;
use crate::shape;

const READY_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(40);

/// The `flotilla` binary: the one named, or the one beside this program.
pub fn binary(options: &RunOptions) -> Result<PathBuf, Failure> {
    let beside = std::env::current_exe()?.with_file_name("flotilla");
    let binary = options.flotilla.clone().unwrap_or(beside);
    if binary.is_file() {
        return Ok(binary);
    }
    Err(format!(
        "there is no program {}; build it or name it with --flotilla",
        binary.display()
    )
    .into())
}

/// Migrates, and registers the workflow of the run.
pub async fn prepare(binary: &Path, options: &RunOptions) -> Result<(), Failure> {
    let path = std::env::temp_dir().join(format!("flotilla-loadtest-{}.yaml", std::process::id()));
    std::fs::write(&path, shape::definition(options.shape, options.length))?;
    let migrated = once(binary, options, &["migrate"]).await;
    let registered = match migrated {
        Ok(()) => once(binary, options, &["register", &path.to_string_lossy()]).await,
        Err(failure) => Err(failure),
    };
    std::fs::remove_file(&path)?;
    registered
}

async fn once(binary: &Path, options: &RunOptions, arguments: &[&str]) -> Result<(), Failure> {
    let output = command(binary, options).args(arguments).output().await?;
    if output.status.success() {
        return Ok(());
    }
    let error = String::from_utf8_lossy(&output.stderr);
    Err(format!("flotilla {} failed: {}", arguments[0], error.trim()).into())
}

fn command(binary: &Path, options: &RunOptions) -> Command {
    let mut command = Command::new(binary);
    command
        .env("DATABASE_URL", &options.database_url)
        .env("AMQP_URL", &options.amqp_url)
        .stdin(Stdio::null());
    command
}

/// Processes that belong to the run.
pub struct Fleet {
    processes: Vec<(&'static str, Child)>,
}

impl Fleet {
    /// Starts the processes and waits until each consumes.
    pub async fn start(binary: &Path, options: &RunOptions) -> Result<Self, Failure> {
        let mut fleet = Self {
            processes: Vec::new(),
        };
        for _ in 0..options.coordinators {
            fleet
                .add("coordinator", command(binary, options).arg("coordinator"))
                .await?;
        }
        for _ in 0..options.workers {
            let mut worker = command(binary, options);
            worker.arg("worker");
            if let Some(concurrency) = options.concurrency {
                worker.args(["--concurrency", &concurrency.to_string()]);
            }
            fleet.add("worker", &mut worker).await?;
        }
        Ok(fleet)
    }

    async fn add(&mut self, role: &'static str, command: &mut Command) -> Result<(), Failure> {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()?;
        let stdout = child.stdout.take().ok_or("a process without an output")?;
        let mut lines = BufReader::new(stdout).lines();
        let ready = tokio::time::timeout(READY_LIMIT, lines.next_line()).await;
        match ready {
            Ok(Ok(Some(line))) if line == "ready" => {}
            Ok(Ok(_)) => return Err(format!("the {role} has ended before it was ready").into()),
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => return Err(format!("the {role} is not ready after {READY_LIMIT:?}").into()),
        }
        self.processes.push((role, child));
        Ok(())
    }

    /// Role and process id of each process.
    pub fn pids(&self) -> impl Iterator<Item = (&'static str, u32)> {
        self.processes
            .iter()
            .filter_map(|(role, child)| Some((*role, child.id()?)))
    }

    /// Asks all to drain, and waits for them.
    pub async fn stop(mut self) {
        for (_, pid) in self.pids() {
            let pid = Pid::from_raw(pid.cast_signed());
            // A process that has ended already is not there to be told.
            let _ = kill(pid, Signal::SIGTERM);
        }
        for (role, child) in &mut self.processes {
            if tokio::time::timeout(STOP_LIMIT, child.wait())
                .await
                .is_err()
            {
                eprintln!("warning: a {role} did not stop and is killed");
                let _ = child.kill().await;
            }
        }
    }
}
