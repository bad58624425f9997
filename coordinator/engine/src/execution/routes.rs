//! What follows the end of a run: what it publishes and which routes it takes.

use std::sync::Arc;

use super::branch::Branch;
use super::failure::{FieldError, kind};
use super::run::Run;
use super::sight::Sight;
use super::step::Step;
use super::{Execution, MAX_VARIABLE_BYTES};
use crate::scope::{EndStatus, Ended};
use crate::variables::{Write, WriteNo};
use crate::workflow::{Branch as DecisionBranch, On, Publish, Route, Routes, Targets, Task};

/// What follows the end of a run.
pub(super) struct Follow {
    /// The branch after the task's own publish.
    pub branch: Branch,
    /// The routes that are taken, in order, each with its own branch.
    pub taken: Vec<Taken>,
    /// All that was written.
    pub writes: Vec<Arc<Write>>,
}

/// A route that is taken.
pub(super) struct Taken {
    pub branch: Branch,
    pub targets: Targets,
}

impl Step<'_> {
    /// What follows, how the run has really ended, and what was given where that differs: an error in an expression makes it failed,
    /// takes nothing, and has its routes looked at once more for that failure. During a cancel no
    /// route is looked at, and what the task publishes is kept.
    pub(super) fn follow(&self, run: &Run, ended: Ended) -> (Follow, Ended, Option<Ended>) {
        follow(self.execution, run, ended, !self.is_stopped(run))
    }
}

/// Likewise; routes are looked at if it `fires`.
pub(super) fn follow(
    execution: &Execution,
    run: &Run,
    ended: Ended,
    fires: bool,
) -> (Follow, Ended, Option<Ended>) {
    let workflow = Arc::clone(&execution.workflow);
    let task = &workflow.tasks[run.task.0];
    let ended = Ended {
        timeout_is_failure: !task.handles_timeout,
        is_ignored: task.ignore_failure,
        ..ended
    };
    match Evaluation::new(execution, task, run, &ended, fires).follow() {
        Ok(follow) => (follow, ended, None),
        Err(error) => {
            let failed = Ended {
                result: ended.result.clone(),
                is_ignored: task.ignore_failure,
                ..Ended::not_evaluated(&error)
            };
            let again = Evaluation::new(execution, task, run, &failed, fires).follow();
            let nothing = || Follow {
                branch: run.branch.clone(),
                taken: Vec::new(),
                writes: Vec::new(),
            };
            (again.unwrap_or_else(|_| nothing()), failed, Some(ended))
        }
    }
}

/// The evaluation of one end.
struct Evaluation<'a> {
    task: &'a Task,
    ended: &'a Ended,
    sight: Sight,
    /// Whether routes are looked at.
    fires: bool,
    branch: Branch,
    last_write: WriteNo,
    writes: Vec<Arc<Write>>,
}

impl<'a> Evaluation<'a> {
    fn new(
        execution: &Execution,
        task: &'a Task,
        run: &Run,
        ended: &'a Ended,
        fires: bool,
    ) -> Self {
        Self {
            task,
            ended,
            sight: Sight::of_run(execution, run),
            fires,
            branch: run.branch.clone(),
            last_write: execution.last_write,
            writes: Vec::new(),
        }
    }

    fn follow(mut self) -> Result<Follow, FieldError> {
        if self.ended.status == EndStatus::Succeeded {
            let mut branch = std::mem::take(&mut self.branch);
            self.publish(&mut branch, &self.task.publish, "publish")?;
            self.branch = branch;
        }
        let taken = if self.fires {
            self.routes()?
        } else {
            Vec::new()
        };
        Ok(Follow {
            branch: self.branch,
            taken,
            writes: self.writes,
        })
    }

    fn routes(&mut self) -> Result<Vec<Taken>, FieldError> {
        match &self.task.routes {
            Routes::All(routes) => self.take_all(routes),
            Routes::First { branches, others } => {
                let mut taken = self.take_first(branches)?;
                taken.extend(self.take_all(others)?);
                Ok(taken)
            }
        }
    }

    fn take_all(&mut self, routes: &'a [Route]) -> Result<Vec<Taken>, FieldError> {
        let mut taken = Vec::new();
        for (no, route) in routes.iter().enumerate() {
            if self.holds(&route.on, no)? {
                taken.push(self.take(
                    &route.publish,
                    &route.targets,
                    &format!("next[{no}].publish"),
                )?);
            }
        }
        Ok(taken)
    }

    fn take_first(&mut self, branches: &'a [DecisionBranch]) -> Result<Vec<Taken>, FieldError> {
        if !self.ended.has_succeeded() {
            return Ok(Vec::new());
        }
        for (no, branch) in branches.iter().enumerate() {
            let holds = match &branch.when {
                None => true,
                Some(when) => when
                    .holds(&self.sight.scope(&self.branch.vars, Some(self.ended)))
                    .map_err(|error| FieldError::new(format!("decision[{no}].when"), &error))?,
            };
            if holds {
                let field = format!("decision[{no}].publish");
                return Ok(vec![self.take(&branch.publish, &branch.targets, &field)?]);
            }
        }
        Err(FieldError {
            kind: kind::NO_BRANCH_MATCHED,
            field: "decision".to_owned(),
            expression: None,
            message: "no branch holds, and there is no default".to_owned(),
        })
    }

    fn take(
        &mut self,
        publish: &'a [Publish],
        targets: &Targets,
        field: &str,
    ) -> Result<Taken, FieldError> {
        let mut branch = self.branch.clone();
        self.publish(&mut branch, publish, field)?;
        Ok(Taken {
            branch,
            targets: targets.clone(),
        })
    }

    fn holds(&self, on: &On, no: usize) -> Result<bool, FieldError> {
        Ok(match on {
            On::Success => self.ended.has_succeeded(),
            On::Failure => self.ended.has_failed(),
            On::Timeout => self.ended.has_timed_out(),
            On::Complete => true,
            On::When(condition) => condition
                .holds(&self.sight.scope(&self.branch.vars, Some(self.ended)))
                .map_err(|error| FieldError::new(format!("next[{no}].when"), &error))?,
        })
    }

    /// Evaluates a publish list in order; each entry sees the ones before it.
    fn publish(
        &mut self,
        branch: &mut Branch,
        list: &'a [Publish],
        field: &str,
    ) -> Result<(), FieldError> {
        for entry in list {
            let value = match &entry.value {
                None => self.ended.result.clone(),
                Some(template) => template
                    .render(&self.sight.scope(&branch.vars, Some(self.ended)))
                    .map_err(|error| FieldError::new(format!("{field}.{}", entry.name), &error))?,
            };
            self.last_write += 1;
            let previous = branch.vars.get(&entry.name).map(|write| write.no);
            let write = Arc::new(Write {
                no: self.last_write,
                name: Arc::clone(&entry.name),
                value,
                previous,
            });
            branch.vars.insert(Arc::clone(&write));
            self.writes.push(write);
        }
        let bytes: usize = branch
            .vars
            .iter()
            .map(|write| write.value.text().len())
            .sum();
        if !list.is_empty() && bytes > MAX_VARIABLE_BYTES {
            return Err(FieldError {
                kind: kind::LIMIT_EXCEEDED,
                field: field.to_owned(),
                expression: None,
                message: format!(
                    "the variables would take {bytes} bytes; at most {MAX_VARIABLE_BYTES}"
                ),
            });
        }
        Ok(())
    }
}
