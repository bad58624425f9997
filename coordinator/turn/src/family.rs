//! Children: executions that others have started. They live in the partition of their parent, and what
//! relatives tell each other happens within one turn.

use std::sync::Arc;

use flotilla_engine::execution::{
    self, Changes, ChildRefusal, ChildStart, Execution, Family, MAX_DEPTH, kind,
};
use flotilla_protocol::ExecutionId;

use crate::cache::Held;
use crate::decision::{Deciding, before};
use crate::encode::Before;
use crate::rows::StartRow;

impl Family for Deciding<'_> {
    fn member(&mut self, id: ExecutionId) -> Option<(&mut Execution, &mut Changes)> {
        let held = self.turns.cache.use_mut(id)?;
        let known = before(held);
        let (_, changes) = self
            .work
            .entry(id)
            .or_insert_with(|| (known, Changes::default()));
        Some((&mut held.execution, changes))
    }

    fn start(&mut self, child: ChildStart) -> Result<(), ChildRefusal> {
        let name = &*child.workflow;
        let Some(entry) = self.turns.library.get(name, None, self.now) else {
            // The turn is decided again once that is known.
            self.decision.wanted.insert(name.to_owned());
            return Ok(());
        };
        let workflow = Arc::clone(entry.as_ref().map_err(Clone::clone)?);
        if self.turns.taken_ids.contains(&child.id) {
            return Err(ChildRefusal {
                kind: "id_conflict",
                message: format!(
                    "another execution has the id of this sub-workflow, {}",
                    child.id
                ),
            });
        }
        let parent = child.parent.execution_id;
        if self.depth(parent) >= MAX_DEPTH {
            return Err(ChildRefusal {
                kind: kind::LIMIT_EXCEEDED,
                message: format!("sub-workflows are nested {MAX_DEPTH} deep at most"),
            });
        }
        let Some(held) = self.turns.cache.get(parent) else {
            return Ok(());
        };
        let (partition, traceparent) = (held.partition, held.traceparent.clone());
        let root = held.root.unwrap_or(parent);
        let request = execution::Start {
            id: child.id,
            workflow,
            parameters: Some(child.parameters.raw()),
            parent: Some(child.parent),
            timeout: None,
        };
        let mut changes = Changes::default();
        let execution = execution::start(request, self.now, &mut changes).map_err(|rejection| {
            ChildRefusal {
                kind: "invalid_input",
                message: rejection.message,
            }
        })?;
        self.decision.commit.starts.push(StartRow {
            execution_id: child.id,
            idempotency_key: None,
            workflow: child.workflow.to_string(),
            partition,
        });
        self.turns.cache.insert(Held {
            partition,
            traceparent,
            root: Some(root),
            ..Held::alone(execution)
        });
        let new = Before {
            is_new: true,
            ..Before::default()
        };
        self.work.insert(child.id, (new, changes));
        Ok(())
    }
}

impl Deciding<'_> {
    /// How deep an execution is nested.
    fn depth(&self, id: ExecutionId) -> usize {
        let parent = |id: &ExecutionId| {
            let held = self.turns.cache.get(*id)?;
            Some(held.execution.parent?.execution_id)
        };
        std::iter::successors(parent(&id), parent).count()
    }
}
