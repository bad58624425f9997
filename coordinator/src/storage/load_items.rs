//! Loads what the ended items of live tasks left: all of it where the list of results will be made,
//! else only the failures.

use flotilla_engine::execution::{MAX_RESULT_LIST_BYTES, Progress};
use flotilla_turn::rows::LoadedItemEnd;
use sqlx::PgConnection;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::StorageError;
use super::column::integer;
use super::load::LoadedById;
use super::load_rows::{self, Reader};

/// A live run that goes on with the items of an earlier one.
struct KeptItems {
    execution_id: Uuid,
    whole: i32,
    run: i32,
    keeps_results: bool,
}

/// Adds the ends of items to executions whose live runs are loaded; mostly there is nothing to read.
pub(super) async fn add_item_ends(
    conn: &mut PgConnection,
    loaded: &mut LoadedById,
) -> Result<(), StorageError> {
    let mut kept = Vec::new();
    let (mut ids, mut runs, mut keeps): (Vec<Uuid>, Vec<i32>, Vec<bool>) = Default::default();
    for (id, execution) in loaded.iter() {
        for task in &execution.tasks {
            let Some(progress) = &task.item_progress else {
                continue;
            };
            let progress: Progress =
                serde_json::from_str(progress.text()).map_err(|error| StorageError::Row {
                    table: "workflow_task",
                    column: "item_progress",
                    problem: error.to_string(),
                })?;
            if progress.keeps_results || progress.failed > 0 {
                ids.push(id.0);
                runs.push(integer(task.run));
                keeps.push(progress.keeps_results);
            }
            kept.extend(progress.kept_of.map(|run| KeptItems {
                execution_id: id.0,
                whole: integer(task.run),
                run: integer(run),
                keeps_results: progress.keeps_results,
            }));
        }
    }
    if !ids.is_empty() {
        add_own(conn, ids, runs, keeps, loaded).await?;
    }
    add_kept(conn, kept, loaded).await
}

/// Items of the live runs themselves. What is stored takes less room than what is read, so nothing that
/// would fit is left out.
async fn add_own(
    conn: &mut PgConnection,
    ids: Vec<Uuid>,
    runs: Vec<i32>,
    keeps: Vec<bool>,
    loaded: &mut LoadedById,
) -> Result<(), StorageError> {
    // Runs are numbered in the order of their creation, so items come after their task.
    let rows = sqlx::query(
        "SELECT i.execution_id, i.item_of::bigint, i.item_index::bigint, \
             CASE WHEN i.keeps_results AND i.bytes <= $4 THEN i.result::text END AS result, \
             CASE WHEN i.status IN ('failed', 'timed_out') THEN i.error::text END AS error, \
             i.keeps_results AND i.bytes > $4 AS is_too_large \
         FROM ( \
             SELECT t.execution_id, t.item_of, t.item_index, t.status, t.result, t.error, \
                 w.keeps_results, coalesce(sum(pg_column_size(t.result)) \
                     OVER (PARTITION BY t.execution_id, t.item_of), 0) AS bytes \
             FROM unnest($1, $2, $3) AS w (execution_id, run, keeps_results) \
             JOIN workflow_task AS t \
                 ON t.execution_id = w.execution_id AND t.run > w.run AND t.item_of = w.run \
             WHERE t.finished_at IS NOT NULL \
                 AND (w.keeps_results OR t.status IN ('failed', 'timed_out')) \
         ) AS i",
    )
    .bind(ids)
    .bind(runs)
    .bind(keeps)
    .bind(most_bytes())
    .fetch_all(&mut *conn)
    .await
    .map_err(StorageError::step("load the ends of items"))?;
    add_rows(&rows, false, loaded)
}

/// Bytes of results that are read of one task.
pub(super) fn most_bytes() -> i64 {
    i64::try_from(MAX_RESULT_LIST_BYTES).unwrap_or(i64::MAX)
}

/// Items of earlier runs that tasks have kept, since a rerun repeats only those that have not succeeded.
async fn add_kept(
    conn: &mut PgConnection,
    kept: Vec<KeptItems>,
    loaded: &mut LoadedById,
) -> Result<(), StorageError> {
    if kept.is_empty() {
        return Ok(());
    }
    let rows = sqlx::query(
        "WITH RECURSIVE chain (execution_id, whole, run, keeps_results) AS ( \
             SELECT w.execution_id, w.whole, w.run, w.keeps_results \
             FROM unnest($1, $2, $3, $4) AS w (execution_id, whole, run, keeps_results) \
             UNION ALL \
             SELECT c.execution_id, c.whole, (p.item_progress ->> 'kept_of')::integer, \
                 c.keeps_results \
             FROM chain AS c \
             JOIN workflow_task AS p ON p.execution_id = c.execution_id AND p.run = c.run \
             WHERE p.item_progress ? 'kept_of' \
         ) \
         SELECT i.execution_id, i.whole::bigint AS item_of, i.item_index::bigint, \
             CASE WHEN i.keeps_results AND i.bytes <= $5 THEN i.result::text END AS result, \
             NULL::text AS error, \
             i.keeps_results AND i.bytes > $5 AS is_too_large \
         FROM ( \
             SELECT t.execution_id, c.whole, t.item_index, t.result, c.keeps_results, \
                 coalesce(sum(pg_column_size(t.result)) \
                     OVER (PARTITION BY t.execution_id, c.whole), 0) AS bytes \
             FROM chain AS c \
             JOIN workflow_task AS t \
                 ON t.execution_id = c.execution_id AND t.run > c.run AND t.item_of = c.run \
             WHERE t.status = 'succeeded' \
         ) AS i",
    )
    .bind(kept.iter().map(|one| one.execution_id).collect::<Vec<_>>())
    .bind(kept.iter().map(|one| one.whole).collect::<Vec<_>>())
    .bind(kept.iter().map(|one| one.run).collect::<Vec<_>>())
    .bind(kept.iter().map(|one| one.keeps_results).collect::<Vec<_>>())
    .bind(most_bytes())
    .fetch_all(conn)
    .await
    .map_err(StorageError::step("load items that were kept"))?;
    add_rows(&rows, true, loaded)
}

fn add_rows(rows: &[PgRow], is_kept: bool, loaded: &mut LoadedById) -> Result<(), StorageError> {
    for row in rows {
        let reader = Reader {
            table: "workflow_task",
            row,
        };
        if let Some(execution) = loaded.get_mut(&load_rows::execution_id(&reader)?) {
            let item_of = reader.number("item_of")?;
            if reader.read("is_too_large")? && !execution.too_large.contains(&item_of) {
                execution.too_large.push(item_of);
            }
            execution.item_ends.push(LoadedItemEnd {
                item_of,
                item_index: reader.number("item_index")?,
                result: reader.optional_json("result")?,
                error: reader.optional_json("error")?,
                is_kept,
            });
        }
    }
    Ok(())
}
