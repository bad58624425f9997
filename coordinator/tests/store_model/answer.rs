//! What a database answers, in one form: JSON is compared by what it says, since `jsonb` has an order
//! and spaces of its own, and of errors the SQLSTATE counts.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use flotilla_engine::Json;
use flotilla_protocol::ExecutionId;
use flotilla_turn::Mark;
use flotilla_turn::rows::{
    CommitAnswer, ControlLookup, FoundStart, LoadedExecution, LoadedItemEnd, LoadedPast,
    LoadedTask, LostJob, PartitionNo, TakenPartition, TimerRow,
};
use serde_json::Value;

/// The answer to a call.
#[derive(Debug, PartialEq)]
pub enum Answer {
    Added(PartitionNo),
    Registered,
    Taken(Vec<TakenPartition>, Share),
    Released(usize),
    Renewed(usize),
    Commit(Outcome),
    Loaded(Found),
    Timers(Vec<TimerRow>),
    SilentJobs(Vec<(LostJob, String)>),
    Partition(Option<PartitionNo>),
    Marked(Mark),
    Cleared,
    DeadLetter { is_new: bool },
}

/// How many partitions a coordinator is to hold, and holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    pub partitions: usize,
    pub held: usize,
}

/// What became of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Committed(DateTime<Utc>),
    Fenced(Vec<PartitionNo>),
    /// With the id that is taken.
    StartExists(Option<ExecutionId>),
    /// With the SQLSTATE.
    Refused(String),
}

impl From<CommitAnswer> for Outcome {
    fn from(answer: CommitAnswer) -> Self {
        match answer {
            CommitAnswer::Committed { now } => Self::Committed(now),
            CommitAnswer::Fenced { lost } => Self::Fenced(lost),
            CommitAnswer::StartExists { execution_id } => Self::StartExists(execution_id),
            CommitAnswer::Refused { error } => Self::Refused(error[..5].to_owned()),
            CommitAnswer::TryAgain { error } => panic!("the connection works: {error}"),
        }
    }
}

/// What was loaded.
#[derive(Debug, PartialEq)]
pub struct Found {
    pub starts: Vec<FoundStart>,
    pub executions: Vec<LoadedExecution>,
    pub pasts: Vec<LoadedPast>,
    pub controls: Vec<ControlLookup>,
}

impl Found {
    pub fn new(
        starts: Vec<FoundStart>,
        mut executions: Vec<LoadedExecution>,
        mut pasts: Vec<LoadedPast>,
        mut controls: Vec<ControlLookup>,
    ) -> Self {
        executions.iter_mut().for_each(make_plain);
        for past in &mut pasts {
            past.tasks.iter_mut().for_each(make_task_plain);
            for variable in &mut past.variables {
                variable.value = plain(&variable.value);
            }
        }
        // Nothing depends on their order.
        controls.sort();
        Self {
            starts,
            executions,
            pasts,
            controls,
        }
    }
}

fn make_plain(loaded: &mut LoadedExecution) {
    let row = &mut loaded.row;
    for json in [
        &mut row.parameters,
        &mut row.reply_to,
        &mut row.ends,
        &mut row.errors,
    ] {
        *json = plain(json);
    }
    row.output = row.output.as_ref().map(plain);
    for variable in &mut loaded.variables {
        variable.value = plain(&variable.value);
    }
    loaded.tasks.iter_mut().for_each(make_task_plain);
    loaded.seen.iter_mut().for_each(make_task_plain);
    for end in &mut loaded.item_ends {
        end.result = end.result.as_ref().map(plain);
        end.error = end.error.as_ref().map(plain);
    }
    let place = |end: &LoadedItemEnd| (end.item_of, end.item_index);
    loaded.item_ends.sort_by_key(place);
}

fn make_task_plain(task: &mut LoadedTask) {
    task.branch = plain(&task.branch);
    let parts = [
        &mut task.input,
        &mut task.result,
        &mut task.error,
        &mut task.items,
        &mut task.item_progress,
    ];
    for json in parts {
        *json = json.as_ref().map(plain);
    }
}

fn plain(json: &Json) -> Json {
    Json::of(&sorted(value(json)))
}

/// What a text of JSON says.
pub fn value(json: &Json) -> Value {
    serde_json::from_str(json.text()).expect("it is JSON")
}

/// With the members of objects in the order of their names.
pub fn sorted(value: Value) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(sorted).collect(),
        Value::Object(members) => {
            let members: BTreeMap<String, Value> = members.into_iter().collect();
            let members = members.into_iter();
            Value::Object(members.map(|(name, value)| (name, sorted(value))).collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value,
    }
}
