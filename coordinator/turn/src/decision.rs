//! A turn that is being decided: each item in order, into one commit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use flotilla_engine::Workflow;
use flotilla_engine::execution::{AttemptId, Changes, Event, Outcome, Report, follow};
use flotilla_engine::{DefinitionHash, Json};
use flotilla_protocol::decode::InboxMessage;
use flotilla_protocol::message::{TaskCancel, TaskCompleted, TaskDead, TaskStarted};
use flotilla_protocol::{ExecutionId, RunNo, TaskId, names};
use uuid::Uuid;

use crate::Turns;
use crate::cache::Held;
use crate::effect::Publication;
use crate::encode::{self, Before};
use crate::gather::{Item, Turn};
use crate::heartbeats::{Beat, start_event};
use crate::machine::Found;
use crate::message::{ChannelId, DeliveryId, Forward, Message};
use crate::publications::Debt;
use crate::rows::{
    Commit, ControlLookup, FoundStart, IgnoredRow, LoadedPast, PartitionNo, PartitionTurn,
    ReplyMessage, TimerRow,
};

/// What a turn has come to.
pub(crate) struct Decision {
    pub commit: Commit,
    /// Executions that the turn has changed in memory.
    pub touched: Vec<ExecutionId>,
    /// Those of them that have ended.
    pub finished: Vec<ExecutionId>,
    /// What to publish once the commit stands.
    pub publications: Vec<(Debt, Arc<Publication>)>,
    /// Debts of a former owner that are void.
    pub settled: Vec<Debt>,
    /// Messages to pass on once the commit stands.
    pub forwards: Vec<(DeliveryId, Forward)>,
    /// Attempts that workers are to stop.
    pub cancels: Vec<TaskCancel>,
    /// Signs of life of workers whose jobs are acknowledged.
    pub beats: Vec<Beat>,
    /// Runs of which it has heard anything.
    pub heard: BTreeSet<(ExecutionId, RunNo)>,
    /// Timers that the turn has taken and that do not fire after all.
    pub kept_timers: Vec<TimerRow>,
    /// Names of workflows that have to be looked up before the turn can be decided.
    pub wanted: BTreeSet<String>,
}

/// The state of deciding.
pub(crate) struct Deciding<'a> {
    pub turns: &'a mut Turns,
    pub now: DateTime<Utc>,
    pub starts: std::slice::Iter<'a, FoundStart>,
    /// Starts that were not looked up.
    pub known: &'a BTreeMap<DeliveryId, DefinitionHash>,
    /// The partition of this turn's starts, and how many more it takes.
    pub starts_go_to: Option<(PartitionNo, usize)>,
    /// Commands that were carried out before, in this turn or earlier.
    pub controls: BTreeSet<ControlLookup>,
    /// What executions have behind them that are to run again.
    pub pasts: &'a [LoadedPast],
    pub workflows: &'a BTreeMap<DefinitionHash, Result<Arc<Workflow>, String>>,
    pub fence: BTreeMap<PartitionNo, PartitionTurn>,
    pub work: BTreeMap<ExecutionId, (Before, Changes)>,
    /// Names of starts that this turn has accepted.
    pub named: BTreeMap<String, (ExecutionId, String)>,
    pub decision: Decision,
}

impl Turns {
    /// Decides a turn for which everything has been loaded.
    pub(crate) fn decide_items(&mut self, turn: &Turn, found: &Found) -> Decision {
        let (now, turn_id, lease_s) = (self.now, self.next_turn_id(), self.config.lease_s);
        let mut deciding = Deciding {
            now,
            known: &found.known,
            starts: found.starts.as_deref().unwrap_or_default().iter(),
            starts_go_to: None,
            controls: found.controls.iter().cloned().collect(),
            pasts: &found.pasts,
            workflows: &found.workflows,
            fence: BTreeMap::new(),
            work: BTreeMap::new(),
            named: BTreeMap::new(),
            decision: Decision::new(turn_id, lease_s),
            turns: self,
        };
        for item in &turn.items {
            deciding.item(item);
        }
        if turn.renews {
            deciding.fence_all();
        }
        for farewell in &turn.farewells {
            deciding.fence_in(*farewell);
        }
        deciding.finish()
    }
}

impl Decision {
    fn new(turn_id: Uuid, lease_s: f64) -> Self {
        Self {
            commit: Commit::empty(turn_id, lease_s),
            touched: Vec::new(),
            finished: Vec::new(),
            publications: Vec::new(),
            settled: Vec::new(),
            forwards: Vec::new(),
            cancels: Vec::new(),
            beats: Vec::new(),
            heard: BTreeSet::new(),
            kept_timers: Vec::new(),
            wanted: BTreeSet::new(),
        }
    }
}

/// The message that an event came with, for the record should it have no effect.
struct Source<'a> {
    partition: PartitionNo,
    message_type: &'static str,
    task_id: Option<TaskId>,
    attempt: Option<u32>,
    worker: Option<&'a str>,
}

impl Deciding<'_> {
    fn item(&mut self, item: &Item) {
        match item {
            Item::Delivery { id, message, .. } => match (&**message, id.channel) {
                (Message::Start(request), _) => {
                    if let Some(found) = self.found_start(*id, request) {
                        self.start(*id, request, &found);
                    }
                }
                (Message::Inbox(message), ChannelId::Inbox(partition)) => {
                    self.inbox(partition, message);
                }
                (Message::Control(request), ChannelId::Inbox(partition)) => {
                    self.control(partition, request);
                }
                (Message::Salvaged { completed, refused }, ChannelId::Inbox(partition)) => {
                    for completed in completed {
                        self.completed(partition, completed);
                    }
                    let refused = Forward::Refused((**refused).clone());
                    self.decision.forwards.push((*id, refused));
                }
                (
                    Message::Inbox(_)
                    | Message::Control(_)
                    | Message::Salvaged { .. }
                    | Message::Forward(_),
                    _,
                ) => {}
            },
            Item::Timer(timer) if self.has_heard(timer) => self.decision.kept_timers.push(*timer),
            Item::Timer(timer) => {
                let event = Event::TimerFired {
                    run: timer.run,
                    kind: timer.kind,
                };
                let outcome = self.apply(timer.partition, timer.execution_id, &event);
                // `None`: the execution cannot be read; its timer waits for an owner that can.
                if matches!(
                    outcome,
                    Some(Outcome::Nothing | Outcome::Ignored(_) | Outcome::Refused(_))
                ) {
                    self.decision
                        .commit
                        .timers_cleared
                        .push((timer.execution_id, timer.run));
                }
            }
            Item::Recovery(recovery) => self.recover(recovery),
            Item::LostJob(lost) => self.lost_job(lost),
            Item::Poisoned(poisoned) => {
                for (execution_id, attempt) in &poisoned.attempts {
                    let event = Event::CompletionPoisoned {
                        attempt: *attempt,
                        reason: poisoned.reason.clone(),
                    };
                    self.apply(poisoned.partition, *execution_id, &event);
                }
                let refused = Forward::Refused(poisoned.refused.clone());
                self.decision.forwards.push((poisoned.delivery, refused));
            }
        }
    }

    fn inbox(&mut self, partition: PartitionNo, message: &InboxMessage) {
        // Even a message without effect is only acknowledged behind the fence: a former owner could
        // otherwise take a live completion for a duplicate and eat it.
        self.fence_in(partition);
        match message {
            InboxMessage::Completed(list) => {
                for completed in list {
                    self.completed(partition, completed);
                }
            }
            InboxMessage::Started(started) => self.started(partition, started),
            InboxMessage::Dead(dead) => self.dead(partition, dead),
            InboxMessage::Heartbeat(alive) => self.heartbeat(partition, alive),
            InboxMessage::Log(_) | InboxMessage::Probe(_) | InboxMessage::Control(_) => {}
        }
    }

    fn completed(&mut self, partition: PartitionNo, completed: &TaskCompleted) {
        self.note_duration(completed);
        let attempt = AttemptId {
            task_id: completed.task_id,
            attempt: completed.attempt,
        };
        let event = Event::AttemptEnded {
            attempt: self.turns.spoiled_attempt(completed.execution_id, attempt),
            report: Box::new(Report {
                status: completed.status,
                result: completed.result.clone().map(Json::new),
                error: completed.error.clone(),
                started_at: completed.started_at,
                finished_at: completed.finished_at,
                worker: completed.worker.clone(),
            }),
        };
        let source = Source {
            partition,
            message_type: names::TASK_COMPLETED,
            task_id: Some(completed.task_id),
            attempt: Some(completed.attempt),
            worker: completed.worker.as_deref(),
        };
        self.apply_message(completed.execution_id, &event, &source);
    }

    fn started(&mut self, partition: PartitionNo, started: &TaskStarted) {
        let event = start_event(started);
        let source = Source {
            partition,
            message_type: names::TASK_STARTED,
            task_id: Some(started.task_id),
            attempt: Some(started.attempt),
            worker: started.worker.as_deref(),
        };
        let outcome = self.apply_message(started.execution_id, &event, &source);
        if outcome == Some(Outcome::Applied) {
            self.is_alive(partition, started);
        }
        if let Some(Outcome::Ignored(_)) = outcome {
            // Nobody waits for it any more.
            self.decision.cancels.push(TaskCancel {
                execution_id: started.execution_id,
                task_id: started.task_id,
                attempt: started.attempt,
                reason: Some("the attempt has ended".to_owned()),
            });
        }
    }

    fn dead(&mut self, partition: PartitionNo, dead: &TaskDead) {
        let attempt = AttemptId {
            task_id: dead.task_id,
            attempt: dead.attempt,
        };
        let reason = dead.reason.clone();
        let event = match dead.bundled {
            true => Event::JobReturned { attempt },
            false => Event::JobDied { attempt, reason },
        };
        let source = Source {
            partition,
            message_type: names::TASK_DEAD,
            task_id: Some(dead.task_id),
            attempt: Some(dead.attempt),
            worker: None,
        };
        self.apply_message(dead.execution_id, &event, &source);
    }

    /// Applies what a message says, and records that it had no effect where that is so.
    fn apply_message(
        &mut self,
        execution_id: ExecutionId,
        event: &Event,
        source: &Source<'_>,
    ) -> Option<Outcome> {
        let outcome = self.apply(source.partition, execution_id, event);
        let reason = match outcome {
            // Only commands are refused, and they are answered.
            Some(Outcome::Applied | Outcome::Nothing | Outcome::Refused(_)) => return outcome,
            Some(Outcome::Ignored(reason)) => reason.word(),
            None => "unknown_execution",
        };
        self.decision.commit.ignored.push(IgnoredRow {
            queue: names::inbox_queue(source.partition),
            message_type: source.message_type,
            execution_id,
            task_id: source.task_id,
            attempt: source.attempt,
            worker: source.worker.map(str::to_owned),
            reason,
        });
        outcome
    }

    /// Applies an event; `None` if there is no such execution in the partition.
    pub(crate) fn apply(
        &mut self,
        partition: PartitionNo,
        id: ExecutionId,
        event: &Event,
    ) -> Option<Outcome> {
        self.fence_in(partition);
        let now = self.now;
        let held = self
            .turns
            .cache
            .use_mut(id)
            .filter(|held| held.partition == partition)?;
        let (_, changes) = self
            .work
            .entry(id)
            .or_insert_with(|| (before(held), Changes::default()));
        let outcome = held.execution.apply(event, now, changes);
        if !changes.family.is_empty() {
            follow(self, id, now);
        }
        Some(outcome)
    }

    /// Makes rows and messages of all that has changed.
    fn finish(mut self) -> Decision {
        for (id, (before, changes)) in std::mem::take(&mut self.work) {
            self.finish_execution(id, before, changes);
        }
        let commit = &mut self.decision.commit;
        commit.starts.sort_by_key(|row| row.execution_id);
        commit.partitions = self.fence.into_values().collect();
        debug_assert!(
            encode::is_fenced(commit),
            "every row's partition is in the fence"
        );
        self.decision
    }

    fn finish_execution(&mut self, id: ExecutionId, before: Before, changes: Changes) {
        let Some(held) = self.turns.cache.use_mut(id) else {
            return;
        };
        let partition = held.partition;
        let changed = before.is_new || before.reply_to_changed || changes != Changes::default();
        if !changed {
            return;
        }
        self.decision.touched.push(id);
        let is_row_changed = before.is_new
            || before.reply_to_changed
            || !(changes.transitions.is_empty()
                && changes.touched.is_empty()
                && changes.ended.is_empty());
        if is_row_changed {
            encode::add_execution(&mut self.decision.commit, held, before, &changes, self.now);
        }
        let reply_to = if changes.finished {
            std::mem::take(&mut held.reply_to)
        } else {
            Vec::new()
        };
        self.dispatch(id, partition, changes.jobs);
        self.cancel(id, changes.cancels);
        if changes.finished {
            self.decision.finished.push(id);
        }
        for address in &reply_to {
            self.reply(
                partition,
                address,
                ReplyMessage::Finished { execution_id: id },
            );
        }
    }
}

/// What is known of an execution before a turn changes it.
pub(crate) fn before(held: &Held) -> Before {
    Before {
        is_new: false,
        last_run: held.execution.last_run,
        errors: held.execution.errors.len(),
        generation: held.execution.generation.no,
        has_output: held.execution.output.is_some(),
        reply_to_changed: false,
    }
}
