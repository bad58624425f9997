//! The whole path, as a user sees it: a start message in, replies and rows out.

use flotilla_protocol::names;
use flotilla_tests::{Fleet, Start, invariants};
use serde_json::{Value, json};
use uuid::Uuid;

#[tokio::test]
async fn a_start_is_answered_and_its_end_is_told() {
    let fleet = Fleet::new().await;
    let coordinator = fleet.coordinator().await;
    let worker = fleet.worker().await;
    let mut client = fleet.client().await;

    let start = Start::of("examples.single").parameters(&json!({"name": "Ada"}));
    let id = start.execution_id();
    client.start(&start).await;
    let started = client.next().await;
    assert_eq!(started.message_type, names::WORKFLOW_STARTED);
    assert_eq!(started.correlation_id, id.to_string());
    assert_eq!(started.body, json!({"execution_id": id, "created": true}));
    let finished = client.next().await;
    assert_eq!(finished.message_type, names::WORKFLOW_FINISHED);
    assert_eq!(finished.correlation_id, id.to_string());
    assert_eq!(
        finished.body,
        json!({"execution_id": id, "status": "succeeded", "output": {"greeting": "Hello, Ada!"}, "errors": []})
    );

    let shown: Vec<(String, String, Value, Value, Value, i32, i64)> = fleet
        .database
        .rows("SELECT workflow, status::text, parameters, output, variables, tasks_succeeded, last_seq FROM workflow_execution_summary")
        .await;
    let [(workflow, status, parameters, output, variables, succeeded, last_seq)] = &shown[..] else {
        panic!("{shown:?}");
    };
    assert_eq!((workflow.as_str(), status.as_str(), *succeeded), ("examples.single", "succeeded", 1));
    assert_eq!(*parameters, json!({"name": "Ada"}));
    assert_eq!(*output, json!({"greeting": "Hello, Ada!"}));
    assert_eq!(*variables, json!({"greeting": "Hello, Ada!"}));
    let transitions: Vec<(i64, String)> = fleet
        .database
        .rows("SELECT seq, kind::text FROM workflow_transition ORDER BY seq")
        .await;
    let kinds: Vec<&str> = transitions.iter().map(|(_, kind)| kind.as_str()).collect();
    assert_eq!(
        kinds,
        ["execution_started", "task_dispatched", "task_ended", "execution_status_changed"]
    );
    assert_eq!(*last_seq, 4);

    worker.stop().await;
    coordinator.stop().await;
    invariants::check_at_rest(&fleet.database).await;
    let _: Uuid = id;
}
