//! Postgres in memory: rows, the fence as `commit_turn_v1` has it, and what loads give back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use flotilla_engine::execution::TransitionKind;
use flotilla_engine::{DefinitionHash, Json, Workflow};
use flotilla_protocol::{ExecutionId, RunNo};
use flotilla_turn::rows::*;
use flotilla_turn::{Held, LoadRequest, Loaded, Mark, TIMER_HORIZON_S, restore};
use serde_json::Value;
use uuid::Uuid;

/// A result that "Postgres" refuses to store.
pub const UNSTORABLE: &str = "unstorable";

/// A row of `coordinator_partition`.
#[derive(Debug, Clone)]
pub struct PartitionRow {
    pub owner: Uuid,
    pub epoch: Epoch,
    pub lease_expires_at: DateTime<Utc>,
    pub last_turn: TurnNo,
    pub turn_id: Uuid,
    pub dispatched_through: TurnNo,
}

/// All tables.
#[derive(Default)]
pub struct Database {
    pub partitions: BTreeMap<PartitionNo, PartitionRow>,
    pub starts: BTreeMap<ExecutionId, StartRow>,
    pub executions: BTreeMap<ExecutionId, ExecutionRow>,
    pub tasks: BTreeMap<(ExecutionId, RunNo), TaskRow>,
    pub variables: BTreeMap<(ExecutionId, u64), VariableRow>,
    pub transitions: BTreeMap<(ExecutionId, i64), TransitionRow>,
    pub timers: BTreeMap<(ExecutionId, RunNo), TimerRow>,
    pub jobs: Vec<OutboxJob>,
    pub replies: Vec<OutboxReply>,
    pub ignored: Vec<IgnoredRow>,
    /// Who has marked a message as a suspect.
    pub suspects: BTreeMap<String, Uuid>,
    /// When each coordinator that has not stopped was seen last.
    pub seen: BTreeMap<Uuid, DateTime<Utc>>,
    pub workflows: BTreeMap<DefinitionHash, Arc<Workflow>>,
    pub commits: usize,
    /// Jobs that the broker has, for the check that no row is deleted before.
    pub published: BTreeSet<(ExecutionId, RunNo, u32)>,
}

impl Database {
    pub fn new(partitions: PartitionNo, definitions: &[&str]) -> Self {
        let row = PartitionRow {
            owner: Uuid::nil(),
            epoch: 0,
            lease_expires_at: DateTime::UNIX_EPOCH,
            last_turn: 0,
            turn_id: Uuid::nil(),
            dispatched_through: 0,
        };
        let workflows = definitions.iter().map(|yaml| {
            let compiled = flotilla_engine::compile(yaml).expect("a sound workflow");
            (compiled.workflow.hash, compiled.workflow)
        });
        Self {
            partitions: (0..partitions).map(|no| (no, row.clone())).collect(),
            workflows: workflows.collect(),
            ..Self::default()
        }
    }

    /// Takes partitions whose lease has expired, up to an even share; gives that as well.
    pub fn take(
        &mut self,
        owner: Uuid,
        lease_s: f64,
        now: DateTime<Utc>,
    ) -> (Vec<TakenPartition>, usize) {
        self.seen.insert(owner, now);
        let oldest = now - lease(lease_s.max(2.0));
        let living = self.seen.values().filter(|seen| **seen >= oldest).count();
        let share = self.partitions.len().div_ceil(living);
        let is_held = |row: &&PartitionRow| row.owner == owner && row.lease_expires_at > now;
        let held = self.partitions.values().filter(is_held).count();
        let free: Vec<PartitionNo> = self
            .partitions
            .iter()
            .filter(|(_, row)| row.lease_expires_at <= now)
            .map(|(no, _)| *no)
            .take(share.saturating_sub(held))
            .collect();
        let taken = free
            .iter()
            .map(|no| self.take_one(*no, owner, lease_s, now))
            .collect();
        (taken, share)
    }

    pub fn take_one(
        &mut self,
        no: PartitionNo,
        owner: Uuid,
        lease_s: f64,
        now: DateTime<Utc>,
    ) -> TakenPartition {
        let timers_until = now + TimeDelta::seconds(TIMER_HORIZON_S);
        let row = self.partitions.get_mut(&no).expect("a partition");
        row.owner = owner;
        row.epoch += 1;
        row.lease_expires_at = now + lease(lease_s);
        let (epoch, last_turn, dispatched_through) =
            (row.epoch, row.last_turn, row.dispatched_through);
        let owed = |partition, turn| partition == no && turn > dispatched_through;
        TakenPartition {
            partition: no,
            epoch,
            last_turn,
            dispatched_through,
            jobs: self
                .jobs
                .iter()
                .filter(|job| owed(job.partition, job.turn))
                .copied()
                .collect(),
            replies: self
                .replies
                .iter()
                .filter(|reply| owed(reply.partition, reply.turn))
                .cloned()
                .collect(),
            timers: self.timers(no, DateTime::UNIX_EPOCH, timers_until),
            timers_until,
            now,
        }
    }

    pub fn timers(
        &self,
        partition: PartitionNo,
        from: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Vec<TimerRow> {
        self.timers
            .values()
            .filter(|timer| timer.partition == partition)
            .filter(|timer| (from..until).contains(&timer.due_at))
            .copied()
            .collect()
    }

    pub fn release(&mut self, owner: Uuid, held: &[(PartitionNo, Epoch)], resigns: bool) {
        if resigns {
            self.seen.remove(&owner);
        }
        for (no, epoch) in held {
            let row = self.partitions.get_mut(no).expect("a partition");
            if row.owner == owner && row.epoch == *epoch {
                row.lease_expires_at = DateTime::UNIX_EPOCH;
            }
        }
    }

    /// The whole commit or nothing of it.
    pub fn commit(&mut self, commit: &Commit, now: DateTime<Utc>) -> CommitAnswer {
        let moves = |fence: &&PartitionTurn| {
            let row = &self.partitions[&fence.partition];
            row.epoch == fence.epoch && row.last_turn == fence.turn - 1
        };
        let missed: Vec<PartitionNo> = commit
            .partitions
            .iter()
            .filter(|fence| !moves(fence))
            .map(|fence| fence.partition)
            .collect();
        if !missed.is_empty() {
            let is_ours = |fence: &PartitionTurn| {
                let row = &self.partitions[&fence.partition];
                (row.epoch, row.last_turn, row.turn_id) == (fence.epoch, fence.turn, commit.turn_id)
            };
            if missed.len() == commit.partitions.len() && commit.partitions.iter().any(is_ours) {
                return CommitAnswer::Committed { now };
            }
            return CommitAnswer::Fenced { lost: missed };
        }
        if self.has_start(commit) {
            return CommitAnswer::StartExists;
        }
        if let Some(error) = self.refusal(commit) {
            return CommitAnswer::Refused { error };
        }
        self.write_fence(commit, now);
        self.write_executions(commit);
        self.write_logs(commit);
        self.commits += 1;
        CommitAnswer::Committed { now }
    }

    fn has_start(&self, commit: &Commit) -> bool {
        commit.starts.iter().any(|start| {
            let same_key = |row: &StartRow| {
                row.idempotency_key.is_some() && row.idempotency_key == start.idempotency_key
            };
            self.starts.contains_key(&start.execution_id) || self.starts.values().any(same_key)
        })
    }

    /// What the constraints of the tables would say.
    fn refusal(&self, commit: &Commit) -> Option<String> {
        let all_tasks = || commit.new_tasks.iter().chain(&commit.tasks);
        if all_tasks().any(|row| {
            row.result
                .as_ref()
                .is_some_and(|json| json.text().contains(UNSTORABLE))
        }) {
            return Some("jsonb refuses a result".to_owned());
        }
        let twice = |id: &ExecutionId| self.executions.contains_key(id);
        if commit
            .new_executions
            .iter()
            .any(|row| twice(&row.state.execution_id))
        {
            return Some("CONFLICT: an execution twice".to_owned());
        }
        if !commit.executions.iter().all(|row| twice(&row.execution_id)) {
            return Some("CONFLICT: FL002 executions".to_owned());
        }
        let task = |row: &TaskRow| self.tasks.contains_key(&(row.execution_id, row.run));
        if commit.new_tasks.iter().any(task) || !commit.tasks.iter().all(task) {
            return Some("CONFLICT: tasks".to_owned());
        }
        let write = |row: &VariableRow| {
            self.variables
                .contains_key(&(row.execution_id, row.write_no))
        };
        let log = |row: &TransitionRow| self.transitions.contains_key(&(row.execution_id, row.seq));
        if commit.variables.iter().any(write) || commit.transitions.iter().any(log) {
            return Some("CONFLICT: variables or transitions".to_owned());
        }
        None
    }

    fn write_fence(&mut self, commit: &Commit, now: DateTime<Utc>) {
        for fence in &commit.partitions {
            let row = self
                .partitions
                .get_mut(&fence.partition)
                .expect("it is there");
            row.last_turn = fence.turn;
            row.turn_id = commit.turn_id;
            row.lease_expires_at = now + lease(commit.lease_s);
            row.dispatched_through = row.dispatched_through.max(fence.dispatched_through);
            assert!(
                row.dispatched_through < fence.turn,
                "a watermark over its own turn"
            );
            let (no, through) = (fence.partition, row.dispatched_through);
            for job in self
                .jobs
                .iter()
                .filter(|job| job.partition == no && job.turn <= through)
            {
                assert!(
                    self.published
                        .contains(&(job.execution_id, job.run, job.attempt))
                        || !self.is_current(job),
                    "the watermark passed {job:?}, which the broker does not have"
                );
            }
            self.jobs
                .retain(|job| job.partition != no || job.turn > through);
            self.replies
                .retain(|reply| reply.partition != no || reply.turn > through);
        }
    }

    fn is_current(&self, job: &OutboxJob) -> bool {
        let row = &self.tasks[&(job.execution_id, job.run)];
        row.attempt == job.attempt && ["dispatched", "running"].contains(&row.status)
    }

    fn write_executions(&mut self, commit: &Commit) {
        for row in &commit.starts {
            self.starts.insert(row.execution_id, row.clone());
        }
        for row in &commit.new_executions {
            let mut row = row.clone();
            row.state.reply_to = Some(row.reply_to.clone());
            row.state.errors = row
                .state
                .errors
                .or(Some(Json::of(&Value::Array(Vec::new()))));
            self.executions.insert(row.state.execution_id, row);
        }
        for state in &commit.executions {
            let old = self
                .executions
                .get_mut(&state.execution_id)
                .expect("checked");
            let mut new = state.clone();
            new.errors = new.errors.or(old.state.errors.take());
            new.output = new.output.or(old.state.output.take());
            new.reply_to = new.reply_to.or(old.state.reply_to.take());
            old.state = new;
        }
        for row in commit.new_tasks.iter().chain(&commit.tasks) {
            let mut new = row.clone();
            let old = self.tasks.remove(&(row.execution_id, row.run));
            new.input = new.input.or(old.as_ref().and_then(|old| old.input.clone()));
            new.branch = new
                .branch
                .or(old.as_ref().and_then(|old| old.branch.clone()));
            if new.result.is_none() && new.error.is_none() {
                new.result = old.as_ref().and_then(|old| old.result.clone());
                new.error = old.as_ref().and_then(|old| old.error.clone());
            }
            new.error = new.error.filter(|error| !error.is_null());
            self.tasks.insert((row.execution_id, row.run), new);
        }
        for row in &commit.variables {
            self.variables
                .insert((row.execution_id, row.write_no), row.clone());
        }
    }

    fn write_logs(&mut self, commit: &Commit) {
        for row in &commit.transitions {
            self.transitions
                .insert((row.execution_id, row.seq), row.clone());
        }
        for cleared in &commit.timers_cleared {
            self.timers.remove(cleared);
        }
        for timer in &commit.timers_set {
            self.timers.insert((timer.execution_id, timer.run), *timer);
        }
        self.jobs.extend(commit.jobs.iter().copied());
        self.replies.extend(commit.replies.iter().cloned());
        self.ignored.extend(commit.ignored.iter().cloned());
        let touched: BTreeSet<ExecutionId> = commit
            .transitions
            .iter()
            .map(|row| row.execution_id)
            .collect();
        for id in touched {
            self.check(id);
        }
    }

    /// Takes a mark back.
    pub fn clear(&mut self, key: &str, owner: Uuid) {
        if self.suspects.get(key) == Some(&owner) {
            self.suspects.remove(key);
        }
    }

    /// Marks a message as a suspect, unless it bears the mark of somebody who lives.
    pub fn mark(&mut self, key: &str, owner: Uuid, lease_s: f64, now: DateTime<Utc>) -> Mark {
        let before = self.suspects.get(key).copied();
        let lives = |of: Uuid| {
            let seen = self.seen.get(&of);
            seen.is_some_and(|seen| *seen > now - lease(lease_s))
        };
        match before {
            Some(of) if of != owner && lives(of) => return Mark::OfTheLiving,
            Some(_) | None => {}
        }
        self.suspects.insert(key.to_owned(), owner);
        match before {
            Some(of) if of != owner => Mark::OfTheDead,
            Some(_) | None => Mark::Ours,
        }
    }

    pub fn restore(&self, id: ExecutionId) -> Held {
        let rows = self.load_execution(id).expect("it is there");
        let workflow = Arc::clone(&self.workflows[&rows.row.definition_hash]);
        restore(&rows, workflow).expect("rows can be read")
    }

    pub fn load(&self, request: &LoadRequest) -> Loaded {
        Loaded {
            starts: request
                .starts
                .iter()
                .map(|lookup| self.look_up(lookup))
                .collect(),
            executions: request
                .executions
                .iter()
                .filter_map(|id| self.load_execution(*id))
                .collect(),
            controls: request
                .controls
                .iter()
                .filter(|lookup| self.has_control(lookup))
                .cloned()
                .collect(),
            workflows: self.workflows.values().cloned().map(Ok).collect(),
        }
    }

    fn has_control(&self, lookup: &ControlLookup) -> bool {
        let id = lookup.execution_id;
        let log = self.transitions.range((id, 0)..=(id, i64::MAX));
        log.into_iter().any(|(_, row)| {
            let detail = row.detail.as_ref().map(ValueJson::value_json);
            row.kind == TransitionKind::ControlApplied
                && detail.is_some_and(|detail| detail["message_id"] == lookup.message_id.as_str())
        })
    }

    fn look_up(&self, lookup: &StartLookup) -> FoundStart {
        let existing = self
            .starts
            .values()
            .find(|row| {
                Some(row.execution_id) == lookup.execution_id
                    || (row.idempotency_key.is_some()
                        && row.idempotency_key == lookup.idempotency_key)
            })
            .map(|row| ExistingStart {
                execution_id: row.execution_id,
                workflow: row.workflow.clone(),
                partition: row.partition,
            });
        let registered = self
            .workflows
            .values()
            .find(|workflow| *workflow.reference == lookup.workflow);
        FoundStart {
            existing,
            definition: registered.map_or(FoundDefinition::UnknownWorkflow, |workflow| {
                FoundDefinition::Registered(workflow.hash)
            }),
        }
    }

    fn load_execution(&self, id: ExecutionId) -> Option<LoadedExecution> {
        let row = self.executions.get(&id)?;
        let tasks: Vec<LoadedTask> = row
            .state
            .live_runs
            .iter()
            .map(|run| loaded_task(&self.tasks[&(id, *run)]))
            .collect();
        let live: Vec<Value> = tasks.iter().map(|task| task.branch.value_json()).collect();
        let ends = row.state.ends.value_json();
        let numbers = |of: &Value, part: &str| -> Vec<(String, u64)> {
            of.get(part)
                .and_then(Value::as_object)
                .into_iter()
                .flatten()
                .map(|(name, no)| (name.clone(), no.as_u64().expect("a number")))
                .collect()
        };
        let mut oldest: BTreeMap<String, u64> = BTreeMap::new();
        for (name, no) in live.iter().flat_map(|branch| numbers(branch, "vars")) {
            let held = oldest.entry(name).or_insert(no);
            *held = no.min(*held);
        }
        let all = || live.iter().chain(std::iter::once(&ends));
        let writes: BTreeSet<u64> = all()
            .flat_map(|branch| numbers(branch, "vars"))
            .map(|(_, no)| no)
            .collect();
        let runs: BTreeSet<u64> = all()
            .flat_map(|branch| {
                let mut runs = numbers(branch, "tasks");
                runs.extend(numbers(branch, "last_ended"));
                runs
            })
            .map(|(_, run)| run)
            .collect();
        let variables: Vec<VariableRow> = writes
            .iter()
            .map(|no| self.variables[&(id, *no)].clone())
            .collect();
        let mut links = BTreeMap::new();
        for variable in &variables {
            let floor = oldest.get(&variable.name).copied();
            let mut at = Some(variable.write_no);
            while let Some(no) = at {
                at = self.variables[&(id, no)].previous_write_no;
                links.insert(no, at);
                at = at.filter(|previous| floor.is_some_and(|floor| *previous >= floor));
            }
        }
        Some(LoadedExecution {
            row: loaded_row(row),
            tasks,
            variables,
            links: links.into_iter().collect(),
            seen: runs
                .iter()
                .map(|run| {
                    let run = RunNo::try_from(*run).expect("a run");
                    loaded_task(&self.tasks[&(id, run)])
                })
                .collect(),
        })
    }
}

trait ValueJson {
    fn value_json(&self) -> Value;
}

impl ValueJson for Json {
    fn value_json(&self) -> Value {
        serde_json::from_str(self.text()).expect("JSON")
    }
}

pub fn lease(lease_s: f64) -> TimeDelta {
    #[expect(clippy::cast_possible_truncation, reason = "some seconds")]
    TimeDelta::milliseconds((lease_s * 1000.0) as i64)
}

pub fn loaded_row(row: &ExecutionRow) -> LoadedRow {
    let state = row.state.clone();
    LoadedRow {
        execution_id: state.execution_id,
        definition_hash: row.definition_hash,
        partition: row.partition,
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

pub fn loaded_task(row: &TaskRow) -> LoadedTask {
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
        input: row.input,
        branch: row.branch.expect("always set"),
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
