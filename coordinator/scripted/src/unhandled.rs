//! Which failure has no handler: each task that ran is made to fail once, and the engine says what
//! comes of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::TimeDelta;
use flotilla_engine::Workflow;
use flotilla_engine::execution::kind;
use flotilla_engine::workflow::{On, Routes, Task};
use flotilla_protocol::message::TaskError;
use serde::Serialize;

use crate::play::play;
use crate::script::{Answer, AnswerStatus, Script, TaskAnswers};
use crate::seen::Seen;

/// What they say.
const MESSAGE: &str = "what if this task failed for good?";

/// A task whose failure nothing handles.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Unhandled {
    /// The task.
    pub task: String,
    /// What its failure does to the execution, one sentence.
    pub effect: String,
    /// What to write, one sentence.
    pub fix: String,
}

/// Tasks that a worker had in this case and whose failure would not be handled, in the order of the
/// workflow. `seen` is what the script gave.
#[must_use]
pub fn unhandled(workflow: &Arc<Workflow>, script: &Script, seen: &Seen) -> Vec<Unhandled> {
    let ran: BTreeSet<&str> = seen.deliveries.iter().map(|one| &*one.task).collect();
    let tasks = workflow.tasks.iter();
    tasks
        .filter(|task| ran.contains(&*task.name))
        .filter_map(|task| {
            let probe = play(workflow, &failing(script, &task.name));
            let whole = workflow.whole(task);
            let is_unhandled = probe.errors.iter().any(|error| {
                // A route to `fail` is a handler, too.
                error.task.as_deref() == Some(&*whole.name) && error.kind != kind::EXPLICIT_FAIL
            });
            is_unhandled.then(|| Unhandled {
                task: task.name.to_string(),
                effect: effect(seen, &probe),
                fix: if task.is_part {
                    format!("at `{}`, {}", whole.name, fix(whole))
                } else {
                    fix(task)
                },
            })
        })
        .collect()
}

/// The script in which one task fails each time, at once.
fn failing(script: &Script, task: &str) -> Script {
    let answer = Answer {
        status: AnswerStatus::Failed,
        error: Some(TaskError {
            kind: kind::TASK_FAILED.to_owned(),
            message: MESSAGE.to_owned(),
            retryable: Some(false),
            details: None,
        }),
        takes: TimeDelta::seconds(1),
        ..Answer::default()
    };
    let mut script = script.clone();
    script
        .answers
        .insert(task.to_owned(), TaskAnswers::InOrder(vec![answer]));
    script
}

fn effect(seen: &Seen, probe: &Seen) -> String {
    let runs = probe.run_counts();
    let lost: Vec<&str> = seen
        .run_counts()
        .into_keys()
        .filter(|task| !runs.contains_key(task))
        .collect();
    let what = if lost.is_empty() {
        "nothing new starts, what runs ends".to_owned()
    } else {
        format!("{} would not run", lost.join(", "))
    };
    format!("the execution would end as {}: {what}", probe.status)
}

fn fix(task: &Task) -> String {
    let (Routes::All(routes) | Routes::First { others: routes, .. }) = &task.routes;
    let uses_next = routes.iter().any(|route| matches!(route.on, On::When(_)));
    let fix = if uses_next {
        "add `{when: \"{{ failed() }}\", do: TASK}` to `next`, or `do: noop` to go on without it"
    } else {
        "add `on_failure: TASK`, or `on_failure: noop` to go on without it"
    };
    fix.to_owned()
}
