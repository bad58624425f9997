//! The built-in actions that start no process, and what the library does around any action.

use flotilla_protocol::message::CompletionStatus;
use flotilla_worker::{ActionError, Context, Worker};
use serde_json::{Value, json};

use crate::fleet::{job, kind, result, retryable, with_fleet};

#[tokio::test]
async fn noop_echo_log_and_sleep_succeed() {
    with_fleet(async |mut fleet| {
        fleet.open_inbox().await;
        let worker = fleet.start_built_in().await;
        for (action, input, expected) in [
            ("core.noop", json!({"any": 1}), json!(null)),
            (
                "core.echo",
                json!({"a": [1, null, "ä"]}),
                json!({"a": [1, null, "ä"]}),
            ),
            (
                "core.log",
                json!({"message": "hello", "level": "warn"}),
                json!(null),
            ),
            ("core.log", json!({"message": {"a": 1}}), json!(null)),
            (
                "core.sleep",
                json!({"seconds": 0.01}),
                json!({"slept": 0.01}),
            ),
            ("core.sleep", json!({"seconds": 0}), json!({"slept": 0})),
        ] {
            let completed = fleet.run(&job(action, input)).await;
            assert_eq!(completed.status, CompletionStatus::Succeeded, "{action}");
            assert_eq!(result(&completed), expected, "{action}");
            assert!(completed.started_at <= completed.finished_at);
        }
        worker.drain().await;
        fleet.jobs_are_gone().await;
        fleet
    })
    .await;
}

#[tokio::test]
async fn fail_fails_the_first_attempts() {
    with_fleet(async |mut fleet| {
        fleet.open_inbox().await;
        let worker = fleet.start_built_in().await;
        let mut failing = job(
            "core.fail",
            json!({"times": 2, "kind": "odd", "message": "no", "result": 7}),
        );
        for attempt in 1..=2 {
            failing.attempt = attempt;
            let completed = fleet.run(&failing).await;
            assert_eq!(kind(&completed), "odd");
            assert_eq!(result(&completed), json!(7));
            assert!(retryable(&completed));
        }
        failing.attempt = 3;
        let completed = fleet.run(&failing).await;
        assert_eq!(completed.status, CompletionStatus::Succeeded);
        assert_eq!(result(&completed), json!(7));

        let mut always = job("core.fail", json!({"retryable": false}));
        always.attempt = 99;
        let completed = fleet.run(&always).await;
        assert_eq!(kind(&completed), "failed");
        assert!(!retryable(&completed));
        worker.drain().await;
        fleet
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_run_fails_for_good() {
    with_fleet(async |mut fleet| {
        fleet.open_inbox().await;
        let worker = Worker::new(fleet.config())
            .action("test.add", async |_: Context, (a, b): (u8, u8)| Ok(a + b))
            .built_in();
        let worker = fleet.start(worker).await;
        assert_eq!(
            result(&fleet.run(&job("test.add", json!([1, 2]))).await),
            json!(3)
        );
        let with_secret = |place: serde_json::Value| {
            let mut job = job("core.echo", json!({"a": null}));
            job.secrets = vec![serde_json::value::to_raw_value(&place).unwrap()];
            job
        };
        let absent = json!({"at": "/a", "parts": [{"secret": "that-nobody-has"}]});
        for (job, expected) in [
            (job("test.add", json!([1, 300])), "invalid_input"),
            (job("core.sleep", json!({"seconds": -1})), "invalid_input"),
            (
                job("core.log", json!({"message": 1, "level": "loud"})),
                "invalid_input",
            ),
            (job("test.unknown", json!(null)), "unknown_action"),
            (with_secret(json!({"at": "/a"})), "invalid_input"),
            (with_secret(absent), "unknown_secret"),
        ] {
            let completed = fleet.run(&job).await;
            assert_eq!(kind(&completed), expected);
            assert!(!retryable(&completed));
        }
        let completed = fleet.run(&job("test.unknown", json!(null))).await;
        let message = completed.error.unwrap().message;
        assert!(
            message.contains("core.echo") && message.contains("test.add"),
            "{message}"
        );
        worker.drain().await;
        fleet
    })
    .await;
}

#[tokio::test]
async fn panics_errors_and_large_results_are_failures() {
    with_fleet(async |mut fleet| {
        fleet.open_inbox().await;
        let worker = Worker::new(fleet.config())
            .action("test.panic", |_: Context, _: Value| async move {
                tokio::task::yield_now().await;
                panic!("at the disco");
                #[expect(unreachable_code, reason = "it gives the block its type")]
                Ok(())
            })
            .action("test.early_panic", panic_early)
            .action("test.error", async |_: Context, text: String| {
                Ok(text.parse::<u8>()?)
            })
            .action("test.large", async |_: Context, bytes: usize| {
                Ok("x".repeat(bytes))
            });
        let worker = fleet.start(worker).await;
        for (action, message) in [
            ("test.panic", "at the disco"),
            ("test.early_panic", "early"),
        ] {
            let completed = fleet.run(&job(action, json!(null))).await;
            assert_eq!(kind(&completed), "panic");
            assert!(retryable(&completed));
            assert_eq!(completed.error.unwrap().message, message);
        }
        let completed = fleet.run(&job("test.error", json!("x"))).await;
        assert_eq!((kind(&completed), retryable(&completed)), ("error", true));
        let completed = fleet.run(&job("test.large", json!(1_048_574))).await;
        assert_eq!(completed.status, CompletionStatus::Succeeded);
        let completed = fleet.run(&job("test.large", json!(1_048_575))).await;
        assert_eq!(
            (kind(&completed), retryable(&completed)),
            ("limit_exceeded", false)
        );
        assert!(completed.result.is_none());
        worker.drain().await;
        fleet
    })
    .await;
}

fn panic_early(_: Context, _: Value) -> std::future::Ready<Result<(), ActionError>> {
    panic!("early")
}
