//! The signs of life of one attempt: what its handler says of its progress, and the heartbeats that a
//! worker sends by itself once a long job is acknowledged.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use flotilla_protocol::RawJson;
use flotilla_protocol::amqp::{Outgoing, Publisher};
use flotilla_protocol::message::TaskStarted;
use tokio::time::Instant;

use crate::service::JobKey;

/// The least time between two heartbeats that a handler causes.
const LEAST_PAUSE: Duration = Duration::from_secs(1);

/// The signs of life of one attempt. Clones speak of the same one.
#[derive(Debug, Clone)]
pub(crate) struct Pulse(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    publisher: Publisher,
    reply_to: Arc<str>,
    key: JobKey,
    worker: Arc<str>,
    started_at: DateTime<Utc>,
    said: Mutex<Said>,
}

/// What was said last.
#[derive(Debug, Default)]
struct Said {
    progress: Option<f64>,
    detail: Option<RawJson>,
    /// Seconds of silence that mean the worker's death, once the job is acknowledged.
    silence_s: Option<f64>,
    at: Option<Instant>,
}

impl Pulse {
    pub(crate) fn new(
        publisher: Publisher,
        reply_to: Arc<str>,
        key: JobKey,
        worker: Arc<str>,
    ) -> Self {
        Self(Arc::new(Shared {
            publisher,
            reply_to,
            key,
            worker,
            started_at: Utc::now(),
            said: Mutex::default(),
        }))
    }

    /// When the attempt has started.
    pub(crate) fn started_at(&self) -> DateTime<Utc> {
        self.0.started_at
    }

    /// The start, as far as it has been told or is to be.
    pub(crate) fn started(&self) -> TaskStarted {
        let shared = &self.0;
        TaskStarted {
            execution_id: shared.key.execution_id,
            task_id: shared.key.task_id,
            attempt: shared.key.attempt,
            worker: Some(shared.worker.to_string()),
            started_at: Some(shared.started_at),
            acknowledged: false,
            heartbeat: None,
            progress: None,
            detail: None,
        }
    }

    /// The announcement that the job is about to be acknowledged.
    pub(crate) fn acknowledgement(&self, silence: Duration) -> TaskStarted {
        let silence_s = silence.as_secs_f64();
        self.lock().silence_s = Some(silence_s);
        TaskStarted {
            acknowledged: true,
            heartbeat: Some(silence_s),
            ..self.started()
        }
    }

    /// The handler says how far it is: told at once, unless something was told just now.
    pub(crate) fn say(&self, progress: Option<f64>, detail: Option<RawJson>) {
        let mut said = self.lock();
        // What is no number is no JSON either.
        said.progress = progress
            .filter(|progress| progress.is_finite())
            .map(|progress| progress.clamp(0.0, 1.0));
        said.detail = detail;
        if said.at.is_none_or(|at| at.elapsed() >= LEAST_PAUSE) {
            self.send(&mut said);
        }
    }

    /// Tells that the attempt is alive, and what its handler said last.
    pub(crate) fn beat(&self) {
        let mut said = self.lock();
        self.send(&mut said);
    }

    /// Nothing waits for it: the next one says the same.
    fn send(&self, said: &mut Said) {
        said.at = Some(Instant::now());
        let alive = TaskStarted {
            heartbeat: said.silence_s,
            progress: said.progress,
            detail: said.detail.clone(),
            ..self.started()
        };
        let message = Outgoing::heartbeat(&self.0.reply_to, &alive);
        // A message whose outcome nobody waits for would not be sent.
        drop(tokio::spawn(self.0.publisher.enqueue(message)));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Said> {
        self.0.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
