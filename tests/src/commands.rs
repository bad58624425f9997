//! Commands to executions, and what becomes of them.

use flotilla_protocol::amqp::Outgoing;
use flotilla_protocol::message::WorkflowControl;
use flotilla_protocol::{ExecutionId, names};
use serde_json::Value;
use uuid::Uuid;

use crate::client::Client;
use crate::database::Database;
use crate::wait::{LIMIT, wait_until};

impl Client {
    /// Sends a command under a message id, which its answers carry as their correlation.
    pub async fn command(&self, id: Uuid, command: &str, message_id: &str) {
        let control = WorkflowControl {
            execution_id: ExecutionId(id),
            command: command.to_owned(),
            reason: None,
            from: Vec::new(),
            reset_items: false,
            parameters: None,
            vars: None,
        };
        let message = Outgoing {
            message_id: Some(message_id.to_owned()),
            correlation_id: Some(message_id.to_owned()),
            reply_to: Some(self.reply_to.clone()),
            ..Outgoing::control(&control)
        };
        self.publish(message).await;
    }

    /// The next answer to the command of this message id.
    pub async fn answer(&mut self, message_id: &str) -> Value {
        self.reply(names::WORKFLOW_CONTROL_REPLY, message_id)
            .await
            .body
    }

    /// Sends a command and gives why it was refused; `None` if it was carried out.
    ///
    /// # Panics
    /// When the answer is about something else.
    pub async fn refusal(&mut self, id: Uuid, command: &str) -> Option<String> {
        let message_id = Uuid::now_v7().to_string();
        self.command(id, command, &message_id).await;
        let answer = self.answer(&message_id).await;
        assert_eq!(answer["execution_id"], id.to_string());
        assert_eq!(answer["command"], command);
        assert_eq!(answer["accepted"], answer["reason"].is_null());
        answer["reason"].as_str().map(str::to_owned)
    }
}

impl Database {
    /// Waits until an execution has this status.
    pub async fn has_status(&self, id: Uuid, status: &str) {
        wait_until(&format!("{id} is {status}"), LIMIT, async || {
            self.status(id).await.as_deref() == Some(status)
        })
        .await;
    }

    /// Waits until so many tasks have this status.
    pub async fn tasks(&self, status: &str, count: i64) {
        let query = format!("SELECT count(*) FROM workflow_task_detail WHERE status = '{status}'");
        wait_until(&format!("{count} tasks are {status}"), LIMIT, async || {
            self.number(&query).await >= count
        })
        .await;
    }

    /// The number of entries of a kind in all logs.
    pub async fn transitions(&self, kind: &str) -> i64 {
        let query = format!("SELECT count(*) FROM workflow_transition WHERE kind = '{kind}'");
        self.number(&query).await
    }
}
