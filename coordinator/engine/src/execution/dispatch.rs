//! Jobs go out once the whole step has been rendered, unless the step has failed the execution.

use flotilla_protocol::RunNo;

use super::changes::{Job, TimerChange, TimerKind, TransitionKind};
use super::items::Piece;
use super::log::RunEntry;
use super::retry::after;
use super::run::RunStatus;
use super::step::{Due, Step};
use super::{MAX_JOB_BYTES_PER_STEP, MAX_JOBS_PER_STEP};
use crate::json::Json;
use crate::scope::{EndStatus, Ended};

/// What a step has dispatched.
#[derive(Default)]
struct Sent {
    jobs: usize,
    bytes: usize,
}

impl Step<'_> {
    /// After a failure nothing new starts: retries end, dispatches that were put off are held, but for
    /// those of what stands beside `fail`.
    pub(super) fn end_waits(&mut self) {
        let waits: Vec<(RunNo, RunStatus)> = self
            .execution
            .live
            .values()
            .filter(|run| match run.status {
                RunStatus::Retrying => true,
                RunStatus::Delayed => !run.branch.cut,
                RunStatus::Waiting
                | RunStatus::Dispatched
                | RunStatus::Running
                | RunStatus::Spread
                | RunStatus::Ended(_) => false,
            })
            .map(|run| (run.no, run.status))
            .collect();
        for (no, status) in waits {
            let last = self
                .execution
                .live
                .get(&no)
                .and_then(|run| run.ended.clone());
            self.due
                .retain(|due| !matches!(due, Due::Attempt { run, .. } if *run == no));
            let is_item = self
                .execution
                .live
                .get(&no)
                .is_some_and(|run| run.item.is_some());
            match last {
                Some(ended) if status == RunStatus::Retrying => self.end_run(no, ended),
                Some(_) | None if is_item => {
                    self.end_run(no, Ended::without_result(EndStatus::Omitted));
                }
                Some(_) | None => {
                    self.clear_timer(no);
                    self.hold(no);
                }
            }
        }
    }

    pub(super) fn dispatch_due(&mut self) {
        let failed = !self.execution.starts_new();
        let mut sent = Sent::default();
        for due in std::mem::take(&mut self.due) {
            match due {
                Due::Attempt { run, exempt } if failed && !exempt => self.hold(run),
                Due::Attempt { run, .. } => self.send(run, &mut sent),
                Due::Spread { run, exempt, .. } if failed && !exempt => {
                    if let Some(run) = self.execution.live.get_mut(&run) {
                        run.spread = None;
                    }
                    self.hold(run);
                }
                Due::Spread { run, pieces, .. } => {
                    self.begin_spread(run);
                    for piece in pieces {
                        self.send_item(run, piece, &mut sent);
                    }
                    self.put_off_rest(run);
                }
                Due::Item { of, piece } => self.send_item(of, piece, &mut sent),
            }
        }
    }

    fn send_item(&mut self, of: RunNo, piece: Piece, sent: &mut Sent) {
        if let Some(no) = self.create_item(of, piece) {
            self.send(no, sent);
        }
    }

    /// Dispatches a run, or puts it off where the step has dispatched as much as it may.
    fn send(&mut self, no: RunNo, sent: &mut Sent) {
        let is_deferred = self.defers_children && self.execution.runs_workflow(no);
        if sent.jobs < MAX_JOBS_PER_STEP && sent.bytes < MAX_JOB_BYTES_PER_STEP && !is_deferred {
            sent.jobs += 1;
            sent.bytes += self.dispatch(no);
            self.limit_after_cancel(no);
        } else if let Some(run) = self.execution.live.get_mut(&no) {
            run.status = RunStatus::Delayed;
            self.changes.touched.insert(no);
            self.changes.timers.push(TimerChange::Set {
                run: no,
                kind: TimerKind::Dispatch,
                due: self.now,
            });
        }
    }

    /// A run of `finally` holds a cancel up for so long at most.
    fn limit_after_cancel(&mut self, no: RunNo) {
        let execution = &*self.execution;
        let run = execution.live.get(&no);
        if let Some(run) = run.filter(|run| execution.is_cancelling(run)) {
            let due = if self.cancels {
                after(self.now, execution.grace_s(run))
            } else {
                execution.finally_until(run)
            };
            self.changes.timers.push(TimerChange::Set {
                run: no,
                kind: TimerKind::Cancel,
                due,
            });
        }
    }

    /// The timer of a run has fired that waited for its next attempt or its dispatch, or to let more
    /// of its items start.
    pub(super) fn wait_is_over(&mut self, no: RunNo) {
        self.clear_timer(no);
        if self.execution.status.is_paused() {
            self.hold_back_late(no);
        } else if self.execution.spread(no).is_some() {
            self.open_window(no);
        } else {
            let run = self.execution.live.get(&no);
            let exempt = run.is_some_and(|run| run.branch.cut);
            self.begin_run(no, exempt);
        }
        if self.execution.spread(no).is_some() {
            self.rest_timer(no);
        }
    }

    /// Publishes the current attempt again, since its job was lost.
    pub(super) fn resend(&mut self, no: RunNo, reason: &str) {
        if let Some(run) = self.execution.live.get(&no) {
            self.resend_from(no, run.status, reason);
        }
    }

    fn resend_from(&mut self, no: RunNo, from: RunStatus, reason: &str) {
        let Some(run) = self.execution.live.get_mut(&no) else {
            return;
        };
        if run.status == RunStatus::Dispatched {
            run.dispatched_at = Some(self.now);
        }
        let (attempt, to) = (run.attempt, run.status.word());
        self.changes.touched.insert(no);
        self.changes.jobs.extend(self.execution.job(no));
        self.log_run(
            TransitionKind::JobResent,
            no,
            RunEntry {
                attempt: Some(attempt),
                from: Some(from.word()),
                to: Some(to),
                detail: Some(Json::of(&serde_json::json!({ "reason": reason }))),
            },
        );
    }

    /// Publishes the current attempt again, since its worker fell silent.
    pub(super) fn resend_silent(&mut self, no: RunNo) {
        self.clear_timer(no);
        let Some(run) = self.execution.live.get_mut(&no) else {
            return;
        };
        run.status = RunStatus::Dispatched;
        self.resend_from(no, RunStatus::Running, "silent");
        self.rest_timer(no);
    }

    /// Dispatches the next attempt; gives the bytes of its input.
    pub(super) fn dispatch(&mut self, no: RunNo) -> usize {
        let is_child = self.execution.runs_workflow(no);
        let Some(run) = self.execution.live.get_mut(&no) else {
            return 0;
        };
        let from = (run.attempt > 0).then(|| run.status.word());
        run.attempt += 1;
        run.starts = 0;
        // A child begins with the turn.
        (run.status, run.started_at) = if is_child {
            (RunStatus::Running, Some(self.now))
        } else {
            (RunStatus::Dispatched, None)
        };
        run.dispatched_at = Some(self.now);
        let (attempt, to) = (run.attempt, run.status.word());
        let bytes = run.input.as_ref().map_or(0, |input| input.text().len());
        let is_finally = self.workflow.tasks[run.task.0].is_finally;
        self.execution.counts.attempts += 1;
        self.changes.touched.insert(no);
        let job = self.execution.job(no);
        self.changes.jobs.extend(job.map(|job| Job {
            resent: false,
            ..job
        }));
        self.log_run(
            TransitionKind::TaskDispatched,
            no,
            RunEntry {
                attempt: Some(attempt),
                from,
                to: Some(to),
                // Says why it is dispatched though the execution has failed or was cancelled.
                detail: is_finally.then(|| Json::of(&serde_json::json!({ "finally": true }))),
            },
        );
        self.begin_total(no);
        self.rest_timer(no);
        if is_child {
            self.start_child(no);
        }
        bytes
    }

    pub(super) fn clear_timer(&mut self, no: RunNo) {
        let Some(run) = self.execution.live.get(&no) else {
            return;
        };
        let is_cancelling = self.execution.is_cancelling(run);
        let has_timer = match run.status {
            // Whether its job is acknowledged, and it has one of heartbeats, is not kept.
            RunStatus::Running => true,
            RunStatus::Dispatched => is_cancelling || run.until.is_some(),
            RunStatus::Retrying | RunStatus::Delayed => !run.held,
            RunStatus::Spread => {
                let spread = run.spread.as_deref();
                run.until.is_some() || spread.is_some_and(|spread| spread.progress.put_off)
            }
            RunStatus::Waiting | RunStatus::Ended(_) => false,
        };
        if has_timer {
            self.changes.timers.push(TimerChange::Clear { run: no });
        }
        if let Some(spread) = self.spread_mut(no) {
            spread.progress.put_off = false;
        }
    }
}
