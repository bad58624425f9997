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

/// Lines of a log that are shown where its service failed.
const SHOWN_LINES: usize = 5;

/// Services that end with the run.
#[derive(Debug, Default)]
pub struct Processes {
    coordinators: Vec<Service>,
    workers: Vec<Service>,
}

/// One of them.
#[derive(Debug)]
struct Service {
    name: String,
    child: Child,
    log: PathBuf,
}

/// What services have left.
#[derive(Debug, Default)]
pub struct Stopped {
    /// The logs of the coordinators.
    pub coordinators: Vec<PathBuf>,
    /// Of the workers.
    pub workers: Vec<PathBuf>,
    /// How many did not drain and end well when they were told to.
    pub failed: usize,
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
            let service = service(arguments, folder, ("coordinator", number), callgrind).await?;
            processes.coordinators.push(service);
        }
        for number in 0..arguments.workers {
            let service = service(arguments, folder, ("worker", number), callgrind).await?;
            processes.workers.push(service);
        }
        Ok(processes)
    }

    /// Process ids of the coordinators.
    pub fn coordinators(&self) -> Vec<u32> {
        ids(&self.coordinators)
    }

    /// Process ids of the workers.
    pub fn workers(&self) -> Vec<u32> {
        ids(&self.workers)
    }

    /// Asks all to drain, workers first, and waits for it; says which did not end well, and how.
    pub async fn stop(self) -> Stopped {
        let mut stopped = Stopped::default();
        for mut service in self.workers {
            stopped.failed += usize::from(!service.stop(STOP_LIMIT).await);
            stopped.workers.push(service.log);
        }
        for mut service in self.coordinators {
            stopped.failed += usize::from(!service.stop(STOP_LIMIT).await);
            stopped.coordinators.push(service.log);
        }
        stopped
    }
}

fn ids(services: &[Service]) -> Vec<u32> {
    let ids = services.iter();
    ids.filter_map(|service| service.child.id()).collect()
}

impl Service {
    /// Stops it, and tells people if it did not end well: whether it did.
    async fn stop(&mut self, limit: Duration) -> bool {
        let Some(how) = self.failure(limit).await else {
            return true;
        };
        eprintln!(
            "flotilla-loadtest: {} {how}; its log ends with: {}",
            self.name,
            last_lines(&self.log)
        );
        false
    }

    /// Tells it to drain and waits for it; how it ended, unless it was as it should.
    async fn failure(&mut self, limit: Duration) -> Option<String> {
        match self.child.try_wait() {
            Ok(Some(status)) => return Some(format!("ended before it was told to ({status})")),
            Ok(None) => {}
            Err(error) => return Some(format!("cannot be waited for ({error})")),
        }
        if let Some(id) = self.child.id().and_then(|id| i32::try_from(id).ok()) {
            // It may end by itself meanwhile, which the wait tells.
            let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
        }
        match tokio::time::timeout(limit, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => None,
            Ok(Ok(status)) => Some(format!("did not end well when it was told to ({status})")),
            Ok(Err(error)) => Some(format!("cannot be waited for ({error})")),
            Err(_) => {
                // Nothing is left to do about one that does not even die.
                let _ = self.child.kill().await;
                Some(format!("did not end within {limit:?} and was killed"))
            }
        }
    }
}

/// The end of a log, in one line.
fn last_lines(log: &Path) -> String {
    let said = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = said.lines().collect();
    let lines = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
    lines.join(" / ")
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
    arguments: &FleetArguments,
    folder: &Path,
    (kind, number): (&str, u16),
    callgrind: bool,
) -> Result<Service, Failure> {
    let log = folder.join(format!("{kind}-{number}.log"));
    let (path, mut runner) = runner(arguments, &log, callgrind)?;
    let name = format!("loadtest-{kind}-{number}");
    let stderr = File::create(&log).map_err(|source| Failure::File {
        path: log.clone(),
        source,
    })?;
    let mut child = runner
        .args([kind, "--name", &name])
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
        return Ok(Service { name, child, log });
    }
    Err(Failure::Command {
        command: kind.to_owned(),
        detail: last_lines(&log),
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
        .env("DATABASE_URL", &arguments.database.url)
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

#[cfg(test)]
mod tests {
    use tokio::process::ChildStdin;

    use super::*;
    use crate::session::Folder;

    /// A service that is a script of the shell, once it has said that it is ready. It may wait until the
    /// other end of its stdin is let go.
    async fn script(folder: &Folder, script: &str) -> (Service, ChildStdin) {
        let log = folder.0.join("log");
        let mut child = Command::new("bash")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).expect("the folder is there"))
            .kill_on_drop(true)
            .spawn()
            .expect("bash is here");
        let stdout = child.stdout.take().expect("it is piped");
        let mut lines = BufReader::new(stdout).lines();
        let line = lines.next_line().await.expect("it can be read");
        assert_eq!(line.as_deref(), Some("ready"));
        let stdin = child.stdin.take().expect("it is piped");
        let name = "loadtest-worker-0".to_owned();
        (Service { name, child, log }, stdin)
    }

    #[tokio::test]
    async fn what_drains_when_it_is_told_to_ends_well() {
        let folder = Folder::create().unwrap();
        let draining = "trap 'exit 0' TERM; cat <&0 & echo ready; wait";
        let (mut service, _stdin) = script(&folder, draining).await;
        assert!(service.stop(STOP_LIMIT).await);
    }

    #[tokio::test]
    async fn what_was_gone_before_is_told_with_how_it_ended() {
        let folder = Folder::create().unwrap();
        let (mut service, _stdin) = script(&folder, "echo ready; kill -KILL $$").await;
        service.child.wait().await.unwrap();
        let how = service.failure(STOP_LIMIT).await.unwrap();
        assert_eq!(how, "ended before it was told to (signal: 9 (SIGKILL))");
        assert!(!service.stop(STOP_LIMIT).await);
    }

    #[tokio::test]
    async fn what_ends_with_another_code_than_0_did_not_end_well() {
        let folder = Folder::create().unwrap();
        let failing = "trap 'exit 7' TERM; cat <&0 & echo ready; wait";
        let (mut service, _stdin) = script(&folder, failing).await;
        let how = service.failure(STOP_LIMIT).await.unwrap();
        assert_eq!(how, "did not end well when it was told to (exit status: 7)");
    }

    #[tokio::test]
    async fn what_does_not_end_is_killed_and_told() {
        let folder = Folder::create().unwrap();
        let deaf = "trap '' TERM; cat <&0 & echo ready; wait";
        let (mut service, _stdin) = script(&folder, deaf).await;
        let how = service.failure(Duration::from_millis(1)).await.unwrap();
        assert_eq!(how, "did not end within 1ms and was killed");
        assert!(service.child.try_wait().unwrap().is_some());
    }

    #[test]
    fn a_log_is_told_by_its_last_lines() {
        let folder = Folder::create().unwrap();
        let log = folder.0.join("log");
        assert_eq!(last_lines(&log), "");
        std::fs::write(&log, "1\n2\n3\n4\n5\n6\n").unwrap();
        assert_eq!(last_lines(&log), "2 / 3 / 4 / 5 / 6");
    }
}
