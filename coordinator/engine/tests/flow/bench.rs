//! The engine under test: the only part that knows how it is called.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use flotilla_engine::Workflow;
use flotilla_engine::execution::{
    AttemptId, Changes, Event, Execution, Job, Outcome, Report, Start, start,
};
use flotilla_protocol::ExecutionId;
use flotilla_protocol::message::CompletionStatus;
use uuid::Uuid;

use crate::spec::name;

/// How an attempt ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Success,
    Failure,
    Timeout,
}

/// An execution and the jobs that nobody has answered, oldest first.
#[derive(Clone)]
pub struct Bench {
    pub execution: Execution,
    pub jobs: Vec<Job>,
    /// What has ended: task, visit and status.
    pub ends: Vec<(String, u32, &'static str)>,
    /// Of each run that has ended: which runs led to it.
    pub causes: BTreeMap<u32, (usize, Vec<u32>)>,
    /// Its status.
    pub statuses: BTreeMap<u32, &'static str>,
    /// All completions so far.
    pub history: Vec<(AttemptId, End)>,
}

impl Bench {
    pub fn new(workflow: &Arc<Workflow>) -> Self {
        let mut changes = Changes::default();
        let request = Start {
            id: ExecutionId(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001)),
            workflow: Arc::clone(workflow),
            parameters: None,
            parent: None,
            timeout: None,
        };
        let execution = start(request, now(), &mut changes).expect("no parameters are asked for");
        let mut bench = Self {
            execution,
            jobs: Vec::new(),
            ends: Vec::new(),
            causes: BTreeMap::new(),
            statuses: BTreeMap::new(),
            history: Vec::new(),
        };
        bench.take(changes);
        bench
    }

    fn take(&mut self, changes: Changes) {
        if let Err(broken) = self.execution.check() {
            panic!("{broken}");
        }
        self.jobs.extend(changes.jobs);
        for run in changes.ended {
            let task = name(run.task.0);
            self.ends.push((task, run.visit, run.status.word()));
            self.statuses.insert(run.no, run.status.word());
            self.causes.insert(run.no, (run.task.0, run.caused_by));
        }
    }

    /// Answers one of the jobs.
    pub fn answer(&mut self, at: usize, end: End) {
        let job = self.jobs.remove(at);
        let attempt = AttemptId {
            task_id: job.task_id,
            attempt: job.attempt,
        };
        let (outcome, changes) = self.complete(attempt, end);
        assert_eq!(outcome, Outcome::Applied, "{} was waited for", job.task);
        self.history.push((attempt, end));
        self.take(changes);
    }

    fn complete(&mut self, attempt: AttemptId, end: End) -> (Outcome, Changes) {
        let status = match end {
            End::Success => CompletionStatus::Succeeded,
            End::Failure => CompletionStatus::Failed,
            End::Timeout => CompletionStatus::TimedOut,
        };
        let report = Report {
            status,
            result: None,
            error: None,
            started_at: None,
            finished_at: None,
            worker: None,
        };
        let event = Event::AttemptEnded {
            attempt,
            report: Box::new(report),
        };
        let mut changes = Changes::default();
        let outcome = self.execution.apply(&event, now(), &mut changes);
        (outcome, changes)
    }

    /// Sends every completion so far once more; gives how many.
    pub fn repeat_all(&mut self) -> usize {
        self.repeat(0)
    }

    /// Sends the newest completion once more; gives how many that are.
    pub fn repeat_last(&mut self) -> usize {
        self.repeat(self.history.len().saturating_sub(1))
    }

    fn repeat(&mut self, from: usize) -> usize {
        let before = self.execution.clone();
        let again = self.history[from..].to_vec();
        for (attempt, end) in again.iter().copied() {
            let (outcome, changes) = self.complete(attempt, end);
            assert!(
                matches!(outcome, Outcome::Ignored(_)),
                "a duplicate: {outcome:?}"
            );
            assert_eq!(changes, Changes::default(), "a duplicate changes nothing");
        }
        same(&before, &self.execution);
        again.len()
    }

    /// Plays the whole history anew: it comes to the same.
    pub fn replay(&self) {
        let mut again = Self::new(&self.execution.workflow);
        for (attempt, end) in &self.history {
            let is_it =
                |job: &Job| job.task_id == attempt.task_id && job.attempt == attempt.attempt;
            let at = again.jobs.iter().position(is_it);
            again.answer(at.expect("the same job is out"), *end);
        }
        same(&self.execution, &again.execution);
        assert_eq!(self.jobs, again.jobs);
        assert_eq!(self.ends, again.ends);
    }

    /// Task, visit and attempt of each job that waits, sorted.
    pub fn waiting(&self) -> Vec<(String, u32, u32)> {
        let jobs = self.jobs.iter();
        let mut waiting: Vec<_> = jobs
            .map(|job| (job.task.to_string(), job.visit, job.attempt))
            .collect();
        waiting.sort();
        waiting
    }

    pub fn is_over(&self) -> bool {
        self.execution.status.is_final()
    }

    /// The final variables.
    pub fn variables(&self) -> BTreeMap<String, i64> {
        let writes = self.execution.ends.vars.iter();
        writes
            .map(|write| {
                let value = write.value.text().parse().expect("a number");
                (write.name.to_string(), value)
            })
            .collect()
    }
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000, 0).expect("a valid time")
}

/// All that rows keep is the same.
fn same(one: &Execution, other: &Execution) {
    assert_eq!(one.status, other.status);
    assert_eq!(one.counts, other.counts);
    assert_eq!(one.visits, other.visits);
    assert_eq!(
        (one.last_run, one.last_write, one.last_seq),
        (other.last_run, other.last_write, other.last_seq)
    );
    assert_eq!(one.live, other.live);
    assert_eq!(one.ends, other.ends);
    assert_eq!(one.errors, other.errors);
    assert_eq!(one.output, other.output);
    assert_eq!(one.finished_at, other.finished_at);
    assert_eq!(one.flow.fired, other.flow.fired);
    assert_eq!(one.flow.omitted, other.flow.omitted);
    assert_eq!(one.flow.held_failures, other.flow.held_failures);
}
