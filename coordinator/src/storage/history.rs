//! Whole histories: all that is stored of executions, for who wants to follow them from the start.

use std::collections::BTreeMap;

use flotilla_engine::execution::TransitionKind;
use flotilla_protocol::{ExecutionId, TaskId};
use flotilla_turn::fold::History;
use flotilla_turn::rows::LoadedTransition;
use sqlx::postgres::PgRow;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::StorageError;
use super::load::load_rows_alone;
use super::load_rows::{self, Reader};
use super::partitions::timer;

type Histories = BTreeMap<ExecutionId, History>;

/// All rows of these executions, of one moment, in the order of ids; those that do not exist are
/// absent.
///
/// The moment is a transaction that reads several times and sees the same: the one place where a
/// transaction is open across an await. It locks nothing.
///
/// # Errors
///
/// When the database fails or holds what this version cannot read.
pub async fn load_history(
    conn: &mut PgConnection,
    ids: &[ExecutionId],
) -> Result<Vec<History>, StorageError> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let mut moment = conn
        .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .await
        .map_err(StorageError::step("hold on to a moment"))?;
    let mut histories: Histories = load_rows_alone(&mut moment, &ids)
        .await?
        .into_iter()
        .map(|(id, loaded)| {
            let history = History {
                row: loaded.row,
                tasks: Vec::new(),
                variables: Vec::new(),
                transitions: Vec::new(),
                timers: Vec::new(),
            };
            (id, history)
        })
        .collect();
    add_tasks(&mut moment, &ids, &mut histories).await?;
    add_variables(&mut moment, &ids, &mut histories).await?;
    add_transitions(&mut moment, &ids, &mut histories).await?;
    add_timers(&mut moment, &ids, &mut histories).await?;
    moment
        .commit()
        .await
        .map_err(StorageError::step("let go of a moment"))?;
    Ok(histories.into_values().collect())
}

async fn add_tasks(
    conn: &mut PgConnection,
    ids: &[Uuid],
    histories: &mut Histories,
) -> Result<(), StorageError> {
    let rows = sqlx::query(
        "SELECT t.execution_id, t.run, t.task, t.visit, t.status::text, t.attempt, \
             t.max_attempts, t.starts, t.held, t.action, t.timeout_s, t.input::text, \
             t.branch::text, t.caused_by, t.arrived, t.worker, t.result::text, t.error::text, \
             t.created_at, t.dispatched_at, t.started_at, t.finished_at, t.item_of, t.item_index, \
             t.batch_size, t.items::text, t.item_progress::text, t.secrets::text \
         FROM workflow_task AS t WHERE t.execution_id = ANY ($1) \
         ORDER BY t.execution_id, t.run",
    )
    .bind(ids)
    .fetch_all(conn)
    .await
    .map_err(StorageError::step("load all tasks"))?;
    for row in &rows {
        let (id, task) = load_rows::task(row)?;
        if let Some(history) = histories.get_mut(&id) {
            history.tasks.push(task);
        }
    }
    Ok(())
}

async fn add_variables(
    conn: &mut PgConnection,
    ids: &[Uuid],
    histories: &mut Histories,
) -> Result<(), StorageError> {
    let rows = sqlx::query(
        "SELECT v.execution_id, v.write_no, v.name, v.value::text, v.previous_write_no \
         FROM workflow_variable AS v WHERE v.execution_id = ANY ($1) \
         ORDER BY v.execution_id, v.write_no",
    )
    .bind(ids)
    .fetch_all(conn)
    .await
    .map_err(StorageError::step("load all variables"))?;
    for row in &rows {
        let variable = load_rows::variable(row)?;
        if let Some(history) = histories.get_mut(&variable.execution_id) {
            history.variables.push(variable);
        }
    }
    Ok(())
}

async fn add_transitions(
    conn: &mut PgConnection,
    ids: &[Uuid],
    histories: &mut Histories,
) -> Result<(), StorageError> {
    let rows = sqlx::query(
        "SELECT l.execution_id, l.seq, l.at, l.kind::text, l.task_id, l.attempt, l.from_status, \
             l.to_status, l.detail::text \
         FROM workflow_transition AS l WHERE l.execution_id = ANY ($1) \
         ORDER BY l.execution_id, l.seq",
    )
    .bind(ids)
    .fetch_all(conn)
    .await
    .map_err(StorageError::step("load the log"))?;
    for row in &rows {
        let (id, transition) = transition(row)?;
        if let Some(history) = histories.get_mut(&id) {
            history.transitions.push(transition);
        }
    }
    Ok(())
}

fn transition(row: &PgRow) -> Result<(ExecutionId, LoadedTransition), StorageError> {
    let reader = Reader {
        table: "workflow_transition",
        row,
    };
    let kind: &str = reader.read("kind")?;
    let attempt: Option<i32> = reader.read("attempt")?;
    let attempt = attempt
        .map(u32::try_from)
        .transpose()
        .map_err(|_| reader.problem("attempt", "it is negative".to_owned()))?;
    let task_id: Option<Uuid> = reader.read("task_id")?;
    let transition = LoadedTransition {
        seq: reader.read("seq")?,
        at: reader.read("at")?,
        kind: TransitionKind::from_word(kind)
            .ok_or_else(|| reader.problem("kind", format!("{kind} is not known")))?,
        task_id: task_id.map(TaskId),
        attempt,
        from_status: reader.read("from_status")?,
        to_status: reader.read("to_status")?,
        detail: reader.optional_json("detail")?,
    };
    Ok((load_rows::execution_id(&reader)?, transition))
}

async fn add_timers(
    conn: &mut PgConnection,
    ids: &[Uuid],
    histories: &mut Histories,
) -> Result<(), StorageError> {
    let rows = sqlx::query(
        "SELECT w.execution_id, w.run::bigint, w.partition, w.kind::text, w.due_at \
         FROM workflow_timer AS w WHERE w.execution_id = ANY ($1) \
         ORDER BY w.execution_id, w.run",
    )
    .bind(ids)
    .fetch_all(conn)
    .await
    .map_err(StorageError::step("load all timers"))?;
    for row in &rows {
        let timer = timer(row)?;
        if let Some(history) = histories.get_mut(&timer.execution_id) {
            history.timers.push(timer);
        }
    }
    Ok(())
}
