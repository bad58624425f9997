//! A rerun that a message orders: what the execution has behind it is loaded with the turn, and what the
//! turn itself has ended is added.

use std::sync::Arc;

use flotilla_engine::Json;
use flotilla_engine::execution::{Event, Past, Rerun, RerunOrder};
use flotilla_protocol::ExecutionId;
use flotilla_protocol::message::WorkflowControl;

use crate::control::{Refused, UNKNOWN_EXECUTION};
use crate::decision::Deciding;
use crate::message::ControlRequest;
use crate::restore::restore_past;
use crate::rows::PartitionNo;

/// What a control message wants to run again.
#[must_use]
pub fn order(control: &WorkflowControl) -> RerunOrder {
    RerunOrder {
        from: control.from.clone(),
        reset_items: control.reset_items,
        parameters: control.parameters.clone().map(Json::new),
        vars: control.vars.clone().map(Json::new),
    }
}

impl Deciding<'_> {
    /// Why the rerun is refused, if it is.
    pub(crate) fn rerun(
        &mut self,
        partition: PartitionNo,
        request: &ControlRequest,
    ) -> Option<Refused> {
        let id = request.control.execution_id;
        let order = order(&request.control);
        let Some(past) = self.past(partition, id) else {
            return Some(Refused::with(UNKNOWN_EXECUTION));
        };
        let held = self.turns.cache.use_mut(id)?;
        if let Err(refusal) = held.execution.plan_rerun(&order, &past) {
            return Some(Refused {
                reason: refusal.kind().word(),
                detail: Some(refusal.to_string()),
            });
        }
        let event = Event::RerunOrdered(Box::new(Rerun {
            order,
            past,
            message_id: request.message_id.clone(),
        }));
        self.carry_out(partition, request, &event)
    }

    /// All that an execution has behind it; `None` if there is none here, or it cannot be read.
    fn past(&mut self, partition: PartitionNo, id: ExecutionId) -> Option<Past> {
        let held = self.turns.cache.use_mut(id);
        let held = held.filter(|held| held.partition == partition)?;
        let workflow = Arc::clone(&held.execution.workflow);
        let loaded = self.pasts.iter().find(|past| past.execution_id == id);
        let mut past = match loaded.map(|loaded| restore_past(loaded, &workflow)) {
            Some(Ok(past)) => past,
            Some(Err(error)) => {
                tracing::error!(workflow.id = %id, %error, "the runs of an execution cannot be read");
                return None;
            }
            None => Past::default(),
        };
        if let Some((_, changes)) = self.work.get(&id) {
            past.add(changes);
        }
        Some(past)
    }
}
