//! `flotilla start` and `flotilla list`, as a script uses them: exit codes, documents and pages.

use std::collections::BTreeSet;

use flotilla_tests::{Fleet, Service};
use serde_json::{Value, json};
use uuid::Uuid;

const FAILS: &str = "
ref: starts.fails
tasks:
  - {name: first, action: core.noop, on_success: fail}
";
const SLOW: &str = "
ref: starts.slow
tasks:
  - {name: first, action: core.sleep, input: {seconds: 600}}
";

/// A fleet that knows both workflows, beside those of the examples.
async fn begin() -> (Fleet, [Service; 2]) {
    let fleet = Fleet::new().await;
    for (name, definition) in [("fails.yaml", FAILS), ("slow.yaml", SLOW)] {
        let file = fleet.folder.join(name);
        std::fs::write(&file, definition).expect("the folder of the fleet is there");
        fleet.command_ok(&["register", &file.to_string_lossy()]);
    }
    let services = [fleet.coordinator().await, fleet.worker().await];
    (fleet, services)
}

/// Exit code and document of a command.
fn answer(fleet: &Fleet, arguments: &[&str]) -> (Option<i32>, Value) {
    let output = fleet.output(arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    let document = serde_json::from_slice(&output.stdout);
    let document = document.unwrap_or_else(|error| panic!("{arguments:?}: {error}: {said}"));
    (output.status.code(), document)
}

#[tokio::test]
async fn a_start_waits_for_the_end_and_its_exit_code_tells_it() {
    let (fleet, services) = begin().await;
    let id = Uuid::now_v7().to_string();
    let arguments = [
        "start",
        "examples.single",
        "-p",
        "name=Ada",
        "--id",
        &id,
        "--tag",
        "team=red",
        "--wait",
    ];
    let (code, document) = answer(&fleet, &arguments);
    let expected = json!({
        "execution_id": id, "created": true, "status": "succeeded",
        "output": {"greeting": "Hello, Ada!"}, "errors": []
    });
    assert_eq!((code, document), (Some(0), expected));
    let tags: Vec<(Value,)> = fleet
        .database
        .rows("SELECT tags FROM workflow_execution_summary")
        .await;
    assert_eq!(tags, [(json!({"team": "red"}),)]);

    let (code, again) = answer(&fleet, &arguments);
    assert_eq!((code, &again["created"]), (Some(0), &json!(false)));
    assert_eq!(
        again["output"]["greeting"], "Hello, Ada!",
        "it has ended before"
    );

    let (code, failed) = answer(&fleet, &["start", "starts.fails", "--wait"]);
    assert_eq!((code, &failed["status"]), (Some(1), &json!("failed")));
    let errors = failed["errors"].to_string();
    assert!(errors.contains("explicit_fail"), "{failed}");

    let slow = ["start", "starts.slow", "--wait", "--wait-timeout", "2"];
    let (code, slow) = answer(&fleet, &slow);
    assert_eq!((code, &slow["status"]), (Some(4), &json!("running")));
    let slow = slow["execution_id"].as_str().expect("an id");
    fleet.command_ok(&["cancel", slow]);
    let slow = slow.parse().expect("a UUID");
    fleet.database.has_status(slow, "cancelled").await;
    fleet.rest(services).await;
}

#[tokio::test]
async fn the_same_key_is_one_execution_and_what_is_refused_says_why() {
    let (fleet, services) = begin().await;
    let keyed = |workflow| ["start", workflow, "--key", "order-7"];
    let first = fleet.command_ok(&keyed("examples.single"));
    let second = fleet.command_ok(&keyed("examples.single"));
    assert_eq!(first["execution_id"], second["execution_id"]);
    assert_eq!(
        (&first["created"], &second["created"]),
        (&json!(true), &json!(false))
    );
    for (arguments, kind) in [
        (&keyed("starts.fails")[..], "id_conflict"),
        (&["start", "starts.fail"], "unknown_workflow"),
        (
            &["start", "starts.fails", "--version", "9"],
            "unknown_version",
        ),
        (&["start", "starts.fails", "-p", "x=1"], "invalid_input"),
    ] {
        let (code, document) = answer(&fleet, arguments);
        let text = document.to_string();
        assert_eq!(code, Some(2), "{arguments:?}: {text}");
        assert!(text.contains(kind), "{arguments:?}: {text}");
    }
    assert_eq!(fleet.database.executions("failed").await, 0);
    fleet.rest(services).await;
}

#[tokio::test]
async fn executions_are_listed_a_page_at_a_time() {
    let (fleet, services) = begin().await;
    let mut started = BTreeSet::new();
    for workflow in ["examples.single", "starts.fails", "examples.single"] {
        let (_, document) = answer(&fleet, &["start", workflow, "--wait"]);
        let id = document["execution_id"].as_str().expect("an id");
        started.insert(id.to_owned());
    }
    let mut listed = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let mut arguments = vec!["list", "--limit", "2"];
        if let Some(cursor) = &cursor {
            arguments.extend(["--cursor", cursor.as_str()]);
        }
        let page = fleet.command_ok(&arguments);
        listed.push(ids(&page));
        match page["next"].as_str() {
            Some(next) => cursor = Some(next.to_owned()),
            None => break,
        }
    }
    let sizes: Vec<usize> = listed.iter().map(Vec::len).collect();
    assert_eq!(sizes, [2, 1]);
    let listed: Vec<String> = listed.concat();
    assert!(listed.is_sorted_by(|a, b| a > b), "the newest first");
    assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), started);

    let failed = fleet.command_ok(&["list", "--status", "failed"]);
    assert_eq!(failed["executions"][0]["workflow"], "starts.fails");
    assert_eq!(ids(&failed).len(), 1);
    let single = fleet.command_ok(&["list", "--workflow", "examples.single"]);
    assert_eq!(ids(&single).len(), 2);
    fleet.rest(services).await;
}

/// The ids of a page, in its order.
fn ids(page: &Value) -> Vec<String> {
    let executions = page["executions"].as_array().expect("a list");
    let id = |execution: &Value| execution["execution_id"].as_str().map(str::to_owned);
    executions.iter().filter_map(id).collect()
}
