//! Hearing what others do: that they let go of partitions, or that workflows were registered.

use std::time::Duration;

use sqlx::postgres::PgListener;

use super::StorageError;
use super::connect::{pool_of_one, within};
use super::definitions::REGISTERED_CHANNEL;
use super::partitions::FREED_CHANNEL;

/// How long it may take to begin to listen.
const LISTENER_LIMIT: Duration = Duration::from_secs(10);

/// Listens for partitions that others let go of, and for workflows that are registered. The listener
/// connects again by itself; what is told in between is lost, so each [`PgListener::try_recv`] is no more than
/// a reason to look. That its server has gone without a word it does not see: see [`ask_listener`].
///
/// # Errors
///
/// When no connection can be had.
pub async fn listen(url: &str) -> Result<PgListener, StorageError> {
    // A pool of its own: a listener that is given up keeps its place until its connection answers or
    // fails, which may take as long as the system likes.
    let pool = pool_of_one(url)?;
    let listening = Box::pin(async {
        let mut listener = PgListener::connect_with(&pool).await?;
        listener
            .listen_all([FREED_CHANNEL, REGISTERED_CHANNEL])
            .await?;
        Ok(listener)
    });
    let step = StorageError::step("listen to what others do");
    within(LISTENER_LIMIT, async { listening.await.map_err(step) }).await
}

/// Asks whether a listener can still hear anything. What it is told meanwhile is not lost.
///
/// # Errors
///
/// When the database fails or does not answer; the listener is of no use then.
pub async fn ask_listener(listener: &mut PgListener, limit: Duration) -> Result<(), StorageError> {
    let step = StorageError::step("ask whether others are heard");
    within(limit, async {
        let asked = sqlx::query("SELECT 1").execute(&mut *listener).await;
        asked.map(|_| ()).map_err(step)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::silent_wire::SilentWire;
    use sqlx::PgPool;

    #[sqlx::test(migrations = false)]
    async fn a_listener_that_hears_nothing_any_more_does_not_answer(pool: PgPool) {
        let wire = SilentWire::to(&pool).await;
        let mut listener = listen(&wire.url).await.unwrap();
        let tell = format!("NOTIFY {FREED_CHANNEL}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(tell))
            .execute(&pool)
            .await
            .unwrap();
        ask_listener(&mut listener, LISTENER_LIMIT).await.unwrap();
        // What was told before the question is there behind it.
        let told = listener.try_recv().await.unwrap();
        assert_eq!(told.unwrap().channel(), FREED_CHANNEL);
        wire.silence();
        let asked = ask_listener(&mut listener, Duration::from_millis(100)).await;
        assert!(matches!(asked, Err(StorageError::TimedOut)));
    }
}
