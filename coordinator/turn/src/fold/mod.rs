//! The fold of a log: the execution is started anew, what the log says has happened is given to the
//! very same engine, and what comes of it is compared with what is stored.
//!
//! ```text
//! log ──► events ──► engine ──► entries ──► compared with the log, entry by entry
//!            ▲          └─────► rows ─────► compared with the stored rows
//!            └── what messages brought and the log leaves out: stored rows
//! ```
//!
//! The log names what came from outside: ends and starts of attempts, timers, commands, jobs that were
//! sent again. Everything else must follow from that. Of messages, the rows keep the worker, when it
//! started and what an ended run gave as its result; this is taken from them, not checked.

mod compare;
mod event;
mod same;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use flotilla_engine::Workflow;
use flotilla_engine::execution::{Changes, Execution, Past, Start, TimerChange, Transition, start};
use flotilla_protocol::RunNo;

use self::compare::describe;
use self::same::{Differences, same_optional_json};
use crate::rows::{LoadedRow, LoadedTask, LoadedTransition, TimerRow, VariableRow};

/// Differences that are told of one execution at most.
pub const MAX_DIFFERENCES: usize = 20;

/// All that is stored of one execution.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    /// Its row.
    pub row: LoadedRow,
    /// All runs, ascending.
    pub tasks: Vec<LoadedTask>,
    /// All writes, ascending.
    pub variables: Vec<VariableRow>,
    /// The whole log, ascending.
    pub transitions: Vec<LoadedTransition>,
    /// All timers that are set.
    pub timers: Vec<TimerRow>,
}

/// What in the stored rows differs from what the log gives: one sentence each, at most
/// [`MAX_DIFFERENCES`]. Where the log itself cannot be followed any further, that is the last one.
#[must_use]
pub fn fold(history: &History, workflow: Arc<Workflow>) -> Vec<String> {
    let mut differences = Differences::default();
    if let Some(mut fold) = Fold::begin(history, workflow, &mut differences) {
        let mut follows = true;
        while follows && fold.next < history.transitions.len() {
            follows = fold.step(&mut differences);
        }
        if follows {
            fold.compare(&mut differences);
        }
    }
    differences.into_sentences()
}

/// A fold under way.
struct Fold<'a> {
    history: &'a History,
    execution: Execution,
    /// Entries of the log that have been followed.
    next: usize,
    /// Writes that have been compared.
    writes: usize,
    timers: BTreeMap<RunNo, TimerRow>,
    /// What the execution has behind it, for reruns.
    past: Past,
}

impl<'a> Fold<'a> {
    /// Starts the execution anew.
    fn begin(
        history: &'a History,
        workflow: Arc<Workflow>,
        differences: &mut Differences,
    ) -> Option<Self> {
        let row = &history.row;
        let Some(first) = history.transitions.first() else {
            differences.add(|| "the log is empty".to_owned());
            return None;
        };
        if workflow.hash != row.definition_hash {
            differences.add(|| {
                let stored = row.definition_hash;
                format!("the definition is not the one that was started, {stored}")
            });
            return None;
        }
        let request = Start {
            id: row.execution_id,
            workflow,
            parameters: Some(row.parameters.raw()),
            parent: row.parent,
            timeout: row.timeout_s,
        };
        let mut changes = Changes::default();
        let execution = match start(request, first.at, &mut changes) {
            Ok(execution) => execution,
            Err(rejection) => {
                let message = rejection.message;
                differences.add(|| format!("the stored parameters are refused: {message}"));
                return None;
            }
        };
        let mut fold = Self {
            history,
            execution,
            next: 0,
            writes: 0,
            timers: BTreeMap::new(),
            past: Past::default(),
        };
        fold.take(first.at, changes, differences).then_some(fold)
    }

    /// Follows the log by one event; false where that cannot be done.
    fn step(&mut self, differences: &mut Differences) -> bool {
        let entry = &self.history.transitions[self.next];
        let Some(event) = self.event(entry) else {
            differences.add(|| {
                let entry = describe(entry);
                format!("{entry} does not follow from the log before it")
            });
            return false;
        };
        let mut changes = Changes::default();
        let outcome = self.execution.apply(&event, entry.at, &mut changes);
        if changes.transitions.is_empty() {
            differences.add(|| {
                let entry = describe(entry);
                format!("{entry} cannot have happened then: the engine says {outcome:?}")
            });
            return false;
        }
        self.take(entry.at, changes, differences)
    }

    /// Compares what an event has changed with what is stored; false where the log says otherwise.
    fn take(&mut self, at: DateTime<Utc>, changes: Changes, differences: &mut Differences) -> bool {
        for transition in &changes.transitions {
            let stored = self.history.transitions.get(self.next);
            if !stored.is_some_and(|stored| is_same(stored, transition, at)) {
                differences.add(|| differs(stored, transition, at));
                return false;
            }
            self.next += 1;
        }
        self.past.add(&changes);
        for write in &changes.writes {
            self.compare_write(write, differences);
        }
        for change in changes.timers {
            self.move_timer(change);
        }
        for run in &changes.ended {
            self.compare_run(run, differences);
        }
        true
    }

    fn move_timer(&mut self, change: TimerChange) {
        match change {
            TimerChange::Set { run, kind, due } => {
                let timer = TimerRow {
                    execution_id: self.execution.id,
                    run,
                    partition: self.history.row.partition,
                    kind,
                    due_at: due,
                };
                self.timers.insert(run, timer);
            }
            TimerChange::Clear { run } => drop(self.timers.remove(&run)),
        }
    }
}

fn is_same(stored: &LoadedTransition, folded: &Transition, at: DateTime<Utc>) -> bool {
    stored.seq == folded.seq
        && stored.at == at
        && stored.kind == folded.kind
        && stored.task_id == folded.task_id
        && stored.attempt == folded.attempt
        && stored.from_status.as_deref() == folded.from
        && stored.to_status.as_deref() == folded.to
        && same_optional_json(stored.detail.as_ref(), folded.detail.as_ref())
}

fn differs(stored: Option<&LoadedTransition>, folded: &Transition, at: DateTime<Utc>) -> String {
    let expected = describe(&LoadedTransition {
        seq: folded.seq,
        at,
        kind: folded.kind,
        task_id: folded.task_id,
        attempt: folded.attempt,
        from_status: folded.from.map(str::to_owned),
        to_status: folded.to.map(str::to_owned),
        detail: folded.detail.clone(),
    });
    match stored {
        Some(stored) => format!("{} stands where {expected} follows", describe(stored)),
        None => format!("the log ends where {expected} follows"),
    }
}
