//! Jobs go out once the whole step has been rendered, unless the step has failed the execution.

use flotilla_protocol::RunNo;

use super::changes::{TimerChange, TimerKind, TransitionKind};
use super::log::RunEntry;
use super::run::RunStatus;
use super::step::{Due, Step};
use super::{ExecutionStatus, MAX_JOB_BYTES_PER_STEP, MAX_JOBS_PER_STEP};

impl Step<'_> {
    /// After a failure nothing new starts: retries end, dispatches that were put off are held.
    pub(super) fn end_waits(&mut self) {
        let waits: Vec<(RunNo, RunStatus)> = self
            .execution
            .live
            .values()
            .filter(|run| matches!(run.status, RunStatus::Retrying | RunStatus::Delayed))
            .map(|run| (run.no, run.status))
            .collect();
        for (no, status) in waits {
            let last = self
                .execution
                .live
                .get(&no)
                .and_then(|run| run.ended.clone());
            self.due.retain(|due| due.run != no);
            match last {
                Some(ended) if status == RunStatus::Retrying => self.end_run(no, ended),
                Some(_) | None => {
                    self.clear_timer(no);
                    self.hold(no);
                }
            }
        }
    }

    pub(super) fn dispatch_due(&mut self) {
        let failed = self.execution.status != ExecutionStatus::Running;
        let (mut jobs, mut bytes) = (0, 0);
        for Due { run: no, exempt } in std::mem::take(&mut self.due) {
            if failed && !exempt {
                self.hold(no);
            } else if jobs < MAX_JOBS_PER_STEP && bytes < MAX_JOB_BYTES_PER_STEP {
                jobs += 1;
                bytes += self.dispatch(no);
            } else if let Some(run) = self.execution.live.get_mut(&no) {
                run.status = RunStatus::Delayed;
                self.changes.timers.push(TimerChange::Set {
                    run: no,
                    kind: TimerKind::Dispatch,
                    due: self.now,
                });
            }
        }
    }

    /// Dispatches the next attempt; gives the bytes of its input.
    pub(super) fn dispatch(&mut self, no: RunNo) -> usize {
        let Some(run) = self.execution.live.get_mut(&no) else {
            return 0;
        };
        let from = (run.attempt > 0).then(|| run.status.word());
        run.attempt += 1;
        run.starts = 0;
        run.status = RunStatus::Dispatched;
        run.dispatched_at = Some(self.now);
        run.started_at = None;
        let attempt = run.attempt;
        let bytes = run.input.as_ref().map_or(0, |input| input.text().len());
        self.execution.counts.attempts += 1;
        self.changes.touched.insert(no);
        self.changes.jobs.extend(self.execution.job(no));
        self.log_run(
            TransitionKind::TaskDispatched,
            no,
            RunEntry {
                attempt: Some(attempt),
                from,
                to: Some("dispatched"),
                ..RunEntry::default()
            },
        );
        bytes
    }

    pub(super) fn clear_timer(&mut self, no: RunNo) {
        let Some(run) = self.execution.live.get(&no) else {
            return;
        };
        let has_timer = match run.status {
            RunStatus::Running => run.timeout.is_some(),
            RunStatus::Retrying | RunStatus::Delayed => true,
            RunStatus::Waiting | RunStatus::Dispatched | RunStatus::Ended(_) => false,
        };
        if has_timer {
            self.changes.timers.push(TimerChange::Clear { run: no });
        }
    }
}
