//! `cancel`, `pause`, `resume`: publishes `workflow.control`, and waits for what becomes of it.

use std::time::Duration;

use clap::Args;
use flotilla_protocol::ExecutionId;
use flotilla_protocol::amqp::Outgoing;
use flotilla_protocol::message::{WorkflowControl, WorkflowControlReply};
use flotilla_protocol::names;
use uuid::Uuid;

use crate::arguments::Global;
use crate::failure::{Exit, Failure};
use crate::output::{explain, print, print_json};
use crate::replies::{Asked, Replies};

/// How long a coordinator has to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// What `cancel` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: flotilla cancel 0190b6a4-0000-7000-8000-000000000001 --reason \"wrong order\""
)]
pub struct CancelArguments {
    /// The execution
    #[arg(value_name = "ID")]
    id: ExecutionId,
    /// Why; kept in the log, and told to the workers
    #[arg(long, value_name = "R")]
    reason: Option<String>,
}

/// What `pause` and `resume` take.
#[derive(Debug, Args)]
pub struct ControlArguments {
    /// The execution
    #[arg(value_name = "ID")]
    id: ExecutionId,
}

/// Cancels an execution.
pub async fn cancel(global: &Global, arguments: CancelArguments) -> Result<Exit, Failure> {
    let control = WorkflowControl {
        reason: arguments.reason,
        ..command("cancel", arguments.id)
    };
    run(global, &control).await
}

/// Pauses an execution.
pub async fn pause(global: &Global, arguments: &ControlArguments) -> Result<Exit, Failure> {
    run(global, &command("pause", arguments.id)).await
}

/// Resumes an execution that is paused.
pub async fn resume(global: &Global, arguments: &ControlArguments) -> Result<Exit, Failure> {
    run(global, &command("resume", arguments.id)).await
}

/// A command, with nothing beside its name.
pub fn command(word: &str, id: ExecutionId) -> WorkflowControl {
    WorkflowControl {
        execution_id: id,
        command: word.to_owned(),
        reason: None,
        from: Vec::new(),
        reset_items: false,
        parameters: None,
        vars: None,
    }
}

/// Sends a command, and shows the answer.
pub async fn run(global: &Global, control: &WorkflowControl) -> Result<Exit, Failure> {
    let asked = Asked {
        name: "control message",
        queue: names::CONTROL_QUEUE,
        again: "`flotilla show ID` shows whether the command was followed; to give it again does no harm",
    };
    let message = Outgoing {
        // Delivered twice, it acts once.
        message_id: Some(Uuid::now_v7().to_string()),
        ..Outgoing::control(control)
    };
    let mut replies = Replies::ask(&global.amqp_url()?, asked, message).await?;
    let reply = match tokio::time::timeout(ANSWER_LIMIT, answer(&mut replies)).await {
        Ok(Some(reply)) => reply,
        Ok(None) => return Err(lost()),
        Err(_) => return Err(not_answered()),
    };
    replies.close().await;
    Ok(show(global, &reply))
}

async fn answer(replies: &mut Replies) -> Option<WorkflowControlReply> {
    loop {
        let delivery = replies.next().await?;
        if delivery.envelope.message_type.as_deref() != Some(names::WORKFLOW_CONTROL_REPLY) {
            continue;
        }
        match serde_json::from_slice(&delivery.body) {
            Ok(reply) => return Some(reply),
            Err(error) => tracing::warn!(%error, "a reply that cannot be read"),
        }
    }
}

/// Shows the answer to a command.
pub fn show(global: &Global, reply: &WorkflowControlReply) -> Exit {
    if global.output.is_json() {
        print_json(reply);
    }
    if !reply.accepted {
        let (what, hint) = refusal(reply);
        let failure = Failure::refused(what).hint(hint);
        explain(&failure.text());
        return failure.exit();
    }
    if !global.output.is_json() {
        print(&accepted(reply));
    }
    Exit::Done
}

/// What has begun, in one sentence.
fn accepted(reply: &WorkflowControlReply) -> String {
    let id = reply.execution_id;
    match reply.command.as_str() {
        "cancel" => format!("execution {id} is cancelling"),
        "pause" => format!("execution {id} is pausing"),
        "resume" | "rerun" => format!("execution {id} is running again"),
        other => format!("execution {id} has taken the command {other}"),
    }
}

/// Why a command is not followed, and what to do.
fn refusal(reply: &WorkflowControlReply) -> (String, &'static str) {
    let (id, command) = (reply.execution_id, &reply.command);
    let word = reply.reason.as_deref().unwrap_or("no reason given");
    let detail = reply.detail.as_deref().unwrap_or(word);
    let reason = match &reply.detail {
        Some(detail) => format!("{word}: {detail}"),
        None => word.to_owned(),
    };
    match word {
        "unknown_execution" => (
            format!("there is no execution {id}"),
            "`flotilla list` shows those that there are",
        ),
        "already_finished" => (
            format!("execution {id} has ended, so {command} changes nothing ({reason})"),
            "`flotilla show ID` shows how it ended",
        ),
        "not_paused" => (
            format!("execution {id} is not paused, so there is nothing to resume ({reason})"),
            "`flotilla show ID` shows where it stands",
        ),
        "wrong_status" => (
            format!(
                "execution {id} is failing or being cancelled, and ends soon: {command} is not possible ({reason})"
            ),
            "`flotilla show ID` shows where it stands; `flotilla cancel ID` ends what still runs",
        ),
        "still_running" => (
            format!("execution {id} has not ended, so nothing of it can run again ({reason})"),
            "`flotilla show ID` shows what it waits for; `flotilla cancel ID` ends it",
        ),
        "is_child" => (
            format!("nothing of execution {id} runs again: {detail} ({word})"),
            "`flotilla rerun` with the id of the parent starts a child anew",
        ),
        "unknown_task" | "never_ran" | "nothing_failed" => (
            format!("nothing of execution {id} runs again: {detail} ({word})"),
            "`flotilla show ID` shows its tasks; --from names those that are to run again",
        ),
        "invalid_parameters" | "invalid_variables" => (
            format!("execution {id} does not run again with this: {detail} ({word})"),
            "`flotilla show ID` shows the parameters and variables that it has",
        ),
        "not_supported" | "unknown_command" => (
            format!("the coordinator that answered does not know {command} ({reason})"),
            "run coordinators of the version of this program",
        ),
        _ => (
            format!("{command} of execution {id} was refused ({reason})"),
            "`flotilla show ID` shows where it stands",
        ),
    }
}

fn not_answered() -> Failure {
    Failure::unreachable(format!(
        "no coordinator has answered within {} s; the command is stored in the queue {}, and is followed once one runs",
        ANSWER_LIMIT.as_secs(),
        names::CONTROL_QUEUE
    ))
    .hint("`flotilla coordinator` runs one")
    .of_kind("not_answered")
}

fn lost() -> Failure {
    Failure::unreachable(
        "the connection to the broker is lost, and with it the answer; the command may be followed",
    )
    .hint("`flotilla show ID` shows whether it was; to give it again does no harm")
    .of_kind("not_answered")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(command: &str, reason: Option<&str>, detail: Option<&str>) -> WorkflowControlReply {
        WorkflowControlReply {
            execution_id: ExecutionId(Uuid::nil()),
            command: command.to_owned(),
            accepted: reason.is_none(),
            reason: reason.map(str::to_owned),
            detail: detail.map(str::to_owned),
        }
    }

    #[test]
    fn every_refusal_of_the_contract_says_why_and_what_to_do() {
        for reason in [
            "unknown_execution",
            "already_finished",
            "not_paused",
            "wrong_status",
            "not_supported",
            "unknown_command",
            "of_a_later_version",
        ] {
            let (what, hint) = refusal(&reply("cancel", Some(reason), None));
            assert!(what.len() > 30, "{what}");
            assert!(
                hint.contains("flotilla") || hint.contains("version"),
                "{hint}"
            );
        }
    }

    #[test]
    fn a_refusal_with_a_detail_shows_word_and_detail() {
        for (reason, detail) in [
            (
                "still_running",
                "the execution is running, and has not ended",
            ),
            ("is_child", "it is a child of another execution"),
            ("unknown_task", "the workflow has no task x"),
            ("never_ran", "task x has not run"),
            ("nothing_failed", "nothing has failed that could run again"),
            ("invalid_parameters", "x: is missing"),
            ("invalid_variables", "nothing assigns the variable x"),
            ("of_a_later_version", "the moon is full"),
        ] {
            let (what, hint) = refusal(&reply("rerun", Some(reason), Some(detail)));
            assert!(what.contains(reason) && what.contains(detail), "{what}");
            assert!(hint.contains("flotilla"), "{hint}");
        }
    }

    #[test]
    fn what_was_accepted_is_one_sentence() {
        let id = Uuid::nil();
        for (command, says) in [
            ("cancel", format!("execution {id} is cancelling")),
            ("pause", format!("execution {id} is pausing")),
            ("resume", format!("execution {id} is running again")),
            ("rerun", format!("execution {id} is running again")),
        ] {
            assert_eq!(accepted(&reply(command, None, None)), says);
        }
    }
}
