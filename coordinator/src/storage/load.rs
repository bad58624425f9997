//! Loads executions: their rows, their live runs, and what those see. The number of statements is
//! fixed, and what they read is what is alive.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_protocol::{ExecutionId, RunNo};
use flotilla_turn::rows::{LoadedExecution, LoadedTask, VariableRow};
use sqlx::PgConnection;
use uuid::Uuid;

use super::StorageError;
use super::column::{bigint, integer};
use super::load_items::add_item_ends;
use super::load_rows::{self, Reader, Sight};

/// Executions by their ids, in the order of ids; those that do not exist are absent. With them come their
/// families: all their ancestors, and the children that any of them waits for.
///
/// Of the runs in `seen`, input and branch are left out: nothing reads them. `links` has those
/// writes that a merge can still ask for: from each write that is seen back to the oldest write of
/// its name that a live run sees.
///
/// # Errors
///
/// When the database fails or holds what this version cannot read.
pub async fn load_executions(
    conn: &mut PgConnection,
    ids: &[ExecutionId],
) -> Result<Vec<LoadedExecution>, StorageError> {
    let mut wanted: BTreeSet<ExecutionId> = ids.iter().copied().collect();
    let mut loaded = LoadedById::new();
    while !wanted.is_empty() {
        let ids: Vec<Uuid> = wanted.iter().map(|id| id.0).collect();
        let (more, children) = load_with_live_tasks(conn, &ids).await?;
        let parents = more.values().filter_map(|loaded| loaded.row.parent);
        wanted = parents.map(|parent| parent.execution_id).collect();
        wanted.extend(children);
        // None that was looked for is looked for again, also if it does not exist.
        wanted.retain(|id| !loaded.contains_key(id) && !ids.contains(&id.0));
        loaded.extend(more);
    }
    finish(conn, loaded).await
}

/// Rows with their live runs, and the children that those wait for.
async fn load_with_live_tasks(
    conn: &mut PgConnection,
    ids: &[Uuid],
) -> Result<(LoadedById, Vec<ExecutionId>), StorageError> {
    let mut loaded = load_rows_alone(conn, ids).await?;
    if loaded.is_empty() {
        return Ok((loaded, Vec::new()));
    }
    let children = add_live_tasks(conn, ids, &mut loaded).await?;
    Ok((loaded, children))
}

/// Adds what the live runs see.
async fn finish(
    conn: &mut PgConnection,
    mut loaded: LoadedById,
) -> Result<Vec<LoadedExecution>, StorageError> {
    if loaded.is_empty() {
        return Ok(Vec::new());
    }
    add_item_ends(conn, &mut loaded).await?;
    let needs = Needs::of(&loaded)?;
    add_variables(conn, &needs, &mut loaded).await?;
    add_links(conn, &needs, &mut loaded).await?;
    add_seen_tasks(conn, &needs, &mut loaded).await?;
    Ok(loaded.into_values().collect())
}

pub(super) type LoadedById = BTreeMap<ExecutionId, LoadedExecution>;

pub(super) async fn load_rows_alone(
    conn: &mut PgConnection,
    ids: &[Uuid],
) -> Result<LoadedById, StorageError> {
    let rows = sqlx::query(
        "SELECT e.execution_id, e.definition_hash, e.partition, e.status::text, \
             e.parent_execution_id, e.parent_run, e.timeout_s, \
             e.parameters::text, e.reply_to::text, e.traceparent, e.created_at, e.finished_at, \
             e.tasks_total, e.tasks_active, e.tasks_succeeded, e.tasks_failed, \
             e.tasks_timed_out, e.tasks_cancelled, e.tasks_skipped, e.tasks_omitted, \
             e.attempts_total, e.visits, e.last_run, e.last_write, e.last_seq, \
             e.live_runs, e.ends::text, e.errors::text, e.output::text \
         FROM workflow_execution AS e \
         WHERE e.execution_id = ANY ($1)",
    )
    .bind(ids)
    .fetch_all(conn)
    .await
    .map_err(StorageError::step("load executions"))?;
    rows.iter()
        .map(|row| {
            let row = load_rows::execution(row)?;
            let loaded = LoadedExecution {
                row,
                tasks: Vec::new(),
                variables: Vec::new(),
                links: Vec::new(),
                seen: Vec::new(),
                item_ends: Vec::new(),
                too_large: Vec::new(),
            };
            Ok((loaded.row.execution_id, loaded))
        })
        .collect()
}

/// Gives the children that live runs wait for.
async fn add_live_tasks(
    conn: &mut PgConnection,
    ids: &[Uuid],
    loaded: &mut LoadedById,
) -> Result<Vec<ExecutionId>, StorageError> {
    let rows = sqlx::query(
        "SELECT t.execution_id, t.run, t.task, t.visit, t.status::text, t.attempt, \
             t.max_attempts, t.starts, t.held, t.action, t.timeout_s, t.input::text, \
             t.branch::text, t.caused_by, t.arrived, t.worker, t.result::text, t.error::text, \
             t.created_at, t.dispatched_at, t.started_at, t.finished_at, t.item_of, t.item_index, \
             t.batch_size, t.items::text, t.item_progress::text, t.secrets::text, t.task_id, \
             t.status = 'running' AND t.pool IS NULL AND t.item_progress IS NULL AS is_child \
         FROM workflow_execution AS e \
         CROSS JOIN unnest(e.live_runs) AS live (run) \
         JOIN workflow_task AS t ON t.execution_id = e.execution_id AND t.run = live.run \
         WHERE e.execution_id = ANY ($1) \
         ORDER BY t.execution_id, t.run",
    )
    .bind(ids)
    .fetch_all(conn)
    .await
    .map_err(StorageError::step("load live tasks"))?;
    let mut children = Vec::new();
    for row in &rows {
        let (id, task) = load_rows::task(row)?;
        children.extend(load_rows::child(row, task.attempt)?);
        if let Some(execution) = loaded.get_mut(&id) {
            execution.tasks.push(task);
        }
    }
    Ok(children)
}

/// What is to be loaded besides the rows themselves.
#[derive(Default)]
struct Needs {
    /// Writes that `ends` or a live run sees.
    writes: BTreeSet<(ExecutionId, u64)>,
    /// Runs that `ends` or a live run names.
    runs: BTreeSet<(ExecutionId, RunNo)>,
    /// The oldest write of each name that a live run sees.
    oldest: BTreeMap<(ExecutionId, String), u64>,
}

impl Needs {
    fn of(loaded: &LoadedById) -> Result<Self, StorageError> {
        let mut needs = Self::default();
        for (id, execution) in loaded {
            needs.see(
                *id,
                &Sight::of(&execution.row.ends, "workflow_execution", "ends")?,
            );
            for task in &execution.tasks {
                let sight = Sight::of(&task.branch, "workflow_task", "branch")?;
                needs.see(*id, &sight);
                for (name, write_no) in sight.vars {
                    let oldest = needs.oldest.entry((*id, name)).or_insert(write_no);
                    *oldest = write_no.min(*oldest);
                }
            }
        }
        Ok(needs)
    }

    fn see(&mut self, id: ExecutionId, sight: &Sight) {
        self.writes.extend(sight.vars.values().map(|no| (id, *no)));
        self.runs.extend(sight.tasks.values().map(|run| (id, *run)));
        self.runs
            .extend(sight.last_ended.values().map(|run| (id, *run)));
    }
}

async fn add_variables(
    conn: &mut PgConnection,
    needs: &Needs,
    loaded: &mut LoadedById,
) -> Result<(), StorageError> {
    if needs.writes.is_empty() {
        return Ok(());
    }
    let (ids, numbers) = columns(&needs.writes, |no| bigint(*no));
    let rows = sqlx::query(
        "SELECT v.execution_id, v.write_no, v.name, v.value::text, v.previous_write_no \
         FROM unnest($1, $2) AS seen (execution_id, write_no) \
         JOIN workflow_variable AS v \
             ON v.execution_id = seen.execution_id AND v.write_no = seen.write_no \
         ORDER BY v.execution_id, v.write_no",
    )
    .bind(ids)
    .bind(numbers)
    .fetch_all(conn)
    .await
    .map_err(StorageError::step("load variables"))?;
    for row in &rows {
        let variable = load_rows::variable(row)?;
        if let Some(execution) = loaded.get_mut(&variable.execution_id) {
            execution.variables.push(variable);
        }
    }
    Ok(())
}

/// Follows the writes that are seen back in time, where a live run still sees an older write of the
/// same name; mostly there is none, and nothing is read.
async fn add_links(
    conn: &mut PgConnection,
    needs: &Needs,
    loaded: &mut LoadedById,
) -> Result<(), StorageError> {
    let mut ids = Vec::new();
    let mut starts = Vec::new();
    let mut floors = Vec::new();
    for execution in loaded.values_mut() {
        for variable in &execution.variables {
            let previous = variable.previous_write_no;
            execution.links.push((variable.write_no, previous));
            if let Some((previous, floor)) = older_that_matters(variable, needs) {
                ids.push(variable.execution_id.0);
                starts.push(bigint(previous));
                floors.push(bigint(floor));
            }
        }
    }
    if ids.is_empty() {
        return Ok(());
    }
    let rows = sqlx::query(
        "WITH RECURSIVE walk (execution_id, write_no, previous_write_no, floor) AS ( \
             SELECT v.execution_id, v.write_no, v.previous_write_no, s.floor \
             FROM unnest($1, $2, $3) AS s (execution_id, write_no, floor) \
             JOIN workflow_variable AS v \
                 ON v.execution_id = s.execution_id AND v.write_no = s.write_no \
             UNION \
             SELECT v.execution_id, v.write_no, v.previous_write_no, w.floor \
             FROM walk AS w \
             JOIN workflow_variable AS v \
                 ON v.execution_id = w.execution_id AND v.write_no = w.previous_write_no \
             WHERE w.previous_write_no >= w.floor \
         ) \
         SELECT execution_id, write_no, previous_write_no FROM walk",
    )
    .bind(ids)
    .bind(starts)
    .bind(floors)
    .fetch_all(conn)
    .await
    .map_err(StorageError::step("load the history of variables"))?;
    for row in &rows {
        let reader = Reader {
            table: "workflow_variable",
            row,
        };
        let previous: Option<i64> = reader.read("previous_write_no")?;
        let previous = previous.and_then(|number| u64::try_from(number).ok());
        if let Some(execution) = loaded.get_mut(&load_rows::execution_id(&reader)?) {
            execution.links.push((reader.number("write_no")?, previous));
        }
    }
    for execution in loaded.values_mut() {
        execution.links.sort_unstable();
        execution.links.dedup();
    }
    Ok(())
}

/// The write before this one and the oldest that matters, if there is one to look at between.
fn older_that_matters(variable: &VariableRow, needs: &Needs) -> Option<(u64, u64)> {
    let previous = variable.previous_write_no?;
    let key = (variable.execution_id, variable.name.clone());
    let floor = *needs.oldest.get(&key)?;
    (previous >= floor).then_some((previous, floor))
}

async fn add_seen_tasks(
    conn: &mut PgConnection,
    needs: &Needs,
    loaded: &mut LoadedById,
) -> Result<(), StorageError> {
    if needs.runs.is_empty() {
        return Ok(());
    }
    let (ids, runs) = columns(&needs.runs, |run| integer(*run));
    let rows = sqlx::query(
        "SELECT t.execution_id, t.run, t.task, t.visit, t.status::text, t.attempt, \
             t.max_attempts, t.starts, t.held, t.action, t.timeout_s, NULL::text AS input, \
             '{}' AS branch, t.caused_by, t.arrived, t.worker, t.result::text, t.error::text, \
             t.created_at, t.dispatched_at, t.started_at, t.finished_at, t.item_of, \
             t.item_index, t.batch_size, NULL::text AS items, NULL::text AS item_progress, \
             NULL::text AS secrets \
         FROM unnest($1, $2) AS seen (execution_id, run) \
         JOIN workflow_task AS t ON t.execution_id = seen.execution_id AND t.run = seen.run \
         ORDER BY t.execution_id, t.run",
    )
    .bind(ids)
    .bind(runs)
    .fetch_all(conn)
    .await
    .map_err(StorageError::step("load tasks that are seen"))?;
    for row in &rows {
        let (id, task): (ExecutionId, LoadedTask) = load_rows::task(row)?;
        if let Some(execution) = loaded.get_mut(&id) {
            execution.seen.push(task);
        }
    }
    Ok(())
}

/// Keys as two columns.
fn columns<K, C>(
    keys: &BTreeSet<(ExecutionId, K)>,
    column: impl Fn(&K) -> C,
) -> (Vec<Uuid>, Vec<C>) {
    keys.iter().map(|(id, key)| (id.0, column(key))).unzip()
}
