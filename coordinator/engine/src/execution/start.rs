//! The start of an execution: parameters are bound, variables get their first values, and the first
//! tasks are dispatched.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use flotilla_protocol::ExecutionId;
use serde_json::value::RawValue;

use super::again::Generation;
use super::branch::{Branch, WriteLinks};
use super::changes::{Changes, Transition, TransitionKind};
use super::failure::FieldError;
use super::family::Parent;
use super::flow::Flow;
use super::sight::{Sight, system};
use super::step::Step;
use super::{Counts, Execution, ExecutionStatus};
use crate::json::Json;
use crate::parameters::BindError;
use crate::scope::System;
use crate::variables::Write;
use crate::workflow::Workflow;

/// What a start asks for.
#[derive(Debug, Clone)]
pub struct Start<'a> {
    /// The id of the execution.
    pub id: ExecutionId,
    /// The definition.
    pub workflow: Arc<Workflow>,
    /// Parameters as given.
    pub parameters: Option<&'a RawValue>,
    /// The run of another execution whose child it is to be.
    pub parent: Option<Parent>,
    /// Seconds that it may take, more than 0, in place of what the definition says; `None`: as that says.
    pub timeout: Option<f64>,
}

/// Why no execution is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// What is wrong with the parameters, one sentence for all of it.
    pub message: String,
}

/// Starts an execution and takes its first step.
///
/// # Errors
/// Missing, unknown and ill-typed parameters are refused, all of them in one message.
pub fn start(
    start: Start<'_>,
    now: DateTime<Utc>,
    changes: &mut Changes,
) -> Result<Execution, Rejection> {
    let (parameters, failure) = bind(&start, now)?;
    let mut execution = Execution {
        id: start.id,
        visits: vec![0; start.workflow.tasks.len()],
        workflow: start.workflow,
        status: ExecutionStatus::Running,
        created_at: now,
        finished_at: None,
        parameters,
        parent: start.parent,
        timeout: start.timeout,
        counts: Counts::default(),
        last_run: 0,
        last_write: 0,
        last_seq: 0,
        live: BTreeMap::new(),
        ends: Branch::default(),
        last_ended: BTreeMap::new(),
        links: WriteLinks::new(),
        flow: Flow::default(),
        errors: Vec::new(),
        output: None,
        generation: Generation::first(now),
    };
    let mut step = Step::new(&mut execution, now, changes);
    // Children of children would all begin in one turn.
    step.defers_children = start.parent.is_some();
    step.log(Transition {
        seq: 0,
        kind: TransitionKind::ExecutionStarted,
        task_id: None,
        attempt: None,
        from: None,
        to: Some("running"),
        detail: None,
    });
    step.limit_execution();
    let initial = match failure {
        Some(failure) => Err(failure),
        None => step.initial_branch(),
    };
    match initial {
        Ok(branch) => {
            step.execution.ends = branch.clone();
            step.begin(&branch);
        }
        Err(error) => {
            step.fail(error.execution_error());
            step.finish();
        }
    }
    debug_assert_eq!(execution.check(), Ok(()), "after the start");
    Ok(execution)
}

/// Binds the parameters. A default that cannot be evaluated is no fault of the caller: it makes an
/// execution that has failed before its first task.
fn bind(start: &Start<'_>, now: DateTime<Utc>) -> Result<(Json, Option<FieldError>), Rejection> {
    let system = System {
        parent_id: start.parent.map(|parent| parent.execution_id),
        ..system(start.id, &start.workflow, now)
    };
    match start.workflow.parameters.bind(start.parameters, &system) {
        Ok(parameters) => Ok((parameters, None)),
        Err(BindError::Default(error)) => {
            let given = start.parameters.map_or_else(
                || Json::of(&serde_json::Map::new()),
                |given| Json::new(given.to_owned()),
            );
            Ok((given, Some(FieldError::new("parameters", &error))))
        }
        Err(BindError::Invalid(problems)) => {
            let list: Vec<String> = problems
                .iter()
                .map(|problem| format!("{}: {}", problem.name, problem.message))
                .collect();
            Err(Rejection {
                message: list.join("; "),
            })
        }
    }
}

impl Step<'_> {
    fn initial_branch(&mut self) -> Result<Branch, FieldError> {
        let workflow = Arc::clone(&self.workflow);
        let mut branch = Branch::default();
        if workflow.vars.is_empty() {
            return Ok(branch);
        }
        let sight = Sight::of_branch(self.execution, &branch);
        for (name, template) in &workflow.vars {
            let value = template
                .render(&sight.scope(&branch.vars, None))
                .map_err(|error| FieldError::new(format!("vars.{name}"), &error))?;
            self.execution.last_write += 1;
            let no = self.execution.last_write;
            let previous = branch.vars.get(name).map(|write| write.no);
            let write = Arc::new(Write {
                no,
                name: Arc::clone(name),
                value,
                previous,
            });
            self.execution.links.insert(no, previous);
            branch.vars.insert(Arc::clone(&write));
            self.changes.writes.push(write);
        }
        Ok(branch)
    }
}
