//! Rows as they come from the database, turned into the structures of the turn. What does not fit
//! is named by table and column.

use std::collections::BTreeMap;

use flotilla_engine::execution::{Counts, Parent};
use flotilla_engine::{DefinitionHash, Json};
use flotilla_protocol::{ExecutionId, TaskId};
use flotilla_turn::rows::{LoadedRow, LoadedTask, VariableRow};
use serde::Deserialize;
use sqlx::postgres::{PgRow, Postgres};
use sqlx::{Decode, Row, Type};
use uuid::Uuid;

use super::StorageError;

/// A row of a named table, read column by column.
pub(super) struct Reader<'r> {
    pub(super) table: &'static str,
    pub(super) row: &'r PgRow,
}

impl<'r> Reader<'r> {
    /// The value of a column.
    pub(super) fn read<T>(&self, column: &'static str) -> Result<T, StorageError>
    where
        T: Decode<'r, Postgres> + Type<Postgres>,
    {
        self.row
            .try_get(column)
            .map_err(|error| self.problem(column, error.to_string()))
    }

    /// A number that is never negative.
    pub(super) fn number<T: TryFrom<i64>>(&self, column: &'static str) -> Result<T, StorageError> {
        let number: i64 = self.read(column)?;
        T::try_from(number).map_err(|_| self.problem(column, format!("{number} is out of range")))
    }

    pub(super) fn number_32(&self, column: &'static str) -> Result<u32, StorageError> {
        let number: i32 = self.read(column)?;
        u32::try_from(number).map_err(|_| self.problem(column, format!("{number} is negative")))
    }

    /// A number that is never negative, where there may be none.
    pub(super) fn optional_number(
        &self,
        column: &'static str,
    ) -> Result<Option<u32>, StorageError> {
        let number: Option<i32> = self.read(column)?;
        number
            .map(u32::try_from)
            .transpose()
            .map_err(|_| self.problem(column, "it is negative".to_owned()))
    }

    fn numbers_32(&self, column: &'static str) -> Result<Vec<u32>, StorageError> {
        let numbers: Vec<i32> = self.read(column)?;
        numbers
            .into_iter()
            .map(u32::try_from)
            .collect::<Result<_, _>>()
            .map_err(|_| self.problem(column, "a number is negative".to_owned()))
    }

    /// JSON that was selected as text.
    pub(super) fn json(&self, column: &'static str) -> Result<Json, StorageError> {
        let text: String = self.read(column)?;
        self.parse(column, text)
    }

    /// Likewise, where there may be none.
    pub(super) fn optional_json(&self, column: &'static str) -> Result<Option<Json>, StorageError> {
        let text: Option<String> = self.read(column)?;
        text.map(|text| self.parse(column, text)).transpose()
    }

    fn parse(&self, column: &'static str, text: String) -> Result<Json, StorageError> {
        Json::parse(text).map_err(|error| self.problem(column, error.to_string()))
    }

    /// An error that names the column.
    pub(super) fn problem(&self, column: &'static str, problem: String) -> StorageError {
        StorageError::Row {
            table: self.table,
            column,
            problem,
        }
    }
}

pub(super) fn execution_id(reader: &Reader<'_>) -> Result<ExecutionId, StorageError> {
    reader.read::<Uuid>("execution_id").map(ExecutionId)
}

pub(super) fn hash(
    reader: &Reader<'_>,
    column: &'static str,
) -> Result<DefinitionHash, StorageError> {
    let bytes: &[u8] = reader.read(column)?;
    let bytes = bytes
        .try_into()
        .map_err(|_| reader.problem(column, format!("it has {} bytes", bytes.len())))?;
    Ok(DefinitionHash(bytes))
}

/// The child that a run waits for, by its row and its attempt.
pub(super) fn child(row: &PgRow, attempt: u32) -> Result<Option<ExecutionId>, StorageError> {
    let reader = Reader {
        table: "workflow_task",
        row,
    };
    let is_child: bool = reader.read("is_child")?;
    let task_id = TaskId(reader.read("task_id")?);
    Ok(is_child.then(|| ExecutionId::of_child(task_id, attempt)))
}

fn parent(reader: &Reader<'_>) -> Result<Option<Parent>, StorageError> {
    let Some(id) = reader.read::<Option<Uuid>>("parent_execution_id")? else {
        return Ok(None);
    };
    Ok(Some(Parent {
        execution_id: ExecutionId(id),
        run: reader.number_32("parent_run")?,
    }))
}

pub(super) fn execution(row: &PgRow) -> Result<LoadedRow, StorageError> {
    let reader = Reader {
        table: "workflow_execution",
        row,
    };
    Ok(LoadedRow {
        execution_id: execution_id(&reader)?,
        definition_hash: hash(&reader, "definition_hash")?,
        partition: reader.read("partition")?,
        parent: parent(&reader)?,
        timeout_s: reader.read("timeout_s")?,
        status: reader.read("status")?,
        parameters: reader.json("parameters")?,
        reply_to: reader.json("reply_to")?,
        traceparent: reader.read("traceparent")?,
        created_at: reader.read("created_at")?,
        finished_at: reader.read("finished_at")?,
        counts: Counts {
            total: reader.read("tasks_total")?,
            active: reader.read("tasks_active")?,
            succeeded: reader.read("tasks_succeeded")?,
            failed: reader.read("tasks_failed")?,
            timed_out: reader.read("tasks_timed_out")?,
            cancelled: reader.read("tasks_cancelled")?,
            skipped: reader.read("tasks_skipped")?,
            omitted: reader.read("tasks_omitted")?,
            attempts: reader.read("attempts_total")?,
        },
        visits: reader.numbers_32("visits")?,
        last_run: reader.number_32("last_run")?,
        last_write: reader.number("last_write")?,
        last_seq: reader.read("last_seq")?,
        live_runs: reader.numbers_32("live_runs")?,
        ends: reader.json("ends")?,
        errors: reader.json("errors")?,
        output: reader.optional_json("output")?,
    })
}

pub(super) fn task(row: &PgRow) -> Result<(ExecutionId, LoadedTask), StorageError> {
    let reader = Reader {
        table: "workflow_task",
        row,
    };
    let task = LoadedTask {
        run: reader.number_32("run")?,
        task: reader.read("task")?,
        visit: reader.number_32("visit")?,
        status: reader.read("status")?,
        attempt: reader.number_32("attempt")?,
        max_attempts: reader.number_32("max_attempts")?,
        starts: reader.number_32("starts")?,
        held: reader.read("held")?,
        action: reader.read("action")?,
        timeout_s: reader.read("timeout_s")?,
        input: reader.optional_json("input")?,
        branch: reader.json("branch")?,
        item_of: reader.optional_number("item_of")?,
        item_index: reader.optional_number("item_index")?,
        batch_size: reader.optional_number("batch_size")?,
        items: reader.optional_json("items")?,
        item_progress: reader.optional_json("item_progress")?,
        secrets: reader.optional_json("secrets")?,
        caused_by: reader.numbers_32("caused_by")?,
        arrived: reader.numbers_32("arrived")?,
        worker: reader.read("worker")?,
        result: reader.optional_json("result")?,
        error: reader.optional_json("error")?,
        created_at: reader.read("created_at")?,
        dispatched_at: reader.read("dispatched_at")?,
        started_at: reader.read("started_at")?,
        finished_at: reader.read("finished_at")?,
    };
    Ok((execution_id(&reader)?, task))
}

pub(super) fn variable(row: &PgRow) -> Result<VariableRow, StorageError> {
    let reader = Reader {
        table: "workflow_variable",
        row,
    };
    let previous: Option<i64> = reader.read("previous_write_no")?;
    Ok(VariableRow {
        execution_id: execution_id(&reader)?,
        write_no: reader.number("write_no")?,
        name: reader.read("name")?,
        value: reader.json("value")?,
        previous_write_no: previous.and_then(|number| u64::try_from(number).ok()),
    })
}

/// Which writes and runs a branch sees, as `branch` and `ends` keep it. What else they keep is the
/// turn's business.
#[derive(Default, Deserialize)]
pub(super) struct Sight {
    #[serde(default)]
    pub(super) vars: BTreeMap<String, u64>,
    #[serde(default)]
    pub(super) tasks: BTreeMap<String, u32>,
    #[serde(default)]
    pub(super) last_ended: BTreeMap<String, u32>,
}

impl Sight {
    pub(super) fn of(
        json: &Json,
        table: &'static str,
        column: &'static str,
    ) -> Result<Self, StorageError> {
        serde_json::from_str(json.text()).map_err(|error| StorageError::Row {
            table,
            column,
            problem: error.to_string(),
        })
    }
}
