//! The loop of a running worker: take what has happened, start jobs, send, acknowledge.
//!
//! ```text
//! session.rs ── deliveries ──> jobs.rs ──> attempt.rs ── completions ──> gather.rs ──> outbound.rs
//!  ▲  │                          ├ held.rs (what is here, so that nothing runs beside itself)  │
//!  │  ├ pool.rs (one each)       ├ backlog.rs (what waits, and whose turn it is)               │
//!  │  │                          ├ announce.rs (what is told before it runs, and waits)        │
//!  │  └ listen.rs ── cancels ──> cancel.rs (what ends early, or shall not run)                 │
//!  │                             long.rs (what is acknowledged before its end, and heartbeats) │
//!  └─────────────── acks.rs <──────────────────── confirmed ───────────────────────────────────┘
//! ```
//!
//! A job is acknowledged only after the broker has confirmed its completion. The loop never waits
//! for a single thing: publishes, attempts and reconnects are all events to it.

mod acks;
mod announce;
mod backlog;
mod cancel;
mod gather;
mod held;
mod jobs;
mod listen;
mod long;
mod outbound;
mod pool;
mod session;

use std::collections::{BTreeSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use flotilla_protocol::amqp::{Delivery, Publisher};
use flotilla_protocol::message::TaskCancel;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use crate::action::Actions;
use crate::attempt::Ended;
use crate::error::WorkerError;
use crate::log::LogSender;
use backlog::Backlog;
use cancel::CancelledAttempts;
use gather::Gatherer;
pub(crate) use held::JobKey;
#[cfg(test)]
pub(crate) use held::tests::key;
use held::{HeldJobs, Receipt};
pub(crate) use listen::cancel_channel;
use outbound::{Outbound, Sent};
pub(crate) use pool::PoolOptions;
pub(crate) use session::{Session, SessionOptions};

/// How many events are taken before the loop sends and acknowledges.
const MAX_EVENTS: usize = 256;
/// How long stopped attempts may take to end their processes.
const STOP_LIMIT: Duration = Duration::from_secs(5);
/// How long closing a connection may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(3);

/// What the loop needs to know of the configuration.
#[derive(Debug)]
pub(crate) struct ServiceOptions {
    pub(crate) worker: Arc<str>,
    pub(crate) concurrency: usize,
    pub(crate) started_after: Duration,
    pub(crate) acknowledge_after: Duration,
    pub(crate) heartbeat: Duration,
    pub(crate) drain_timeout: Duration,
    pub(crate) session: SessionOptions,
}

/// A running worker.
pub(crate) struct Service {
    options: ServiceOptions,
    actions: Actions,
    mode: Mode,
    session: Option<Session>,
    opening: Option<BoxFuture<'static, Session>>,
    sessions: u64,
    held: HeldJobs,
    backlog: Backlog,
    /// Cancels that any session has heard.
    cancels: mpsc::Receiver<TaskCancel>,
    cancelled: CancelledAttempts,
    /// Places taken by jobs that run or are about to.
    taken: usize,
    attempts: JoinSet<(JobKey, Ended)>,
    /// Jobs whose start has not been told, with the time to tell it.
    silent: VecDeque<(Instant, JobKey)>,
    /// Jobs that run, with the time when they are to be acknowledged.
    long: BTreeSet<(Instant, JobKey)>,
    /// Jobs that run and whose silence counts, with the time of their next heartbeat, and the pause
    /// between two of them.
    beating: BTreeSet<(Instant, JobKey, Duration)>,
    /// A suspect whose start was told, and when it may run.
    hesitating: Option<(Instant, JobKey)>,
    gatherer: Gatherer,
    logs: LogSender,
    outbound: Outbound,
}

/// What the worker is up to.
#[derive(Debug, Clone, Copy)]
enum Mode {
    /// It takes jobs.
    Serving,
    /// It ends the jobs that run.
    Draining { until: Instant },
    /// It has stopped the jobs that still ran, and waits for their processes.
    Stopping { until: Instant, jobs: usize },
}

/// What can happen to a running worker.
enum Event {
    ShutdownAsked,
    Sent(Sent),
    Ended(Result<(JobKey, Ended), JoinError>),
    CancelAsked(TaskCancel),
    Delivered(Box<(Receipt, Delivery)>),
    SessionLost,
    SessionOpened(Box<Session>),
    TimePassed,
}

/// The future that ends when the worker shall.
pub(crate) type Shutdown<'a> = Pin<&'a mut (dyn Future<Output = ()> + Send)>;

impl Service {
    pub(crate) fn new(
        options: ServiceOptions,
        actions: Actions,
        session: Session,
        cancels: mpsc::Receiver<TaskCancel>,
        publisher: Publisher,
    ) -> Self {
        Self {
            sessions: session.number,
            session: Some(session),
            ..Self::without_session(options, actions, cancels, publisher)
        }
    }

    /// One that nothing is delivered to yet.
    fn without_session(
        options: ServiceOptions,
        actions: Actions,
        cancels: mpsc::Receiver<TaskCancel>,
        publisher: Publisher,
    ) -> Self {
        Self {
            logs: LogSender::new(publisher.clone(), Arc::clone(&options.worker)),
            options,
            actions,
            mode: Mode::Serving,
            sessions: 0,
            session: None,
            opening: None,
            held: HeldJobs::default(),
            backlog: Backlog::default(),
            cancels,
            cancelled: CancelledAttempts::default(),
            taken: 0,
            attempts: JoinSet::new(),
            silent: VecDeque::new(),
            long: BTreeSet::new(),
            beating: BTreeSet::new(),
            hesitating: None,
            gatherer: Gatherer::default(),
            outbound: Outbound::new(publisher),
        }
    }

    /// Works until the shutdown is asked for and the worker is drained.
    pub(crate) async fn run(mut self, mut shutdown: Shutdown<'_>) -> Result<(), WorkerError> {
        while !self.is_drained() {
            let due = self.next_due();
            let event = self.next_event(shutdown.as_mut(), due).await;
            self.apply(event);
            self.apply_ready(shutdown.as_mut());
            self.start_waiting();
            // Not left to the event alone: under load something else is always there first.
            let now = Instant::now();
            self.time_passed(now);
            self.send_gathered();
            self.acknowledge(now).await;
        }
        let stopped = match self.mode {
            Mode::Serving | Mode::Draining { .. } => 0,
            Mode::Stopping { jobs, .. } => jobs,
        };
        self.close().await;
        match stopped {
            0 => Ok(()),
            jobs => Err(WorkerError::DrainTimedOut { jobs }),
        }
    }

    async fn next_event(&mut self, shutdown: Shutdown<'_>, due: Option<Instant>) -> Event {
        let serving = matches!(self.mode, Mode::Serving);
        tokio::select! {
            biased;
            () = shutdown, if serving => Event::ShutdownAsked,
            sent = self.outbound.next() => Event::Sent(sent),
            Some(ended) = self.attempts.join_next() => Event::Ended(ended),
            Some(request) = self.cancels.recv() => Event::CancelAsked(request),
            event = next_delivery(self.session.as_mut()), if serving => event,
            session = opened(self.opening.as_mut()), if serving => Event::SessionOpened(Box::new(session)),
            () = passed(due) => Event::TimePassed,
        }
    }

    /// Takes what else has happened already, so that it is sent and acknowledged together.
    fn apply_ready(&mut self, mut shutdown: Shutdown<'_>) {
        for _ in 0..MAX_EVENTS {
            match self.next_event(shutdown.as_mut(), None).now_or_never() {
                Some(event) => self.apply(event),
                None => return,
            }
        }
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::ShutdownAsked => self.drain(),
            Event::Sent(sent) => self.sent(sent),
            Event::Ended(Ok((key, ended))) => self.attempt_ended(key, ended),
            Event::Ended(Err(error)) => tracing::error!(%error, "an attempt was lost"),
            Event::CancelAsked(request) => self.cancel_asked(request),
            Event::Delivered(delivered) => {
                let (receipt, delivery) = *delivered;
                self.delivered(receipt, &delivery);
            }
            Event::SessionLost => self.session_lost(),
            Event::SessionOpened(session) => {
                tracing::info!("consuming again");
                self.opening = None;
                self.session = Some(*session);
            }
            // The loop looks at the clock each time around; this has only woken it.
            Event::TimePassed => {}
        }
    }

    fn next_due(&mut self) -> Option<Instant> {
        let until = match self.mode {
            Mode::Serving => None,
            Mode::Draining { until } | Mode::Stopping { until, .. } => Some(until),
        };
        let suspect = self.hesitating.map(|(until, _)| until);
        let acks = self
            .session
            .as_ref()
            .and_then(Session::next_acknowledgement);
        [
            until,
            suspect,
            acks,
            self.next_start_to_tell(),
            self.next_long(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn time_passed(&mut self, now: Instant) {
        self.tell_starts(now);
        self.tend_long(now);
        self.end_hesitation(now);
        match self.mode {
            Mode::Draining { until } if until <= now => self.stop(now),
            Mode::Serving | Mode::Draining { .. } | Mode::Stopping { .. } => {}
        }
    }

    fn send_gathered(&mut self) {
        while let Some(batch) = self.gatherer.next_batch() {
            self.outbound.completions(batch);
        }
    }

    async fn acknowledge(&mut self, now: Instant) {
        if let Some(session) = &mut self.session
            && !session.acknowledge(now).await
        {
            self.session_lost();
        }
    }

    fn session_lost(&mut self) {
        let Some(session) = self.session.take() else {
            return;
        };
        self.deliveries_lost(session.owed());
        // Perhaps only one channel is gone: what the others hold goes back now and not some day.
        tokio::spawn(tokio::time::timeout(CLOSE_LIMIT, session.close()));
        if matches!(self.mode, Mode::Serving) {
            tracing::warn!("the broker's connection was lost, connecting again");
            self.sessions += 1;
            let options = self.options.session.clone();
            self.opening = Some(Box::pin(Session::reopen(self.sessions, options)));
        }
    }

    /// What was delivered and has not begun comes again, and some of it to others.
    fn deliveries_lost(&mut self, owed: impl Iterator<Item = JobKey>) {
        self.held.session_lost(owed);
        let held = &self.held;
        self.backlog.session_lost(|key| held.contains(key));
        self.stop_hesitating();
    }

    fn drain(&mut self) {
        tracing::info!("draining");
        self.opening = None;
        self.mode = Mode::Draining {
            until: Instant::now() + self.options.drain_timeout,
        };
    }

    fn stop(&mut self, now: Instant) {
        let jobs = self.held.begun();
        tracing::warn!(jobs, "the drain took too long");
        self.held.stop_all();
        // Completions have had their time; only processes may need a moment more.
        let limit = if self.attempts.is_empty() {
            Duration::ZERO
        } else {
            STOP_LIMIT
        };
        self.mode = Mode::Stopping {
            until: now + limit,
            jobs,
        };
    }

    fn is_drained(&self) -> bool {
        let is_done = self.held.begun() == 0 && self.attempts.is_empty();
        match self.mode {
            Mode::Serving => false,
            Mode::Draining { .. } => is_done,
            Mode::Stopping { until, .. } => is_done || until <= Instant::now(),
        }
    }

    /// Gives back what has not begun, and disconnects.
    async fn close(self) {
        let closing = async {
            if let Some(session) = self.session {
                session.close().await;
            }
            self.outbound.close().await;
        };
        if tokio::time::timeout(CLOSE_LIMIT, closing).await.is_err() {
            tracing::debug!("the broker did not confirm the close");
        }
    }
}

async fn next_delivery(session: Option<&mut Session>) -> Event {
    match session {
        Some(session) => match session.next().await {
            Some(delivered) => Event::Delivered(Box::new(delivered)),
            None => Event::SessionLost,
        },
        None => std::future::pending().await,
    }
}

async fn opened(opening: Option<&mut BoxFuture<'static, Session>>) -> Session {
    match opening {
        Some(opening) => opening.await,
        None => std::future::pending().await,
    }
}

async fn passed(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
