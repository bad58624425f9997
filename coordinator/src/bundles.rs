//! Which pools' jobs travel in bundles, and how many in each.
//!
//! A bundle is for workers that ask for them by consuming the queue of a pool's bundles. Where somebody
//! consumes only the pool's jobs, all travel alone: who takes no bundles would get nothing beside who
//! does. So the broker is asked every second who consumes what, of the pools that have many jobs at
//! once. Bundles that wait while not all who consume the pool take them are taken apart here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flotilla_protocol::amqp::{
    AmqpError, Connection, Delivery, Outgoing, PublishOutcome, Publisher, QueueState, queue_state,
};
use flotilla_protocol::bundle::decode_bundle;
use flotilla_protocol::names::{self, MAX_BUNDLED_JOBS};
use flotilla_turn::Input;
use tokio::sync::mpsc;

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
/// Looks for which bundles wait that not all take, as while a worker is being replaced.
const ABANDONED_AFTER: u32 = 5;
/// Bundles that are taken apart at a look, so that other pools are looked at, too.
const MOST_DISBANDED: u32 = 200;
/// Looks that are left out where there is no queue for bundles: the broker logs an error each time.
const PAUSE: u32 = 10;

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
    /// Looks, one after the other, at bundles that waited and that not all took.
    abandoned: u32,
    /// Looks to leave out.
    pause: u32,
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
    /// Whether it is looked at this time.
    fn is_due(&mut self) -> bool {
        self.quiet += 1;
        let is_due = self.pause == 0;
        self.pause = self.pause.saturating_sub(1);
        is_due
    }

    /// Draws the conclusions; `None`: there is no such queue.
    fn seen(&mut self, jobs: Option<QueueState>, bundles: Option<QueueState>) -> Verdict {
        let consumers = |queue: Option<QueueState>| queue.map_or(0, |queue| queue.consumers);
        let all_take_them = consumers(jobs) == consumers(bundles);
        self.workers = if all_take_them {
            usize::try_from(consumers(bundles)).unwrap_or(usize::MAX)
        } else {
            0
        };
        let Some(bundles) = bundles else {
            self.pause = PAUSE;
            return self.at_rest();
        };
        if bundles.messages == 0 {
            return self.at_rest();
        }
        if self.workers > 0 {
            self.abandoned = 0;
            return Verdict::Watched;
        }
        self.abandoned += 1;
        if self.abandoned < ABANDONED_AFTER {
            Verdict::Watched
        } else {
            Verdict::Abandoned
        }
    }

    /// No bundle waits.
    fn at_rest(&mut self) -> Verdict {
        self.abandoned = 0;
        if self.quiet > FORGOTTEN_AFTER {
            Verdict::Forgotten
        } else {
            Verdict::Watched
        }
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

    /// Looks at the queues until nobody takes inputs any more: the coordinator has stopped.
    pub async fn watch(
        self,
        observer: Arc<SharedConnection>,
        publisher: Publisher,
        inputs: mpsc::UnboundedSender<Input>,
    ) {
        while !inputs.is_closed() {
            tokio::time::sleep(LOOK).await;
            for pool in self.due() {
                if inputs.is_closed() {
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
        }
    }

    fn due(&self) -> Vec<Arc<str>> {
        let mut pools = self.pools();
        let due = pools
            .iter_mut()
            .filter_map(|(pool, known)| known.is_due().then(|| Arc::clone(pool)));
        due.collect()
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
        let jobs = queue_state(&connection, &names::jobs_queue(pool)).await?;
        let bundles = queue_state(&connection, &names::bundles_queue(pool)).await?;
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
                    bundles = bundles.map_or(0, |bundles| bundles.messages),
                    "bundles wait that not all workers take: their jobs are published alone"
                );
                disband(&connection, publisher, pool).await
            }
        }
    }

    fn pools(&self) -> MutexGuard<'_, HashMap<Arc<str>, Known>> {
        // What is in it holds whoever has panicked.
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Publishes the jobs of some bundles alone. A bundle with which that does not succeed goes back when the
/// channel is closed, and comes to the owners of its jobs as a dead letter.
async fn disband(
    connection: &Connection,
    publisher: &Publisher,
    pool: &str,
) -> Result<(), AmqpError> {
    let queue = names::bundles_queue(pool);
    let getter = connection.getter(&queue).await?;
    let mut left = MOST_DISBANDED;
    while left > 0
        && let Some(delivery) = getter.get().await?
        && are_published(publisher, alone(&delivery, pool, &queue)).await
    {
        getter.acker().ack(delivery.tag, false).await?;
        left -= 1;
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

    #[expect(clippy::unnecessary_wraps, reason = "a queue that is there")]
    fn queue(messages: u32, consumers: u32) -> Option<QueueState> {
        Some(QueueState {
            messages,
            consumers,
        })
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
    fn bundles_that_not_all_take_are_abandoned_after_some_looks() {
        for consumers in [0, 1] {
            let mut known = Known::default();
            let mut look = |bundles| known.seen(queue(0, 2), queue(9, bundles));
            for _ in 1..ABANDONED_AFTER {
                assert_eq!(look(consumers), Verdict::Watched);
            }
            assert_eq!(look(2), Verdict::Watched, "all take them");
            for _ in 1..ABANDONED_AFTER {
                assert_eq!(look(consumers), Verdict::Watched);
            }
            assert_eq!(look(consumers), Verdict::Abandoned);
            assert_eq!(look(consumers), Verdict::Abandoned, "some at a look");
        }
    }

    #[test]
    fn a_pool_is_watched_for_as_long_as_it_has_many_jobs_or_bundles() {
        let mut known = Known::default();
        for _ in 0..FORGOTTEN_AFTER {
            assert!(known.is_due());
            assert_eq!(known.seen(queue(0, 1), queue(0, 1)), Verdict::Watched);
        }
        assert!(known.is_due());
        assert_eq!(known.seen(queue(0, 1), queue(3, 1)), Verdict::Watched);
        assert_eq!(known.seen(queue(0, 1), queue(0, 1)), Verdict::Forgotten);
    }

    #[test]
    fn where_there_is_no_queue_for_bundles_looks_are_rare() {
        let mut known = Known::default();
        assert!(known.is_due());
        assert_eq!(known.seen(queue(0, 1), None), Verdict::Watched);
        assert_eq!(known.size(100), 1);
        let left_out = (0..100).take_while(|_| !known.is_due()).count();
        assert_eq!(left_out, usize::try_from(PAUSE).unwrap());
    }
}
