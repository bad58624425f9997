//! A stream of executions whose tasks leave traces outside of Flotilla: it flows until it is stopped,
//! with so many unfinished at a time.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use flotilla_protocol::amqp::{ConnectOptions, Outgoing, Publisher, PublisherOptions};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::client::{Start, publish};
use crate::database::Database;
use crate::fleet::Fleet;
use crate::load::finished;
use crate::service::Service;
use crate::wait::wait_until;

/// Time between two looks at what has finished.
const LOOK: Duration = Duration::from_millis(20);
/// How long the executions that are under way may take to end once everybody works again.
const END_LIMIT: Duration = Duration::from_secs(120);
/// Tasks of one execution of `tests.effects`.
const TASKS: usize = 4;

/// A stream of `tests.effects`.
#[derive(Debug)]
pub struct Stream {
    is_stopped: Arc<AtomicBool>,
    publishing: JoinHandle<Vec<Uuid>>,
}

/// One run of the action `test.effect`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// The worker that ran it.
    pub worker: String,
    /// When, in milliseconds since 1970 by the clock of this machine.
    pub at_ms: i64,
}

impl Stream {
    /// Begins to start executions.
    #[must_use]
    pub fn start(fleet: &Fleet, in_flight: usize) -> Self {
        let connect = ConnectOptions::new(&fleet.amqp_url, "flotilla test stream");
        let publisher = Publisher::start(PublisherOptions::new(connect));
        let is_stopped = Arc::new(AtomicBool::new(false));
        let publishing = flow(
            publisher,
            fleet.database.clone(),
            in_flight,
            Arc::clone(&is_stopped),
        );
        Self {
            is_stopped,
            publishing: tokio::spawn(publishing),
        }
    }

    /// Starts nothing more, and waits until everything has succeeded.
    ///
    /// # Panics
    /// When an execution did not succeed, or not exactly its tasks did.
    pub async fn end(self, database: &Database) -> Vec<Uuid> {
        self.is_stopped.store(true, Ordering::Relaxed);
        let ids = self.publishing.await.expect("all starts were published");
        wait_until("all executions have finished", END_LIMIT, async || {
            finished(database).await == Some(ids.len())
        })
        .await;
        let query = "SELECT count(*) FROM workflow_execution_summary
            WHERE status <> 'succeeded' OR tasks_succeeded <> tasks_total OR tasks_total <> $1";
        let wrong: i64 = sqlx::query_scalar(query)
            .bind(i32::try_from(TASKS).expect("few"))
            .fetch_one(&database.pool)
            .await
            .expect("the database answers");
        assert_eq!(wrong, 0, "executions that did not end as they should");
        ids
    }
}

async fn flow(
    publisher: Publisher,
    database: Database,
    in_flight: usize,
    is_stopped: Arc<AtomicBool>,
) -> Vec<Uuid> {
    let mut ids = Vec::new();
    while !is_stopped.load(Ordering::Relaxed) {
        let ended = finished(&database).await.unwrap_or(0);
        let more = (ended + in_flight).saturating_sub(ids.len());
        for _ in 0..more {
            let start = Start::of("tests.effects").silent();
            ids.push(start.execution_id());
            publish(&publisher, Outgoing::start(&start.body)).await;
        }
        tokio::time::sleep(LOOK).await;
    }
    ids
}

impl Fleet {
    /// Starts a worker that leaves traces, and waits until it consumes. The broker gives its jobs to others
    /// soon after it has gone silent.
    pub async fn effects_worker(&self, name: &str) -> Service {
        let mut command = std::process::Command::new(crate::binary::effects());
        command
            .env("AMQP_URL", self.beating_url())
            .env("FLOTILLA_WORKER", name)
            .env("FLOTILLA_EFFECTS", self.effects_file());
        Service::spawn(name, &self.folder, &mut command)
            .ready()
            .await
    }

    /// What has run, by `task_id/attempt`, in the order in which it ran.
    ///
    /// # Panics
    /// When the file has a line that no worker writes.
    #[must_use]
    pub fn effects(&self) -> BTreeMap<String, Vec<Effect>> {
        let text = std::fs::read_to_string(self.effects_file()).unwrap_or_default();
        let mut effects: BTreeMap<String, Vec<Effect>> = BTreeMap::new();
        for line in text.lines() {
            let [key, worker, at_ms] = line.split(' ').collect::<Vec<_>>()[..] else {
                panic!("not a trace: {line:?}");
            };
            effects.entry(key.to_owned()).or_default().push(Effect {
                worker: worker.to_owned(),
                at_ms: at_ms.parse().expect("milliseconds"),
            });
        }
        effects
    }

    fn effects_file(&self) -> PathBuf {
        self.folder.join("effects")
    }
}
