//! One attempt: a handler under its time limit, with its panics caught.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use flotilla_protocol::RawJson;
use flotilla_protocol::message::TaskJob;
use futures::FutureExt;
use tokio::sync::oneshot;
use tracing::Instrument;

use crate::action::{Actions, Handler, Instant, Waiting};
use crate::completion::{Outcome, Run, encode};
use crate::context::{Context, Leftovers};
use crate::error::ActionError;
use crate::log::AttemptLog;
use crate::pulse::Pulse;
use crate::secrets::{Mask, fill_in};
use crate::service::JobKey;

/// A job that is about to run.
pub(crate) struct Attempt {
    pub(crate) key: JobKey,
    started_at: DateTime<Utc>,
    context: Context,
    input: RawJson,
    mask: Mask,
}

/// How an attempt that had to wait came to its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// With a completion, written as JSON.
    Completed(Vec<u8>),
    /// The worker is stopping: there is no completion, the job goes back to its queue.
    Abandoned,
}

/// Why a running attempt has to end early.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The worker is stopping.
    Abandon,
    /// A cancel asked for it, for this reason.
    Cancel(String),
}

impl Attempt {
    pub(crate) fn new(
        job: TaskJob,
        worker: &Arc<str>,
        mask: Mask,
        log: AttemptLog,
        pulse: Pulse,
    ) -> Self {
        let key = JobKey::from(&job);
        let context = Context {
            execution_id: job.execution_id,
            task_id: job.task_id,
            attempt: job.attempt,
            idempotency_key: job.idempotency_key,
            workflow: job.workflow,
            task: job.task,
            item: job.item,
            timeout: job.timeout.and_then(time_limit),
            worker: Arc::clone(worker),
            leftovers: Leftovers::default(),
            log,
            pulse,
        };
        Self {
            key,
            started_at: context.pulse.started_at(),
            context,
            input: job.input,
            mask,
        }
    }

    /// Its signs of life.
    pub(crate) fn pulse(&self) -> Pulse {
        self.context.pulse.clone()
    }

    /// Calls a handler that answers at once.
    pub(crate) fn run_instant(self, handler: Instant) -> Vec<u8> {
        let answer = self.span().in_scope(|| {
            let calling = AssertUnwindSafe(|| handler(&self.context, &self.input));
            catch_unwind(calling).unwrap_or_else(|panic| Err(panicked(panic.as_ref())))
        });
        self.context.log.close();
        let run = Run {
            key: self.key,
            worker: &self.context.worker,
            started_at: self.started_at,
        };
        encode(run, Outcome::Answered(answer).masked(&self.mask))
    }

    /// Runs a handler until it answers, its time is over, or `stop` says so; then waits for the
    /// processes that it left over.
    pub(crate) async fn run(self, handler: Waiting, stop: oneshot::Receiver<Stop>) -> Ended {
        let span = self.span();
        self.run_bare(handler, stop).instrument(span).await
    }

    async fn run_bare(self, handler: Waiting, stop: oneshot::Receiver<Stop>) -> Ended {
        let worker = Arc::clone(&self.context.worker);
        let leftovers = self.context.leftovers.clone();
        let log = self.context.log.clone();
        let limit = self.context.timeout;
        let outcome = {
            let (context, input) = (self.context, self.input);
            let handling = AssertUnwindSafe(async move { handler(context, input).await });
            tokio::select! {
                biased;
                answer = handling.catch_unwind() => {
                    Some(Outcome::Answered(answer.unwrap_or_else(|panic| Err(panicked(panic.as_ref())))))
                }
                limit = expiry(limit) => Some(Outcome::TimedOut(limit)),
                Ok(stop) = stop => match stop {
                    Stop::Abandon => None,
                    Stop::Cancel(reason) => Some(Outcome::Cancelled(reason)),
                },
            }
        };
        // The next attempt must not meet the processes of this one.
        leftovers.end().await;
        log.close();
        let run = Run {
            key: self.key,
            worker: &worker,
            started_at: self.started_at,
        };
        outcome.map_or(Ended::Abandoned, |outcome| {
            Ended::Completed(encode(run, outcome.masked(&self.mask)))
        })
    }

    fn span(&self) -> tracing::Span {
        tracing::info_span!(
            "task",
            workflow.id = %self.key.execution_id,
            workflow.name = self.context.workflow,
            task.name = self.context.task,
            attempt = self.key.attempt,
        )
    }
}

/// Answers an attempt that is not run at all.
pub(crate) fn refuse(key: JobKey, worker: &str, error: ActionError) -> Vec<u8> {
    let run = Run {
        key,
        worker,
        started_at: Utc::now(),
    };
    encode(run, Outcome::Answered(Err(error)))
}

/// Answers an attempt that was cancelled before it ran.
pub(crate) fn cancel(key: JobKey, worker: &str, reason: String) -> Vec<u8> {
    let run = Run {
        key,
        worker,
        started_at: Utc::now(),
    };
    encode(run, Outcome::Cancelled(reason))
}

/// Finds the handler of a job, and fills in its secrets; refuses what this worker cannot do.
pub(crate) fn prepare(
    job: &mut TaskJob,
    actions: &Actions,
) -> Result<(Handler, Mask), ActionError> {
    let handler = actions.find(&job.action)?;
    let mask = fill_in(job, |variable| std::env::var(variable).ok())?;
    Ok((handler, mask))
}

/// A limit that cannot be told in seconds is none that would ever be reached.
fn time_limit(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds.max(0.0)).ok()
}

async fn expiry(limit: Option<Duration>) -> Duration {
    match limit {
        Some(limit) => {
            tokio::time::sleep(limit).await;
            limit
        }
        None => std::future::pending().await,
    }
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> ActionError {
    let message = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "the handler panicked".to_owned());
    ActionError::retryable("panic", message)
}
