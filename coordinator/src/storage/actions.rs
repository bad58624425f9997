//! What packs say of their actions.

use std::collections::BTreeMap;

use flotilla_engine::ActionFile;
use flotilla_engine::pack::ActionDefaults;
use sqlx::{PgExecutor, Row};

use super::StorageError;

/// Stores what the file of an action says; it replaces what was said of the action before.
///
/// # Errors
///
/// When the database fails.
pub async fn register_action(
    database: impl PgExecutor<'_>,
    action: &ActionFile,
    source: &str,
) -> Result<(), StorageError> {
    sqlx::query(
        "INSERT INTO workflow_action \
             (action, description, pool, timeout_s, parameters, source) \
         VALUES ($1, $2, $3, $4, nullif($5::jsonb, 'null'), $6) \
         ON CONFLICT (action) DO UPDATE SET \
             description = excluded.description, pool = excluded.pool, \
             timeout_s = excluded.timeout_s, parameters = excluded.parameters, \
             source = excluded.source, registered_at = clock_timestamp()",
    )
    .bind(&action.reference)
    .bind(&action.description)
    .bind(&action.defaults.pool)
    .bind(action.defaults.timeout)
    .bind(action.parameters.text())
    .bind(source)
    .execute(database)
    .await
    .map_err(StorageError::step("register an action"))?;
    Ok(())
}

/// What actions say of themselves, by their references.
///
/// # Errors
///
/// When the database fails.
pub async fn load_actions(
    database: impl PgExecutor<'_>,
) -> Result<BTreeMap<String, ActionDefaults>, StorageError> {
    let rows = sqlx::query("SELECT action, pool, timeout_s FROM workflow_action")
        .fetch_all(database)
        .await
        .map_err(StorageError::step("load actions"))?;
    let actions = rows.iter().map(|row| {
        let defaults = ActionDefaults {
            pool: row.try_get("pool")?,
            timeout: row.try_get("timeout_s")?,
        };
        Ok((row.try_get("action")?, defaults))
    });
    actions
        .collect::<Result<_, _>>()
        .map_err(StorageError::step("load actions"))
}
