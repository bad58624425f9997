//! The rows that the log gives, and those that are stored.

use std::collections::BTreeMap;

use flotilla_engine::execution::{Counts, Run};
use flotilla_engine::variables::Write;

use super::Fold;
use super::same::{Differences, shown};
use crate::cache::Held;
use crate::encode::{self, Before};
use crate::restore::{effective_parameters, output_of};
use crate::rows::{LoadedTask, LoadedTransition, TaskRow};

impl Fold<'_> {
    /// Compares what is left to compare at the end of the log.
    pub(super) fn compare(self, differences: &mut Differences) {
        for run in self.execution.live.values() {
            self.compare_run(run, differences);
        }
        let last_run = self.execution.last_run;
        let is_unknown = |row: &&LoadedTask| row.run == 0 || row.run > last_run;
        for row in self.history.tasks.iter().filter(is_unknown) {
            differences
                .add(|| format!("run {} is stored, and the log knows nothing of it", row.run));
        }
        for row in self.history.variables.iter().skip(self.writes) {
            let no = row.write_no;
            differences.add(|| format!("write {no} is stored, and the log knows nothing of it"));
        }
        self.compare_timers(differences);
        self.compare_execution(differences);
    }

    fn compare_execution(self, differences: &mut Differences) {
        let row = &self.history.row;
        let held = Held {
            execution: self.execution,
            partition: row.partition,
            root: None,
            idempotency_key: None,
            tags: BTreeMap::new(),
            reply_to: Vec::new(),
            traceparent: None,
        };
        let before = Before {
            is_new: true,
            ..Before::default()
        };
        let state = encode::state_row(&held, before);
        let name = |column: &'static str| move || format!("{column} of the execution");
        differences.compare(name("status"), &row.status, &state.status);
        differences.compare(
            name("created_at"),
            &row.created_at,
            &held.execution.created_at,
        );
        differences.compare(name("finished_at"), &row.finished_at, &state.finished_at);
        for ((column, stored), (_, folded)) in counts(&row.counts).iter().zip(counts(&state.counts))
        {
            differences.compare(name(column), stored, &folded);
        }
        differences.compare(name("visits"), &row.visits, &state.visits);
        differences.compare(name("last_run"), &row.last_run, &state.last_run);
        differences.compare(name("last_write"), &row.last_write, &state.last_write);
        differences.compare(name("last_seq"), &row.last_seq, &state.last_seq);
        differences.compare(name("live_runs"), &row.live_runs, &state.live_runs);
        let parameters = &held.execution.parameters;
        let stored = effective_parameters(
            &row.parameters,
            held.execution.generation.parameters.as_ref(),
        );
        differences.compare_json(name("parameters"), Some(&stored), Some(parameters));
        differences.compare_json(name("ends"), Some(&row.ends), Some(&state.ends));
        differences.compare_json(name("errors"), Some(&row.errors), state.errors.as_ref());
        differences.compare_json(name("output"), output_of(row), state.output.as_ref());
    }

    pub(super) fn compare_run(&self, run: &Run, differences: &mut Differences) {
        let no = run.no;
        let Some(stored) = self.stored_run(no) else {
            differences.add(|| format!("run {no} is not stored"));
            return;
        };
        let folded = encode::task_row(&self.execution, run, true);
        compare_identity(stored, &folded, differences);
        compare_attempt(stored, &folded, differences);
        let name = |column: &'static str| move || format!("{column} of run {no}");
        differences.compare_json(name("input"), stored.input.as_ref(), folded.input.as_ref());
        let secrets = (stored.secrets.as_ref(), folded.secrets.as_ref());
        differences.compare_json(name("secrets"), secrets.0, secrets.1);
        differences.compare_json(name("branch"), Some(&stored.branch), folded.branch.as_ref());
        differences.compare_json(
            name("result"),
            stored.result.as_ref(),
            folded.result.as_ref(),
        );
        let items = (stored.items.as_ref(), folded.items.as_ref());
        differences.compare_json(name("items"), items.0, items.1);
        let progress = (stored.item_progress.as_ref(), folded.item_progress.as_ref());
        differences.compare_json(name("item_progress"), progress.0, progress.1);
        let error = folded.error.filter(|error| !error.is_null());
        differences.compare_json(name("error"), stored.error.as_ref(), error.as_ref());
    }

    pub(super) fn compare_write(&mut self, write: &Write, differences: &mut Differences) {
        let no = write.no;
        let Some(stored) = self.history.variables.get(self.writes) else {
            differences.add(|| format!("write {no} of {} is not stored", write.name));
            return;
        };
        if stored.write_no != no {
            let stored = stored.write_no;
            differences.add(|| format!("write {stored} is stored where write {no} follows"));
            return;
        }
        self.writes += 1;
        let name = |column: &'static str| move || format!("{column} of write {no}");
        differences.compare(name("name"), &stored.name.as_str(), &&*write.name);
        differences.compare(
            name("previous_write_no"),
            &stored.previous_write_no,
            &write.previous,
        );
        differences.compare_json(name("value"), Some(&stored.value), Some(&write.value));
    }

    fn compare_timers(&self, differences: &mut Differences) {
        for stored in &self.history.timers {
            if !self.timers.contains_key(&stored.run) {
                let (kind, run) = (stored.kind.word(), stored.run);
                differences
                    .add(|| format!("a timer ({kind}) of run {run} is stored; the log gives none"));
            }
        }
        for (run, folded) in &self.timers {
            let name = |column: &'static str| move || format!("{column} of the timer of run {run}");
            let Some(stored) = self.history.timers.iter().find(|row| row.run == *run) else {
                let kind = folded.kind.word();
                differences.add(|| format!("the timer ({kind}) of run {run} is not stored"));
                continue;
            };
            differences.compare(name("kind"), &stored.kind, &folded.kind);
            differences.compare(name("due_at"), &stored.due_at, &folded.due_at);
            differences.compare(name("partition"), &stored.partition, &folded.partition);
        }
    }
}

fn counts(counts: &Counts) -> [(&'static str, i32); 9] {
    [
        ("tasks_total", counts.total),
        ("tasks_active", counts.active),
        ("tasks_succeeded", counts.succeeded),
        ("tasks_failed", counts.failed),
        ("tasks_timed_out", counts.timed_out),
        ("tasks_cancelled", counts.cancelled),
        ("tasks_skipped", counts.skipped),
        ("tasks_omitted", counts.omitted),
        ("attempts_total", counts.attempts),
    ]
}

/// What a run is and where it stands.
fn compare_identity(stored: &LoadedTask, folded: &TaskRow, differences: &mut Differences) {
    let run = stored.run;
    let name = |column: &'static str| move || format!("{column} of run {run}");
    differences.compare(name("task"), &stored.task, &folded.task);
    differences.compare(name("visit"), &stored.visit, &folded.visit);
    differences.compare(name("status"), &stored.status, &folded.status);
    differences.compare(name("held"), &stored.held, &folded.held);
    differences.compare(name("item_of"), &stored.item_of, &folded.item_of);
    differences.compare(name("item_index"), &stored.item_index, &folded.item_index);
    differences.compare(name("batch_size"), &stored.batch_size, &folded.batch_size);
    differences.compare(name("caused_by"), &stored.caused_by, &folded.caused_by);
    differences.compare(name("arrived"), &stored.arrived, &folded.arrived);
    differences.compare(name("created_at"), &stored.created_at, &folded.created_at);
    differences.compare(
        name("finished_at"),
        &stored.finished_at,
        &folded.finished_at,
    );
}

/// What its current attempt is.
fn compare_attempt(stored: &LoadedTask, folded: &TaskRow, differences: &mut Differences) {
    let run = stored.run;
    let name = |column: &'static str| move || format!("{column} of run {run}");
    differences.compare(name("attempt"), &stored.attempt, &folded.attempt);
    differences.compare(
        name("max_attempts"),
        &stored.max_attempts,
        &folded.max_attempts,
    );
    differences.compare(name("starts"), &stored.starts, &folded.starts);
    differences.compare(name("action"), &stored.action, &folded.action);
    differences.compare(name("timeout_s"), &stored.timeout_s, &folded.timeout_s);
    differences.compare(name("worker"), &stored.worker, &folded.worker);
    differences.compare(
        name("dispatched_at"),
        &stored.dispatched_at,
        &folded.dispatched_at,
    );
    differences.compare(name("started_at"), &stored.started_at, &folded.started_at);
}

/// An entry of the log in one line.
pub(super) fn describe(entry: &LoadedTransition) -> String {
    let mut parts = vec![format!("entry {} ({}", entry.seq, entry.kind.word())];
    if let Some(task_id) = entry.task_id {
        parts.push(format!("run {}", task_id.run()));
    }
    if let Some(attempt) = entry.attempt {
        parts.push(format!("attempt {attempt}"));
    }
    if let Some(from) = &entry.from_status {
        parts.push(format!("from {from}"));
    }
    if let Some(to) = &entry.to_status {
        parts.push(format!("to {to}"));
    }
    if let Some(detail) = &entry.detail {
        parts.push(shown(detail.text()));
    }
    parts.push(format!("at {})", entry.at.to_rfc3339()));
    parts.join(", ")
}
