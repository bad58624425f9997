//! The database, as commands need it: the coordinator's storage, with errors that say what to do.

use std::sync::Arc;
use std::time::Duration;

use flotilla_coordinator::rehearsal::{self, Rehearsal, RehearsalError};
use flotilla_coordinator::storage::check::{self, Checked, Since};
use flotilla_coordinator::storage::{
    self, DeadLetter, ListFilter, LiveExecution, Migrated, News, ReadUpTo, Resolution, Shown,
    StorageError, StoredDefinition,
};
use flotilla_engine::execution::{RerunOrder, RerunRefusal};
use flotilla_engine::{ActionFile, DefinitionHash, Workflow};
use flotilla_protocol::ExecutionId;
use serde_json::Value;
use sqlx::PgPool;

use crate::command::show::unknown;
use crate::failure::Failure;
use crate::servers::without_password;
use crate::source::Known;

/// How long the first connection may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// What Postgres says where a table, a type or a function is missing.
const MISSING: [&str; 3] = ["42P01", "42704", "42883"];

/// The statuses in which an execution has ended.
const FINAL: [&str; 4] = ["succeeded", "failed", "cancelled", "timed_out"];

/// The database, with its URL for messages.
#[derive(Debug)]
pub struct Database {
    pool: PgPool,
    url: String,
}

/// Rows of `workflow_execution_summary`, and where the next page begins.
pub type Page = (Vec<Value>, Option<String>);

impl Database {
    /// Connects. The first attempt is made alone, since a pool would try again and again, and then
    /// say no more than that it took too long.
    pub async fn connect(url: &str) -> Result<Self, Failure> {
        let url = url.to_owned();
        match tokio::time::timeout(CONNECT_LIMIT, storage::connect_one(&url)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(failed(&url, error)),
            Err(late) => return Err(unreachable(&url).because(late)),
        }
        match Box::pin(storage::connect(&url)).await {
            Ok(pool) => Ok(Self { pool, url }),
            Err(error) => Err(failed(&url, error)),
        }
    }

    /// Brings the schema to this version.
    pub async fn migrate(&self, partitions: Option<i32>) -> Result<Migrated, Failure> {
        Box::pin(storage::migrate(&self.pool, partitions))
            .await
            .map_err(|error| self.failed(error))
    }

    /// Stores a definition, with what it gets of its pack; false if it was registered before.
    pub async fn register(
        &self,
        workflow: &Workflow,
        source: &str,
        pack: Option<&str>,
    ) -> Result<bool, Failure> {
        let definition = StoredDefinition {
            hash: workflow.hash,
            source: source.to_owned(),
            pack: pack.map(str::to_owned),
        };
        let (name, version) = (&*workflow.reference, &*workflow.version);
        storage::register_definition(&self.pool, &definition, name, version)
            .await
            .map_err(|error| self.failed(error))
    }

    /// Stores what an action says of itself.
    pub async fn register_action(&self, action: &ActionFile, source: &str) -> Result<(), Failure> {
        storage::register_action(&self.pool, action, source)
            .await
            .map_err(|error| self.failed(error))
    }

    /// What actions say of themselves, and which workflows there are.
    pub async fn known(&self) -> Result<Known, Failure> {
        let failed = |error| self.failed(error);
        let actions = storage::load_actions(&self.pool).await.map_err(failed)?;
        let names = storage::workflow_names(&self.pool).await.map_err(failed)?;
        Ok(Known {
            actions,
            workflows: Some(names.into_iter().collect()),
        })
    }

    /// A page of executions.
    pub async fn list(&self, filter: &ListFilter) -> Result<Page, Failure> {
        storage::list(&self.pool, filter)
            .await
            .map_err(|error| self.failed(error))
    }

    /// An execution with its tasks and transitions.
    pub async fn show(&self, id: ExecutionId) -> Result<Option<Shown>, Failure> {
        storage::show(&self.pool, id)
            .await
            .map_err(|error| self.failed(error))
    }

    /// Where an execution stands.
    pub async fn status(&self, id: ExecutionId) -> Result<Option<String>, Failure> {
        storage::execution_status(&self.pool, id)
            .await
            .map_err(|error| self.failed(error))
    }

    /// Whether an execution has ended; `None` if it does not exist.
    pub async fn has_ended(&self, id: ExecutionId) -> Result<Option<bool>, Failure> {
        let status = self.status(id).await?;
        Ok(status.map(|status| FINAL.contains(&status.as_str())))
    }

    /// The summary of an execution.
    pub async fn summary(&self, id: ExecutionId) -> Result<Option<Value>, Failure> {
        storage::summary(&self.pool, id)
            .await
            .map_err(|error| self.failed(error))
    }

    /// What has happened to an execution after a log entry.
    pub async fn news(&self, id: ExecutionId, after: i64) -> Result<Option<News>, Failure> {
        storage::load_news(&self.pool, id, after)
            .await
            .map_err(|error| self.failed(error))
    }

    /// What the live tasks of an execution may wait for.
    pub async fn live(&self, id: ExecutionId) -> Result<Option<LiveExecution>, Failure> {
        storage::load_live(&self.pool, id)
            .await
            .map_err(|error| self.failed(error))
    }

    /// A registered definition; `None` if this version cannot read it.
    pub async fn definition(&self, hash: DefinitionHash) -> Result<Option<Arc<Workflow>>, Failure> {
        let found = storage::load_definitions(&self.pool, &[hash]).await;
        let found = found.map_err(|error| self.failed(error))?;
        Ok(found
            .first()
            .and_then(|definition| definition.compile().ok()))
    }

    /// References of all registered workflows.
    pub async fn workflow_names(&self) -> Result<Vec<String>, Failure> {
        storage::workflow_names(&self.pool)
            .await
            .map_err(|error| self.failed(error))
    }

    /// Hands over the lines that tasks have logged, behind what has been read.
    pub async fn log(
        &self,
        id: ExecutionId,
        task: Option<&str>,
        read: &[ReadUpTo],
        take: impl FnMut(Value),
    ) -> Result<(), Failure> {
        storage::read_task_log(&self.pool, id, task, read, take)
            .await
            .map_err(|error| self.failed(error))
    }

    /// Dead letters as a list shows them.
    pub async fn dead_letters(&self, all: bool, limit: u32) -> Result<Vec<Value>, Failure> {
        storage::list_dead_letters(&self.pool, all, limit)
            .await
            .map_err(|error| self.failed(error))
    }

    /// A dead letter by its number.
    pub async fn dead_letter(&self, id: i64) -> Result<Option<DeadLetter>, Failure> {
        storage::load_dead_letter(&self.pool, id)
            .await
            .map_err(|error| self.failed(error))
    }

    /// Says what was done with a dead letter; false if it has changed meanwhile.
    pub async fn resolve(
        &self,
        letter: &DeadLetter,
        resolution: Resolution,
    ) -> Result<bool, Failure> {
        storage::resolve_dead_letter(&self.pool, letter, resolution)
            .await
            .map_err(|error| self.failed(error))
    }

    fn failed(&self, error: StorageError) -> Failure {
        failed(&self.url, error)
    }
}

impl Database {
    /// What a rerun would do, or why it would be refused.
    pub async fn rehearse(
        url: &str,
        id: ExecutionId,
        order: &RerunOrder,
    ) -> Result<Result<Rehearsal, RerunRefusal>, Failure> {
        let connecting = Box::pin(storage::connect_read_only(url));
        let mut connection = match tokio::time::timeout(CONNECT_LIMIT, connecting).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return Err(failed(url, error)),
            Err(late) => return Err(unreachable(url).because(late)),
        };
        match rehearsal::rehearse(&mut connection, id, order).await {
            Ok(found) => Ok(Ok(found)),
            Err(RehearsalError::Refused(refusal)) => Ok(Err(refusal)),
            Err(RehearsalError::Storage(error)) => Err(failed(url, error)),
            Err(RehearsalError::UnknownExecution) => Err(unknown(id)),
            Err(error @ RehearsalError::Unreadable(_)) => Err(Failure::refused(error.to_string())
                .hint("use the version of flotilla that its coordinators have")),
        }
    }
}

/// Looks for rows that contradict each other, on a connection that can only read.
pub async fn check(url: &str, since: Since) -> Result<Checked, Failure> {
    let connecting = Box::pin(storage::connect_read_only(url));
    let mut connection = match tokio::time::timeout(CONNECT_LIMIT, connecting).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return Err(failed(url, error)),
        Err(late) => return Err(unreachable(url).because(late)),
    };
    check::check(&mut connection, since)
        .await
        .map_err(|error| failed(url, error))
}

/// What storage could not do, with what to do about it.
pub fn failed(url: &str, error: StorageError) -> Failure {
    let place = without_password(url);
    if error.is_unreachable() {
        return unreachable(url).because(error);
    }
    if is_missing(&error) {
        return Failure::refused(format!("the database at {place} is not set up"))
            .because(error)
            .hint("`flotilla migrate` brings it to what this version needs")
            .of_kind("not_migrated");
    }
    Failure::refused(format!("the database at {place} refused")).because(error)
}

fn unreachable(url: &str) -> Failure {
    let place = without_password(url);
    Failure::unreachable(format!("could not reach Postgres at {place}"))
        .hint(
            "`make up` or `flotilla dev` starts private servers; --database-url (DATABASE_URL) names another one",
        )
}

fn is_missing(error: &StorageError) -> bool {
    if let StorageError::Step { source, .. } | StorageError::Check { source, .. } = error
        && let Some(database) = source.as_database_error()
        && let Some(code) = database.code()
    {
        return MISSING.contains(&&*code);
    }
    false
}
