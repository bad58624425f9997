//! `core.shell`: programs, scripts, and their end.

use std::time::Duration;

use flotilla_protocol::message::{CompletionStatus, TaskJob};
use flotilla_worker::{Worker, WorkerConfig};
use serde_json::json;
use uuid::Uuid;

use crate::fleet::{Fleet, assert_cancelled, eventually, job, kind, result, retryable, with_fleet};

#[tokio::test]
async fn a_program_gets_its_input_and_returns_its_output() {
    with_fleet(async |mut fleet| {
        fleet.open_inbox().await;
        let worker = fleet.start_built_in().await;
        let completed = fleet
            .run(&job("core.shell", json!({"argv": ["cat"], "stdin": {"a": 1}})))
            .await;
        assert_eq!(
            result(&completed),
            json!({"exit_code": 0, "stdout": "{\"a\":1}", "stderr": "", "json": {"a": 1}})
        );
        let script = "cd \"$HERE\" && printf '%s|%s|%s' \"$VALUE\" \"$FLOTILLA_ATTEMPT\" \"$FLOTILLA_IDEMPOTENCY_KEY\"; pwd >&2";
        let shell = job(
            "core.shell",
            json!({"script": script, "env": {"VALUE": "$(id); `id`", "HERE": "/"}, "cwd": "/tmp"}),
        );
        let completed = fleet.run(&shell).await;
        let result = result(&completed);
        assert_eq!(result["stdout"], format!("$(id); `id`|1|{}", shell.idempotency_key));
        assert_eq!(result["stderr"], "/\n");
        assert_eq!(result["json"], json!(null));
        worker.drain().await;
        fleet
    })
    .await;
}

#[tokio::test]
async fn failures_of_programs_have_their_kinds() {
    with_fleet(async |mut fleet| {
        fleet.open_inbox().await;
        let worker = fleet.start_built_in().await;
        for (input, expected, may_retry) in [
            (
                json!({"script": "echo out; echo err >&2; exit 3"}),
                "exit_code",
                true,
            ),
            (json!({"script": "kill -9 $$"}), "signal", true),
            (json!({"argv": ["/no/such/program"]}), "spawn_failed", false),
            (
                json!({"script": "true", "cwd": "/no/such/folder"}),
                "spawn_failed",
                false,
            ),
            (json!({}), "invalid_input", false),
            (json!({"argv": []}), "invalid_input", false),
            (
                json!({"argv": ["a"], "script": "b"}),
                "invalid_input",
                false,
            ),
            (
                json!({"script": "true", "shell": true}),
                "invalid_input",
                false,
            ),
        ] {
            let completed = fleet.run(&job("core.shell", input)).await;
            assert_eq!(
                (kind(&completed), retryable(&completed)),
                (expected, may_retry)
            );
            if expected == "exit_code" {
                let result = result(&completed);
                assert_eq!(result["exit_code"], 3);
                assert_eq!(
                    (&result["stdout"], &result["stderr"]),
                    (&json!("out\n"), &json!("err\n"))
                );
            }
        }
        worker.drain().await;
        fleet
    })
    .await;
}

#[tokio::test]
async fn output_and_leftover_children_are_bounded() {
    with_fleet(async |mut fleet| {
        fleet.open_inbox().await;
        let worker = fleet.start_built_in().await;
        let input = json!({"script": "head -c 1000000 /dev/zero | tr '\\0' x; echo short >&2"});
        let completed = fleet.run(&job("core.shell", input)).await;
        let finished = result(&completed);
        assert_eq!(finished["stdout"].as_str().unwrap().len(), 256 * 1024);
        assert_eq!(finished["stdout_truncated"], true);
        assert_eq!(finished["stderr"], "short\n");
        // The child keeps the pipe open; nobody waits for it, and it does not live on.
        let completed = fleet
            .run(&job(
                "core.shell",
                json!({"script": "sleep 1000 & echo $!"}),
            ))
            .await;
        let child = result(&completed)["json"].as_i64().unwrap();
        process_is_gone(i32::try_from(child).unwrap()).await;
        worker.drain().await;
        fleet
    })
    .await;
}

#[tokio::test]
async fn the_time_limit_ends_the_whole_process_group() {
    with_fleet(async |mut fleet| {
        fleet.open_inbox().await;
        let worker = fleet.start_built_in().await;
        // The first gives way to SIGTERM, the second only to SIGKILL.
        for trap in ["", "trap '' TERM; "] {
            let pids = PidFile::new();
            let script = format!(
                "{trap}sleep 1000 & echo $$ $! >{}; wait; sleep 1000",
                pids.path
            );
            let mut shell = job("core.shell", json!({"script": script}));
            shell.timeout = Some(2.0);
            let completed = fleet.run(&shell).await;
            assert_eq!(completed.status, CompletionStatus::TimedOut);
            let error = completed.error.unwrap();
            assert_eq!(
                (error.kind.as_str(), error.retryable),
                ("task_timeout", Some(true))
            );
            let pids = pids.read();
            assert_eq!(pids.len(), 2, "it ran");
            for pid in pids {
                process_is_gone(pid).await;
            }
        }
        worker.drain().await;
        fleet
    })
    .await;
}

#[tokio::test]
async fn a_cancel_ends_the_whole_process_group() {
    with_fleet(async |mut fleet| {
        fleet.open_inbox().await;
        let worker = fleet.start_built_in().await;
        let pids = PidFile::new();
        let sleeper = submit_sleeper(&fleet, &pids).await;
        fleet.cancel(&sleeper, 1, "no longer wanted").await;
        assert_cancelled(&fleet.completion().await, &sleeper, "no longer wanted");
        for pid in pids.read() {
            assert!(is_gone(pid), "the process lives on");
        }
        worker.drain().await;
        fleet.jobs_are_gone().await;
        fleet
    })
    .await;
}

#[tokio::test]
async fn a_killed_worker_leaves_no_process() {
    with_fleet(async |mut fleet| {
        fleet.open_inbox().await;
        let worker = fleet.start_built_in().await;
        let pids = PidFile::new();
        submit_sleeper(&fleet, &pids).await;
        worker.kill().await;
        for pid in pids.read() {
            process_is_gone(pid).await;
        }
        fleet
    })
    .await;
}

#[tokio::test]
async fn a_drain_that_takes_too_long_ends_the_processes() {
    with_fleet(async |mut fleet| {
        fleet.open_inbox().await;
        let config = WorkerConfig {
            drain_timeout: Duration::from_millis(100),
            ..fleet.config()
        };
        let mut worker = fleet.start(Worker::new(config).built_in()).await;
        let pids = PidFile::new();
        submit_sleeper(&fleet, &pids).await;
        worker.shut_down();
        let error = worker.ended().await.unwrap_err();
        assert!(
            error.to_string().starts_with("1 jobs were stopped"),
            "{error}"
        );
        for pid in pids.read() {
            assert!(is_gone(pid), "the process lives on");
        }
        fleet.jobs_wait(1).await;
        fleet
    })
    .await;
}

#[tokio::test]
async fn without_leave_nothing_is_run() {
    with_fleet(async |mut fleet| {
        fleet.open_inbox().await;
        let config = WorkerConfig {
            allow_shell: false,
            ..fleet.config()
        };
        let worker = fleet.start(Worker::new(config).built_in()).await;
        let completed = fleet
            .run(&job("core.shell", json!({"script": "true"})))
            .await;
        assert_eq!(
            (kind(&completed), retryable(&completed)),
            ("shell_not_allowed", false)
        );
        assert!(completed.error.unwrap().message.contains("--allow-shell"));
        worker.drain().await;
        fleet
    })
    .await;
}

async fn submit_sleeper(fleet: &Fleet, pids: &PidFile) -> TaskJob {
    let script = format!("sleep 1000 & echo $$ $! >{}; wait", pids.path);
    let sleeper = job("core.shell", json!({"script": script}));
    fleet.submit(&sleeper).await;
    eventually(async || pids.read().len() == 2).await;
    sleeper
}

async fn process_is_gone(pid: i32) {
    eventually(async || is_gone(pid)).await;
}

/// A zombie is gone too: whoever adopted it reaps it in its own time.
fn is_gone(pid: i32) -> bool {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat
            .rsplit_once(')')
            .is_some_and(|(_, rest)| rest.starts_with(" Z")),
        Err(_) => true,
    }
}

/// A file into which a script writes the ids of its processes.
struct PidFile {
    path: String,
}

impl PidFile {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("flotilla-test-{}", Uuid::now_v7()));
        Self {
            path: path.to_string_lossy().into_owned(),
        }
    }

    fn read(&self) -> Vec<i32> {
        let text = std::fs::read_to_string(&self.path).unwrap_or_default();
        text.split_whitespace()
            .map(|pid| pid.parse().unwrap())
            .collect()
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
