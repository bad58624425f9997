//! Consuming the pools: a connection with a channel for the jobs of each and one for its bundles, opened
//! anew whenever it is lost. The cancels come over it too.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use flotilla_protocol::amqp::{AmqpError, ConnectOptions, Connection, Delivery};
use tokio::time::Instant;

use super::held::{JobKey, Receipt};
use super::listen::{CancelListener, CancelSender};
use super::pool::{Pool, PoolOptions, Source};

/// How long to wait after the broker refused what a session needs.
const REFUSED_WAIT: Duration = Duration::from_secs(1);

/// How long the broker has to let this worker consume bundles.
const BUNDLES_LIMIT: Duration = Duration::from_secs(5);

/// What to consume.
#[derive(Debug, Clone)]
pub(crate) struct SessionOptions {
    pub(crate) connect: ConnectOptions,
    pub(crate) pools: Vec<String>,
    pub(crate) pool: PoolOptions,
    pub(crate) cancels: CancelSender,
}

/// A connection that consumes all pools.
#[derive(Debug)]
pub(crate) struct Session {
    /// Tells the deliveries of this session from those of earlier ones.
    pub(crate) number: u64,
    connection: Arc<Connection>,
    pools: Vec<Pool>,
    /// Where to look first for the next delivery, so that no pool starves another.
    turn: usize,
    cancels: CancelListener,
}

impl Session {
    /// Connects and consumes; gives up after `limit`. Where bundles cannot be consumed all goes on without
    /// them: perhaps this user may not make such a queue, or the broker was killed right after the queue
    /// was made, and answers for it with the end of the connection.
    pub(crate) async fn open(
        number: u64,
        options: &SessionOptions,
        limit: Option<Duration>,
    ) -> Result<Self, AmqpError> {
        let mut session = Self::open_jobs(number, options, limit).await?;
        let Err(error) = session.consume_bundles(options).await else {
            return Ok(session);
        };
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "bundles are not consumed"
        );
        if session.connection.is_open() && !matches!(error, AmqpError::TimedOut(_)) {
            return Ok(session);
        }
        session.close().await;
        Self::open_jobs(number, options, limit).await
    }

    async fn open_jobs(
        number: u64,
        options: &SessionOptions,
        limit: Option<Duration>,
    ) -> Result<Self, AmqpError> {
        let connection = Box::pin(Connection::open_with_backoff(&options.connect, limit)).await?;
        let connection = Arc::new(connection);
        let cancels = CancelListener::open(&connection, options.cancels.clone()).await;
        let mut pools = Vec::with_capacity(options.pools.len());
        for pool in &options.pools {
            let source = Source::jobs(pool, options.pool.prefetch);
            pools.push(Pool::open(&connection, source, options.pool.silence_limit).await?);
        }
        Ok(Self {
            number,
            connection,
            pools,
            turn: 0,
            cancels,
        })
    }

    async fn consume_bundles(&mut self, options: &SessionOptions) -> Result<(), AmqpError> {
        let PoolOptions {
            bundles,
            silence_limit,
            ..
        } = options.pool;
        if bundles == 0 {
            return Ok(());
        }
        for pool in &options.pools {
            let source = Source::bundles(pool, bundles);
            let opening = Pool::open(&self.connection, source, silence_limit);
            let opened = tokio::time::timeout(BUNDLES_LIMIT, opening)
                .await
                .unwrap_or(Err(AmqpError::TimedOut(BUNDLES_LIMIT)));
            self.pools.push(opened?);
        }
        Ok(())
    }

    /// Connects and consumes, however long it takes.
    pub(crate) async fn reopen(number: u64, options: SessionOptions) -> Self {
        loop {
            match Box::pin(Self::open(number, &options, None)).await {
                Ok(session) => return session,
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "could not consume, trying again"
                    );
                    tokio::time::sleep(REFUSED_WAIT).await;
                }
            }
        }
    }

    /// The next delivery of any pool; `None` once one of them has ended. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<(Receipt, Delivery)> {
        let (pool, delivery) = poll_fn(|context| self.poll_pools(context)).await;
        let delivery = delivery?;
        self.turn = pool + 1;
        let receipt = Receipt {
            session: self.number,
            pool,
            tag: delivery.tag,
        };
        Some((receipt, delivery))
    }

    fn poll_pools(&mut self, context: &mut Context<'_>) -> Poll<(usize, Option<Delivery>)> {
        let count = self.pools.len();
        for at in 0..count {
            let pool = (self.turn + at) % count;
            if let Poll::Ready(delivery) = self.pools[pool].poll_next(context) {
                return Poll::Ready((pool, delivery));
            }
        }
        Poll::Pending
    }

    /// The queue that a delivery came from.
    pub(crate) fn queue(&self, receipt: Receipt) -> &str {
        self.pools[receipt.pool].queue()
    }

    /// A delivery may be acknowledged. Deliveries of earlier sessions come again by themselves.
    pub(crate) fn done(&mut self, receipt: Receipt, job: Option<JobKey>) {
        if receipt.session == self.number {
            self.pools[receipt.pool].done(receipt.tag, job);
        }
    }

    /// A delivery is to be rejected. Those of earlier sessions have gone back.
    pub(crate) fn refuse(&mut self, receipt: Receipt) {
        if receipt.session == self.number {
            self.pools[receipt.pool].refuse(receipt.tag);
        }
    }

    /// The jobs that are answered and not acknowledged.
    pub(crate) fn owed(&self) -> impl Iterator<Item = JobKey> {
        self.pools.iter().flat_map(Pool::owed)
    }

    /// When to acknowledge at the latest, if there is anything to.
    pub(crate) fn next_acknowledgement(&self) -> Option<Instant> {
        let due = self.pools.iter().filter_map(Pool::next_acknowledgement);
        due.min()
    }

    /// Sends the acknowledgements that are due; `false` if the session is lost.
    pub(crate) async fn acknowledge(&mut self, now: Instant) -> bool {
        for pool in &mut self.pools {
            if !pool.acknowledge(now).await {
                return false;
            }
        }
        true
    }

    /// Acknowledges what is done, gives back the rest, and disconnects.
    pub(crate) async fn close(self) {
        drop(self.cancels);
        for pool in self.pools {
            pool.close().await;
        }
        self.connection.close().await;
    }
}
