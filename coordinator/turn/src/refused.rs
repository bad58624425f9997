//! Turns that the database will never take, or that panic: they are taken apart, down to the message
//! that is to blame, and that becomes a dead letter.

use chrono::TimeDelta;
use flotilla_engine::execution::AttemptId;
use flotilla_protocol::decode::InboxMessage;
use flotilla_protocol::message::TaskCompleted;
use flotilla_protocol::{ExecutionId, names};

use crate::Turns;
use crate::channels::Stage;
use crate::effect::Effect;
use crate::gather::{Item, MAX_TURN_MESSAGES, Poisoned, Recovery, Turn};
use crate::message::{ChannelId, ControlRequest, DeliveryId, Forward, Message, RefusedMessage};

/// Seconds after which a timer that poisons its turn is tried again.
const POISONED_TIMER_S: i64 = 60;

impl Turns {
    /// The database will never take the turn, or deciding it panicked: it is halved, down to single
    /// messages; one that fails alone is poison. `touched` is `None` where nobody can tell what the
    /// panic left behind.
    pub(crate) fn turn_refused(
        &mut self,
        turn: Turn,
        touched: Option<&[ExecutionId]>,
        error: &str,
        out: &mut Vec<Effect>,
    ) {
        tracing::error!(messages = turn.items.len(), error, "a turn was refused");
        match touched {
            Some(touched) => self.discard(touched),
            None => self.cache.clear(),
        }
        let mut items = turn.items;
        if items.len() > 1 {
            self.halve_turns(items.len());
            self.put_back(Turn {
                items,
                ..Turn::default()
            });
            return;
        }
        match items.pop() {
            Some(Item::Delivery { id, message, .. }) => self.poison(id, &message, error, out),
            Some(Item::Timer(mut timer)) => {
                timer.due_at = self.now + TimeDelta::seconds(POISONED_TIMER_S);
                self.timers.set(timer);
            }
            Some(Item::Recovery(recovery)) => self.halve_recovery(recovery),
            // Found again by the next look.
            Some(Item::LostJob(lost)) => {
                tracing::error!(?lost, "a lost job cannot be published again");
            }
            Some(Item::Poisoned(poisoned)) => {
                self.pass_on(poisoned.delivery, poisoned.refused, out);
            }
            None => {}
        }
    }

    /// The next turn takes half as many messages as one that had so many.
    pub(crate) fn halve_turns(&mut self, messages: usize) {
        self.turn_limit = (messages / 2).clamp(1, MAX_TURN_MESSAGES);
    }

    /// One job that cannot be made again must not keep the rest; alone it stays in the outbox, for an
    /// owner that can make it.
    fn halve_recovery(&mut self, mut recovery: Recovery) {
        if recovery.jobs.len() + recovery.replies.len() < 2 {
            tracing::error!(?recovery, "what a former owner owed cannot be published");
            return;
        }
        let jobs = recovery.jobs.split_off(recovery.jobs.len().div_ceil(2));
        let replies = recovery.replies.split_off(recovery.replies.len() / 2);
        self.recoveries.push_front(Recovery {
            jobs,
            replies,
            ..recovery
        });
        self.recoveries.push_front(recovery);
    }

    /// A message that nobody can take becomes a dead letter, once the tasks that it completes have
    /// failed.
    pub(crate) fn poison(
        &mut self,
        id: DeliveryId,
        message: &Message,
        error: &str,
        out: &mut Vec<Effect>,
    ) {
        let (refused, completed) = match message {
            Message::Start(request) => {
                let refused = RefusedMessage {
                    reason: "poison",
                    ..request.original.clone()
                };
                (refused, &[][..])
            }
            Message::Inbox(inbox) => poisoned_inbox(id.channel, inbox, error),
            Message::Salvaged { completed, refused } => ((**refused).clone(), &completed[..]),
            Message::Control(request) => (poisoned_control(request, error), &[][..]),
            Message::Forward(_) => return,
        };
        let ChannelId::Inbox(partition) = id.channel else {
            return self.pass_on(id, refused, out);
        };
        let Some(delivery) = self.channels.delivery(id).filter(|_| !completed.is_empty()) else {
            return self.pass_on(id, refused, out);
        };
        delivery.stage = Stage::Taken;
        self.poisoned.push_back(Poisoned {
            partition,
            delivery: id,
            refused,
            attempts: completed
                .iter()
                .map(|completed| {
                    let attempt = AttemptId {
                        task_id: completed.task_id,
                        attempt: completed.attempt,
                    };
                    (completed.execution_id, attempt)
                })
                .collect(),
            reason: format!("the completion could not be taken: {error}"),
        });
    }

    fn pass_on(&mut self, id: DeliveryId, refused: RefusedMessage, out: &mut Vec<Effect>) {
        if let Some(delivery) = self.channels.delivery(id) {
            if let Some(key) = delivery.suspect_key.clone() {
                self.suspects.done(&key);
                out.push(Effect::ClearSuspect { key });
            }
            delivery.stage = Stage::Forwarding;
            out.push(Effect::Forward {
                delivery: id,
                forward: Box::new(Forward::Refused(refused)),
            });
        }
    }
}

fn poisoned_control(request: &ControlRequest, error: &str) -> RefusedMessage {
    let mut refused = RefusedMessage {
        reason: "poison",
        detail: error.to_owned(),
        queue: names::CONTROL_QUEUE.to_owned(),
        body: crate::publications::to_json(&request.control),
        ..RefusedMessage::default()
    };
    refused.envelope.message_id.clone_from(&request.message_id);
    refused.envelope.message_type = Some(names::WORKFLOW_CONTROL.to_owned());
    refused
}

/// The message as a dead letter shows it, and what it completes.
fn poisoned_inbox<'a>(
    channel: ChannelId,
    message: &'a InboxMessage,
    error: &str,
) -> (RefusedMessage, &'a [TaskCompleted]) {
    let mut refused = RefusedMessage {
        reason: "poison",
        detail: error.to_owned(),
        ..RefusedMessage::default()
    };
    if let ChannelId::Inbox(partition) = channel {
        refused.queue = names::inbox_queue(partition);
    }
    let InboxMessage::Completed(list) = message else {
        return (refused, &[]);
    };
    refused.body = crate::publications::to_json(list);
    (refused, list)
}
