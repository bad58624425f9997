//! The lines that tasks log, from the worker to `flotilla logs`.

use chrono::Utc;
use flotilla_protocol::amqp::Outgoing;
use flotilla_protocol::message::{LogLine, TaskLog};
use flotilla_protocol::{ExecutionId, TaskId, names};
use flotilla_tests::{Fleet, LIMIT, Start, invariants, wait_until};
use serde_json::{Value, json};
use uuid::Uuid;

const TALK: &str = "
ref: logs.talk
tasks:
  - name: shell
    action: core.shell
    retry: {count: 1}
    input: {script: 'echo attempt $FLOTILLA_ATTEMPT; echo careful >&2; test $FLOTILLA_ATTEMPT = 2'}
    on_success: wait
  - {name: wait, action: core.sleep, input: {seconds: 2}, on_success: say}
  - {name: say, action: core.log, input: {message: the end}}
";

fn register(fleet: &Fleet) {
    let file = fleet.folder.join("talk.yaml");
    std::fs::write(&file, TALK).expect("the folder is ours");
    fleet.command_ok(&["register", &file.to_string_lossy()]);
}

fn lines(fleet: &Fleet, arguments: &[&str]) -> Vec<Value> {
    let output = fleet.output(&[&["logs"], arguments].concat());
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("lines are text");
    let each = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line is JSON"));
    each.collect()
}

fn texts(lines: &[Value]) -> Vec<&str> {
    let texts = lines
        .iter()
        .map(|line| line["text"].as_str().expect("a text"));
    texts.collect()
}

#[tokio::test]
async fn lines_are_seen_live_and_afterwards() {
    let fleet = Fleet::new().await;
    register(&fleet);
    let coordinator = fleet.coordinator().await;
    let worker = fleet.worker_with(&["--allow-shell"]).await;
    let start = Start::of("logs.talk");
    fleet.client().await.start(&start.clone().silent()).await;
    let id = start.execution_id().to_string();
    fleet
        .database
        .has_status(start.execution_id(), "running")
        .await;

    let followed = lines(&fleet, &[&id, "-f"]);
    let mut said = texts(&followed);
    assert_eq!(said.pop(), Some("the end"));
    said.sort_unstable();
    assert_eq!(said, ["attempt 1", "attempt 2", "careful", "careful"]);
    let status = fleet.database.status(start.execution_id()).await;
    assert_eq!(
        status.as_deref(),
        Some("succeeded"),
        "it went on to the end"
    );

    assert_eq!(lines(&fleet, &[&id]).len(), 5);
    assert_eq!(texts(&lines(&fleet, &[&id, "say"])), ["the end"]);
    let shell = lines(&fleet, &[&id, "shell"]);
    assert_eq!(shell.len(), 4);
    let first = &shell[0];
    assert_eq!(
        (&first["task"], &first["attempt"], &first["execution_id"]),
        (&json!("shell"), &json!(1), &json!(id))
    );
    let refused = fleet.output(&["logs", &id, "nobody"]);
    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8_lossy(&refused.stdout);
    assert!(said.contains("unknown_task"), "{said}");
    assert!(said.contains("say, shell, wait"), "{said}");

    let unknown = fleet.output(&["logs", &Uuid::now_v7().to_string()]);
    assert_eq!(unknown.status.code(), Some(2));
    let said = String::from_utf8_lossy(&unknown.stdout);
    assert!(said.contains("unknown_execution"), "{said}");
    fleet.rest([worker, coordinator]).await;
}

#[tokio::test]
async fn lines_that_cannot_be_stored_hold_up_nothing() {
    let fleet = Fleet::new().await;
    register(&fleet);
    let coordinator = fleet.coordinator().await;
    let worker = fleet.worker_with(&["--allow-shell"]).await;
    fleet
        .database
        .run("ALTER TABLE workflow_task_log RENAME TO not_there")
        .await;
    let mut client = fleet.client().await;
    let start = Start::of("logs.talk");
    let finished = client.run(&start).await;
    assert_eq!(finished["status"], "succeeded");
    wait_until("what is lost is told", LIMIT, async || {
        coordinator.log().contains("cannot be stored and are lost")
    })
    .await;
    fleet
        .database
        .run("ALTER TABLE not_there RENAME TO workflow_task_log")
        .await;
    fleet.rest([worker, coordinator]).await;
}

#[tokio::test]
async fn lines_of_nobody_and_of_absurd_size_do_no_harm() {
    let fleet = Fleet::new().await;
    register(&fleet);
    let coordinator = fleet.coordinator().await;
    let client = fleet.client().await;
    let line = |no: u32, text: String| LogLine {
        no,
        at: Utc::now(),
        stream: "stdout".to_owned(),
        text,
    };
    for text in ["x".to_owned(), "x".repeat(900_000)] {
        let nobody = TaskLog {
            execution_id: ExecutionId(Uuid::now_v7()),
            task_id: TaskId(Uuid::now_v7()),
            attempt: 1,
            worker: None,
            lines: vec![line(1, text.clone()), line(u32::MAX, text)],
        };
        for partition in 0..4 {
            let message = Outgoing::log(&names::inbox_queue(partition), &nobody);
            client.publish(message).await;
        }
    }
    let worker = fleet.worker_with(&["--allow-shell"]).await;
    let start = Start::of("logs.talk");
    let finished = fleet.client().await.run(&start).await;
    assert_eq!(finished["status"], "succeeded");
    let stored = "SELECT count(*) FROM workflow_task_log";
    wait_until("its own lines are there", LIMIT, async || {
        fleet.database.number(stored).await == 5
    })
    .await;
    let dead = "SELECT count(*) FROM workflow_dead_letter WHERE reason <> 'too_large'";
    assert_eq!(fleet.database.number(dead).await, 0);
    worker.stop().await;
    coordinator.stop().await;
    invariants::check_at_rest(&fleet.database).await;
}
