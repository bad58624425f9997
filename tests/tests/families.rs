//! Sub-workflows on a whole fleet: parents and children through the deaths of coordinators, a new version
//! of a child, a cancel and a pause that are passed on, and what the command line says.

use flotilla_tests::{Fleet, LIMIT, Options, Start, invariants, wait_until};
use serde_json::{Value, json};
use uuid::Uuid;

/// Children of the execution whose coordinators die.
const CHILDREN: i64 = 60;

/// The statuses of the children of an execution, with how many there are of each.
async fn children(fleet: &Fleet, id: Uuid) -> Vec<(String, i64)> {
    let query = format!(
        "SELECT status::text, count(*) FROM workflow_execution_summary
         WHERE parent_execution_id = '{id}' GROUP BY status ORDER BY status"
    );
    fleet.database.rows(&query).await
}

/// The only child of an execution.
async fn only_child(fleet: &Fleet, id: Uuid) -> Uuid {
    let query = format!(
        "SELECT execution_id FROM workflow_execution_summary WHERE parent_execution_id = '{id}'"
    );
    let rows: Vec<(Uuid,)> = fleet.database.rows(&query).await;
    assert_eq!(rows.len(), 1, "{rows:?}");
    rows[0].0
}

/// Registers workflows that a test writes itself.
fn register(fleet: &Fleet, files: &[(&str, &str)]) {
    let folder = fleet.folder.join("own");
    std::fs::create_dir_all(&folder).expect("a folder");
    for (name, text) in files {
        std::fs::write(folder.join(name), text).expect("it is written");
    }
    fleet.command_ok(&["register", folder.to_str().expect("a path")]);
}

#[tokio::test]
async fn each_child_runs_once_though_coordinators_die() {
    let fleet = Fleet::with(Options {
        partitions: 2,
        ..Options::default()
    })
    .await;
    let first = fleet.coordinator().await;
    let worker = fleet.worker().await;
    let mut client = fleet.client().await;
    let start = Start::of("tests.family").parameters(&json!({ "count": CHILDREN }));
    let id = start.execution_id();
    client.start(&start).await;
    client.reply("workflow.started", &id.to_string()).await;
    let ended = format!(
        "SELECT count(*) FROM workflow_execution_summary
         WHERE parent_execution_id = '{id}' AND finished_at IS NOT NULL"
    );
    for (victim, passed) in [
        (first, CHILDREN / 4),
        (fleet.coordinator().await, CHILDREN / 2),
    ] {
        wait_until("some children have ended", LIMIT, async || {
            fleet.database.number(&ended).await >= passed
        })
        .await;
        victim.kill();
    }
    let last = fleet.coordinator().await;
    let finished = client.reply("workflow.finished", &id.to_string()).await;
    assert_eq!(finished.body["status"], "succeeded", "{}", finished.body);
    assert_eq!(
        finished.body["output"],
        json!({ "sum": CHILDREN * (CHILDREN - 1) }),
        "each child gives twice its number"
    );
    assert_eq!(
        children(&fleet, id).await,
        [("succeeded".to_owned(), CHILDREN)]
    );
    let grandchildren = format!(
        "SELECT count(*) FROM workflow_execution_summary AS g
         JOIN workflow_execution_summary AS c ON c.execution_id = g.parent_execution_id
         WHERE c.parent_execution_id = '{id}' AND g.status = 'succeeded'"
    );
    assert_eq!(fleet.database.number(&grandchildren).await, CHILDREN);
    worker.stop().await;
    last.stop().await;
    invariants::check_at_rest(&fleet.database).await;
}

#[tokio::test]
async fn a_child_is_the_newest_version_of_its_workflow() {
    let fleet = Fleet::new().await;
    let coordinator = fleet.coordinator().await;
    let worker = fleet.worker().await;
    let mut client = fleet.client().await;
    let child = |number: u32| {
        format!(
            "ref: own.child\nversion: '{number}'\ntasks: [{{name: a, action: core.noop}}]\noutput_map: {{v: {number}}}\n"
        )
    };
    // By the name of its action alone, since there is a workflow of that name.
    let parent = "ref: own.parent\ntasks: [{name: a, action: own.child}]\noutput_map: {v: '{{ task.a.result.v }}'}\n";
    let (one, two) = (child(1), child(2));
    register(&fleet, &[("child.yaml", &one), ("parent.yaml", parent)]);
    let run = async |client: &mut flotilla_tests::Client| {
        let finished = client.run(&Start::of("own.parent")).await;
        finished["output"]["v"].clone()
    };
    assert_eq!(run(&mut client).await, 1);
    register(&fleet, &[("child.yaml", &two)]);
    // The coordinator is told, which takes a moment; the version before is as good until then.
    wait_until("the new version is run", LIMIT, async || {
        run(&mut client).await == 2
    })
    .await;
    worker.stop().await;
    coordinator.stop().await;
    invariants::check_at_rest(&fleet.database).await;
}

#[tokio::test]
async fn a_workflow_that_nobody_has_registered_is_refused_with_its_place() {
    let fleet = Fleet::new().await;
    let file = fleet.folder.join("parent.yaml");
    let text = "ref: own.parent\ntasks:\n  - {name: a, type: workflow, action: tests.famly}\n";
    std::fs::write(&file, text).expect("it is written");
    let file = file.to_str().expect("a path");
    let refused = fleet.output(&["register", file]);
    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8(refused.stderr).expect("text");
    for part in [
        "there is no workflow `tests.famly`",
        "3:39",
        "did you mean tests.family?",
    ] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    // It may be registered elsewhere: whoever validates alone is only warned.
    let validated = fleet.command_ok(&["validate", file]);
    assert_eq!(validated["valid"], true);
    assert_eq!(validated["warnings"][0]["code"], "unknown_workflow");
}

#[tokio::test]
async fn a_cancel_and_a_pause_are_passed_on() {
    let fleet = Fleet::new().await;
    let coordinator = fleet.coordinator().await;
    let mut client = fleet.client().await;
    let start = Start::of("tests.family").parameters(&json!({"count": 1}));
    let id = start.execution_id();
    client.start(&start).await;
    client.reply("workflow.started", &id.to_string()).await;
    // Without a worker the child waits for its first job.
    let child = only_child(&fleet, id).await;
    let shown = fleet.command_ok(&["show", &id.to_string()]);
    let waits = |shown: &Value| {
        let tasks = shown["tasks"].as_array().expect("a list");
        let mut said = tasks.iter().filter_map(|task| task["waits_for"].as_str());
        said.any(|said| said == format!("the sub-workflow {child} runs"))
    };
    assert!(waits(&shown), "{shown}");
    let shown = fleet.command_ok(&["show", &child.to_string()]);
    assert_eq!(
        shown["execution"]["parent_execution_id"],
        json!(id.to_string())
    );
    client.command(id, "pause", "pause-1").await;
    client.answer("pause-1").await;
    fleet.database.has_status(id, "paused").await;
    fleet.database.has_status(child, "pausing").await;
    client.command(id, "resume", "resume-1").await;
    client.answer("resume-1").await;
    fleet.database.has_status(child, "running").await;
    client.command(id, "cancel", "cancel-1").await;
    client.answer("cancel-1").await;
    fleet.database.has_status(child, "cancelling").await;
    // The worker reads of the cancel, if at all, with the job; else it answers, and that is an end too.
    let worker = fleet.worker().await;
    let finished = client.reply("workflow.finished", &id.to_string()).await;
    assert_eq!(finished.body["status"], "cancelled");
    assert_eq!(
        children(&fleet, id).await,
        [("cancelled".to_owned(), 1)],
        "the parent has waited for it"
    );
    let refused = fleet.output(&["rerun", &child.to_string(), "--dry-run"]);
    let said = String::from_utf8(refused.stderr).expect("text");
    assert!(said.contains(&format!("it is a child of {id}")), "{said}");
    worker.stop().await;
    coordinator.stop().await;
    invariants::check_at_rest(&fleet.database).await;
}
