//! What a turn takes: deliveries from every channel, timers that are due, and what a former owner
//! left to publish.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flotilla_engine::DefinitionHash;
use flotilla_engine::execution::AttemptId;
use flotilla_protocol::ExecutionId;
use flotilla_protocol::decode::InboxMessage;

use crate::Turns;
use crate::channels::Stage;
use crate::effect::{Effect, LoadRequest};
use crate::fairness::Shares;
use crate::message::{ChannelId, DeliveryId, Message, RefusedMessage, StartRequest};
use crate::partitions::Partition;
use crate::rows::{
    Epoch, LostJob, OutboxJob, OutboxReply, PartitionNo, ReplyMessage, StartLookup, TimerRow,
    TurnNo,
};

/// Messages that one turn takes at most.
pub const MAX_TURN_MESSAGES: usize = 500;
/// Bytes that one turn takes at most.
pub const MAX_TURN_BYTES: usize = 16 * 1024 * 1024;

/// One thing that a turn takes.
#[derive(Debug, Clone)]
pub(crate) enum Item {
    /// A start, or a message from an inbox.
    Delivery {
        id: DeliveryId,
        suspect_key: Option<String>,
        message: Arc<Message>,
    },
    /// A timer that has run out.
    Timer(TimerRow),
    /// What a former owner's turn owed.
    Recovery(Recovery),
    /// A completion that nobody could take: its task fails.
    Poisoned(Box<Poisoned>),
    /// A job that is gone: it is published again.
    LostJob(LostJob),
}

/// What a turn of a former owner owed and may not have published.
#[derive(Debug, Clone)]
pub(crate) struct Recovery {
    pub partition: PartitionNo,
    pub epoch: Epoch,
    pub turn: TurnNo,
    pub jobs: Vec<OutboxJob>,
    pub replies: Vec<OutboxReply>,
}

/// A completion that became a dead letter.
#[derive(Debug, Clone)]
pub(crate) struct Poisoned {
    pub partition: PartitionNo,
    /// It is passed on to the dead letters once its tasks have failed.
    pub delivery: DeliveryId,
    pub refused: RefusedMessage,
    pub attempts: Vec<(ExecutionId, AttemptId)>,
    pub reason: String,
}

/// A turn under way.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    pub items: Vec<Item>,
    /// Whether the leases of all partitions are to be renewed with it.
    pub renews: bool,
    /// Partitions that are let go once it is committed.
    pub farewells: Vec<PartitionNo>,
}

pub(crate) struct Budget {
    messages: usize,
    bytes: usize,
}

impl Budget {
    pub(crate) fn is_spent(&self) -> bool {
        self.messages == 0 || self.bytes == 0
    }

    pub(crate) fn spend(&mut self, messages: usize, bytes: usize) {
        self.messages = self.messages.saturating_sub(messages.max(1));
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

impl Turns {
    /// Takes what is there. Nothing waits for a batch to fill.
    pub(crate) fn gather(&mut self, out: &mut Vec<Effect>) -> Turn {
        if let Some(alone) = self.take_suspect() {
            return Turn {
                items: vec![alone],
                ..Turn::default()
            };
        }
        let mut turn = Turn::default();
        let mut budget = Budget {
            messages: self.turn_limit,
            bytes: MAX_TURN_BYTES,
        };
        self.take_recoveries(&mut turn, &mut budget);
        let mut shares = self.crowd.shares(self.now);
        for channel in self.inboxes_in_turn() {
            self.take_channel(channel, &mut turn, &mut budget, &mut shares);
        }
        self.take_timers(&mut turn, &mut budget, out);
        if self.reads_starts() {
            self.take_channel(ChannelId::Start, &mut turn, &mut budget, &mut shares);
        }
        turn
    }

    /// Starts wait while nothing can take them or too much is on its way already.
    fn reads_starts(&self) -> bool {
        self.partitions.values().any(Partition::is_serving)
            && self.publications.len() < self.config.max_unconfirmed
    }

    fn take_recoveries(&mut self, turn: &mut Turn, budget: &mut Budget) {
        while !budget.is_spent() {
            let Some(poisoned) = self.poisoned.pop_front() else {
                break;
            };
            budget.spend(1, 0);
            turn.items.push(Item::Poisoned(Box::new(poisoned)));
        }
        while !budget.is_spent() {
            let Some(recovery) = self.recoveries.pop_front() else {
                break;
            };
            let ours = self.serving(recovery.partition);
            if ours.is_some_and(|partition| partition.epoch == recovery.epoch) {
                budget.spend(recovery.jobs.len() + recovery.replies.len(), 0);
                turn.items.push(Item::Recovery(recovery));
            }
        }
        while !budget.is_spent() {
            let Some(lost) = self.lost_jobs.pop_front() else {
                break;
            };
            if self.serving(lost.partition).is_some() {
                budget.spend(1, 0);
                turn.items.push(Item::LostJob(lost));
            }
        }
    }

    /// A partition that is ours and is not being handed over.
    fn serving(&self, partition: PartitionNo) -> Option<&Partition> {
        self.partitions
            .get(&partition)
            .filter(|held| held.is_serving())
    }

    /// The inboxes, each turn beginning with another, so that a full one does not starve the rest.
    fn inboxes_in_turn(&mut self) -> Vec<ChannelId> {
        let mut inboxes: Vec<ChannelId> = self
            .partitions
            .iter()
            .filter(|(_, held)| held.is_serving())
            .map(|(partition, _)| ChannelId::Inbox(*partition))
            .collect();
        if !inboxes.is_empty() {
            self.first_inbox = (self.first_inbox + 1) % inboxes.len();
            inboxes.rotate_left(self.first_inbox);
        }
        inboxes
    }

    fn take_channel(
        &mut self,
        channel: ChannelId,
        turn: &mut Turn,
        budget: &mut Budget,
        shares: &mut Shares,
    ) {
        let Some(held) = self.channels.get_mut(channel) else {
            return;
        };
        let generation = held.generation;
        let mut probes = Vec::new();
        let mut passed_suspect = false;
        let now = self.now;
        for delivery in &mut held.deliveries {
            if budget.is_spent() {
                break;
            }
            if delivery.stage != Stage::Pending {
                passed_suspect |= delivery.stage.is_set_aside();
                continue;
            }
            let is_probe = matches!(&*delivery.message, Message::Inbox(InboxMessage::Probe(_)));
            if is_probe && passed_suspect {
                // A completion before it waits to be taken alone.
                continue;
            }
            if !shares.take(&delivery.message, &mut self.crowd, now) {
                // What is behind it waits with it: a completion must not be overtaken by a probe.
                break;
            }
            delivery.stage = Stage::Taken;
            budget.spend(weight(&delivery.message), delivery.bytes);
            if let Message::Inbox(InboxMessage::Probe(probe)) = &*delivery.message {
                probes.push(*probe);
            }
            turn.items.push(Item::Delivery {
                id: DeliveryId {
                    channel,
                    generation,
                    tag: delivery.tag,
                },
                suspect_key: None,
                message: Arc::clone(&delivery.message),
            });
        }
        for probe in probes {
            self.allow_deadlines(probe);
        }
    }

    /// What the turn needs and is not held.
    pub(crate) fn missing(
        &self,
        turn: &Turn,
        known: &BTreeMap<DeliveryId, DefinitionHash>,
    ) -> LoadRequest {
        let mut request = LoadRequest::default();
        let mut executions = BTreeSet::new();
        for item in &turn.items {
            match item {
                Item::Delivery { id, message, .. } => match &**message {
                    Message::Start(_) if known.contains_key(id) => {}
                    Message::Start(start) => request.starts.push(lookup(start)),
                    Message::Inbox(message) => executions.extend(named_executions(message)),
                    Message::Salvaged { completed, .. } => {
                        executions.extend(completed.iter().map(|completed| completed.execution_id));
                    }
                    Message::Control(control) => {
                        executions.insert(control.control.execution_id);
                        request.controls.extend(control.lookup());
                        request.pasts.extend(control.past());
                    }
                    Message::Forward(_) => {}
                },
                Item::Timer(timer) => {
                    executions.insert(timer.execution_id);
                }
                Item::Recovery(recovery) => {
                    executions.extend(recovery.jobs.iter().map(|job| job.execution_id));
                    executions.extend(recovery.replies.iter().filter_map(|reply| {
                        match &reply.message {
                            ReplyMessage::Finished { execution_id } => Some(*execution_id),
                            ReplyMessage::Stored { .. } => None,
                        }
                    }));
                }
                Item::Poisoned(poisoned) => {
                    executions.extend(poisoned.attempts.iter().map(|(id, _)| *id));
                }
                Item::LostJob(lost) => {
                    executions.insert(lost.execution_id);
                }
            }
        }
        request.pasts.sort_unstable();
        request.pasts.dedup();
        request.executions = executions
            .into_iter()
            .filter(|id| !self.cache.contains(*id))
            .collect();
        request
    }
}

fn weight(message: &Message) -> usize {
    match message {
        Message::Inbox(InboxMessage::Completed(list))
        | Message::Salvaged {
            completed: list, ..
        } => list.len(),
        Message::Inbox(_) | Message::Control(_) | Message::Start(_) | Message::Forward(_) => 1,
    }
}

fn lookup(request: &StartRequest) -> StartLookup {
    StartLookup {
        execution_id: request.start.execution_id,
        idempotency_key: request.start.idempotency_key.clone(),
        workflow: request.start.workflow.clone(),
        version: request.start.version.clone(),
    }
}

fn named_executions(message: &InboxMessage) -> Vec<ExecutionId> {
    match message {
        InboxMessage::Completed(list) => list
            .iter()
            .map(|completed| completed.execution_id)
            .collect(),
        InboxMessage::Started(started) | InboxMessage::Heartbeat(started) => {
            vec![started.execution_id]
        }
        InboxMessage::Dead(dead) => vec![dead.execution_id],
        InboxMessage::Log(_) | InboxMessage::Probe(_) | InboxMessage::Control(_) => Vec::new(),
    }
}
