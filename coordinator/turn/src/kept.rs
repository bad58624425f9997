//! The rows of one execution in memory, as Postgres would keep them: what an execution has changed
//! becomes rows, and rows become an execution again, without a database.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use flotilla_engine::execution::{Changes, Past, Progress};
use flotilla_engine::{Json, Workflow};
use flotilla_protocol::RunNo;
use serde_json::Value;
use uuid::Uuid;

use crate::cache::Held;
use crate::decision::before;
use crate::encode::{self, Before};
use crate::fold::{History, fold};
use crate::restore::{RestoreError, restore, restore_past};
use crate::rows::{
    Commit, ExecutionRow, ExecutionStateRow, LoadedExecution, LoadedItemEnd, LoadedPast, LoadedRow,
    LoadedTask, LoadedTransition, TaskRow, TimerRow, TransitionRow, VariableRow,
};

/// The rows of one execution.
#[derive(Debug, Clone, Default)]
pub struct Kept {
    history: Option<History>,
    /// What was known of it when it was last written.
    before: Before,
}

impl Kept {
    /// Writes what an event has changed, the start included.
    pub fn keep(&mut self, held: &mut Held, changes: &Changes, now: DateTime<Utc>) {
        let before_it = Before {
            is_new: self.history.is_none(),
            last_run: self.history.as_ref().map_or(0, |kept| kept.row.last_run),
            reply_to_changed: false,
            ..self.before
        };
        let mut commit = Commit::empty(Uuid::nil(), 0.0);
        encode::add_execution(&mut commit, held, before_it, changes, now);
        write(&mut self.history, &commit);
        self.before = before(held);
    }

    /// Makes an execution of the rows; `None` if nothing was written yet.
    ///
    /// # Errors
    /// The first column that cannot be read.
    pub fn load(&self, workflow: &Arc<Workflow>) -> Option<Result<Held, RestoreError>> {
        let history = self.history.as_ref()?;
        Some(load(history, workflow))
    }

    /// What the execution has behind it, of its rows.
    ///
    /// # Errors
    /// The first column that cannot be read.
    pub fn past(&self, workflow: &Workflow) -> Result<Past, RestoreError> {
        let Some(history) = &self.history else {
            return Ok(Past::default());
        };
        let ended = history.tasks.iter().filter(|row| row.finished_at.is_some());
        let loaded = LoadedPast {
            execution_id: history.row.execution_id,
            tasks: ended.cloned().collect(),
            variables: history.variables.clone(),
            too_large: Vec::new(),
        };
        restore_past(&loaded, workflow)
    }

    /// The timers that are set.
    #[must_use]
    pub fn timers(&self) -> &[TimerRow] {
        let history = self.history.as_ref();
        history.map_or(&[], |kept| kept.timers.as_slice())
    }

    /// What in the rows does not follow from their log; see [`fold`].
    #[must_use]
    pub fn fold(&self, workflow: &Arc<Workflow>) -> Vec<String> {
        let history = self.history.as_ref();
        history.map_or_else(Vec::new, |kept| fold(kept, Arc::clone(workflow)))
    }
}

/// Writes the rows of a commit.
pub(crate) fn write(history: &mut Option<History>, commit: &Commit) {
    for row in &commit.new_executions {
        *history = Some(History {
            row: new_row(row),
            tasks: Vec::new(),
            variables: Vec::new(),
            transitions: Vec::new(),
            timers: Vec::new(),
        });
    }
    let history = history.as_mut().expect("it was started");
    for state in &commit.executions {
        update_row(&mut history.row, state);
    }
    for row in &commit.new_tasks {
        history.tasks.push(task(row, None));
    }
    history.tasks.sort_by_key(|row| row.run);
    for row in &commit.tasks {
        let at = usize::try_from(row.run).expect("small") - 1;
        history.tasks[at] = task(row, Some(&history.tasks[at]));
    }
    history
        .variables
        .extend(commit.variables.iter().map(|row| VariableRow {
            value: jsonb(&row.value),
            ..row.clone()
        }));
    history
        .transitions
        .extend(commit.transitions.iter().map(transition));
    let is_gone = |run: RunNo| {
        let set = commit.timers_set.iter().map(|timer| timer.run);
        commit
            .timers_cleared
            .iter()
            .map(|(_, run)| *run)
            .chain(set)
            .any(|gone| gone == run)
    };
    history.timers.retain(|timer| !is_gone(timer.run));
    history.timers.extend(commit.timers_set.iter().copied());
}

/// Loads the execution again.
pub(crate) fn load(history: &History, workflow: &Arc<Workflow>) -> Result<Held, RestoreError> {
    let is_live = |row: &&LoadedTask| history.row.live_runs.contains(&row.run);
    let loaded = LoadedExecution {
        row: history.row.clone(),
        tasks: history.tasks.iter().filter(is_live).cloned().collect(),
        variables: history.variables.clone(),
        links: history
            .variables
            .iter()
            .map(|row| (row.write_no, row.previous_write_no))
            .collect(),
        seen: history.tasks.clone(),
        item_ends: item_ends(history),
        too_large: Vec::new(),
    };
    restore(&loaded, Arc::clone(workflow))
}

/// What the ended items of live runs left, and those that a rerun has kept for them.
fn item_ends(history: &History) -> Vec<LoadedItemEnd> {
    let mut ends = Vec::new();
    let live = history.tasks.iter().filter(|row| row.finished_at.is_none());
    for whole in live {
        let Some(progress) = progress_of(whole) else {
            continue;
        };
        let mut from = Some((whole, progress));
        while let Some((run, own)) = from {
            let is_kept = run.run != whole.run;
            let items = history
                .tasks
                .iter()
                .filter(|row| row.item_of == Some(run.run));
            for row in items.filter(|row| row.finished_at.is_some()) {
                let has_failed = matches!(row.status.as_str(), "failed" | "timed_out");
                if is_kept && row.status != "succeeded" {
                    continue;
                }
                ends.push(LoadedItemEnd {
                    item_of: whole.run,
                    item_index: row.item_index.expect("an item has its index"),
                    result: row.result.clone().filter(|_| progress.keeps_results),
                    error: row.error.clone().filter(|_| has_failed),
                    is_kept,
                });
            }
            let before = own.kept_of;
            let before = before.and_then(|no| history.tasks.iter().find(|row| row.run == no));
            from = before.and_then(|row| Some((row, progress_of(row)?)));
        }
    }
    ends
}

fn progress_of(row: &LoadedTask) -> Option<Progress> {
    let progress = row.item_progress.as_ref()?;
    Some(serde_json::from_str(progress.text()).expect("our own JSON"))
}

fn new_row(row: &ExecutionRow) -> LoadedRow {
    let state = &row.state;
    LoadedRow {
        execution_id: state.execution_id,
        definition_hash: row.definition_hash,
        partition: row.partition,
        status: state.status.to_owned(),
        parameters: jsonb(&row.parameters),
        parent: row.parent,
        timeout_s: row.timeout_s,
        reply_to: row.reply_to.clone(),
        traceparent: None,
        created_at: row.created_at,
        finished_at: state.finished_at,
        counts: state.counts,
        visits: state.visits.clone(),
        last_run: state.last_run,
        last_write: state.last_write,
        last_seq: state.last_seq,
        live_runs: state.live_runs.clone(),
        ends: jsonb(&state.ends),
        errors: state.errors.as_ref().map_or_else(empty_list, jsonb),
        output: state.output.as_ref().map(jsonb),
    }
}

fn update_row(row: &mut LoadedRow, state: &ExecutionStateRow) {
    row.status = state.status.to_owned();
    row.finished_at = state.finished_at;
    row.counts = state.counts;
    row.visits.clone_from(&state.visits);
    row.last_run = state.last_run;
    row.last_write = state.last_write;
    row.last_seq = state.last_seq;
    row.live_runs.clone_from(&state.live_runs);
    row.ends = jsonb(&state.ends);
    if let Some(errors) = &state.errors {
        row.errors = jsonb(errors);
    }
    if let Some(output) = &state.output {
        row.output = Some(jsonb(output));
    }
}

fn empty_list() -> Json {
    Json::of::<[u8; 0]>(&[])
}

/// What a column holds that keeps its value unless it is given another.
fn changed(new: Option<&Json>, old: Option<&Json>) -> Option<Json> {
    new.map(jsonb).or_else(|| old.cloned())
}

fn task(row: &TaskRow, old: Option<&LoadedTask>) -> LoadedTask {
    let kept = row.result.is_none() && row.error.is_none();
    let (result, error) = match old.filter(|_| kept) {
        Some(old) => (old.result.clone(), old.error.clone()),
        None => (
            row.result.as_ref().map(jsonb),
            row.error.as_ref().map(jsonb),
        ),
    };
    LoadedTask {
        run: row.run,
        task: row.task.clone(),
        visit: row.visit,
        status: row.status.to_owned(),
        attempt: row.attempt,
        max_attempts: row.max_attempts,
        starts: row.starts,
        held: row.held,
        action: row.action.clone(),
        timeout_s: row.timeout_s,
        item_of: row.item_of,
        item_index: row.item_index,
        batch_size: row.batch_size,
        items: changed(row.items.as_ref(), old.and_then(|old| old.items.as_ref())),
        item_progress: changed(
            row.item_progress.as_ref(),
            old.and_then(|old| old.item_progress.as_ref()),
        ),
        input: changed(row.input.as_ref(), old.and_then(|old| old.input.as_ref())),
        secrets: changed(
            row.secrets.as_ref(),
            old.and_then(|old| old.secrets.as_ref()),
        ),
        branch: row
            .branch
            .as_ref()
            .map(jsonb)
            .or_else(|| old.map(|old| old.branch.clone()))
            .expect("always set"),
        caused_by: row.caused_by.clone(),
        arrived: row.arrived.clone(),
        worker: row.worker.clone(),
        result,
        error: error.filter(|error| !error.is_null()),
        created_at: row.created_at,
        dispatched_at: row.dispatched_at,
        started_at: row.started_at,
        finished_at: row.finished_at,
    }
}

fn transition(row: &TransitionRow) -> LoadedTransition {
    LoadedTransition {
        detail: row.detail.as_ref().map(jsonb),
        ..LoadedTransition::from(row)
    }
}

/// JSON as Postgres gives it back: keys in another order, with spaces.
fn jsonb(json: &Json) -> Json {
    let mut value: Value = serde_json::from_str(json.text()).expect("JSON");
    value.sort_all_objects();
    Json::parse(serde_json::to_string_pretty(&value).expect("JSON")).expect("JSON")
}
