//! The engine alone: an execution whose jobs are answered one by one, in the order in which they are
//! dispatched. What is measured is what a coordinator asks of the engine: the start, and for each
//! completion its step.

use std::collections::VecDeque;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use flotilla_engine::execution::{
    AttemptId, Changes, Event, Execution, Job, Report, Start, TimerChange, TimerKind, start,
};
use flotilla_engine::{Json, Workflow, compile};
use flotilla_protocol::message::CompletionStatus;
use flotilla_protocol::{ExecutionId, RunNo};
use flotilla_turn::{Held, Kept};
use uuid::Uuid;

use crate::definition;
use crate::meter::Meter;

/// The parameters of every execution.
const PARAMETERS: &str = r#"{"start":1}"#;
/// When all of it happens, in seconds since 1970: time stands still.
const NOW_S: i64 = 1_700_000_000;

/// The time at which all of it happens.
pub fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(NOW_S, 0).unwrap_or_default()
}

/// The id of an execution by its number.
pub fn execution_id(number: u64) -> ExecutionId {
    ExecutionId(Uuid::from_u128(
        0x0190_0000_0000_7000_8000_0000_0000_0000 + u128::from(number),
    ))
}

/// The parameters as they come in a message.
pub fn parameters() -> Json {
    Json::parse(PARAMETERS.to_owned()).expect("it is JSON")
}

/// The starts of `executions` executions of a workflow, and all their completions. A unit is a
/// completion.
pub fn completions(meter: &mut Meter, workflow: &Arc<Workflow>, executions: u64) {
    for number in 0..executions {
        let mut player = Player::start(meter, workflow, number, None);
        while player.next(meter) {}
        let status = player.held.execution.status;
        assert!(status.is_final(), "{status:?} after all jobs");
    }
}

/// The compilation of a definition. A unit is a task.
pub fn compilations(meter: &mut Meter, width: u32, times: u64) {
    let source = definition::fanout_source(width);
    for _ in 0..times {
        let compiled = meter.measure(u64::from(width) + 2, || compile(&source));
        assert!(compiled.is_ok(), "the definition of a case is refused");
    }
}

/// An execution that is made of its rows again, after so many completions. A unit is an execution.
pub fn restores(meter: &mut Meter, workflow: &Arc<Workflow>, completions: usize, times: u64) {
    let mut unmeasured = Meter::default();
    let rows = Some(Kept::default());
    let mut player = Player::start(&mut unmeasured, workflow, 0, rows);
    for _ in 0..completions {
        assert!(player.next(&mut unmeasured), "the execution has ended");
    }
    let rows = player.rows.expect("they are kept");
    for _ in 0..times {
        let held = meter.measure(1, || rows.load(workflow));
        let held = held.expect("it was written").expect("our own rows");
        assert_eq!(held.execution.last_seq, player.held.execution.last_seq);
    }
}

/// One execution, and what it has asked for.
struct Player {
    held: Held,
    jobs: VecDeque<Job>,
    /// Timers that are due at once: dispatches that a step has put off.
    due: VecDeque<(RunNo, TimerKind)>,
    rows: Option<Kept>,
}

impl Player {
    fn start(meter: &mut Meter, workflow: &Arc<Workflow>, number: u64, rows: Option<Kept>) -> Self {
        let parameters = parameters();
        let request = Start {
            id: execution_id(number),
            workflow: Arc::clone(workflow),
            parameters: Some(parameters.raw()),
            parent: None,
            timeout: None,
        };
        let mut changes = Changes::default();
        let execution = meter.measure(0, || start(request, now(), &mut changes));
        let mut player = Self {
            held: Held::alone(execution.expect("the parameters are right")),
            jobs: VecDeque::new(),
            due: VecDeque::new(),
            rows,
        };
        player.take(changes);
        player
    }

    /// The next thing that happens; false if nothing does any more.
    fn next(&mut self, meter: &mut Meter) -> bool {
        let (event, units) = if let Some((run, kind)) = self.due.pop_front() {
            (Event::TimerFired { run, kind }, 0)
        } else if let Some(job) = self.jobs.pop_front() {
            (completion(&job), 1)
        } else {
            return false;
        };
        let mut changes = Changes::default();
        let execution: &mut Execution = &mut self.held.execution;
        meter.measure(units, || execution.apply(&event, now(), &mut changes));
        self.take(changes);
        true
    }

    fn take(&mut self, changes: Changes) {
        if let Some(rows) = &mut self.rows {
            rows.keep(&mut self.held, &changes, now());
        }
        self.jobs.extend(changes.jobs);
        let due = changes.timers.iter().filter_map(|change| match change {
            TimerChange::Set { run, kind, due } if *due <= now() => Some((*run, *kind)),
            TimerChange::Set { .. } | TimerChange::Clear { .. } => None,
        });
        self.due.extend(due);
    }
}

fn completion(job: &Job) -> Event {
    Event::AttemptEnded {
        attempt: AttemptId {
            task_id: job.task_id,
            attempt: job.attempt,
        },
        report: Box::new(Report {
            status: CompletionStatus::Succeeded,
            // As `core.echo` does.
            result: Some(Json::parse(job.input.text().to_owned()).expect("it is JSON")),
            error: None,
            started_at: Some(now()),
            finished_at: Some(now()),
            worker: Some("bench".to_owned()),
        }),
    }
}
