//! Messages as tests send them, and effects as tests read them.

use flotilla_protocol::ExecutionId;
use flotilla_protocol::decode::InboxMessage;
use flotilla_protocol::message::{
    CompletionStatus, TaskCompleted, TaskError, TaskJob, TaskStarted,
};
use flotilla_turn::message::{Forward, StartRequest};
use flotilla_turn::{Destination, Effect, Publication};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::world::Lane;

pub fn execution_id(id: u128) -> ExecutionId {
    ExecutionId(Uuid::from_u128(id))
}

pub fn request(workflow: &str, id: u128) -> StartRequest {
    let start = json!({"workflow": workflow, "execution_id": execution_id(id)});
    StartRequest {
        start: serde_json::from_value(start).expect("a start"),
        fresh_id: execution_id(id + 1_000_000),
        reply_to: None,
        traceparent: None,
        original: flotilla_turn::message::RefusedMessage::default(),
    }
}

pub fn succeeded(job: &TaskJob, result: &Value) -> TaskCompleted {
    TaskCompleted {
        execution_id: job.execution_id,
        task_id: job.task_id,
        attempt: job.attempt,
        status: CompletionStatus::Succeeded,
        result: Some(serde_json::value::to_raw_value(result).expect("JSON")),
        error: None,
        started_at: None,
        finished_at: None,
        worker: Some("w".to_owned()),
    }
}

pub fn failed(job: &TaskJob) -> TaskCompleted {
    TaskCompleted {
        status: CompletionStatus::Failed,
        result: None,
        error: Some(TaskError {
            kind: "broken".to_owned(),
            message: "it broke".to_owned(),
            retryable: None,
            details: None,
        }),
        ..succeeded(job, &Value::Null)
    }
}

pub fn started(job: &TaskJob) -> InboxMessage {
    InboxMessage::Started(
        serde_json::from_value::<TaskStarted>(json!({
            "execution_id": job.execution_id, "task_id": job.task_id, "attempt": job.attempt,
        }))
        .expect("a message"),
    )
}

/// An effect in a few words.
pub fn show(effect: &Effect) -> String {
    match effect {
        Effect::TakePartitions => "take".to_owned(),
        Effect::ReleasePartitions { held, resigns } => {
            let resigns = if *resigns { " and resign" } else { "" };
            format!("release {held:?}{resigns}")
        }
        Effect::OpenChannel { channel, .. } => format!("open {channel:?}"),
        Effect::CloseChannel { channel, .. } => format!("close {channel:?}"),
        Effect::Load(request) => format!(
            "load {} starts, {} executions",
            request.starts.len(),
            request.executions.len()
        ),
        Effect::LoadTimers { partition, .. } => format!("timers {partition}"),
        Effect::Commit { commit, attempts } => {
            let fences: Vec<String> = commit
                .partitions
                .iter()
                .map(|fence| {
                    format!(
                        "{}:{}<{}",
                        fence.partition, fence.dispatched_through, fence.turn
                    )
                })
                .collect();
            let again = if *attempts > 0 { " again" } else { "" };
            format!("commit {}{again}", fences.join(" "))
        }
        Effect::Acknowledge(id) => format!("ack {:?} {}", id.channel, id.tag),
        Effect::Publish(list) => {
            let list: Vec<String> = list
                .iter()
                .map(|publication| show_publication(publication))
                .collect();
            format!("publish {}", list.join(", "))
        }
        Effect::DeclarePool(pool) => format!("declare {pool}"),
        Effect::SendCancels(cancels) => format!("cancel {}", cancels.len()),
        Effect::InspectQueue { channel, .. } => format!("inspect {channel:?}"),
        Effect::FindLostJobs(partitions) => format!("find lost jobs of {partitions:?}"),
        Effect::Forward { forward, .. } => format!("forward {}", show_forward(forward)),
        Effect::MarkSuspect { delivery, .. } => {
            format!("mark {:?} {}", delivery.channel, delivery.tag)
        }
        Effect::ClearSuspect { .. } => "clear mark".to_owned(),
        Effect::Renew(held) => format!("renew {}", held.len()),
        Effect::SendProbe(probe) => format!("probe {}", probe.partition),
        Effect::Stopped => "stopped".to_owned(),
    }
}

fn show_publication(publication: &Publication) -> String {
    match &publication.to {
        Destination::Pool { .. } => {
            let job: TaskJob = serde_json::from_slice(&publication.body).expect("a job");
            format!("{}/{}", job.task, job.attempt)
        }
        Destination::Client { message_type, .. } => message_type.clone(),
    }
}

pub fn show_forward(forward: &Forward) -> String {
    match forward {
        Forward::Refused(refused) => refused.reason.to_owned(),
        Forward::Control { .. } => "control".to_owned(),
        Forward::Start { .. } => "start".to_owned(),
        Forward::Dead(_) => "dead".to_owned(),
        Forward::Returned(_) => "returned".to_owned(),
        Forward::Log(_) => "log".to_owned(),
    }
}

/// The lane in which an effect is carried out.
pub fn lane(effect: &Effect) -> Lane {
    match effect {
        Effect::Load(_) => Lane::Loads,
        Effect::Commit { .. } => Lane::Commits,
        Effect::OpenChannel { .. } | Effect::CloseChannel { .. } | Effect::Acknowledge(_) => {
            Lane::Channels
        }
        Effect::Publish(_) => Lane::Publications,
        Effect::TakePartitions
        | Effect::ReleasePartitions { .. }
        | Effect::LoadTimers { .. }
        | Effect::DeclarePool(_)
        | Effect::SendCancels(_)
        | Effect::InspectQueue { .. }
        | Effect::FindLostJobs(_)
        | Effect::Forward { .. }
        | Effect::MarkSuspect { .. }
        | Effect::ClearSuspect { .. }
        | Effect::Renew(_)
        | Effect::SendProbe(_)
        | Effect::Stopped => Lane::Others,
    }
}
