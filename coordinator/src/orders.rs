//! What the turn logic asks for beside commits, loads and publications: short orders, each in a task
//! of its own that answers with an input.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use flotilla_protocol::amqp::{
    ConnectOptions, Connection, Outgoing, PublishOutcome, Publisher, declare_pool,
};
use flotilla_protocol::message::CoordinatorProbe;
use flotilla_turn::message::DeliveryId;
use flotilla_turn::rows::{Epoch, PartitionNo};
use flotilla_turn::{Input, Publication};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::forward::Forwarding;
use crate::storage::{self, chain};

/// Wait before an order that failed is given again.
const AGAIN_AFTER: std::time::Duration = std::time::Duration::from_millis(300);

/// What carrying out orders needs.
#[derive(Clone)]
pub(crate) struct Orders {
    pub owner: Uuid,
    pub lease_s: f64,
    pub pool: sqlx::PgPool,
    pub publisher: Publisher,
    pub broker: ConnectOptions,
    pub inputs: mpsc::UnboundedSender<Input>,
}

impl Orders {
    pub fn forwarding(&self) -> Forwarding {
        Forwarding {
            publisher: self.publisher.clone(),
            pool: self.pool.clone(),
            inputs: self.inputs.clone(),
        }
    }

    /// Answers; nobody listens any more once the coordinator has stopped.
    fn answer(&self, input: Input) {
        let _ = self.inputs.send(input);
    }

    pub async fn take_partitions(self) {
        let taken = storage::take_partitions(&self.pool, self.owner, self.lease_s, None).await;
        let taken = taken.unwrap_or_else(|error| {
            tracing::warn!(error = chain(&error), "partitions cannot be taken");
            Vec::new()
        });
        if !taken.is_empty() {
            let partitions: Vec<PartitionNo> = taken.iter().map(|taken| taken.partition).collect();
            tracing::info!(?partitions, "took partitions");
        }
        self.answer(Input::PartitionsTaken(taken));
    }

    pub async fn release(self, held: Vec<(PartitionNo, Epoch)>) {
        if let Err(error) = storage::release_partitions(&self.pool, self.owner, &held).await {
            tracing::warn!(
                error = chain(&error),
                "partitions are not released; their leases expire"
            );
        }
    }

    pub async fn load_timers(
        self,
        partition: PartitionNo,
        epoch: Epoch,
        from: DateTime<Utc>,
        until: DateTime<Utc>,
    ) {
        let timers = match storage::load_timers(&self.pool, partition, from, until).await {
            Ok(timers) => Some(timers),
            Err(error) => {
                tracing::warn!(partition, error = chain(&error), "timers cannot be loaded");
                tokio::time::sleep(AGAIN_AFTER).await;
                None
            }
        };
        self.answer(Input::TimersLoaded {
            partition,
            epoch,
            until,
            timers,
        });
    }

    /// Creates the queue of a pool whose job came back, then has it published again.
    pub async fn declare_pool(self, pool: Arc<str>, publication: Arc<Publication>) {
        // A queue that is made again at once is found by the broker when it tells the consumers of
        // the old one: it moves them over in place of telling them, and RabbitMQ 3.10 then delivers
        // nothing to them.
        tokio::time::sleep(AGAIN_AFTER).await;
        if let Err(error) = self.try_declare_pool(&pool).await {
            tracing::warn!(%pool, error = chain(&error), "the queue of a pool cannot be declared");
            tokio::time::sleep(AGAIN_AFTER).await;
        }
        self.answer(Input::PublishFailed(publication.id));
    }

    async fn try_declare_pool(&self, pool: &str) -> Result<(), flotilla_protocol::amqp::AmqpError> {
        let connection = Connection::open_with(&self.broker).await?;
        let declared = declare_pool(&connection, pool).await;
        connection.close().await;
        declared
    }

    pub async fn mark_suspect(self, delivery: DeliveryId, key: String) {
        let already = loop {
            match storage::mark_suspect(&self.pool, &key).await {
                Ok(already) => break already,
                Err(error) => {
                    tracing::warn!(error = chain(&error), "a suspect cannot be marked");
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
            }
        };
        self.answer(Input::SuspectMarked { delivery, already });
    }

    pub async fn clear_suspect(self, key: String) {
        if let Err(error) = storage::clear_suspect(&self.pool, &key).await {
            tracing::warn!(error = chain(&error), "the mark of a suspect stays");
        }
    }

    pub async fn send_probe(self, partition: PartitionNo, epoch: Epoch) {
        let probe = Outgoing::probe(&CoordinatorProbe { partition, epoch });
        match self.publisher.publish(probe).await {
            PublishOutcome::Confirmed => {}
            PublishOutcome::Returned | PublishOutcome::Nacked | PublishOutcome::Unknown => {
                tokio::time::sleep(AGAIN_AFTER).await;
                self.answer(Input::ProbeFailed { partition });
            }
        }
    }

    pub async fn say_alive(self) {
        if let Err(error) = storage::say_alive(&self.pool, self.owner).await {
            tracing::warn!(
                error = chain(&error),
                "the table of coordinators cannot be written"
            );
        }
    }
}
