//! A start from another language: `examples/publish.py`, with pika from PyPI.

use std::path::Path;
use std::process::Command;

use flotilla_tests::binary::root;
use flotilla_tests::{Fleet, foreign, invariants};
use serde_json::{Value, json};
use uuid::Uuid;

#[tokio::test]
async fn the_example_in_python_starts_an_order_once() {
    let Some(python) = foreign::python() else {
        return;
    };
    let fleet = Fleet::new().await;
    let coordinator = fleet.coordinator().await;
    let worker = fleet.worker().await;
    let id = Uuid::now_v7();
    let expected = json!({"order_id": 7, "reviewed": true, "backorder": false, "state": "shipped"});
    for round in 0..20 {
        let replies = publish(python, &fleet.amqp_url, id);
        let types: Vec<&str> = replies.iter().map(|(kind, _)| kind.as_str()).collect();
        assert_eq!(types, ["workflow.started", "workflow.finished"]);
        assert_eq!(
            replies[0].1,
            json!({"execution_id": id, "created": round == 0})
        );
        assert_eq!(replies[1].1["status"], json!("succeeded"));
        assert_eq!(replies[1].1["output"], expected);
    }
    let rows: Vec<(Uuid, String, Value)> = fleet
        .database
        .rows("SELECT execution_id, status::text, output FROM workflow_execution_summary")
        .await;
    assert_eq!(rows, [(id, "succeeded".to_owned(), expected)]);
    worker.stop().await;
    coordinator.stop().await;
    invariants::check_at_rest(&fleet.database).await;
}

/// Runs the example, and reads the replies that it prints.
fn publish(python: &Path, amqp_url: &str, id: Uuid) -> Vec<(String, Value)> {
    let output = Command::new(python)
        .arg(root().join("examples/publish.py"))
        .arg(id.to_string())
        .env("AMQP_URL", amqp_url)
        .output()
        .expect("python can be run");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "publish.py: {error}");
    let text = String::from_utf8(output.stdout).expect("it prints text");
    let lines = text
        .lines()
        .map(|line| line.split_once(' ').expect("a type and a body"));
    lines
        .map(|(kind, body)| (kind.to_owned(), serde_json::from_str(body).expect("JSON")))
        .collect()
}
