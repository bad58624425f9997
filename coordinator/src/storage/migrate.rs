//! The schema: brings a database to the version of this program, and sets up its partitions.

use sqlx::migrate::Migrator;
use sqlx::{PgConnection, PgPool};

use super::StorageError;

/// Partitions of a new database.
pub const DEFAULT_PARTITIONS: i32 = 16;

/// Key of the advisory lock under which a database is migrated: "flotilla" in ASCII.
const MIGRATION_LOCK: i64 = 0x666c_6f74_696c_6c61;

static MIGRATOR: Migrator = sqlx::migrate!("../migrations");

/// What [`migrate`] found and did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    /// Version of the schema now.
    pub version: i64,
    /// Migrations that this call applied.
    pub applied: Vec<i64>,
    /// Partitions now.
    pub partitions: i32,
}

/// Brings the database to the newest version, and to at least `partitions` partitions: a new
/// database has [`DEFAULT_PARTITIONS`] unless told otherwise, any other stays as it is.
///
/// Two calls at once are safe: the second waits for the first and finds nothing to do.
///
/// # Errors
///
/// When a migration fails, or fewer partitions are asked for than there are.
pub async fn migrate(pool: &PgPool, partitions: Option<i32>) -> Result<Migrated, StorageError> {
    // Not from the pool's idle ones: limits and locks of this session must not outlive the call.
    let mut conn = pool
        .acquire()
        .await
        .map_err(StorageError::Connect)?
        .detach();
    // An advisory lock waits under lock_timeout too; each migration limits its own locks.
    sqlx::raw_sql("SET statement_timeout = 0; SET lock_timeout = 0")
        .execute(&mut conn)
        .await
        .map_err(StorageError::step("lift the limits for migrations"))?;
    // Held until the connection closes: one caller at a time, from the first look to the last row.
    sqlx::query("SELECT pg_advisory_lock($1)")
        .bind(MIGRATION_LOCK)
        .execute(&mut conn)
        .await
        .map_err(StorageError::step("wait for other migrations"))?;
    migrate_alone(&mut conn, partitions).await
}

async fn migrate_alone(
    conn: &mut PgConnection,
    partitions: Option<i32>,
) -> Result<Migrated, StorageError> {
    let before = applied(conn).await?;
    MIGRATOR
        .run_direct(None, conn, false)
        .await
        .map_err(StorageError::Migrate)?;
    let after = applied(conn).await?;
    let partitions = add_partitions(conn, partitions).await?;
    Ok(Migrated {
        version: after.last().copied().unwrap_or(0),
        applied: after
            .into_iter()
            .filter(|version| !before.contains(version))
            .collect(),
        partitions,
    })
}

async fn applied(conn: &mut PgConnection) -> Result<Vec<i64>, StorageError> {
    let is_there: bool = sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
        .fetch_one(&mut *conn)
        .await
        .map_err(StorageError::step("look for the list of migrations"))?;
    if !is_there {
        return Ok(Vec::new());
    }
    sqlx::query_scalar("SELECT version FROM _sqlx_migrations WHERE success ORDER BY version")
        .fetch_all(conn)
        .await
        .map_err(StorageError::step("read the list of migrations"))
}

async fn add_partitions(conn: &mut PgConnection, asked: Option<i32>) -> Result<i32, StorageError> {
    let step = "add partitions";
    let present: i32 = sqlx::query_scalar("SELECT count(*)::integer FROM coordinator_partition")
        .fetch_one(&mut *conn)
        .await
        .map_err(StorageError::step(step))?;
    let default = if present == 0 {
        DEFAULT_PARTITIONS
    } else {
        present
    };
    let wanted = asked.unwrap_or(default);
    if wanted < present || wanted < 1 {
        return Err(StorageError::FewerPartitions {
            present,
            asked: wanted,
        });
    }
    sqlx::query("INSERT INTO coordinator_partition (id) SELECT generate_series($1, $2 - 1)")
        .bind(present)
        .bind(wanted)
        .execute(conn)
        .await
        .map_err(StorageError::step(step))?;
    Ok(wanted)
}
