//! Clients: they start workflows, some of them twice, and note the answers.

use std::sync::Arc;

use flotilla_protocol::ExecutionId;
use flotilla_protocol::message::{WorkflowControl, WorkflowStart};
use flotilla_turn::message::{ControlRequest, RefusedMessage, ReplyAddress, StartRequest};
use uuid::Uuid;

use crate::broker::{Broker, QueueNo, QueueOptions};
use crate::coverage::Happening;
use crate::message::{Body, Reply, show_id};
use crate::random::Random;
use crate::workflows::{NAMES, SLOW_NAME};
use crate::world::World;

/// Clients that wait for answers.
const CLIENTS: usize = 3;

/// A start that somebody asked for.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub workflow: &'static str,
    pub id: ExecutionId,
    pub key: Option<String>,
    /// What the client calls its request.
    pub reply_to: Option<usize>,
    pub is_poison: bool,
}

pub(crate) struct Clients {
    queues: Vec<QueueNo>,
    has_gone: Vec<bool>,
    pub asked: Vec<Asked>,
    requests: Vec<Arc<StartRequest>>,
    executions: u32,
    commands: u32,
    /// Answers that have come, by client.
    pub replies: Vec<(usize, Reply)>,
}

impl Clients {
    pub fn new(broker: &mut Broker<Body>) -> Self {
        let queue = |no| broker.declare(&format!("client {no}"), QueueOptions::default());
        Self {
            queues: (0..CLIENTS).map(queue).collect(),
            has_gone: vec![false; CLIENTS],
            asked: Vec::new(),
            requests: Vec::new(),
            executions: 0,
            commands: 0,
            replies: Vec::new(),
        }
    }

    /// The queue of a client by its name.
    pub fn queue(&self, name: &str) -> QueueNo {
        let no = name.strip_prefix("client ").and_then(|no| no.parse().ok());
        let no: usize = no.expect("replies go to clients");
        self.queues[no]
    }

    /// The id that a coordinator makes up for a start that names none: another for each.
    fn fresh_id(&self, id: ExecutionId) -> ExecutionId {
        let no = self.asked.len() as u128;
        ExecutionId(Uuid::from_u128(id.0.as_u128() + (no << 8)))
    }

    /// The start that was passed on.
    pub fn request(&self, original: &RefusedMessage) -> Arc<StartRequest> {
        let no: usize = original.detail.parse().expect("a number");
        Arc::clone(&self.requests[no])
    }

    /// Notes an answer.
    pub fn answered(&mut self, queue: QueueNo, reply: &Reply) {
        let client = self.queues.iter().position(|held| *held == queue);
        let client = client.expect("replies go to clients");
        self.replies.push((client, reply.clone()));
    }
}

impl World {
    /// A client asks for a workflow, or asks again.
    pub fn client_step(&mut self, random: &mut Random) -> bool {
        let is_repeated = !self.clients.asked.is_empty() && random.percent(30);
        if !is_repeated && self.clients.executions >= self.setup.starts {
            return false;
        }
        let asked = if is_repeated {
            self.note(Happening::StartTwice);
            let earlier = &self.clients.asked[random.below(self.clients.asked.len())];
            Asked {
                reply_to: random.percent(50).then(|| random.below(CLIENTS)),
                ..earlier.clone()
            }
        } else {
            self.clients.executions += 1;
            let is_slow = self.setup.slow_workflow && self.clients.executions == 1;
            Asked {
                workflow: if is_slow {
                    SLOW_NAME
                } else {
                    random.pick(&NAMES)
                },
                id: ExecutionId(Uuid::from_u128(u128::from(self.clients.executions))),
                key: random
                    .percent(30)
                    .then(|| format!("key {}", self.clients.executions)),
                reply_to: random.percent(50).then(|| random.below(CLIENTS)),
                is_poison: false,
            }
        };
        self.say(|| {
            let key = asked.key.as_deref().unwrap_or("by its id");
            format!(
                "a client starts {} {} {key}",
                asked.workflow,
                show_id(asked.id)
            )
        });
        self.send_start(asked);
        true
    }

    fn send_start(&mut self, asked: Asked) {
        let by_key = asked.key.is_some();
        let start = WorkflowStart {
            workflow: asked.workflow.to_owned(),
            version: None,
            parameters: None,
            execution_id: (!by_key).then_some(asked.id),
            idempotency_key: asked.key.clone(),
            tags: std::collections::BTreeMap::new(),
            timeout: None,
        };
        let request = StartRequest {
            start,
            fresh_id: self.clients.fresh_id(asked.id),
            reply_to: asked.reply_to.map(|client| ReplyAddress {
                reply_to: format!("client {client}"),
                correlation_id: None,
            }),
            traceparent: None,
            original: RefusedMessage {
                detail: (self.clients.asked.len()).to_string(),
                ..RefusedMessage::default()
            },
        };
        let request = Arc::new(request);
        self.clients.asked.push(asked);
        self.clients.requests.push(Arc::clone(&request));
        self.arrive(self.queues.start, Body::Start(request));
    }

    /// A client sends a command, perhaps twice.
    pub fn command_step(&mut self, random: &mut Random) -> bool {
        if self.clients.asked.is_empty() {
            return false;
        }
        let no = random.below(self.clients.asked.len());
        let id = self.execution_of(no).unwrap_or(self.clients.asked[no].id);
        let command = random.pick(&[
            "cancel", "pause", "pause", "resume", "resume", "rerun", "rerun",
        ]);
        let client = random.percent(50).then(|| random.below(CLIENTS));
        let request = self.send_command(id, command, client);
        if random.percent(20) {
            self.arrive(self.queues.control, Body::Control(request));
        }
        true
    }

    /// Sends a command.
    pub fn send_command(
        &mut self,
        execution_id: ExecutionId,
        command: &str,
        client: Option<usize>,
    ) -> Arc<ControlRequest> {
        self.note(if command == "rerun" {
            Happening::RerunOrdered
        } else {
            Happening::Commanded
        });
        self.say(|| format!("a client sends {command} to {}", show_id(execution_id)));
        self.clients.commands += 1;
        let request = Arc::new(ControlRequest {
            control: WorkflowControl {
                execution_id,
                command: command.to_owned(),
                reason: None,
                from: Vec::new(),
                reset_items: false,
                parameters: None,
                vars: None,
            },
            message_id: Some(format!("command {}", self.clients.commands)),
            reply_to: client.map(|client| ReplyAddress {
                reply_to: format!("client {client}"),
                correlation_id: None,
            }),
        });
        self.arrive(self.queues.control, Body::Control(Arc::clone(&request)));
        request
    }

    /// A start or a command became a dead letter: whoever took it died, more than once.
    pub fn refused(&mut self, refused: &RefusedMessage) {
        let command = refused.envelope.message_id.clone();
        self.checks.excused.extend(command);
        let asked = refused.detail.parse().ok();
        if let Some(asked) = asked.and_then(|no: usize| self.clients.asked.get_mut(no)) {
            asked.is_poison = true;
        }
    }

    /// A client goes away, with its queue.
    pub fn client_leaves(&mut self, random: &mut Random) -> bool {
        let no = random.below(CLIENTS);
        if self.clients.has_gone[no] {
            return false;
        }
        self.clients.has_gone[no] = true;
        self.note(Happening::ClientGone);
        self.say(|| format!("client {no} goes away"));
        self.broker.delete(self.clients.queues[no]);
        true
    }
}
