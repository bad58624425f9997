//! Loads: an execution's row, its live runs, and what those see; starts by their names.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flotilla_engine::Json;
use flotilla_engine::execution::{Progress, TransitionKind};
use flotilla_protocol::{ExecutionId, RunNo};
use flotilla_turn::rows::{
    ControlLookup, ExecutionRow, ExistingStart, FoundDefinition, FoundStart, LoadedExecution,
    LoadedItemEnd, LoadedPast, LoadedRow, LoadedTask, LostJob, PartitionNo, StartLookup, TaskRow,
    VariableRow,
};
use flotilla_turn::{LoadRequest, Loaded};
use serde::Deserialize;

use super::{Call, Store, seconds};

/// What a branch names, of the columns `branch` and `ends`.
#[derive(Default, Deserialize)]
struct Sight {
    #[serde(default)]
    vars: BTreeMap<String, u64>,
    #[serde(default)]
    tasks: BTreeMap<String, RunNo>,
    #[serde(default)]
    last_ended: BTreeMap<String, RunNo>,
}

/// What the log says of a command.
#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    message_id: Option<String>,
}

impl Sight {
    fn of(json: &Json) -> Self {
        if json.text() == "{}" {
            return Self::default();
        }
        serde_json::from_str(json.text()).expect("the column holds a branch")
    }
}

impl Store {
    /// Answers a load, all of it as of now.
    #[must_use]
    pub fn load(&self, request: &LoadRequest) -> Loaded {
        self.keep(|| Call::Load(request.clone()));
        let starts = request.starts.iter();
        let children = request.children.iter();
        let loaded = Loaded {
            starts: starts.map(|lookup| self.look_up(lookup)).collect(),
            executions: self.load_families(&request.executions),
            pasts: request.pasts.iter().map(|id| self.past(*id)).collect(),
            controls: self.carried_out(&request.controls),
            children: children
                .map(|name| (name.clone(), self.newest(name)))
                .collect(),
            workflows: Vec::new(),
        };
        let by_name = loaded
            .starts
            .iter()
            .map(|found| found.definition)
            .chain(loaded.children.iter().map(|(_, definition)| *definition))
            .filter_map(|definition| match definition {
                FoundDefinition::Registered(hash) => Some(hash),
                FoundDefinition::UnknownWorkflow | FoundDefinition::UnknownVersion => None,
            });
        let of_executions = loaded
            .executions
            .iter()
            .map(|held| held.row.definition_hash);
        let wanted: BTreeSet<_> = by_name.chain(of_executions).collect();
        let workflows = wanted
            .iter()
            .map(|hash| Ok(Arc::clone(&self.workflows[hash])));
        Loaded {
            workflows: workflows.collect(),
            ..loaded
        }
    }

    /// Executions with their ancestors and the children that any of them waits for, in the order of their
    /// ids, each once.
    fn load_families(&self, ids: &[ExecutionId]) -> Vec<LoadedExecution> {
        let mut found: BTreeMap<ExecutionId, LoadedExecution> = BTreeMap::new();
        let mut wanted: Vec<ExecutionId> = ids.to_vec();
        while let Some(id) = wanted.pop() {
            let Some(loaded) = self.load_execution(id).filter(|_| !found.contains_key(&id)) else {
                continue;
            };
            wanted.extend(loaded.row.parent.map(|parent| parent.execution_id));
            let live = loaded.tasks.iter().map(|task| &self.tasks[&(id, task.run)]);
            wanted.extend(live.filter_map(child_of));
            found.insert(id, loaded);
        }
        found.into_values().collect()
    }

    /// Those of the commands that were carried out, each once: their names stand in the log.
    fn carried_out(&self, lookups: &[ControlLookup]) -> Vec<ControlLookup> {
        let is_in_log = |lookup: &&ControlLookup| {
            let id = lookup.execution_id;
            let mut log = self.transitions.range((id, 0)..=(id, i64::MAX));
            log.any(|(_, row)| {
                row.kind == TransitionKind::ControlApplied
                    && row.detail.as_ref().is_some_and(|detail| {
                        let detail: Named = serde_json::from_str(detail.text()).expect("an object");
                        detail.message_id.as_ref() == Some(&lookup.message_id)
                    })
            })
        };
        let found: BTreeSet<&ControlLookup> = lookups.iter().filter(is_in_log).collect();
        found.into_iter().cloned().collect()
    }

    /// The partition of an execution.
    #[must_use]
    pub fn partition_of(&self, id: ExecutionId) -> Option<PartitionNo> {
        self.keep(|| Call::PartitionOf(id));
        self.starts.get(&id).map(|row| row.partition)
    }

    /// Jobs of these partitions that were dispatched more than so many seconds ago and that nobody
    /// has started, with their pools, the oldest first.
    #[must_use]
    pub fn silent_jobs(
        &self,
        partitions: &[PartitionNo],
        resend_after_s: f64,
    ) -> Vec<(LostJob, String)> {
        self.keep(|| Call::SilentJobs {
            partitions: partitions.to_vec(),
            resend_after_s,
        });
        let before = self.now - seconds(resend_after_s);
        let mut found = Vec::new();
        for (id, row) in &self.executions {
            if row.state.finished_at.is_some() || !partitions.contains(&row.partition) {
                continue;
            }
            for run in &row.state.live_runs {
                let task = &self.tasks[&(*id, *run)];
                let is_old = task.dispatched_at.is_some_and(|at| at < before);
                if task.status == "dispatched" && is_old {
                    let job = LostJob {
                        partition: row.partition,
                        execution_id: *id,
                        run: *run,
                        attempt: task.attempt,
                    };
                    found.push((
                        task.dispatched_at,
                        job,
                        task.pool.clone().unwrap_or_default(),
                    ));
                }
            }
        }
        found.sort_by_key(|(at, job, _)| (*at, job.execution_id, job.run));
        found
            .into_iter()
            .map(|(_, job, pool)| (job, pool))
            .collect()
    }

    fn look_up(&self, lookup: &StartLookup) -> FoundStart {
        let by_id = lookup.execution_id.and_then(|id| self.starts.get(&id));
        let by_key = || {
            let id = self.started_with(lookup.idempotency_key.as_deref()?)?;
            self.starts.get(&id)
        };
        let existing = by_id.or_else(by_key).map(|row| ExistingStart {
            execution_id: row.execution_id,
            workflow: row.workflow.clone(),
            partition: row.partition,
        });
        FoundStart {
            existing,
            definition: self.definition(lookup),
        }
    }

    fn newest(&self, workflow: &str) -> FoundDefinition {
        self.definition(&StartLookup {
            execution_id: None,
            idempotency_key: None,
            workflow: workflow.to_owned(),
            version: None,
        })
    }

    /// A workflow has one version here.
    fn definition(&self, lookup: &StartLookup) -> FoundDefinition {
        let mut all = self.workflows.values();
        let Some(found) = all.find(|workflow| *workflow.reference == lookup.workflow) else {
            return FoundDefinition::UnknownWorkflow;
        };
        match &lookup.version {
            Some(version) if **version != *found.version => FoundDefinition::UnknownVersion,
            _ => FoundDefinition::Registered(found.hash),
        }
    }

    /// An execution with all that it needs; `None` if there is none.
    #[must_use]
    pub fn load_execution(&self, id: ExecutionId) -> Option<LoadedExecution> {
        let row = self.executions.get(&id)?;
        let live = row.state.live_runs.iter();
        let tasks: Vec<LoadedTask> = live
            .map(|run| loaded_task(&self.tasks[&(id, *run)]))
            .collect();
        let sights: Vec<Sight> = tasks.iter().map(|task| Sight::of(&task.branch)).collect();
        let ends = Sight::of(&row.state.ends);
        let mut oldest: BTreeMap<&str, u64> = BTreeMap::new();
        for (name, no) in sights.iter().flat_map(|sight| &sight.vars) {
            let held = oldest.entry(name).or_insert(*no);
            *held = (*no).min(*held);
        }
        let mut writes = BTreeSet::new();
        let mut runs = BTreeSet::new();
        for sight in sights.iter().chain([&ends]) {
            writes.extend(sight.vars.values());
            runs.extend(sight.tasks.values().chain(sight.last_ended.values()));
        }
        let variables: Vec<VariableRow> = writes
            .iter()
            .map(|no| self.variables[&(id, *no)].clone())
            .collect();
        Some(LoadedExecution {
            row: loaded_row(row),
            item_ends: self.item_ends(&tasks, id),
            too_large: Vec::new(),
            tasks,
            links: self.links(&variables, &oldest),
            variables,
            seen: runs
                .iter()
                .map(|run| seen_task(&self.tasks[&(id, *run)]))
                .collect(),
        })
    }

    /// What the ended items of these live tasks left, and those of earlier runs that they have kept.
    fn item_ends(&self, tasks: &[LoadedTask], id: ExecutionId) -> Vec<LoadedItemEnd> {
        let mut ends = Vec::new();
        for whole in tasks {
            let Some(progress) = progress_of(whole.item_progress.as_ref()) else {
                continue;
            };
            let mut kept_of = progress.kept_of;
            for row in self.items(id, whole.run) {
                let has_failed = matches!(row.status, "failed" | "timed_out");
                if progress.keeps_results || has_failed {
                    ends.push(LoadedItemEnd {
                        item_of: whole.run,
                        item_index: row.item_index.expect("an item has its index"),
                        result: row.result.clone().filter(|_| progress.keeps_results),
                        error: row.error.clone().filter(|_| has_failed),
                        is_kept: false,
                    });
                }
            }
            while let Some(run) = kept_of {
                let succeeded = self.items(id, run).filter(|row| row.status == "succeeded");
                ends.extend(succeeded.map(|row| LoadedItemEnd {
                    item_of: whole.run,
                    item_index: row.item_index.expect("an item has its index"),
                    result: row.result.clone().filter(|_| progress.keeps_results),
                    error: None,
                    is_kept: true,
                }));
                let before = self.tasks[&(id, run)].item_progress.as_ref();
                kept_of = progress_of(before).and_then(|own| own.kept_of);
            }
        }
        ends
    }

    /// Items of a run that have ended.
    fn items(&self, id: ExecutionId, of: RunNo) -> impl Iterator<Item = &TaskRow> {
        let later = self.tasks.range((id, of + 1)..=(id, RunNo::MAX));
        let items = later.map(|(_, row)| row);
        items.filter(move |row| row.item_of == Some(of) && row.finished_at.is_some())
    }

    /// What an execution has behind it.
    fn past(&self, id: ExecutionId) -> LoadedPast {
        let runs = self.tasks.range((id, 0)..=(id, RunNo::MAX));
        let ended = runs.filter(|(_, row)| row.finished_at.is_some() && self.is_in_past(row));
        let variables = self.variables.range((id, 0)..=(id, u64::MAX));
        LoadedPast {
            execution_id: id,
            tasks: ended
                .map(|(_, row)| LoadedTask {
                    input: None,
                    ..loaded_task(row)
                })
                .collect(),
            variables: variables.map(|(_, row)| row.clone()).collect(),
            too_large: Vec::new(),
        }
    }

    /// Items only of tasks of which not all have succeeded.
    fn is_in_past(&self, row: &TaskRow) -> bool {
        let Some(of) = row.item_of else {
            return true;
        };
        let whole = &self.tasks[&(row.execution_id, of)];
        progress_of(whole.item_progress.as_ref())
            .is_some_and(|own| own.failed > 0 || own.cancelled > 0 || own.next < own.count)
    }

    /// Which write replaced which, as far back as a live run sees an older one.
    fn links(
        &self,
        variables: &[VariableRow],
        oldest: &BTreeMap<&str, u64>,
    ) -> Vec<(u64, Option<u64>)> {
        let mut links = BTreeMap::new();
        for variable in variables {
            let floor = oldest.get(variable.name.as_str()).copied();
            let mut at = Some(variable.write_no);
            while let Some(no) = at {
                at = self.variables[&(variable.execution_id, no)].previous_write_no;
                links.insert(no, at);
                at = at.filter(|previous| floor.is_some_and(|floor| *previous >= floor));
            }
        }
        links.into_iter().collect()
    }
}

/// The child that a live run waits for.
pub(crate) fn child_of(row: &TaskRow) -> Option<ExecutionId> {
    let is_child = row.status == "running" && row.pool.is_none() && row.item_progress.is_none();
    is_child.then(|| ExecutionId::of_child(row.task_id, row.attempt))
}

fn progress_of(json: Option<&Json>) -> Option<Progress> {
    json.map(|json| serde_json::from_str(json.text()).expect("our own JSON"))
}

pub(super) fn loaded_row(row: &ExecutionRow) -> LoadedRow {
    let state = row.state.clone();
    LoadedRow {
        execution_id: state.execution_id,
        definition_hash: row.definition_hash,
        partition: row.partition,
        parent: row.parent,
        timeout_s: row.timeout_s,
        status: state.status.to_owned(),
        parameters: row.parameters.clone(),
        reply_to: state.reply_to.expect("always set"),
        traceparent: row.traceparent.clone(),
        created_at: row.created_at,
        finished_at: state.finished_at,
        counts: state.counts,
        visits: state.visits,
        last_run: state.last_run,
        last_write: state.last_write,
        last_seq: state.last_seq,
        live_runs: state.live_runs,
        ends: state.ends,
        errors: state.errors.expect("always set"),
        output: state.output,
    }
}

/// An ended run: nothing reads its input and branch, and they are not loaded.
fn seen_task(row: &TaskRow) -> LoadedTask {
    let none = TaskRow {
        input: None,
        secrets: None,
        branch: None,
        items: None,
        item_progress: None,
        ..row.clone()
    };
    loaded_task(&none)
}

pub(super) fn loaded_task(row: &TaskRow) -> LoadedTask {
    let row = row.clone();
    LoadedTask {
        run: row.run,
        task: row.task,
        visit: row.visit,
        status: row.status.to_owned(),
        attempt: row.attempt,
        max_attempts: row.max_attempts,
        starts: row.starts,
        held: row.held,
        action: row.action,
        timeout_s: row.timeout_s,
        item_of: row.item_of,
        item_index: row.item_index,
        batch_size: row.batch_size,
        items: row.items,
        item_progress: row.item_progress,
        input: row.input,
        secrets: row.secrets,
        branch: row
            .branch
            .unwrap_or_else(|| Json::parse("{}".to_owned()).expect("JSON")),
        caused_by: row.caused_by,
        arrived: row.arrived,
        worker: row.worker,
        result: row.result,
        error: row.error,
        created_at: row.created_at,
        dispatched_at: row.dispatched_at,
        started_at: row.started_at,
        finished_at: row.finished_at,
    }
}
