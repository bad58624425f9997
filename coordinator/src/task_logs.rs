//! Lines that tasks have logged, on their way from inboxes into the database: in batches, beside the
//! turns.
//!
//! It is best effort. A batch that the database does not take within some seconds is lost, and so are
//! the lines of the next seconds, which are not even tried: a delivery that waits for its lines would
//! hold back the acknowledgements of what came before and after it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use flotilla_protocol::message::TaskLog;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::storage::{self, StorageError, TaskLogRow, chain};

/// The most lines of one statement, unless one message has more.
const MAX_LINES: usize = 5_000;
/// The longest line in bytes that is stored; workers cut theirs before.
const MAX_LINE_BYTES: usize = 16 * 1024;
/// The highest number of a line that is stored, which bounds the log of an attempt.
const MAX_LINE_NO: u32 = 1_000_000;
/// How long a batch is tried.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long no batch is tried after one that was lost.
const REST: Duration = Duration::from_secs(10);
/// Wait before a batch that failed is tried again.
const AGAIN_AFTER: Duration = Duration::from_millis(300);

type Order = (TaskLog, oneshot::Sender<()>);

/// Takes what is to be written.
#[derive(Debug, Clone)]
pub(crate) struct LogWriter(mpsc::UnboundedSender<Order>);

impl LogWriter {
    /// Starts the task that writes; it ends with the last clone.
    pub fn start(pool: sqlx::PgPool) -> Self {
        let (sender, orders) = mpsc::unbounded_channel();
        tokio::spawn(write_all(pool, orders));
        Self(sender)
    }

    /// Waits until the lines are stored or lost.
    pub async fn write(&self, log: TaskLog) {
        let (done, is_done) = oneshot::channel();
        // Whoever writes is there for as long as this is.
        if self.0.send((log, done)).is_ok() {
            let _ = is_done.await;
        }
    }
}

async fn write_all(pool: sqlx::PgPool, mut orders: mpsc::UnboundedReceiver<Order>) {
    let mut rests_until: Option<Instant> = None;
    while let Some(first) = orders.recv().await {
        let mut done = Vec::new();
        let mut rows = Vec::new();
        let mut next = Some(first);
        while let Some((log, told)) = next {
            rows.extend(rows_of(log));
            done.push(told);
            next = (rows.len() < MAX_LINES)
                .then(|| orders.try_recv().ok())
                .flatten();
        }
        if rests_until.is_some_and(|until| Instant::now() < until) {
            tracing::debug!(lines = rows.len(), "lines of logs are lost");
        } else if let Err(error) = write(&pool, &rows).await {
            let error = error.map_or_else(|| "it takes too long".to_owned(), |e| chain(&e));
            tracing::warn!(
                lines = rows.len(),
                error,
                "lines of logs cannot be stored and are lost, and so are those of the next {} s",
                REST.as_secs()
            );
            rests_until = Some(Instant::now() + REST);
        }
        for told in done {
            // Nobody waits any more when the coordinator has stopped.
            let _ = told.send(());
        }
    }
}

/// Writes rows, again and again for a while; gives the last error, if there was one.
async fn write(pool: &sqlx::PgPool, rows: &[TaskLogRow]) -> Result<(), Option<StorageError>> {
    if rows.is_empty() {
        return Ok(());
    }
    let mut last = None;
    let trying = async {
        while let Err(error) = storage::insert_task_log(pool, rows).await {
            last = Some(error);
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    };
    match tokio::time::timeout(PATIENCE, trying).await {
        Ok(()) => Ok(()),
        Err(_) => Err(last),
    }
}

/// Rows that the database takes, whatever a worker may send.
fn rows_of(log: TaskLog) -> impl Iterator<Item = TaskLogRow> {
    let TaskLog {
        execution_id,
        task_id,
        attempt,
        lines,
        ..
    } = log;
    lines.into_iter().filter_map(move |mut line| {
        if line.no > MAX_LINE_NO {
            return None;
        }
        line.text
            .truncate(line.text.floor_char_boundary(MAX_LINE_BYTES));
        Some(TaskLogRow {
            execution_id,
            task_id,
            attempt: i32::try_from(attempt).ok()?,
            line_no: i32::try_from(line.no).ok().filter(|no| *no > 0)?,
            // Postgres' times end before those of the message do.
            at: line.at.clamp(DateTime::UNIX_EPOCH, last_time()),
            stream: line.stream,
            text: line.text,
        })
    })
}

/// The last second of the year 9999.
fn last_time() -> DateTime<Utc> {
    DateTime::from_timestamp(253_402_300_799, 0).unwrap_or(DateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_protocol::message::LogLine;
    use flotilla_protocol::{ExecutionId, TaskId};
    use uuid::Uuid;

    fn line(no: u32, at: DateTime<Utc>, text: &str) -> LogLine {
        LogLine {
            no,
            at,
            stream: "log".to_owned(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn whatever_a_worker_sends_can_be_stored() {
        let at = DateTime::UNIX_EPOCH;
        let lines = vec![
            line(0, at, "no number"),
            line(1_000_001, at, "too many"),
            line(u32::MAX, at, "far too many"),
            line(1, DateTime::<Utc>::MIN_UTC, "too early"),
            line(2, DateTime::<Utc>::MAX_UTC, "too late"),
            line(3, at, &"ä".repeat(MAX_LINE_BYTES)),
        ];
        let log = TaskLog {
            execution_id: ExecutionId(Uuid::nil()),
            task_id: TaskId(Uuid::nil()),
            attempt: 1,
            worker: None,
            lines,
        };
        let rows: Vec<TaskLogRow> = rows_of(log).collect();
        let numbers: Vec<i32> = rows.iter().map(|row| row.line_no).collect();
        assert_eq!(numbers, [1, 2, 3]);
        assert_eq!(rows[0].at, at);
        assert_eq!(rows[1].at.to_rfc3339(), "9999-12-31T23:59:59+00:00");
        assert_eq!(rows[2].text.len(), MAX_LINE_BYTES);
    }
}
