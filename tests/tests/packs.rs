//! Packs on a whole fleet: configuration reaches expressions, and jobs the pool of their action.

use std::path::Path;

use flotilla_tests::binary::root;
use flotilla_tests::{Fleet, Start};
use serde_json::{Value, json};

/// Copies the pack of the command line's tests, so that it can be changed.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("there is room");
    for entry in std::fs::read_dir(from).expect("it can be read") {
        let path = entry.expect("an entry").path();
        let copied = to.join(path.file_name().expect("a name"));
        if path.is_dir() {
            copy(&path, &copied);
        } else {
            std::fs::copy(&path, &copied).expect("it can be copied");
        }
    }
}

#[tokio::test]
async fn a_pack_is_registered_and_runs_with_its_configuration() {
    let fleet = Fleet::new().await;
    let coordinator = fleet.coordinator().await;
    let worker = fleet.worker().await;
    let mut client = fleet.client().await;
    let folder = fleet.folder.join("shop");
    copy(&root().join("cli/tests/files/shop"), &folder);
    let path = folder.to_string_lossy().into_owned();
    let registered = fleet.command_ok(&["register", &path]);
    assert_eq!(registered.as_array().map(Vec::len), Some(1), "{registered}");
    assert_eq!(registered[0]["workflow"], "shop.quote");
    assert_eq!(registered[0]["created"], true);
    let again = fleet.command_ok(&["register", &path]);
    assert_eq!(again[0]["created"], false);

    let start = Start::of("shop.quote").parameters(&json!({"order_id": 7}));
    let finished = client.run(&start).await;
    assert_eq!(finished["output"], json!({"currency": "EUR"}), "{finished}");

    // An execution keeps the configuration that it started with; the next start has the new one.
    let head = "ref: shop\nconfig: {currency: USD, limits: {review_above: 1}}\n";
    std::fs::write(folder.join("pack.yaml"), head).expect("it can be written");
    let changed = fleet.command_ok(&["register", &path]);
    assert_eq!(changed[0]["created"], true);
    assert_ne!(changed[0]["hash"], registered[0]["hash"]);
    let start = Start::of("shop.quote").parameters(&json!({"order_id": 8}));
    client.start(&start.clone().silent()).await;
    fleet.database.tasks("dispatched", 1).await;
    let id = start.execution_id().to_string();
    let shown = fleet.command_ok(&["show", &id]);
    let tasks = shown["tasks"].as_array().expect("a list");
    let price: &Value = tasks
        .iter()
        .find(|task| task["task"] == "price")
        .expect("it is due");
    assert_eq!(price["pool"], "pricing");
    assert_eq!(price["waits_for"], "no consumer on pool pricing");
    fleet.command_ok(&["cancel", &id]);
    fleet
        .database
        .has_status(start.execution_id(), "cancelled")
        .await;
    fleet.rest([worker, coordinator]).await;
}

#[tokio::test]
async fn an_action_that_was_registered_is_known_to_workflows_elsewhere() {
    let fleet = Fleet::new().await;
    let folder = fleet.folder.join("shop");
    copy(&root().join("cli/tests/files/shop"), &folder);
    let flow = fleet.folder.join("alone.yaml");
    std::fs::write(
        &flow,
        "ref: other.flow\ntasks: [{name: x, action: shop.price}]\n",
    )
    .unwrap();
    let path = flow.to_string_lossy().into_owned();
    let before = fleet.command_ok(&["register", &path]);
    fleet.command_ok(&["register", &folder.to_string_lossy()]);
    let after = fleet.command_ok(&["register", &path]);
    assert_ne!(before[0]["hash"], after[0]["hash"]);
    let rows: Vec<(String, Option<String>, Option<f64>, Value)> = fleet
        .database
        .rows("SELECT action, pool, timeout_s, parameters FROM workflow_action")
        .await;
    let parameters = json!({"order_id": {"type": "integer", "required": true}});
    let expected = (
        "shop.price".to_owned(),
        Some("pricing".to_owned()),
        Some(20.0),
        parameters,
    );
    assert_eq!(rows, [expected]);
    let checked = fleet.command_ok(&["check"]);
    assert_eq!(checked["ok"], true, "{checked}");
}
