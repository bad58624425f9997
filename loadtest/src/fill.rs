//! Fills the tables with finished executions: those of an earlier load are copied row by row, with new
//! ids and earlier times, by the server itself. So full tables take minutes and not hours, and what is
//! in them is what a fleet has written.
//!
//! Columns are taken as the tables have them, so that a migration needs no change here; only ids and
//! times are made anew.

use std::time::Instant;

use flotilla_protocol::{ExecutionId, TaskId};
use indicatif::HumanCount;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::arguments::FillArguments;
use crate::failure::Failure;

/// Executions that are copied, each many times.
const TEMPLATES: i64 = 64;
/// Executions that one transaction adds.
const CHUNK: usize = 5000;
/// Milliseconds between two executions, back in time.
const APART_MS: u64 = 5;
/// Tables that hold rows of finished executions; the execution comes last, so that whoever looks at
/// one finds all of it.
const TABLES: [&str; 5] = [
    "workflow_start",
    "workflow_task",
    "workflow_variable",
    "workflow_transition",
    "workflow_execution",
];
/// Columns that hold a time of the execution.
const TIMES: [&str; 5] = [
    "created_at",
    "at",
    "dispatched_at",
    "started_at",
    "finished_at",
];

/// A finished execution: its id, when it was created (milliseconds since 1970), and its last run.
type Template = (Uuid, i64, i32);

/// Fills; true once there are so many.
pub async fn fill(arguments: &FillArguments) -> Result<bool, Failure> {
    let began = Instant::now();
    let mut connection = PgConnection::connect(&arguments.database.url).await?;
    let present: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM workflow_execution
         WHERE workflow LIKE 'loadtest.%' AND finished_at IS NOT NULL",
    )
    .fetch_one(&mut connection)
    .await?;
    let present = u64::try_from(present).unwrap_or(0);
    let added = arguments.executions.saturating_sub(present);
    copy(&mut connection, added).await?;
    if added > 0 {
        for table in TABLES {
            // What autovacuum would do some time later, amid the measurement.
            sqlx::raw_sql(sqlx::AssertSqlSafe(format!("VACUUM (ANALYZE) {table}")))
                .execute(&mut connection)
                .await?;
        }
    }
    // All of it is committed.
    let _ = connection.close().await;
    eprintln!(
        "flotilla-loadtest: {} executions were there, {} are added, in {:.0} s",
        HumanCount(present),
        HumanCount(added),
        began.elapsed().as_secs_f64()
    );
    Ok(true)
}

async fn copy(connection: &mut PgConnection, added: u64) -> Result<(), Failure> {
    if added == 0 {
        return Ok(());
    }
    let templates: Vec<Template> = sqlx::query_as(
        "SELECT execution_id, floor(extract(epoch FROM created_at) * 1000)::bigint, last_run
         FROM workflow_execution
         WHERE workflow LIKE 'loadtest.%' AND status = 'succeeded'
         ORDER BY created_at DESC, execution_id LIMIT $1",
    )
    .bind(TEMPLATES)
    .fetch_all(&mut *connection)
    .await?;
    if templates.is_empty() {
        return Err(Failure::NothingToCopy);
    }
    let mut statements = Vec::new();
    for table in TABLES {
        statements.push(statement(connection, table).await?);
    }
    let mut copies = Copies::new(&templates);
    let mut left = usize::try_from(added).unwrap_or(usize::MAX);
    while left > 0 {
        let chunk = copies.take(left.min(CHUNK));
        left -= chunk.ids.len();
        let mut transaction = connection.begin().await?;
        for statement in &statements {
            sqlx::query(sqlx::AssertSqlSafe(statement.clone()))
                .bind(&chunk.templates)
                .bind(&chunk.ids)
                .bind(&chunk.shifts_s)
                .bind(&chunk.first_task_ids)
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
    }
    Ok(())
}

/// The statement that copies the rows of one table: `$1` templates, `$2` new ids, `$3` by how many
/// seconds they are earlier, `$4` the id of run 0, from which those of the others follow.
async fn statement(connection: &mut PgConnection, table: &str) -> Result<String, Failure> {
    let columns: Vec<String> = sqlx::query_scalar(
        "SELECT column_name::text FROM information_schema.columns
         WHERE table_schema = 'public' AND table_name = $1 AND is_generated = 'NEVER'
         ORDER BY ordinal_position",
    )
    .bind(table)
    .fetch_all(connection)
    .await?;
    let values: Vec<String> = columns.iter().map(|column| value(column)).collect();
    let quoted: Vec<String> = columns
        .iter()
        .map(|column| format!("\"{column}\""))
        .collect();
    Ok(format!(
        "INSERT INTO {table} ({}) SELECT {}
         FROM unnest($1::uuid[], $2::uuid[], $3::float8[], $4::uuid[]) AS n (template, id, shift_s, task_id)
         JOIN {table} AS t ON t.execution_id = n.template",
        quoted.join(", "),
        values.join(", ")
    ))
}

/// What a column of a copy holds.
fn value(column: &str) -> String {
    match column {
        "execution_id" => "n.id".to_owned(),
        // A key names one execution.
        "idempotency_key" => "NULL".to_owned(),
        // The number of the run is the last eight digits.
        "task_id" => "CASE WHEN t.task_id IS NOT NULL
             THEN (left(n.task_id::text, 28) || right(t.task_id::text, 8))::uuid END"
            .to_owned(),
        time if TIMES.contains(&time) => format!("t.{time} - make_interval(secs => n.shift_s)"),
        other => format!("t.\"{other}\""),
    }
}

/// Copies to be made, the templates in turn, each a little earlier than the one before.
struct Copies<'a> {
    templates: &'a [Template],
    made: u64,
}

/// Some of them.
#[derive(Debug, Default)]
struct Chunk {
    templates: Vec<Uuid>,
    ids: Vec<Uuid>,
    shifts_s: Vec<f64>,
    first_task_ids: Vec<Uuid>,
}

impl<'a> Copies<'a> {
    fn new(templates: &'a [Template]) -> Self {
        Self { templates, made: 0 }
    }

    fn take(&mut self, count: usize) -> Chunk {
        let mut chunk = Chunk::default();
        for _ in 0..count {
            let template = usize::try_from(self.made).unwrap_or(0) % self.templates.len();
            let (id, created_ms, _) = self.templates[template];
            self.made += 1;
            let shift_ms = self.made * APART_MS;
            let copy = Copy::made_of(created_ms, shift_ms);
            chunk.templates.push(id);
            chunk.ids.push(copy.id);
            chunk
                .shifts_s
                .push(crate::timeline::count(shift_ms) / 1000.0);
            chunk.first_task_ids.push(copy.first_task_id);
        }
        chunk
    }
}

/// The ids of a copy, which has the time of its creation in them as those of a fleet have.
struct Copy {
    id: Uuid,
    first_task_id: Uuid,
}

impl Copy {
    fn made_of(created_ms: i64, shift_ms: u64) -> Self {
        let then_ms = u64::try_from(created_ms)
            .unwrap_or(0)
            .saturating_sub(shift_ms);
        let (seconds, rest) = (then_ms / 1000, then_ms % 1000);
        let nanos = u32::try_from(rest * 1_000_000).unwrap_or(0);
        let time = uuid::Timestamp::from_unix(uuid::NoContext, seconds, nanos);
        let id = Uuid::new_v7(time);
        let created_at =
            chrono::DateTime::from_timestamp(i64::try_from(seconds).unwrap_or(0), nanos)
                .unwrap_or_default();
        let TaskId(first_task_id) = TaskId::derive(ExecutionId(id), created_at, 0);
        Self { id, first_task_id }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_have_ids_of_their_own_time() {
        let templates = [(Uuid::from_u128(1), 1_700_000_000_000, 3)];
        let mut copies = Copies::new(&templates);
        let chunk = copies.take(3);
        assert_eq!(chunk.templates, [Uuid::from_u128(1); 3]);
        let milliseconds = |id: &Uuid| id.as_u128() >> 80;
        assert_eq!(milliseconds(&chunk.ids[0]), 1_699_999_999_995);
        assert_eq!(milliseconds(&chunk.ids[2]), 1_699_999_999_985);
        assert_eq!(milliseconds(&chunk.first_task_ids[2]), 1_699_999_999_985);
        assert!((chunk.shifts_s[2] - 0.015).abs() < 1e-9);
        assert_eq!(copies.take(1).shifts_s, [0.02]);
    }

    #[test]
    fn only_ids_keys_and_times_are_made_anew() {
        assert_eq!(value("input"), "t.\"input\"");
        assert_eq!(value("execution_id"), "n.id");
        assert!(value("finished_at").starts_with("t.finished_at - "));
        assert_eq!(value("idempotency_key"), "NULL");
    }
}
