//! Plays a script: the earliest of answers, timers and events is next, until nothing is left.

mod member;
mod note;
mod worker;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use flotilla_engine::execution::{
    AttemptId, Changes, Command, Event, Execution, ExecutionError, Job, Past, Report, Rerun,
    RerunOrder, Run, Start, TimerKind, start,
};
use flotilla_engine::{Json, Workflow};
use flotilla_protocol::{ExecutionId, RunNo};
use serde_json::Value;
use uuid::Uuid;

use self::member::Member;
use crate::read::value as json;
use crate::script::{Action, Script, ScriptEvent};
use crate::seen::{Seen, Step};

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
    let root = ExecutionId(Uuid::from_u128(ID));
    let request = Start {
        id: root,
        workflow: Arc::clone(workflow),
        parameters: script.parameters.as_ref().map(Json::raw),
        parent: None,
        timeout: None,
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
        root,
        members: BTreeMap::new(),
        needs_rows,
        reload,
        agenda: BTreeMap::new(),
        entries: 0,
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
    player.add(execution, changes, String::new());
    player.follow(root);
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
    Delivered(ExecutionId, Job),
    /// A worker is done with a job, or says so once more.
    Answered(ExecutionId, AttemptId, Box<Report>),
    /// A worker dies over a job.
    Lost(ExecutionId, Job),
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
    /// The execution that was started from outside.
    root: ExecutionId,
    /// The execution and its children.
    members: BTreeMap<ExecutionId, Member>,
    /// Whether something asks for rows.
    needs_rows: bool,
    /// When rows become an execution again.
    reload: Reload,
    agenda: BTreeMap<Place, Due>,
    /// Entries of the agenda so far.
    entries: u64,
    in_hand: BTreeMap<(ExecutionId, RunNo, u32), InHand>,
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
                .members
                .iter()
                .flat_map(|(id, member)| member.timers.iter().map(|timer| (*id, timer)))
                .map(|(id, (run, (kind, due)))| (*due, (id, *run), *kind))
                .min_by_key(|(due, run, _)| (*due, *run));
            let place = self.agenda.first_key_value().map(|(place, _)| *place);
            match (place, timer) {
                (Some(place), Some((due, ..))) if (place.0, place.1) < (due, Rank::Timer) => {
                    self.next(place);
                }
                (_, Some((due, run, kind))) => {
                    self.now = self.now.max(due);
                    if let Some(member) = self.members.get_mut(&run.0) {
                        member.timers.remove(&run.1);
                    }
                    self.fire(run, kind);
                }
                (Some(place), None) => self.next(place),
                (None, None) => return,
            }
        }
    }

    /// A timer has run out; one of heartbeats only where none has come since it was set.
    fn fire(&mut self, (id, run): (ExecutionId, RunNo), kind: TimerKind) {
        if kind == TimerKind::Heartbeat
            && let Some(in_hand) = self.in_hand_of(id, run)
        {
            match in_hand.given_up_at {
                None => return,
                Some(at) if at > self.now => {
                    if let Some(member) = self.members.get_mut(&id) {
                        member.timers.insert(run, (kind, at));
                    }
                    return;
                }
                Some(_) => {}
            }
        }
        self.seen.steps.push(Step::TimerFired);
        self.apply(id, &Event::TimerFired { run, kind });
    }

    fn next(&mut self, place: Place) {
        self.now = self.now.max(place.0);
        match self.agenda.remove(&place) {
            Some(Due::Delivered(id, job)) => self.deliver(id, job),
            Some(Due::Answered(id, attempt, report)) => self.answered(id, attempt, report),
            Some(Due::Lost(id, job)) => {
                self.put_down(id, &job);
                self.deliver(id, job);
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

    fn act(&mut self, action: &Action) {
        self.seen.steps.push(Step::Acted(action.clone()));
        let command = match action {
            Action::Pause => Command::Pause,
            Action::Resume => Command::Resume,
            Action::Cancel => Command::Cancel { reason: None },
            Action::Rerun(order) => return self.rerun(order),
            Action::Check => {
                let status = self.root().status.word().to_owned();
                let now = self.elapsed_s(self.now);
                self.seen.checkpoints.push((now, status));
                return;
            }
            Action::Restart => return self.restart(),
            // A start whose key is known makes no second execution: the key is unique in the store.
            Action::StartAgain => return,
        };
        // What is not allowed now changes nothing, as for a user.
        let event = Event::Controlled {
            command,
            message_id: None,
        };
        self.apply(self.root, &event);
    }

    fn rerun(&mut self, order: &RerunOrder) {
        match self.past() {
            Ok(past) => {
                let event = Event::RerunOrdered(Box::new(Rerun {
                    order: order.clone(),
                    past,
                    message_id: None,
                }));
                self.apply(self.root, &event);
            }
            Err(error) => self.seen.damage.push(error.to_string()),
        }
    }

    fn finish(mut self) -> Seen {
        let ids: Vec<ExecutionId> = self.members.keys().copied().collect();
        for id in ids {
            let live = self
                .members
                .get(&id)
                .map(|member| &member.held.execution.live);
            let live: Vec<Run> = live
                .into_iter()
                .flat_map(|live| live.values().cloned())
                .collect();
            for run in &live {
                self.note_run(id, run);
            }
        }
        let elapsed_s = self.root().finished_at.map(|at| self.elapsed_s(at));
        if self.reload == Reload::AfterEachEvent {
            for member in self.members.values() {
                let workflow = &member.held.execution.workflow;
                let found = member.rows.as_ref().map(|rows| rows.fold(workflow));
                self.seen.damage.extend(found.unwrap_or_default());
            }
        }
        let execution = self.root();
        let variables = execution.ends.vars.iter();
        Seen {
            status: execution.status.word().to_owned(),
            is_final: execution.status.is_final(),
            output: execution.output.as_ref().map_or(Value::Null, json),
            variables: variables
                .map(|write| (write.name.to_string(), json(&write.value)))
                .collect(),
            errors: execution.errors.clone(),
            elapsed_s,
            ..self.seen
        }
    }

    fn root(&self) -> &Execution {
        &self.members[&self.root].held.execution
    }

    fn elapsed_s(&self, at: DateTime<Utc>) -> f64 {
        (at - self.began).as_seconds_f64()
    }
}
