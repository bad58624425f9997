//! Starts: a new execution, one that was started before, or a refusal.

use std::sync::Arc;

use flotilla_engine::Workflow;
use flotilla_engine::execution::{self, Changes};
use flotilla_protocol::message::{TaskError, WorkflowRejected, WorkflowStarted};
use flotilla_protocol::{ExecutionId, names};

use crate::Turns;
use crate::cache::Held;
use crate::decision::{Deciding, before};
use crate::encode::Before;
use crate::gather::{Item, Turn};
use crate::machine::Found;
use crate::message::{DeliveryId, Forward, Message, RefusedMessage, StartRequest};
use crate::partitions::Partition;
use crate::publications::to_json;
use crate::rows::{
    ExistingStart, FoundDefinition, FoundStart, PartitionNo, ReplyMessage, StartRow,
};

/// Senders that can wait for the end of one execution; later ones ask Postgres. The list is written
/// again with each that is added.
const MAX_REPLY_ADDRESSES: usize = 100;

/// Starts of one turn that share a partition; more go to the next, so that a burst is spread.
const STARTS_TOGETHER: usize = 100;

/// Why a start is refused.
struct Refusal {
    kind: &'static str,
    message: String,
}

impl Turns {
    /// Which starts of a turn need no look-up, with what they start: those of a workflow that is known in
    /// the version that they ask for. That nobody has made them before is not known; the database says so,
    /// where it is not true, and then they are looked up.
    pub(crate) fn known_starts(&self, turn: &Turn, found: &mut Found) {
        if self.now < self.doubts_starts_until {
            return;
        }
        for item in &turn.items {
            let Item::Delivery { id, message, .. } = item else {
                continue;
            };
            let Message::Start(request) = &**message else {
                continue;
            };
            let (name, version) = named(request);
            if let Some(Ok(workflow)) = self.library.get(name, version, self.now) {
                found.known.insert(*id, workflow.hash);
                let workflow = Ok(Arc::clone(workflow));
                found.workflows.entry(found.known[id]).or_insert(workflow);
            }
        }
    }

    /// The partitions in turn; one that is being handed over only if all are.
    fn next_start_partition(&mut self) -> PartitionNo {
        let after = self.last_start_partition;
        let any_serves = self.partitions.values().any(Partition::is_serving);
        let mut partitions = self
            .partitions
            .iter()
            .filter(|(_, held)| held.is_serving() || !any_serves)
            .map(|(no, _)| *no);
        let next = partitions
            .clone()
            .find(|partition| *partition > after)
            .or_else(|| partitions.next());
        self.last_start_partition = next.unwrap_or(after);
        self.last_start_partition
    }
}

impl Deciding<'_> {
    /// Takes a start message.
    pub(crate) fn start(
        &mut self,
        delivery: DeliveryId,
        request: &StartRequest,
        found: &FoundStart,
    ) {
        let partition = self.start_partition();
        let outcome = match self.earlier(request, found) {
            Some((execution_id, workflow)) if workflow == request.start.workflow => {
                match self.elsewhere(found) {
                    Some(owner) if request.reply_to.is_some() => {
                        self.fence_in(partition);
                        let original = request.original.clone();
                        let forward = Forward::Start {
                            partition: owner,
                            original,
                        };
                        self.decision.forwards.push((delivery, forward));
                    }
                    Some(_) | None => self.attach(execution_id, partition, request),
                }
                Ok(())
            }
            Some((execution_id, workflow)) => Err(Refusal {
                kind: "id_conflict",
                message: format!(
                    "execution {execution_id} of {workflow} was started with the same id or key"
                ),
            }),
            None => self.create(delivery, partition, request, found),
        };
        if let Err(refusal) = outcome {
            self.reject(delivery, partition, request, refusal);
        }
    }

    /// The partition of the next start. Starts that come together stay together, and the next turn
    /// takes another partition: their completions then meet in one inbox, gathered in few messages,
    /// and a turn has few partitions to fence.
    fn start_partition(&mut self) -> PartitionNo {
        let (partition, room) = match self.starts_go_to {
            Some((partition, room)) if room > 0 => (partition, room),
            Some(_) | None => (self.turns.next_start_partition(), STARTS_TOGETHER),
        };
        self.starts_go_to = Some((partition, room - 1));
        partition
    }

    /// What is known of a start, found now or before.
    pub(crate) fn found_start(
        &mut self,
        id: DeliveryId,
        request: &StartRequest,
    ) -> Option<FoundStart> {
        let Some(hash) = self.known.get(&id) else {
            return self.starts.next().cloned();
        };
        Some(FoundStart {
            existing: self.existing_here(request),
            definition: FoundDefinition::Registered(*hash),
        })
    }

    /// An execution in memory that was started with the same id.
    fn existing_here(&self, request: &StartRequest) -> Option<ExistingStart> {
        let id = request.start.execution_id?;
        let held = self.turns.cache.get(id)?;
        // A child bears the name of what it was started by, which is that of its workflow too.
        Some(ExistingStart {
            execution_id: id,
            workflow: held.execution.workflow.reference.to_string(),
            partition: held.partition,
        })
    }

    /// A start of the same name, of this turn or before.
    fn earlier(&self, request: &StartRequest, found: &FoundStart) -> Option<(ExecutionId, String)> {
        if let Some(existing) = &found.existing {
            return Some((existing.execution_id, existing.workflow.clone()));
        }
        names_of(request).find_map(|name| self.named.get(&name).cloned())
    }

    /// The partition of an execution that was started before, if its owner is somebody else: the
    /// sender gets the same answers from there.
    fn elsewhere(&self, found: &FoundStart) -> Option<PartitionNo> {
        let existing = found.existing.as_ref()?;
        let is_ours = self.turns.partitions.contains_key(&existing.partition);
        (!is_ours).then_some(existing.partition)
    }

    /// The start is a repetition: its sender gets the same answers.
    fn attach(
        &mut self,
        execution_id: ExecutionId,
        partition: PartitionNo,
        request: &StartRequest,
    ) {
        let Some(address) = &request.reply_to else {
            self.fence_in(partition);
            return;
        };
        self.reply(partition, address, started(execution_id, false));
        let Some(held) = self.turns.cache.use_mut(execution_id) else {
            return;
        };
        let own_partition = held.partition;
        if held.execution.status.is_final() {
            self.reply(
                own_partition,
                address,
                ReplyMessage::Finished { execution_id },
            );
        } else if held.reply_to.len() < MAX_REPLY_ADDRESSES && !held.reply_to.contains(address) {
            held.reply_to.push(address.clone());
            let known = before(held);
            let (before, _) = self
                .work
                .entry(execution_id)
                .or_insert_with(|| (known, Changes::default()));
            before.reply_to_changed = true;
            self.fence_in(own_partition);
        }
    }

    fn create(
        &mut self,
        delivery: DeliveryId,
        partition: PartitionNo,
        request: &StartRequest,
        found: &FoundStart,
    ) -> Result<(), Refusal> {
        let workflow = self.workflow(request, found)?;
        if !self.known.contains_key(&delivery) {
            let (name, version) = named(request);
            let library = &mut self.turns.library;
            library.learn(name, version, &workflow, self.now);
        }
        let id = request.start.execution_id.unwrap_or(request.fresh_id);
        let mut changes = Changes::default();
        let start = execution::Start {
            id,
            workflow,
            parameters: request.start.parameters.as_deref(),
            parent: None,
            timeout: request.start.timeout,
        };
        let execution =
            execution::start(start, self.now, &mut changes).map_err(|rejection| Refusal {
                kind: "invalid_input",
                message: rejection.message,
            })?;
        self.fence_in(partition);
        self.decision.commit.starts.push(StartRow {
            execution_id: id,
            idempotency_key: request.start.idempotency_key.clone(),
            workflow: request.start.workflow.clone(),
            partition,
        });
        for name in names_of(request) {
            self.named
                .insert(name, (id, request.start.workflow.clone()));
        }
        if let Some(address) = &request.reply_to {
            self.reply(partition, address, started(id, true));
        }
        self.turns.cache.insert(Held {
            execution,
            partition,
            root: None,
            idempotency_key: request.start.idempotency_key.clone(),
            tags: request.start.tags.clone(),
            reply_to: request.reply_to.clone().into_iter().collect(),
            traceparent: request.traceparent.as_deref().map(Arc::from),
        });
        self.work.insert(
            id,
            (
                Before {
                    is_new: true,
                    ..Before::default()
                },
                changes,
            ),
        );
        execution::follow(self, id, self.now);
        Ok(())
    }

    fn workflow(
        &self,
        request: &StartRequest,
        found: &FoundStart,
    ) -> Result<Arc<Workflow>, Refusal> {
        let start = &request.start;
        match found.definition {
            FoundDefinition::Registered(hash) => match self.workflows.get(&hash) {
                Some(Ok(workflow)) => Ok(Arc::clone(workflow)),
                Some(Err(message)) => Err(Refusal {
                    kind: "invalid_definition",
                    message: message.clone(),
                }),
                None => Err(Refusal {
                    kind: "invalid_definition",
                    message: format!("the definition {hash} could not be loaded"),
                }),
            },
            FoundDefinition::UnknownWorkflow => Err(Refusal {
                kind: "unknown_workflow",
                message: format!("no workflow {} is registered", start.workflow),
            }),
            FoundDefinition::UnknownVersion => Err(Refusal {
                kind: "unknown_version",
                message: format!(
                    "workflow {} is not registered in version {}",
                    start.workflow,
                    start.version.as_deref().unwrap_or_default()
                ),
            }),
        }
    }

    /// Tells the sender; a start that names nobody to tell becomes a dead letter.
    fn reject(
        &mut self,
        delivery: DeliveryId,
        partition: PartitionNo,
        request: &StartRequest,
        refusal: Refusal,
    ) {
        self.fence_in(partition);
        let Some(address) = &request.reply_to else {
            let refused = RefusedMessage {
                reason: "rejected",
                detail: format!("{}: {}", refusal.kind, refusal.message),
                ..request.original.clone()
            };
            self.decision
                .forwards
                .push((delivery, Forward::Refused(refused)));
            return;
        };
        let error = TaskError {
            kind: refusal.kind.to_owned(),
            message: refusal.message,
            retryable: None,
            details: None,
        };
        let message = stored(names::WORKFLOW_REJECTED, &WorkflowRejected { error });
        self.reply(partition, address, message);
    }
}

/// What a start begins: a workflow, and its version where that is given.
fn named(request: &StartRequest) -> (&str, Option<&str>) {
    (&request.start.workflow, request.start.version.as_deref())
}

/// The names under which a start is unique, marked by their sort.
fn names_of(request: &StartRequest) -> impl Iterator<Item = String> {
    let id = request.start.execution_id.map(|id| format!("id {id}"));
    let key = request
        .start
        .idempotency_key
        .as_ref()
        .map(|key| format!("key {key}"));
    id.into_iter().chain(key)
}

fn started(execution_id: ExecutionId, created: bool) -> ReplyMessage {
    stored(
        names::WORKFLOW_STARTED,
        &WorkflowStarted {
            execution_id,
            created,
        },
    )
}

pub(crate) fn stored<T: serde::Serialize>(message_type: &str, body: &T) -> ReplyMessage {
    let body = String::from_utf8(to_json(body)).expect("JSON text is UTF-8");
    ReplyMessage::Stored {
        message_type: message_type.to_owned(),
        body,
    }
}
