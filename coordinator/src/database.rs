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
use crate::storage::{self, StorageError, StoredDefinition, chain};

/// How long a commit may take before its outcome counts as unknown. The server's own
/// `statement_timeout` ends it before.
const COMMIT_LIMIT: Duration = Duration::from_secs(20);
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
    connection: Option<PgConnection>,
}

impl Session {
    fn new(url: String, work: Work) -> Self {
        Self {
            url,
            work,
            connection: None,
        }
    }

    async fn connection(&mut self) -> Result<&mut PgConnection, StorageError> {
        let connection = match (self.connection.take(), self.work) {
            (Some(connection), _) => connection,
            (None, Work::Commit) => storage::connect_to_commit(&self.url).await?,
            (None, Work::Load) => storage::connect_one(&self.url).await?,
        };
        Ok(self.connection.insert(connection))
    }
}

/// A commit to send.
pub(crate) type CommitOrder = (Arc<Commit>, u32);

/// Sends commits, one at a time, and answers each.
pub(crate) async fn commit_all(
    url: String,
    mut orders: mpsc::UnboundedReceiver<CommitOrder>,
    inputs: mpsc::UnboundedSender<Input>,
) {
    let mut session = Session::new(url, Work::Commit);
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
    let connection = match session.connection().await {
        Ok(connection) => connection,
        Err(error) => {
            return CommitAnswer::TryAgain {
                error: chain(&error),
            };
        }
    };
    match tokio::time::timeout(COMMIT_LIMIT, storage::commit(connection, commit)).await {
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
    mut requests: mpsc::UnboundedReceiver<LoadRequest>,
    inputs: mpsc::UnboundedSender<Input>,
) {
    let mut session = Session::new(url, Work::Load);
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
    let connection = session.connection().await?;
    let mut loaded = Loaded::default();
    if !request.starts.is_empty() {
        loaded.starts = storage::load_starts(&mut *connection, &request.starts).await?;
    }
    if !request.executions.is_empty() {
        loaded.executions = storage::load_executions(&mut *connection, &request.executions).await?;
    }
    if !request.children.is_empty() {
        loaded.children = storage::find_definitions(&mut *connection, &request.children).await?;
    }
    if !request.pasts.is_empty() {
        loaded.pasts = storage::load_pasts(&mut *connection, &request.pasts).await?;
    }
    if !request.controls.is_empty() {
        loaded.controls = storage::load_controls(&mut *connection, &request.controls).await?;
    }
    loaded.workflows = load_workflows(connection, workflows, &loaded).await?;
    Ok(loaded)
}

async fn load_workflows(
    connection: &mut PgConnection,
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
        for definition in storage::load_definitions(&mut *connection, &missing).await? {
            let compiled = workflows.add(&definition);
            found.push(compiled.map_err(|error| (definition.hash, error)));
        }
    }
    Ok(found)
}
