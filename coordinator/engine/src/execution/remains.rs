//! Which failures of before a rerun still count at its end.

use flotilla_protocol::TaskId;

use super::Execution;
use super::failure::{ExecutionError, kind};
use super::past::{Current, Past};
use super::rerun::RerunPlan;

impl Execution {
    /// Which failures stay. True if something that is evaluated at the end has failed, which is done
    /// again in any case.
    pub(super) fn keep_errors(
        &self,
        current: &Current<'_>,
        past: &Past,
        plan: &mut RerunPlan,
    ) -> bool {
        let mut evaluates_again = false;
        for error in &self.errors {
            if is_of_the_end(error) {
                evaluates_again |= error.kind != kind::WORKFLOW_TIMEOUT;
                continue;
            }
            let run = error.task_id.map(TaskId::run);
            let is_finally = run
                .and_then(|no| past.runs.get(&no))
                .is_some_and(|run| self.workflow.tasks[run.task.0].is_finally);
            evaluates_again |= is_finally;
            let counts = match run {
                Some(no) => current.runs.contains_key(&no) && !plan.replaced.contains(&no),
                None => !self.is_led_to(error, current, plan),
            };
            if counts && !is_finally {
                plan.errors.push(error.clone());
            }
        }
        evaluates_again
    }

    /// Whether an error is of a task that what is repeated leads to.
    fn is_led_to(&self, error: &ExecutionError, current: &Current<'_>, plan: &RerunPlan) -> bool {
        let task = error.task.as_ref();
        let Some(to) = task.and_then(|name| self.workflow.by_name.get(name)) else {
            return false;
        };
        plan.may_reach(*to, current)
    }
}

/// Whether it is an error of what is evaluated at the end, or the time limit.
fn is_of_the_end(error: &ExecutionError) -> bool {
    let is_output = |field: &str| field == "output" || field.starts_with("output_map");
    error.task.is_none()
        && (error.kind == kind::WORKFLOW_TIMEOUT || error.field.as_deref().is_some_and(is_output))
}
