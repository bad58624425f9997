//! Whatever happens to an execution, its log gives its rows; and rows that somebody has changed are
//! told from those.

mod planted;

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

/// Executions that the random test runs.
const EXECUTIONS: u64 = 1500;

const WORKFLOWS: [&str; 15] = [
    "
ref: t.diamond
parameters: {n: {type: integer, default: 3}, s: {type: string, default: \"{{ system.workflow }}\"}}
vars: {x: 0, l: \"{{ parameters.n }}\"}
tasks:
  - {name: a, action: core.noop, publish: [{x: \"{{ result() }}\"}], on_success: [b, c], on_failure: c}
  - {name: b, action: core.noop, timeout: 20, when: \"{{ vars.x != 4 }}\", publish: [{l: \"{{ result() }}\"}], on_complete: d}
  - {name: c, join: 1, action: core.noop, retry: {count: 1}, next: [{when: \"{{ succeeded() }}\", publish: [{r: \"{{ result() }}\"}], do: d}]}
  - {name: d, join: all, action: core.noop, input: {x: \"{{ vars.x }}\", b: \"{{ task.b.status }}\"}}
output_map: {x: \"{{ vars.x }}\", d: \"{{ task.d.result }}\"}
",
    "
ref: t.loop
vars: {rounds: 0}
tasks:
  - {name: begin, on_success: a}
  - {name: a, action: core.noop, timeout: 5, retry: {count: 2, delay: 1, jitter: 0.5}, publish: [{rounds: \"{{ vars.rounds + 1 }}\"}], on_success: b, on_timeout: b}
  - {name: b, action: core.noop, retry: {count: 1, delay: 200}, next: [{when: \"{{ vars.rounds < 4 }}\", do: a}]}
",
    "
ref: t.failing
tasks:
  - {name: a, action: core.noop, timeout: 5, retry: {count: 2, delay: 3}}
  - {name: b, action: core.noop, timeout: 5, on_success: d}
  - {name: c, action: core.noop, timeout: 5, on_success: d}
  - {name: d, join: all, action: core.noop}
",
    "
ref: t.errors
vars: {y: 1}
tasks:
  - {name: a, action: core.noop, publish: [{y: \"{{ 6 // result() }}\"}], next: [{when: \"{{ result() + 0 < 7 }}\", do: [b, e]}, {when: \"{{ failed() }}\", publish: [{why: \"{{ error().kind }}\"}], do: c}]}
  - {name: b, action: core.noop, retry: {count: 2, when: \"{{ result() > 3 }}\", delay: \"{{ 4 - vars.y }}\"}, on_complete: c}
  - {name: c, action: core.noop, input: {x: \"{{ 1 // (3 - system.visit) }}\"}, retry: {count: 2}, on_failure: [noop]}
  - {name: e, action: core.noop, retry: {count: 3, delay: 2}, input: {x: \"{{ 1 // (2 - system.attempt) }}\"}}
output_map: {y: \"{{ vars.y }}\", z: \"{{ 1 // vars.y }}\"}
",
    "
ref: t.decision
tasks:
  - {name: a, action: core.noop, decision: [{when: \"{{ result() == 1 }}\", next: [b, fail]}, {when: \"{{ result() == 2 }}\", next: c}, {when: \"{{ result() in [3, 4, 5] }}\", next: d}], on_failure: d}
  - {name: b, action: core.noop, on_success: c}
  - {name: c, on_success: d}
  - {name: d, action: core.noop, max_redeliveries: 1}
",
    "
ref: t.joins
vars: {n: 0}
tasks:
  - {name: s, action: core.noop, on_success: [l, r]}
  - {name: l, action: core.noop, publish: [{n: \"{{ vars.n + 1 }}\"}], on_success: j}
  - {name: r, action: core.noop, on_complete: j}
  - {name: j, join: all, publish: [{m: \"{{ vars.n }}\"}], on_success: k}
  - {name: k, action: core.noop, next: [{when: \"{{ vars.n < 3 and succeeded() }}\", do: [l, r]}]}
",
    "
ref: t.items
vars: {left: 3}
tasks:
  - {name: a, action: core.noop, timeout: 5, with_items: \"{{ range(vars.left, 9) }}\", concurrency: 2, tolerate: \"20%\", retry: {count: 1, delay: \"{{ item }}\"}, input: {x: \"{{ 12 // (8 - item) }}\"}, publish: [{r: \"{{ result() }}\"}], next: [{when: \"{{ succeeded() }}\", do: b}, {when: \"{{ failed() }}\", publish: [{why: \"{{ error().items }}\"}], do: [b, c]}]}
  - {name: b, action: core.noop, timeout: 5, with_items: [[1, 2], {k: v}, null, 7], batch_size: 3, on_item_failure: cancel, input: {part: \"{{ index }}\", rows: \"{{ batch }}\"}, on_complete: d}
  - {name: c, action: core.noop, with_items: \"{{ task.a.result }}\", concurrency: 1, on_item_failure: drain}
  - {name: d, action: core.noop, with_items: \"{{ vars.left }}\", on_failure: noop}
output_map: {r: \"{{ vars.r | default(null) }}\"}
",
    "
ref: t.many
tasks:
  - {name: a, action: core.noop, with_items: \"{{ range(300) }}\", tolerate: \"90%\"}
",
    "
ref: t.times
vars: {gap: 2}
timeout: 120
tasks:
  - {name: a, action: core.noop, delay: \"{{ vars.gap }}\", timeout: 20, total_timeout: 31, heartbeat: 9, retry: {count: 5, delay: 8}, on_success: [w, b], on_timeout: w, on_failure: b}
  - {name: w, delay: 3, on_success: b}
  - {name: b, action: core.noop, with_items: [1, 2, 3], concurrency: 2, timeout: 9, delay: 1, total_timeout: 25, heartbeat: 4, retry: {count: 2, delay: 4}, on_timeout: [c, noop], on_failure: c, publish: [{r: \"{{ result() }}\"}]}
  - {name: c, action: core.noop, delay: \"{{ vars.r | default('none') }}\", on_failure: [noop]}
output: {gap: {type: integer, enum: [3]}}
output_map: {gap: \"{{ vars.gap }}\"}
",
    "
ref: t.timed_items
tasks:
  - {name: a, action: core.noop, with_items: \"{{ range(280) }}\", delay: 1, total_timeout: 20, tolerate: \"90%\", on_complete: b}
  - {name: b, action: core.noop, total_timeout: 3, retry: {count: 9, delay: 1}, on_failure: b2}
  - {name: b2, delay: 100}
",
    "
ref: t.routes
vars: {rounds: 0}
fail_policy: continue
cancellation_policy: allow_finish
tasks:
  - {name: s, on_success: [a, b]}
  - {name: a, action: core.noop, timeout: 5, publish: [{a: 1}], on_complete: mid}
  - {name: b, action: core.noop, timeout: 5, retry: {count: 1, delay: 2}, on_complete: mid}
  - {name: mid, on_success: [x, y, z]}
  - {name: x, action: core.noop, timeout: 5, next: [{when: \"{{ succeeded() }}\", do: two}, {when: \"{{ failed() }}\", do: [late, fail]}]}
  - {name: y, action: core.noop, timeout: 5, publish: [{a: 2}], on_success: [two, any], on_failure: noop}
  - {name: z, action: core.noop, timeout: 5, on_success: [two, any], on_failure: any}
  - {name: two, join: 2, action: core.noop, timeout: 5, input: {a: \"{{ vars.a | default(0) }}\"}}
  - {name: any, join: active, publish: [{rounds: \"{{ vars.rounds + 1 }}\"}], next: [{when: \"{{ vars.rounds < 2 }}\", do: z}]}
  - {name: late, action: core.noop, on_complete: later}
  - {name: later, action: core.noop}
",
    "
ref: t.needs
fail_policy: cancel
cancel_grace: 2
finally: [cleanup, report]
tasks:
  - {name: a, action: core.noop, timeout: 5, publish: [{a: 1}]}
  - {name: b, action: core.noop, timeout: 5, ignore_failure: true, on_success: b2}
  - {name: b2, action: core.noop, next: [{when: \"{{ result() == 1 }}\", do: b2}]}
  - {name: c, needs: [a, b], rule: all_done, action: core.noop, timeout: 5, retry: {count: 1, delay: 1}, publish: [{a: \"{{ vars.a | default(3) }}\"}]}
  - {name: d, needs: [a], rule: one_failed, action: core.noop, timeout: 5}
  - {name: e, needs: [c, d, b2], rule: none_failed, action: core.noop, with_items: [1, 2]}
  - {name: cleanup, action: core.noop, timeout: 5, retry: {count: 1, delay: 1}, input: {s: \"{{ system.status }}\"}, publish: [{s: \"{{ result() }}\"}]}
  - {name: report, action: core.noop, timeout: 5, with_items: [1, 2, 3], concurrency: 2, ignore_failure: true}
output_map: {s: \"{{ system.status }}\", a: \"{{ vars.a | default(0) }}\"}
",
    "
ref: t.rules
fail_policy: continue
max_runs_per_task: 3
start: [a, b, spin]
finally: [z]
tasks:
  - {name: a, action: core.noop, when: \"{{ system.visit > 1 }}\"}
  - {name: b, action: core.noop, timeout: 5}
  - {name: spin, action: core.noop, timeout: 5, next: [{when: \"{{ result() == 1 or failed() }}\", do: spin}]}
  - {name: c, needs: [a, b], rule: all_failed, action: core.noop}
  - {name: d, needs: [b, spin], rule: none_skipped, action: core.noop, on_success: j}
  - {name: e, needs: [c, spin], rule: one_success, action: core.noop, on_success: j, on_failure: noop}
  - {name: f, needs: [a, c], rule: none_failed_min_one_success, action: core.noop}
  - {name: j, join: active, action: core.noop}
  - {name: z, action: core.noop, when: \"{{ system.status == 'failed' }}\"}
",
    "
ref: t.circle
vars: {n: 0}
tasks:
  - {name: s, action: core.noop, on_success: [a, b]}
  - {name: a, action: core.noop, on_success: left, on_failure: noop}
  - {name: b, action: core.noop, on_complete: right}
  - {name: left, action: core.noop, join: active, publish: [{n: \"{{ vars.n + 1 }}\"}], next: [{when: \"{{ vars.n < 3 }}\", do: right}]}
  - {name: right, action: core.noop, join: active, next: [{when: \"{{ vars.n < 2 }}\", do: left}]}
",
    "
ref: t.bad_default
parameters: {n: {type: integer, default: \"{{ 1 // 0 }}\"}}
tasks:
  - {name: a, action: core.noop}
",
];

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
        };
        let execution = start(request, now, &mut changes).expect("the start is accepted");
        let mut scene = Self {
            held: Held {
                execution,
                partition: 0,
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
            41..43 => Event::JobLost {
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
