//! The fold as an invariant: what the log of an execution gives when the engine follows it anew is
//! what its rows say.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use flotilla_engine::{DefinitionHash, Workflow};
use flotilla_protocol::ExecutionId;
use flotilla_turn::fold::{History, fold};
use sqlx::PgConnection;
use uuid::Uuid;

use super::walk::{Check, Chunk};
use super::{Invariant, Query};
use crate::storage::{StorageError, chain, load_definitions, load_history};

/// The invariant.
pub(super) const INVARIANTS: &[Invariant] = &[Invariant {
    name: "fold",
    rule: "the log of an execution, followed anew by the engine, gives exactly its rows",
    query: Query::Fold,
}];

/// Log entries of the executions that are in memory together.
const GROUP_ENTRIES: i64 = 5_000;
/// Log entries of an execution above which it is not folded.
const MAX_ENTRIES: i64 = 200_000;
/// Bytes of an execution, as Postgres keeps them, above which it is not folded.
const MAX_BYTES: i64 = 64 * 1024 * 1024;
/// Compiled definitions that are kept.
const KEPT_WORKFLOWS: usize = 100;

/// Definitions that histories need; one that cannot be read says why.
#[derive(Default)]
pub(super) struct Workflows(BTreeMap<DefinitionHash, Option<Result<Arc<Workflow>, String>>>);

impl Check<'_> {
    /// Folds the executions of a chunk.
    pub(super) async fn fold(
        &mut self,
        workflows: &mut Workflows,
        chunk: &Chunk,
    ) -> Result<(), StorageError> {
        let invariant = &INVARIANTS[0];
        let too_large = too_large(self.conn, &chunk.ids()).await?;
        let mut group = Vec::new();
        let mut entries = 0;
        for (id, last_seq) in &chunk.executions {
            if *last_seq > MAX_ENTRIES || too_large.contains(id) {
                self.checked.notes.push(format!(
                    "fold: execution {id} is too large and is left out ({last_seq} log entries)"
                ));
                continue;
            }
            if entries + last_seq > GROUP_ENTRIES && !group.is_empty() {
                self.fold_group(workflows, &group).await?;
                group.clear();
                entries = 0;
            }
            group.push(ExecutionId(*id));
            entries += last_seq;
        }
        if group.is_empty() || self.room(invariant) == 0 {
            return Ok(());
        }
        self.fold_group(workflows, &group).await
    }

    async fn fold_group(
        &mut self,
        workflows: &mut Workflows,
        group: &[ExecutionId],
    ) -> Result<(), StorageError> {
        match load_history(self.conn, group).await {
            Ok(histories) => self.fold_all(workflows, &histories).await,
            Err(StorageError::Row { .. }) if group.len() > 1 => {
                // One of them cannot be read; the others can.
                for id in group {
                    Box::pin(self.fold_group(workflows, &[*id])).await?;
                }
                Ok(())
            }
            Err(error @ StorageError::Row { .. }) => {
                let rows = group.iter().map(|id| (Some(id.0), chain(&error))).collect();
                self.add(&INVARIANTS[0], rows);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn fold_all(
        &mut self,
        workflows: &mut Workflows,
        histories: &[History],
    ) -> Result<(), StorageError> {
        let invariant = &INVARIANTS[0];
        for history in histories {
            let (id, hash) = (history.row.execution_id, history.row.definition_hash);
            let workflow = match workflows.workflow(self.conn, hash).await? {
                Some(Ok(workflow)) => workflow,
                Some(Err(note)) => {
                    if !self.checked.notes.contains(&note) {
                        self.checked.notes.push(note);
                    }
                    continue;
                }
                // Another invariant says so.
                None => continue,
            };
            let sentences = catch_unwind(AssertUnwindSafe(|| fold(history, workflow)))
                .unwrap_or_else(|_| vec!["the engine panics over this log".to_owned()]);
            let rows = sentences.into_iter().take(self.room(invariant));
            let rows = rows.map(|sentence| (Some(id.0), sentence)).collect();
            self.add(invariant, rows);
        }
        Ok(())
    }
}

impl Workflows {
    /// A definition; `None` if it is not registered.
    async fn workflow(
        &mut self,
        conn: &mut PgConnection,
        hash: DefinitionHash,
    ) -> Result<Option<Result<Arc<Workflow>, String>>, StorageError> {
        if let Some(known) = self.0.get(&hash) {
            return Ok(known.clone());
        }
        let loaded = load_definitions(conn, &[hash]).await?;
        let compiled = loaded.first().map(|definition| {
            definition
                .compile()
                .map_err(|_| {
                    format!(
                        "fold: executions of definition {hash} are left out: this version cannot read it"
                    )
                })
        });
        if self.0.len() >= KEPT_WORKFLOWS {
            self.0.clear();
        }
        self.0.insert(hash, compiled.clone());
        Ok(compiled)
    }
}

/// Those of the executions whose rows are too large to be held in memory.
async fn too_large(conn: &mut PgConnection, ids: &[Uuid]) -> Result<Vec<Uuid>, StorageError> {
    sqlx::query_scalar(
        "SELECT s.execution_id FROM ( \
             SELECT t.execution_id, coalesce(pg_column_size(t.input), 0) \
                 + coalesce(pg_column_size(t.result), 0) + coalesce(pg_column_size(t.error), 0) \
                 + pg_column_size(t.branch) AS bytes \
             FROM workflow_task AS t WHERE t.execution_id = ANY ($1) \
             UNION ALL \
             SELECT v.execution_id, pg_column_size(v.value) \
             FROM workflow_variable AS v WHERE v.execution_id = ANY ($1) \
         ) AS s \
         GROUP BY s.execution_id HAVING sum(s.bytes) > $2",
    )
    .bind(ids)
    .bind(MAX_BYTES)
    .fetch_all(conn)
    .await
    .map_err(StorageError::step("measure executions"))
}
