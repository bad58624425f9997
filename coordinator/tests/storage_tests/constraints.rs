//! The checks of the tables: each refuses what it is there for, and nothing else.

use flotilla_turn::rows::VariableRow;
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};

use crate::support::{committed, id, json, ready, start_turn};

/// Writes to the rows of one execution, and the check that refuses each; no check where it holds.
const WRITES: &[(&str, Option<&str>)] = &[
    (
        "workflow_execution SET tasks_total = tasks_total + 1",
        COUNTS,
    ),
    (
        "workflow_execution SET tasks_succeeded = 1, tasks_failed = -1",
        COUNTS,
    ),
    (
        "workflow_execution SET tasks_succeeded = -1, tasks_failed = 1",
        COUNTS,
    ),
    (
        "workflow_execution SET tasks_timed_out = -1, tasks_failed = 1",
        COUNTS,
    ),
    (
        "workflow_execution SET tasks_cancelled = -1, tasks_failed = 1",
        COUNTS,
    ),
    (
        "workflow_execution SET tasks_skipped = -1, tasks_failed = 1",
        COUNTS,
    ),
    (
        "workflow_execution SET tasks_omitted = -1, tasks_failed = 1",
        COUNTS,
    ),
    ("workflow_execution SET attempts_total = -1", COUNTS),
    (
        "workflow_execution SET tasks_active = 0, tasks_omitted = 1",
        Some("workflow_execution_active_are_live"),
    ),
    (
        "workflow_execution SET tasks_total = 3, tasks_failed = 2, attempts_total = 0",
        None,
    ),
    (
        "workflow_execution SET last_run = -1",
        Some("workflow_execution_numbers"),
    ),
    (
        "workflow_execution SET last_write = -1",
        Some("workflow_execution_numbers"),
    ),
    (
        "workflow_execution SET last_seq = 0",
        Some("workflow_execution_numbers"),
    ),
    ("workflow_task SET run = 0", NUMBERS),
    ("workflow_task SET visit = 0", NUMBERS),
    ("workflow_task SET max_attempts = 0", NUMBERS),
    ("workflow_task SET starts = -1", NUMBERS),
    (
        "workflow_task SET status = 'delayed', attempt = -1",
        NUMBERS,
    ),
    ("workflow_task SET status = 'delayed', attempt = 0", None),
    (
        "workflow_task SET attempt = 0",
        Some("workflow_task_dispatched_has_attempt"),
    ),
    ("workflow_task SET item_of = 0", ITEM),
    ("workflow_task SET item_index = 0", ITEM),
    ("workflow_task SET item_of = 1, item_index = 0", ITEM),
    ("workflow_task SET item_of = 0, item_index = -1", ITEM),
    ("workflow_task SET batch_size = 0", ITEM),
    ("workflow_task SET item_of = 0, item_index = 0", None),
    (
        "workflow_task SET item_of = 0, item_index = 0, batch_size = 1",
        None,
    ),
    ("workflow_variable SET write_no = 0", VARIABLE),
    ("workflow_variable SET previous_write_no = 0", VARIABLE),
    (
        "workflow_variable SET previous_write_no = write_no",
        VARIABLE,
    ),
    (
        "workflow_variable SET write_no = 2, previous_write_no = 1",
        None,
    ),
];

const COUNTS: Option<&str> = Some("workflow_execution_counts_add_up");
const NUMBERS: Option<&str> = Some("workflow_task_numbers");
const ITEM: Option<&str> = Some("workflow_task_item_is_complete");
const VARIABLE: Option<&str> = Some("workflow_variable_previous_is_older");

#[sqlx::test(migrations = false)]
async fn a_check_refuses_what_it_is_there_for(pool: PgPool) {
    let mut conn = with_an_execution(&pool).await;
    for (write, check) in WRITES {
        assert_eq!(
            refused_by(&mut conn, write).await.as_deref(),
            *check,
            "{write}"
        );
    }
}

#[sqlx::test(migrations = false)]
async fn a_status_is_final_exactly_where_there_is_an_end(pool: PgPool) {
    let mut conn = with_an_execution(&pool).await;
    let of_executions = ["succeeded", "failed", "cancelled", "timed_out"];
    let of_tasks = [&of_executions[..], &["skipped", "omitted"]].concat();
    for (table, status_type, finals) in [
        ("workflow_execution", "execution_status", &of_executions[..]),
        ("workflow_task", "task_status", &of_tasks[..]),
    ] {
        let statuses: Vec<String> = sqlx::query_scalar(AssertSqlSafe(format!(
            "SELECT unnest(enum_range(NULL::{status_type}))::text"
        )))
        .fetch_all(&mut conn)
        .await
        .unwrap();
        assert!(statuses.len() > finals.len(), "{statuses:?}");
        for status in statuses {
            let is_final = finals.contains(&status.as_str());
            let check = format!("{table}_finished_iff_final");
            for (finished_at, holds) in [("now()", is_final), ("NULL", !is_final)] {
                let write = format!("{table} SET status = '{status}', finished_at = {finished_at}");
                let expected = (!holds).then_some(check.as_str());
                let said = refused_by(&mut conn, &write).await;
                assert_eq!(said.as_deref(), expected, "{write}");
            }
        }
    }
}

/// A connection to a database with one execution that runs, its task, and a variable.
async fn with_an_execution(pool: &PgPool) -> PgConnection {
    let mut conn = ready(pool).await;
    let mut start = start_turn(1, id(1));
    start.variables.push(VariableRow {
        execution_id: id(1),
        write_no: 1,
        name: "n".to_owned(),
        value: json("7"),
        previous_write_no: None,
    });
    committed(&mut conn, &start).await;
    conn
}

/// The check that refuses a write, which is taken back; `None` if it is written.
async fn refused_by(conn: &mut PgConnection, write: &str) -> Option<String> {
    let mut tx = conn.begin().await.expect("a transaction");
    let written = sqlx::query(AssertSqlSafe(format!("UPDATE {write}")))
        .execute(&mut *tx)
        .await;
    tx.rollback().await.expect("it is taken back");
    match written {
        Ok(done) => {
            assert_eq!(done.rows_affected(), 1, "{write}");
            None
        }
        Err(sqlx::Error::Database(said)) if said.is_check_violation() => {
            Some(said.constraint().expect("its name").to_owned())
        }
        Err(error) => panic!("{write}: {error}"),
    }
}
