//! Executions held in memory. Rows are the state; this is only what need not be loaded again.

use std::collections::BTreeMap;
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
            idempotency_key: None,
            tags: BTreeMap::new(),
            reply_to: Vec::new(),
            traceparent: None,
        }
    }
}

/// A bounded set of executions; the one that was used longest ago goes first.
#[derive(Debug)]
pub(crate) struct Cache {
    capacity: usize,
    clock: u64,
    by_id: BTreeMap<ExecutionId, (u64, Held)>,
    by_use: BTreeMap<u64, ExecutionId>,
}

impl Cache {
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            clock: 0,
            by_id: BTreeMap::new(),
            by_use: BTreeMap::new(),
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
        self.remove(id);
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

    pub fn remove(&mut self, id: ExecutionId) {
        if let Some((used, _)) = self.by_id.remove(&id) {
            self.by_use.remove(&used);
        }
    }

    pub fn clear(&mut self) {
        self.by_id.clear();
        self.by_use.clear();
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
            let Some((_, id)) = self.by_use.pop_first() else {
                return;
            };
            self.by_id.remove(&id);
        }
    }
}
