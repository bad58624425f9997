//! The commit of a turn: one statement, and what its outcome means.

use chrono::{DateTime, Utc};
use flotilla_protocol::ExecutionId;
use flotilla_turn::rows::{Commit, CommitAnswer, PartitionNo};
use sqlx::PgConnection;
use sqlx::postgres::PgDatabaseError;

use super::commit_call::commit_call;
use super::error::chain;

/// Commits a turn, or nothing of it.
///
/// After [`CommitAnswer::TryAgain`] the outcome may be unknown: drop the connection, and send the
/// same commit on another; it answers `Committed` if it was written before.
pub async fn commit(conn: &mut PgConnection, commit: &Commit) -> CommitAnswer {
    let (sql, arguments) = match commit_call(commit) {
        Ok(call) => call,
        Err(error) => {
            return CommitAnswer::Refused {
                error: error.to_string(),
            };
        }
    };
    let answer: Result<(String, DateTime<Utc>), sqlx::Error> =
        sqlx::query_scalar_with(sql, arguments)
            .fetch_one(conn)
            .await;
    match answer {
        Ok((_, now)) => CommitAnswer::Committed { now },
        Err(error) => classify(&error),
    }
}

fn classify(error: &sqlx::Error) -> CommitAnswer {
    if let sqlx::Error::Database(said) = error {
        return classify_sqlstate(said.downcast_ref::<PgDatabaseError>());
    }
    let error = chain(error);
    // Anything else is about the connection, or about an answer that came and could not be read.
    CommitAnswer::TryAgain { error }
}

fn classify_sqlstate(said: &PgDatabaseError) -> CommitAnswer {
    let error = format!("{}: {}", said.code(), said.message());
    match said.code() {
        "FL001" => CommitAnswer::Fenced {
            lost: partitions(said.detail().unwrap_or_default()),
        },
        "23505" if said.table() == Some("workflow_start") => CommitAnswer::StartExists {
            execution_id: taken_id(said),
        },
        code if may_succeed_later(code) => CommitAnswer::TryAgain { error },
        _ => CommitAnswer::Refused { error },
    }
}

/// The id in `Key (execution_id)=(…) already exists.`, which Postgres says in the language of the server;
/// what stands in parentheses is the same in all.
fn taken_id(said: &PgDatabaseError) -> Option<ExecutionId> {
    let (_, values) = said.detail()?.split_once("(execution_id)=(")?;
    let (id, _) = values.split_once(')')?;
    id.parse().ok()
}

/// Whether the fault lies with the moment or with the server, and not with what the turn says.
fn may_succeed_later(code: &str) -> bool {
    const CODES: [&str; 5] = [
        "40001", // serialization failure
        "40P01", // deadlock
        "55P03", // a lock was not to be had in time
        "57014", // ended by the time limit
        "25006", // a server that only reads: a standby, or one that is being replaced
    ];
    const CLASSES: [&str; 8] = [
        "57P", // the server stops or starts
        "53",  // out of memory, disk or connections
        "08",  // connection
        "58",  // the system underneath
        "28", "3D", // the role or the database is not there
        "42", // the function is not there or may not be called: not migrated, no grants
        "0A", // a cached plan whose result type changed during a migration
    ];
    CODES.contains(&code) || CLASSES.iter().any(|class| code.starts_with(class))
}

/// The partitions in the detail of `FL001`.
fn partitions(detail: &str) -> Vec<PartitionNo> {
    detail.split(',').filter_map(|id| id.parse().ok()).collect()
}
