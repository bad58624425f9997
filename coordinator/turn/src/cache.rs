//! Executions held in memory. Rows are the state; this is only what need not be loaded again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flotilla_engine::execution::Execution;
use flotilla_protocol::ExecutionId;

use crate::message::ReplyAddress;
use crate::rows::PartitionNo;

/// An execution with what the coordinator knows of it beyond the engine.
#[derive(Debug, Clone)]
pub struct Held {
    /// Its state.
    pub execution: Execution,
    /// Its partition.
    pub partition: PartitionNo,
    /// Of a child: the execution at the head of its family.
    pub root: Option<ExecutionId>,
    /// The key of its start; known only until its first commit.
    pub idempotency_key: Option<String>,
    /// Its labels; known only until its first commit.
    pub tags: BTreeMap<String, String>,
    /// Where replies go.
    pub reply_to: Vec<ReplyAddress>,
    /// Trace context of its start.
    pub traceparent: Option<Arc<str>>,
}

impl Held {
    /// An execution by itself: nobody waits for it, and all partitions are one.
    #[must_use]
    pub fn alone(execution: Execution) -> Self {
        Self {
            execution,
            partition: 0,
            root: None,
            idempotency_key: None,
            tags: BTreeMap::new(),
            reply_to: Vec::new(),
            traceparent: None,
        }
    }
}

/// A bounded set of executions; the one that was used longest ago goes first. A family is in it as a whole
/// (its live members, as far as they wait for each other), so that what one of them says to another finds
/// it.
#[derive(Debug)]
pub(crate) struct Cache {
    capacity: usize,
    clock: u64,
    by_id: BTreeMap<ExecutionId, (u64, Held)>,
    by_use: BTreeMap<u64, ExecutionId>,
    /// Children by the heads of their families.
    families: BTreeMap<ExecutionId, BTreeSet<ExecutionId>>,
}

impl Cache {
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            clock: 0,
            by_id: BTreeMap::new(),
            by_use: BTreeMap::new(),
            families: BTreeMap::new(),
        }
    }

    pub fn contains(&self, id: ExecutionId) -> bool {
        self.by_id.contains_key(&id)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Held> {
        self.by_id.values().map(|(_, held)| held)
    }

    pub fn insert(&mut self, held: Held) {
        let id = held.execution.id;
        self.forget(id);
        if let Some(root) = held.root {
            self.families.entry(root).or_default().insert(id);
        }
        self.clock += 1;
        self.by_use.insert(self.clock, id);
        self.by_id.insert(id, (self.clock, held));
    }

    /// Looks an execution up and counts that as a use.
    pub fn use_mut(&mut self, id: ExecutionId) -> Option<&mut Held> {
        let (used, held) = self.by_id.get_mut(&id)?;
        self.by_use.remove(used);
        self.clock += 1;
        *used = self.clock;
        self.by_use.insert(self.clock, id);
        Some(held)
    }

    /// An execution, without counting that as a use.
    pub fn get(&self, id: ExecutionId) -> Option<&Held> {
        self.by_id.get(&id).map(|(_, held)| held)
    }

    /// Removes an execution with its whole family.
    pub fn remove(&mut self, id: ExecutionId) {
        let root = self.get(id).and_then(|held| held.root).unwrap_or(id);
        for child in self.families.remove(&root).unwrap_or_default() {
            self.forget(child);
        }
        self.forget(root);
    }

    /// Removes an execution alone, which nobody waits for.
    pub fn forget(&mut self, id: ExecutionId) {
        let Some((used, held)) = self.by_id.remove(&id) else {
            return;
        };
        self.by_use.remove(&used);
        if let Some(root) = held.root
            && let Some(family) = self.families.get_mut(&root)
        {
            family.remove(&id);
            if family.is_empty() {
                self.families.remove(&root);
            }
        }
    }

    pub fn clear(&mut self) {
        self.by_id.clear();
        self.by_use.clear();
        self.families.clear();
    }

    pub fn remove_partition(&mut self, partition: PartitionNo) {
        let gone: Vec<ExecutionId> = self
            .by_id
            .iter()
            .filter(|(_, (_, held))| held.partition == partition)
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            self.remove(id);
        }
    }

    /// Goes back to the capacity. Called only between turns: what an uncommitted turn has touched
    /// is nowhere else.
    pub fn shrink(&mut self) {
        while self.by_id.len() > self.capacity {
            let Some((_, id)) = self.by_use.first_key_value() else {
                return;
            };
            self.remove(*id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u128) -> ExecutionId {
        ExecutionId(uuid::Uuid::from_u128(number))
    }

    fn held(number: u128, root: Option<u128>) -> Held {
        let compiled = flotilla_engine::compile("ref: a.b\ntasks:\n  - name: a\n").expect("sound");
        let request = flotilla_engine::execution::Start {
            id: id(number),
            workflow: compiled.workflow,
            parameters: None,
            parent: None,
            timeout: None,
        };
        let mut changes = flotilla_engine::execution::Changes::default();
        let now = chrono::DateTime::UNIX_EPOCH;
        let execution = flotilla_engine::execution::start(request, now, &mut changes);
        Held {
            root: root.map(id),
            ..Held::alone(execution.expect("it starts"))
        }
    }

    fn ids(cache: &Cache) -> Vec<u128> {
        cache.by_id.keys().map(|id| id.0.as_u128()).collect()
    }

    #[test]
    fn a_family_goes_as_a_whole() {
        let mut cache = Cache::new(3);
        for (number, root) in [(1, None), (2, Some(1)), (3, Some(1)), (4, None)] {
            cache.insert(held(number, root));
        }
        cache.use_mut(id(1));
        cache.shrink();
        assert_eq!(ids(&cache), [4], "the oldest, 2, takes 1 and 3 with it");
        assert!(cache.families.is_empty() && cache.by_use.len() == 1);
    }

    #[test]
    fn one_that_nobody_waits_for_goes_alone() {
        let mut cache = Cache::new(3);
        for (number, root) in [(1, None), (2, Some(1)), (3, Some(1))] {
            cache.insert(held(number, root));
        }
        cache.forget(id(2));
        assert_eq!(ids(&cache), [1, 3]);
        cache.insert(held(3, Some(1)));
        cache.forget(id(1));
        cache.remove(id(3));
        assert!(ids(&cache).is_empty() && cache.families.is_empty());
    }
}
