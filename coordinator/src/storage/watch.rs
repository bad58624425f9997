//! What somebody who watches an execution asks for: what is new since the last look, and the facts
//! that tell why something does not run.

use flotilla_engine::DefinitionHash;
use flotilla_protocol::{ExecutionId, TaskId};
use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{PgExecutor, Row};
use uuid::Uuid;

use super::StorageError;
use super::load_rows::{self, Reader};

/// Entries of the log that one look gives at most; the next look gives the rest.
pub const NEWS_LIMIT: i64 = 1_000;

/// What is new of an execution.
#[derive(Debug, Clone, PartialEq)]
pub struct News {
    /// Its row, without what may be large: workflow, version, status, last_seq, created_at,
    /// finished_at.
    pub execution: Value,
    /// The new rows of `workflow_transition`, in order.
    pub transitions: Vec<Value>,
    /// The tasks that these are about, and the whole of those that are items, as they are now: rows of
    /// `workflow_task_detail` without input, result and causes, and with item_progress.
    pub tasks: Vec<Value>,
}

/// What has happened to an execution after the log entry `after`; `None` if it does not exist.
///
/// # Errors
///
/// When the database fails.
pub async fn load_news(
    database: impl PgExecutor<'_>,
    id: ExecutionId,
    after: i64,
) -> Result<Option<News>, StorageError> {
    type Parts = (Json<Value>, Json<Vec<Value>>, Json<Vec<Value>>);
    // A task is found by its number, which is the end of its id: that is what its key has.
    let row: Option<Parts> = sqlx::query_as(
        "WITH news AS MATERIALIZED ( \
             SELECT l.* FROM workflow_transition AS l \
             WHERE l.execution_id = $1 AND l.seq > $2 ORDER BY l.seq LIMIT $3 \
         ), touched AS MATERIALIZED ( \
             SELECT DISTINCT ('x' || right(n.task_id::text, 8))::bit(32)::integer AS run \
             FROM news AS n WHERE n.task_id IS NOT NULL \
         ), found AS MATERIALIZED ( \
             SELECT t.run, t.item_of FROM touched AS d \
             JOIN workflow_task AS t ON t.execution_id = $1 AND t.run = d.run \
         ), wanted AS MATERIALIZED ( \
             SELECT run FROM found UNION SELECT item_of FROM found WHERE item_of IS NOT NULL \
         ) \
         SELECT json_build_object('execution_id', e.execution_id, 'workflow', e.workflow, \
                 'version', e.version, 'status', e.status, 'last_seq', e.last_seq, \
                 'created_at', e.created_at, 'finished_at', e.finished_at), \
             (SELECT coalesce(json_agg(n ORDER BY n.seq), '[]') FROM news AS n), \
             (SELECT coalesce(json_agg(json_build_object('task_id', t.task_id, 'task', t.task, \
                 'visit', t.visit, 'item_index', t.item_index, \
                 'item_progress', t.item_progress, 'status', t.status, 'attempt', t.attempt, \
                 'max_attempts', t.max_attempts, 'action', t.action, 'pool', t.pool, \
                 'worker', t.worker, 'error_kind', t.error ->> 'kind', \
                 'error_message', t.error ->> 'message', 'created_at', t.created_at, \
                 'dispatched_at', t.dispatched_at, 'started_at', t.started_at, \
                 'finished_at', t.finished_at) ORDER BY t.run), '[]') \
              FROM wanted AS d \
              JOIN workflow_task AS t ON t.execution_id = $1 AND t.run = d.run) \
         FROM workflow_execution AS e WHERE e.execution_id = $1",
    )
    .bind(id.0)
    .bind(after)
    .bind(NEWS_LIMIT)
    .fetch_optional(database)
    .await
    .map_err(StorageError::step("look for news of an execution"))?;
    Ok(
        row.map(|(Json(execution), Json(transitions), Json(tasks))| News {
            execution,
            transitions,
            tasks,
        }),
    )
}

/// An execution that lives, with what each of its live tasks may wait for.
#[derive(Debug, Clone, PartialEq)]
pub struct LiveExecution {
    /// A word of `execution_status`.
    pub status: String,
    /// Its partition.
    pub partition: i32,
    /// Whether a coordinator owns the partition now.
    pub is_owned: bool,
    /// Its definition.
    pub definition: DefinitionHash,
    /// Its live tasks.
    pub tasks: Vec<LiveTask>,
}

/// A task that has not ended.
#[derive(Debug, Clone, PartialEq)]
pub struct LiveTask {
    /// Its id.
    pub task_id: TaskId,
    /// Its name.
    pub task: String,
    /// A word of `task_status`.
    pub status: String,
    /// Whether it is held back by a pause or a failure.
    pub is_held: bool,
    /// The pool of its job.
    pub pool: Option<String>,
    /// The child that it waits for, where it is a sub-workflow.
    pub child: Option<ExecutionId>,
    /// Predecessors that have arrived, by their position in the definition.
    pub arrived: Vec<usize>,
    /// A word of `timer_kind`, and in how many seconds it is due; less than 0 if it is overdue.
    pub timer: Option<(String, f64)>,
    /// How far it has come with its items, if it has some (`workflow_task.item_progress`).
    pub item_progress: Option<Value>,
}

/// The facts about the live tasks of an execution; `None` if it does not exist.
///
/// # Errors
///
/// When the database fails.
pub async fn load_live(
    database: impl PgExecutor<'_>,
    id: ExecutionId,
) -> Result<Option<LiveExecution>, StorageError> {
    let rows = sqlx::query(
        "SELECT e.status::text AS execution_status, e.partition, e.definition_hash, \
             coalesce(p.owner IS NOT NULL AND p.lease_expires_at > clock_timestamp(), false) \
                 AS is_owned, \
             t.task_id, t.task, t.status::text AS status, t.held, t.pool, t.arrived, \
             t.item_progress, t.attempt, \
             t.status = 'running' AND t.pool IS NULL AND t.item_progress IS NULL AS is_child, \
             w.kind::text AS timer, \
             extract(EPOCH FROM w.due_at - clock_timestamp())::double precision AS due_in_s \
         FROM workflow_execution AS e \
         LEFT JOIN coordinator_partition AS p ON p.id = e.partition \
         LEFT JOIN workflow_task AS t \
             ON t.execution_id = e.execution_id AND t.run = ANY (e.live_runs) \
         LEFT JOIN workflow_timer AS w ON w.execution_id = t.execution_id AND w.run = t.run \
         WHERE e.execution_id = $1 ORDER BY t.run",
    )
    .bind(id.0)
    .fetch_all(database)
    .await
    .map_err(StorageError::step("look at live tasks"))?;
    let Some(first) = rows.first() else {
        return Ok(None);
    };
    let reader = Reader {
        table: "workflow_execution",
        row: first,
    };
    let tasks = rows.iter().filter_map(|row| live_task(row).transpose());
    Ok(Some(LiveExecution {
        status: reader.read("execution_status")?,
        partition: reader.read("partition")?,
        is_owned: reader.read("is_owned")?,
        definition: load_rows::hash(&reader, "definition_hash")?,
        tasks: tasks.collect::<Result<_, _>>()?,
    }))
}

/// A task of the row; `None` if the execution has no live one.
fn live_task(row: &PgRow) -> Result<Option<LiveTask>, StorageError> {
    let reader = Reader {
        table: "workflow_task",
        row,
    };
    let Some(task_id) = reader.read::<Option<Uuid>>("task_id")? else {
        return Ok(None);
    };
    let arrived: Vec<i32> = reader.read("arrived")?;
    let timer: Option<String> = reader.read("timer")?;
    let due_in_s: Option<f64> = reader.read("due_in_s")?;
    Ok(Some(LiveTask {
        task_id: TaskId(task_id),
        task: reader.read("task")?,
        status: reader.read("status")?,
        is_held: reader.read("held")?,
        pool: reader.read("pool")?,
        child: load_rows::child(row, reader.number_32("attempt")?)?,
        arrived: arrived
            .into_iter()
            .filter_map(|index| usize::try_from(index).ok())
            .collect(),
        timer: timer.zip(due_in_s),
        item_progress: reader
            .read::<Option<Json<Value>>>("item_progress")?
            .map(|Json(progress)| progress),
    }))
}

/// References of all registered workflows.
///
/// # Errors
///
/// When the database fails.
pub async fn workflow_names(database: impl PgExecutor<'_>) -> Result<Vec<String>, StorageError> {
    let rows = sqlx::query("SELECT DISTINCT workflow FROM workflow_definition ORDER BY workflow")
        .fetch_all(database)
        .await
        .map_err(StorageError::step("list workflows"))?;
    rows.iter()
        .map(|row| row.try_get(0))
        .collect::<Result<_, _>>()
        .map_err(StorageError::step("list workflows"))
}
