//! Whatever happens to an execution, its log gives its rows; and rows that somebody has changed are
//! told from those.

mod planted;
mod workflows;

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use flotilla_engine::execution::{
    AttemptId, Changes, Command, Event, Outcome, Report, Start, TimerChange, TimerKind,
    TransitionKind, start,
};
use flotilla_engine::{Json, Workflow, compile};
use flotilla_protocol::message::{CompletionStatus, TaskError};
use flotilla_protocol::{ExecutionId, RunNo};
use serde_json::value::to_raw_value;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{History, fold};
use crate::cache::Held;
use crate::decision::before;
use crate::encode::{self, Before};
use crate::kept;
use crate::rows::Commit;
use workflows::WORKFLOWS;

/// Executions that the random test runs.
const EXECUTIONS: u64 = 1500;

/// What must have happened somewhere for the random test to mean anything.
const EXPECTED: [&str; 33] = [
    "succeeded",
    "failed",
    "cancelled",
    "timed_out",
    "paused",
    "pausing",
    "cancelling",
    "failing",
    "running",
    "task_retry_scheduled",
    "task_retry_scheduled result",
    "task_ended reported",
    "task_ended given_up",
    "task_ended given_up reported",
    "task_ended published reported",
    "task_ended omitted",
    "task_ended skipped",
    "task_ended timed_out",
    "task_started items",
    "task_ended cancelled",
    "job_resent lost",
    "job_resent delivery_limit",
    "control_applied of a run",
    "task_ended timed_out given_up",
    "error workflow_timeout",
    "error invalid_output",
    "error worker_lost",
    "error contract_violation",
    "error unreachable_join",
    "error limit_exceeded",
    "error explicit_fail",
    "task_dispatched finally",
    "control_applied allow_finish",
];

/// `SplitMix64`.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).expect("small")
    }

    fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn of<T: Clone>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())].clone()
    }
}

/// One execution, in memory and in rows.
struct Scene {
    held: Held,
    now: DateTime<Utc>,
    history: Option<History>,
    timers: BTreeMap<RunNo, (TimerKind, DateTime<Utc>)>,
    random: Random,
}

#[test]
fn the_log_gives_the_rows_whatever_happens() {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for seed in 0..EXECUTIONS {
        let mut random = Random(seed);
        let yaml = random.of(&WORKFLOWS);
        let scene = run(yaml, random, seed);
        scene.note(&mut seen);
    }
    for what in EXPECTED {
        assert!(
            seen.contains_key(what),
            "never seen: {what}; seen: {seen:#?}"
        );
    }
}

#[test]
fn the_log_gives_the_rows_of_wide_steps() {
    use std::fmt::Write;
    let mut yaml = "ref: t.wide\ntasks:\n".to_owned();
    for no in 0..262 {
        let retry = if no % 2 == 0 {
            ", retry: {count: 1, delay: 1}"
        } else {
            ""
        };
        writeln!(yaml, "  - {{name: t{no}, action: core.noop{retry}}}").expect("a text");
    }
    for seed in 0..4 {
        run(&yaml, Random(seed), seed);
    }
}

fn run(yaml: &str, random: Random, seed: u64) -> Scene {
    let mut scene = Scene::begin(yaml, random, false);
    for turn in 0..80 {
        if scene.held.execution.status.is_final() {
            break;
        }
        scene.turn();
        if turn % 7 == 0 {
            scene.check(seed);
        }
    }
    scene.check(seed);
    scene
}

impl Scene {
    /// A started execution; unless it is to be `quiet`, the turn of the start may bring more.
    fn begin(yaml: &str, mut random: Random, quiet: bool) -> Self {
        let compiled = compile(yaml).unwrap_or_else(|errors| panic!("{errors:#?}"));
        let now = DateTime::from_timestamp(1_700_000_000, 0).expect("a valid time");
        let given = if yaml.contains("{n: {type") && random.percent(30) {
            json!({"n": 7})
        } else {
            json!({})
        };
        let given = to_raw_value(&given).expect("JSON");
        let mut changes = Changes::default();
        let request = Start {
            id: ExecutionId(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001)),
            workflow: compiled.workflow,
            parameters: Some(&given),
            parent: None,
            timeout: None,
        };
        let execution = start(request, now, &mut changes).expect("the start is accepted");
        let mut scene = Self {
            held: Held {
                execution,
                partition: 0,
                root: None,
                idempotency_key: None,
                tags: BTreeMap::new(),
                reply_to: Vec::new(),
                traceparent: None,
            },
            now,
            history: None,
            timers: BTreeMap::new(),
            random,
        };
        let before = Before {
            is_new: true,
            ..Before::default()
        };
        if !quiet && scene.random.percent(30) {
            scene.event(&mut changes);
        }
        scene.commit(before, &changes);
        scene
    }

    fn apply_one(&mut self, event: &Event) {
        let before = before(&self.held);
        let mut changes = Changes::default();
        let outcome = self.held.execution.apply(event, self.now, &mut changes);
        assert_eq!(outcome, Outcome::Applied);
        self.commit(before, &changes);
    }

    fn workflow(&self) -> Arc<Workflow> {
        Arc::clone(&self.held.execution.workflow)
    }

    /// Some events of one time, and their commit.
    fn turn(&mut self) {
        if self.random.percent(30) {
            self.now += TimeDelta::milliseconds(self.random.of(&[1, 700, 30_000]));
        }
        let next = self.timers.values().map(|(_, due)| *due).min();
        if self.random.percent(30) {
            self.now = next.map_or(self.now, |due| due.max(self.now));
        }
        let before = before(&self.held);
        let mut changes = Changes::default();
        for _ in 0..=self.random.below(3) {
            self.event(&mut changes);
        }
        if changes != Changes::default() {
            self.commit(before, &changes);
        }
        if self.random.percent(30) {
            let history = self.history.as_ref().expect("committed");
            self.held = kept::load(history, &self.workflow()).expect("rows can be read");
        }
    }

    fn commit(&mut self, before: Before, changes: &Changes) {
        let mut commit = Commit::empty(Uuid::nil(), 3.0);
        encode::add_execution(&mut commit, &mut self.held, before, changes, self.now);
        kept::write(&mut self.history, &commit);
        let timers = &self.history.as_ref().expect("committed").timers;
        self.timers = timers
            .iter()
            .map(|row| (row.run, (row.kind, row.due_at)))
            .collect();
    }

    fn event(&mut self, changes: &mut Changes) {
        let event = self.random_event();
        let known = changes.timers.len();
        let log = changes.transitions.len();
        let outcome = self.held.execution.apply(&event, self.now, changes);
        if outcome == Outcome::Applied {
            assert!(changes.transitions.len() > log, "not in the log: {event:?}");
        }
        for change in &changes.timers[known..] {
            match *change {
                TimerChange::Set { run, kind, due } => drop(self.timers.insert(run, (kind, due))),
                TimerChange::Clear { run } => drop(self.timers.remove(&run)),
            }
        }
    }

    fn random_event(&mut self) -> Event {
        match self.random.below(100) {
            0..20 => self.timer(),
            20..22 => Event::Controlled {
                command: Command::Pause,
                message_id: Some("m".to_owned()),
            },
            22..27 => Event::Controlled {
                command: Command::Resume,
                message_id: None,
            },
            27 => Event::Controlled {
                command: Command::Cancel {
                    reason: Some("enough".to_owned()),
                },
                message_id: None,
            },
            28..32 => Event::AttemptAcknowledged {
                attempt: self.attempt(),
                worker: self.worker(),
                started_at: None,
                heartbeat_s: 1.5,
            },
            32..41 => Event::AttemptStarted {
                attempt: self.attempt(),
                worker: self.worker(),
                started_at: self
                    .random
                    .percent(50)
                    .then_some(self.now - TimeDelta::seconds(1)),
            },
            41 => Event::JobLost {
                attempt: self.attempt(),
            },
            42 => Event::JobReturned {
                attempt: self.attempt(),
            },
            43..46 => Event::JobDied {
                attempt: self.attempt(),
                reason: self
                    .random
                    .of(&["delivery_limit", "delivery_limit", "no_action"])
                    .to_owned(),
            },
            46 => Event::CompletionPoisoned {
                attempt: self.attempt(),
                reason: "it cannot be stored".to_owned(),
            },
            _ => Event::AttemptEnded {
                attempt: self.attempt(),
                report: Box::new(self.report()),
            },
        }
    }

    /// The next timer that is due, or one that is not set.
    fn timer(&self) -> Event {
        let next = self.timers.iter().min_by_key(|(_, (_, due))| *due);
        let due = next.filter(|(_, (_, due))| *due <= self.now);
        let (run, kind) = due.map_or((99, TimerKind::Retry), |(run, (kind, _))| (*run, *kind));
        Event::TimerFired { run, kind }
    }

    /// An attempt that is with a worker, or now and then any other.
    fn attempt(&mut self) -> AttemptId {
        let execution = &self.held.execution;
        let with_workers: Vec<(RunNo, u32)> = execution
            .live
            .values()
            .filter(|run| run.is_with_a_worker())
            .map(|run| (run.no, run.attempt))
            .collect();
        let (run, attempt) = if with_workers.is_empty() || self.random.percent(5) {
            let run = 1 + u32::try_from(self.random.below(4)).expect("small");
            (run, 1)
        } else {
            self.random.of(&with_workers)
        };
        AttemptId {
            task_id: self.held.execution.task_id(run),
            attempt,
        }
    }

    fn worker(&mut self) -> Option<String> {
        self.random
            .of(&[None, Some("one".to_owned()), Some("two".to_owned())])
    }

    fn report(&mut self) -> Report {
        use CompletionStatus::{Cancelled, Failed, Succeeded, TimedOut};
        let status = self.random.of(&[
            Succeeded, Succeeded, Succeeded, Succeeded, Succeeded, Succeeded, Failed, Failed,
            TimedOut, Cancelled,
        ]);
        let results: [Option<Value>; 9] = [
            None,
            Some(json!(0)),
            Some(json!(1)),
            Some(json!(2)),
            Some(json!(3)),
            Some(json!(4)),
            Some(json!(5.5)),
            Some(json!({"b": [1, null], "a": {"z": 1e20, "y": "text"}})),
            Some(json!("text")),
        ];
        let kinds = ["broken", "task_timeout", "worker_lost", "invalid_result"];
        let error = TaskError {
            kind: self.random.of(&kinds).to_owned(),
            message: "no".to_owned(),
            retryable: self.random.of(&[None, None, Some(true), Some(false)]),
            details: self
                .random
                .percent(20)
                .then(|| to_raw_value(&results).expect("JSON")),
        };
        Report {
            status,
            result: self.random.of(&results).as_ref().map(Json::of),
            error: self.random.percent(70).then_some(error),
            started_at: self
                .random
                .percent(50)
                .then_some(self.now - TimeDelta::seconds(2)),
            finished_at: None,
            worker: self.worker(),
        }
    }

    /// Notes what the log and the rows say that has happened.
    fn note(&self, seen: &mut BTreeMap<String, usize>) {
        let history = self.history.as_ref().expect("committed");
        let mut words = vec!["running".to_owned()];
        for entry in &history.transitions {
            let kind = entry.kind.word();
            let detail: Value = entry.detail.as_ref().map_or(Value::Null, |detail| {
                serde_json::from_str(detail.text()).expect("JSON")
            });
            let has = |key: &&str| detail.get(*key).is_some();
            let keys: Vec<&str> = [
                "allow_finish",
                "finally",
                "given_up",
                "items",
                "published",
                "reported",
                "result",
            ]
            .into_iter()
            .filter(has)
            .collect();
            words.push(format!("{kind} {}", keys.join(" ")).trim().to_owned());
            let to = entry.to_status.as_deref().unwrap_or_default();
            let reason = detail
                .get("reason")
                .and_then(Value::as_str)
                .unwrap_or_default();
            words.push(match entry.kind {
                TransitionKind::TaskEnded if has(&"given_up") && to == "timed_out" => {
                    format!("{kind} {to} given_up")
                }
                TransitionKind::TaskEnded => format!("{kind} {to}"),
                TransitionKind::ExecutionStatusChanged => to.to_owned(),
                TransitionKind::JobResent => format!("{kind} {reason}"),
                TransitionKind::ControlApplied if entry.task_id.is_some() => {
                    format!("{kind} of a run")
                }
                TransitionKind::ExecutionStarted
                | TransitionKind::TaskDispatched
                | TransitionKind::TaskStarted
                | TransitionKind::TaskRetryScheduled
                | TransitionKind::JoinArrived
                | TransitionKind::ControlApplied => kind.to_owned(),
            });
        }
        let errors = self.held.execution.errors.iter();
        words.extend(errors.map(|error| format!("error {}", error.kind)));
        for word in words {
            *seen.entry(word).or_insert(0) += 1;
        }
    }

    fn check(&self, seed: u64) {
        let history = self.history.as_ref().expect("committed");
        let differences = fold(history, self.workflow());
        let log = || -> Vec<String> {
            history
                .transitions
                .iter()
                .map(super::compare::describe)
                .collect()
        };
        assert!(
            differences.is_empty(),
            "seed {seed}:\n{}\n{}",
            differences.join("\n"),
            log().join("\n")
        );
    }
}
