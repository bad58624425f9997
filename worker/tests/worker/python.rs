//! `core.python`: scripts, their results, and how they fail.

use flotilla_protocol::message::{CompletionStatus, TaskCompleted};
use flotilla_worker::{Worker, WorkerConfig};
use serde_json::{Value, json};

use crate::fleet::{job, kind, result, retryable, with_fleet};
use crate::gate::quiet;

fn details(completed: &TaskCompleted) -> Value {
    let details = completed.error.as_ref().unwrap().details.as_ref().unwrap();
    serde_json::from_str(details.get()).unwrap()
}

#[tokio::test]
async fn a_script_gets_its_input_and_its_result_is_the_result() {
    with_fleet(async |mut fleet| {
        fleet.open_inbox().await;
        let worker = fleet.start(Worker::new(quiet(&fleet)).built_in()).await;
        let script = "
import os, sys
def double(x):
    return 2 * x
print('counting', len(input['numbers']))
print('careful', file=sys.stderr)
result = {'sum': sum(map(double, input['numbers'])), 'key': os.environ['FLOTILLA_IDEMPOTENCY_KEY'],
          'secrets': [name for name in os.environ if name in ('AMQP_URL', 'DATABASE_URL')],
          'stdin': sys.stdin.read()}
";
        let python = job(
            "core.python",
            json!({"script": script, "input": {"numbers": [1, 2, 3.5]}}),
        );
        let completed = fleet.run(&python).await;
        assert_eq!(
            result(&completed),
            json!({"sum": 13.0, "key": python.idempotency_key, "secrets": [], "stdin": ""})
        );
        let mut lines = fleet.lines(&python);
        lines.sort();
        let line = |stream: &str, text: &str| (stream.to_owned(), text.to_owned());
        assert_eq!(
            lines,
            [line("stderr", "careful"), line("stdout", "counting 3")]
        );
        for (script, expected) in [
            ("pass", json!(null)),
            ("result = input", json!(null)),
            ("result = 'ä' * 3\nimport sys; sys.exit(0)", json!("äää")),
            ("result = 'x' * 1000000", json!("x".repeat(1_000_000))),
        ] {
            let completed = fleet
                .run(&job("core.python", json!({"script": script})))
                .await;
            assert_eq!(completed.status, CompletionStatus::Succeeded, "{script}");
            assert_eq!(result(&completed), expected, "{script}");
        }
        worker.drain().await;
        fleet
    })
    .await;
}

#[tokio::test]
async fn a_traceback_becomes_the_error() {
    with_fleet(async |mut fleet| {
        fleet.open_inbox().await;
        let worker = fleet.start(Worker::new(quiet(&fleet)).built_in()).await;
        let script = "def check(n):\n    raise ValueError(f'{n} is too much')\n\ncheck(input)\n";
        let python = job("core.python", json!({"script": script, "input": 7}));
        let completed = fleet.run(&python).await;
        assert_eq!(
            (kind(&completed), retryable(&completed)),
            ("python_error", true)
        );
        let error = completed.error.as_ref().unwrap();
        assert_eq!(
            error.message,
            "ValueError: 7 is too much (line 2 of the script)"
        );
        let details = details(&completed);
        assert_eq!(
            (&details["type"], &details["line"]),
            (&json!("ValueError"), &json!(2))
        );
        let traceback = details["traceback"].as_str().unwrap();
        assert!(
            traceback.starts_with("Traceback")
                && traceback.contains("line 4, in <module>\n    check(input)"),
            "{traceback}"
        );
        assert!(
            fleet.lines(&python).iter().any(|(stream, text)| {
                stream == "stderr" && text == "ValueError: 7 is too much"
            })
        );
        worker.drain().await;
        fleet
    })
    .await;
}

#[tokio::test]
async fn what_a_script_cannot_do_fails_with_a_kind() {
    with_fleet(async |mut fleet| {
        fleet.open_inbox().await;
        let worker = fleet.start(Worker::new(quiet(&fleet)).built_in()).await;
        for (script, expected, may_retry) in [
            ("x = (", "python_error", false),
            ("result = {1, 2}", "invalid_result", false),
            ("result = float('nan')", "invalid_result", false),
            (
                "result = []\nresult.append(result)",
                "invalid_result",
                false,
            ),
            ("result = 'x' * 2000000", "limit_exceeded", false),
            ("import sys; sys.exit(3)", "exit_code", true),
            ("import os; os._exit(4)", "exit_code", true),
            ("import os; os._exit(0)", "exit_code", true),
            ("import os; os.kill(os.getpid(), 9)", "signal", true),
        ] {
            let completed = fleet
                .run(&job("core.python", json!({"script": script})))
                .await;
            assert_eq!(
                (kind(&completed), retryable(&completed)),
                (expected, may_retry),
                "{script}"
            );
        }
        let needs = json!({"script": "pass", "requirements": ["requests"]});
        let completed = fleet.run(&job("core.python", needs)).await;
        assert_eq!(
            (kind(&completed), retryable(&completed)),
            ("invalid_input", false)
        );
        assert!(
            completed
                .error
                .unwrap()
                .message
                .starts_with("requirements: ")
        );
        let mut slow = job(
            "core.python",
            json!({"script": "import time; time.sleep(1000)"}),
        );
        slow.timeout = Some(0.3);
        assert_eq!(fleet.run(&slow).await.status, CompletionStatus::TimedOut);
        worker.drain().await;
        fleet
    })
    .await;
}

#[tokio::test]
async fn without_leave_no_script_is_run() {
    with_fleet(async |mut fleet| {
        fleet.open_inbox().await;
        let config = WorkerConfig {
            allow_shell: false,
            ..fleet.config()
        };
        let worker = fleet.start(Worker::new(config).built_in()).await;
        let completed = fleet
            .run(&job("core.python", json!({"script": "pass"})))
            .await;
        assert_eq!(kind(&completed), "shell_not_allowed");
        worker.drain().await;
        fleet
    })
    .await;
}
