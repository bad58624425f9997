//! Dead letters in the hands of a user: seen, retried, discarded.

use flotilla_protocol::amqp::Outgoing;
use flotilla_protocol::names;
use flotilla_tests::{Fleet, LIMIT, Start, invariants, wait_until};
use serde_json::{Value, json};

const WORKFLOW: &str = "
ref: late.hello
tasks:
  - {name: greet, action: core.noop}
";

async fn letters(fleet: &Fleet, count: i64) {
    let query = "SELECT count(*) FROM workflow_dead_letter WHERE resolved_at IS NULL";
    wait_until("the dead letters are recorded", LIMIT, async || {
        fleet.database.number(query).await == count
    })
    .await;
}

fn id_of(letters: &Value, reason: &str) -> String {
    let letters = letters.as_array().expect("a list");
    let letter = letters.iter().find(|letter| letter["reason"] == reason);
    letter.expect("it is listed")["id"].to_string()
}

#[tokio::test]
async fn dead_letters_are_retried_and_discarded() {
    let fleet = Fleet::new().await;
    let coordinator = fleet.coordinator().await;
    let worker = fleet.worker().await;
    let client = fleet.client().await;
    // A start that comes before its workflow, and one that nobody can mend.
    let early = Start::of("late.hello");
    client.start(&early.clone().silent()).await;
    let broken = Outgoing::to_queue(names::START_QUEUE, names::WORKFLOW_START, b"{".to_vec());
    client.publish(broken).await;
    letters(&fleet, 2).await;
    let listed = fleet.command_ok(&["dead", "list"]);
    assert_eq!(listed.as_array().map(Vec::len), Some(2));
    let (rejected, not_json) = (id_of(&listed, "rejected"), id_of(&listed, "not_json"));
    let shown = fleet.command_ok(&["dead", "show", &rejected]);
    let body: Value = serde_json::from_str(shown[0]["body"].as_str().unwrap()).unwrap();
    assert_eq!(body["workflow"], "late.hello");
    assert_eq!(shown[0]["properties"]["type"], names::WORKFLOW_START);

    // Retried too early it dies again, and is the same letter, open again.
    fleet.command_ok(&["dead", "retry", &rejected]);
    let again = format!(
        "SELECT count(*) FROM workflow_dead_letter WHERE id = {rejected} AND resolved_at IS NULL \
             AND received_at > '{}'",
        shown[0]["received_at"].as_str().unwrap()
    );
    wait_until("it has died again", LIMIT, async || {
        fleet.database.number(&again).await == 1
    })
    .await;

    let file = fleet.folder.join("late.yaml");
    std::fs::write(&file, WORKFLOW).unwrap();
    fleet.command_ok(&["register", &file.to_string_lossy()]);
    let retried = fleet.command_ok(&["dead", "retry", &rejected]);
    assert_eq!(retried[0]["resolution"], "retried");
    fleet.database.succeeded(1).await;
    assert_eq!(
        fleet.database.status(early.execution_id()).await.as_deref(),
        Some("succeeded")
    );

    // The others are done though one is not.
    let output = fleet.output(&["dead", "discard", &rejected, "4711", &not_json]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    for part in ["there is no dead letter 4711", "was retried before"] {
        assert!(said.contains(part), "{part} is missing in:\n{said}");
    }
    let done: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(done.as_array().map(Vec::len), Some(1));
    assert_eq!(done[0]["resolution"], "discarded");
    assert_eq!(fleet.command_ok(&["dead", "list"]), json!([]));
    let all = fleet.command_ok(&["dead", "list", "--all"]);
    assert_eq!(all.as_array().map(Vec::len), Some(2));
    worker.stop().await;
    coordinator.stop().await;
    invariants::check_at_rest(&fleet.database).await;
}

#[tokio::test]
async fn a_letter_whose_queue_is_gone_stays_open() {
    let fleet = Fleet::new().await;
    let coordinator = fleet.coordinator().await;
    let client = fleet.client().await;
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let lost = Outgoing {
        headers: vec![
            header(names::REASON_HEADER, "delivery_limit"),
            header(names::QUEUE_HEADER, "flotilla.jobs.gone"),
        ],
        ..Outgoing::new(names::DEAD, "", "anything", b"{}".to_vec())
    };
    client.publish(lost).await;
    letters(&fleet, 1).await;
    let listed = fleet.command_ok(&["dead", "list"]);
    let output = fleet.output(&["dead", "retry", &id_of(&listed, "delivery_limit")]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("flotilla.jobs.gone does not exist"), "{said}");
    letters(&fleet, 1).await;
    coordinator.stop().await;
}
