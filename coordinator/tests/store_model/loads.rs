//! Look-ups, and executions as they come back.

use flotilla_engine::execution::{Parent, TransitionKind};
use flotilla_protocol::ExecutionId;
use flotilla_simulation::store::Call;
use flotilla_turn::LoadRequest;
use flotilla_turn::rows::{
    ControlLookup, ExistingStart, FoundDefinition, LoadedTask, LostJob, StartLookup, TaskRow,
    TransitionRow,
};
use sqlx::PgPool;

use crate::answer::Answer;
use crate::database::{on_both, with_partitions};
use crate::rows::{
    WORKFLOW, add_start, at, id, json, start_turn, state, succeeded, task, transition, turn,
    variable,
};

fn lookup(execution_id: Option<ExecutionId>, key: Option<&str>) -> StartLookup {
    StartLookup {
        execution_id,
        idempotency_key: key.map(str::to_owned),
        workflow: WORKFLOW.to_owned(),
        version: None,
    }
}

#[sqlx::test(migrations = false)]
async fn a_start_is_found_by_its_id_before_its_key(pool: PgPool) {
    with_partitions(&pool, 2, async |database| {
        let mut commit = turn(1, &[0, 1]);
        add_start(&mut commit, id(1), 0);
        add_start(&mut commit, id(2), 1);
        commit.starts[1].idempotency_key = Some("key".to_owned());
        database.committed(&commit).await;
        let existing = |number, partition| {
            Some(ExistingStart {
                execution_id: id(number),
                workflow: WORKFLOW.to_owned(),
                partition,
            })
        };
        for (lookup, expected) in [
            (lookup(Some(id(1)), None), existing(1, 0)),
            (lookup(None, Some("key")), existing(2, 1)),
            (lookup(Some(id(1)), Some("key")), existing(1, 0)),
            (lookup(Some(id(9)), Some("key")), existing(2, 1)),
            (lookup(Some(id(9)), Some("none")), None),
            (lookup(None, None), None),
        ] {
            let found = database.load_start(lookup.clone()).await;
            assert_eq!(found.existing, expected, "{lookup:?}");
        }
    })
    .await;
}

#[sqlx::test(migrations = false)]
async fn a_start_is_told_what_it_would_run(pool: PgPool) {
    on_both(&pool, 1, async |database| {
        let hash = flotilla_simulation::workflows()[0].hash;
        let newest = lookup(None, None);
        let this = StartLookup {
            version: Some("0.0.0".to_owned()),
            ..newest.clone()
        };
        let other = StartLookup {
            version: Some("1.0.0".to_owned()),
            ..newest.clone()
        };
        let unknown = StartLookup {
            workflow: "t.none".to_owned(),
            ..other.clone()
        };
        for (lookup, expected) in [
            (newest, FoundDefinition::Registered(hash)),
            (this, FoundDefinition::Registered(hash)),
            (other, FoundDefinition::UnknownVersion),
            (unknown, FoundDefinition::UnknownWorkflow),
        ] {
            let found = database.load_start(lookup.clone()).await;
            assert_eq!(found.definition, expected, "{lookup:?}");
        }
    })
    .await;
}

#[sqlx::test(migrations = false)]
async fn commands_that_were_carried_out_stand_in_the_log(pool: PgPool) {
    with_partitions(&pool, 1, async |database| {
        database.committed(&start_turn(1, id(1))).await;
        let entry = |seq, kind, detail| TransitionRow {
            kind,
            detail: Some(json(detail)),
            ..transition(id(1), seq)
        };
        let mut commit = turn(2, &[0]);
        let applied = TransitionKind::ControlApplied;
        let other = TransitionKind::TaskEnded;
        commit.transitions = vec![
            entry(2, applied, r#"{"message_id": "m-1"}"#),
            entry(3, applied, r#"{"action": "pause"}"#),
            entry(4, other, r#"{"message_id": "m-2"}"#),
        ];
        database.committed(&commit).await;
        let lookup = |number, message: &str| ControlLookup {
            execution_id: id(number),
            message_id: message.to_owned(),
        };
        let request = LoadRequest {
            controls: vec![
                lookup(2, "m-1"),
                lookup(1, "m-1"),
                lookup(1, "m-2"),
                lookup(1, "m-1"),
            ],
            ..LoadRequest::default()
        };
        let found = database.load(request).await;
        assert_eq!(found.controls, [lookup(1, "m-1")]);
    })
    .await;
}

/// A held run that sees an old write, with all that a run can have.
fn full_task() -> TaskRow {
    TaskRow {
        status: "retrying",
        attempt: 2,
        starts: 3,
        held: true,
        timeout_s: Some(30.0),
        item_of: None,
        item_index: None,
        batch_size: None,
        items: None,
        item_progress: None,
        secrets: None,
        branch: Some(json(
            r#"{"vars": {"x": 3}, "tasks": {"a": 1}, "passed": {"2": 4}}"#,
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

#[sqlx::test(migrations = false)]
async fn an_execution_is_loaded_with_what_its_live_runs_see(pool: PgPool) {
    with_partitions(&pool, 1, async |database| {
        let mut commit = start_turn(1, id(1));
        commit.new_executions[0].state.status = "cancelling";
        commit.new_executions[0].state.live_runs = vec![2];
        commit.new_executions[0].state.ends =
            json(r#"{"vars": {"x": 6, "y": 1}, "last_ended": {"a": 1, "b": 3}}"#);
        commit.new_tasks = vec![
            succeeded(id(1), 1),
            full_task(),
            succeeded(id(1), 3),
            succeeded(id(1), 4),
        ];
        commit.variables = vec![
            variable(id(1), 1, "y", None),
            variable(id(1), 2, "x", None),
            variable(id(1), 3, "x", Some(2)),
            variable(id(1), 4, "x", Some(3)),
            variable(id(1), 5, "x", Some(4)),
            variable(id(1), 6, "x", Some(5)),
            variable(id(1), 7, "z", None),
        ];
        database.committed(&commit).await;
        let loaded = database.load_execution(id(1)).await;
        assert_eq!(loaded.row.status, "cancelling");
        let writes: Vec<u64> = loaded.variables.iter().map(|row| row.write_no).collect();
        assert_eq!(writes, [1, 3, 6]);
        // From each write that is seen back to the oldest that a live run sees.
        assert_eq!(
            loaded.links,
            [
                (1, None),
                (3, Some(2)),
                (4, Some(3)),
                (5, Some(4)),
                (6, Some(5))
            ]
        );
        let runs = |tasks: &[LoadedTask]| tasks.iter().map(|task| task.run).collect::<Vec<_>>();
        assert_eq!(runs(&loaded.tasks), [2]);
        assert_eq!(runs(&loaded.seen), [1, 3]);
        assert!(loaded.seen.iter().all(|run| run.input.is_none()));
        let held = &loaded.tasks[0];
        assert!(held.held);
        assert_eq!((held.starts, held.timeout_s), (3, Some(30.0)));
        assert_eq!(
            (&held.caused_by[..], &held.arrived[..]),
            (&[1, 4][..], &[0, 2][..])
        );
    })
    .await;
}

/// A run with items, of which some were not run to their end.
fn whole(run: u32, status: &'static str, progress: &str) -> TaskRow {
    TaskRow {
        status,
        items: Some(json("[1, 2, 3]")),
        item_progress: Some(json(progress)),
        branch: Some(json("{}")),
        finished_at: (status != "running").then(|| at(5)),
        ..succeeded(id(1), run)
    }
}

fn item(run: u32, of: u32, index: u32, status: &'static str) -> TaskRow {
    TaskRow {
        status,
        item_of: Some(of),
        item_index: Some(index),
        branch: Some(json("{}")),
        ..succeeded(id(1), run)
    }
}

#[sqlx::test(migrations = false)]
async fn a_rerun_finds_what_ended_and_the_items_that_were_kept(pool: PgPool) {
    with_partitions(&pool, 1, async |database| {
        let progress = |failed: u32, more: &str| {
            format!(
                r#"{{"count": 3, "concurrency": 9, "tolerated": 0, "next": 3, "active": 0,
                    "failed": {failed}, "keeps_results": true{more}}}"#
            )
        };
        let mut commit = start_turn(1, id(1));
        commit.new_executions[0].state.live_runs = vec![8];
        commit.new_tasks = vec![
            whole(1, "failed", &progress(2, "")),
            item(2, 1, 0, "succeeded"),
            item(3, 1, 1, "failed"),
            item(4, 1, 2, "failed"),
            whole(5, "failed", &progress(1, r#", "kept_of": 1"#)),
            item(6, 5, 1, "succeeded"),
            item(7, 5, 2, "failed"),
            whole(8, "running", &progress(0, r#", "kept_of": 5"#)),
            whole(9, "succeeded", &progress(0, "")),
            item(10, 9, 0, "succeeded"),
        ];
        commit.variables = vec![variable(id(1), 1, "x", None)];
        database.committed(&commit).await;
        let request = LoadRequest {
            executions: vec![id(1)],
            pasts: vec![id(1)],
            ..LoadRequest::default()
        };
        let found = database.load(request).await;
        let kept = found.executions[0]
            .item_ends
            .iter()
            .filter(|end| end.is_kept);
        let mut kept: Vec<(u32, u32)> = kept.map(|end| (end.item_of, end.item_index)).collect();
        kept.sort_unstable();
        assert_eq!(kept, [(8, 0), (8, 1)]);
        let past = &found.pasts[0];
        let runs: Vec<u32> = past.tasks.iter().map(|task| task.run).collect();
        assert_eq!(runs, [1, 2, 3, 4, 5, 6, 7, 9]);
        assert_eq!(past.variables.len(), 1);
    })
    .await;
}

#[sqlx::test(migrations = false)]
async fn executions_come_in_the_order_of_their_ids_and_once(pool: PgPool) {
    with_partitions(&pool, 1, async |database| {
        let mut commit = turn(1, &[0]);
        for (number, status) in [(1, "paused"), (2, "pausing"), (3, "failing")] {
            add_start(&mut commit, id(number), 0);
            let row = commit.new_executions.last_mut().unwrap();
            row.state.status = status;
        }
        database.committed(&commit).await;
        let request = LoadRequest {
            executions: vec![id(3), id(1), id(9), id(1)],
            ..LoadRequest::default()
        };
        let found = database.load(request).await.executions;
        let rows = found
            .iter()
            .map(|held| (held.row.execution_id, held.row.status.as_str()));
        assert_eq!(
            rows.collect::<Vec<_>>(),
            [(id(1), "paused"), (id(3), "failing")]
        );
    })
    .await;
}

#[sqlx::test(migrations = false)]
async fn jobs_that_nobody_has_started_are_silent(pool: PgPool) {
    with_partitions(&pool, 2, async |database| {
        database.set_clock(at(20)).await;
        let mut commit = turn(1, &[0, 1]);
        add_start(&mut commit, id(1), 0);
        add_start(&mut commit, id(2), 1);
        commit.new_executions[0].state = state(id(1), &[1, 2, 3, 5]);
        let dispatched = |run, seconds| TaskRow {
            dispatched_at: Some(at(seconds)),
            pool: Some(format!("pool-{run}")),
            ..task(id(1), run)
        };
        commit.new_tasks = vec![
            dispatched(1, 9),
            dispatched(2, 8),
            TaskRow {
                status: "running",
                ..dispatched(3, 0)
            },
            succeeded(id(1), 4),
            // Not older than asked for, but just as old.
            dispatched(5, 10),
            task(id(2), 1),
        ];
        database.committed(&commit).await;
        let call = Call::SilentJobs {
            partitions: vec![0],
            resend_after_s: 10.0,
        };
        let lost = |run| {
            let job = LostJob {
                partition: 0,
                execution_id: id(1),
                run,
                attempt: 1,
            };
            (job, format!("pool-{run}"))
        };
        let expected = Answer::SilentJobs(vec![lost(2), lost(1)]);
        assert_eq!(database.ask(&call).await, expected);
    })
    .await;
}

#[sqlx::test(migrations = false)]
async fn a_dead_letter_is_recorded_once(pool: PgPool) {
    on_both(&pool, 1, async |database| {
        let letter = |key: &str, reason: &str| Call::DeadLetter {
            key: key.to_owned(),
            reason: reason.to_owned(),
        };
        for (call, is_new) in [
            (letter("m-1", "poison"), true),
            (letter("m-1", "delivery_limit"), false),
            (letter("m-2", "poison"), true),
        ] {
            assert_eq!(database.ask(&call).await, Answer::DeadLetter { is_new });
        }
        assert_eq!(database.tables().await["workflow_dead_letter"].len(), 2);
    })
    .await;
}

#[sqlx::test(migrations = false)]
async fn a_family_is_loaded_as_a_whole(pool: PgPool) {
    with_partitions(&pool, 2, async |database| {
        // 1 waits for 2, which waits for 3; 4 was a child of 1 that has ended, 5 is nobody's.
        let child = |id, of| {
            let parent = Parent {
                execution_id: of,
                run: 1,
            };
            (id, Some(parent))
        };
        let waits = |execution, run| TaskRow {
            status: "running",
            pool: None,
            ..task(execution, run)
        };
        let first = ExecutionId::of_child(task(id(1), 1).task_id, 1);
        let second = ExecutionId::of_child(task(first, 1).task_id, 1);
        let mut commit = turn(1, &[0]);
        for (execution, parent) in [
            (id(1), None),
            child(first, id(1)),
            child(second, first),
            child(id(4), id(1)),
            (id(5), None),
        ] {
            add_start(&mut commit, execution, 0);
            commit.new_executions.last_mut().expect("just added").parent = parent;
            if execution == id(1) || execution == first {
                *commit.new_tasks.last_mut().expect("just added") = waits(execution, 1);
            }
        }
        database.committed(&commit).await;
        for (asked, expected) in [
            (vec![id(1)], vec![id(1), first, second]),
            (vec![first], vec![id(1), first, second]),
            (vec![second, id(5)], vec![id(1), first, second, id(5)]),
            (vec![id(4)], vec![id(1), first, second, id(4)]),
            (vec![id(9)], vec![]),
        ] {
            let request = LoadRequest {
                executions: asked.clone(),
                ..LoadRequest::default()
            };
            let mut expected = expected;
            expected.sort();
            let found = database.load(request).await.executions;
            let found: Vec<ExecutionId> = found.iter().map(|one| one.row.execution_id).collect();
            assert_eq!(found, expected, "of {asked:?}");
        }
    })
    .await;
}
