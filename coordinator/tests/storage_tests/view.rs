//! What people see: lists and single executions.

use flotilla_coordinator::storage::{self, ListFilter, StorageError};
use flotilla_engine::execution::Counts;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::support::{
    at, committed, id, json as text, ready, start_turn, state, succeeded, task, task_id, turn,
    variable,
};

fn all() -> ListFilter {
    ListFilter {
        status: None,
        workflow: None,
        limit: 50,
        cursor: None,
    }
}

fn ids(rows: &[Value]) -> Vec<String> {
    rows.iter()
        .map(|row| row["execution_id"].as_str().expect("a text").to_owned())
        .collect()
}

#[sqlx::test(migrations = false)]
async fn executions_are_listed_newest_first_page_by_page(pool: PgPool) {
    let mut conn = ready(&pool).await;
    for number in 1..=5 {
        let mut commit = start_turn(i64::try_from(number).unwrap(), id(number));
        // Two of them at the same moment.
        commit.new_executions[0].created_at = at(i64::try_from(number / 2).unwrap());
        committed(&mut conn, &commit).await;
    }
    let mut filter = ListFilter { limit: 2, ..all() };
    let mut pages = Vec::new();
    loop {
        let (rows, next) = storage::list(&pool, &filter).await.unwrap();
        pages.push(ids(&rows));
        let Some(next) = next else { break };
        filter.cursor = Some(next);
    }
    let name = |number| id(number).to_string();
    assert_eq!(
        pages,
        [
            vec![name(5), name(4)],
            vec![name(3), name(2)],
            vec![name(1)],
        ]
    );
    filter.cursor = Some("nonsense".to_owned());
    let refused = storage::list(&pool, &filter).await;
    assert!(matches!(refused, Err(StorageError::Cursor)));
}

#[sqlx::test(migrations = false)]
async fn lists_are_filtered(pool: PgPool) {
    let mut conn = ready(&pool).await;
    committed(&mut conn, &start_turn(1, id(1))).await;
    let mut other = start_turn(2, id(2));
    other.new_executions[0].workflow = "demo.other".to_owned();
    committed(&mut conn, &other).await;
    let by_workflow = ListFilter {
        workflow: Some("demo.other".to_owned()),
        ..all()
    };
    let (rows, next) = storage::list(&pool, &by_workflow).await.unwrap();
    assert_eq!((ids(&rows), next), (vec![id(2).to_string()], None));
    for (status, expected) in [("running", 2), ("failed", 0), ("no_such_status", 0)] {
        let filter = ListFilter {
            status: Some(status.to_owned()),
            ..all()
        };
        assert_eq!(
            storage::list(&pool, &filter).await.unwrap().0.len(),
            expected
        );
    }
}

#[sqlx::test(migrations = false)]
async fn an_execution_is_shown_with_all_that_belongs_to_it(pool: PgPool) {
    let mut conn = ready(&pool).await;
    committed(&mut conn, &start_turn(1, id(1))).await;
    let mut end = turn(2, &[0]);
    let mut after = state(id(1), &[]);
    after.status = "failed";
    after.counts = Counts {
        total: 2,
        succeeded: 1,
        failed: 1,
        attempts: 2,
        ..Counts::default()
    };
    after.ends = text(r#"{"vars": {"x": 2, "y": 1}}"#);
    after.last_write = 2;
    after.errors = Some(text(r#"[{"kind": "boom"}]"#));
    after.output = Some(text(r#"{"n": 1}"#));
    after.finished_at = Some(at(90));
    end.executions.push(after);
    end.tasks.push(succeeded(id(1), 1));
    let mut second = task(id(1), 2);
    second.status = "failed";
    second.caused_by = vec![1];
    second.error = Some(text(r#"{"kind": "boom", "message": "loud"}"#));
    second.finished_at = Some(at(80));
    end.new_tasks.push(second);
    end.variables = vec![variable(id(1), 1, "y", None), variable(id(1), 2, "x", None)];
    committed(&mut conn, &end).await;

    let shown = storage::show(&pool, id(1))
        .await
        .unwrap()
        .expect("it is there");
    let row = &shown.execution;
    assert_eq!(row["status"], "failed");
    assert_eq!(row["variables"], json!({"x": {"no": 2}, "y": {"no": 1}}));
    assert_eq!(row["output"], json!({"n": 1}));
    assert_eq!(row["errors"], json!([{"kind": "boom"}]));
    assert_eq!(row["duration_s"], json!(90));
    assert_eq!(
        (&row["tasks_failed"], &row["tasks_skipped"]),
        (&json!(1), &json!(0))
    );
    assert_eq!(row["parent_execution_id"], Value::Null);
    assert_eq!(shown.tasks.len(), 2);
    assert_eq!(shown.tasks[0]["status"], "succeeded");
    assert_eq!(shown.tasks[0]["caused_by"], json!([]));
    assert_eq!(shown.tasks[1]["caused_by"], json!([task_id(id(1), 1)]));
    assert_eq!(shown.tasks[1]["error_kind"], "boom");
    assert_eq!(shown.tasks[1]["error_message"], "loud");
    assert_eq!(shown.transitions.len(), 1);
    assert_eq!(shown.transitions[0]["kind"], "task_dispatched");

    let status = storage::execution_status(&pool, id(1)).await.unwrap();
    assert_eq!(status.as_deref(), Some("failed"));
    assert_eq!(storage::show(&pool, id(2)).await.unwrap(), None);
    assert_eq!(storage::execution_status(&pool, id(2)).await.unwrap(), None);
}

#[sqlx::test(migrations = false)]
async fn a_list_reads_what_it_shows(pool: PgPool) {
    let mut conn = ready(&pool).await;
    for number in 1..=40_u32 {
        let mut commit = turn(i64::from(number), &[0]);
        for index in 0..100 {
            let execution = id(u128::from(number * 100 + index));
            let mut start = start_turn(1, execution);
            commit.starts.append(&mut start.starts);
            commit.new_executions.append(&mut start.new_executions);
        }
        committed(&mut conn, &commit).await;
    }
    let plan: Vec<String> = sqlx::query_scalar(
        "EXPLAIN SELECT * FROM workflow_execution_summary \
         ORDER BY created_at DESC, execution_id DESC LIMIT 51",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    let plan = plan.join("\n");
    assert!(plan.contains("workflow_execution_by_time"), "{plan}");
}
