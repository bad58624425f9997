//! Definitions and starts: what a start message names, and whether it was there before.

use std::sync::Arc;

use flotilla_engine::{DefinitionHash, Workflow, compile_stored};
use flotilla_protocol::ExecutionId;
use flotilla_turn::rows::{ExistingStart, FoundDefinition, FoundStart, StartLookup};
use sqlx::PgExecutor;
use sqlx::postgres::{PgBindIterExt, PgRow};
use uuid::Uuid;

use super::StorageError;
use super::load_rows::{self, Reader};

/// The channel on which coordinators are told that a workflow was registered.
pub const REGISTERED_CHANNEL: &str = "flotilla_workflows";

/// A definition as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDefinition {
    /// Identifies it.
    pub hash: DefinitionHash,
    /// Its text.
    pub source: String,
    /// What it gets of its pack, as JSON text.
    pub pack: Option<String>,
}

impl StoredDefinition {
    /// The definition, read again.
    ///
    /// # Errors
    ///
    /// What is wrong with it for this version, in one sentence.
    pub fn compile(&self) -> Result<Arc<Workflow>, String> {
        compile_stored(&self.source, self.pack.as_deref())
            .map(|compiled| compiled.workflow)
            .map_err(|errors| {
                let first = errors.first().map_or("", |error| error.message.as_str());
                format!(
                    "this version cannot read the definition {}: {first}",
                    self.hash
                )
            })
    }
}

/// Registers a definition; whether its bytes are new. Registered again, they are the newest of
/// their workflow again.
///
/// # Errors
///
/// When the database fails, or the same bytes are registered under another name.
pub async fn register_definition(
    database: impl PgExecutor<'_>,
    definition: &StoredDefinition,
    workflow: &str,
    version: &str,
) -> Result<bool, StorageError> {
    // The number is drawn under the lock of the row, so that the last writer has the highest.
    let (holder, holder_version, created, _): (String, String, bool, bool) = sqlx::query_as(
        "INSERT INTO workflow_definition AS d (hash, workflow, version, source, pack) \
         VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (hash) DO UPDATE SET \
             registered_at = CASE WHEN d.workflow = $2 AND d.version = $3 \
                 THEN clock_timestamp() ELSE d.registered_at END, \
             registration = CASE WHEN d.workflow = $2 AND d.version = $3 \
                 THEN nextval(pg_get_serial_sequence('workflow_definition', 'registration')) \
                 ELSE d.registration END \
         RETURNING d.workflow, d.version, xmax = 0, pg_notify($6, '') IS NULL",
    )
    .bind(&definition.hash.0[..])
    .bind(workflow)
    .bind(version)
    .bind(&definition.source)
    .bind(&definition.pack)
    .bind(REGISTERED_CHANNEL)
    .fetch_one(database)
    .await
    .map_err(StorageError::step("register a definition"))?;
    if holder != workflow || holder_version != version {
        return Err(StorageError::DefinitionTaken {
            workflow: holder,
            version: holder_version,
        });
    }
    Ok(created)
}

/// Definitions; those that are not registered are absent.
///
/// # Errors
///
/// When the database fails.
pub async fn load_definitions(
    database: impl PgExecutor<'_>,
    hashes: &[DefinitionHash],
) -> Result<Vec<StoredDefinition>, StorageError> {
    let rows =
        sqlx::query("SELECT hash, source, pack FROM workflow_definition WHERE hash = ANY ($1)")
            .bind(hashes.iter().map(|hash| &hash.0[..]).bind_iter())
            .fetch_all(database)
            .await
            .map_err(StorageError::step("load definitions"))?;
    rows.iter()
        .map(|row| {
            let reader = Reader {
                table: "workflow_definition",
                row,
            };
            Ok(StoredDefinition {
                hash: load_rows::hash(&reader, "hash")?,
                source: reader.read("source")?,
                pack: reader.read("pack")?,
            })
        })
        .collect()
}

/// What is known of each start, in the order of the lookups. A start of the same id counts before
/// one of the same key.
///
/// # Errors
///
/// When the database fails.
pub async fn load_starts(
    database: impl PgExecutor<'_>,
    lookups: &[StartLookup],
) -> Result<Vec<FoundStart>, StorageError> {
    let lookups = || lookups.iter();
    let rows = sqlx::query(
        "SELECT s.execution_id, s.workflow, s.partition, d.hash, \
             d.hash IS NOT NULL OR EXISTS ( \
                 SELECT FROM workflow_definition AS w WHERE w.workflow = l.workflow \
             ) AS workflow_is_known \
         FROM unnest($1, $2, $3, $4) WITH ORDINALITY \
             AS l (execution_id, idempotency_key, workflow, version, n) \
         LEFT JOIN LATERAL ( \
             SELECT 1 AS choice, i.execution_id, i.workflow, i.partition \
             FROM workflow_start AS i WHERE i.execution_id = l.execution_id \
             UNION ALL \
             SELECT 2, k.execution_id, k.workflow, k.partition \
             FROM workflow_start AS k WHERE k.idempotency_key = l.idempotency_key \
             ORDER BY choice LIMIT 1 \
         ) AS s ON true \
         LEFT JOIN LATERAL ( \
             SELECT w.hash FROM workflow_definition AS w \
             WHERE w.workflow = l.workflow AND (l.version IS NULL OR w.version = l.version) \
             ORDER BY w.registration DESC LIMIT 1 \
         ) AS d ON true \
         ORDER BY l.n",
    )
    .bind(lookups().map(|l| l.execution_id.map(|id| id.0)).bind_iter())
    .bind(lookups().map(|l| l.idempotency_key.as_deref()).bind_iter())
    .bind(lookups().map(|l| l.workflow.as_str()).bind_iter())
    .bind(lookups().map(|l| l.version.as_deref()).bind_iter())
    .fetch_all(database)
    .await
    .map_err(StorageError::step("look starts up"))?;
    rows.iter().map(found_start).collect()
}

/// The newest version of each of these workflows, by their names.
///
/// # Errors
///
/// When the database fails.
pub async fn find_definitions(
    database: impl PgExecutor<'_>,
    workflows: &[String],
) -> Result<Vec<(String, FoundDefinition)>, StorageError> {
    let lookups: Vec<StartLookup> = workflows
        .iter()
        .map(|workflow| StartLookup {
            execution_id: None,
            idempotency_key: None,
            workflow: workflow.clone(),
            version: None,
        })
        .collect();
    let found = load_starts(database, &lookups).await?;
    let definitions = found.into_iter().map(|found| found.definition);
    Ok(workflows.iter().cloned().zip(definitions).collect())
}

fn found_start(row: &PgRow) -> Result<FoundStart, StorageError> {
    let reader = Reader {
        table: "workflow_start",
        row,
    };
    let existing = match reader.read::<Option<Uuid>>("execution_id")? {
        Some(id) => Some(ExistingStart {
            execution_id: ExecutionId(id),
            workflow: reader.read("workflow")?,
            partition: reader.read("partition")?,
        }),
        None => None,
    };
    let hash: Option<&[u8]> = reader.read("hash")?;
    let definition = if hash.is_some() {
        FoundDefinition::Registered(load_rows::hash(&reader, "hash")?)
    } else if reader.read("workflow_is_known")? {
        FoundDefinition::UnknownVersion
    } else {
        FoundDefinition::UnknownWorkflow
    };
    Ok(FoundStart {
        existing,
        definition,
    })
}
