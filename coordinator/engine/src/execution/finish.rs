//! The end of an execution: when nothing is left to do, its final status and its output.

use std::sync::Arc;

use flotilla_protocol::RunNo;

use super::changes::TransitionKind;
use super::failure::{FieldError, kind};
use super::log::RunEntry;
use super::run::RunStatus;
use super::sight::Sight;
use super::step::{Arrival, Step};
use super::{Execution, ExecutionStatus};
use crate::json::{Json, JsonObject};
use crate::scope::{EndStatus, Ended};
use crate::variables::Write;

impl Step<'_> {
    /// Once a step has been taken: the pause is complete if no worker has anything; or nothing that is
    /// alive can go on, and what is left is `finally` or the end. True if `finally` is to be followed.
    pub(super) fn conclude(&mut self) -> bool {
        match self.execution.status {
            ExecutionStatus::Running | ExecutionStatus::Cancelling | ExecutionStatus::Failing => {
                self.finish_if_over()
            }
            ExecutionStatus::Pausing => {
                if !self.execution.is_any_with_a_worker() {
                    self.set_status(ExecutionStatus::Paused);
                }
                false
            }
            ExecutionStatus::Paused
            | ExecutionStatus::Succeeded
            | ExecutionStatus::Failed
            | ExecutionStatus::Cancelled
            | ExecutionStatus::TimedOut => false,
        }
    }

    fn finish_if_over(&mut self) -> bool {
        let mut live = self.execution.live.values();
        // Mostly the first one goes on: this is asked after every step, and many may be alive.
        if live.any(|run| run.status != RunStatus::Waiting) {
            return false;
        }
        let waiting: Vec<RunNo> = self.execution.live.keys().copied().collect();
        for no in waiting {
            self.omit(no);
        }
        // What tells of those that were omitted leads to nothing that could run.
        self.arrivals.clear();
        for failure in std::mem::take(&mut self.execution.flow.held_failures) {
            self.fail(failure.error);
        }
        for error in std::mem::take(&mut self.execution.generation.errors) {
            self.fail(error);
        }
        if self.workflow.finally.is_empty() || self.execution.in_finally() {
            self.finish();
            return false;
        }
        self.begin_finally();
        true
    }

    /// The graph has ended: its last tasks see what all of its branches left.
    fn begin_finally(&mut self) {
        self.closed = false;
        for to in &self.workflow.finally {
            self.arrivals.push_back(Arrival::Branch {
                from: None,
                to: *to,
                branch: self.execution.ends.clone(),
                exempt: false,
            });
        }
    }

    /// Ends a run that never became due.
    pub(super) fn omit(&mut self, no: RunNo) {
        let Some(mut run) = self.execution.live.remove(&no) else {
            return;
        };
        self.execution.open().remove(no);
        self.execution
            .ends
            .merge(&run.branch, &self.execution.links);
        run.status = RunStatus::Ended(EndStatus::Omitted);
        run.finished_at = Some(self.now);
        run.ended = run
            .ended
            .take()
            .or(Some(Ended::without_result(EndStatus::Omitted)));
        self.count_end(EndStatus::Omitted);
        self.log_run(
            TransitionKind::TaskEnded,
            no,
            RunEntry {
                from: Some("waiting"),
                to: Some("omitted"),
                ..RunEntry::default()
            },
        );
        let task = run.task;
        self.changes.touched.remove(&no);
        self.changes.ended.push(run);
        if self.workflow.tasks[task.0].needs.is_some() {
            self.note_omission(no, task);
        }
    }

    pub(super) fn finish(&mut self) {
        let foreseen = self.execution.final_status();
        let (output, errors) = self.evaluate_output(foreseen);
        if foreseen == ExecutionStatus::Succeeded {
            for error in errors {
                self.fail(error.execution_error());
            }
        }
        self.execution.output = output;
        self.execution.finished_at = Some(self.now);
        self.set_status(self.execution.final_status());
        self.changes.finished = true;
        self.tell_parent();
    }

    /// `output_map`, as far as it can be evaluated, and what could not be.
    fn evaluate_output(&self, status: ExecutionStatus) -> (Option<Json>, Vec<FieldError>) {
        let Some(entries) = &self.workflow.output else {
            return (None, Vec::new());
        };
        let sight = Sight::of_end(self.execution, status);
        let mut vars = self.execution.ends.vars.clone();
        let mut output = JsonObject::default();
        let mut errors = Vec::new();
        for (name, template) in entries {
            match template.render(&sight.scope(&vars, None)) {
                Ok(value) => {
                    let write = Write {
                        no: 0,
                        name: Arc::clone(name),
                        value: value.clone(),
                        previous: None,
                    };
                    vars.insert(Arc::new(write));
                    output.push(name, value.text());
                }
                Err(error) => errors.push(FieldError::new(format!("output_map.{name}"), &error)),
            }
        }
        let output = output.json();
        let schema = self.workflow.output_schema.as_ref();
        if errors.is_empty()
            && let Some(problem) = schema.and_then(|schema| schema.problem(&output))
        {
            errors.push(FieldError {
                kind: kind::INVALID_OUTPUT,
                ..FieldError::value("output", problem)
            });
        }
        (Some(output), errors)
    }
}

impl Execution {
    /// The status that it ends with, as things stand.
    pub(super) fn final_status(&self) -> ExecutionStatus {
        if self.status == ExecutionStatus::Cancelling {
            if self.has_timed_out() {
                ExecutionStatus::TimedOut
            } else {
                ExecutionStatus::Cancelled
            }
        } else if self.errors.is_empty() {
            ExecutionStatus::Succeeded
        } else {
            ExecutionStatus::Failed
        }
    }
}
