//! The execution of a script and its children: what happens to one of them, and what follows for the
//! others.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use flotilla_engine::execution::{
    Changes, ChildRefusal, ChildStart, Event, Execution, Family, Outcome, Past, Start, TimerChange,
    TimerKind, follow, start,
};
use flotilla_protocol::{ExecutionId, RunNo};
use flotilla_turn::{Held, Kept, RestoreError};

use super::{AFTER_THE_END, Due, Player, Rank, Reload};

/// Runs of one execution that are told apart from those of others.
const MOST_RUNS: RunNo = 1_000_000;

/// One execution.
pub(super) struct Member {
    pub held: Held,
    /// What has happened to it and is not taken yet.
    changes: Changes,
    /// Its rows; `None` where nothing asks for them.
    pub rows: Option<Kept>,
    pub timers: BTreeMap<RunNo, (TimerKind, DateTime<Utc>)>,
    /// What stands before the names of its tasks.
    prefix: String,
    /// What is added to the numbers of its runs.
    first_run: RunNo,
    /// Of a child: the position of what its parent waits for in [`crate::Seen::deliveries`].
    pub delivery: Option<usize>,
}

impl Member {
    /// The name of a task as it is seen.
    pub fn shown(&self, task: &Arc<str>) -> Arc<str> {
        if self.prefix.is_empty() {
            return Arc::clone(task);
        }
        format!("{}{task}", self.prefix).into()
    }

    /// The number of a run as it is seen.
    pub fn number(&self, run: RunNo) -> RunNo {
        self.first_run.saturating_add(run)
    }
}

/// What tells each other in one moment.
struct Moment<'a, 's> {
    player: &'a mut Player<'s>,
    /// Who has been told something.
    told: Vec<ExecutionId>,
}

impl Family for Moment<'_, '_> {
    fn member(&mut self, id: ExecutionId) -> Option<(&mut Execution, &mut Changes)> {
        let member = self.player.members.get_mut(&id)?;
        if !self.told.contains(&id) {
            self.told.push(id);
        }
        Some((&mut member.held.execution, &mut member.changes))
    }

    fn start(&mut self, child: ChildStart) -> Result<(), ChildRefusal> {
        let Some(workflow) = self.player.script.children.get(&*child.workflow) else {
            return Err(ChildRefusal {
                kind: "unknown_workflow",
                message: format!("no workflow {} is known here", child.workflow),
            });
        };
        let request = Start {
            id: child.id,
            workflow: Arc::clone(workflow),
            parameters: Some(child.parameters.raw()),
            parent: Some(child.parent),
            timeout: None,
        };
        let mut changes = Changes::default();
        let started = start(request, self.player.now, &mut changes);
        let execution = started.map_err(|rejection| ChildRefusal {
            kind: "invalid_input",
            message: rejection.message,
        })?;
        let name = child.workflow.rsplit('.').next().unwrap_or_default();
        self.player.add(execution, changes, format!("{name}."));
        self.player.note_child(&child);
        self.told.push(child.id);
        Ok(())
    }
}

impl Player<'_> {
    /// Adds an execution that has just been started.
    pub(super) fn add(&mut self, execution: Execution, changes: Changes, prefix: String) {
        let number = RunNo::try_from(self.members.len()).unwrap_or(RunNo::MAX);
        let member = Member {
            changes,
            rows: self.needs_rows.then(Kept::default),
            timers: BTreeMap::new(),
            prefix,
            first_run: number.saturating_mul(MOST_RUNS),
            delivery: None,
            held: Held::alone(execution),
        };
        self.members.insert(member.held.execution.id, member);
    }

    /// Lets an event happen to an execution.
    pub(super) fn apply(&mut self, id: ExecutionId, event: &Event) -> Outcome {
        let Some(member) = self.members.get_mut(&id) else {
            return Outcome::Nothing;
        };
        let execution = &mut member.held.execution;
        let outcome = execution.apply(event, self.now, &mut member.changes);
        self.follow(id);
        outcome
    }

    /// Takes what has happened to an execution, and what follows for its relatives.
    pub(super) fn follow(&mut self, id: ExecutionId) {
        let now = self.now;
        let mut moment = Moment {
            player: self,
            told: vec![id],
        };
        follow(&mut moment, id, now);
        for id in moment.told {
            self.take(id);
        }
        if self.reload == Reload::AfterEachEvent {
            self.load();
        }
    }

    fn take(&mut self, id: ExecutionId) {
        let Some(member) = self.members.get_mut(&id) else {
            return;
        };
        let changes = std::mem::take(&mut member.changes);
        if let Some(rows) = &mut member.rows
            && changes != Changes::default()
        {
            rows.keep(&mut member.held, &changes, self.now);
        }
        if id == self.root {
            self.past.add(&changes);
        }
        let member = self.members.get_mut(&id).expect("it was there");
        for change in &changes.timers {
            match *change {
                TimerChange::Set { run, kind, due } => {
                    member.timers.insert(run, (kind, due));
                }
                TimerChange::Clear { run } => {
                    member.timers.remove(&run);
                }
            }
        }
        for transition in &changes.transitions {
            self.note_start(id, transition, &changes.ended);
        }
        for run in &changes.ended {
            self.note_run(id, run);
        }
        for job in changes.jobs {
            self.plan(TimeDelta::zero(), Rank::Worker, Due::Delivered(id, job));
        }
        for cancel in &changes.cancels {
            self.tell_to_stop(id, cancel);
        }
        if changes.finished {
            self.note_end_of_child(id);
        }
        if changes.finished
            && id == self.root
            && let Some(action) = self.after_the_end.pop_front()
        {
            self.plan(AFTER_THE_END, Rank::Outside, Due::Action(action));
        }
    }

    /// What the execution that was started from outside has behind it.
    pub(super) fn past(&self) -> Result<Past, RestoreError> {
        let root = &self.members[&self.root];
        match (self.reload, &root.rows) {
            (Reload::AfterEachEvent, Some(rows)) => rows.past(&root.held.execution.workflow),
            (Reload::AfterEachEvent | Reload::AtRestarts, _) => Ok(self.past.clone()),
        }
    }

    /// Makes the executions of their rows. Workers know nothing of that: what they have they keep.
    fn load(&mut self) {
        for member in self.members.values_mut() {
            let rows = member.rows.as_ref();
            match rows.and_then(|rows| rows.load(&member.held.execution.workflow)) {
                Some(Ok(held)) => member.held = held,
                Some(Err(error)) => self.seen.damage.push(error.to_string()),
                None => {}
            }
        }
    }

    /// The coordinator has died, and another one goes on.
    pub(super) fn restart(&mut self) {
        self.load();
        for member in self.members.values_mut() {
            let timers = member.rows.as_ref().map_or(&[][..], Kept::timers).iter();
            member.timers = timers
                .map(|row| (row.run, (row.kind, row.due_at)))
                .collect();
        }
    }
}
