//! Connections, with the limits that every statement of Flotilla runs under.

use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, PgConnection, PgPool};

use super::StorageError;

/// Seconds after which the server ends a statement. A commit whose answer is lost is decided by then.
pub const STATEMENT_TIMEOUT_S: u64 = 10;

/// The same for statements of a check, which may have to read a large execution.
const CHECK_TIMEOUT_S: u64 = 120;

/// Connections of a pool. Nothing hot goes through one.
const MAX_CONNECTIONS: u32 = 8;

/// A pool of connections. Fails if nothing answers within a few seconds, or if the server would
/// acknowledge commits that it can lose.
///
/// # Errors
///
/// [`StorageError::Url`], [`StorageError::Connect`], [`StorageError::SynchronousCommitOff`].
pub async fn connect(url: &str) -> Result<PgPool, StorageError> {
    let pool = PgPoolOptions::new()
        .max_connections(MAX_CONNECTIONS)
        .acquire_timeout(Duration::from_secs(5))
        // A dead connection shows at the next statement, which is sent again anyway.
        .test_before_acquire(false)
        .connect_with(options(url)?)
        .await
        .map_err(StorageError::Connect)?;
    let mut conn = pool.acquire().await.map_err(StorageError::Connect)?;
    refuse_asynchronous_commit(&mut conn).await?;
    drop(conn);
    Ok(pool)
}

/// One connection outside any pool: it is dropped when the outcome of a statement is unknown.
///
/// # Errors
///
/// [`StorageError::Url`], [`StorageError::Connect`], [`StorageError::SynchronousCommitOff`].
pub async fn connect_one(url: &str) -> Result<PgConnection, StorageError> {
    connect_with(options(url)?).await
}

/// One connection for [`commit`](super::commit()), whose settings say how the statements of
/// `commit_turn_v4` are planned: each finds its rows by the key, whatever the statistics say, and a plan
/// that was made stays.
///
/// # Errors
///
/// As [`connect_one`].
pub async fn connect_to_commit(url: &str) -> Result<PgConnection, StorageError> {
    connect_with(options(url)?.options([
        // Of two settings of one name the later counts.
        ("plan_cache_mode", "force_generic_plan"),
        ("enable_hashjoin", "off"),
        ("enable_mergejoin", "off"),
        ("enable_seqscan", "off"),
        ("enable_bitmapscan", "off"),
        ("enable_material", "off"),
        ("enable_memoize", "off"),
    ]))
    .await
}

async fn connect_with(options: PgConnectOptions) -> Result<PgConnection, StorageError> {
    let mut conn = options.connect().await.map_err(StorageError::Connect)?;
    refuse_asynchronous_commit(&mut conn).await?;
    Ok(conn)
}

/// One connection that can only read, for checks of a fleet that lives: statements may take longer,
/// and whatever the statistics say, tables are joined by reading what is asked of each of them
/// once.
///
/// # Errors
///
/// [`StorageError::Url`], [`StorageError::Connect`].
pub async fn connect_read_only(url: &str) -> Result<PgConnection, StorageError> {
    let statement_timeout = format!("{CHECK_TIMEOUT_S}s");
    options(url)?
        .options([
            ("default_transaction_read_only", "on"),
            ("statement_timeout", statement_timeout.as_str()),
            // Tables that were never analysed look small, and loops over them then take for ever; so does
            // a merge by execution alone, which pairs every run of a large one with every entry of its log.
            ("enable_nestloop", "off"),
            ("enable_mergejoin", "off"),
            ("jit", "off"),
        ])
        .connect()
        .await
        .map_err(StorageError::Connect)
}

/// `off` loses acknowledged commits when the server crashes; any other setting does not.
async fn refuse_asynchronous_commit(conn: &mut PgConnection) -> Result<(), StorageError> {
    let setting: String = sqlx::query_scalar("SELECT current_setting('synchronous_commit')")
        .fetch_one(conn)
        .await
        .map_err(StorageError::Connect)?;
    if setting == "off" {
        return Err(StorageError::SynchronousCommitOff);
    }
    Ok(())
}

fn options(url: &str) -> Result<PgConnectOptions, StorageError> {
    let statement_timeout = format!("{STATEMENT_TIMEOUT_S}s");
    Ok(PgConnectOptions::from_str(url)
        .map_err(StorageError::Url)?
        .application_name("flotilla")
        .options([
            ("statement_timeout", statement_timeout.as_str()),
            ("lock_timeout", "5s"),
            ("idle_in_transaction_session_timeout", "5s"),
            // The fence looks again at rows that changed while it waited, which is what this level does.
            ("default_transaction_isolation", "read committed"),
            // A plan that was made and kept while a table was empty would scan it when it is full.
            ("plan_cache_mode", "force_custom_plan"),
        ])
        .disable_statement_logging())
}
