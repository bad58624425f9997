//! The examples do what their first lines say.

use flotilla_tests::{Fleet, Start, invariants};
use serde_json::{Value, json};

#[tokio::test]
async fn every_order_ends_shipped_or_cancelled() {
    let fleet = Fleet::new().await;
    let coordinator = fleet.coordinator().await;
    let worker = fleet.worker().await;
    let mut client = fleet.client().await;
    let cases = [
        (json!({}), "shipped", false, false),
        (json!({"amount": 1200}), "shipped", true, false),
        (json!({"urgent": true}), "shipped", true, false),
        (json!({"stock_seconds": 5}), "shipped", false, true),
        (json!({"payment_failures": 2}), "shipped", false, false),
        (json!({"payment_failures": 3}), "cancelled", false, false),
        (json!({"fail_payment": true}), "cancelled", false, false),
    ];
    for (mut parameters, state, reviewed, backorder) in cases {
        parameters["order_id"] = json!(7);
        let start = Start::of("examples.order").parameters(&parameters);
        let finished = client.run(&start).await;
        assert_eq!(finished["status"], "succeeded", "{parameters}: {finished}");
        let expected =
            json!({"order_id": 7, "state": state, "reviewed": reviewed, "backorder": backorder});
        assert_eq!(finished["output"], expected, "{parameters}");
    }
    let charges: Vec<(i32, String, Option<String>)> = fleet
        .database
        .rows("SELECT attempt, status::text, error_kind FROM workflow_task_detail WHERE task = 'charge' ORDER BY created_at")
        .await;
    let paid = |attempt| (attempt, "succeeded".to_owned(), None);
    let declined = |attempt, kind: &str| (attempt, "failed".to_owned(), Some(kind.to_owned()));
    assert_eq!(
        charges,
        [
            paid(1),
            paid(1),
            paid(1),
            paid(1),
            paid(3),
            declined(3, "payment_unavailable"),
            declined(1, "payment_declined"),
        ]
    );
    worker.stop().await;
    coordinator.stop().await;
    invariants::check_at_rest(&fleet.database).await;
}

#[tokio::test]
async fn a_chain_hands_its_value_from_task_to_task() {
    let fleet = Fleet::new().await;
    let coordinator = fleet.coordinator().await;
    let worker = fleet.worker().await;
    let mut client = fleet.client().await;
    let start = Start::of("examples.chain").parameters(&json!({"start": 32}));
    let finished = client.run(&start).await;
    assert_eq!(finished["status"], "succeeded");
    assert_eq!(finished["output"], json!({"value": 42}));
    let inputs: Vec<(String, Value)> = fleet
        .database
        .rows("SELECT task, input FROM workflow_task_detail ORDER BY created_at, task_id")
        .await;
    let expected: Vec<(String, Value)> = (1..=10)
        .map(|no| (format!("step_{no}"), json!({"value": 32 + no})))
        .collect();
    assert_eq!(inputs, expected);
    worker.stop().await;
    coordinator.stop().await;
    invariants::check_at_rest(&fleet.database).await;
}
