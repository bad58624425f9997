//! The driver: hands every input to the turn logic and carries out what it asks for.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flotilla_protocol::amqp::{ConnectOptions, Connection, Publisher, PublisherOptions, declare};
use flotilla_turn::message::DeliveryId;
use flotilla_turn::{Config, Effect, Input, LoadRequest, Turns};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::bundles::Bundles;
use crate::clock::DatabaseClock;
use crate::database::{CommitOrder, Workflows, commit_all, load_all};
use crate::failpoints::{self, CrashPoint, crash_at};
use crate::inbound::Inbound;
use crate::orders::{ORDER_LIMIT, Orders};
use crate::outbound::Outbound;
use crate::shared_connection::SharedConnection;
use crate::storage::{self, within};
use crate::task_logs::LogWriter;
use crate::{CoordinatorConfig, CoordinatorError};

/// Time between two ticks.
const TICK: Duration = Duration::from_millis(100);
/// Shortest wait for a timer: one that is due may have to wait for a probe.
const SHORTEST_WAIT: Duration = Duration::from_millis(5);
/// Inputs that are handed over before a turn may begin.
const MAX_INPUTS: usize = 4096;
/// Executions kept in memory.
const CACHED_EXECUTIONS: usize = 20_000;
/// Publications without a confirm above which starts wait.
const MAX_UNCONFIRMED: usize = 10_000;
/// How long a clean stop may take before what is left is left to others.
const STOP_LIMIT: Duration = Duration::from_secs(20);
/// How long the database may take for the last that it is told. Leases expire by themselves.
const FAREWELL_LIMIT: Duration = Duration::from_secs(10);
/// Looks for lost jobs within the time after which a job counts as lost.
const LOST_JOBS_LOOKS: f64 = 3.0;

/// A coordinator that runs.
pub(crate) struct Driver {
    orders: Orders,
    clock: DatabaseClock,
    commit_sent: Instant,
    turns: Turns,
    inputs: mpsc::UnboundedReceiver<Input>,
    inbound: Inbound,
    outbound: Outbound,
    commits: mpsc::UnboundedSender<CommitOrder>,
    loads: mpsc::UnboundedSender<LoadRequest>,
    effects: Vec<Effect>,
    /// Partitions that are being let go; nothing of the turns waits for that.
    releases: JoinSet<()>,
    stopped: bool,
}

impl Driver {
    /// Connects to both servers and announces itself.
    pub async fn start(config: CoordinatorConfig) -> Result<Self, CoordinatorError> {
        let pool = storage::connect(&config.database_url).await?;
        let owner = Uuid::now_v7();
        let registering = storage::register_coordinator(&pool, owner, &config.name);
        let (now, partitions) = within(ORDER_LIMIT, registering).await?;
        let options = ConnectOptions::new(
            &config.amqp_url,
            format!("flotilla coordinator {}", config.name),
        );
        let connection = Connection::open_with(&options).await?;
        declare(&connection, partitions).await?;
        connection.close().await;
        let (sender, inputs) = mpsc::unbounded_channel();
        let publisher = Publisher::start(PublisherOptions::new(options.clone()));
        let (commits, commit_orders) = mpsc::unbounded_channel();
        let (loads, load_requests) = mpsc::unbounded_channel();
        let url = config.database_url.clone();
        tokio::spawn(commit_all(url.clone(), commit_orders, sender.clone()));
        tokio::spawn(load_all(
            url,
            Arc::new(Workflows::default()),
            load_requests,
            sender.clone(),
        ));
        let turns = Turns::new(
            Config {
                owner,
                lease_s: config.lease_s,
                cached_executions: CACHED_EXECUTIONS,
                max_unconfirmed: MAX_UNCONFIRMED,
                lost_jobs_interval_s: config.resend_after_s / LOST_JOBS_LOOKS,
            },
            now,
        );
        let bundles = Bundles::default();
        let orders = Orders {
            owner,
            lease_s: config.lease_s,
            resend_after_s: config.resend_after_s,
            logs: LogWriter::start(pool.clone()),
            pool,
            publisher: publisher.clone(),
            observer: Arc::new(SharedConnection::new(options.clone())),
            bundles: bundles.clone(),
            inputs: sender.clone(),
        };
        tokio::spawn(orders.clone().listen(config.database_url));
        tokio::spawn(orders.clone().watch_publisher());
        tokio::spawn(orders.clone().watch_bundles());
        Ok(Self {
            orders,
            clock: DatabaseClock::new(now),
            commit_sent: Instant::now(),
            turns,
            inputs,
            inbound: Inbound::new(options, sender.clone()),
            outbound: Outbound::new(publisher, bundles, sender),
            commits,
            loads,
            effects: Vec::new(),
            releases: JoinSet::new(),
            stopped: false,
        })
    }

    /// Runs until `shutdown`, then stops cleanly.
    pub async fn run(
        mut self,
        shutdown: impl Future<Output = ()> + Send,
        ready: impl FnOnce() + Send,
    ) {
        let mut shutdown = pin!(shutdown);
        let mut ready = Some(ready);
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut stop_at: Option<tokio::time::Instant> = None;
        while !self.stopped {
            let due = self.turns.next_due().map(|due| self.clock.until(due));
            let wake = due.unwrap_or(TICK).clamp(SHORTEST_WAIT, TICK);
            tokio::select! {
                biased;
                () = &mut shutdown, if stop_at.is_none() => {
                    stop_at = Some(tokio::time::Instant::now() + STOP_LIMIT);
                    self.handle(Input::Stop);
                }
                _ = tick.tick() => self.handle(Input::Tick),
                input = self.inputs.recv() => {
                    if let Some(input) = input {
                        self.take_inputs(input);
                    }
                }
                () = tokio::time::sleep(wake) => {}
            }
            self.advance().await;
            if ready.is_some() && self.turns.consumes() {
                ready.take().into_iter().for_each(|ready| ready());
            }
            if stop_at.is_some_and(|at| tokio::time::Instant::now() > at) {
                tracing::warn!(
                    "not everything was finished in time; another coordinator carries on"
                );
                break;
            }
        }
        self.inbound.shut_down().await;
        self.outbound.publisher().close().await;
        self.orders.observer.close().await;
        leave(self.releases, &self.orders.pool).await;
    }

    /// Takes all inputs that are there, so that they make one turn.
    fn take_inputs(&mut self, first: Input) {
        self.handle(first);
        for _ in 0..MAX_INPUTS {
            let Ok(input) = self.inputs.try_recv() else {
                return;
            };
            self.handle(input);
        }
    }

    fn handle(&mut self, input: Input) {
        match &input {
            Input::CommitAnswered(flotilla_turn::rows::CommitAnswer::Committed { now }) => {
                self.clock.learn(*now, self.commit_sent);
                crash_at(CrashPoint::AfterCommit);
            }
            Input::PublishConfirmed(_) => crash_at(CrashPoint::AfterPublish),
            Input::Tick
            | Input::ChannelOpened { .. }
            | Input::ChannelClosed { .. }
            | Input::Delivered(_)
            | Input::Loaded(_)
            | Input::LoadFailed(_)
            | Input::TimersLoaded { .. }
            | Input::CommitAnswered(_)
            | Input::PartitionsFreed
            | Input::WorkflowRegistered
            | Input::PartitionsTaken { .. }
            | Input::PublishReturned(_)
            | Input::PublishFailed(_)
            | Input::PublisherChanged { .. }
            | Input::PoolDeclared(_)
            | Input::QueueInspected { .. }
            | Input::JobsLost(_)
            | Input::Forwarded(_)
            | Input::SuspectMarked { .. }
            | Input::ProbeSent { .. }
            | Input::ProbeFailed { .. }
            | Input::Stop => {}
        }
        let now = self.clock.now();
        self.turns.handle(now, input, &mut self.effects);
    }

    async fn advance(&mut self) {
        self.turns.advance(self.clock.now(), &mut self.effects);
        for effect in std::mem::take(&mut self.effects) {
            self.carry_out(effect).await;
        }
    }

    async fn acknowledge(&mut self, delivery: DeliveryId) {
        let written = self.inbound.acknowledge(delivery);
        if failpoints::ENABLED {
            // An error says that the channel has ended: nothing was acknowledged.
            let _ = written.await;
        }
    }

    async fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::TakePartitions => {
                tokio::spawn(self.orders.clone().take_partitions());
            }
            Effect::ReleasePartitions { held, resigns } => {
                while self.releases.try_join_next().is_some() {}
                self.releases
                    .spawn(self.orders.clone().release(held, resigns));
            }
            Effect::OpenChannel {
                channel,
                generation,
            } => self.inbound.open(channel, generation),
            Effect::CloseChannel {
                channel,
                generation,
            } => self.inbound.close(channel, generation),
            Effect::Load(request) => drop(self.loads.send(request)),
            Effect::LoadTimers {
                partition,
                epoch,
                from,
                until,
            } => {
                tokio::spawn(
                    self.orders
                        .clone()
                        .load_timers(partition, epoch, from, until),
                );
            }
            Effect::Commit { commit, attempts } => {
                crash_at(CrashPoint::BeforeCommit);
                self.commit_sent = Instant::now();
                drop(self.commits.send((commit, attempts)));
            }
            Effect::Acknowledge(delivery) => self.acknowledge(delivery).await,
            Effect::Publish(publications) => {
                crash_at(CrashPoint::AfterAcknowledge);
                self.outbound.publish(&publications);
            }
            Effect::DeclarePool(pool) => {
                tokio::spawn(self.orders.clone().declare_pool(pool));
            }
            Effect::SendCancels(cancels) => self.orders.send_cancels(&cancels),
            Effect::InspectQueue {
                channel,
                generation,
            } => {
                tokio::spawn(self.orders.clone().inspect_queue(channel, generation));
            }
            Effect::FindLostJobs(partitions) => {
                tokio::spawn(self.orders.clone().find_lost_jobs(partitions));
            }
            Effect::Forward { delivery, forward } => {
                tokio::spawn(self.orders.forwarding().run(delivery, *forward));
            }
            Effect::MarkSuspect { delivery, key } => {
                tokio::spawn(self.orders.clone().mark_suspect(delivery, key));
            }
            Effect::ClearSuspect { key } => {
                drop(tokio::spawn(self.orders.clone().clear_suspect(key)));
            }
            Effect::Renew(held) => drop(tokio::spawn(self.orders.clone().renew(held))),
            Effect::SendProbe(probe) => {
                tokio::spawn(self.orders.clone().send_probe(probe));
            }
            Effect::Stopped => self.stopped = true,
        }
    }
}

/// Waits for what the database is still being told, but not for ever.
async fn leave(mut releases: JoinSet<()>, pool: &sqlx::PgPool) {
    let leaving = async {
        while releases.join_next().await.is_some() {}
        pool.close().await;
    };
    if tokio::time::timeout(FAREWELL_LIMIT, leaving).await.is_err() {
        tracing::warn!("the database does not answer; leases that are left expire");
    }
}
