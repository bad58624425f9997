//! The variables of a branch: which write of each name a run sees.
//!
//! A variable is written once, when it is published, and numbered within its execution. A branch
//! holds only which write it sees for each name; maps are shared until one of them changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::json::Json;

/// Number of a write within its execution, from 1.
pub type WriteNo = u64;

/// One write of a variable.
#[derive(Debug, Clone, PartialEq)]
pub struct Write {
    /// Its number.
    pub no: WriteNo,
    /// Name of the variable.
    pub name: Arc<str>,
    /// What was written.
    pub value: Json,
    /// The write of the same name that this one replaced in its branch.
    pub previous: Option<WriteNo>,
}

/// The variables that a branch sees.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Variables(Arc<BTreeMap<Arc<str>, Arc<Write>>>);

impl Variables {
    /// The write of `name` that this branch sees.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<Write>> {
        self.0.get(name)
    }

    /// Makes this branch see `write`.
    pub fn insert(&mut self, write: Arc<Write>) {
        Arc::make_mut(&mut self.0).insert(Arc::clone(&write.name), write);
    }

    /// All that the branch sees, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Write>> {
        self.0.values()
    }

    /// Whether the branch sees no variable at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether both are one shared map, which is cheaper to see than that they are equal.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}
