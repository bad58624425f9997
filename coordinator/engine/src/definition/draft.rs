//! A definition that has been read, but whose names have not been resolved.

use super::tree::Place;
use crate::expression::{Condition, ValueTemplate};
use crate::rule::Rule;
use crate::workflow::{Join, On, Publish, Retry, TaskIndex, WithItems};

/// A task that has been read.
pub(super) struct DraftTask {
    pub name: String,
    pub place: Place,
    pub path: String,
    pub action: Option<ValueTemplate>,
    pub is_workflow: bool,
    /// Where the action stands.
    pub action_place: Place,
    pub input: ValueTemplate,
    pub items: Option<WithItems>,
    pub when: Option<Condition>,
    pub delay: Option<ValueTemplate>,
    pub retry: Option<Retry>,
    pub timeout: Option<ValueTemplate>,
    pub total_timeout: Option<f64>,
    pub heartbeat: Option<f64>,
    pub pool: String,
    pub max_redeliveries: u32,
    pub join: Option<(Join, Place)>,
    pub needs: Option<DraftNeeds>,
    pub ignore_failure: bool,
    pub publish: Vec<Publish>,
    pub routes: DraftRoutes,
    pub handles_timeout: bool,
    pub parallel: Option<DraftParallel>,
    pub is_part: bool,
}

/// The parts of a parallel task, the children by the names of the file.
pub(super) struct DraftParallel {
    pub fork: TaskIndex,
    pub children: Vec<(String, TaskIndex)>,
}

impl DraftTask {
    /// Its name for people: what a parallel task is made of has that of the whole.
    pub(super) fn shown(&self) -> &str {
        self.name.split([':', '/']).next().unwrap_or_default()
    }

    /// Stands for what was no task at all.
    pub(super) fn empty(place: &Place) -> Self {
        Self {
            name: String::new(),
            place: place.clone(),
            path: String::new(),
            action: None,
            is_workflow: false,
            action_place: place.clone(),
            input: ValueTemplate::map(Vec::new()),
            items: None,
            when: None,
            delay: None,
            retry: None,
            timeout: None,
            total_timeout: None,
            heartbeat: None,
            pool: "default".to_owned(),
            max_redeliveries: 0,
            join: None,
            needs: None,
            ignore_failure: false,
            publish: Vec::new(),
            routes: DraftRoutes::default(),
            handles_timeout: false,
            parallel: None,
            is_part: false,
        }
    }
}

/// The tasks by whose ends a task runs.
pub(super) struct DraftNeeds {
    pub targets: Vec<Target>,
    pub rule: Rule,
    pub place: Place,
}

/// What follows a task.
#[derive(Default)]
pub(super) struct DraftRoutes {
    /// Of a decision.
    pub branches: Option<Vec<DraftBranch>>,
    /// Of the general form.
    pub routes: Vec<DraftRoute>,
}

/// A route and the names that it leads to.
pub(super) struct DraftRoute {
    pub on: On,
    pub publish: Vec<Publish>,
    pub targets: Vec<Target>,
    /// Position among all publish lists of routes and branches of the task.
    pub list: usize,
}

/// A branch and the names that it leads to.
pub(super) struct DraftBranch {
    pub when: Option<Condition>,
    pub publish: Vec<Publish>,
    pub targets: Vec<Target>,
    /// Position among all publish lists of routes and branches of the task.
    pub list: usize,
}

/// A name in a list of targets.
pub(super) struct Target {
    pub name: String,
    pub place: Place,
    pub path: String,
}

impl DraftRoutes {
    /// All targets, with the variables that are published on the way and the position of the list.
    pub(super) fn ways(&self) -> impl Iterator<Item = (&[Target], &[Publish], usize)> {
        let branches = self.branches.iter().flatten();
        branches
            .map(|branch| {
                (
                    branch.targets.as_slice(),
                    branch.publish.as_slice(),
                    branch.list,
                )
            })
            .chain(self.routes.iter().map(|route| {
                (
                    route.targets.as_slice(),
                    route.publish.as_slice(),
                    route.list,
                )
            }))
    }

    /// All targets.
    pub(super) fn targets_mut(&mut self) -> impl Iterator<Item = &mut Target> {
        let branches = self.branches.iter_mut().flatten();
        let of_branches = branches.flat_map(|branch| &mut branch.targets);
        of_branches.chain(self.routes.iter_mut().flat_map(|route| &mut route.targets))
    }
}
