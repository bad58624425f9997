//! What must hold after each step. Each check looks only at what the step has touched.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use flotilla_engine::Json;
use flotilla_engine::execution::TransitionKind;
use flotilla_protocol::decode::InboxMessage;
use flotilla_protocol::{ExecutionId, TaskId};
use flotilla_turn::message::ControlRequest;
use flotilla_turn::rows::{
    Commit, Epoch, OutboxJob, OutboxReply, PartitionNo, TakenPartition, TransitionRow,
};
use uuid::Uuid;

use crate::broker::{ChannelNo, Stored};
use crate::coordinator::LEASE_S;
use crate::coverage::Happening;
use crate::message::{AttemptKey, Body, Job, show_attempt, show_id};
use crate::store::seconds;
use crate::worker::BROKEN;
use crate::world::World;

/// What is known beside the rows.
#[derive(Default)]
pub(crate) struct Checks {
    /// Jobs that the broker has had.
    pub published: BTreeSet<AttemptKey>,
    /// Jobs that the broker was made to lose.
    pub lost: BTreeSet<AttemptKey>,
    /// Attempts for which a completion has been sent.
    pub completed: BTreeSet<AttemptKey>,
    /// Commands that came before their executions, or became dead letters.
    pub excused: BTreeSet<String>,
    /// Attempts that have ended.
    ended: BTreeSet<AttemptKey>,
    /// Who has written in each epoch.
    writers: BTreeMap<(PartitionNo, Epoch), Uuid>,
    /// From when on no lease of a coordinator that lives may run out.
    pub calm_since: Option<DateTime<Utc>>,
    /// For a planted bug: what was owed some time ago.
    pub early_outbox: EarlyOutbox,
}

/// The outbox as it once was.
#[derive(Default)]
pub(crate) struct EarlyOutbox {
    jobs: Vec<OutboxJob>,
    replies: Vec<OutboxReply>,
}

impl EarlyOutbox {
    pub fn jobs_of(&self, partition: PartitionNo) -> Vec<OutboxJob> {
        let jobs = self.jobs.iter();
        jobs.filter(|job| job.partition == partition)
            .copied()
            .collect()
    }

    pub fn replies_of(&self, partition: PartitionNo) -> Vec<OutboxReply> {
        let replies = self.replies.iter();
        replies
            .filter(|reply| reply.partition == partition)
            .cloned()
            .collect()
    }
}

impl World {
    /// Remembers the outbox for the planted bug that reads it too early.
    pub fn remember_outbox(&mut self) {
        self.checks.early_outbox = EarlyOutbox {
            jobs: self.store.jobs.clone(),
            replies: self.store.replies.clone(),
        };
    }

    /// Jobs that a commit takes out of the outbox though the broker has never had them and they are
    /// still to be done.
    pub fn passing_jobs(&self, commit: &Commit) -> Vec<OutboxJob> {
        let mut passing = Vec::new();
        for fence in &commit.partitions {
            let Some(row) = self.store.partitions.get(&fence.partition) else {
                continue;
            };
            if fence.dispatched_through <= row.dispatched_through {
                continue;
            }
            let leaving = self.store.jobs.iter().filter(|job| {
                job.partition == fence.partition && job.turn <= fence.dispatched_through
            });
            passing.extend(leaving.copied());
        }
        passing
    }

    /// Attempts that a commit ends by their deadlines, with the times at which those were due.
    pub fn deadlines_in(&self, commit: &Commit) -> Vec<(AttemptKey, DateTime<Utc>)> {
        let mut deadlines = Vec::new();
        for row in &commit.tasks {
            let error = row.error.as_ref();
            let says_so = |error: &Json| {
                let text = error.text();
                text.contains("no answer within") || text.contains("it did not stop within")
            };
            let timer = self.store.timers.get(&(row.execution_id, row.run));
            let Some(timer) = timer.filter(|_| error.is_some_and(says_so)) else {
                continue;
            };
            let ended = commit
                .transitions
                .iter()
                .filter(|entry| ends_attempt(entry));
            let mut keys = ended.filter_map(attempt_of);
            let key = keys.find(|key| (key.0, key.1) == (row.execution_id, row.run));
            deadlines.extend(key.map(|key| (key, timer.due_at)));
        }
        deadlines
    }

    /// Looks at a commit that was executed.
    pub fn check_commit(
        &mut self,
        sender: Uuid,
        commit: &Commit,
        passing: &[OutboxJob],
        deadlines: &[(AttemptKey, DateTime<Utc>)],
    ) {
        self.check_writer(sender, commit);
        self.check_log(commit);
        for job in passing {
            let key = (job.execution_id, job.run, job.attempt);
            if self.is_current(key) && !self.checks.published.contains(&key) {
                let (no, what) = (job.partition, show_attempt(key));
                self.violate(|| format!("the watermark of {no} passes {what}, never published"));
            }
        }
        let is_given_up = |error: &Json| error.text().contains("worker_lost");
        let mut errors = commit.tasks.iter().filter_map(|row| row.error.as_ref());
        if errors.any(is_given_up) {
            self.note(Happening::WorkerLost);
        }
        let is_silent = |row: &TransitionRow| {
            let detail = row
                .detail
                .as_ref()
                .filter(|_| row.kind == TransitionKind::JobResent);
            detail.is_some_and(|detail| detail.text().contains("silent"))
        };
        if commit.transitions.iter().any(is_silent) {
            self.note(Happening::WorkerSilent);
        }
        for (key, due_at) in deadlines {
            self.check_deadline(sender, *key, *due_at);
        }
        let touched: BTreeSet<ExecutionId> = commit
            .transitions
            .iter()
            .map(|row| row.execution_id)
            .chain(passing.iter().map(|job| job.execution_id))
            .collect();
        for id in touched {
            self.check_seen(id);
        }
    }

    /// An epoch has one writer, and that is who took it.
    fn check_writer(&mut self, sender: Uuid, commit: &Commit) {
        for fence in &commit.partitions {
            let key = (fence.partition, fence.epoch);
            let writer = *self.checks.writers.entry(key).or_insert(sender);
            let row = &self.store.partitions[&fence.partition];
            // One that has released the partition may still have a commit under way.
            let owner = row.owner.unwrap_or(sender);
            if writer != sender || row.epoch != fence.epoch || owner != sender {
                self.violate(|| format!("partition {} has two writers", key.0));
            }
        }
    }

    /// The log has no gap, and an attempt ends once.
    fn check_log(&mut self, commit: &Commit) {
        let mut last: BTreeMap<ExecutionId, i64> = BTreeMap::new();
        for row in &commit.transitions {
            let id = row.execution_id;
            let before = last.insert(id, row.seq).unwrap_or(row.seq - 1);
            let follows = row.seq == 1 || self.store.transitions.contains_key(&(id, row.seq - 1));
            if before != row.seq - 1 || !follows {
                self.violate(|| format!("a gap in the log of {} at {}", show_id(id), row.seq));
            }
            let is_rerun = |detail: &Json| detail.text().contains(r#""command":"rerun""#);
            if row.detail.as_ref().is_some_and(is_rerun) {
                self.note(Happening::RanAgain);
            }
            if let Some(key) = attempt_of(row).filter(|_| ends_attempt(row)) {
                self.check_end_of_attempt(key);
            }
        }
        for (id, seq) in last {
            let row = &self.store.executions[&id];
            if row.state.last_seq != seq {
                self.violate(|| format!("the row of {} and its log have parted", show_id(id)));
            }
        }
    }

    /// A task succeeds by its child's success alone; what ends before its child has told it to stop.
    fn check_end_of_child(&mut self, key: AttemptKey, status: &str, task_id: TaskId) {
        let child = ExecutionId::of_child(task_id, key.2);
        let Some(row) = self.store.executions.get(&child) else {
            return;
        };
        let (is_over, end) = (row.state.finished_at.is_some(), row.state.status);
        if status == "succeeded" && end != "succeeded" {
            let what = show_attempt(key);
            self.violate(|| format!("attempt {what} succeeds, and its child is {end}"));
        }
        if !is_over && end != "cancelling" {
            let what = show_attempt(key);
            self.violate(|| format!("attempt {what} has ended, and its child is {end}"));
        }
    }

    /// An attempt ends once, and what a worker said of another attempt does not end it.
    fn check_end_of_attempt(&mut self, key: AttemptKey) {
        if !self.checks.ended.insert(key) {
            self.violate(|| format!("attempt {} ends twice", show_attempt(key)));
        }
        let task = self.store.tasks.get(&(key.0, key.1));
        if let Some(task) = task.filter(|task| task.pool.is_none() && task.attempt > 0) {
            return self.check_end_of_child(key, task.status, task.task_id);
        }
        let is_report = task.is_some_and(|task| {
            let broke = |error: &Json| error.text().contains(BROKEN);
            task.status == "succeeded" || task.error.as_ref().is_some_and(broke)
        });
        if is_report && !self.checks.completed.contains(&key) {
            let what = show_attempt(key);
            self.violate(|| format!("attempt {what} ends by what was said of another"));
        }
    }

    /// A deadline acts only if no completion from before it waits in the inbox.
    fn check_deadline(&mut self, sender: Uuid, key: AttemptKey, due_at: DateTime<Utc>) {
        self.note(Happening::DeadlineFired);
        let Some(row) = self.store.executions.get(&key.0) else {
            return;
        };
        let inbox = self.queues.inbox(row.partition);
        // What a former owner has not given back is nobody's backlog yet.
        let coordinators = self.coordinators.iter().flatten();
        let sender = coordinators.filter(|held| held.owner == sender);
        let own: Vec<ChannelNo> = sender
            .flat_map(|held| held.channels.values().filter_map(|own| own.no))
            .collect();
        let taken = self.broker.unacknowledged_by_channel(inbox);
        let taken = taken.filter(|(no, _)| own.contains(no));
        let ready = self.broker.ready(inbox).iter();
        let mut backlog = ready.chain(taken.map(|(_, stored)| stored));
        // One that has come back may stand behind the probe, which was sent to another owner.
        let waits =
            backlog.any(|stored| stored.returns == 0 && completes_by(&stored.message, key, due_at));
        drop(backlog);
        if waits {
            let what = show_attempt(key);
            self.violate(|| format!("the deadline of {what} acts before its completion is read"));
        }
    }

    /// A coordinator that owns a partition is not fenced.
    pub fn check_fenced(&mut self, sender: Uuid, commit: &Commit, lost: &[PartitionNo]) {
        for fence in &commit.partitions {
            let row = &self.store.partitions[&fence.partition];
            let is_ours = row.owner == Some(sender) && row.epoch == fence.epoch;
            if is_ours && lost.contains(&fence.partition) {
                let (no, turn, last) = (fence.partition, fence.turn, row.last_turn);
                self.violate(|| format!("the owner of {no} is fenced: turn {turn} after {last}"));
            }
        }
    }

    /// A take-over that another commit came into.
    pub fn check_take_over(&mut self, taken: &[TakenPartition]) {
        let moved = taken
            .iter()
            .any(|taken| self.store.partitions[&taken.partition].last_turn != taken.last_turn);
        if moved {
            self.note(Happening::CommitInTakeOver);
        }
    }

    /// Whoever lives keeps its lease, once nothing goes wrong.
    pub fn check_lease(&mut self, partition: PartitionNo, former: Uuid) {
        let coordinators = self.coordinators.iter().flatten();
        let mut still = coordinators.filter(|held| held.is_paused);
        if still.any(|held| held.owner == former) {
            return;
        }
        let calm = self.checks.calm_since;
        if calm.is_some_and(|since| self.store.now > since + seconds(2.0 * LEASE_S)) {
            self.violate(|| format!("the lease of {partition} runs out though {former} lives"));
        }
    }

    pub fn lives(&self, owner: Uuid) -> bool {
        self.coordinators
            .iter()
            .flatten()
            .any(|held| held.owner == owner)
    }

    /// Whether the rows say that a worker has this attempt, or is to have it.
    pub fn is_current(&self, (id, run, attempt): AttemptKey) -> bool {
        let is_live = self
            .store
            .executions
            .get(&id)
            .is_some_and(|row| row.state.finished_at.is_none());
        is_live
            && self.store.tasks.get(&(id, run)).is_some_and(|row| {
                row.attempt == attempt && matches!(row.status, "dispatched" | "running")
            })
    }

    /// The ghost check: a message that is gone for good must be without effect on the rows.
    pub fn check_spent(&mut self, gone: &[Stored<Body>]) {
        for stored in gone {
            match &stored.message {
                Body::Start(request) => self.check_start_spent(request),
                Body::Inbox(message, _) => self.check_inbox_spent(message),
                Body::Control(request) => self.check_command_spent(request),
                Body::Job(Job { execution_id, .. }) | Body::Bundle(Job { execution_id, .. }) => {
                    self.check_seen(*execution_id);
                }
                Body::Reply(_) | Body::Refused(_) => {}
            }
        }
    }

    fn check_inbox_spent(&mut self, message: &InboxMessage) {
        match message {
            InboxMessage::Completed(list) => {
                for completed in list {
                    let key = key_of(completed.execution_id, completed.task_id, completed.attempt);
                    if self.is_current(key) {
                        let what = show_attempt(key);
                        self.violate(|| format!("the completion of {what} was eaten"));
                    }
                    self.check_seen(completed.execution_id);
                }
            }
            InboxMessage::Started(started) => {
                let key = key_of(started.execution_id, started.task_id, started.attempt);
                let row = self.store.tasks.get(&(key.0, key.1));
                let is_unheard =
                    row.is_some_and(|row| row.status == "dispatched" && row.starts == 0);
                if self.is_current(key) && is_unheard && !self.had_poison() {
                    let what = show_attempt(key);
                    self.violate(|| format!("the start of {what} was eaten"));
                }
            }
            InboxMessage::Dead(dead) => self.check_seen(dead.execution_id),
            InboxMessage::Heartbeat(_)
            | InboxMessage::Log(_)
            | InboxMessage::Probe(_)
            | InboxMessage::Control(_) => {}
        }
    }

    /// Whether a message was taken for poison. One whose takers died, again and again, is given up,
    /// whatever it says.
    fn had_poison(&self) -> bool {
        self.coverage.count(Happening::Poison) > 0
    }

    /// A cancel that is gone was carried out, or is on its way, or came too late. Other commands may
    /// be refused.
    fn check_command_spent(&mut self, request: &ControlRequest) {
        let id = request.control.execution_id;
        let Some(row) = self.store.executions.get(&id) else {
            return;
        };
        // What a rerun began is not what was cancelled.
        let ran_again = row.state.ends.text().contains(r#""rerun":"#);
        let is_done =
            row.state.finished_at.is_some() || row.state.status == "cancelling" || ran_again;
        if request.control.command != "cancel" || is_done || self.had_poison() {
            return;
        }
        let name = request.message_id.as_deref();
        if name.is_some_and(|name| self.checks.excused.contains(name)) {
            return;
        }
        let inbox = self.queues.inbox(row.partition);
        let mut waiting = self.broker.messages(inbox);
        let waits = waiting.any(|stored| {
            matches!(&stored.message, Body::Control(other) if other.message_id.as_deref() == name)
        });
        drop(waiting);
        if !waits {
            self.violate(|| format!("the cancel of {} was eaten", show_id(id)));
        }
    }

    fn check_start_spent(&mut self, request: &flotilla_turn::message::StartRequest) {
        let no: usize = request.original.detail.parse().expect("a number");
        let asked = &self.clients.asked[no];
        if asked.is_poison || self.execution_of(no).is_some() {
            return;
        }
        let what = show_id(asked.id);
        self.violate(|| format!("the start of {what} was eaten"));
    }

    /// The execution that a start has led to.
    pub fn execution_of(&self, asked: usize) -> Option<ExecutionId> {
        let asked = &self.clients.asked[asked];
        match &asked.key {
            Some(key) => self.store.started_with(key),
            None => self.store.starts.get(&asked.id).map(|row| row.execution_id),
        }
    }

    /// What a coordinator remembers of partitions that are its own is what the rows say.
    pub fn check_memory(&mut self, place: usize) {
        let Some(held) = &self.coordinators[place] else {
            return;
        };
        if !held.turns.is_idle() {
            return;
        }
        let mut parted = None;
        for known in held.turns.executions() {
            let row = &self.store.partitions[&known.partition];
            if held.turns.epoch(known.partition) != Some(row.epoch) {
                continue;
            }
            let id = known.execution.id;
            let stored = self.store.restore(id);
            let (memory, rows) = (picture(&known.execution), picture(&stored.execution));
            if memory != rows {
                parted = Some(format!("memory of {}: {memory}\nrows: {rows}", show_id(id)));
            }
        }
        if let Some(what) = parted {
            self.violate(|| format!("coordinator {place} remembers what is not so: {what}"));
        }
    }
}

/// All that counts of an execution, in a form that can be compared.
fn picture(execution: &flotilla_engine::execution::Execution) -> String {
    let live = execution.live.values().map(|run| {
        let mut run = run.clone();
        run.unsaved = flotilla_engine::execution::Unsaved::default();
        run.ended = None;
        run.action = None;
        run
    });
    format!(
        "{:?} {:?} {:?} {} {} {} {:?} {:?}",
        execution.status,
        execution.counts,
        execution.visits,
        execution.last_run,
        execution.last_write,
        execution.last_seq,
        execution.errors,
        live.collect::<Vec<_>>(),
    )
}

pub(crate) fn key_of(id: ExecutionId, task_id: TaskId, attempt: u32) -> AttemptKey {
    (id, task_id.run(), attempt)
}

/// Whether a message completes an attempt, and was sent by then.
fn completes_by(body: &Body, key: AttemptKey, due_at: DateTime<Utc>) -> bool {
    let Body::Inbox(message, sent_at) = body else {
        return false;
    };
    let InboxMessage::Completed(list) = &**message else {
        return false;
    };
    *sent_at < due_at
        && list
            .iter()
            .any(|ended| key_of(ended.execution_id, ended.task_id, ended.attempt) == key)
}

fn attempt_of(row: &TransitionRow) -> Option<AttemptKey> {
    Some(key_of(row.execution_id, row.task_id?, row.attempt?))
}

/// Whether a log entry says that an attempt has ended; a retry that is given up ends none.
fn ends_attempt(row: &TransitionRow) -> bool {
    let is_end = match row.kind {
        TransitionKind::TaskEnded | TransitionKind::TaskRetryScheduled => row.attempt.is_some(),
        TransitionKind::ExecutionStarted
        | TransitionKind::TaskDispatched
        | TransitionKind::TaskStarted
        | TransitionKind::JoinArrived
        | TransitionKind::ControlApplied
        | TransitionKind::JobResent
        | TransitionKind::ExecutionStatusChanged => false,
    };
    is_end && row.from_status != Some("retrying")
}
