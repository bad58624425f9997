//! Plays a script: the earliest of answers, timers and events is next, until nothing is left.

mod note;
mod worker;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use flotilla_engine::execution::{
    AttemptId, Changes, Command, Event, ExecutionError, Job, Outcome, Past, Report, Rerun,
    RerunOrder, Run, Start, TimerChange, TimerKind, start,
};
use flotilla_engine::{Json, Workflow};
use flotilla_protocol::{ExecutionId, RunNo};
use flotilla_turn::{Held, Kept};
use serde_json::Value;
use uuid::Uuid;

use crate::read::value as json;
use crate::script::{Action, Script, ScriptEvent};
use crate::seen::Seen;

/// Events after which an execution that still goes on is left alone.
const EVENT_LIMIT: usize = 1_000_000;
/// From the end of an execution to what happens after it.
const AFTER_THE_END: TimeDelta = TimeDelta::seconds(1);
/// When every execution starts, in seconds since 1970.
const BEGINNING_S: i64 = 1_700_000_000;
/// The id of every execution.
const ID: u128 = 0x0190_0000_0000_7000_8000_0000_0000_0001;

/// Starts an execution, and lets the script happen to it until nothing is left to happen.
#[must_use]
pub fn play(workflow: &Arc<Workflow>, script: &Script) -> Seen {
    play_with(workflow, script, Reload::AtRestarts)
}

/// When an execution is made of its rows again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// Where the script says that the coordinator is restarted.
    AtRestarts,
    /// After each event. Whether the rows follow from the log is looked at as well.
    AfterEachEvent,
}

/// As [`play`], with the rows of the execution reloaded as `reload` says. What is seen must be the
/// same.
#[must_use]
pub fn play_with(workflow: &Arc<Workflow>, script: &Script, reload: Reload) -> Seen {
    let now = DateTime::from_timestamp(BEGINNING_S, 0).unwrap_or_default();
    let mut changes = Changes::default();
    let request = Start {
        id: ExecutionId(Uuid::from_u128(ID)),
        workflow: Arc::clone(workflow),
        parameters: script.parameters.as_ref().map(Json::raw),
    };
    let execution = match start(request, now, &mut changes) {
        Ok(execution) => execution,
        Err(rejection) => {
            return Seen {
                status: "rejected".to_owned(),
                is_final: true,
                errors: vec![ExecutionError::new("invalid_input", rejection.message)],
                ..Seen::default()
            };
        }
    };
    let restarts = |event: &ScriptEvent| event.action == Action::Restart;
    let needs_rows = reload == Reload::AfterEachEvent || script.events.iter().any(restarts);
    let mut player = Player {
        script,
        began: now,
        now,
        held: Held::alone(execution),
        rows: needs_rows.then(Kept::default),
        reload,
        agenda: BTreeMap::new(),
        entries: 0,
        timers: BTreeMap::new(),
        in_hand: BTreeMap::new(),
        of_task: BTreeMap::new(),
        of_item: BTreeMap::new(),
        after_the_end: VecDeque::new(),
        past: Past::default(),
        seen: Seen {
            created: 1,
            ..Seen::default()
        },
    };
    for event in &script.events {
        match event.at {
            Some(at) => drop(player.plan(at, Rank::Outside, Due::Action(event.action.clone()))),
            None => player.after_the_end.push_back(event.action.clone()),
        }
    }
    player.take(changes);
    player.run();
    player.finish()
}

/// Of what is due at the same time, answers are first: no time limit acts before an answer that is
/// there, and a check sees all of its moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Worker,
    Timer,
    Outside,
}

/// A place in the agenda: when, and among those of the same time in which order.
type Place = (DateTime<Utc>, Rank, u64);

/// What is due.
#[derive(Debug)]
enum Due {
    /// A worker gets a job.
    Delivered(Job),
    /// A worker is done with a job, or says so once more.
    Answered(AttemptId, Box<Report>),
    /// A worker dies over a job.
    Lost(Job),
    /// Something happens from outside.
    Action(Action),
}

/// A job that a worker has.
#[derive(Debug)]
struct InHand {
    /// Position in [`Seen::deliveries`].
    delivery: usize,
    /// What is due of it.
    due: Vec<Place>,
    /// How long it takes to stop.
    stops_after: Option<TimeDelta>,
    /// When its silence is as long as it may be; `None` while it says that it is alive.
    given_up_at: Option<DateTime<Utc>>,
}

struct Player<'a> {
    script: &'a Script,
    began: DateTime<Utc>,
    now: DateTime<Utc>,
    held: Held,
    /// Its rows; `None` where nothing asks for them.
    rows: Option<Kept>,
    /// When rows become an execution again.
    reload: Reload,
    agenda: BTreeMap<Place, Due>,
    /// Entries of the agenda so far.
    entries: u64,
    timers: BTreeMap<RunNo, (TimerKind, DateTime<Utc>)>,
    in_hand: BTreeMap<(RunNo, u32), InHand>,
    /// Deliveries so far.
    of_task: BTreeMap<Arc<str>, usize>,
    of_item: BTreeMap<(Arc<str>, u32), usize>,
    /// What happens each time that the execution has ended.
    after_the_end: VecDeque<Action>,
    /// What the execution has behind it.
    past: Past,
    seen: Seen,
}

impl Player<'_> {
    fn run(&mut self) {
        for _ in 0..EVENT_LIMIT {
            let timer = self
                .timers
                .iter()
                .map(|(run, (kind, due))| (*due, *run, *kind))
                .min_by_key(|(due, run, _)| (*due, *run));
            let place = self.agenda.first_key_value().map(|(place, _)| *place);
            match (place, timer) {
                (Some(place), Some((due, ..))) if (place.0, place.1) < (due, Rank::Timer) => {
                    self.next(place);
                }
                (_, Some((due, run, kind))) => {
                    self.now = self.now.max(due);
                    self.timers.remove(&run);
                    self.fire(run, kind);
                }
                (Some(place), None) => self.next(place),
                (None, None) => return,
            }
        }
    }

    /// A timer has run out; one of heartbeats only where none has come since it was set.
    fn fire(&mut self, run: RunNo, kind: TimerKind) {
        if kind == TimerKind::Heartbeat
            && let Some(in_hand) = self.in_hand_of(run)
        {
            match in_hand.given_up_at {
                None => return,
                Some(at) if at > self.now => {
                    self.timers.insert(run, (kind, at));
                    return;
                }
                Some(_) => {}
            }
        }
        self.apply(&Event::TimerFired { run, kind });
    }

    fn next(&mut self, place: Place) {
        self.now = self.now.max(place.0);
        match self.agenda.remove(&place) {
            Some(Due::Delivered(job)) => self.deliver(job),
            Some(Due::Answered(attempt, report)) => self.answered(attempt, report),
            Some(Due::Lost(job)) => {
                self.put_down(&job);
                self.deliver(job);
            }
            Some(Due::Action(action)) => self.act(&action),
            None => {}
        }
    }

    fn plan(&mut self, after: TimeDelta, rank: Rank, due: Due) -> Place {
        self.entries += 1;
        let at = self.now.checked_add_signed(after);
        let place = (at.unwrap_or(DateTime::<Utc>::MAX_UTC), rank, self.entries);
        self.agenda.insert(place, due);
        place
    }

    fn apply(&mut self, event: &Event) -> Outcome {
        let mut changes = Changes::default();
        let outcome = self.held.execution.apply(event, self.now, &mut changes);
        self.take(changes);
        outcome
    }

    fn take(&mut self, changes: Changes) {
        if let Some(rows) = &mut self.rows
            && changes != Changes::default()
        {
            rows.keep(&mut self.held, &changes, self.now);
        }
        self.past.add(&changes);
        if changes.finished
            && let Some(action) = self.after_the_end.pop_front()
        {
            self.plan(AFTER_THE_END, Rank::Outside, Due::Action(action));
        }
        for transition in &changes.transitions {
            self.note_start(transition, &changes.ended);
        }
        for run in &changes.ended {
            self.note_run(run);
        }
        for change in changes.timers {
            match change {
                TimerChange::Set { run, kind, due } => {
                    self.timers.insert(run, (kind, due));
                }
                TimerChange::Clear { run } => {
                    self.timers.remove(&run);
                }
            }
        }
        for job in changes.jobs {
            self.plan(TimeDelta::zero(), Rank::Worker, Due::Delivered(job));
        }
        for cancel in &changes.cancels {
            self.tell_to_stop(cancel);
        }
        match self.reload {
            Reload::AfterEachEvent => self.load(),
            Reload::AtRestarts => {}
        }
    }

    /// Makes the execution of its rows. Workers know nothing of that: what they have they keep.
    fn load(&mut self) {
        let rows = self.rows.as_ref();
        match rows.and_then(|rows| rows.load(&self.held.execution.workflow)) {
            Some(Ok(held)) => self.held = held,
            Some(Err(error)) => self.seen.damage.push(error.to_string()),
            None => {}
        }
    }

    fn restart(&mut self) {
        self.load();
        let timers = self.rows.as_ref().map_or(&[][..], Kept::timers).iter();
        self.timers = timers
            .map(|row| (row.run, (row.kind, row.due_at)))
            .collect();
    }

    fn act(&mut self, action: &Action) {
        let command = match action {
            Action::Pause => Command::Pause,
            Action::Resume => Command::Resume,
            Action::Cancel => Command::Cancel { reason: None },
            Action::Rerun(order) => return self.rerun(order),
            Action::Check => {
                let status = self.held.execution.status.word().to_owned();
                let now = self.elapsed_s(self.now);
                self.seen.checkpoints.push((now, status));
                return;
            }
            Action::Restart => return self.restart(),
            // A start whose key is known makes no second execution: the key is unique in the store.
            Action::StartAgain => return,
        };
        // What is not allowed now changes nothing, as for a user.
        self.apply(&Event::Controlled {
            command,
            message_id: None,
        });
    }

    fn rerun(&mut self, order: &RerunOrder) {
        let past = match (self.reload, &self.rows) {
            (Reload::AfterEachEvent, Some(rows)) => rows.past(&self.held.execution.workflow),
            (Reload::AfterEachEvent | Reload::AtRestarts, _) => Ok(self.past.clone()),
        };
        match past {
            Ok(past) => drop(self.apply(&Event::RerunOrdered(Box::new(Rerun {
                order: order.clone(),
                past,
                message_id: None,
            })))),
            Err(error) => self.seen.damage.push(error.to_string()),
        }
    }

    fn finish(mut self) -> Seen {
        let live: Vec<Run> = self.held.execution.live.values().cloned().collect();
        for run in &live {
            self.note_run(run);
        }
        let elapsed_s = self.held.execution.finished_at.map(|at| self.elapsed_s(at));
        if self.reload == Reload::AfterEachEvent
            && let Some(rows) = &self.rows
        {
            let found = rows.fold(&self.held.execution.workflow);
            self.seen.damage.extend(found);
        }
        let execution = self.held.execution;
        let variables = execution.ends.vars.iter();
        Seen {
            status: execution.status.word().to_owned(),
            is_final: execution.status.is_final(),
            output: execution.output.as_ref().map_or(Value::Null, json),
            variables: variables
                .map(|write| (write.name.to_string(), json(&write.value)))
                .collect(),
            errors: execution.errors,
            elapsed_s,
            ..self.seen
        }
    }

    fn elapsed_s(&self, at: DateTime<Utc>) -> f64 {
        (at - self.began).as_seconds_f64()
    }
}
