//! Publishing: all at once, in order, each with a confirm, or several jobs of a pool in a bundle; answers
//! come back in batches.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use flotilla_protocol::amqp::{Outcomes, Outgoing, PublishOutcome, Publisher};
use flotilla_protocol::bundle::BundleWriter;
use flotilla_protocol::names::{self, MAX_BUNDLED_BYTES};
use flotilla_turn::{Destination, Input, Publication};
use tokio::sync::mpsc;

use crate::bundles::Bundles;

/// Wait before a publication that was refused is tried again, so that a full queue is not hammered.
const REFUSED_WAIT: Duration = Duration::from_millis(100);
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
}

impl Collecting {
    /// Waits for outcomes and reports what has come, as much as there is at a time.
    async fn run(self, mut receiver: mpsc::UnboundedReceiver<(u64, PublishOutcome)>) {
        let mut outcomes = Vec::new();
        while receiver.recv_many(&mut outcomes, MAX_REPORTED).await > 0 {
            let mut confirmed = Vec::new();
            for (number, outcome) in outcomes.drain(..) {
                if outcome == PublishOutcome::Nacked {
                    tokio::time::sleep(REFUSED_WAIT).await;
                }
                let bundle = self.sent.take(number);
                match outcome {
                    PublishOutcome::Confirmed => match bundle {
                        Some(bundle) => confirmed.extend(bundle.ids),
                        None => confirmed.push(number),
                    },
                    PublishOutcome::Returned => match bundle {
                        Some(bundle) => {
                            self.bundles.suspend(&bundle.pool);
                            self.failed(&bundle.ids);
                        }
                        None => self.tell(Input::PublishReturned(number)),
                    },
                    PublishOutcome::Nacked | PublishOutcome::Unknown => match bundle {
                        Some(bundle) => self.failed(&bundle.ids),
                        None => self.failed(&[number]),
                    },
                }
            }
            if !confirmed.is_empty() {
                self.tell(Input::PublishConfirmed(confirmed));
            }
        }
    }

    fn failed(&self, ids: &[u64]) {
        for id in ids {
            self.tell(Input::PublishFailed(*id));
        }
    }

    /// Nobody takes inputs of a coordinator that has stopped.
    fn tell(&self, input: Input) {
        let _ = self.inputs.send(input);
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
