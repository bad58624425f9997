//! What can go wrong with the database, by the step that failed.

use flotilla_turn::LoadFailure;

/// A step that the database did not do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The URL of the database cannot be read.
    #[error("the database URL is not valid")]
    Url(#[source] sqlx::Error),
    /// No connection.
    #[error("cannot connect to the database")]
    Connect(#[source] sqlx::Error),
    /// Nothing was answered for so long that nothing will be. The connection may be half open.
    #[error("the database did not answer in time")]
    TimedOut,
    /// The server would acknowledge commits that a crash can undo.
    #[error("the database runs with synchronous_commit = off, which can lose committed work")]
    SynchronousCommitOff,
    /// A migration failed.
    #[error("cannot migrate the database")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// Partitions can be added but not removed.
    #[error("the database has {present} partitions, and cannot go down to {asked}")]
    FewerPartitions {
        /// Partitions that are there.
        present: i32,
        /// Partitions that were asked for.
        asked: i32,
    },
    /// A statement failed.
    #[error("cannot {step}")]
    Step {
        /// What it was to do.
        step: &'static str,
        /// What the database said.
        #[source]
        source: sqlx::Error,
    },
    /// An invariant could not be looked at.
    #[error("cannot check {invariant}")]
    Check {
        /// The invariant.
        invariant: &'static str,
        /// What the database said.
        #[source]
        source: sqlx::Error,
    },
    /// A row holds what this version cannot read.
    #[error("cannot read {column} of {table}: {problem}")]
    Row {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The same bytes are registered under another name.
    #[error("this text is already registered as {workflow} {version}")]
    DefinitionTaken {
        /// Reference of the workflow that has it.
        workflow: String,
        /// The version that has it.
        version: String,
    },
    /// A cursor that no list gave.
    #[error("the cursor is not one that a list gave")]
    Cursor,
}

impl StorageError {
    /// Names the step that a statement belongs to.
    pub(super) fn step(step: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Step { step, source }
    }

    /// Whether the server could not be reached, as opposed to having said no.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        match self {
            Self::Connect(_) | Self::TimedOut => true,
            Self::Step { source, .. } | Self::Check { source, .. } => matches!(
                source,
                sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed
            ),
            Self::Url(_)
            | Self::SynchronousCommitOff
            | Self::Migrate(_)
            | Self::FewerPartitions { .. }
            | Self::Row { .. }
            | Self::DefinitionTaken { .. }
            | Self::Cursor => false,
        }
    }

    /// What it means for a turn that could not be loaded.
    pub(crate) fn of_load(&self) -> LoadFailure {
        /// The statement was ended by its time limit.
        const QUERY_CANCELED: &str = "57014";
        match self {
            Self::Step { source, .. } => {
                let said = source.as_database_error();
                let code = said.and_then(sqlx::error::DatabaseError::code);
                if code.is_some_and(|code| code == QUERY_CANCELED) {
                    LoadFailure::TooMuch
                } else {
                    LoadFailure::Passing
                }
            }
            Self::Connect(_)
            | Self::TimedOut
            | Self::Check { .. }
            | Self::Row { .. }
            | Self::Url(_)
            | Self::SynchronousCommitOff
            | Self::Migrate(_)
            | Self::FewerPartitions { .. }
            | Self::DefinitionTaken { .. }
            | Self::Cursor => LoadFailure::Passing,
        }
    }
}

/// An error with its causes, in one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_that_cannot_connect_or_be_read_may_do_better_later() {
        let unread = StorageError::Row {
            table: "workflow_task",
            column: "item_progress",
            problem: "it is no object".to_owned(),
        };
        let silent = StorageError::step("load executions")(sqlx::Error::PoolTimedOut);
        for error in [unread, silent, StorageError::TimedOut] {
            assert_eq!(error.of_load(), LoadFailure::Passing, "{error}");
        }
    }
}
