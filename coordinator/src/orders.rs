//! What the turn logic asks for beside commits, loads and publications: short orders, each in a task
//! of its own that answers with an input.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use flotilla_protocol::amqp::{
    Outgoing, PublishOutcome, Publisher, PublisherStatus, declare_pool, queue_depth,
};
use flotilla_protocol::message::{CoordinatorProbe, TaskCancel};
use flotilla_protocol::names;
use flotilla_turn::Input;
use flotilla_turn::message::{ChannelId, DeliveryId};
use flotilla_turn::rows::{Epoch, LostJob, PartitionNo};
use sqlx::postgres::{PgListener, PgNotification};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::bundles::Bundles;
use crate::forward::Forwarding;
use crate::inbound::queue_of;
use crate::shared_connection::SharedConnection;
use crate::storage::{self, StorageError, chain, within};
use crate::task_logs::LogWriter;

/// Wait before an order that failed is given again.
const AGAIN_AFTER: Duration = Duration::from_millis(300);

/// How long the database may take for an order. The server ends a statement before, unless it is not
/// there any more and nobody has told.
pub(crate) const ORDER_LIMIT: Duration = Duration::from_secs(20);

/// How long nothing may be heard of others before the database is asked whether it is still there.
const QUIET_LIMIT: Duration = Duration::from_secs(30);

/// What carrying out orders needs.
#[derive(Clone)]
pub(crate) struct Orders {
    pub owner: Uuid,
    pub lease_s: f64,
    pub resend_after_s: f64,
    pub pool: sqlx::PgPool,
    pub logs: LogWriter,
    pub publisher: Publisher,
    /// To look at queues and declare them with.
    pub observer: Arc<SharedConnection>,
    pub bundles: Bundles,
    pub inputs: mpsc::UnboundedSender<Input>,
}

impl Orders {
    pub fn forwarding(&self) -> Forwarding {
        Forwarding {
            publisher: self.publisher.clone(),
            pool: self.pool.clone(),
            logs: self.logs.clone(),
            inputs: self.inputs.clone(),
        }
    }

    /// Answers; nobody listens any more once the coordinator has stopped.
    fn answer(&self, input: Input) {
        let _ = self.inputs.send(input);
    }

    pub async fn take_partitions(self) {
        let taking = storage::take_partitions(&self.pool, self.owner, self.lease_s);
        let (taken, share) = match within(ORDER_LIMIT, taking).await {
            Ok((taken, share)) => (taken, usize::try_from(share.partitions).ok()),
            Err(error) => {
                tracing::warn!(error = chain(&error), "partitions cannot be taken");
                (Vec::new(), None)
            }
        };
        if !taken.is_empty() {
            let partitions: Vec<PartitionNo> = taken.iter().map(|taken| taken.partition).collect();
            tracing::info!(?partitions, "took partitions");
        }
        self.answer(Input::PartitionsTaken { taken, share });
    }

    /// Passes on that others have let go of partitions, or that workflows were registered, for as long as
    /// anybody takes that.
    pub async fn listen(self, url: String) {
        while !self.inputs.is_closed() {
            match storage::listen(&url).await {
                Ok(listener) => {
                    self.pass_on(listener).await;
                    // Meanwhile anything may have happened.
                    self.heard_in(None);
                }
                Err(error) => {
                    tracing::warn!(error = chain(&error), "cannot listen to what others do");
                }
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    /// Returns when the listener hears nothing any more.
    async fn pass_on(&self, mut listener: PgListener) {
        while !self.inputs.is_closed() {
            match tokio::time::timeout(QUIET_LIMIT, listener.try_recv()).await {
                Ok(Ok(told)) => self.heard_in(told.as_ref().map(PgNotification::channel)),
                Ok(Err(error)) => {
                    tracing::warn!(error = chain(&error), "what others do is not heard");
                    return;
                }
                Err(_) => {
                    if let Err(error) = storage::ask_listener(&mut listener, ORDER_LIMIT).await {
                        tracing::warn!(error = chain(&error), "what others do is not heard");
                        return;
                    }
                }
            }
        }
    }

    /// Something was told in a channel; `None`: the connection was lost, so perhaps in any.
    fn heard_in(&self, channel: Option<&str>) {
        if channel != Some(storage::FREED_CHANNEL) {
            self.answer(Input::WorkflowRegistered);
        }
        if channel != Some(storage::REGISTERED_CHANNEL) {
            self.answer(Input::PartitionsFreed);
        }
    }

    /// Passes on whether publishing works, for as long as the process lives.
    pub async fn watch_publisher(self) {
        let mut status = self.publisher.status();
        loop {
            let is_up = *status.borrow_and_update() != PublisherStatus::Down;
            self.answer(Input::PublisherChanged { is_up });
            if status.changed().await.is_err() {
                return;
            }
        }
    }

    pub async fn release(self, held: Vec<(PartitionNo, Epoch)>, resigns: bool) {
        let releasing = storage::release_partitions(&self.pool, self.owner, &held, resigns);
        if let Err(error) = within(ORDER_LIMIT, releasing).await {
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
        let loading = storage::load_timers(&self.pool, partition, from, until);
        let timers = match within(ORDER_LIMIT, loading).await {
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

    /// Creates the queue of a pool whose jobs came back.
    pub async fn declare_pool(self, pool: Arc<str>) {
        // A queue that is made again at once is found by the broker when it tells the consumers of
        // the old one: it moves them over in place of telling them, and RabbitMQ 3.10 then delivers
        // nothing to them.
        tokio::time::sleep(AGAIN_AFTER).await;
        if !self.is_pool_declared(&pool).await {
            tokio::time::sleep(AGAIN_AFTER).await;
        }
        // If there is no queue after all, the jobs come back once more.
        self.answer(Input::PoolDeclared(pool));
    }

    async fn is_pool_declared(&self, pool: &str) -> bool {
        let Some(connection) = self.observer.current().await else {
            return false;
        };
        let declared = declare_pool(&connection, pool).await;
        if let Err(error) = &declared {
            tracing::warn!(%pool, error = chain(error), "the queue of a pool cannot be declared");
        }
        declared.is_ok()
    }

    pub async fn inspect_queue(self, channel: ChannelId, generation: u64) {
        let messages = self.depth(&queue_of(channel)).await;
        self.answer(Input::QueueInspected {
            channel,
            generation,
            messages,
        });
    }

    /// Messages that wait in a queue, 0 if it does not exist; `None` if nobody can tell.
    async fn depth(&self, queue: &str) -> Option<u32> {
        let connection = self.observer.current().await?;
        match queue_depth(&connection, queue).await {
            Ok(depth) => Some(depth.unwrap_or(0)),
            Err(error) => {
                tracing::warn!(queue, error = chain(&error), "a queue cannot be looked at");
                None
            }
        }
    }

    /// Looks who consumes which pools, until the coordinator has stopped.
    pub async fn watch_bundles(self) {
        let watching = self
            .bundles
            .watch(self.observer, self.publisher, self.inputs);
        watching.await;
    }

    /// Finds jobs that were dispatched long ago, were not started, and wait in no queue.
    pub async fn find_lost_jobs(self, partitions: Vec<PartitionNo>) {
        match self.lost_jobs(&partitions).await {
            Ok(jobs) if jobs.is_empty() => {}
            Ok(jobs) => self.answer(Input::JobsLost(jobs)),
            Err(error) => {
                tracing::warn!(error = chain(&error), "lost jobs cannot be looked for");
            }
        }
    }

    /// The queues are looked at before the jobs are loaded: those of a pool whose jobs merely wait would
    /// take the places of lost ones, at each look again.
    async fn lost_jobs(&self, partitions: &[PartitionNo]) -> Result<Vec<LostJob>, StorageError> {
        let after_s = self.resend_after_s;
        let mut empty = Vec::new();
        let looking = storage::load_silent_pools(&self.pool, partitions, after_s);
        for pool in within(ORDER_LIMIT, looking).await? {
            if self.is_empty(&pool).await {
                empty.push(pool);
            }
        }
        if empty.is_empty() {
            return Ok(Vec::new());
        }
        let loading = storage::load_silent_jobs(&self.pool, partitions, &empty, after_s);
        let lost = within(ORDER_LIMIT, loading).await?;
        let mut by_pool: BTreeMap<&str, usize> = BTreeMap::new();
        for (_, pool) in &lost {
            *by_pool.entry(pool).or_default() += 1;
        }
        for (pool, jobs) in by_pool {
            tracing::warn!(pool, jobs, "jobs were lost and are published again");
        }
        Ok(lost.into_iter().map(|(job, _)| job).collect())
    }

    /// Whether no job of a pool waits in a queue. Behind other jobs one may wait for as long as it takes.
    async fn is_empty(&self, pool: &str) -> bool {
        match self.depth(&names::bundles_queue(pool)).await {
            Some(0) => self.depth(&names::jobs_queue(pool)).await == Some(0),
            Some(_) => {
                self.bundles.include(pool);
                false
            }
            None => false,
        }
    }

    /// Tells all workers; one that does not hear it is told again, or waited for.
    pub fn send_cancels(&self, cancels: &[TaskCancel]) {
        for cancel in cancels {
            drop(tokio::spawn(
                self.publisher.enqueue(Outgoing::cancel(cancel)),
            ));
        }
    }

    pub async fn mark_suspect(self, delivery: DeliveryId, key: String) {
        let mark = loop {
            let marking = storage::mark_suspect(&self.pool, &key, self.owner, self.lease_s);
            match within(ORDER_LIMIT, marking).await {
                Ok(mark) => break mark,
                Err(error) => {
                    tracing::warn!(error = chain(&error), "a suspect cannot be marked");
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
            }
        };
        self.answer(Input::SuspectMarked {
            delivery,
            key,
            mark,
        });
    }

    pub async fn clear_suspect(self, key: String) {
        // Others wait for as long as the mark of a living coordinator stands.
        loop {
            let clearing = storage::clear_suspect(&self.pool, &key, self.owner);
            let Err(error) = within(ORDER_LIMIT, clearing).await else {
                return;
            };
            tracing::warn!(error = chain(&error), "the mark of a suspect stays");
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    pub async fn renew(self, held: Vec<(PartitionNo, Epoch)>) {
        let renewing = storage::renew_leases(&self.pool, self.owner, &held, self.lease_s);
        if let Err(error) = within(ORDER_LIMIT, renewing).await {
            tracing::warn!(error = chain(&error), "leases could not be renewed");
        }
    }

    pub async fn send_probe(self, probe: CoordinatorProbe) {
        let partition = probe.partition;
        match self.publisher.publish(Outgoing::probe(&probe)).await {
            PublishOutcome::Confirmed => self.answer(Input::ProbeSent { partition }),
            PublishOutcome::Returned | PublishOutcome::Nacked | PublishOutcome::Unknown => {
                tokio::time::sleep(AGAIN_AFTER).await;
                self.answer(Input::ProbeFailed { partition });
            }
        }
    }
}
