//! The tasks that talk to Postgres for the driver: one commits, one loads, each on a connection of
//! its own that is dropped whenever the outcome of a statement is not known.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flotilla_engine::{DefinitionHash, Workflow};
use flotilla_turn::rows::{Commit, CommitAnswer};
use flotilla_turn::{Input, LoadRequest, Loaded};
use sqlx::{Connection, PgConnection};
use tokio::sync::mpsc;

use crate::failpoints;
use crate::storage::{self, StorageError, StoredDefinition, chain, within};

/// How long a commit may take before its outcome counts as unknown. The server's own
/// `statement_timeout` ends it before.
const COMMIT_LIMIT: Duration = Duration::from_secs(20);
/// How long one step of a load may take. The server ends each of its statements before, unless it is
/// not there any more and nobody has told.
const LOAD_LIMIT: Duration = Duration::from_secs(30);
/// Wait before the first sending of a commit again; doubled each time.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
/// Longest such wait.
const LONGEST_BACKOFF: Duration = Duration::from_secs(2);
/// Compiled definitions that are kept.
const KEPT_WORKFLOWS: usize = 1000;

/// What a connection is for.
#[derive(Clone, Copy)]
enum Work {
    Commit,
    Load,
}

/// A connection that is opened when it is needed.
struct Session {
    url: String,
    work: Work,
    /// How long it may take to connect, and for each step then. What takes longer is given up together
    /// with the connection.
    limit: Duration,
    connection: Option<PgConnection>,
}

impl Session {
    fn new(url: String, work: Work) -> Self {
        let limit = match work {
            Work::Commit => COMMIT_LIMIT,
            Work::Load => LOAD_LIMIT,
        };
        Self {
            url,
            work,
            limit,
            connection: None,
        }
    }

    async fn connection(&mut self) -> Result<&mut PgConnection, StorageError> {
        let connection = match (self.connection.take(), self.work) {
            (Some(connection), _) => connection,
            (None, Work::Commit) => {
                within(self.limit, storage::connect_to_commit(&self.url)).await?
            }
            (None, Work::Load) => within(self.limit, storage::connect_one(&self.url)).await?,
        };
        Ok(self.connection.insert(connection))
    }
}

/// A commit to send.
pub(crate) type CommitOrder = (Arc<Commit>, u32);

/// Sends commits, one at a time, and answers each.
pub(crate) async fn commit_all(
    url: String,
    orders: mpsc::UnboundedReceiver<CommitOrder>,
    inputs: mpsc::UnboundedSender<Input>,
) {
    commit_over(Session::new(url, Work::Commit), orders, inputs).await;
}

async fn commit_over(
    mut session: Session,
    mut orders: mpsc::UnboundedReceiver<CommitOrder>,
    inputs: mpsc::UnboundedSender<Input>,
) {
    while let Some((commit, attempts)) = orders.recv().await {
        if attempts > 0 {
            tokio::time::sleep(backoff(attempts)).await;
        }
        let begun = std::time::Instant::now();
        let answer = commit_once(&mut session, &commit).await;
        tracing::debug!(
            duration_ms = begun.elapsed().as_secs_f64() * 1e3,
            partitions = commit.partitions.len(),
            new_executions = commit.new_executions.len(),
            executions = commit.executions.len(),
            new_tasks = commit.new_tasks.len(),
            tasks = commit.tasks.len(),
            transitions = commit.transitions.len(),
            "a turn was committed"
        );
        if matches!(answer, CommitAnswer::TryAgain { .. }) {
            session.connection = None;
        }
        if inputs.send(Input::CommitAnswered(answer)).is_err() {
            break;
        }
    }
    if let Some(connection) = session.connection {
        // The process is about to end; the server notices either way.
        let _ = connection.close().await;
    }
}

async fn commit_once(session: &mut Session, commit: &Commit) -> CommitAnswer {
    let limit = session.limit;
    let connection = match session.connection().await {
        Ok(connection) => connection,
        Err(error) => {
            return CommitAnswer::TryAgain {
                error: chain(&error),
            };
        }
    };
    match tokio::time::timeout(limit, storage::commit(connection, commit)).await {
        Ok(CommitAnswer::Committed { .. }) if failpoints::loses_commit_answer() => {
            CommitAnswer::TryAgain {
                error: "the answer was lost (fault test)".to_owned(),
            }
        }
        Ok(answer) => answer,
        Err(_) => CommitAnswer::TryAgain {
            error: "the database did not answer in time".to_owned(),
        },
    }
}

fn backoff(attempts: u32) -> Duration {
    FIRST_BACKOFF
        .saturating_mul(1 << attempts.min(6).saturating_sub(1))
        .min(LONGEST_BACKOFF)
}

/// Compiled definitions, shared by all loads.
#[derive(Debug, Default)]
pub(crate) struct Workflows(Mutex<BTreeMap<DefinitionHash, Result<Arc<Workflow>, String>>>);

impl Workflows {
    fn known(&self, hash: DefinitionHash) -> Option<Result<Arc<Workflow>, String>> {
        self.0
            .lock()
            .expect("nobody panics with it")
            .get(&hash)
            .cloned()
    }

    fn add(&self, definition: &StoredDefinition) -> Result<Arc<Workflow>, String> {
        let compiled = definition.compile();
        let mut known = self.0.lock().expect("nobody panics with it");
        if known.len() >= KEPT_WORKFLOWS {
            known.clear();
        }
        known.insert(definition.hash, compiled.clone());
        compiled
    }
}

/// Loads what turns need, one request at a time.
pub(crate) async fn load_all(
    url: String,
    workflows: Arc<Workflows>,
    requests: mpsc::UnboundedReceiver<LoadRequest>,
    inputs: mpsc::UnboundedSender<Input>,
) {
    load_over(Session::new(url, Work::Load), workflows, requests, inputs).await;
}

async fn load_over(
    mut session: Session,
    workflows: Arc<Workflows>,
    mut requests: mpsc::UnboundedReceiver<LoadRequest>,
    inputs: mpsc::UnboundedSender<Input>,
) {
    while let Some(request) = requests.recv().await {
        let begun = std::time::Instant::now();
        let loaded = load(&mut session, &workflows, &request).await;
        tracing::debug!(
            duration_ms = begun.elapsed().as_secs_f64() * 1e3,
            starts = request.starts.len(),
            executions = request.executions.len(),
            "a turn was loaded"
        );
        let input = match loaded {
            Ok(loaded) => Input::Loaded(loaded),
            Err(error) => {
                session.connection = None;
                tracing::warn!(error = chain(&error), "a turn could not be loaded");
                Input::LoadFailed(error.of_load())
            }
        };
        if inputs.send(input).is_err() {
            return;
        }
    }
}

async fn load(
    session: &mut Session,
    workflows: &Workflows,
    request: &LoadRequest,
) -> Result<Loaded, StorageError> {
    let limit = session.limit;
    let connection = session.connection().await?;
    let mut loaded = Loaded::default();
    if !request.starts.is_empty() {
        loaded.starts = within(
            limit,
            storage::load_starts(&mut *connection, &request.starts),
        )
        .await?;
    }
    if !request.executions.is_empty() {
        loaded.executions = within(
            limit,
            storage::load_executions(&mut *connection, &request.executions),
        )
        .await?;
    }
    if !request.children.is_empty() {
        loaded.children = within(
            limit,
            storage::find_definitions(&mut *connection, &request.children),
        )
        .await?;
    }
    if !request.pasts.is_empty() {
        loaded.pasts = within(limit, storage::load_pasts(&mut *connection, &request.pasts)).await?;
    }
    if !request.controls.is_empty() {
        loaded.controls = within(
            limit,
            storage::load_controls(&mut *connection, &request.controls),
        )
        .await?;
    }
    loaded.workflows = load_workflows(connection, limit, workflows, &loaded).await?;
    Ok(loaded)
}

async fn load_workflows(
    connection: &mut PgConnection,
    limit: Duration,
    workflows: &Workflows,
    loaded: &Loaded,
) -> Result<Vec<Result<Arc<Workflow>, (DefinitionHash, String)>>, StorageError> {
    use flotilla_turn::rows::FoundDefinition;
    let by_name = loaded
        .starts
        .iter()
        .map(|start| start.definition)
        .chain(loaded.children.iter().map(|(_, definition)| *definition))
        .filter_map(|definition| match definition {
            FoundDefinition::Registered(hash) => Some(hash),
            FoundDefinition::UnknownWorkflow | FoundDefinition::UnknownVersion => None,
        });
    let of_executions = loaded
        .executions
        .iter()
        .map(|execution| execution.row.definition_hash);
    let wanted: std::collections::BTreeSet<DefinitionHash> = by_name.chain(of_executions).collect();
    let mut found = Vec::with_capacity(wanted.len());
    let mut missing = Vec::new();
    for hash in wanted {
        match workflows.known(hash) {
            Some(known) => found.push(known.map_err(|error| (hash, error))),
            None => missing.push(hash),
        }
    }
    if !missing.is_empty() {
        for definition in
            within(limit, storage::load_definitions(&mut *connection, &missing)).await?
        {
            let compiled = workflows.add(&definition);
            found.push(compiled.map_err(|error| (definition.hash, error)));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::silent_wire::SilentWire;
    use flotilla_protocol::ExecutionId;
    use sqlx::PgPool;
    use tokio::net::TcpListener;
    use uuid::Uuid;

    /// Long for a statement on an idle server, short for a test.
    const LIMIT: Duration = Duration::from_secs(2);

    fn session(url: &str, work: Work) -> Session {
        Session {
            limit: LIMIT,
            ..Session::new(url.to_owned(), work)
        }
    }

    fn request() -> LoadRequest {
        LoadRequest {
            executions: vec![ExecutionId(Uuid::nil())],
            ..LoadRequest::default()
        }
    }

    async fn migrated(pool: &PgPool) -> SilentWire {
        storage::migrate(pool, None).await.expect("it migrates");
        SilentWire::to(pool).await
    }

    #[sqlx::test(migrations = false)]
    async fn a_load_that_nobody_answers_fails_and_the_next_has_a_connection(pool: PgPool) {
        let wire = migrated(&pool).await;
        let (requests, asked) = mpsc::unbounded_channel();
        let (inputs, mut told) = mpsc::unbounded_channel();
        let session = session(&wire.url, Work::Load);
        tokio::spawn(load_over(session, Arc::default(), asked, inputs));
        requests.send(request()).unwrap();
        assert!(matches!(told.recv().await, Some(Input::Loaded(_))));
        wire.silence();
        requests.send(request()).unwrap();
        assert!(matches!(told.recv().await, Some(Input::LoadFailed(_))));
        requests.send(request()).unwrap();
        assert!(matches!(told.recv().await, Some(Input::Loaded(_))));
    }

    #[sqlx::test(migrations = false)]
    async fn a_commit_that_nobody_answers_is_sent_again_over_another_connection(pool: PgPool) {
        let wire = migrated(&pool).await;
        let (orders, asked) = mpsc::unbounded_channel();
        let (inputs, mut told) = mpsc::unbounded_channel();
        tokio::spawn(commit_over(session(&wire.url, Work::Commit), asked, inputs));
        let mut commit = async || {
            let commit = Commit::empty(Uuid::now_v7(), 60.0);
            orders.send((Arc::new(commit), 0)).unwrap();
            match told.recv().await {
                Some(Input::CommitAnswered(answer)) => answer,
                other => panic!("{other:?}"),
            }
        };
        let is_committed = |answer| matches!(answer, CommitAnswer::Committed { .. });
        assert!(is_committed(commit().await));
        wire.silence();
        assert!(matches!(commit().await, CommitAnswer::TryAgain { .. }));
        assert!(is_committed(commit().await));
    }

    #[tokio::test]
    async fn a_server_that_accepts_and_never_answers_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("postgres://u@{}/d", listener.local_addr().unwrap());
        for work in [Work::Commit, Work::Load] {
            let mut session = Session {
                limit: Duration::from_millis(50),
                ..Session::new(url.clone(), work)
            };
            let connected = session.connection().await;
            assert!(matches!(connected, Err(StorageError::TimedOut)));
        }
    }
}
