//! The test as a user: starts and other messages out, replies in.

use flotilla_protocol::amqp::{
    ConnectOptions, Connection, Consumer, Outgoing, PublishOutcome, Publisher, PublisherOptions,
    reply_queue,
};
use flotilla_protocol::message::WorkflowStart;
use flotilla_protocol::{ExecutionId, names};
use futures::future::join_all;
use serde_json::Value;
use uuid::Uuid;

use crate::wait::within;

/// Starts that are published before the first of them is confirmed.
const MOST_AT_ONCE: usize = 200;

/// A start message in the making; unset fields are left out of it.
#[derive(Debug, Clone)]
pub struct Start {
    /// The body.
    pub body: WorkflowStart,
    /// Whether answers are wanted.
    pub wants_reply: bool,
    /// The property `message_id`.
    pub message_id: Option<String>,
}

impl Start {
    /// A start of a workflow, under a fresh execution id.
    #[must_use]
    pub fn of(workflow: &str) -> Self {
        let body = WorkflowStart {
            workflow: workflow.to_owned(),
            version: None,
            parameters: None,
            execution_id: Some(ExecutionId(Uuid::now_v7())),
            idempotency_key: None,
            tags: std::collections::BTreeMap::new(),
            timeout: None,
        };
        Self {
            body,
            wants_reply: true,
            message_id: None,
        }
    }

    /// With parameters.
    ///
    /// # Panics
    /// Never: JSON can be written as JSON.
    #[must_use]
    pub fn parameters(mut self, parameters: &Value) -> Self {
        let raw = serde_json::value::to_raw_value(parameters).expect("JSON is JSON");
        self.body.parameters = Some(raw);
        self
    }

    /// Under this id, or none.
    #[must_use]
    pub fn id(mut self, id: Option<Uuid>) -> Self {
        self.body.execution_id = id.map(ExecutionId);
        self
    }

    /// Under an idempotency key in place of an id.
    #[must_use]
    pub fn key(mut self, key: &str) -> Self {
        self.body.execution_id = None;
        self.body.idempotency_key = Some(key.to_owned());
        self
    }

    /// Of this version.
    #[must_use]
    pub fn version(mut self, version: &str) -> Self {
        self.body.version = Some(version.to_owned());
        self
    }

    /// Without a queue for answers.
    #[must_use]
    pub fn silent(mut self) -> Self {
        self.wants_reply = false;
        self
    }

    /// The id that it names.
    ///
    /// # Panics
    /// When it names none.
    #[must_use]
    pub fn execution_id(&self) -> Uuid {
        self.body.execution_id.expect("the start has an id").0
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The property `type`.
    pub message_type: String,
    /// The property `correlation_id`.
    pub correlation_id: String,
    /// The body.
    pub body: Value,
}

/// A connection of the test to the broker, with a queue for replies.
#[derive(Debug)]
pub struct Client {
    /// To look at queues with.
    pub connection: Connection,
    /// To publish anything with.
    pub publisher: Publisher,
    /// The queue for answers.
    pub reply_to: String,
    replies: Consumer,
    unread: Vec<Reply>,
}

impl Client {
    /// Connects.
    ///
    /// # Panics
    /// When the broker does not answer.
    pub async fn connect(url: &str) -> Self {
        let options = ConnectOptions::new(url, "flotilla test");
        let opened = Connection::open_with_backoff(&options, Some(crate::LIMIT)).await;
        let connection = opened.expect("RabbitMQ answers");
        let reply_to = reply_queue(&connection)
            .await
            .expect("a reply queue can be made");
        let replies = connection
            .consume(&reply_to, 0)
            .await
            .expect("it can be read");
        let publisher = Publisher::start(PublisherOptions::new(options));
        Self {
            connection,
            publisher,
            reply_to,
            replies,
            unread: Vec::new(),
        }
    }

    /// Publishes until the broker has the message; an outcome that is not known means once more.
    ///
    /// # Panics
    /// When the broker has no queue for it, or takes too long.
    pub async fn publish(&self, message: Outgoing) {
        publish(&self.publisher, message).await;
    }

    /// Publishes a start.
    pub async fn start(&self, start: &Start) {
        self.publish(self.message(start)).await;
    }

    /// Publishes starts, many at a time.
    pub async fn start_all(&self, starts: &[Start]) {
        for starts in starts.chunks(MOST_AT_ONCE) {
            join_all(starts.iter().map(|start| self.start(start))).await;
        }
    }

    /// The message of a start.
    #[must_use]
    pub fn message(&self, start: &Start) -> Outgoing {
        let mut message = Outgoing::start(&start.body);
        message.message_id.clone_from(&start.message_id);
        if start.wants_reply {
            message.reply_to = Some(self.reply_to.clone());
            message.correlation_id = Some(match start.body.execution_id {
                Some(id) => id.to_string(),
                None => start.body.idempotency_key.clone().unwrap_or_default(),
            });
        }
        message
    }

    /// Publishes a start and waits for its end.
    pub async fn run(&mut self, start: &Start) -> Value {
        self.start(start).await;
        let id = start.execution_id().to_string();
        self.reply(names::WORKFLOW_STARTED, &id).await;
        self.reply(names::WORKFLOW_FINISHED, &id).await.body
    }

    /// The next reply of this type and correlation, in whatever order they come.
    pub async fn reply(&mut self, message_type: &str, correlation_id: &str) -> Reply {
        let is_wanted = |reply: &Reply| {
            reply.message_type == message_type && reply.correlation_id == correlation_id
        };
        if let Some(at) = self.unread.iter().position(is_wanted) {
            return self.unread.remove(at);
        }
        within(&format!("{message_type} for {correlation_id}"), async {
            loop {
                let reply = self.next().await;
                if is_wanted(&reply) {
                    return reply;
                }
                self.unread.push(reply);
            }
        })
        .await
    }

    /// The next reply, whatever it is.
    ///
    /// # Panics
    /// When none comes.
    pub async fn next(&mut self) -> Reply {
        let delivery = within("reply", self.replies.next()).await;
        let delivery = delivery.expect("the reply queue is there");
        let acknowledged = self.replies.acker().ack(delivery.tag, false).await;
        acknowledged.expect("the connection is open");
        Reply {
            message_type: delivery.envelope.message_type.unwrap_or_default(),
            correlation_id: delivery.envelope.correlation_id.unwrap_or_default(),
            body: serde_json::from_slice(&delivery.body).expect("replies are JSON"),
        }
    }

    /// Replies that came and that nobody has asked for.
    #[must_use]
    pub fn unread(&self) -> &[Reply] {
        &self.unread
    }
}

/// Publishes until the broker has the message; an outcome that is not known means once more.
///
/// # Panics
/// When the broker has no queue for it, or takes too long.
pub async fn publish(publisher: &Publisher, message: Outgoing) {
    within("confirm", async {
        loop {
            match publisher.publish(message.clone()).await {
                PublishOutcome::Confirmed => return,
                PublishOutcome::Unknown => {}
                refused @ (PublishOutcome::Returned | PublishOutcome::Nacked) => {
                    panic!("{refused:?}: {} {}", message.exchange, message.routing_key)
                }
            }
        }
    })
    .await;
}
