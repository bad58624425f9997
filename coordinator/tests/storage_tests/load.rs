//! What is written can be loaded, and no more is loaded than is alive.

use flotilla_coordinator::storage;
use flotilla_engine::DefinitionHash;
use flotilla_engine::execution::Counts;
use flotilla_turn::rows::{
    Commit, ExistingStart, FoundDefinition, FoundStart, LoadedExecution, LoadedRow, LoadedTask,
    StartLookup, TaskRow,
};
use sqlx::PgPool;

use crate::support::{
    HASH, at, committed, definition, id, json, ready, start, start_turn, state, succeeded, task,
    turn, variable,
};

/// A run as it is loaded after it was written whole.
fn loaded(task: &TaskRow) -> LoadedTask {
    LoadedTask {
        run: task.run,
        task: task.task.clone(),
        visit: task.visit,
        status: task.status.to_owned(),
        attempt: task.attempt,
        max_attempts: task.max_attempts,
        starts: task.starts,
        held: task.held,
        action: task.action.clone(),
        timeout_s: task.timeout_s,
        item_of: task.item_of,
        item_index: task.item_index,
        batch_size: task.batch_size,
        items: task.items.clone(),
        item_progress: task.item_progress.clone(),
        secrets: task.secrets.clone(),
        input: task.input.clone(),
        branch: task.branch.clone().expect("it was written"),
        caused_by: task.caused_by.clone(),
        arrived: task.arrived.clone(),
        worker: task.worker.clone(),
        result: task.result.clone(),
        error: task.error.clone(),
        created_at: task.created_at,
        dispatched_at: task.dispatched_at,
        started_at: task.started_at,
        finished_at: task.finished_at,
    }
}

fn full_task() -> TaskRow {
    TaskRow {
        status: "retrying",
        attempt: 2,
        starts: 3,
        held: true,
        branch: Some(json(
            r#"{"vars": {"x": 3}, "tasks": {"greet": 1}, "passed": {"2": 4}}"#,
        )),
        caused_by: vec![1, 4],
        arrived: vec![0, 2],
        worker: Some("w-1".to_owned()),
        result: Some(json("[1, 2]")),
        error: Some(json(r#"{"kind": "task_failed", "message": "no"}"#)),
        started_at: Some(at(3)),
        ..task(id(1), 2)
    }
}

/// The start of an execution of which every column has a value of its own.
fn full_start() -> Commit {
    let mut commit = start_turn(1, id(1));
    let row = &mut commit.new_executions[0];
    row.partition = 0;
    row.idempotency_key = Some("key".to_owned());
    row.tags = json(r#"{"team": "a"}"#);
    row.reply_to = json(r#"[{"reply_to": "q"}]"#);
    row.traceparent = Some("00-1-2-01".to_owned());
    row.state = state(id(1), &[2]);
    row.state.counts = Counts {
        total: 9,
        active: 1,
        succeeded: 2,
        failed: 1,
        timed_out: 1,
        cancelled: 1,
        skipped: 2,
        omitted: 1,
        attempts: 12,
    };
    row.state.last_write = 3;
    row.state.ends = json(r#"{"vars": {"x": 2, "y": 1}, "last_ended": {"greet": 1}}"#);
    row.state.errors = Some(json(r#"[{"kind": "worker_lost"}]"#));
    row.state.output = Some(json(r#"{"a": 1}"#));
    commit.new_tasks = vec![
        TaskRow {
            branch: Some(json("{}")),
            ..succeeded(id(1), 1)
        },
        full_task(),
    ];
    commit.variables = vec![
        variable(id(1), 1, "y", None),
        variable(id(1), 2, "x", None),
        variable(id(1), 3, "x", Some(2)),
    ];
    commit
}

#[sqlx::test(migrations = false)]
async fn an_execution_is_loaded_as_it_was_written(pool: PgPool) {
    let mut conn = ready(&pool).await;
    let commit = full_start();
    committed(&mut conn, &commit).await;

    let found = storage::load_executions(&mut conn, &[id(9), id(1)])
        .await
        .unwrap();
    let row = &commit.new_executions[0];
    let seen = LoadedTask {
        input: None,
        branch: json("{}"),
        error: None,
        ..loaded(&commit.new_tasks[0])
    };
    let expected = LoadedExecution {
        row: LoadedRow {
            parent: None,
            timeout_s: None,
            execution_id: id(1),
            definition_hash: HASH,
            partition: 0,
            status: "running".to_owned(),
            parameters: row.parameters.clone(),
            reply_to: row.reply_to.clone(),
            traceparent: row.traceparent.clone(),
            created_at: row.created_at,
            finished_at: None,
            counts: row.state.counts,
            visits: vec![1, 0, 0],
            last_run: 2,
            last_write: 3,
            last_seq: 1,
            live_runs: vec![2],
            ends: row.state.ends.clone(),
            errors: json(r#"[{"kind": "worker_lost"}]"#),
            output: Some(json(r#"{"a": 1}"#)),
        },
        tasks: vec![loaded(&full_task())],
        variables: commit.variables.clone(),
        links: vec![(1, None), (2, None), (3, Some(2))],
        item_ends: Vec::new(),
        too_large: Vec::new(),
        seen: vec![seen],
    };
    assert_eq!(found, [expected]);
}

#[sqlx::test(migrations = false)]
async fn an_update_is_loaded_and_ended_runs_are_not(pool: PgPool) {
    let mut conn = ready(&pool).await;
    committed(&mut conn, &start_turn(1, id(1))).await;
    let mut second = turn(2, &[0]);
    let mut after = state(id(1), &[2]);
    after.counts = Counts {
        total: 2,
        active: 1,
        succeeded: 1,
        attempts: 2,
        ..Counts::default()
    };
    after.last_seq = 5;
    second.executions.push(after.clone());
    second.tasks.push(succeeded(id(1), 1));
    second.new_tasks.push(task(id(1), 2));
    committed(&mut conn, &second).await;
    let found = storage::load_executions(&mut conn, &[id(1)]).await.unwrap();
    assert_eq!(found[0].row.counts, after.counts);
    assert_eq!(found[0].row.last_seq, 5);
    assert_eq!(found[0].tasks, [loaded(&task(id(1), 2))]);
    assert_eq!(found[0].seen, []);

    let mut third = turn(3, &[0]);
    after.status = "succeeded";
    after.live_runs = Vec::new();
    after.counts.active = 0;
    after.counts.succeeded = 2;
    after.finished_at = Some(at(9));
    third.executions.push(after);
    third.tasks.push(succeeded(id(1), 2));
    committed(&mut conn, &third).await;
    let found = storage::load_executions(&mut conn, &[id(1)]).await.unwrap();
    assert_eq!(found[0].row.status, "succeeded");
    assert_eq!(found[0].row.finished_at, Some(at(9)));
    assert_eq!(found[0].tasks, []);
}

#[sqlx::test(migrations = false)]
async fn a_history_of_writes_is_loaded_as_far_as_a_live_run_sees_it(pool: PgPool) {
    let mut conn = ready(&pool).await;
    // Run 1 loops over x and has written it up to 50; run 2 still sees write 20, and nobody sees
    // the older ones. Write 7 of z is seen by both and has no history that matters.
    let mut commit = start_turn(1, id(1));
    commit.new_executions[0].state = state(id(1), &[1, 2]);
    commit.new_tasks = vec![
        TaskRow {
            branch: Some(json(r#"{"vars": {"x": 50, "z": 7}}"#)),
            ..task(id(1), 1)
        },
        TaskRow {
            branch: Some(json(r#"{"vars": {"x": 20, "z": 7}}"#)),
            ..task(id(1), 2)
        },
    ];
    let name = |no| if no % 10 == 7 { "z" } else { "x" };
    let previous = |no: u64| match no {
        1 | 7 => None,
        no if no % 10 == 7 => Some(no - 10),
        no if no % 10 == 8 => Some(no - 2),
        no => Some(no - 1),
    };
    commit.variables = (1..=50)
        .map(|no| variable(id(1), no, name(no), previous(no)))
        .collect();
    committed(&mut conn, &commit).await;
    let found = storage::load_executions(&mut conn, &[id(1)]).await.unwrap();
    let numbers: Vec<u64> = found[0].variables.iter().map(|v| v.write_no).collect();
    assert_eq!(numbers, [7, 20, 50]);
    let mut expected: Vec<(u64, Option<u64>)> = (20..=50)
        .filter(|no| no % 10 != 7)
        .map(|no| (no, previous(no)))
        .collect();
    expected.insert(0, (7, None));
    assert_eq!(found[0].links, expected);
}

fn lookup(number: u128, key: Option<&str>, workflow: &str, version: Option<&str>) -> StartLookup {
    StartLookup {
        execution_id: Some(id(number)),
        idempotency_key: key.map(str::to_owned),
        workflow: workflow.to_owned(),
        version: version.map(str::to_owned),
    }
}

#[sqlx::test(migrations = false)]
async fn starts_are_found_by_id_and_by_key(pool: PgPool) {
    let mut conn = ready(&pool).await;
    let mut commit = start_turn(1, id(1));
    commit.starts[0] = start(id(1), Some("key"));
    committed(&mut conn, &commit).await;
    let lookups = [
        lookup(1, None, "demo.hello", None),
        lookup(2, Some("key"), "demo.hello", None),
        lookup(2, Some("other"), "demo.hello", None),
        StartLookup {
            execution_id: None,
            ..lookup(0, None, "demo.hello", None)
        },
    ];
    let found = storage::load_starts(&mut conn, &lookups).await.unwrap();
    let existing = Some(ExistingStart {
        execution_id: id(1),
        workflow: "demo.hello".to_owned(),
        partition: 0,
    });
    let existing: Vec<_> = [existing.clone(), existing, None, None]
        .into_iter()
        .collect();
    assert_eq!(
        found.into_iter().map(|f| f.existing).collect::<Vec<_>>(),
        existing
    );
}

#[sqlx::test(migrations = false)]
async fn the_newest_registration_of_a_definition_counts(pool: PgPool) {
    let mut conn = ready(&pool).await;
    let hash = |n| DefinitionHash([n; 32]);
    let register = async |n, version: &str| {
        storage::register_definition(&pool, &definition(hash(n), "text"), "demo.a", version)
            .await
            .unwrap()
    };
    assert!(register(1, "1.0.0").await);
    assert!(register(2, "1.0.0").await);
    assert!(register(3, "2.0.0").await);
    let mut newest = async |version| {
        let lookups = [lookup(1, None, "demo.a", version)];
        storage::load_starts(&mut conn, &lookups).await.unwrap()[0].definition
    };
    assert_eq!(newest(None).await, FoundDefinition::Registered(hash(3)));
    assert_eq!(
        newest(Some("1.0.0")).await,
        FoundDefinition::Registered(hash(2))
    );
    assert_eq!(newest(Some("3.0.0")).await, FoundDefinition::UnknownVersion);
    // The old bytes again: not new, but the newest.
    assert!(!register(1, "1.0.0").await);
    assert_eq!(
        newest(Some("1.0.0")).await,
        FoundDefinition::Registered(hash(1))
    );
    assert_eq!(newest(None).await, FoundDefinition::Registered(hash(1)));
    let unknown = storage::load_starts(&pool, &[lookup(1, None, "demo.b", None)])
        .await
        .unwrap();
    let expected = FoundStart {
        existing: None,
        definition: FoundDefinition::UnknownWorkflow,
    };
    assert_eq!(unknown, [expected]);
}

#[sqlx::test(migrations = false)]
async fn one_text_has_one_name(pool: PgPool) {
    drop(ready(&pool).await);
    let text = definition(HASH, "text");
    storage::register_definition(&pool, &text, "demo.a", "1")
        .await
        .unwrap();
    let taken = storage::register_definition(&pool, &text, "demo.b", "1").await;
    assert_eq!(
        taken.unwrap_err().to_string(),
        "this text is already registered as demo.a 1"
    );
    let sources = storage::load_definitions(&pool, &[HASH, DefinitionHash([9; 32])]).await;
    assert_eq!(sources.unwrap(), [text]);
}
