//! Reruns on a whole fleet: what has failed runs again by a command, and survives the death of its owner.

use flotilla_tests::{Fleet, Start};
use serde_json::{Value, json};

const AGAIN: &str = "
ref: tests.again
parameters: {code: {type: integer, default: 1}, seconds: {type: number, default: 0}}
vars: {all: null}
tasks:
  - {name: a, action: core.noop, on_success: j}
  - name: work
    action: core.shell
    with_items: [0, 1, 2]
    input: {script: \"test {{ item }} -ne 1 || exit {{ parameters.code }}\"}
    publish: [{all: \"{{ result() | length }}\"}]
    on_success: j
  - {name: j, join: all, action: core.sleep, input: {seconds: \"{{ parameters.seconds }}\"}}
finally: [clean]
output_map: {all: \"{{ vars.all }}\"}
";

fn document(output: &std::process::Output) -> Value {
    serde_json::from_slice(&output.stdout).expect("one JSON document on stdout")
}

/// A fleet in which an execution has failed: one of three items, before the join.
async fn failed(fleet: &Fleet) -> Start {
    let file = fleet.folder.join("again.yaml");
    let text = AGAIN.replace("finally:", "  - {name: clean, action: core.noop}\nfinally:");
    std::fs::write(&file, text).expect("the file is written");
    fleet.command_ok(&["register", &file.to_string_lossy()]);
    let start = Start::of("tests.again");
    fleet.client().await.start(&start.clone().silent()).await;
    fleet
        .database
        .has_status(start.execution_id(), "failed")
        .await;
    start
}

/// What cannot run again is refused with the reason, also where it is only rehearsed.
fn is_refused(fleet: &Fleet, id: &str) {
    for (arguments, reason) in [
        (["--from", "nobody"], "unknown_task"),
        (["-p", "code=none"], "invalid_parameters"),
        (["--var", "other=1"], "invalid_variables"),
    ] {
        let mut command = vec!["rerun", id];
        command.extend(arguments);
        for dry_run in [false, true] {
            command.extend(dry_run.then_some("--dry-run"));
            let output = fleet.output(&command);
            assert_eq!(output.status.code(), Some(2), "{command:?}");
            let reply = document(&output);
            assert_eq!(reply["reason"], reason);
            assert!(reply["detail"].is_string(), "{reply}");
        }
    }
}

#[tokio::test]
async fn what_failed_runs_again_by_a_command_and_what_succeeded_is_kept() {
    let fleet = Fleet::new().await;
    let coordinator = fleet.coordinator().await;
    let worker = fleet.worker_with(&["--allow-shell"]).await;
    let start = failed(&fleet).await;
    let execution = start.execution_id();
    let id = execution.to_string();

    let rehearsed = fleet.command_ok(&["rerun", &id, "--dry-run"]);
    assert_eq!(rehearsed["plan"]["again"], json!({"work": [1]}));
    assert_eq!(rehearsed["plan"]["reopened"], json!({"j": [1]}));
    assert_eq!(rehearsed["plan"]["kept"], json!({"a": [1]}));
    let items = json!({"work": {"again": 1, "kept": 2}});
    assert_eq!(rehearsed["plan"]["items"], items);
    let all = fleet.command_ok(&["rerun", &id, "--dry-run", "--reset-items"]);
    assert_eq!(all["plan"]["again"], json!({"work": [1]}));
    assert_eq!(all["plan"]["items"], json!({}));
    assert_eq!(
        fleet.database.status(execution).await.as_deref(),
        Some("failed")
    );

    is_refused(&fleet, &id);
    let reply = fleet.command_ok(&["rerun", &id, "-p", "code=0"]);
    assert_eq!(
        reply,
        json!({"execution_id": id, "command": "rerun", "accepted": true, "reason": null})
    );
    fleet.database.has_status(execution, "succeeded").await;
    let shown = fleet.command_ok(&["show", &id]);
    assert_eq!(shown["execution"]["output"], json!({"all": 3}));
    assert_eq!(shown["execution"]["parameters"]["code"], 0);
    let runs: Vec<(String, i32, String)> = fleet
        .database
        .rows(
            "SELECT task, visit, concat_ws(' ', item_index, status) FROM workflow_task_detail \
             ORDER BY task, visit, item_index NULLS FIRST",
        )
        .await;
    let runs: Vec<String> = runs
        .iter()
        .map(|(task, visit, rest)| format!("{task} {visit} {rest}"))
        .collect();
    assert_eq!(
        runs,
        [
            "a 1 succeeded",
            "clean 1 succeeded",
            "clean 2 succeeded",
            "j 1 omitted",
            "j 2 succeeded",
            "work 1 failed",
            "work 1 0 succeeded",
            "work 1 1 failed",
            "work 1 2 succeeded",
            "work 2 succeeded",
            "work 2 1 succeeded",
        ]
    );
    fleet.rest([worker, coordinator]).await;
}

#[tokio::test]
async fn a_rerun_survives_the_death_of_its_owner() {
    let fleet = Fleet::new().await;
    let coordinator = fleet.coordinator().await;
    let worker = fleet.worker_with(&["--allow-shell"]).await;
    let start = failed(&fleet).await;
    let execution = start.execution_id();
    let id = execution.to_string();
    fleet.command_ok(&["rerun", &id, "-p", "code=0", "-p", "seconds=2"]);
    fleet.database.tasks("running", 1).await;
    coordinator.kill();
    let next = fleet.coordinator().await;
    fleet.database.has_status(execution, "succeeded").await;
    assert_eq!(
        fleet.command_ok(&["show", &id])["execution"]["output"],
        json!({"all": 3})
    );
    fleet.command_ok(&["rerun", &id, "--from", "work", "--reset-items"]);
    fleet.database.has_status(execution, "succeeded").await;
    let items = "SELECT count(*) FROM workflow_task WHERE item_of IS NOT NULL AND visit = 3";
    assert_eq!(fleet.database.number(items).await, 3);
    fleet.rest([worker, next]).await;
}
