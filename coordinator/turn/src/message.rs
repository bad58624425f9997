//! What arrives: messages by channel, decoded at the border.

use flotilla_protocol::decode::InboxMessage;
use flotilla_protocol::envelope::Envelope;
use flotilla_protocol::message::{
    TaskCompleted, TaskDead, TaskLog, WorkflowControl, WorkflowStart,
};
use flotilla_protocol::{ExecutionId, TaskId};

use crate::rows::{ControlLookup, PartitionNo};

/// A stream of deliveries with acknowledgements of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChannelId {
    /// The inbox of a partition.
    Inbox(PartitionNo),
    /// `flotilla.start`
    Start,
    /// `flotilla.control`
    Control,
    /// `flotilla.dead`
    Dead,
}

/// Names a delivery: its channel, which opening of that channel, and its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId {
    /// The channel.
    pub channel: ChannelId,
    /// Counts the openings of channels; deliveries of an earlier one mean nothing any more.
    pub generation: u64,
    /// The broker's delivery tag.
    pub tag: u64,
}

/// A message that the broker delivered.
#[derive(Debug)]
pub struct Delivered {
    /// Its name.
    pub id: DeliveryId,
    /// Size of the body in bytes.
    pub bytes: usize,
    /// Names the message where it has been delivered three times or more before.
    pub suspect_key: Option<String>,
    /// What it says.
    pub message: Message,
}

/// What a delivery says.
#[derive(Debug)]
pub enum Message {
    /// A start.
    Start(Box<StartRequest>),
    /// A message of a worker, or a probe of our own.
    Inbox(InboxMessage),
    /// A command for an execution, handed on to the inbox of its partition.
    Control(Box<ControlRequest>),
    /// Completions of which some cannot be used: what can be used of them counts, and the message
    /// becomes a dead letter all the same.
    Salvaged {
        /// What can be used.
        completed: Vec<TaskCompleted>,
        /// The message as it came.
        refused: Box<RefusedMessage>,
    },
    /// One that concerns no execution: it is passed on and acknowledged after that.
    Forward(Box<Forward>),
}

/// A start message with what its envelope says.
#[derive(Debug, Clone)]
pub struct StartRequest {
    /// The body.
    pub start: WorkflowStart,
    /// The id of the execution if the message names none.
    pub fresh_id: ExecutionId,
    /// Where replies go.
    pub reply_to: Option<ReplyAddress>,
    /// Trace context.
    pub traceparent: Option<String>,
    /// The message as it came, should it become a dead letter.
    pub original: RefusedMessage,
}

/// A command with what its envelope says.
#[derive(Debug, Clone)]
pub struct ControlRequest {
    /// The body.
    pub control: WorkflowControl,
    /// Names the command: with the same name it is carried out once.
    pub message_id: Option<String>,
    /// Where the reply goes.
    pub reply_to: Option<ReplyAddress>,
}

impl ControlRequest {
    /// What tells whether the command was carried out before; one without a name never was.
    #[must_use]
    pub fn lookup(&self) -> Option<ControlLookup> {
        Some(ControlLookup {
            execution_id: self.control.execution_id,
            message_id: self.message_id.clone()?,
        })
    }
}

impl ControlRequest {
    /// The execution, if the command asks for all that it has behind it.
    #[must_use]
    pub fn past(&self) -> Option<ExecutionId> {
        let is_rerun = self.control.command == "rerun";
        is_rerun.then_some(self.control.execution_id)
    }
}

/// Where replies go.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ReplyAddress {
    /// The queue.
    pub reply_to: String,
    /// The request's correlation id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
}

/// What is to be passed on.
#[derive(Debug, Clone)]
pub enum Forward {
    /// A message that cannot be used goes to the dead letters.
    Refused(RefusedMessage),
    /// A control message goes to the inbox of the execution's partition; where there is no such
    /// execution it is answered.
    Control {
        /// What it says.
        request: ControlRequest,
        /// The message as it came.
        original: RefusedMessage,
    },
    /// A start of an execution that is there already and whose owner is somebody else, who is to
    /// tell its end.
    Start {
        /// The partition of the execution.
        partition: PartitionNo,
        /// The message as it came.
        original: RefusedMessage,
    },
    /// A dead letter becomes a row.
    Dead(DeadLetter),
    /// The jobs of a bundle that came back: what their owners are told, and in which queue.
    Returned(Vec<(String, TaskDead)>),
    /// Lines of a task's log become rows, if the database takes them.
    Log(TaskLog),
}

/// A message as it came.
#[derive(Debug, Clone, Default)]
pub struct RefusedMessage {
    /// A word of `workflow_dead_letter.reason`.
    pub reason: &'static str,
    /// What is wrong with it, for the log.
    pub detail: String,
    /// The queue it came from.
    pub queue: String,
    /// Its properties.
    pub envelope: Envelope,
    /// Its body.
    pub body: Vec<u8>,
}

/// A message found in `flotilla.dead`.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// The same for every delivery of the message.
    pub key: String,
    /// The queue in which it was found unusable.
    pub queue: String,
    /// Why.
    pub reason: String,
    /// Its id.
    pub message_id: Option<String>,
    /// The execution that it names.
    pub execution_id: Option<ExecutionId>,
    /// The run that it names.
    pub task_id: Option<TaskId>,
    /// All properties and headers.
    pub properties: serde_json::Value,
    /// Its body.
    pub body: Vec<u8>,
    /// If it was a job: what its owner is told, and in which queue.
    pub dead_job: Option<(String, TaskDead)>,
}
