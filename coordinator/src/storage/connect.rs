//! Connections, with the limits that every statement of Flotilla runs under.

use std::future::Future;
use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, PgConnection, PgPool};

use super::StorageError;

/// Seconds after which the server ends a statement. A commit whose answer is lost is decided by then.
pub const STATEMENT_TIMEOUT_S: u64 = 10;

/// The same for statements of a check, which may have to read a large execution.
const CHECK_TIMEOUT_S: u64 = 120;

/// Connections of a pool. Nothing hot goes through one.
const MAX_CONNECTIONS: u32 = 8;

/// How long the first answers may take over a connection that is made.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// How long a connection that comes back to a pool may take to say that it still works.
const RETURN_LIMIT: Duration = Duration::from_secs(2);

/// A pool of connections. Fails if nothing answers within a few seconds, or if the server would
/// acknowledge commits that it can lose.
///
/// # Errors
///
/// [`StorageError::Url`], [`StorageError::Connect`], [`StorageError::TimedOut`],
/// [`StorageError::SynchronousCommitOff`].
pub async fn connect(url: &str) -> Result<PgPool, StorageError> {
    let pool = PgPoolOptions::new()
        .max_connections(MAX_CONNECTIONS)
        .acquire_timeout(Duration::from_secs(5))
        // A dead connection shows at the next statement, which is sent again anyway.
        .test_before_acquire(false)
        // Whoever gives a statement up leaves a connection that may never answer again. The pool would
        // wait for it, and have one less for as long.
        .after_release(|conn, _| Box::pin(answers(conn)))
        .connect_with(options(url)?)
        .await
        .map_err(StorageError::Connect)?;
    let mut conn = pool.acquire().await.map_err(StorageError::Connect)?;
    within(CONNECT_LIMIT, refuse_asynchronous_commit(&mut conn)).await?;
    drop(conn);
    Ok(pool)
}

/// A pool of one connection, which is made when it is needed.
pub(super) fn pool_of_one(url: &str) -> Result<PgPool, StorageError> {
    Ok(PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(CONNECT_LIMIT)
        .connect_lazy_with(options(url)?))
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

/// Does something with the database, unless that takes too long. A connection on which it was given up
/// must not be used again; a pool sees to that by itself.
///
/// # Errors
///
/// [`StorageError::TimedOut`], and those of what is done.
pub(crate) async fn within<T>(
    limit: Duration,
    doing: impl Future<Output = Result<T, StorageError>>,
) -> Result<T, StorageError> {
    tokio::time::timeout(limit, doing)
        .await
        .unwrap_or(Err(StorageError::TimedOut))
}

/// Whether a connection may go back to its pool; it is closed for an error.
async fn answers(conn: &mut PgConnection) -> Result<bool, sqlx::Error> {
    match tokio::time::timeout(RETURN_LIMIT, conn.ping()).await {
        Ok(answer) => answer.map(|()| true),
        Err(_) => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::silent_wire::SilentWire;
    use sqlx::Postgres;
    use sqlx::pool::PoolConnection;

    /// As many connections as a pool has.
    async fn all_of(pool: &PgPool) -> Vec<PoolConnection<Postgres>> {
        let mut all = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            let mut conn = pool.acquire().await.expect("there is one more");
            conn.ping().await.expect("it answers");
            all.push(conn);
        }
        all
    }

    #[sqlx::test(migrations = false)]
    async fn connections_that_do_not_answer_any_more_leave_their_pool(pool: PgPool) {
        let wire = SilentWire::to(&pool).await;
        let pool = connect(&wire.url).await.unwrap();
        let mut all = all_of(&pool).await;
        wire.silence();
        let asked = within(Duration::from_millis(100), async {
            let asking = sqlx::query("SELECT 1").execute(&mut *all[0]);
            asking.await.map_err(StorageError::step("ask"))
        });
        assert!(matches!(asked.await, Err(StorageError::TimedOut)));
        drop(all);
        all_of(&pool).await;
    }
}
