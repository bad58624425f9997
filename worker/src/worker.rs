//! How a worker is put together and run.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use flotilla_protocol::amqp::{ConnectOptions, Publisher, PublisherOptions};
use flotilla_protocol::decode::MAX_NAME_BYTES;
use flotilla_protocol::names::is_pool_name;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::action::{Actions, typed};
use crate::builtin;
use crate::config::WorkerConfig;
use crate::context::Context;
use crate::error::{ActionError, WorkerError};
use crate::service::{
    PoolOptions, Service, ServiceOptions, Session, SessionOptions, cancel_channel,
};

/// Takes jobs from pools, runs their actions, and answers.
///
/// ```no_run
/// use flotilla_worker::{ActionError, Context, Worker, WorkerConfig};
///
/// # async fn run() -> Result<(), flotilla_worker::WorkerError> {
/// Worker::new(WorkerConfig::new("amqp://localhost/%2f"))
///     .action("shop.double", |_context: Context, amount: u64| async move {
///         Ok::<_, ActionError>(amount * 2)
///     })
///     .built_in()
///     .run(async { tokio::signal::ctrl_c().await.unwrap_or_default() })
///     .await
/// # }
/// ```
#[must_use = "a worker does nothing until it is run"]
pub struct Worker {
    config: WorkerConfig,
    actions: Actions,
}

impl Worker {
    /// A worker that knows no actions yet.
    pub fn new(config: WorkerConfig) -> Self {
        Self {
            config,
            actions: Actions::default(),
        }
    }

    /// Adds an action; one of the same name is replaced.
    ///
    /// The input is read from the job's JSON (one that does not fit fails as `invalid_input`, without
    /// a retry), and the output is written as the result. The future is dropped when the time limit
    /// has passed or the attempt is cancelled; a panic fails the attempt.
    pub fn action<I, O, F, Fut>(mut self, name: impl Into<String>, handler: F) -> Self
    where
        I: DeserializeOwned + Send,
        O: Serialize,
        F: Fn(Context, I) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<O, ActionError>> + Send + 'static,
    {
        self.actions.insert(name, typed(handler));
        self
    }

    /// Adds the actions that every Flotilla worker has, `core.*`.
    pub fn built_in(mut self) -> Self {
        builtin::insert(&mut self.actions, self.config.allow_shell);
        self
    }

    /// Works until `shutdown` ends, and then until the running jobs have ended and are answered.
    ///
    /// To end it at once, drop this future: jobs go back to their queues, and processes that they
    /// started get SIGTERM, and SIGKILL a moment later or when the runtime goes.
    ///
    /// # Errors
    /// The configuration is invalid, the broker cannot be reached at first, or the drain took longer
    /// than its timeout. A connection that is lost later is no error.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), WorkerError> {
        self.run_with_ready(shutdown, || {}).await
    }

    /// As [`Worker::run`], and calls `ready` once it consumes.
    ///
    /// # Errors
    /// As [`Worker::run`].
    pub async fn run_with_ready(
        self,
        shutdown: impl Future<Output = ()> + Send,
        ready: impl FnOnce(),
    ) -> Result<(), WorkerError> {
        check(&self.config)?;
        let config = self.config;
        let connect = |purpose: &str| {
            let name = format!("flotilla-worker {} {purpose}", config.name);
            ConnectOptions::new(config.amqp_url.clone(), name)
        };
        let (cancels, asked) = cancel_channel();
        let options = ServiceOptions {
            worker: Arc::from(config.name.as_str()),
            concurrency: usize::from(config.concurrency),
            started_after: config.started_after,
            acknowledge_after: config.acknowledge_after,
            heartbeat: config.heartbeat,
            drain_timeout: config.drain_timeout,
            session: SessionOptions {
                connect: connect("consume"),
                pools: config.pools.clone(),
                pool: PoolOptions {
                    prefetch: config.fetched(),
                    bundles: config.fetched_bundles(),
                    silence_limit: config.silence_limit,
                },
                cancels,
            },
        };
        let session = Session::open(1, &options.session, config.connect_limit)
            .await
            .map_err(WorkerError::Start)?;
        // A connection of its own: a blocked one does not send acknowledgements either.
        let publisher = Publisher::start(PublisherOptions::new(connect("publish")));
        ready();
        let shutdown = pin!(shutdown);
        Service::new(options, self.actions, session, asked, publisher)
            .run(shutdown)
            .await
    }
}

fn check(config: &WorkerConfig) -> Result<(), WorkerError> {
    if config.pools.is_empty() {
        return Err(WorkerError::NoPool);
    }
    if let Some(pool) = config.pools.iter().find(|pool| !is_pool_name(pool)) {
        return Err(WorkerError::InvalidPool(pool.clone()));
    }
    if config.concurrency == 0 {
        return Err(WorkerError::NoConcurrency);
    }
    if config.heartbeat < Duration::from_secs(1) {
        return Err(WorkerError::HeartbeatTooShort);
    }
    if config.name.len() > MAX_NAME_BYTES {
        return Err(WorkerError::NameTooLong);
    }
    Ok(())
}
