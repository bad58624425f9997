//! Waiting for the end of an execution: by the reply, and by looking, should the reply be lost.

use std::time::Duration;

use flotilla_protocol::ExecutionId;
use flotilla_protocol::message::WorkflowFinished;
use indicatif::ProgressBar;
use serde_json::Value;
use tokio::time::{Instant, MissedTickBehavior};

use super::Started;
use super::replies::StartReplies;
use crate::command::show::text;
use crate::database::Database;
use crate::failure::Failure;

/// How often the summary is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a deadline is away where none is given.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// How an execution ended.
#[derive(Debug)]
pub struct Ended {
    /// The final status.
    pub status: String,
    /// The output, or null.
    pub output: Value,
    /// A list.
    pub errors: Value,
}

impl From<WorkflowFinished> for Ended {
    fn from(reply: WorkflowFinished) -> Self {
        let parse = |text: &str| serde_json::from_str(text).unwrap_or(Value::Null);
        Self {
            status: reply.status,
            output: reply
                .output
                .map_or(Value::Null, |output| parse(output.get())),
            errors: parse(reply.errors.get()),
        }
    }
}

/// Waits for the end; `None` once the deadline has passed.
pub async fn end(
    replies: &mut StartReplies,
    started: &mut Started,
    database: Option<&Database>,
    deadline: Option<Instant>,
    line: &ProgressBar,
) -> Result<Option<Ended>, Failure> {
    if let Some(ended) = replies.take_finished() {
        return Ok(Some(ended));
    }
    let deadline = deadline.unwrap_or_else(|| Instant::now() + FOR_EVER);
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            reply = replies.next(), if replies.is_open() => {
                let Some(reply) = reply else {
                    can_go_on(started, database)?;
                    continue;
                };
                if let Some(ended) = reply.note(started)? {
                    return Ok(Some(ended));
                }
            }
            () = tokio::time::sleep_until(deadline) => return Ok(None),
            _ = look.tick() => {
                if let Some(ended) = stored_end(started.id, database, line).await {
                    return Ok(Some(ended));
                }
            }
        }
    }
}

/// Without replies, the database must tell of the end.
fn can_go_on(started: &Started, database: Option<&Database>) -> Result<(), Failure> {
    match (started.id, database) {
        (Some(_), Some(_)) => Ok(()),
        (Some(id), None) => Err(Failure::unreachable(format!(
            "the connection to the broker is lost, and with it the replies; execution {id} goes on"
        ))
        .hint("give --database-url too, and the end is seen there")),
        (None, _) => Err(Failure::unreachable(
            "the connection to the broker is lost before the start was answered",
        )
        .hint("start again with the same --key: that makes one execution")),
    }
}

/// The status of an execution as it is stored, if that can be seen.
pub async fn status(id: Option<ExecutionId>, database: Option<&Database>) -> Option<String> {
    database?.status(id?).await.unwrap_or_else(not_now)
}

async fn stored_end(
    id: Option<ExecutionId>,
    database: Option<&Database>,
    line: &ProgressBar,
) -> Option<Ended> {
    let row = database?.summary(id?).await.unwrap_or_else(not_now)?;
    if row["finished_at"].is_null() {
        line.set_message(format!(
            "execution {} {}: {} tasks, {} of them open",
            text(&row["execution_id"]),
            text(&row["status"]),
            text(&row["tasks_total"]),
            text(&row["tasks_active"])
        ));
        return None;
    }
    Some(Ended {
        status: row["status"].as_str()?.to_owned(),
        output: row["output"].clone(),
        errors: row["errors"].clone(),
    })
}

/// A database that does not answer at the moment is no reason to stop waiting.
#[expect(
    clippy::needless_pass_by_value,
    reason = "it is what an error is handed to"
)]
fn not_now<T>(failure: Failure) -> Option<T> {
    tracing::debug!(%failure, "could not look at the execution");
    None
}
