//! Loads what executions have behind them: runs that have ended, and all writes of variables. Only a
//! rerun asks for it.

use std::collections::BTreeMap;

use flotilla_protocol::ExecutionId;
use flotilla_turn::rows::{LoadedExecution, LoadedPast};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::StorageError;
use super::definitions::{StoredDefinition, load_definitions};
use super::load::load_executions;
use super::load_items::most_bytes;
use super::load_rows::{self, Reader};

/// An execution with all that it has behind it, and its definition.
#[derive(Debug)]
pub struct WithPast {
    /// Its row, and what is alive of it.
    pub execution: LoadedExecution,
    /// What it has behind it.
    pub past: LoadedPast,
    /// Its definition; `None` if it is not there.
    pub definition: Option<StoredDefinition>,
}

/// An execution with all that it has behind it, of one moment; `None` if it does not exist.
///
/// # Errors
///
/// When the database fails or holds what this version cannot read.
pub async fn load_with_past(
    conn: &mut PgConnection,
    id: ExecutionId,
) -> Result<Option<WithPast>, StorageError> {
    let mut moment = conn
        .begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .await
        .map_err(StorageError::step("hold on to a moment"))?;
    // Its family comes with it.
    let mut family = load_executions(&mut moment, &[id]).await?.into_iter();
    let Some(execution) = family.find(|one| one.row.execution_id == id) else {
        return Ok(None);
    };
    let past = load_pasts(&mut moment, &[id]).await?.pop();
    let hashes = [execution.row.definition_hash];
    let definition = load_definitions(&mut *moment, &hashes).await?.pop();
    moment
        .commit()
        .await
        .map_err(StorageError::step("let go of a moment"))?;
    Ok(past.map(|past| WithPast {
        execution,
        past,
        definition,
    }))
}

/// What these executions have behind them, in the order of ids; one that does not exist has nothing.
///
/// Inputs are left out: nothing reads them. So are the items of tasks of which all have succeeded.
///
/// # Errors
///
/// When the database fails or holds what this version cannot read.
pub async fn load_pasts(
    conn: &mut PgConnection,
    ids: &[ExecutionId],
) -> Result<Vec<LoadedPast>, StorageError> {
    let mut pasts: BTreeMap<ExecutionId, LoadedPast> = BTreeMap::new();
    for id in ids {
        let past = LoadedPast {
            execution_id: *id,
            tasks: Vec::new(),
            variables: Vec::new(),
            too_large: Vec::new(),
        };
        pasts.insert(*id, past);
    }
    let ids: Vec<Uuid> = pasts.keys().map(|id| id.0).collect();
    add_tasks(conn, &ids, &mut pasts).await?;
    let rows = sqlx::query(
        "SELECT v.execution_id, v.write_no, v.name, v.value::text, v.previous_write_no \
         FROM workflow_variable AS v WHERE v.execution_id = ANY ($1) \
         ORDER BY v.execution_id, v.write_no",
    )
    .bind(&ids)
    .fetch_all(&mut *conn)
    .await
    .map_err(StorageError::step("load all writes"))?;
    for row in &rows {
        let variable = load_rows::variable(row)?;
        if let Some(past) = pasts.get_mut(&variable.execution_id) {
            past.variables.push(variable);
        }
    }
    Ok(pasts.into_values().collect())
}

/// Adds runs that have ended. What is stored of results takes less room than what is read, so none is left
/// out that would fit in a list.
async fn add_tasks(
    conn: &mut PgConnection,
    ids: &[Uuid],
    pasts: &mut BTreeMap<ExecutionId, LoadedPast>,
) -> Result<(), StorageError> {
    let rows = sqlx::query(
        "SELECT t.execution_id, t.run, t.task, t.visit, t.status::text, t.attempt, \
             t.max_attempts, t.starts, t.held, t.action, t.timeout_s, NULL::text AS input, \
             t.branch::text, t.caused_by, t.arrived, t.worker, \
             CASE WHEN t.item_of IS NULL OR t.bytes <= $2 THEN t.result::text END AS result, \
             t.error::text, \
             t.created_at, t.dispatched_at, t.started_at, t.finished_at, t.item_of, t.item_index, \
             t.batch_size, t.items::text, t.item_progress::text, t.secrets::text, \
             t.item_of IS NOT NULL AND t.bytes > $2 AS is_too_large \
         FROM ( \
             SELECT r.*, coalesce(sum(pg_column_size(r.result)) \
                 OVER (PARTITION BY r.execution_id, r.item_of), 0) AS bytes \
             FROM workflow_task AS r \
             LEFT JOIN workflow_task AS w \
                 ON w.execution_id = r.execution_id AND w.run = r.item_of \
             WHERE r.execution_id = ANY ($1) AND r.finished_at IS NOT NULL \
                 AND (r.item_of IS NULL \
                     OR (w.item_progress ->> 'failed')::bigint > 0 \
                     OR (w.item_progress ->> 'cancelled')::bigint > 0 \
                     OR (w.item_progress ->> 'next')::bigint \
                         < (w.item_progress ->> 'count')::bigint) \
         ) AS t \
         ORDER BY t.execution_id, t.run",
    )
    .bind(ids)
    .bind(most_bytes())
    .fetch_all(&mut *conn)
    .await
    .map_err(StorageError::step("load runs that have ended"))?;
    for row in &rows {
        let (id, task) = load_rows::task(row)?;
        let reader = Reader {
            table: "workflow_task",
            row,
        };
        let is_too_large: bool = reader.read("is_too_large")?;
        if let Some(past) = pasts.get_mut(&id) {
            let of = task.item_of.filter(|_| is_too_large);
            let news = of.filter(|of| !past.too_large.contains(of));
            past.too_large.extend(news);
            past.tasks.push(task);
        }
    }
    Ok(())
}
