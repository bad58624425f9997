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
/// Executions up to which the system is idle, and what is asked is how long one execution takes.
const FEW: usize = 4;
/// The time between two looks then. Looks without a pause would keep a core busy, and the system slower
/// than it is (by half a millisecond where there are two cores).
const FEW_WAIT: Duration = Duration::from_micros(150);
/// What a timer counts in; it rounds up.
const TIMER_STEP: Duration = Duration::from_millis(1);

/// Looks at the rows from time to time.
pub struct Rows {
    connection: PgConnection,
    next_look: Instant,
}

impl Rows {
    /// Connects.
    pub async fn connect(url: &str) -> Result<Self, Failure> {
        Ok(Self {
            connection: PgConnection::connect(url).await?,
            next_look: Instant::now(),
        })
    }

    /// Waits until it is time to look again. Cancel-safe.
    pub async fn look_due(&self) {
        let left = self.next_look.saturating_duration_since(Instant::now());
        if left >= TIMER_STEP {
            tokio::time::sleep(left).await;
        } else if !left.is_zero() {
            // It ends early only if it is cancelled, with the runtime.
            let _ = tokio::task::spawn_blocking(move || pause(left)).await;
        }
    }

    /// Which of these have ended, and whether well.
    pub async fn ended(&mut self, ids: Vec<Uuid>) -> Result<Vec<(Uuid, bool)>, Failure> {
        let began = Instant::now();
        let asked = ids.len();
        if asked == 0 {
            self.next_look = began + wait_after(Duration::ZERO, asked);
            return Ok(Vec::new());
        }
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

/// Takes a thread for less than a millisecond, which a timer cannot count.
#[expect(
    clippy::disallowed_methods,
    reason = "it runs on a thread for what blocks"
)]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

fn wait_after(look: Duration, asked: usize) -> Duration {
    match asked {
        0 => WAITS.0,
        1..=FEW => FEW_WAIT,
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
        assert_eq!((wait(5000, 1), wait(5000, 0)), (150, 1000));
    }
}
