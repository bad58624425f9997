//! A step: everything that one event releases, until nothing more follows without a worker.

use std::collections::VecDeque;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use flotilla_protocol::RunNo;

use super::branch::{Branch, SeenTask};
use super::changes::{Changes, TimerChange, TimerKind, Transition, TransitionKind};
use super::failure::{ExecutionError, FieldError, kind};
use super::retry::Attempts;
use super::routes::Follow;
use super::run::{Run, RunStatus};
use super::sight::Sight;
use super::{Execution, ExecutionStatus, MAX_JOB_BYTES_PER_STEP, MAX_JOBS_PER_STEP, MAX_VISITS};
use crate::json::Json;
use crate::scope::{EndStatus, Ended, TaskView};
use crate::workflow::{Join, TaskIndex, Workflow};

/// A step under way.
pub(super) struct Step<'a> {
    pub(super) execution: &'a mut Execution,
    pub(super) workflow: Arc<Workflow>,
    pub(super) changes: &'a mut Changes,
    pub(super) now: DateTime<Utc>,
    arrivals: VecDeque<Arrival>,
    /// Rendered runs, to be dispatched when the whole step has been rendered.
    due: Vec<Due>,
}

/// A branch that reaches a task.
struct Arrival {
    from: Option<(RunNo, TaskIndex)>,
    to: TaskIndex,
    branch: Branch,
    /// Whether it goes on although the execution has failed: it stood beside `fail`.
    exempt: bool,
}

struct Due {
    run: RunNo,
    exempt: bool,
}

impl<'a> Step<'a> {
    pub(super) fn new(
        execution: &'a mut Execution,
        now: DateTime<Utc>,
        changes: &'a mut Changes,
    ) -> Self {
        let workflow = Arc::clone(&execution.workflow);
        Self {
            execution,
            workflow,
            changes,
            now,
            arrivals: VecDeque::new(),
            due: Vec::new(),
        }
    }

    /// The first step: a branch reaches each start task.
    pub(super) fn begin(&mut self, branch: &Branch) {
        for index in 0..self.workflow.starts.len() {
            let to = self.workflow.starts[index];
            self.arrivals.push_back(Arrival {
                from: None,
                to,
                branch: branch.clone(),
                exempt: false,
            });
        }
        self.settle();
    }

    /// Carries on until nothing more follows, then ends the execution if nothing is left.
    pub(super) fn settle(&mut self) {
        loop {
            while let Some(arrival) = self.arrivals.pop_front() {
                self.arrive(arrival);
            }
            if self.execution.status == ExecutionStatus::Failing {
                self.end_waits();
            }
            if self.arrivals.is_empty() {
                break;
            }
        }
        self.dispatch_due();
        self.finish_if_over();
    }

    /// An attempt has ended: another one follows, or the run has ended.
    pub(super) fn attempt_ended(&mut self, no: RunNo, ended: Ended, retryable: bool) {
        let Some(run) = self.execution.live.get(&no) else {
            return;
        };
        let task = &self.workflow.tasks[run.task.0];
        let ended = Ended {
            timeout_is_failure: !task.handles_timeout,
            ..ended
        };
        match self.next_attempt(no, &ended, retryable) {
            Ok(Attempts::Over) => self.end_run(no, ended),
            Ok(Attempts::After { delay_s }) => self.schedule_retry(no, ended, delay_s),
            Err(error) => self.end_run(no, Ended::not_evaluated(&error)),
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
        run.ended = Some(ended);
        run.unsaved.end = true;
        self.changes.touched.insert(no);
        self.log_run(
            TransitionKind::TaskRetryScheduled,
            no,
            Some(attempt),
            Some(from),
            Some("retrying"),
            Some(detail),
        );
        if delay_s <= 0.0 && self.execution.status == ExecutionStatus::Running {
            self.resume(no);
        } else {
            let due = super::retry::after(self.now, delay_s);
            self.changes.timers.push(TimerChange::Set {
                run: no,
                kind: TimerKind::Retry,
                due,
            });
        }
    }

    /// Renders a run whose wait is over, for its next attempt.
    pub(super) fn resume(&mut self, no: RunNo) {
        self.clear_timer(no);
        self.render_or_fail(no, false);
    }

    /// A run has ended: publishes, looks at its routes, and sends its branch on.
    pub(super) fn end_run(&mut self, no: RunNo, ended: Ended) {
        self.clear_timer(no);
        let Some(mut run) = self.execution.live.remove(&no) else {
            return;
        };
        let task = run.task;
        let (follow, ended) = self.follow(&run, ended);
        let from = (run.attempt > 0).then(|| run.status.word());
        run.status = RunStatus::Ended(ended.status);
        run.finished_at = Some(self.now);
        self.count_end(ended.status);
        let detail = follow.detail();
        let attempt = (run.attempt > 0).then_some(run.attempt);
        self.log_run(
            TransitionKind::TaskEnded,
            no,
            attempt,
            from,
            Some(ended.status.word()),
            detail,
        );
        self.send_on(&run, &ended, follow);
        run.ended = Some(ended);
        run.unsaved.end = true;
        self.changes.touched.remove(&no);
        debug_assert!(self.workflow.tasks[task.0].index == task);
        self.changes.ended.push(run);
    }

    fn send_on(&mut self, run: &Run, ended: &Ended, follow: Follow) {
        self.execution.last_write += follow.writes.len() as u64;
        for write in &follow.writes {
            self.execution.links.insert(write.no, write.previous);
        }
        self.changes.writes.extend(follow.writes);
        let seen = self.remember(run, ended);
        let exempt = follow.taken.iter().any(|taken| taken.targets.fail);
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
                self.arrivals.push_back(Arrival {
                    from,
                    to,
                    branch: taken.branch.clone(),
                    exempt,
                });
            }
        }
        if !goes_on {
            let mut branch = follow.branch;
            see(&mut branch, seen.as_ref());
            self.execution.ends.merge(&branch, &self.execution.links);
        }
        let (name, task_id) = (
            Arc::clone(&self.workflow.tasks[run.task.0].name),
            self.execution.task_id(run.no),
        );
        if ended.is_failure() && !handled {
            self.fail(ended.execution_error(&name, task_id));
        } else if exempt {
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

    fn arrive(&mut self, arrival: Arrival) {
        let Arrival {
            from,
            to,
            branch,
            exempt,
        } = arrival;
        let arrived = match self.workflow.tasks[to.0].join {
            Some(Join::All) => self.arrive_at_join(to, from, branch),
            None => self.create_run(to, from, branch),
        };
        let Some(no) = arrived else {
            return;
        };
        if self.execution.status != ExecutionStatus::Running && !exempt {
            self.hold(no);
        } else {
            self.enter(no, exempt);
        }
    }

    /// Records an arrival; gives the run of the join if it is complete now.
    fn arrive_at_join(
        &mut self,
        to: TaskIndex,
        from: Option<(RunNo, TaskIndex)>,
        branch: Branch,
    ) -> Option<RunNo> {
        let generation = branch.passed.get(&to).copied().unwrap_or(0);
        let waiting = self.execution.live.values().find(|run| {
            run.task == to
                && run.status == RunStatus::Waiting
                && !run.held
                && run.branch.passed.get(&to).copied().unwrap_or(0) == generation
        });
        let no = match waiting.map(|run| run.no) {
            Some(no) => no,
            None if self.execution.visits[to.0] > generation => {
                self.execution.ends.merge(&branch, &self.execution.links);
                return None;
            }
            None => self.create_run(to, None, Branch::default())?,
        };
        let links = &self.execution.links;
        let run = self.execution.live.get_mut(&no)?;
        run.branch.merge(&branch, links);
        run.unsaved.branch = true;
        if let Some((from_run, from_task)) = from {
            run.caused_by.push(from_run);
            run.arrived.insert(from_task);
        }
        self.changes.touched.insert(no);
        let task = &self.workflow.tasks[to.0];
        let complete = run.arrived.len() >= task.predecessors.len();
        if complete && task.in_cycle {
            *Arc::make_mut(&mut run.branch.passed).entry(to).or_insert(0) += 1;
        }
        let detail = Json::of(
            &serde_json::json!({ "from": from.map(|(run, _)| run), "complete": complete }),
        );
        self.log_run(
            TransitionKind::JoinArrived,
            no,
            None,
            None,
            Some("waiting"),
            Some(detail),
        );
        complete.then_some(no)
    }

    fn create_run(
        &mut self,
        to: TaskIndex,
        from: Option<(RunNo, TaskIndex)>,
        branch: Branch,
    ) -> Option<RunNo> {
        let execution = &mut *self.execution;
        if execution.visits[to.0] >= MAX_VISITS {
            execution.ends.merge(&branch, &execution.links);
            let name = Arc::clone(&self.workflow.tasks[to.0].name);
            let message = format!("task {name} was visited {MAX_VISITS} times (max_runs_per_task)");
            self.fail(ExecutionError {
                task: Some(name),
                ..ExecutionError::new(kind::LIMIT_EXCEEDED, message)
            });
            return None;
        }
        execution.visits[to.0] += 1;
        execution.last_run += 1;
        execution.counts.total += 1;
        execution.counts.active += 1;
        let mut run = Run::new(
            execution.last_run,
            to,
            execution.visits[to.0],
            branch,
            self.now,
        );
        run.caused_by.extend(from.map(|(run, _)| run));
        let no = run.no;
        execution.live.insert(no, run);
        self.changes.touched.insert(no);
        Some(no)
    }

    /// Lets a run in: guard, then nothing, or the action.
    fn enter(&mut self, no: RunNo, exempt: bool) {
        let workflow = Arc::clone(&self.workflow);
        let Some(run) = self.execution.live.get(&no) else {
            return;
        };
        let task = &workflow.tasks[run.task.0];
        if let Some(guard) = &task.when {
            let sight = Sight::of_run(self.execution, run);
            match guard.holds(&sight.scope(&run.branch.vars, None)) {
                Ok(true) => {}
                Ok(false) => return self.end_run(no, Ended::without_result(EndStatus::Skipped)),
                Err(error) => {
                    return self
                        .end_run(no, Ended::not_evaluated(&FieldError::new("when", &error)));
                }
            }
        }
        if task.action.is_none() {
            return self.end_run(no, Ended::succeeded(Json::null()));
        }
        self.render_or_fail(no, exempt);
    }

    fn render_or_fail(&mut self, no: RunNo, exempt: bool) {
        match self.render(no) {
            Ok(()) => self.due.push(Due { run: no, exempt }),
            Err(error) => self.end_run(no, Ended::not_evaluated(&error)),
        }
    }

    /// Keeps a run that must not start, since the execution has failed; a rerun may release it.
    fn hold(&mut self, no: RunNo) {
        if let Some(run) = self.execution.live.get_mut(&no) {
            run.held = true;
            run.status = RunStatus::Waiting;
            self.changes.touched.insert(no);
        }
    }

    /// After a failure nothing new starts: retries end, dispatches that were put off are held.
    fn end_waits(&mut self) {
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

    fn dispatch_due(&mut self) {
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
    fn dispatch(&mut self, no: RunNo) -> usize {
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
            Some(attempt),
            from,
            Some("dispatched"),
            None,
        );
        bytes
    }

    /// The execution has a failure that nothing handles.
    pub(super) fn fail(&mut self, error: ExecutionError) {
        self.execution.errors.push(error);
        if self.execution.status == ExecutionStatus::Running {
            self.set_status(ExecutionStatus::Failing);
        }
    }

    pub(super) fn set_status(&mut self, status: ExecutionStatus) {
        let from = self.execution.status.word();
        self.execution.status = status;
        self.log(Transition {
            seq: 0,
            kind: TransitionKind::ExecutionStatusChanged,
            task_id: None,
            attempt: None,
            from: Some(from),
            to: Some(status.word()),
            detail: None,
        });
    }

    fn clear_timer(&mut self, no: RunNo) {
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

    pub(super) fn count_end(&mut self, status: EndStatus) {
        let counts = &mut self.execution.counts;
        counts.active -= 1;
        *match status {
            EndStatus::Succeeded => &mut counts.succeeded,
            EndStatus::Failed => &mut counts.failed,
            EndStatus::TimedOut => &mut counts.timed_out,
            EndStatus::Cancelled => &mut counts.cancelled,
            EndStatus::Skipped => &mut counts.skipped,
            EndStatus::Omitted => &mut counts.omitted,
        } += 1;
    }

    pub(super) fn log_run(
        &mut self,
        kind: TransitionKind,
        no: RunNo,
        attempt: Option<u32>,
        from: Option<&'static str>,
        to: Option<&'static str>,
        detail: Option<Json>,
    ) {
        let task_id = Some(self.execution.task_id(no));
        self.log(Transition {
            seq: 0,
            kind,
            task_id,
            attempt,
            from,
            to,
            detail,
        });
    }

    /// Adds an entry to the log and gives it its number.
    pub(super) fn log(&mut self, mut transition: Transition) {
        self.execution.last_seq += 1;
        transition.seq = self.execution.last_seq;
        self.changes.transitions.push(transition);
    }
}

/// Lets a branch see the run that has just ended, if some expression reads it.
fn see(branch: &mut Branch, seen: Option<&(Arc<str>, SeenTask)>) {
    if let Some((name, seen)) = seen {
        Arc::make_mut(&mut branch.tasks).insert(Arc::clone(name), seen.clone());
    }
}

fn retry_detail(ended: &Ended, delay_s: f64) -> Json {
    Json::of(&serde_json::json!({
        "ended": ended.status.word(),
        "error": ended.error.raw(),
        "delay_s": delay_s,
    }))
}
