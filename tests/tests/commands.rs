//! Commands of a user on a whole fleet: `check`, and what control commands say.

use flotilla_tests::{Fleet, Start};
use serde_json::Value;
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
    assert_eq!(clean["findings"], serde_json::json!([]));
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

#[tokio::test]
async fn a_refused_command_says_why() {
    let fleet = Fleet::new().await;
    let coordinator = fleet.coordinator().await;
    let nobody = Uuid::now_v7().to_string();
    for command in ["cancel", "pause", "resume"] {
        let output = fleet.output(&[command, &nobody]);
        assert_eq!(output.status.code(), Some(2), "{command}");
        let reply = document(&output);
        assert_eq!(reply["execution_id"], nobody);
        assert_eq!(reply["command"], command);
        assert_eq!(reply["accepted"], false);
        assert!(reply["reason"].is_string(), "{reply}");
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
