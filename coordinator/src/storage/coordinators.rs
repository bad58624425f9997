//! Coordinator processes: who is there.

use chrono::{DateTime, Utc};
use sqlx::PgExecutor;
use uuid::Uuid;

use super::StorageError;

/// Says that a coordinator has started, and forgets those that have not been seen for a week. The
/// database's clock, and the number of partitions.
///
/// # Errors
///
/// When the database fails.
pub async fn register_coordinator(
    database: impl PgExecutor<'_>,
    id: Uuid,
    name: &str,
) -> Result<(DateTime<Utc>, i32), StorageError> {
    sqlx::query_as(
        "WITH forgotten AS ( \
             DELETE FROM coordinator AS c \
             WHERE c.seen_at < clock_timestamp() - interval '7 days' \
                 AND NOT EXISTS (SELECT FROM coordinator_partition AS p WHERE p.owner = c.id) \
         ), registered AS ( \
             INSERT INTO coordinator (id, name, pid, version) VALUES ($1, $2, $3, $4) \
         ) \
         SELECT clock_timestamp(), (SELECT count(*)::integer FROM coordinator_partition)",
    )
    .bind(id)
    .bind(name)
    .bind(i32::try_from(std::process::id()).unwrap_or(i32::MAX))
    .bind(env!("CARGO_PKG_VERSION"))
    .fetch_one(database)
    .await
    .map_err(StorageError::step("register the coordinator"))
}
