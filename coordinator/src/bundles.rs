//! Which pools' jobs travel in bundles, and how many in each.
//!
//! A bundle is for workers that ask for them by consuming the queue of a pool's bundles. Where somebody
//! consumes only the pool's jobs, all travel alone: who takes no bundles would get nothing beside who does. So the
//! broker is asked every second who consumes what, of the pools that have many jobs at once. Bundles that
//! nobody consumes any more are taken apart here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flotilla_protocol::amqp::{
    AmqpError, Connection, Delivery, Outgoing, PublishOutcome, Publisher, QueueState, queue_state,
};
use flotilla_protocol::bundle::decode_bundle;
use flotilla_protocol::names::{self, MAX_BUNDLED_JOBS};

use crate::shared_connection::SharedConnection;
use crate::storage::chain;

/// Time between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// How many jobs of a pool, published at once, are many.
const MANY: usize = 4;
/// Bundles that each worker can have of the jobs that are published at once, so that none gets all.
const SHARES: usize = 2;
/// Looks after which a pool that had not many jobs is forgotten.
const FORGOTTEN_AFTER: u32 = 30;
/// Looks for which bundles wait for a consumer, as of a worker that is being replaced.
const ABANDONED_AFTER: u32 = 5;

/// What is known of the pools that have many jobs at once. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bundles {
    pools: Arc<Mutex<HashMap<Arc<str>, Known>>>,
}

/// What is known of a pool.
#[derive(Debug, Default)]
struct Known {
    /// Workers, where all of them take bundles; else 0.
    workers: usize,
    /// Looks since it had many jobs.
    quiet: u32,
    /// Looks, one after the other, at bundles that nobody consumed.
    abandoned: u32,
}

/// What a look leads to.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// To look again.
    Watched,
    /// Nothing more: the pool has had few jobs for long, and no bundle is left.
    Forgotten,
    /// The bundles that wait are to be taken apart.
    Abandoned,
}

impl Known {
    fn seen(&mut self, jobs: QueueState, bundles: QueueState) -> Verdict {
        let takes_bundles = jobs.consumers == bundles.consumers;
        self.workers = if takes_bundles {
            usize::try_from(bundles.consumers).unwrap_or(usize::MAX)
        } else {
            0
        };
        self.quiet += 1;
        if bundles.messages == 0 {
            self.abandoned = 0;
            return if self.quiet > FORGOTTEN_AFTER {
                Verdict::Forgotten
            } else {
                Verdict::Watched
            };
        }
        if bundles.consumers > 0 {
            self.abandoned = 0;
            return Verdict::Watched;
        }
        self.abandoned += 1;
        if self.abandoned < ABANDONED_AFTER {
            return Verdict::Watched;
        }
        self.abandoned = 0;
        Verdict::Abandoned
    }

    /// Jobs of a bundle where so many are published at once.
    fn size(&self, jobs: usize) -> usize {
        if self.workers == 0 {
            return 1;
        }
        let shares = self.workers.saturating_mul(SHARES);
        (jobs / shares).clamp(1, MAX_BUNDLED_JOBS)
    }
}

impl Bundles {
    /// How many jobs a bundle has where `jobs` of the pool are published at once; 1: each travels alone.
    pub fn size(&self, pool: &Arc<str>, jobs: usize) -> usize {
        if jobs < MANY {
            return 1;
        }
        let mut pools = self.pools();
        let known = pools.entry(Arc::clone(pool)).or_default();
        known.quiet = 0;
        known.size(jobs)
    }

    /// Bundles of this pool were not taken: its jobs travel alone until the next look.
    pub fn suspend(&self, pool: &str) {
        if let Some(known) = self.pools().get_mut(pool) {
            known.workers = 0;
        }
    }

    /// Looks at this pool, too: bundles wait there, whoever has published them.
    pub fn include(&self, pool: &str) {
        self.pools().entry(Arc::from(pool)).or_default().quiet = 0;
    }

    /// Looks at the queues until `is_over`.
    pub async fn watch(
        self,
        observer: Arc<SharedConnection>,
        publisher: Publisher,
        is_over: impl Fn() -> bool + Send,
    ) {
        loop {
            tokio::time::sleep(LOOK).await;
            let watched: Vec<Arc<str>> = self.pools().keys().cloned().collect();
            for pool in watched {
                if is_over() {
                    return;
                }
                if let Err(error) = self.look(&pool, &observer, &publisher).await {
                    tracing::warn!(
                        %pool,
                        error = chain(&error),
                        "the queues of a pool cannot be looked at"
                    );
                    self.suspend(&pool);
                }
            }
            if is_over() {
                return;
            }
        }
    }

    async fn look(
        &self,
        pool: &Arc<str>,
        observer: &SharedConnection,
        publisher: &Publisher,
    ) -> Result<(), AmqpError> {
        let Some(connection) = observer.current().await else {
            self.suspend(pool);
            return Ok(());
        };
        let state = async |queue: String| {
            let state = queue_state(&connection, &queue).await?;
            Ok(state.unwrap_or(QueueState {
                messages: 0,
                consumers: 0,
            }))
        };
        let jobs = state(names::jobs_queue(pool)).await?;
        let bundles = state(names::bundles_queue(pool)).await?;
        let verdict = self
            .pools()
            .entry(Arc::clone(pool))
            .or_default()
            .seen(jobs, bundles);
        match verdict {
            Verdict::Watched => Ok(()),
            Verdict::Forgotten => {
                self.pools().remove(pool);
                Ok(())
            }
            Verdict::Abandoned => {
                tracing::warn!(
                    %pool,
                    bundles = bundles.messages,
                    "nobody consumes these bundles, so their jobs are published alone"
                );
                disband(&connection, publisher, pool, bundles.messages).await
            }
        }
    }

    fn pools(&self) -> MutexGuard<'_, HashMap<Arc<str>, Known>> {
        // What is in it holds whoever has panicked.
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Publishes the jobs of at most `limit` bundles alone. A bundle with which that does not succeed goes
/// back when the channel is closed, and comes to the owners of its jobs as a dead letter.
async fn disband(
    connection: &Connection,
    publisher: &Publisher,
    pool: &str,
    limit: u32,
) -> Result<(), AmqpError> {
    let queue = names::bundles_queue(pool);
    let getter = connection.getter(&queue).await?;
    for _ in 0..limit {
        let Some(delivery) = getter.get().await? else {
            break;
        };
        if !are_published(publisher, alone(&delivery, pool, &queue)).await
            || !getter.acker().ack(delivery.tag, false).await?
        {
            break;
        }
    }
    getter.close().await;
    Ok(())
}

/// The jobs of a bundle, each in its own message; what is none is a dead letter.
fn alone(delivery: &Delivery, pool: &str, queue: &str) -> Vec<Outgoing> {
    match decode_bundle(&delivery.envelope, &delivery.body) {
        Ok(jobs) => {
            let jobs = jobs.into_iter();
            jobs.map(|job| Outgoing::unbundled(pool, job)).collect()
        }
        Err(refused) => {
            tracing::warn!(queue, %refused, "a message cannot be used");
            vec![Outgoing::dead_letter(delivery, queue, refused.refusal)]
        }
    }
}

async fn are_published(publisher: &Publisher, messages: Vec<Outgoing>) -> bool {
    let publishing = messages
        .into_iter()
        .map(|message| publisher.enqueue(message));
    let outcomes = futures::future::join_all(publishing).await;
    outcomes
        .iter()
        .all(|outcome| *outcome == PublishOutcome::Confirmed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(messages: u32, consumers: u32) -> QueueState {
        QueueState {
            messages,
            consumers,
        }
    }

    fn pool() -> Arc<str> {
        Arc::from("p")
    }

    #[test]
    fn a_pool_that_is_not_known_has_its_jobs_alone() {
        assert_eq!(Bundles::default().size(&pool(), 100), 1);
    }

    #[test]
    fn bundles_are_as_large_as_leaves_two_for_each_worker() {
        for (workers, jobs, size) in [
            (1, 4, 2),
            (1, 7, 3),
            (1, 500, MAX_BUNDLED_JOBS),
            (4, 16, 2),
            (4, 15, 1),
            (50, 256, 2),
        ] {
            let mut known = Known::default();
            known.seen(queue(0, workers), queue(0, workers));
            assert_eq!(known.size(jobs), size, "{jobs} jobs for {workers} workers");
        }
    }

    #[test]
    fn few_jobs_travel_alone_and_are_no_reason_to_look() {
        let bundles = Bundles::default();
        assert_eq!(bundles.size(&pool(), MANY - 1), 1);
        assert!(bundles.pools().is_empty());
        bundles.size(&pool(), MANY);
        assert_eq!(bundles.pools().len(), 1);
    }

    #[test]
    fn beside_a_worker_that_takes_no_bundles_there_are_none() {
        let mut known = Known::default();
        known.seen(queue(0, 3), queue(0, 2));
        assert_eq!(known.size(100), 1);
        known.seen(queue(0, 2), queue(0, 2));
        assert_eq!(known.size(100), MAX_BUNDLED_JOBS);
        known.seen(queue(0, 0), queue(0, 0));
        assert_eq!(known.size(100), 1);
    }

    #[test]
    fn what_the_broker_returns_ends_the_bundles_until_the_next_look() {
        let bundles = Bundles::default();
        bundles.size(&pool(), 100);
        bundles
            .pools()
            .get_mut(&pool())
            .unwrap()
            .seen(queue(0, 1), queue(0, 1));
        assert_eq!(bundles.size(&pool(), 100), MAX_BUNDLED_JOBS);
        bundles.suspend("p");
        assert_eq!(bundles.size(&pool(), 100), 1);
    }

    #[test]
    fn bundles_without_a_consumer_are_abandoned_after_some_looks() {
        let mut known = Known::default();
        for _ in 1..ABANDONED_AFTER {
            assert_eq!(known.seen(queue(0, 1), queue(9, 0)), Verdict::Watched);
        }
        assert_eq!(known.seen(queue(0, 1), queue(9, 1)), Verdict::Watched);
        for _ in 1..ABANDONED_AFTER {
            assert_eq!(known.seen(queue(0, 1), queue(9, 0)), Verdict::Watched);
        }
        assert_eq!(known.seen(queue(0, 1), queue(9, 0)), Verdict::Abandoned);
    }

    #[test]
    fn a_pool_is_watched_for_as_long_as_it_has_many_jobs_or_bundles() {
        let mut known = Known::default();
        for _ in 0..FORGOTTEN_AFTER {
            assert_eq!(known.seen(queue(0, 1), queue(0, 1)), Verdict::Watched);
        }
        assert_eq!(known.seen(queue(0, 1), queue(3, 1)), Verdict::Watched);
        assert_eq!(known.seen(queue(0, 1), queue(0, 1)), Verdict::Forgotten);
    }
}
