//! `commit_turn_v3`: the whole commit or nothing of it, statement by statement in the function's
//! order, so that of several errors the same one is raised.

use std::collections::BTreeSet;

use flotilla_engine::Json;
use flotilla_protocol::ExecutionId;
use flotilla_turn::rows::{
    Commit, CommitAnswer, ExecutionRow, ExecutionStateRow, PartitionNo, PartitionTurn, TaskRow,
};

use super::{Call, Fence, Store, UNSTORABLE, seconds};

impl Store {
    /// Executes a commit; what the session that sent it would be answered.
    pub fn commit(&mut self, commit: &Commit) -> CommitAnswer {
        self.keep(|| Call::Commit(Box::new(commit.clone())));
        if has_unstorable(commit) {
            return refused("22P05: a result cannot be converted to jsonb");
        }
        let missed: Vec<PartitionNo> = commit
            .partitions
            .iter()
            .filter(|fence| !self.moves(fence))
            .map(|fence| fence.partition)
            .collect();
        if !missed.is_empty() {
            let is_ours = |fence: &PartitionTurn| {
                self.partitions.get(&fence.partition).is_some_and(|row| {
                    (row.epoch, row.last_turn, row.turn_id)
                        == (fence.epoch, fence.turn, commit.turn_id)
                })
            };
            if missed.len() == commit.partitions.len() && commit.partitions.iter().any(is_ours) {
                return CommitAnswer::Committed { now: self.now };
            }
            if self.fence == Fence::CommitsTheRest {
                self.write_without(commit, &missed);
            }
            return CommitAnswer::Fenced { lost: missed };
        }
        if let Some(answer) = self.existing_start(commit) {
            return answer;
        }
        if let Some(error) = self.refusal(commit) {
            return refused(error);
        }
        self.write(commit);
        CommitAnswer::Committed { now: self.now }
    }

    fn moves(&self, fence: &PartitionTurn) -> bool {
        self.partitions.get(&fence.partition).is_some_and(|row| {
            row.epoch == fence.epoch
                && (row.last_turn == fence.turn - 1 || self.fence == Fence::WithoutTurn)
        })
    }

    /// The answer where a start exists, by its id or else by its key.
    fn existing_start(&self, commit: &Commit) -> Option<CommitAnswer> {
        let mut ids = BTreeSet::new();
        let mut keys = BTreeSet::new();
        commit.starts.iter().find_map(|start| {
            let id = start.execution_id;
            let key = start.idempotency_key.as_ref();
            let id_exists = self.starts.contains_key(&id) || !ids.insert(id);
            let key_exists =
                key.is_some_and(|key| self.keys.contains_key(key) || !keys.insert(key));
            (id_exists || key_exists).then(|| CommitAnswer::StartExists {
                execution_id: id_exists.then_some(id),
            })
        })
    }

    /// What the constraints of the tables would say, in the order of the statements.
    fn refusal(&self, commit: &Commit) -> Option<&'static str> {
        let exists = |id: &ExecutionId| self.executions.contains_key(id);
        let mut new = commit.new_executions.iter();
        if new.any(|row| exists(&row.state.execution_id)) {
            return Some("23505: workflow_execution");
        }
        if !commit
            .executions
            .iter()
            .all(|row| exists(&row.execution_id))
        {
            return Some("FL002: executions");
        }
        let task = |row: &TaskRow| self.tasks.contains_key(&(row.execution_id, row.run));
        if commit.new_tasks.iter().any(task) {
            return Some("23505: workflow_task");
        }
        if !commit.tasks.iter().all(task) {
            return Some("FL002: tasks");
        }
        let mut writes = commit.variables.iter();
        if writes.any(|row| {
            self.variables
                .contains_key(&(row.execution_id, row.write_no))
        }) {
            return Some("23505: workflow_variable");
        }
        let mut log = commit.transitions.iter();
        if log.any(|row| self.transitions.contains_key(&(row.execution_id, row.seq))) {
            return Some("23505: workflow_transition");
        }
        None
    }

    fn write(&mut self, commit: &Commit) {
        for fence in &commit.partitions {
            self.move_fence(commit, fence);
        }
        self.write_executions(commit);
        self.write_tasks(&commit.new_tasks);
        self.write_tasks(&commit.tasks);
        for row in &commit.variables {
            let key = (row.execution_id, row.write_no);
            self.variables.insert(key, row.clone());
        }
        for row in &commit.transitions {
            self.transitions
                .insert((row.execution_id, row.seq), row.clone());
        }
        for cleared in &commit.timers_cleared {
            self.timers.remove(cleared);
        }
        for timer in &commit.timers_set {
            let held = self
                .timers
                .entry((timer.execution_id, timer.run))
                .or_insert(*timer);
            // ON CONFLICT changes these two alone.
            (held.kind, held.due_at) = (timer.kind, timer.due_at);
        }
        self.jobs.extend(commit.jobs.iter().copied());
        self.replies.extend(commit.replies.iter().cloned());
        self.ignored.extend(commit.ignored.iter().cloned());
        self.commits += 1;
    }

    fn move_fence(&mut self, commit: &Commit, fence: &PartitionTurn) {
        let now = self.now;
        let no = fence.partition;
        let row = self.partitions.get_mut(&no).expect("the fence has seen it");
        row.last_turn = fence.turn;
        row.turn_id = commit.turn_id;
        row.lease_expires_at = now + seconds(commit.lease_s);
        if fence.dispatched_through > row.dispatched_through {
            row.dispatched_through = fence.dispatched_through;
            let through = row.dispatched_through;
            self.jobs
                .retain(|job| job.partition != no || job.turn > through);
            self.replies
                .retain(|reply| reply.partition != no || reply.turn > through);
        }
    }

    fn write_executions(&mut self, commit: &Commit) {
        for row in &commit.starts {
            if let Some(key) = &row.idempotency_key {
                self.keys.insert(key.clone(), row.execution_id);
            }
            self.starts.insert(row.execution_id, row.clone());
        }
        for row in &commit.new_executions {
            self.executions.insert(row.state.execution_id, created(row));
        }
        for state in &commit.executions {
            if let Some(held) = self.executions.get_mut(&state.execution_id) {
                held.state = changed(&mut held.state, state);
            }
        }
    }

    fn write_tasks(&mut self, rows: &[TaskRow]) {
        for row in rows {
            let key = (row.execution_id, row.run);
            let mut new = row.clone();
            if let Some(old) = self.tasks.get_mut(&key) {
                new.input = new.input.or(old.input.take());
                new.branch = new.branch.or(old.branch.take());
                new.items = new.items.or(old.items.take());
                new.item_progress = new.item_progress.or(old.item_progress.take());
                new.secrets = new.secrets.or(old.secrets.take());
                if new.result.is_none() && new.error.is_none() {
                    new.result = old.result.take();
                    new.error = old.error.take();
                }
            }
            new.branch = new.branch.or_else(|| Some(empty()));
            new.error = new.error.filter(|error| !error.is_null());
            self.tasks.insert(key, new);
        }
    }

    /// Looks a start up by its key.
    #[must_use]
    pub fn started_with(&self, key: &str) -> Option<ExecutionId> {
        self.keys.get(key).copied()
    }

    /// A planted bug: what concerns the partitions that were missed is left out, and the rest is
    /// written.
    fn write_without(&mut self, commit: &Commit, missed: &[PartitionNo]) {
        let mut rest = commit.clone();
        rest.partitions
            .retain(|fence| !missed.contains(&fence.partition));
        rest.starts.retain(|row| !missed.contains(&row.partition));
        rest.new_executions
            .retain(|row| !missed.contains(&row.partition));
        let started: BTreeSet<ExecutionId> =
            rest.starts.iter().map(|row| row.execution_id).collect();
        let belongs = |id: &ExecutionId| {
            let known = self.executions.get(id);
            started.contains(id) || known.is_some_and(|row| !missed.contains(&row.partition))
        };
        rest.executions.retain(|row| belongs(&row.execution_id));
        rest.new_tasks.retain(|row| belongs(&row.execution_id));
        rest.tasks.retain(|row| belongs(&row.execution_id));
        rest.variables.retain(|row| belongs(&row.execution_id));
        rest.transitions.retain(|row| belongs(&row.execution_id));
        rest.timers_cleared.retain(|(id, _)| belongs(id));
        rest.timers_set
            .retain(|row| !missed.contains(&row.partition));
        rest.jobs.retain(|job| !missed.contains(&job.partition));
        rest.replies
            .retain(|reply| !missed.contains(&reply.partition));
        if !rest.partitions.is_empty()
            && self.existing_start(&rest).is_none()
            && self.refusal(&rest).is_none()
        {
            self.write(&rest);
        }
    }
}

fn refused(error: &str) -> CommitAnswer {
    CommitAnswer::Refused {
        error: error.to_owned(),
    }
}

fn has_unstorable(commit: &Commit) -> bool {
    let mut rows = commit.new_tasks.iter().chain(&commit.tasks);
    rows.any(|row| {
        let result = row.result.as_ref();
        result.is_some_and(|json| json.text().contains(UNSTORABLE))
    })
}

fn empty() -> Json {
    Json::parse("{}".to_owned()).expect("JSON")
}

fn created(row: &ExecutionRow) -> ExecutionRow {
    let mut row = row.clone();
    row.state.reply_to = Some(row.reply_to.clone());
    row.state.errors = row.state.errors.or_else(|| Some(Json::of(&[(); 0])));
    row
}

fn changed(old: &mut ExecutionStateRow, new: &ExecutionStateRow) -> ExecutionStateRow {
    let mut new = new.clone();
    new.errors = new.errors.or(old.errors.take());
    new.output = new.output.or(old.output.take());
    new.reply_to = new.reply_to.or(old.reply_to.take());
    new
}
