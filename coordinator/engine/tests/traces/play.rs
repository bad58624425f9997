//! Plays a script and writes down what happens: each word of the script, and a line per transition.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use flotilla_engine::execution::{
    AttemptId, Changes, Event, Execution, Job, Report, Start, TimerChange, TimerKind, start,
};
use flotilla_engine::{Json, compile};
use flotilla_protocol::ExecutionId;
use flotilla_protocol::message::CompletionStatus;
use uuid::Uuid;

struct Player {
    execution: Execution,
    now: DateTime<Utc>,
    jobs: Vec<Job>,
    timers: BTreeMap<u32, (TimerKind, DateTime<Utc>)>,
    /// Name and visit of each run.
    names: BTreeMap<u32, String>,
    last: Option<Event>,
    text: String,
}

/// The trace of a workflow whose script ends it: `TASK ok`, `TASK fail`, `wait` (for the next timer),
/// `again` (the last event).
pub fn trace(yaml: &str, script: &[&str]) -> String {
    let compiled = compile(yaml).unwrap_or_else(|found| panic!("it is sound: {found:#?}"));
    let begun = DateTime::from_timestamp(1_700_000_000, 0).expect("a valid time");
    let mut changes = Changes::default();
    let request = Start {
        id: ExecutionId(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001)),
        workflow: Arc::clone(&compiled.workflow),
        parameters: None,
        parent: None,
        timeout: None,
    };
    let execution = start(request, begun, &mut changes).expect("no parameters are asked for");
    let mut player = Player {
        execution,
        now: begun,
        jobs: Vec::new(),
        timers: BTreeMap::new(),
        names: BTreeMap::new(),
        last: None,
        text: format!("{}\n\n== start\n", yaml.trim()),
    };
    player.take(changes);
    for word in script {
        player.play(word);
    }
    assert!(
        player.execution.status.is_final(),
        "the script ends it:\n{}",
        player.text
    );
    player.end();
    player.text
}

impl Player {
    fn play(&mut self, word: &str) {
        let event = match word.split_once(' ') {
            Some((task, end)) => self.completion(task, end),
            None if word == "again" => self.last.clone().expect("something has happened"),
            None => {
                let timers = self.timers.iter();
                let next = timers
                    .min_by_key(|(_, (_, due))| *due)
                    .expect("a timer is set");
                let (run, (kind, due)) = (*next.0, *next.1);
                self.now = due;
                Event::TimerFired { run, kind }
            }
        };
        writeln!(self.text, "== {word}").expect("a string grows");
        let mut changes = Changes::default();
        let outcome = self.execution.apply(&event, self.now, &mut changes);
        if changes == Changes::default() {
            writeln!(self.text, "nothing: {outcome:?}").expect("a string grows");
        }
        self.take(changes);
        self.last = Some(event);
    }

    fn completion(&mut self, task: &str, end: &str) -> Event {
        let at = self.jobs.iter().position(|job| &*job.task == task);
        let job = self
            .jobs
            .remove(at.unwrap_or_else(|| panic!("{task} waits:\n{}", self.text)));
        let status = match end {
            "ok" => CompletionStatus::Succeeded,
            "fail" => CompletionStatus::Failed,
            other => panic!("no end {other}"),
        };
        let report = Report {
            status,
            result: None,
            error: None,
            started_at: None,
            finished_at: None,
            worker: None,
        };
        Event::AttemptEnded {
            attempt: AttemptId {
                task_id: job.task_id,
                attempt: job.attempt,
            },
            report: Box::new(report),
        }
    }

    fn take(&mut self, changes: Changes) {
        self.execution.check().expect("the invariants hold");
        let tasks = &self.execution.workflow.tasks;
        for run in self.execution.live.values().chain(&changes.ended) {
            let item = run
                .item
                .map_or(String::new(), |item| format!("[{}]", item.index));
            let name = format!("{}{item} #{}", tasks[run.task.0].name, run.visit);
            self.names.entry(run.no).or_insert(name);
        }
        for entry in &changes.transitions {
            let task = entry.task_id.map(|id| self.names[&id.run()].as_str());
            let attempt = entry
                .attempt
                .map_or(String::new(), |no| format!(" attempt {no}"));
            let (from, to) = (entry.from.unwrap_or("-"), entry.to.unwrap_or("-"));
            let detail = entry.detail.as_ref().map_or("", Json::text);
            let line = format!(
                "{:>2} {:<24} {}{attempt}: {from} -> {to} {detail}",
                entry.seq,
                entry.kind.word(),
                task.unwrap_or("execution")
            );
            writeln!(self.text, "{}", line.trim_end()).expect("a string grows");
        }
        for change in changes.timers {
            match change {
                TimerChange::Set { run, kind, due } => drop(self.timers.insert(run, (kind, due))),
                TimerChange::Clear { run } => drop(self.timers.remove(&run)),
            }
        }
        self.jobs.extend(changes.jobs);
    }

    fn end(&mut self) {
        writeln!(self.text, "== {}", self.execution.status.word()).expect("a string grows");
        for error in &self.execution.errors {
            writeln!(self.text, "error {}: {}", error.kind, error.message).expect("a string grows");
        }
        if let Some(output) = &self.execution.output {
            writeln!(self.text, "output {}", output.text()).expect("a string grows");
        }
    }
}
