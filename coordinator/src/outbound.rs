//! Publishing: all at once, in order, each with a confirm, or several jobs of a pool in a bundle; answers
//! come back in batches.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use flotilla_protocol::amqp::{Outcomes, Outgoing, PublishOutcome, Publisher};
use flotilla_protocol::bundle::BundleWriter;
use flotilla_protocol::names::{self, MAX_BUNDLED_BYTES};
use flotilla_turn::{Destination, Input, Publication};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::bundles::Bundles;

/// Wait before publications that were refused are tried again, so that a full queue is not hammered.
const REFUSED_WAIT: Duration = Duration::from_millis(100);
/// How many are tried again after such a wait, for the same reason; the rest waits once more.
const MAX_REFUSED_TOLD: usize = 100;
/// Outcomes that are reported together at most.
const MAX_REPORTED: usize = 4096;
/// The first number of a bundle; those of publications are below.
const FIRST_BUNDLE: u64 = 1 << 63;

/// Publishes what turns owe.
pub(crate) struct Outbound {
    publisher: Publisher,
    outcomes: Outcomes,
    bundles: Bundles,
    next_bundle: u64,
    sent: SentBundles,
}

/// The bundles whose outcome is not known.
#[derive(Clone, Default)]
struct SentBundles(Arc<Mutex<HashMap<u64, SentBundle>>>);

struct SentBundle {
    pool: Arc<str>,
    /// The publications in it.
    ids: Vec<u64>,
}

impl SentBundles {
    fn add(&self, number: u64, bundle: SentBundle) {
        let mut sent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sent.insert(number, bundle);
    }

    fn take(&self, number: u64) -> Option<SentBundle> {
        if number < FIRST_BUNDLE {
            return None;
        }
        let mut sent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sent.remove(&number)
    }
}

/// The jobs of one pool.
type PoolJobs<'a> = (&'a Arc<str>, Vec<&'a Publication>);

impl Outbound {
    pub fn new(
        publisher: Publisher,
        bundles: Bundles,
        inputs: mpsc::UnboundedSender<Input>,
    ) -> Self {
        let (outcomes, receiver) = mpsc::unbounded_channel();
        let sent = SentBundles::default();
        let collecting = Collecting {
            sent: sent.clone(),
            bundles: bundles.clone(),
            inputs,
            refused: VecDeque::new(),
        };
        tokio::spawn(collecting.run(receiver));
        Self {
            publisher,
            outcomes,
            bundles,
            next_bundle: FIRST_BUNDLE,
            sent,
        }
    }

    pub fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    /// Publishes; the messages have their places in the order when this returns.
    pub fn publish(&mut self, publications: &[Arc<Publication>]) {
        let mut by_pool: Vec<PoolJobs<'_>> = Vec::new();
        for publication in publications {
            match bundled_pool(publication) {
                Some(pool) => match by_pool.iter_mut().find(|(other, _)| *other == pool) {
                    Some((_, jobs)) => jobs.push(publication),
                    None => by_pool.push((pool, vec![publication])),
                },
                None => self.publish_alone(publication),
            }
        }
        for (pool, jobs) in by_pool {
            let size = self.bundles.size(pool, jobs.len());
            for jobs in jobs.chunks(size) {
                match jobs {
                    [job] => self.publish_alone(job),
                    _ => self.publish_bundle(pool, jobs),
                }
            }
        }
    }

    fn publish_alone(&self, publication: &Publication) {
        self.publisher
            .enqueue_numbered(outgoing(publication), publication.id, &self.outcomes);
    }

    fn publish_bundle(&mut self, pool: &Arc<str>, jobs: &[&Publication]) {
        let mut writer = BundleWriter::default();
        for job in jobs {
            if let Destination::Pool {
                partition,
                traceparent,
                ..
            } = &job.to
            {
                let inbox = names::inbox_queue(*partition);
                writer.push(&inbox, traceparent.as_deref(), &job.body);
            }
        }
        let number = self.next_bundle;
        self.next_bundle += 1;
        let bundle = SentBundle {
            pool: Arc::clone(pool),
            ids: jobs.iter().map(|job| job.id).collect(),
        };
        self.sent.add(number, bundle);
        let message = Outgoing::bundle(pool, writer.finish());
        self.publisher
            .enqueue_numbered(message, number, &self.outcomes);
    }
}

/// The pool of a job that may travel with others.
fn bundled_pool(publication: &Publication) -> Option<&Arc<str>> {
    match &publication.to {
        Destination::Pool {
            pool,
            may_be_bundled: true,
            ..
        } if publication.body.len() <= MAX_BUNDLED_BYTES => Some(pool),
        Destination::Pool { .. } | Destination::Client { .. } => None,
    }
}

/// Tells the turn logic what becomes of publications.
struct Collecting {
    sent: SentBundles,
    bundles: Bundles,
    inputs: mpsc::UnboundedSender<Input>,
    /// Publications that were refused, which nobody has been told, the first one first.
    refused: VecDeque<u64>,
}

impl Collecting {
    /// Waits for outcomes and reports what has come, as much as there is at a time. What was refused
    /// waits alone: the queue of one pool may be full, and those of the others are not.
    async fn run(mut self, mut receiver: mpsc::UnboundedReceiver<(u64, PublishOutcome)>) {
        let mut outcomes = Vec::new();
        let mut due: Option<Instant> = None;
        loop {
            tokio::select! {
                count = receiver.recv_many(&mut outcomes, MAX_REPORTED) => {
                    if count == 0 {
                        return;
                    }
                    self.report(outcomes.drain(..));
                }
                () = passed(due) => {
                    due = None;
                    self.tell_refused();
                }
            }
            if due.is_none() && !self.refused.is_empty() {
                due = Some(Instant::now() + REFUSED_WAIT);
            }
        }
    }

    fn report(&mut self, outcomes: impl Iterator<Item = (u64, PublishOutcome)>) {
        let mut confirmed = Vec::new();
        for (number, outcome) in outcomes {
            let bundle = self.sent.take(number);
            match outcome {
                PublishOutcome::Confirmed => match bundle {
                    Some(bundle) => confirmed.extend(bundle.ids),
                    None => confirmed.push(number),
                },
                PublishOutcome::Returned => match bundle {
                    Some(bundle) => {
                        self.bundles.suspend(&bundle.pool);
                        self.failed(bundle.ids);
                    }
                    None => self.tell(Input::PublishReturned(number)),
                },
                PublishOutcome::Nacked => match bundle {
                    Some(bundle) => self.refused.extend(bundle.ids),
                    None => self.refused.push_back(number),
                },
                PublishOutcome::Unknown => match bundle {
                    Some(bundle) => self.failed(bundle.ids),
                    None => self.failed([number]),
                },
            }
        }
        if !confirmed.is_empty() {
            self.tell(Input::PublishConfirmed(confirmed));
        }
    }

    /// Tells of the first of those that were refused; they are then published again.
    fn tell_refused(&mut self) {
        let count = self.refused.len().min(MAX_REFUSED_TOLD);
        let told: Vec<u64> = self.refused.drain(..count).collect();
        self.failed(told);
    }

    fn failed(&self, ids: impl IntoIterator<Item = u64>) {
        for id in ids {
            self.tell(Input::PublishFailed(id));
        }
    }

    /// Nobody takes inputs of a coordinator that has stopped.
    fn tell(&self, input: Input) {
        let _ = self.inputs.send(input);
    }
}

async fn passed(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

fn outgoing(publication: &Publication) -> Outgoing {
    let body = publication.body.clone();
    match &publication.to {
        Destination::Pool {
            pool,
            message_id,
            execution_id,
            partition,
            traceparent,
            may_be_bundled: _,
        } => Outgoing {
            message_id: Some(message_id.clone()),
            correlation_id: Some(execution_id.to_string()),
            reply_to: Some(names::inbox_queue(*partition)),
            traceparent: traceparent.as_deref().map(str::to_owned),
            ..Outgoing::new(
                names::EXCHANGE,
                names::job_routing_key(pool),
                names::TASK_JOB,
                body,
            )
        },
        Destination::Client {
            reply_to,
            correlation_id,
            message_type,
        } => Outgoing::reply(
            reply_to,
            correlation_id.as_deref(),
            message_type.clone(),
            body,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Collector {
        outcomes: Outcomes,
        inputs: mpsc::UnboundedReceiver<Input>,
        sent: SentBundles,
    }

    fn collector() -> Collector {
        let (outcomes, receiver) = mpsc::unbounded_channel();
        let (sender, inputs) = mpsc::unbounded_channel();
        let sent = SentBundles::default();
        let collecting = Collecting {
            sent: sent.clone(),
            bundles: Bundles::default(),
            inputs: sender,
            refused: VecDeque::new(),
        };
        tokio::spawn(collecting.run(receiver));
        Collector {
            outcomes,
            inputs,
            sent,
        }
    }

    impl Collector {
        fn send(&self, number: u64, outcome: PublishOutcome) {
            self.outcomes
                .send((number, outcome))
                .expect("outcomes are collected");
        }

        async fn next(&mut self) -> String {
            let input = self.inputs.recv().await.expect("it is told");
            format!("{input:?}")
        }
    }

    #[tokio::test]
    async fn what_is_refused_waits_and_holds_up_nothing_else() {
        let mut collector = collector();
        let begun = Instant::now();
        let last = u64::try_from(MAX_REFUSED_TOLD).unwrap() + 1;
        for number in 1..=last {
            collector.send(number, PublishOutcome::Nacked);
        }
        collector.send(1_000, PublishOutcome::Confirmed);
        collector.send(1_001, PublishOutcome::Unknown);
        assert_eq!(collector.next().await, "PublishFailed(1001)");
        assert_eq!(collector.next().await, "PublishConfirmed([1000])");
        for number in 1..last {
            let told = format!("PublishFailed({number})");
            assert_eq!(collector.next().await, told);
        }
        assert!(begun.elapsed() >= REFUSED_WAIT);
        // More at once would hammer a full queue.
        assert_eq!(collector.next().await, format!("PublishFailed({last})"));
        assert!(begun.elapsed() >= 2 * REFUSED_WAIT);
    }

    #[tokio::test]
    async fn an_outcome_of_a_bundle_is_one_of_all_that_is_in_it() {
        let mut collector = collector();
        for (number, ids) in [(0, [1, 2]), (1, [3, 4]), (2, [5, 6])] {
            let bundle = SentBundle {
                pool: "p".into(),
                ids: ids.to_vec(),
            };
            collector.sent.add(FIRST_BUNDLE + number, bundle);
        }
        collector.send(FIRST_BUNDLE, PublishOutcome::Nacked);
        collector.send(FIRST_BUNDLE + 1, PublishOutcome::Returned);
        collector.send(FIRST_BUNDLE + 2, PublishOutcome::Confirmed);
        for told in [
            "PublishFailed(3)",
            "PublishFailed(4)",
            "PublishConfirmed([5, 6])",
            "PublishFailed(1)",
            "PublishFailed(2)",
        ] {
            assert_eq!(collector.next().await, told);
        }
    }
}
