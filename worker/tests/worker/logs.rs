//! The lines that tasks log.

use flotilla_worker::{ActionError, Context, Worker};
use serde_json::{Value, json};

use crate::fleet::{job, kind, with_fleet};
use crate::gate::{Gate, quiet};

fn lines(stream: &str, texts: &[&str]) -> Vec<(String, String)> {
    let pairs = texts
        .iter()
        .map(|text| (stream.to_owned(), (*text).to_owned()));
    pairs.collect()
}

#[tokio::test]
async fn handlers_and_core_log_write_lines_before_their_completion() {
    with_fleet(async |mut fleet| {
        fleet.open_inbox().await;
        let worker = Worker::new(fleet.config()).built_in().action(
            "test.talk",
            async |context: Context, text: String| {
                context.log("begin");
                tokio::task::yield_now().await;
                context.log(text);
                Err::<(), _>(ActionError::fatal("odd", "no"))
            },
        );
        let worker = fleet.start(worker).await;
        let talk = job("test.talk", json!("two\nlines"));
        assert_eq!(kind(&fleet.run(&talk).await), "odd");
        assert_eq!(fleet.lines(&talk), lines("log", &["begin", "two", "lines"]));
        assert_eq!(fleet.logs[0].worker.as_deref(), Some("test-worker"));
        assert_eq!(fleet.logs[0].execution_id, talk.execution_id);
        let log = job("core.log", json!({"message": {"a": 1}, "level": "warn"}));
        fleet.run(&log).await;
        assert_eq!(fleet.lines(&log), lines("log", &["{\"a\":1}"]));
        worker.drain().await;
        fleet
    })
    .await;
}

#[tokio::test]
async fn lines_come_while_the_job_runs() {
    with_fleet(async |mut fleet| {
        fleet.open_inbox().await;
        let gate = Gate::new();
        let worker =
            gate.worker(quiet(&fleet))
                .action("test.wait", async |context: Context, _: Value| {
                    context.log("waiting");
                    std::future::pending::<Result<(), ActionError>>().await
                });
        let worker = fleet.start(worker).await;
        let shell = job(
            "core.shell",
            json!({"script": "echo out; echo err >&2; sleep 1000"}),
        );
        let wait = job("test.wait", json!(null));
        for job in [&shell, &wait] {
            fleet.submit(job).await;
        }
        let mut texts: Vec<String> = Vec::new();
        while texts.len() < 3 {
            let log = fleet.log().await;
            texts.extend(log.lines.into_iter().map(|line| line.text));
        }
        texts.sort();
        assert_eq!(texts, ["err", "out", "waiting"]);
        for job in [&shell, &wait] {
            fleet.cancel(job, 1, "seen").await;
            fleet.completion().await;
        }
        worker.drain().await;
        fleet
    })
    .await;
}

#[tokio::test]
async fn a_program_that_never_stops_writing_is_cut() {
    with_fleet(async |mut fleet| {
        fleet.open_inbox().await;
        let worker = fleet.start(Worker::new(quiet(&fleet)).built_in()).await;
        let mut shell = job(
            "core.shell",
            json!({"script": "seq 1 15000; printf no-end"}),
        );
        shell.timeout = Some(15.0);
        fleet.run(&shell).await;
        let lines = fleet.lines(&shell);
        assert_eq!(lines.len(), 10_000);
        assert_eq!(lines[9_998].1, "9999");
        assert!(lines[9_999].1.starts_with("5002 more lines were left out"));
        assert!(fleet.logs.iter().all(|log| log.lines.len() <= 500));
        worker.drain().await;
        fleet
    })
    .await;
}

#[tokio::test]
async fn each_run_of_an_attempt_has_numbers_of_its_own() {
    with_fleet(async |mut fleet| {
        let gate = Gate::new();
        let first = fleet.start(gate.worker(quiet(&fleet))).await;
        let twice = job("core.shell", json!({"script": "echo here"}));
        let held = job("test.gate", json!(null));
        fleet.submit(&held).await;
        gate.has_run(1).await;
        first.kill().await;
        fleet.jobs_wait(1).await;
        fleet.open_inbox().await;
        let worker = Worker::new(quiet(&fleet)).built_in().action(
            "test.gate",
            async |context: Context, input: Value| {
                context.log("again");
                Ok::<_, ActionError>(input)
            },
        );
        let second = fleet.start(worker).await;
        assert_eq!(fleet.started().await.task_id, held.task_id);
        assert_eq!(fleet.completion().await.task_id, held.task_id);
        assert_eq!(fleet.logs[0].lines[0].no, 10_001);
        fleet.run(&twice).await;
        assert_eq!(fleet.lines(&twice), lines("stdout", &["here"]));
        second.drain().await;
        fleet
    })
    .await;
}

#[tokio::test]
async fn a_log_that_nobody_takes_holds_up_nothing() {
    with_fleet(async |mut fleet| {
        // There is no inbox: lines and completion come back.
        let gate = Gate::new();
        let worker = fleet.start(gate.worker(quiet(&fleet))).await;
        let talk = job("core.shell", json!({"script": "echo lost"}));
        fleet.submit(&talk).await;
        let _answers = fleet.worker_has_published().await;
        fleet.open_inbox().await;
        assert_eq!(fleet.completion().await.task_id, talk.task_id);
        worker.drain().await;
        assert!(fleet.logs.is_empty(), "a line was sent again and again");
        fleet
    })
    .await;
}
