//! Why a run could not be made.

use std::error::Error;
use std::path::PathBuf;

use flotilla_coordinator::private_servers::UnknownServer;
use flotilla_coordinator::storage::StorageError;
use flotilla_protocol::amqp::AmqpError;

/// Why a run could not be made, by the step that failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Nobody says where a server is.
    #[error("{0}; {hint}", hint = .0.hint())]
    NoServer(UnknownServer),
    /// RabbitMQ cannot be used.
    #[error("could not use RabbitMQ")]
    Broker(#[from] AmqpError),
    /// Postgres cannot be used.
    #[error("could not use Postgres")]
    Database(#[from] sqlx::Error),
    /// The rows that a run left cannot be checked.
    #[error("could not check the rows")]
    Check(#[from] StorageError),
    /// A file cannot be written, or a process not be started.
    #[error("could not use {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A command of `flotilla` failed.
    #[error("`flotilla {command}` failed: {detail}")]
    Command {
        /// Its name.
        command: String,
        /// What it said.
        detail: String,
        /// What it ended with; none if a signal ended it, or it still runs.
        code: Option<i32>,
    },
    /// A start was rejected.
    #[error("a start was rejected: {0}")]
    Rejected(String),
    /// Nothing finishes any more.
    #[error("nothing has finished for {seconds} s; {missing} executions are under way")]
    Stalled {
        /// How long.
        seconds: u64,
        /// How many executions have not ended.
        missing: usize,
    },
    /// The queue of replies is gone.
    #[error("the connection to RabbitMQ was lost")]
    RepliesLost,
    /// Neither perf nor valgrind is here.
    #[error("a profile needs perf or valgrind, and neither works here")]
    NoProfiler,
    /// A file is not the result of a run.
    #[error("{path} is not the result of a run: {reason}")]
    NoResult {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A run lost or doubled work, so nothing can be compared with it.
    #[error("{path} is no measurement: {faults}; compare with a run that did all of its work once")]
    NoMeasurement {
        /// Its result.
        path: PathBuf,
        /// What there should be none of, and how many there are.
        faults: String,
    },
    /// Nothing can be copied.
    #[error("no finished execution of the load test is there to be copied: run a load first")]
    NothingToCopy,
    /// The broker has no queue for starts.
    #[error("a start was not taken by the broker: is the database migrated?")]
    NotTaken,
}

impl Failure {
    /// The error and its causes, in one line.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = self.source();
        while let Some(error) = source {
            text.push_str(": ");
            text.push_str(&error.to_string());
            source = error.source();
        }
        text
    }

    /// What the process ends with.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Broker(_) | Self::Database(_) | Self::Command { code: Some(3), .. } => 3,
            Self::Check(error) if error.is_unreachable() => 3,
            Self::Stalled { .. } => 1,
            Self::NoServer(_)
            | Self::Check(_)
            | Self::File { .. }
            | Self::Command { .. }
            | Self::Rejected(_)
            | Self::RepliesLost
            | Self::NoProfiler
            | Self::NoResult { .. }
            | Self::NoMeasurement { .. }
            | Self::NothingToCopy
            | Self::NotTaken => 2,
        }
    }
}
