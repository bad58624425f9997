//! Commands for executions, and what else concerns their attempts without coming from a worker.

use flotilla_engine::execution::{AttemptId, Command, Event, JobCancel, Outcome};
use flotilla_protocol::message::{TaskCancel, WorkflowControlReply};
use flotilla_protocol::{ExecutionId, names};

use crate::decision::Deciding;
use crate::message::ControlRequest;
use crate::rows::{LostJob, PartitionNo};
use crate::starts::stored;

/// Why a command is refused where there is nobody to follow it.
pub(crate) const UNKNOWN_EXECUTION: &str = "unknown_execution";

/// Why a command is not followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refused {
    /// A word of control replies.
    pub reason: &'static str,
    /// What exactly is wrong, where the word does not say all.
    pub detail: Option<String>,
}

impl Refused {
    /// For a reason that says all.
    pub fn with(reason: &'static str) -> Self {
        Self {
            reason,
            detail: None,
        }
    }
}

impl Deciding<'_> {
    /// Carries out a command once, and answers it each time.
    pub(crate) fn control(&mut self, partition: PartitionNo, request: &ControlRequest) {
        self.fence_in(partition);
        let refusal = if self.was_carried_out(request) {
            None
        } else if request.control.command == "rerun" {
            self.rerun(partition, request)
        } else {
            match command(request) {
                None => Some(Refused::with("not_supported")),
                Some(command) => {
                    let event = Event::Controlled {
                        command,
                        message_id: request.message_id.clone(),
                    };
                    self.carry_out(partition, request, &event)
                }
            }
        };
        let Some(address) = &request.reply_to else {
            return;
        };
        let reply = WorkflowControlReply {
            execution_id: request.control.execution_id,
            command: request.control.command.clone(),
            accepted: refusal.is_none(),
            reason: refusal.as_ref().map(|refused| refused.reason.to_owned()),
            detail: refusal.and_then(|refused| refused.detail),
        };
        self.reply(
            partition,
            address,
            stored(names::WORKFLOW_CONTROL_REPLY, &reply),
        );
    }

    fn was_carried_out(&self, request: &ControlRequest) -> bool {
        request
            .lookup()
            .is_some_and(|lookup| self.controls.contains(&lookup))
    }

    /// Why the command is refused, if it is.
    pub(crate) fn carry_out(
        &mut self,
        partition: PartitionNo,
        request: &ControlRequest,
        event: &Event,
    ) -> Option<Refused> {
        match self.apply(partition, request.control.execution_id, event) {
            None => Some(Refused::with(UNKNOWN_EXECUTION)),
            Some(Outcome::Refused(refusal)) => Some(Refused::with(refusal.word())),
            Some(Outcome::Applied | Outcome::Nothing | Outcome::Ignored(_)) => {
                self.controls.extend(request.lookup());
                None
            }
        }
    }

    /// A job that is gone is published again, unless something has been heard of it since.
    pub(crate) fn lost_job(&mut self, lost: &LostJob) {
        let held = self.turns.cache.use_mut(lost.execution_id);
        let Some(task_id) = held.map(|held| held.execution.task_id(lost.run)) else {
            return;
        };
        let attempt = AttemptId {
            task_id,
            attempt: lost.attempt,
        };
        self.apply(
            lost.partition,
            lost.execution_id,
            &Event::JobLost { attempt },
        );
    }

    /// Tells the workers to stop attempts, once the commit stands.
    pub(crate) fn cancel(&mut self, execution_id: ExecutionId, cancels: Vec<JobCancel>) {
        let cancels = cancels.into_iter().map(|cancel| TaskCancel {
            execution_id,
            task_id: cancel.task_id,
            attempt: cancel.attempt,
            reason: cancel.reason,
        });
        self.decision.cancels.extend(cancels);
    }
}

fn command(request: &ControlRequest) -> Option<Command> {
    match request.control.command.as_str() {
        "cancel" => Some(Command::Cancel {
            reason: request.control.reason.clone(),
        }),
        "pause" => Some(Command::Pause),
        "resume" => Some(Command::Resume),
        _ => None,
    }
}
