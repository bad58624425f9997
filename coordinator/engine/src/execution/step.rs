//! A step: everything that one event releases, until nothing more follows without a worker.

use std::collections::VecDeque;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use flotilla_protocol::RunNo;

use super::branch::{Branch, SeenTask};
use super::changes::{Changes, TimerKind, TransitionKind};
use super::failure::{ExecutionError, kind};
use super::items::Piece;
use super::log::{Origin, RunEntry, end_detail, retry_detail};
use super::needs::NeededEnd;
use super::retry::Attempts;
use super::routes::Follow;
use super::run::{Run, RunStatus};
use super::{Execution, ExecutionStatus};
use crate::json::Json;
use crate::rule::Need;
use crate::scope::{EndStatus, Ended, TaskView};
use crate::workflow::{FailPolicy, TaskIndex, Workflow};

/// A step under way.
pub(super) struct Step<'a> {
    pub(super) execution: &'a mut Execution,
    pub(super) workflow: Arc<Workflow>,
    pub(super) changes: &'a mut Changes,
    pub(super) now: DateTime<Utc>,
    pub(super) arrivals: VecDeque<Arrival>,
    /// Whether branches that arrive are held back: the execution was failing or paused before this
    /// step, or a route of it led to `fail`. A failure to render does not close the step, so that all such
    /// failures of a step are found.
    pub(super) closed: bool,
    /// Whether the execution had failed before this step in such a way that what runs is told to stop.
    was_stopping: bool,
    /// Whether this step cancels the execution: what is dispatched for its end has its time from now.
    pub(super) cancels: bool,
    /// Rendered runs, to be dispatched when the whole step has been rendered.
    pub(super) due: Vec<Due>,
    /// Whether children begin with a later turn, so that they cannot all follow from each other in one.
    pub(super) defers_children: bool,
}

/// What is next in a step.
pub(super) enum Arrival {
    /// A branch reaches a task.
    Branch {
        from: Option<(RunNo, TaskIndex)>,
        to: TaskIndex,
        branch: Branch,
        /// Whether it goes on although the execution has failed: it stood beside `fail`.
        exempt: bool,
    },
    /// A task has ended that others need.
    Ended(Box<NeededEnd>),
    /// The rule of a task with `needs` says that it runs.
    Decided(RunNo),
}

/// What is rendered, and goes out when the whole step is.
pub(super) enum Due {
    /// The next attempt of a run.
    Attempt { run: RunNo, exempt: bool },
    /// The first items of a task.
    Spread {
        run: RunNo,
        exempt: bool,
        pieces: Vec<Piece>,
    },
    /// Another item of a task.
    Item { of: RunNo, piece: Piece },
}

impl Due {
    pub(super) fn item_index(&self) -> Option<u32> {
        match self {
            Self::Item { piece, .. } => Some(piece.index),
            Self::Attempt { .. } | Self::Spread { .. } => None,
        }
    }

    fn jobs(&self) -> usize {
        match self {
            Self::Attempt { .. } | Self::Item { .. } => 1,
            Self::Spread { pieces, .. } => pieces.len(),
        }
    }
}

impl<'a> Step<'a> {
    pub(super) fn new(
        execution: &'a mut Execution,
        now: DateTime<Utc>,
        changes: &'a mut Changes,
    ) -> Self {
        let workflow = Arc::clone(&execution.workflow);
        execution.collect_open();
        let closed = !execution.starts_new();
        let was_stopping = execution.is_draining() && workflow.fail_policy == FailPolicy::Cancel;
        Self {
            closed,
            was_stopping,
            execution,
            workflow,
            changes,
            now,
            arrivals: VecDeque::new(),
            cancels: false,
            due: Vec::new(),
            defers_children: false,
        }
    }

    /// The first step: a branch reaches each start task.
    pub(super) fn begin(&mut self, branch: &Branch) {
        for index in 0..self.workflow.starts.len() {
            let to = self.workflow.starts[index];
            self.arrivals.push_back(Arrival::Branch {
                from: None,
                to,
                branch: branch.clone(),
                exempt: false,
            });
        }
        self.settle();
    }

    /// Carries on until nothing more follows; then what is left is `finally`, or the end.
    pub(super) fn settle(&mut self) {
        loop {
            self.follow_arrivals();
            self.dispatch_due();
            if !self.conclude() {
                return;
            }
        }
    }

    fn follow_arrivals(&mut self) {
        let mut has_told = self.was_stopping;
        loop {
            while let Some(arrival) = self.arrivals.pop_front() {
                self.arrive(arrival);
            }
            if self.execution.is_draining() {
                self.stop_spreads();
                self.end_waits();
                if self.workflow.fail_policy == FailPolicy::Cancel && !has_told {
                    has_told = true;
                    self.stop_the_rest();
                }
            }
            if self.arrivals.is_empty() && !self.settle_waits() {
                return;
            }
        }
    }

    /// Jobs that are to be dispatched when the whole step is rendered.
    pub(super) fn due_jobs(&self) -> usize {
        self.due.iter().map(Due::jobs).sum()
    }

    /// An attempt has ended: another one follows, or the run has ended.
    pub(super) fn attempt_ended(&mut self, no: RunNo, ended: Ended, retryable: bool) {
        let Some(run) = self.execution.live.get(&no) else {
            return;
        };
        if self.execution.is_stopping(run) {
            return self.end_run(no, ended);
        }
        let task = &self.workflow.tasks[run.task.0];
        let ended = Ended {
            timeout_is_failure: !task.handles_timeout,
            ..ended
        };
        match self.next_attempt(no, &ended, retryable) {
            Ok(Attempts::Over) => self.end_run(no, ended),
            Ok(Attempts::After { delay_s }) => self.schedule_retry(no, ended, delay_s),
            Err(error) => {
                let failed = Ended {
                    result: ended.result.clone(),
                    ..Ended::not_evaluated(&error)
                };
                let origin = Origin {
                    reported: Some(ended),
                    given_up: false,
                };
                self.end_run_of(no, failed, origin);
            }
        }
    }

    fn schedule_retry(&mut self, no: RunNo, ended: Ended, delay_s: f64) {
        self.clear_timer(no);
        let Some(run) = self.execution.live.get_mut(&no) else {
            return;
        };
        let (attempt, from) = (run.attempt, run.status.word());
        run.status = RunStatus::Retrying;
        let detail = retry_detail(&ended, delay_s);
        run.ended = Some(Ended::of_last_attempt(ended.result, ended.error));
        run.unsaved.end = true;
        self.changes.touched.insert(no);
        self.log_run(
            TransitionKind::TaskRetryScheduled,
            no,
            RunEntry {
                attempt: Some(attempt),
                from: Some(from),
                to: Some("retrying"),
                detail: Some(detail),
            },
        );
        if delay_s <= 0.0 && self.execution.starts_new() {
            self.render_or_fail(no, false);
        } else if delay_s <= 0.0 && self.execution.status.is_paused() {
            self.hold_back(no);
        } else {
            let due = super::retry::after(self.now, delay_s);
            self.set_timer(no, TimerKind::Retry, due);
        }
    }

    /// A run has ended: publishes, looks at its routes, and sends its branch on.
    pub(super) fn end_run(&mut self, no: RunNo, ended: Ended) {
        self.end_run_of(no, ended, Origin::default());
    }

    /// Likewise, where the log has more to say of how it came to the end.
    pub(super) fn end_run_of(&mut self, no: RunNo, ended: Ended, origin: Origin) {
        self.clear_timer(no);
        let item = self.execution.live.get(&no).and_then(|run| run.item);
        if let Some(item) = item {
            return self.end_item(no, item, ended, &origin);
        }
        let Some(mut run) = self.execution.live.remove(&no) else {
            return;
        };
        self.execution.open().remove(no);
        let (follow, ended, given) = self.follow(&run, ended);
        let origin = Origin {
            // Of what no worker had, the log says enough.
            reported: origin.reported.or(given).filter(|_| run.is_with_a_worker()),
            ..origin
        };
        let is_old = run.attempt > 0
            || run.status == RunStatus::Spread
            || self.execution.status == ExecutionStatus::Cancelling;
        self.close(&mut run, ended.status, is_old, end_detail(&follow, &origin));
        self.send_on(&run, &ended, follow);
        self.bury(run, ended);
    }

    /// Gives a run its final status, and says so in the log: that it leaves a status if it `is_old`.
    pub(super) fn close(
        &mut self,
        run: &mut Run,
        status: EndStatus,
        is_old: bool,
        detail: Option<Json>,
    ) {
        let from = is_old.then(|| run.status.word());
        run.held = false;
        run.status = RunStatus::Ended(status);
        run.finished_at = Some(self.now);
        self.count_end(status);
        self.log_run(
            TransitionKind::TaskEnded,
            run.no,
            RunEntry {
                attempt: (run.attempt > 0).then_some(run.attempt),
                from,
                to: Some(status.word()),
                detail,
            },
        );
    }

    /// A closed run is not alive any more; its row keeps how it ended.
    pub(super) fn bury(&mut self, mut run: Run, ended: Ended) {
        run.ended = Some(ended);
        run.unsaved.end = true;
        self.changes.touched.remove(&run.no);
        self.changes.ended.push(run);
    }

    pub(super) fn send_on(&mut self, run: &Run, ended: &Ended, follow: Follow) {
        self.execution.last_write += follow.writes.len() as u64;
        for write in &follow.writes {
            self.execution.links.insert(write.no, write.previous);
        }
        self.changes.writes.extend(follow.writes);
        let seen = self.remember(run, ended);
        let task = &self.workflow.tasks[run.task.0];
        let is_needed = !task.needed_by.is_empty() && !run.branch.cut && !self.is_stopped(run);
        let need = Need::of(ended.status, task.ignore_failure);
        let leads_to_fail = follow.taken.iter().any(|taken| taken.targets.fail);
        // What stands beside `fail` runs; of a parallel task that is all of its parts.
        let exempt = if run.branch.cut {
            task.is_part
        } else {
            leads_to_fail
        };
        let handled = follow.taken.iter().any(|taken| {
            !taken.targets.tasks.is_empty() || taken.targets.fail || taken.targets.noop
        });
        let mut goes_on = false;
        for mut taken in follow.taken {
            see(&mut taken.branch, seen.as_ref());
            if taken.targets.tasks.is_empty() {
                self.execution
                    .ends
                    .merge(&taken.branch, &self.execution.links);
            }
            goes_on = true;
            for to in taken.targets.tasks {
                let from = Some((run.no, run.task));
                self.arrivals.push_back(Arrival::Branch {
                    from,
                    to,
                    branch: taken.branch.clone(),
                    exempt,
                });
            }
        }
        let mut branch = follow.branch;
        see(&mut branch, seen.as_ref());
        if is_needed {
            self.arrivals.push_back(Arrival::Ended(Box::new(NeededEnd {
                run: run.no,
                task: run.task,
                need,
                branch: Some(branch),
                is_end: !goes_on,
            })));
        } else if !goes_on {
            self.execution.ends.merge(&branch, &self.execution.links);
        }
        self.note_failure(run, ended, handled, leads_to_fail);
    }

    /// Whether nothing follows the end of a run on account of a cancel.
    pub(super) fn is_stopped(&self, run: &Run) -> bool {
        let is_cancelled = self.execution.status == ExecutionStatus::Cancelling;
        let is_stopping = is_cancelled || self.was_stopping && !run.branch.cut;
        is_stopping && !self.workflow.tasks[run.task.0].is_finally
    }

    /// A failure that nothing handles, or a route to `fail`, makes the execution fail. What ends
    /// because it was cancelled does not.
    fn note_failure(&mut self, run: &Run, ended: &Ended, handled: bool, leads_to_fail: bool) {
        if self.is_stopped(run) {
            return;
        }
        let task = &self.workflow.tasks[run.task.0];
        let (name, task_id) = (Arc::clone(&task.name), self.execution.task_id(run.no));
        let is_handled = handled || task.ignore_failure;
        if ended.is_failure() && !is_handled {
            self.fail_or_hold(run.task, ended.execution_error(&name, task_id));
        } else if leads_to_fail {
            let goes_on = self.workflow.fail_policy == FailPolicy::Continue;
            self.closed |= !goes_on && !self.execution.in_finally();
            let message = format!("task {name} led to `fail`");
            self.fail(ExecutionError {
                task: Some(name),
                task_id: Some(task_id),
                ..ExecutionError::new(kind::EXPLICIT_FAIL, message)
            });
        }
    }

    /// Keeps what `task.<name>` shows of the run, if some expression reads it.
    fn remember(&mut self, run: &Run, ended: &Ended) -> Option<(Arc<str>, SeenTask)> {
        if !self.workflow.watched.contains(&run.task) {
            return None;
        }
        let name = Arc::clone(&self.workflow.tasks[run.task.0].name);
        let view = Arc::new(TaskView {
            status: ended.status,
            result: ended.result.clone(),
            error: ended.error.clone(),
            visits: run.visit,
        });
        let seen = SeenTask { run: run.no, view };
        self.execution
            .last_ended
            .insert(Arc::clone(&name), seen.clone());
        Some((name, seen))
    }
}

/// Lets a branch see the run that has just ended, if some expression reads it.
fn see(branch: &mut Branch, seen: Option<&(Arc<str>, SeenTask)>) {
    if let Some((name, seen)) = seen {
        Arc::make_mut(&mut branch.tasks).insert(Arc::clone(name), seen.clone());
    }
}
