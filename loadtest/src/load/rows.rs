//! Ends as rows tell them: starts ask for no answer then, as those of users who do not wait, and the
//! load costs neither the broker nor the coordinator anything beside its starts.

use std::time::{Duration, Instant};

use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::failure::Failure;

/// Executions that one look asks for at most.
pub const MAX_LOOKED_AT: usize = 2000;
/// A look takes at most one part in so many of the time, so that it costs Postgres little.
const SHARE: u32 = 20;
/// The shortest and the longest time between two looks.
const WAITS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));
/// Executions up to which the system is idle, and what is asked is how long one execution takes: then
/// one look follows the other, since a timer would round up to a millisecond.
const FEW: usize = 4;

/// Looks at the rows from time to time.
pub struct Rows {
    connection: PgConnection,
    /// When to look again.
    pub next_look: Instant,
}

impl Rows {
    /// Connects.
    pub async fn connect(url: &str) -> Result<Self, Failure> {
        Ok(Self {
            connection: PgConnection::connect(url).await?,
            next_look: Instant::now(),
        })
    }

    /// Which of these have ended, and whether well.
    pub async fn ended(&mut self, ids: Vec<Uuid>) -> Result<Vec<(Uuid, bool)>, Failure> {
        let began = Instant::now();
        let asked = ids.len();
        let ended = sqlx::query_as(
            "SELECT execution_id, status = 'succeeded' FROM workflow_execution
             WHERE execution_id = ANY ($1) AND finished_at IS NOT NULL",
        )
        .bind(ids)
        .fetch_all(&mut self.connection)
        .await?;
        let now = Instant::now();
        self.next_look = now + wait_after(now - began, asked);
        Ok(ended)
    }
}

fn wait_after(look: Duration, asked: usize) -> Duration {
    match asked {
        0 => WAITS.0,
        1..=FEW => Duration::ZERO,
        _ => (look * SHARE).clamp(WAITS.0, WAITS.1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_that_take_long_are_rare() {
        let wait = |us, asked| wait_after(Duration::from_micros(us), asked).as_micros();
        let waits = (wait(10, 9), wait(100, 9), wait(5000, 9));
        assert_eq!(waits, (1000, 2000, 20_000));
        assert_eq!((wait(5000, 1), wait(5000, 0)), (0, 1000));
    }
}
