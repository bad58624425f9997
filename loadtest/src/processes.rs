//! The processes that a run starts: the `flotilla` binary beside this one.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::arguments::FleetArguments;
use crate::failure::Failure;
use crate::shape::Workflow;

/// How long a service may take to be ready.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// How long a service may take to drain.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// Services that end with the run.
#[derive(Debug, Default)]
pub struct Processes {
    coordinators: Vec<Child>,
    workers: Vec<Child>,
    logs: Logs,
}

/// The files that services logged into.
#[derive(Debug, Default)]
pub struct Logs {
    /// Of the coordinators.
    pub coordinators: Vec<PathBuf>,
    /// Of the workers.
    pub workers: Vec<PathBuf>,
}

impl Processes {
    /// Starts what the arguments ask for and waits until all of it consumes. With `callgrind` they run
    /// under it, and each leaves its counts in the folder.
    pub async fn start(
        arguments: &FleetArguments,
        folder: &Path,
        callgrind: bool,
    ) -> Result<Self, Failure> {
        let mut processes = Self::default();
        for number in 0..arguments.coordinators {
            let log = folder.join(format!("coordinator-{number}.log"));
            let runner = runner(arguments, &log, callgrind)?;
            let child = service(runner, &log, "coordinator", number).await?;
            processes.coordinators.push(child);
            processes.logs.coordinators.push(log);
        }
        for number in 0..arguments.workers {
            let log = folder.join(format!("worker-{number}.log"));
            let runner = runner(arguments, &log, callgrind)?;
            let child = service(runner, &log, "worker", number).await?;
            processes.workers.push(child);
            processes.logs.workers.push(log);
        }
        Ok(processes)
    }

    /// Process ids of the coordinators.
    pub fn coordinators(&self) -> Vec<u32> {
        self.coordinators.iter().filter_map(Child::id).collect()
    }

    /// Process ids of the workers.
    pub fn workers(&self) -> Vec<u32> {
        self.workers.iter().filter_map(Child::id).collect()
    }

    /// Asks all to drain, workers first, and waits for it; returns what they logged.
    pub async fn stop(self) -> Logs {
        for mut child in self.workers.into_iter().chain(self.coordinators) {
            if let Some(id) = child.id().and_then(|id| i32::try_from(id).ok()) {
                // It may have ended by itself, which the wait tells.
                let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
            }
            if tokio::time::timeout(STOP_LIMIT, child.wait())
                .await
                .is_err()
            {
                eprintln!("flotilla-loadtest: a process did not stop and is killed");
                // Nothing is left to do about one that does not even die.
                let _ = child.kill().await;
            }
        }
        self.logs
    }
}

/// Brings the database to this version and registers the workflows.
pub async fn prepare(
    arguments: &FleetArguments,
    folder: &Path,
    workflows: &[Workflow],
) -> Result<(), Failure> {
    run(arguments, &["migrate"]).await?;
    for workflow in workflows {
        let file = folder.join(format!("{}.yaml", workflow.reference));
        std::fs::write(&file, &workflow.source).map_err(|source| Failure::File {
            path: file.clone(),
            source,
        })?;
        run(arguments, &["register", &file.to_string_lossy()]).await?;
    }
    Ok(())
}

async fn run(arguments: &FleetArguments, words: &[&str]) -> Result<(), Failure> {
    let path = binary(arguments)?;
    let output = command(&path, arguments).args(words).output().await;
    let output = output.map_err(|source| Failure::File { path, source })?;
    if output.status.success() {
        return Ok(());
    }
    let detail = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Failure::Command {
        command: words[0].to_owned(),
        detail,
        code: output.status.code(),
    })
}

/// The program, or what runs it and counts what it does.
fn runner(
    arguments: &FleetArguments,
    log: &Path,
    callgrind: bool,
) -> Result<(PathBuf, Command), Failure> {
    let path = binary(arguments)?;
    if !callgrind {
        let command = command(&path, arguments);
        return Ok((path, command));
    }
    let valgrind = PathBuf::from("valgrind");
    let mut command = command(&valgrind, arguments);
    let counts = log.with_extension("callgrind");
    command
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", counts.display()))
        .arg(path);
    Ok((valgrind, command))
}

async fn service(
    (path, mut runner): (PathBuf, Command),
    log: &Path,
    name: &str,
    number: u16,
) -> Result<Child, Failure> {
    let stderr = File::create(log).map_err(|source| Failure::File {
        path: log.to_owned(),
        source,
    })?;
    let mut child = runner
        .args([name, "--name", &format!("loadtest-{name}-{number}")])
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()
        .map_err(|source| Failure::File { path, source })?;
    let ready = async {
        let mut lines = BufReader::new(child.stdout.take()?).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if line == "ready" {
                return Some(());
            }
        }
        None
    };
    let is_ready = matches!(tokio::time::timeout(READY_LIMIT, ready).await, Ok(Some(())));
    if is_ready {
        return Ok(child);
    }
    let said = std::fs::read_to_string(log).unwrap_or_default();
    let detail = said.lines().rev().take(5).collect::<Vec<_>>().join(" / ");
    Err(Failure::Command {
        command: name.to_owned(),
        detail,
        code: child
            .try_wait()
            .ok()
            .flatten()
            .and_then(|status| status.code()),
    })
}

fn command(path: &Path, arguments: &FleetArguments) -> Command {
    let mut command = Command::new(path);
    command
        .env("DATABASE_URL", &arguments.database_url)
        .env("AMQP_URL", &arguments.amqp_url)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// `flotilla`: as given, or in the folder of this program.
fn binary(arguments: &FleetArguments) -> Result<PathBuf, Failure> {
    if let Some(given) = &arguments.flotilla {
        return Ok(given.clone());
    }
    let own = std::env::current_exe();
    let own = own.map_err(|source| Failure::File {
        path: PathBuf::from("flotilla-loadtest"),
        source,
    })?;
    Ok(own.with_file_name("flotilla"))
}
