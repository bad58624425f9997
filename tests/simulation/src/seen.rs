//! Nothing waits for ever unseen: every run that a live execution waits for is owed, in a queue, with
//! a worker, or has a timer. Asked of the servers alone, not of the processes.

use flotilla_protocol::decode::InboxMessage;
use flotilla_protocol::{ExecutionId, RunNo};
use flotilla_turn::rows::TaskRow;

use crate::checks::key_of;
use crate::message::{AttemptKey, Body, show_attempt, show_id};
use crate::store::child_of;
use crate::world::World;

impl World {
    /// Looks whether anything will ever happen to an execution.
    pub fn check_seen(&mut self, id: ExecutionId) {
        let Some(row) = self.store.executions.get(&id) else {
            return;
        };
        let is_over = row.state.finished_at.is_some();
        let mut problem = None;
        if is_over {
            let timers = self.store.timers.range((id, 0)..=(id, RunNo::MAX));
            if timers.count() > 0 {
                problem = Some("has ended and has a timer".to_owned());
            }
        } else {
            let live = row.state.live_runs.iter();
            let tasks = live.map(|run| &self.store.tasks[&(id, *run)]);
            let mut is_moving = false;
            for task in tasks {
                // A task as a whole moves with its items, or with the timer that lets them in.
                let has_timer = self.store.timers.contains_key(&(id, task.run));
                is_moving |=
                    task.status != "waiting" && (task.item_progress.is_none() || has_timer);
                problem = problem.or(self.problem_of(task));
            }
            if !is_moving && row.state.status != "paused" {
                problem = Some("waits for nothing".to_owned());
            }
        }
        if let Some(problem) = problem {
            self.violate(|| format!("execution {} {problem}", show_id(id)));
        }
    }

    fn problem_of(&self, task: &TaskRow) -> Option<String> {
        let key = (task.execution_id, task.run, task.attempt);
        let timer = self.store.timers.get(&(key.0, key.1));
        let what = show_attempt(key);
        if let Some(progress) = &task.item_progress {
            return (progress.text().contains("put_off") && timer.is_none())
                .then(|| format!("waits for a timer of run {} that is no row", task.run));
        }
        if let Some(child) = child_of(task) {
            let live = self.store.executions.get(&child);
            return live
                .is_none_or(|child| child.state.finished_at.is_some())
                .then(|| format!("waits for the child {}, which has ended", show_id(child)));
        }
        match task.status {
            "waiting" => None,
            // A pause holds it back.
            "retrying" | "delayed" if task.held => None,
            "retrying" | "delayed" => timer
                .is_none()
                .then(|| format!("waits for a timer of {what} that is no row")),
            "running" if task.timeout_s.is_some() => timer
                .is_none()
                .then(|| format!("runs {what} without a deadline")),
            "dispatched" | "running" => (timer.is_none() && !self.is_somewhere(key))
                .then(|| format!("waits for {what}, which is nowhere")),
            other => Some(format!("has a live run {what} that is {other}")),
        }
    }

    /// Whether a job is owed, or its message or one that follows from it is at the broker.
    fn is_somewhere(&self, key: AttemptKey) -> bool {
        let mut owed = self.store.jobs.iter();
        if self.checks.lost.contains(&key) {
            return true;
        }
        if owed.any(|job| (job.execution_id, job.run, job.attempt) == key) {
            return true;
        }
        let partition = self.store.executions[&key.0].partition;
        let queues = [
            self.queues.pool,
            self.queues.inbox(partition),
            self.queues.dead,
        ];
        let mut messages = queues
            .into_iter()
            .flat_map(|queue| self.broker.messages(queue));
        messages.any(|stored| is_about(&stored.message, key))
    }
}

fn is_about(body: &Body, key: AttemptKey) -> bool {
    match body {
        Body::Job(job) | Body::Bundle(job) => job.key() == key,
        Body::Inbox(message, _) => match &**message {
            InboxMessage::Completed(list) => list
                .iter()
                .any(|ended| key_of(ended.execution_id, ended.task_id, ended.attempt) == key),
            InboxMessage::Dead(dead) => {
                key_of(dead.execution_id, dead.task_id, dead.attempt) == key
            }
            // The broker has the job no more, and the coordinator will wait for heartbeats.
            InboxMessage::Started(started) => {
                started.acknowledged
                    && key_of(started.execution_id, started.task_id, started.attempt) == key
            }
            InboxMessage::Heartbeat(_)
            | InboxMessage::Log(_)
            | InboxMessage::Probe(_)
            | InboxMessage::Control(_) => false,
        },
        Body::Start(_) | Body::Control(_) | Body::Reply(_) | Body::Refused(_) => false,
    }
}
