//! What a turn needs has come, or has not; then it is decided.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::TimeDelta;
use flotilla_protocol::ExecutionId;
use uuid::Uuid;

use crate::Turns;
use crate::cache::Held;
use crate::effect::{Effect, LoadFailure, LoadRequest, Loaded};
use crate::gather::Turn;
use crate::machine::{Found, Phase, RETRY_AFTER_MS};
use crate::restore::restore;
use crate::rows::{FoundStart, LoadedExecution};

/// Seconds for which leases are renewed while nothing can be loaded. A statement of a load may take 10.
const LOAD_PATIENCE_S: i64 = 30;

impl Turns {
    /// Asks for what a turn needs beside what was found.
    pub(crate) fn load(
        &mut self,
        turn: Turn,
        found: Found,
        request: LoadRequest,
        out: &mut Vec<Effect>,
    ) {
        self.loads_since.get_or_insert(self.now);
        self.phase = Phase::Loading {
            turn,
            found,
            is_void: false,
        };
        out.push(Effect::Load(request));
    }

    pub(crate) fn loaded(&mut self, loaded: Loaded, out: &mut Vec<Effect>) {
        let Phase::Loading {
            turn,
            mut found,
            is_void,
        } = std::mem::replace(&mut self.phase, Phase::Idle)
        else {
            return;
        };
        if is_void {
            self.put_back(turn);
            return;
        }
        for workflow in loaded.workflows {
            match workflow {
                Ok(workflow) => found.workflows.insert(workflow.hash, Ok(workflow)),
                Err((hash, message)) => found.workflows.insert(hash, Err(message)),
            };
        }
        found.controls.extend(loaded.controls);
        found.pasts.extend(loaded.pasts);
        self.take_in(&loaded.executions, &found);
        for (name, definition) in loaded.children {
            self.library.note(name, definition, &found, self.now);
        }
        if found.starts.is_none() && !loaded.starts.is_empty() {
            let repeated = self.repeated(&loaded.starts);
            found.starts = Some(loaded.starts);
            if !repeated.is_empty() {
                let request = LoadRequest {
                    executions: repeated,
                    ..LoadRequest::default()
                };
                return self.load(turn, found, request, out);
            }
        }
        self.decide(turn, found, out);
    }

    /// Makes executions of rows. Those that are held already are as their rows are, or newer.
    fn take_in(&mut self, executions: &[LoadedExecution], found: &Found) {
        let parents: BTreeMap<ExecutionId, ExecutionId> = executions
            .iter()
            .filter_map(|rows| Some((rows.row.execution_id, rows.row.parent?.execution_id)))
            .collect();
        let parent = |id: &ExecutionId| parents.get(id).copied();
        for rows in executions {
            let id = rows.row.execution_id;
            let Some(Ok(workflow)) = found.workflows.get(&rows.row.definition_hash) else {
                continue;
            };
            match restore(rows, Arc::clone(workflow)) {
                // What belongs to somebody else would be stale once it becomes ours.
                Ok(held) if !self.partitions.contains_key(&held.partition) => {}
                Ok(held) => self.cache.insert(Held {
                    root: std::iter::successors(parent(&id), parent).last(),
                    ..held
                }),
                Err(error) => {
                    tracing::error!(workflow.id = %id, %error, "an execution cannot be read");
                }
            }
        }
    }

    /// Executions of ours that were started before and whose end the sender wants to know.
    pub(crate) fn repeated(&self, starts: &[FoundStart]) -> Vec<ExecutionId> {
        starts
            .iter()
            .filter_map(|found| found.existing.as_ref())
            .filter(|existing| self.partitions.contains_key(&existing.partition))
            .map(|existing| existing.execution_id)
            .filter(|id| !self.cache.contains(*id))
            .collect()
    }

    pub(crate) fn load_failed(&mut self, failure: LoadFailure) {
        let Phase::Loading { turn, .. } = std::mem::replace(&mut self.phase, Phase::Idle) else {
            return;
        };
        match failure {
            LoadFailure::TooMuch => self.halve_turns(turn.items.len()),
            LoadFailure::Passing => {}
        }
        self.put_back(turn);
        self.not_before = Some(self.now + TimeDelta::milliseconds(RETRY_AFTER_MS));
    }

    /// Leases are renewed by commits, which wait while a turn is loaded. Who cannot load for long leaves
    /// its partitions to others.
    pub(crate) fn renew_while_loading(&mut self, out: &mut Vec<Effect>) {
        let patience = TimeDelta::seconds(LOAD_PATIENCE_S);
        let is_loading = matches!(self.phase, Phase::Loading { .. });
        let is_patient = |since| self.now - since < patience;
        if is_loading && self.loads_since.is_some_and(is_patient) && self.is_renewal_due() {
            self.last_renewal = self.now;
            let partitions = self.partitions.iter();
            let held = partitions.map(|(no, held)| (*no, held.epoch));
            out.push(Effect::Renew(held.collect()));
        }
    }

    pub(crate) fn is_renewal_due(&self) -> bool {
        #[expect(clippy::cast_possible_truncation, reason = "a lease is some seconds")]
        let third_ms = (self.config.lease_s * 1000.0 / 3.0) as i64;
        self.now - self.last_renewal >= TimeDelta::milliseconds(third_ms)
    }

    pub(crate) fn decide(&mut self, turn: Turn, found: Found, out: &mut Vec<Effect>) {
        self.loads_since = None;
        let decided = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            self.decide_items(&turn, &found)
        }));
        match decided {
            Ok(decision) if !decision.wanted.is_empty() => {
                self.discard(&decision.touched);
                let mut executions = self.missing(&turn, &found.known).executions;
                // Starts name none, but some ask for the end of one that is there.
                executions.extend(self.repeated(found.starts.as_deref().unwrap_or_default()));
                let request = LoadRequest {
                    executions,
                    children: decision.wanted.into_iter().collect(),
                    ..LoadRequest::default()
                };
                self.load(turn, found, request, out);
            }
            Ok(decision) => self.commit(turn, decision, out),
            Err(_) => self.turn_refused(turn, None, "the engine panicked", out),
        }
    }

    /// A commit's id: the same for every sending of it, and nobody else's.
    pub(crate) fn next_turn_id(&mut self) -> Uuid {
        self.turns_begun += 1;
        Uuid::from_u128(self.config.owner.as_u128() ^ u128::from(self.turns_begun))
    }
}
