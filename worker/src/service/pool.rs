//! Consuming one queue of a pool, that of its jobs or that of its bundles: its deliveries, what is to be
//! acknowledged of them, and a new consumer whenever nothing has come for a while.
//!
//! Nobody tells a consumer that it is dead. `RabbitMQ` 3.10, for one, moves the consumers of a queue
//! that is deleted and made again at once over to the new queue, hands them its messages, and drops
//! these on the way: the queue then looks empty and consumed, while its jobs hang. Only the end of
//! the channel gives them back. So a pool that is idle gets a new channel from time to time, and its
//! queue is declared anew should it be missing.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use flotilla_protocol::amqp::{
    Acker, AmqpError, Connection, Consumer, Delivery, declare_bundles, declare_pool,
};
use flotilla_protocol::names;
use futures::future::BoxFuture;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::acks::AckTracker;
use super::held::JobKey;

/// How long sending an acknowledgement may take before the connection counts as lost.
const ACK_LIMIT: Duration = Duration::from_secs(5);
/// How long making a new consumer may take before the connection counts as lost.
const RENEW_LIMIT: Duration = Duration::from_secs(10);

/// How to consume a pool.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PoolOptions {
    /// How many jobs are fetched at most.
    pub(crate) prefetch: u16,
    /// How many bundles are fetched at most; 0: bundles are not consumed.
    pub(crate) bundles: u16,
    /// After how long without a delivery an idle pool gets a new consumer.
    pub(crate) silence_limit: Duration,
}

/// A queue to consume.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pool: String,
    queue: String,
    holds: Holds,
    /// How many deliveries are fetched at most.
    prefetch: u16,
}

#[derive(Debug, Clone, Copy)]
enum Holds {
    Jobs,
    Bundles,
}

impl Source {
    /// The jobs of a pool.
    pub(crate) fn jobs(pool: &str, prefetch: u16) -> Self {
        Self {
            pool: pool.to_owned(),
            queue: names::jobs_queue(pool),
            holds: Holds::Jobs,
            prefetch,
        }
    }

    /// The bundles of a pool.
    pub(crate) fn bundles(pool: &str, prefetch: u16) -> Self {
        Self {
            pool: pool.to_owned(),
            queue: names::bundles_queue(pool),
            holds: Holds::Bundles,
            prefetch,
        }
    }

    async fn consume(&self, connection: &Connection) -> Result<Consumer, AmqpError> {
        match self.holds {
            Holds::Jobs => declare_pool(connection, &self.pool).await?,
            Holds::Bundles => declare_bundles(connection, &self.pool).await?,
        }
        connection.consume(&self.queue, self.prefetch).await
    }
}

/// A queue that is consumed.
pub(crate) struct Pool {
    source: Source,
    connection: Arc<Connection>,
    state: State,
    /// When to look whether the pool has been idle.
    looks: Interval,
    /// Whether a job came, or was here, since the last look.
    was_busy: bool,
}

enum State {
    Consuming(Box<Line>),
    /// The old channel is gone; nothing of this pool was in this worker's hands.
    Renewing(BoxFuture<'static, Result<Consumer, AmqpError>>),
}

/// A consumer, with what was delivered on its channel.
struct Line {
    consumer: Consumer,
    acker: Acker,
    acks: AckTracker,
    /// Jobs of a bundle that has come.
    unbundled: VecDeque<Delivery>,
}

impl Pool {
    /// Consumes a queue, which is created if there is none. After `silence_limit` without a delivery
    /// it is consumed anew.
    pub(crate) async fn open(
        connection: &Arc<Connection>,
        source: Source,
        silence_limit: Duration,
    ) -> Result<Self, AmqpError> {
        let consumer = source.consume(connection).await?;
        let mut looks = tokio::time::interval(silence_limit);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick is over at once.
        looks.reset();
        Ok(Self {
            connection: Arc::clone(connection),
            state: State::Consuming(Box::new(Line::new(consumer, source.prefetch))),
            source,
            looks,
            was_busy: false,
        })
    }

    /// The queue.
    pub(crate) fn queue(&self) -> &str {
        &self.source.queue
    }

    /// The next delivery, or job of a bundle; `None` once the queue cannot be consumed any more.
    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Delivery>> {
        loop {
            match &mut self.state {
                State::Consuming(line) => {
                    if let Poll::Ready(delivery) = line.poll_next(context) {
                        self.was_busy = true;
                        return Poll::Ready(delivery);
                    }
                    ready!(self.looks.poll_tick(context));
                    let is_busy = !line.acks.is_empty();
                    if std::mem::replace(&mut self.was_busy, is_busy) || is_busy {
                        continue;
                    }
                    self.renew();
                }
                State::Renewing(renewing) => match ready!(renewing.as_mut().poll(context)) {
                    Ok(consumer) => {
                        let line = Line::new(consumer, self.source.prefetch);
                        self.state = State::Consuming(Box::new(line));
                        self.looks.reset();
                    }
                    Err(error) => {
                        tracing::warn!(
                            queue = self.source.queue,
                            error = &error as &dyn std::error::Error,
                            "could not consume again"
                        );
                        return Poll::Ready(None);
                    }
                },
            }
        }
    }

    /// A delivery may be acknowledged.
    pub(crate) fn done(&mut self, tag: u64, job: Option<JobKey>) {
        match &mut self.state {
            State::Consuming(line) => line.acks.done(tag, job),
            // It cannot be of a delivery that is still open.
            State::Renewing(_) => {}
        }
    }

    /// A delivery is to be rejected.
    pub(crate) fn refuse(&mut self, tag: u64) {
        match &mut self.state {
            State::Consuming(line) => line.acks.refuse(tag),
            // It has gone back.
            State::Renewing(_) => {}
        }
    }

    /// The jobs that are answered and not acknowledged.
    pub(crate) fn owed(&self) -> impl Iterator<Item = JobKey> {
        let line = match &self.state {
            State::Consuming(line) => Some(line),
            State::Renewing(_) => None,
        };
        line.into_iter().flat_map(|line| line.acks.owed())
    }

    /// When to acknowledge at the latest, if there is anything to.
    pub(crate) fn next_acknowledgement(&self) -> Option<Instant> {
        match &self.state {
            State::Consuming(line) => line.acks.due(),
            State::Renewing(_) => None,
        }
    }

    /// Sends the acknowledgements if they are due; `false` if the connection is lost.
    pub(crate) async fn acknowledge(&mut self, now: Instant) -> bool {
        match &mut self.state {
            State::Consuming(line) if line.acks.is_due(now) => line.acknowledge().await,
            State::Consuming(_) | State::Renewing(_) => true,
        }
    }

    /// Acknowledges what is done, and gives back the rest.
    pub(crate) async fn close(self) {
        match self.state {
            State::Consuming(mut line) => {
                line.acknowledge().await;
                line.consumer.close().await;
            }
            State::Renewing(_) => {}
        }
    }

    fn renew(&mut self) {
        tracing::debug!(queue = self.source.queue, "idle, consuming anew");
        let (connection, source) = (Arc::clone(&self.connection), self.source.clone());
        // Dropping the old consumer closes its channel.
        self.state = State::Renewing(Box::pin(async move {
            tokio::time::timeout(RENEW_LIMIT, source.consume(&connection))
                .await
                .unwrap_or(Err(AmqpError::TimedOut(RENEW_LIMIT)))
        }));
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool")
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

impl Line {
    fn new(consumer: Consumer, prefetch: u16) -> Self {
        Self {
            acker: consumer.acker(),
            consumer,
            acks: AckTracker::new(prefetch),
            unbundled: VecDeque::new(),
        }
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Delivery>> {
        if let Some(job) = self.unbundled.pop_front() {
            return Poll::Ready(Some(job));
        }
        let Some(delivery) = ready!(pin!(self.consumer.next()).poll(context)) else {
            return Poll::Ready(None);
        };
        // What is not taken apart here is refused where jobs are read.
        let jobs = if delivery.is_bundle() && !delivery.envelope.redelivered {
            delivery.unbundle().unwrap_or_default()
        } else {
            Vec::new()
        };
        self.acks.delivered(delivery.tag, jobs.len().max(1));
        self.unbundled = jobs.into();
        Poll::Ready(Some(self.unbundled.pop_front().unwrap_or(delivery)))
    }

    async fn acknowledge(&mut self) -> bool {
        for tag in self.acks.take_refused() {
            if !settled(self.acker.reject(tag)).await {
                return false;
            }
        }
        for ack in self.acks.take() {
            if !settled(self.acker.ack(ack.tag, ack.multiple)).await {
                return false;
            }
        }
        self.acks.written();
        true
    }
}

/// Whether an acknowledgement or a rejection was written in time.
async fn settled(sending: impl Future<Output = Result<bool, AmqpError>>) -> bool {
    match tokio::time::timeout(ACK_LIMIT, sending).await {
        Ok(Ok(in_time)) => in_time,
        Ok(Err(error)) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "could not acknowledge"
            );
            false
        }
        Err(_) => false,
    }
}
