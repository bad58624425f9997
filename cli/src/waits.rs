//! Why something is not running: asks the database, and the broker if it can be reached.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use flotilla_coordinator::storage::LiveExecution;
use flotilla_coordinator::waits::{Pools, Waits, waits};
use flotilla_engine::{DefinitionHash, Workflow};
use flotilla_protocol::amqp::{Connection, QueueState, queue_state};
use flotilla_protocol::{ExecutionId, names};

use crate::arguments::Global;
use crate::broker;
use crate::database::Database;
use crate::failure::Failure;

/// How long the broker has to answer, before nothing is said of what it knows.
const BROKER_LIMIT: Duration = Duration::from_secs(2);

/// Looks again and again; what does not change is kept.
pub struct Looker {
    /// Where the broker is, until it does not answer.
    amqp_url: Option<String>,
    connection: Option<Connection>,
    workflow: Option<(DefinitionHash, Arc<Workflow>)>,
}

impl Looker {
    /// Knows nothing yet.
    pub fn new(global: &Global) -> Self {
        Self {
            amqp_url: global.amqp_url().ok(),
            connection: None,
            workflow: None,
        }
    }

    /// What the execution and its tasks wait for.
    pub async fn look(&mut self, database: &Database, id: ExecutionId) -> Result<Waits, Failure> {
        let Some(live) = database.live(id).await? else {
            return Ok(Waits::default());
        };
        let needs_workflow = live.tasks.iter().any(|task| task.status == "waiting");
        let workflow = if needs_workflow {
            self.workflow(database, live.definition).await?
        } else {
            None
        };
        let pools = self.pools(&live).await;
        let resume = format!("flotilla resume {id}");
        Ok(waits(&live, workflow.as_deref(), &pools, &resume))
    }

    async fn workflow(
        &mut self,
        database: &Database,
        hash: DefinitionHash,
    ) -> Result<Option<Arc<Workflow>>, Failure> {
        if let Some((known, workflow)) = &self.workflow
            && *known == hash
        {
            return Ok(Some(Arc::clone(workflow)));
        }
        let found = database.definition(hash).await?;
        self.workflow = found.map(|workflow| (hash, workflow));
        Ok(self
            .workflow
            .as_ref()
            .map(|(_, workflow)| Arc::clone(workflow)))
    }

    /// The queues of the pools whose jobs are on their way; none where the broker does not answer.
    async fn pools(&mut self, live: &LiveExecution) -> Pools {
        let dispatched = live.tasks.iter().filter(|task| task.status == "dispatched");
        let asked: BTreeSet<&str> = dispatched.filter_map(|task| task.pool.as_deref()).collect();
        if asked.is_empty() {
            return Pools::new();
        }
        let asking = tokio::time::timeout(BROKER_LIMIT, self.ask(&asked));
        match asking.await {
            Ok(Some(pools)) => pools,
            Ok(None) | Err(_) => {
                // It is not asked again: a table that stands still would be worse.
                self.amqp_url = None;
                self.connection = None;
                Pools::new()
            }
        }
    }

    async fn ask(&mut self, pools: &BTreeSet<&str>) -> Option<Pools> {
        let url = self.amqp_url.as_deref()?;
        if self.connection.is_none() {
            let connecting = broker::connect(url).await;
            let connection = connecting
                .inspect_err(|failure| tracing::debug!(%failure, "the broker is not asked"));
            self.connection = Some(connection.ok()?);
        }
        let connection = self.connection.as_ref()?;
        let mut states = Pools::new();
        for pool in pools {
            let state = known(connection, &names::jobs_queue(pool)).await?;
            let bundles = known(connection, &names::bundles_queue(pool)).await?;
            // A bundle counts as one: nobody knows how many jobs are in it.
            let waiting = bundles.map_or(0, |bundles| bundles.messages);
            let state = state.map(|jobs| QueueState {
                messages: jobs.messages.saturating_add(waiting),
                ..jobs
            });
            states.insert((*pool).to_owned(), state);
        }
        Some(states)
    }

    /// Disconnects from the broker.
    pub async fn close(self) {
        if let Some(connection) = self.connection {
            connection.close().await;
        }
    }
}

/// The state of a queue that may not exist; `None` where the broker does not say.
async fn known(connection: &Connection, queue: &str) -> Option<Option<QueueState>> {
    let state = queue_state(connection, queue).await;
    let state = state.inspect_err(|error| tracing::debug!(%error, "a queue is not known"));
    state.ok()
}
