//! Pins every message to the letter: each golden file is decoded, written again, and must come out
//! the same, with the same order of keys.

use std::path::PathBuf;

use flotilla_protocol::message::{
    CompletionStatus, CoordinatorProbe, TaskCancel, TaskCompleted, TaskDead, TaskJob, TaskLog,
    TaskStarted, WorkflowControl, WorkflowControlReply, WorkflowFinished, WorkflowRejected,
    WorkflowStart, WorkflowStarted,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

fn golden(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("golden")
        .join(format!("{name}.json"));
    let text = std::fs::read_to_string(path).expect("the golden file exists");
    text.trim_end().to_owned()
}

fn read<T: DeserializeOwned>(text: &str) -> T {
    serde_json::from_str(text).expect("the text is a message")
}

fn pin<T: DeserializeOwned + Serialize>(name: &str) -> T {
    let text = golden(name);
    let message: T = read(&text);
    let written = serde_json::to_string(&message).expect("messages serialize");
    assert_eq!(written, text, "{name}");
    message
}

#[test]
fn every_message_is_read_and_written_to_the_letter() {
    pin::<WorkflowStart>("workflow.start");
    pin::<WorkflowStarted>("workflow.started");
    pin::<WorkflowRejected>("workflow.rejected");
    pin::<WorkflowFinished>("workflow.finished");
    pin::<TaskJob>("task.job");
    pin::<TaskJob>("task.job.secrets");
    pin::<TaskJob>("task.job.resent");
    pin::<TaskCompleted>("task.completed");
    pin::<TaskCompleted>("task.completed.failed");
    pin::<Vec<TaskCompleted>>("task.completed.list");
    pin::<TaskStarted>("task.started");
    pin::<TaskStarted>("task.started.acknowledged");
    pin::<TaskStarted>("task.heartbeat");
    pin::<TaskDead>("task.dead");
    pin::<TaskDead>("task.dead.bundled");
    pin::<TaskLog>("task.log");
    pin::<TaskCancel>("task.cancel");
    pin::<WorkflowControl>("workflow.control");
    pin::<WorkflowControl>("workflow.control.rerun");
    pin::<WorkflowControlReply>("workflow.control.reply");
    pin::<WorkflowControlReply>("workflow.control.reply.accepted");
    pin::<WorkflowControlReply>("workflow.control.reply.detail");
    pin::<CoordinatorProbe>("coordinator.probe");
}

#[test]
fn every_golden_file_is_an_object_that_takes_unknown_fields() {
    fn with_more<T: DeserializeOwned>(name: &str) {
        let text = golden(name);
        let text = text.replacen('{', r#"{"of_a_later_version":{"a":[1]},"#, 1);
        read::<T>(&text);
    }
    with_more::<WorkflowStart>("workflow.start");
    with_more::<TaskJob>("task.job");
    with_more::<TaskCompleted>("task.completed");
    with_more::<TaskStarted>("task.heartbeat");
    with_more::<TaskDead>("task.dead");
    with_more::<TaskLog>("task.log");
    with_more::<TaskCancel>("task.cancel");
    with_more::<WorkflowControl>("workflow.control");
    with_more::<CoordinatorProbe>("coordinator.probe");
}

#[test]
fn missing_fields_take_their_defaults() {
    let start: WorkflowStart = read(r#"{"workflow": "a.b"}"#);
    assert!(start.version.is_none() && start.parameters.is_none() && start.tags.is_empty());
    let written = serde_json::to_string(&start).expect("messages serialize");
    assert_eq!(written, r#"{"workflow":"a.b"}"#);

    let ids = r#""execution_id":"0190f3c0-1b2a-7c3d-8e4f-5a6b7c8d9e0f","task_id":"0190f3c0-1b2a-7abc-9def-000000000007","attempt":1"#;
    let completed: TaskCompleted = read(&format!(r#"{{{ids},"status":"succeeded"}}"#));
    assert_eq!(completed.status, CompletionStatus::Succeeded);
    assert!(completed.result.is_none() && completed.error.is_none());
    let started: TaskStarted = read(&format!("{{{ids}}}"));
    assert!(!started.acknowledged && started.worker.is_none());
    let control: WorkflowControl =
        read(r#"{"execution_id":"0190f3c0-1b2a-7c3d-8e4f-5a6b7c8d9e0f","command":"rerun"}"#);
    assert!(control.from.is_empty() && !control.reset_items);
}

#[test]
fn a_job_may_lack_what_may_be_null() {
    let mut job: serde_json::Value = read(&golden("task.job"));
    let fields = job.as_object_mut().expect("a job is an object");
    for name in ["timeout", "heartbeat", "item", "secrets"] {
        fields.remove(name);
    }
    let job: TaskJob = read(&job.to_string());
    assert!(job.timeout.is_none() && job.item.is_none() && job.secrets.is_empty());
}
