//! What a branch of an execution carries along: its variables, the ended tasks that it can read, and
//! how often it has passed each join. Joins merge branches.

use std::collections::BTreeMap;
use std::sync::Arc;

use flotilla_protocol::RunNo;

use crate::scope::TaskView;
use crate::variables::{Variables, Write, WriteNo};
use crate::workflow::TaskIndex;

/// What a run hands to the runs that it leads to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Branch {
    /// The variables that it sees.
    pub vars: Variables,
    /// The nearest ended run of each watched task that led here.
    pub tasks: Arc<BTreeMap<Arc<str>, SeenTask>>,
    /// How often the branch has passed each join that lies on a cycle; absent means never.
    pub passed: Arc<BTreeMap<TaskIndex, u32>>,
    /// The run of the split that opened the route that it is on; 0 for that of the execution.
    pub route: RunNo,
    /// Whether nothing follows: it stood beside `fail`.
    pub cut: bool,
}

/// An ended run that a branch can read as `task.<name>`.
#[derive(Debug, Clone, PartialEq)]
pub struct SeenTask {
    /// Its number.
    pub run: RunNo,
    /// What expressions see of it.
    pub view: Arc<TaskView>,
}

/// Which write replaced which, as far back as a merge may have to look.
pub type WriteLinks = BTreeMap<WriteNo, Option<WriteNo>>;

impl Branch {
    /// How often it has passed a join.
    #[must_use]
    pub fn passed(&self, join: TaskIndex) -> u32 {
        self.passed.get(&join).copied().unwrap_or(0)
    }

    /// Takes in a branch that arrives later than what is held.
    ///
    /// Where both see different writes of one name, the arriving one wins, unless it is an ancestor
    /// of the one that is held: then the arriving branch has not written the name since they parted.
    /// The route stays what it is.
    pub fn merge(&mut self, arriving: &Self, links: &WriteLinks) {
        if self.vars.is_empty() {
            self.vars = arriving.vars.clone();
        } else if !self.vars.is_same(&arriving.vars) {
            self.merge_variables(&arriving.vars, links);
        }
        for (name, seen) in arriving.tasks.iter() {
            let newer = self.tasks.get(name).is_none_or(|held| held.run < seen.run);
            if newer {
                Arc::make_mut(&mut self.tasks).insert(Arc::clone(name), seen.clone());
            }
        }
        for (join, count) in arriving.passed.iter() {
            if self.passed.get(join).is_none_or(|held| held < count) {
                Arc::make_mut(&mut self.passed).insert(*join, *count);
            }
        }
    }

    fn merge_variables(&mut self, arriving: &Variables, links: &WriteLinks) {
        let winners: Vec<Arc<Write>> = arriving
            .iter()
            .filter(|write| match self.vars.get(&write.name) {
                None => true,
                Some(held) => held.no != write.no && !is_ancestor(write.no, held.no, links),
            })
            .cloned()
            .collect();
        for write in winners {
            self.vars.insert(write);
        }
    }
}

/// Whether `older` was replaced, directly or through others, by `newer`.
fn is_ancestor(older: WriteNo, newer: WriteNo, links: &WriteLinks) -> bool {
    let mut at = newer;
    while at > older {
        match links.get(&at) {
            Some(Some(previous)) => at = *previous,
            Some(None) | None => return false,
        }
    }
    at == older
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Json;

    fn write(
        no: WriteNo,
        name: &str,
        previous: Option<WriteNo>,
        links: &mut WriteLinks,
    ) -> Arc<Write> {
        links.insert(no, previous);
        Arc::new(Write {
            no,
            name: name.into(),
            value: Json::null(),
            previous,
        })
    }

    fn branch(writes: &[&Arc<Write>]) -> Branch {
        let mut branch = Branch::default();
        for write in writes {
            branch.vars.insert(Arc::clone(write));
        }
        branch
    }

    fn seen(branch: &Branch, name: &str) -> WriteNo {
        branch.vars.get(name).expect("the name is there").no
    }

    #[test]
    fn the_later_arrival_wins_where_both_have_written() {
        let mut links = WriteLinks::new();
        let initial = write(1, "x", None, &mut links);
        let one = write(2, "x", Some(initial.no), &mut links);
        let two = write(3, "x", Some(initial.no), &mut links);
        let mut held = branch(&[&two]);
        held.merge(&branch(&[&one]), &links);
        assert_eq!(seen(&held, "x"), 2);
    }

    #[test]
    fn an_arrival_that_has_not_written_does_not_undo_a_write() {
        let mut links = WriteLinks::new();
        let initial = write(1, "x", None, &mut links);
        write(2, "x", Some(1), &mut links);
        let three = write(3, "x", Some(2), &mut links);
        let mut held = branch(&[&three]);
        held.merge(&branch(&[&initial]), &links);
        assert_eq!(seen(&held, "x"), 3);
    }

    #[test]
    fn an_arrival_that_wrote_on_top_of_what_is_held_wins() {
        let mut links = WriteLinks::new();
        let initial = write(1, "x", None, &mut links);
        let two = write(2, "x", Some(1), &mut links);
        let mut held = branch(&[&initial]);
        held.merge(&branch(&[&two]), &links);
        assert_eq!(seen(&held, "x"), 2);
    }
}
