//! A definition that has been read, but whose names have not been resolved.

use super::tree::Place;
use crate::expression::{Condition, ValueTemplate};
use crate::rule::Rule;
use crate::workflow::{Join, On, Publish, Retry, WithItems};

/// A task that has been read.
pub(super) struct DraftTask {
    pub name: String,
    pub place: Place,
    pub path: String,
    pub action: Option<ValueTemplate>,
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
}

impl DraftTask {
    /// Stands for what was no task at all.
    pub(super) fn empty(place: &Place) -> Self {
        Self {
            name: String::new(),
            place: place.clone(),
            path: String::new(),
            action: None,
            input: ValueTemplate::map(Vec::new()),
            items: None,
            when: None,
            delay: None,
            retry: None,
            timeout: None,
            total_timeout: None,
            heartbeat: None,
            pool: String::new(),
            max_redeliveries: 0,
            join: None,
            needs: None,
            ignore_failure: false,
            publish: Vec::new(),
            routes: DraftRoutes::default(),
            handles_timeout: false,
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
}
