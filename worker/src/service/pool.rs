//! Consuming one pool: its deliveries, what is to be acknowledged of them, and a new consumer whenever
//! nothing has come for a while.
//!
//! Nobody tells a consumer that it is dead. `RabbitMQ` 3.10, for one, moves the consumers of a queue
//! that is deleted and made again at once over to the new queue, hands them its messages, and drops
//! these on the way: the queue then looks empty and consumed, while its jobs hang. Only the end of
//! the channel gives them back. So a pool that is idle gets a new channel from time to time, and its
//! queue is declared anew should it be missing.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use flotilla_protocol::amqp::{Acker, AmqpError, Connection, Consumer, Delivery, declare_pool};
use flotilla_protocol::names;
use futures::future::BoxFuture;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::acks::{Ack, AckTracker};
use super::held::JobKey;

/// How long sending an acknowledgement may take before the connection counts as lost.
const ACK_LIMIT: Duration = Duration::from_secs(5);
/// How long making a new consumer may take before the connection counts as lost.
const RENEW_LIMIT: Duration = Duration::from_secs(10);

/// How to consume a pool.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PoolOptions {
    /// How many deliveries are fetched at most.
    pub(crate) prefetch: u16,
    /// After how long without a delivery an idle pool gets a new consumer.
    pub(crate) silence_limit: Duration,
}

/// A pool that is consumed.
pub(crate) struct Pool {
    name: String,
    queue: String,
    options: PoolOptions,
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
}

impl Pool {
    /// Consumes a pool; its queue is created if there is none.
    pub(crate) async fn open(
        connection: &Arc<Connection>,
        name: &str,
        options: PoolOptions,
    ) -> Result<Self, AmqpError> {
        let consumer = consume(connection, name, options.prefetch).await?;
        let mut looks = tokio::time::interval(options.silence_limit);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick is over at once.
        looks.reset();
        Ok(Self {
            name: name.to_owned(),
            queue: names::jobs_queue(name),
            options,
            connection: Arc::clone(connection),
            state: State::Consuming(Box::new(Line::new(consumer, options.prefetch))),
            looks,
            was_busy: false,
        })
    }

    /// The queue of the pool.
    pub(crate) fn queue(&self) -> &str {
        &self.queue
    }

    /// The next delivery; `None` once the pool cannot be consumed any more.
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
                        self.state =
                            State::Consuming(Box::new(Line::new(consumer, self.options.prefetch)));
                        self.looks.reset();
                    }
                    Err(error) => {
                        tracing::warn!(
                            pool = self.name,
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
        tracing::debug!(pool = self.name, "idle, consuming anew");
        let (connection, name) = (Arc::clone(&self.connection), self.name.clone());
        let prefetch = self.options.prefetch;
        // Dropping the old consumer closes its channel.
        self.state = State::Renewing(Box::pin(async move {
            let consuming = consume(&connection, &name, prefetch);
            tokio::time::timeout(RENEW_LIMIT, consuming)
                .await
                .unwrap_or(Err(AmqpError::TimedOut(RENEW_LIMIT)))
        }));
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Line {
    fn new(consumer: Consumer, prefetch: u16) -> Self {
        Self {
            acker: consumer.acker(),
            consumer,
            acks: AckTracker::new(prefetch),
        }
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Delivery>> {
        let delivery = ready!(pin!(self.consumer.next()).poll(context));
        if let Some(delivery) = &delivery {
            self.acks.delivered(delivery.tag);
        }
        Poll::Ready(delivery)
    }

    async fn acknowledge(&mut self) -> bool {
        for ack in self.acks.take() {
            if !send(&self.acker, ack).await {
                return false;
            }
        }
        self.acks.written();
        true
    }
}

async fn consume(
    connection: &Connection,
    pool: &str,
    prefetch: u16,
) -> Result<Consumer, AmqpError> {
    declare_pool(connection, pool).await?;
    connection.consume(&names::jobs_queue(pool), prefetch).await
}

async fn send(acker: &Acker, ack: Ack) -> bool {
    match tokio::time::timeout(ACK_LIMIT, acker.ack(ack.tag, ack.multiple)).await {
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
