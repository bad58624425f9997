//! An action that the test holds back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use flotilla_worker::{Context, Worker, WorkerConfig};
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::fleet::{Fleet, eventually};

/// An action that counts its runs, and waits for leave to end.
#[derive(Clone)]
pub struct Gate {
    runs: Arc<AtomicUsize>,
    pub leave: Arc<Semaphore>,
}

impl Gate {
    pub fn new() -> Self {
        Self {
            runs: Arc::default(),
            leave: Arc::new(Semaphore::new(0)),
        }
    }

    /// A worker with the built-in actions and `test.gate`.
    pub fn worker(&self, config: WorkerConfig) -> Worker {
        let gate = self.clone();
        Worker::new(config)
            .built_in()
            .action("test.gate", move |_: Context, input: Value| {
                let gate = gate.clone();
                async move {
                    gate.runs.fetch_add(1, Ordering::SeqCst);
                    gate.leave.acquire().await?.forget();
                    Ok(input)
                }
            })
    }

    /// Waits until it has been run that often.
    pub async fn has_run(&self, times: usize) {
        eventually(async || self.runs() == times).await;
    }

    /// How often it has been run.
    pub fn runs(&self) -> usize {
        self.runs.load(Ordering::SeqCst)
    }

    /// Lets some of the runs end, those that wait longest first, and waits until they have.
    pub async fn let_end(&self, runs: usize) {
        self.leave.add_permits(runs);
        eventually(async || self.leave.available_permits() == 0).await;
    }
}

/// Settings under which no start is told for being slow.
pub fn quiet(fleet: &Fleet) -> WorkerConfig {
    WorkerConfig {
        started_after: Duration::from_secs(60),
        ..fleet.config()
    }
}
