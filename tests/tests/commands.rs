//! Commands of a user on a whole fleet: `check`, and the control commands.

use flotilla_tests::{Fleet, LIMIT, Start, invariants, wait_until};
use serde_json::{Value, json};
use uuid::Uuid;

fn document(output: &std::process::Output) -> Value {
    serde_json::from_slice(&output.stdout).expect("one JSON document on stdout")
}

#[tokio::test]
async fn check_ends_with_1_where_something_is_wrong() {
    let fleet = Fleet::new().await;
    let coordinator = fleet.coordinator().await;
    let worker = fleet.worker().await;
    let start = Start::of("examples.single");
    fleet.client().await.run(&start).await;
    let clean = fleet.command_ok(&["check"]);
    assert_eq!(clean["ok"], true);
    assert_eq!(clean["findings"], json!([]));
    assert_eq!(clean["executions"], 1);
    assert!(clean["invariants"].as_u64() >= Some(20));

    let id = start.execution_id();
    let plant = format!("DELETE FROM workflow_transition WHERE execution_id = '{id}' AND seq = 2");
    fleet.database.run(&plant).await;
    let output = fleet.output(&["check", "--since", "1h"]);
    assert_eq!(output.status.code(), Some(1));
    let found = document(&output);
    assert_eq!(found["ok"], false);
    let findings = found["findings"].as_array().expect("a list");
    let gap = findings
        .iter()
        .find(|finding| finding["invariant"] == "log_without_gap")
        .expect("the gap is found");
    assert_eq!(gap["execution_id"], id.to_string());
    assert!(
        gap["detail"]
            .as_str()
            .is_some_and(|detail| !detail.is_empty())
    );
    worker.stop().await;
    coordinator.stop().await;
}

const SLOW: &str = "
ref: commands.slow
tasks:
  - {name: first, action: core.sleep, input: {seconds: 5}, on_success: second}
  - {name: second, action: core.sleep, input: {seconds: 600}}
";

#[tokio::test]
async fn an_execution_is_paused_resumed_and_cancelled() {
    let fleet = Fleet::new().await;
    let coordinator = fleet.coordinator().await;
    let worker = fleet.worker().await;
    let file = fleet.folder.join("slow.yaml");
    std::fs::write(&file, SLOW).unwrap();
    fleet.command_ok(&["register", &file.to_string_lossy()]);
    let start = Start::of("commands.slow");
    let client = fleet.client().await;
    client.start(&start.clone().silent()).await;
    let execution = start.execution_id();
    let id = execution.to_string();
    let database = &fleet.database;
    let reaches = async |status: &str| {
        wait_until(&format!("it is {status}"), LIMIT, async || {
            database.status(execution).await.as_deref() == Some(status)
        })
        .await;
    };
    reaches("running").await;
    for (command, status) in [("pause", "paused"), ("resume", "running")] {
        let reply = fleet.command_ok(&[command, &id]);
        let expected = json!({
            "execution_id": id, "command": command, "accepted": true, "reason": null
        });
        assert_eq!(reply, expected);
        reaches(status).await;
    }
    let output = fleet.output(&["resume", &id]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(document(&output)["reason"], "not_paused");
    fleet.command_ok(&["cancel", &id, "--reason", "not wanted"]);
    reaches("cancelled").await;
    let output = fleet.output(&["cancel", &id]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(document(&output)["reason"], "already_finished");
    let checked = fleet.command_ok(&["check"]);
    assert_eq!(
        (&checked["ok"], &checked["executions"]),
        (&json!(true), &json!(1))
    );
    worker.stop().await;
    coordinator.stop().await;
    invariants::check_at_rest(&fleet.database).await;
}

#[tokio::test]
async fn a_refused_command_says_why() {
    let fleet = Fleet::new().await;
    let coordinator = fleet.coordinator().await;
    let nobody = Uuid::now_v7().to_string();
    for command in ["cancel", "pause", "resume", "rerun"] {
        let output = fleet.output(&[command, &nobody]);
        assert_eq!(output.status.code(), Some(2), "{command}");
        let reply = document(&output);
        assert_eq!(reply["execution_id"], nobody);
        assert_eq!(reply["command"], command);
        assert_eq!(reply["accepted"], false);
        assert_eq!(reply["reason"], "unknown_execution");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("hint: "), "{said}");
    }
    coordinator.stop().await;
}

#[tokio::test]
async fn a_command_that_nobody_answers_ends_with_3() {
    let fleet = Fleet::new().await;
    let nobody = Uuid::now_v7().to_string();
    let output = fleet.output(&["cancel", &nobody, "--reason", "not wanted"]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(document(&output)["error"]["kind"], "not_answered");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("no coordinator has answered"), "{said}");
}

#[tokio::test]
async fn an_error_is_a_document_for_scripts_and_a_line_where_each_line_is_one() {
    let fleet = Fleet::new().await;
    let nobody = Uuid::now_v7().to_string();
    for (words, kind) in [
        (&["watch", &nobody][..], "unknown_execution"),
        (&["logs", &nobody], "unknown_execution"),
        (&["logs"], "usage"),
        (&["show"], "usage"),
    ] {
        let output = fleet.output(words);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert_eq!(document(&output)["error"]["kind"], kind, "{words:?}");
        let lines = String::from_utf8_lossy(&output.stdout).lines().count();
        assert_eq!(lines, 1, "{words:?}");
        assert!(!output.stderr.is_empty(), "{words:?}");
    }
}
