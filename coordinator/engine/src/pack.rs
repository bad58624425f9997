//! What a pack gives its workflows: its configuration, and what its actions say of themselves.
//!
//! It is fixed with the definition: stored beside its text, and covered by its hash.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::json::Json;

/// What a workflow gets from outside of its own text.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Pack {
    /// `pack.config`, as expressions see it; `None` for a workflow that belongs to no pack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Map<String, Value>>,
    /// Actions that say something of themselves, by their references.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub actions: BTreeMap<String, ActionDefaults>,
    /// References of workflows: an action of such a name, where no action of that name says something
    /// of itself, is a sub-workflow.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub workflows: BTreeSet<String>,
}

/// What holds for the tasks of an action that do not say otherwise.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ActionDefaults {
    /// The pool that its jobs go to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// Seconds that an attempt may run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<f64>,
}

impl Pack {
    /// Reads what [`Pack::text`] has written.
    ///
    /// # Errors
    ///
    /// When a later version has written it.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// The text that is stored and hashed; `None` if there is nothing to be stored.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        let is_empty =
            self.config.is_none() && self.actions.is_empty() && self.workflows.is_empty();
        (!is_empty).then(|| Json::of(self).text().to_owned())
    }

    /// Whether an action of that name is a sub-workflow.
    pub(crate) fn is_workflow(&self, action: &str) -> bool {
        self.workflows.contains(action) && !self.actions.contains_key(action)
    }

    /// Without the actions and workflows that a workflow does not name.
    pub(crate) fn of_actions(&self, named: &BTreeSet<String>) -> Self {
        let actions = self.actions.iter();
        let actions = actions.filter(|(name, _)| named.contains(*name));
        Self {
            config: self.config.clone(),
            actions: actions
                .map(|(name, defaults)| (name.clone(), defaults.clone()))
                .collect(),
            workflows: self.workflows.intersection(named).cloned().collect(),
        }
    }
}
