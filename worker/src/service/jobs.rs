//! What the loop does with a job: from its delivery to the confirm of its completion.

use std::sync::Arc;
use std::time::Duration;

use flotilla_protocol::amqp::{Delivery, Outgoing};
use flotilla_protocol::message::TaskJob;
use flotilla_protocol::{Refusal, Refused, decode_job};
use futures::FutureExt;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Service;
use super::backlog::Standing;
use super::held::{Arrival, Held, JobKey, Phase, Receipt};
use super::outbound::{Sent, Unreadable};
use super::{Ended, Mode};
use crate::action::{Handler, Waiting};
use crate::attempt::{Attempt, prepare, refuse};
use crate::error::ActionError;
use crate::secrets::Mask;

/// Whether the start of a job has been told. It is told once: the coordinator counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    Told,
    Untold,
}

impl Service {
    pub(super) fn delivered(&mut self, receipt: Receipt, delivery: &Delivery) {
        if delivery.is_bundle() && delivery.envelope.redelivered {
            // Later brokers than 3.10 do not count each return, and only the owners of its jobs know which
            // are done: rejected, it comes to them.
            if let Some(session) = &mut self.session {
                session.refuse(receipt);
            }
            return;
        }
        match read(delivery) {
            Ok((job, reply_to)) => {
                let key = JobKey::from(&job);
                match self.held.arrive(key, receipt) {
                    Arrival::Attached => {}
                    Arrival::SentAgain => self.announce_acknowledgement(key),
                    Arrival::Answered => self.done(receipt, Some(key)),
                    Arrival::New => {
                        let delivered = delivery.envelope.delivery_count;
                        let deliveries = delivered.saturating_add(u32::from(job.resent));
                        let standing = Standing::of(deliveries);
                        let runs_before = deliveries.saturating_add(job.starts);
                        let phase = Phase::Waiting(Box::new(job));
                        let held = Held {
                            runs_before,
                            ..Held::new(reply_to, receipt, phase)
                        };
                        self.take(key, held, standing);
                    }
                }
            }
            Err(refused) => self.refuse_delivery(receipt, delivery, refused),
        }
    }

    pub(super) fn take(&mut self, key: JobKey, mut held: Held, standing: Standing) {
        if let Some(reason) = self.cancelled.reason(key, Instant::now()) {
            held.phase = Phase::Ended;
            self.held.insert(key, held);
            return self.complete_cancelled(key, reason);
        }
        self.held.insert(key, held);
        self.backlog.push(key, standing);
        self.start_waiting();
    }

    /// Starts jobs while there are places.
    pub(super) fn start_waiting(&mut self) {
        while self.taken < self.options.concurrency && matches!(self.mode, Mode::Serving) {
            let Some((key, standing)) = self.backlog.next() else {
                return;
            };
            match standing {
                Standing::New => self.begin(key, Start::Untold),
                Standing::Redelivered | Standing::Suspect => self.announce(key),
            }
        }
    }

    pub(super) fn begin(&mut self, key: JobKey, start: Start) {
        let Some(held) = self.held.find(key) else {
            return;
        };
        let Some(mut job) = held.take_job() else {
            return;
        };
        let (reply_to, runs_before) = (Arc::clone(&held.reply_to), held.runs_before);
        match prepare(&mut job, &self.actions) {
            Ok((Handler::Instant(handler), mask)) => {
                let attempt = self.attempt(key, (*job, mask), reply_to, runs_before);
                let completion = attempt.run_instant(handler);
                self.completed(key, completion);
            }
            Ok((Handler::Waiting(handler), mask)) => {
                let silence = job.heartbeat.map(Duration::try_from_secs_f64);
                let attempt = self.attempt(key, (*job, mask), reply_to, runs_before);
                self.spawn(key, attempt, handler);
                if let Some(Ok(silence)) = silence {
                    self.keep_alive(key, silence);
                }
                if start == Start::Told || self.acknowledges_before_telling() {
                    self.watch(key);
                }
                if start == Start::Untold {
                    let due = Instant::now() + self.options.started_after;
                    self.silent.push_back((due, key));
                }
            }
            Err(error) => {
                let completion = refuse(key, &self.options.worker, error);
                self.completed(key, completion);
            }
        }
    }

    fn attempt(
        &self,
        key: JobKey,
        (job, mask): (TaskJob, Mask),
        reply_to: Arc<str>,
        runs_before: u32,
    ) -> Attempt {
        let worker = &self.options.worker;
        let log = self
            .logs
            .attempt(key, Arc::clone(&reply_to), runs_before, mask.clone());
        let pulse = self.outbound.pulse(reply_to, key, Arc::clone(worker));
        Attempt::new(job, worker, mask, log, pulse)
    }

    fn spawn(&mut self, key: JobKey, attempt: Attempt, handler: Waiting) {
        let (stop, stopped) = oneshot::channel();
        if let Some(held) = self.held.find(key) {
            held.phase = Phase::Running {
                pulse: attempt.pulse(),
                stop,
            };
        }
        self.taken += 1;
        let worker = Arc::clone(&self.options.worker);
        self.attempts.spawn(async move {
            // The attempt catches the handler's panics; this is for those of its destructors.
            let running = std::panic::AssertUnwindSafe(attempt.run(handler, stopped));
            let ended = running.catch_unwind().await.unwrap_or_else(|_| {
                let error = ActionError::retryable("panic", "the handler panicked at its end");
                Ended::Completed(refuse(key, &worker, error))
            });
            (key, ended)
        });
    }

    pub(super) fn attempt_ended(&mut self, key: JobKey, ended: Ended) {
        self.taken -= 1;
        match ended {
            Ended::Completed(completion) => self.completed(key, completion),
            Ended::Abandoned => {
                self.held.remove(key);
            }
        }
    }

    pub(super) fn completed(&mut self, key: JobKey, completion: Vec<u8>) {
        if let Some(held) = self.held.find(key) {
            held.phase = Phase::Ended;
            self.gatherer.push(&held.reply_to, key, completion);
        }
    }

    pub(super) fn sent(&mut self, sent: Sent) {
        match sent {
            Sent::Completions { reply_to, keys } => {
                self.gatherer.confirmed(&reply_to);
                for key in keys {
                    self.backlog.answered(key);
                    for receipt in self.held.answered(key, self.sessions) {
                        self.done(receipt, Some(key));
                    }
                }
            }
            Sent::Announcement(key) => self.announced(key),
            Sent::Started => {}
            Sent::Acknowledgement(key) => self.acknowledgement_told(key),
            Sent::DeadLetter(unreadable) => self.dead_letter_sent(unreadable),
        }
    }

    /// A delivery may be acknowledged: that of `job`, if its answer is confirmed.
    pub(super) fn done(&mut self, receipt: Receipt, job: Option<JobKey>) {
        if let Some(session) = &mut self.session {
            session.done(receipt, job);
        }
    }

    /// When the next start is to be told; forgets the jobs that have ended meanwhile.
    pub(super) fn next_start_to_tell(&mut self) -> Option<Instant> {
        while let Some((due, key)) = self.silent.front() {
            let is_running = self
                .held
                .find(*key)
                .is_some_and(|held| matches!(held.phase, Phase::Running { .. }));
            if is_running {
                return Some(*due);
            }
            self.silent.pop_front();
        }
        None
    }

    /// Tells the starts of the jobs that have run for a while.
    pub(super) fn tell_starts(&mut self, now: Instant) {
        while let Some((due, key)) = self.silent.front().copied() {
            if due > now {
                return;
            }
            self.silent.pop_front();
            if let Some(held) = self.held.find(key)
                && let Phase::Running { pulse, .. } = &held.phase
            {
                self.outbound.started(&held.reply_to, &pulse.started());
                if !self.acknowledges_before_telling() {
                    self.watch(key);
                }
            }
        }
    }

    /// A job that cannot be read goes to the dead letters first; if one can tell whose it is, it is
    /// then answered too, so that nobody waits for it.
    fn refuse_delivery(&mut self, receipt: Receipt, delivery: &Delivery, refused: Refused) {
        let Some(session) = &self.session else {
            return;
        };
        let queue = session.queue(receipt);
        tracing::warn!(
            queue,
            reason = refused.refusal.reason(),
            message = refused.message,
            "job refused"
        );
        let message = Outgoing::dead_letter(delivery, queue, refused.refusal);
        let answer = answer_to(delivery, refused);
        self.outbound
            .dead_letter(message, Unreadable { receipt, answer });
    }

    fn dead_letter_sent(&mut self, unreadable: Unreadable) {
        let Unreadable { receipt, answer } = unreadable;
        let Some((key, reply_to, message)) = answer else {
            return self.done(receipt, None);
        };
        match self.held.arrive(key, receipt) {
            Arrival::Attached | Arrival::SentAgain => {}
            Arrival::Answered => self.done(receipt, Some(key)),
            Arrival::New => {
                self.held
                    .insert(key, Held::new(reply_to, receipt, Phase::Ended));
                let error = ActionError::fatal("contract_violation", message);
                let completion = refuse(key, &self.options.worker, error);
                self.completed(key, completion);
            }
        }
    }
}

impl Held {
    fn new(reply_to: Arc<str>, receipt: Receipt, phase: Phase) -> Self {
        Self {
            reply_to,
            receipts: vec![receipt],
            delivered_at: Instant::now(),
            phase,
            runs_before: 0,
            is_acknowledged: false,
        }
    }

    /// The job, if it has not begun.
    pub(super) fn take_job(&mut self) -> Option<Box<TaskJob>> {
        match std::mem::replace(&mut self.phase, Phase::Ended) {
            Phase::Waiting(job) | Phase::Announcing(job) => Some(job),
            begun @ (Phase::Running { .. } | Phase::Ended) => {
                self.phase = begun;
                None
            }
        }
    }
}

fn read(delivery: &Delivery) -> Result<(TaskJob, Arc<str>), Refused> {
    if delivery.is_bundle() {
        // It would have been taken apart if it could.
        delivery.unbundle()?;
    }
    let job = decode_job(&delivery.envelope, &delivery.body)?;
    let reply_to = delivery
        .envelope
        .reply_to
        .as_deref()
        .ok_or_else(|| Refused::new(Refusal::WrongType, "a job without `reply_to`"))?;
    Ok((job, reply_to.into()))
}

/// Whose job it is, as far as that can be told, and what to say. A job of a newer version is not
/// answered: it is to be taken from the dead letters after the upgrade.
fn answer_to(delivery: &Delivery, refused: Refused) -> Option<(JobKey, Arc<str>, String)> {
    if refused.refusal == Refusal::NewerVersion {
        return None;
    }
    let key: JobKey = serde_json::from_slice(&delivery.body).ok()?;
    let reply_to = delivery.envelope.reply_to.as_deref()?;
    // A coordinator refuses an answer to attempt 0 as well.
    (key.attempt > 0).then(|| (key, reply_to.into(), refused.message))
}
