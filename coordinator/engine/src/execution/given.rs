//! What a rerun is given: parameters, which are bound anew, and variables.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::value::RawValue;

use super::rerun::{RerunOrder, RerunPlan, RerunRefusal};
use super::sight::system;
use super::{Execution, MAX_VARIABLE_BYTES};
use crate::json::Json;
use crate::parameters::BindError;
use crate::workflow::{Publish, Routes, Task, Workflow};

impl Execution {
    /// Variables that are given, which something in the definition must assign.
    pub(super) fn given_variables(
        &self,
        order: &RerunOrder,
    ) -> Result<BTreeMap<Arc<str>, Json>, RerunRefusal> {
        let given = read(order.vars.as_ref());
        let known = assigned(&self.workflow);
        let bytes: usize = given.values().map(|value| value.get().len()).sum();
        if bytes > MAX_VARIABLE_BYTES {
            let message = format!("the variables take {bytes} bytes; at most {MAX_VARIABLE_BYTES}");
            return Err(RerunRefusal::InvalidVariables(message));
        }
        let mut vars = BTreeMap::new();
        for (name, value) in given {
            let Some(name) = known.get(name.as_str()) else {
                let message = format!("nothing assigns the variable {name}");
                return Err(RerunRefusal::InvalidVariables(message));
            };
            vars.insert(Arc::clone(name), Json::new(value));
        }
        Ok(vars)
    }

    /// Binds the parameters anew, as at the start, where some are given.
    pub(super) fn bind_again(
        &self,
        order: &RerunOrder,
        plan: &mut RerunPlan,
    ) -> Result<(), RerunRefusal> {
        plan.overridden.clone_from(&self.generation.parameters);
        let given = read(order.parameters.as_ref());
        if given.is_empty() {
            return Ok(());
        }
        let mut all = read(Some(&self.parameters));
        all.extend(given.clone());
        let system = system(self.id, &self.workflow, self.created_at);
        let all = Json::of(&all);
        let bound = self.workflow.parameters.bind(Some(all.raw()), &system);
        let bound = bound.map_err(|error| {
            RerunRefusal::InvalidParameters(match error {
                BindError::Default(error) => error.message,
                BindError::Invalid(problems) => {
                    let list = problems
                        .iter()
                        .map(|problem| format!("{}: {}", problem.name, problem.message));
                    list.collect::<Vec<_>>().join("; ")
                }
            })
        })?;
        let mut overridden = read(self.generation.parameters.as_ref());
        overridden.extend(given);
        plan.overridden = Some(Json::of(&overridden));
        plan.parameters = Some(bound);
        Ok(())
    }
}

/// The entries of an object.
fn read(object: Option<&Json>) -> BTreeMap<String, Box<RawValue>> {
    // The contract has checked that it is one.
    let entries = object.map(|object| serde_json::from_str(object.text()));
    entries.and_then(Result::ok).unwrap_or_default()
}

/// All variables that something assigns.
fn assigned(workflow: &Workflow) -> BTreeSet<Arc<str>> {
    fn names(list: &[Publish]) -> impl Iterator<Item = Arc<str>> {
        list.iter().map(|entry| Arc::clone(&entry.name))
    }
    let of_routes = |task: &Task| -> Vec<Arc<str>> {
        let (branches, routes) = match &task.routes {
            Routes::All(routes) => (&[][..], routes),
            Routes::First { branches, others } => (branches.as_slice(), others),
        };
        let of_branches = branches.iter().flat_map(|branch| names(&branch.publish));
        let of_routes = routes.iter().flat_map(|route| names(&route.publish));
        of_branches.chain(of_routes).collect()
    };
    let initial = workflow.vars.iter().map(|(name, _)| Arc::clone(name));
    let tasks = workflow.tasks.iter();
    let published = tasks.flat_map(|task| names(&task.publish).chain(of_routes(task)));
    initial.chain(published).collect()
}
