//! The workflows that are started or run as children, by their names: the newest version of each, and
//! those versions that starts name.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use flotilla_engine::Workflow;
use flotilla_engine::execution::ChildRefusal;

use crate::machine::Found;
use crate::rows::FoundDefinition;

/// Seconds for which a name is not looked up again, should nobody say that something was registered.
const TRUSTED_S: i64 = 2;
/// Names and versions that are kept at most; templates may give any.
const MOST_NAMES: usize = 10_000;

/// What a name stands for, or why it cannot be started.
pub(crate) type Entry = Result<Arc<Workflow>, ChildRefusal>;

/// Names that were looked up, and when.
#[derive(Debug, Default)]
pub(crate) struct Library {
    newest: Names,
    /// The versions of each name that starts have asked for.
    versions: BTreeMap<String, Names>,
    /// Entries in both.
    kept: usize,
}

type Names = BTreeMap<String, (DateTime<Utc>, Entry)>;

impl Library {
    /// What a name stands for in a version, or in its newest; `None` if it has to be looked up.
    /// A version may be registered again with other text, so it is trusted no longer than the newest.
    pub fn get(&self, name: &str, version: Option<&str>, now: DateTime<Utc>) -> Option<&Entry> {
        let (known_at, entry) = match version {
            None => self.newest.get(name),
            Some(version) => self.versions.get(name)?.get(version),
        }?;
        let is_trusted = now - *known_at <= TimeDelta::seconds(TRUSTED_S);
        is_trusted.then_some(entry)
    }

    /// Notes what a start has looked up.
    pub fn learn(
        &mut self,
        name: &str,
        version: Option<&str>,
        workflow: &Arc<Workflow>,
        now: DateTime<Utc>,
    ) {
        self.insert(name.to_owned(), version, Ok(Arc::clone(workflow)), now);
    }

    /// Something was registered.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Notes what was found for a name.
    pub fn note(
        &mut self,
        name: String,
        definition: FoundDefinition,
        found: &Found,
        now: DateTime<Utc>,
    ) {
        let refused = |kind, message| Err(ChildRefusal { kind, message });
        let entry = match definition {
            FoundDefinition::Registered(hash) => match found.workflows.get(&hash) {
                Some(Ok(workflow)) => Ok(Arc::clone(workflow)),
                Some(Err(message)) => refused("invalid_definition", message.clone()),
                None => refused(
                    "invalid_definition",
                    format!("the definition {hash} could not be loaded"),
                ),
            },
            FoundDefinition::UnknownWorkflow | FoundDefinition::UnknownVersion => refused(
                "unknown_workflow",
                format!("no workflow {name} is registered"),
            ),
        };
        self.insert(name, None, entry, now);
    }

    fn insert(&mut self, name: String, version: Option<&str>, entry: Entry, now: DateTime<Utc>) {
        if self.kept >= MOST_NAMES {
            self.clear();
        }
        let replaced = match version {
            None => self.newest.insert(name, (now, entry)),
            Some(version) => {
                let versions = self.versions.entry(name).or_default();
                versions.insert(version.to_owned(), (now, entry))
            }
        };
        self.kept += usize::from(replaced.is_none());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_looked_up_again_after_a_while_or_when_something_was_registered() {
        let now = DateTime::UNIX_EPOCH;
        let later = |seconds| now + TimeDelta::seconds(seconds);
        let mut library = Library::default();
        assert!(library.get("a.b", None, now).is_none());
        let unknown = FoundDefinition::UnknownWorkflow;
        library.note("a.b".to_owned(), unknown, &Found::default(), now);
        let refusal = library
            .get("a.b", None, later(TRUSTED_S))
            .expect("it is known");
        assert_eq!(
            refusal.as_ref().expect_err("unknown").kind,
            "unknown_workflow"
        );
        assert!(library.get("a.b", None, later(TRUSTED_S + 1)).is_none());
        library.clear();
        assert!(library.get("a.b", None, now).is_none());
    }
}
