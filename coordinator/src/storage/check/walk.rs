//! How the invariants are looked at: executions in chunks, tables along their keys, a statement at
//! a time.

use chrono::{DateTime, Utc};
use flotilla_protocol::ExecutionId;
use sqlx::{AssertSqlSafe, PgConnection};
use uuid::Uuid;

use super::{Checked, Finding, Invariant, Query, Since};
use crate::storage::StorageError;

/// Findings of one invariant that are told; one that has so many is not looked at any more.
const MAX_FINDINGS: usize = 100;
/// Characters of a finding.
const MAX_DETAIL: usize = 500;
/// Executions in a chunk.
const CHUNK_EXECUTIONS: i64 = 500;
/// Log entries of a chunk; an execution that has more is a chunk of its own.
const CHUNK_ENTRIES: i64 = 50_000;
/// Ids that one statement walks over.
const WALK_IDS: i32 = 2_000;

/// Where a check stands.
pub(super) struct Check<'a> {
    pub(super) conn: &'a mut PgConnection,
    /// Executions that were created in this time are looked at.
    from: Option<DateTime<Utc>>,
    until: DateTime<Utc>,
    pub(super) checked: Checked,
}

impl<'a> Check<'a> {
    pub(super) async fn begin(
        conn: &'a mut PgConnection,
        since: Since,
    ) -> Result<Self, StorageError> {
        let (from, ago_s) = match since {
            Since::Ever => (None, None),
            Since::Time(time) => (Some(time), None),
            Since::Ago(ago) => (None, Some(ago.as_secs_f64())),
        };
        let (from, until) = sqlx::query_as(
            "SELECT coalesce($1, c.now - make_interval(secs => $2)), c.now \
             FROM (SELECT clock_timestamp()) AS c (now)",
        )
        .bind(from)
        .bind(ago_s)
        .fetch_one(&mut *conn)
        .await
        .map_err(StorageError::step("read the clock"))?;
        Ok(Self {
            conn,
            from,
            until,
            checked: Checked::default(),
        })
    }

    /// The executions after `last`, as many as make a chunk.
    pub(super) async fn next_chunk(
        &mut self,
        last: Option<(DateTime<Utc>, Uuid)>,
    ) -> Result<Chunk, StorageError> {
        let (after, after_id) = last.unzip();
        let rows: Vec<(Uuid, DateTime<Utc>, i64)> = sqlx::query_as(
            "SELECT e.execution_id, e.created_at, e.last_seq FROM workflow_execution AS e \
             WHERE (e.created_at, e.execution_id) > ( \
                     coalesce($1, $3, '-infinity'), \
                     coalesce($2, '00000000-0000-0000-0000-000000000000')) \
                 AND e.created_at <= $4 \
             ORDER BY e.created_at, e.execution_id LIMIT $5",
        )
        .bind(after)
        .bind(after_id)
        .bind(self.from)
        .bind(self.until)
        .bind(CHUNK_EXECUTIONS)
        .fetch_all(&mut *self.conn)
        .await
        .map_err(StorageError::step("list executions"))?;
        let chunk = Chunk::of(&rows);
        self.checked.executions += chunk.executions.len() as u64;
        Ok(chunk)
    }

    /// Looks at one invariant for some executions.
    pub(super) async fn executions(
        &mut self,
        invariant: &Invariant,
        ids: &[Uuid],
    ) -> Result<(), StorageError> {
        let Query::Executions(query) = invariant.query else {
            return Ok(());
        };
        let room = self.room(invariant);
        if room == 0 {
            return Ok(());
        }
        let rows = sqlx::query_as(AssertSqlSafe(limited(query, room)))
            .bind(ids)
            .fetch_all(&mut *self.conn)
            .await
            .map_err(|source| failed(invariant, source))?;
        self.add(invariant, rows);
        Ok(())
    }

    /// Looks at an invariant that belongs to no execution.
    pub(super) async fn fleet(&mut self, invariant: &Invariant) -> Result<(), StorageError> {
        let Query::Fleet(query) = invariant.query else {
            return Ok(());
        };
        let rows = sqlx::query_as(AssertSqlSafe(limited(query, MAX_FINDINGS)))
            .fetch_all(&mut *self.conn)
            .await
            .map_err(|source| failed(invariant, source))?;
        self.add(invariant, rows);
        Ok(())
    }

    /// Walks a table for rows of executions that do not exist.
    ///
    /// Ids that we make begin with the time, so that a walk that is bounded in time begins there.
    pub(super) async fn walk(&mut self, invariant: &Invariant) -> Result<(), StorageError> {
        let Query::Walk(table) = invariant.query else {
            return Ok(());
        };
        let sql = walk_of(table);
        let mut after = self.from.map_or(Uuid::nil(), first_id);
        while self.room(invariant) > 0 {
            let (last, missing): (Option<Uuid>, Vec<Uuid>) =
                sqlx::query_as(AssertSqlSafe(sql.clone()))
                    .bind(after)
                    .bind(WALK_IDS)
                    .fetch_one(&mut *self.conn)
                    .await
                    .map_err(|source| failed(invariant, source))?;
            let detail = format!("{table} has rows of it, and it does not exist");
            let rows = missing.into_iter().take(self.room(invariant));
            let rows = rows.map(|id| (Some(id), detail.clone())).collect();
            self.add(invariant, rows);
            match last {
                Some(last) => after = last,
                None => break,
            }
        }
        Ok(())
    }

    /// How many more findings of an invariant are told.
    pub(super) fn room(&self, invariant: &Invariant) -> usize {
        let found = self.checked.findings.iter();
        let told = found.filter(|finding| finding.invariant == invariant.name);
        MAX_FINDINGS.saturating_sub(told.count())
    }

    pub(super) fn add(&mut self, invariant: &Invariant, rows: Vec<(Option<Uuid>, String)>) {
        let findings = rows.into_iter().map(|(id, detail)| Finding {
            invariant: invariant.name,
            execution_id: id.map(ExecutionId),
            detail,
        });
        let before = self.checked.findings.len();
        self.checked.findings.extend(findings);
        if self.checked.findings.len() > before && self.room(invariant) == 0 {
            self.checked.notes.push(format!(
                "{}: the first {MAX_FINDINGS} findings are told, there may be more",
                invariant.name
            ));
        }
    }
}

/// Executions that are looked at together.
pub(super) struct Chunk {
    /// With the numbers of their log entries.
    pub(super) executions: Vec<(Uuid, i64)>,
    /// The last of them; `None` if there are none.
    pub(super) last: Option<(DateTime<Utc>, Uuid)>,
}

impl Chunk {
    /// As many of the rows as have few enough log entries, and one at least.
    fn of(rows: &[(Uuid, DateTime<Utc>, i64)]) -> Self {
        let mut chunk = Self {
            executions: Vec::new(),
            last: None,
        };
        let mut entries = 0_i64;
        for (id, created_at, last_seq) in rows {
            entries = entries.saturating_add(*last_seq);
            if entries > CHUNK_ENTRIES && chunk.last.is_some() {
                break;
            }
            chunk.executions.push((*id, *last_seq));
            chunk.last = Some((*created_at, *id));
        }
        chunk
    }

    /// Their ids.
    pub(super) fn ids(&self) -> Vec<Uuid> {
        self.executions.iter().map(|(id, _)| *id).collect()
    }
}

fn limited(query: &str, room: usize) -> String {
    format!(
        "SELECT f.execution_id, left(f.detail, {MAX_DETAIL}) \
         FROM ({query}) AS f (execution_id, detail) LIMIT {room}"
    )
}

/// The ids of a table after `$1`, `$2` of them at most, found one after the other along the primary
/// key, so that a row is read for each execution and not the table: the last one, and those whose
/// execution does not exist.
fn walk_of(table: &str) -> String {
    format!(
        "WITH RECURSIVE walk (execution_id, place) AS ( \
             (SELECT t.execution_id, 1 FROM {table} AS t \
              WHERE t.execution_id > $1 ORDER BY t.execution_id LIMIT 1) \
             UNION ALL \
             SELECT (SELECT t.execution_id FROM {table} AS t \
                     WHERE t.execution_id > w.execution_id ORDER BY t.execution_id LIMIT 1), \
                 w.place + 1 \
             FROM walk AS w WHERE w.execution_id IS NOT NULL AND w.place < $2 \
         ) \
         SELECT (SELECT w.execution_id FROM walk AS w WHERE w.execution_id IS NOT NULL \
                 ORDER BY w.execution_id DESC LIMIT 1), \
             ARRAY(SELECT w.execution_id FROM walk AS w WHERE w.execution_id IS NOT NULL \
                 AND (SELECT e.execution_id FROM workflow_execution AS e \
                      WHERE e.execution_id = w.execution_id) IS NULL)"
    )
}

/// The least id of version 7 of a time.
fn first_id(time: DateTime<Utc>) -> Uuid {
    let millis = u128::try_from(time.timestamp_millis()).unwrap_or(0);
    Uuid::from_u128(millis << 80)
}

fn failed(invariant: &Invariant, source: sqlx::Error) -> StorageError {
    StorageError::Check {
        invariant: invariant.name,
        source,
    }
}
