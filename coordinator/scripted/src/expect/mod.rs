//! What must be seen of an execution, and where what was seen differs.

mod compare;
mod errors;
mod read;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Map, Value};

pub(crate) use read::read;

/// Some value for each of these tasks.
type ByTask<T> = BTreeMap<String, T>;

/// All that is expected of one execution.
#[derive(Debug, Clone, Default)]
pub struct Expectation {
    expected: Vec<Expected>,
}

/// One part of an expectation.
#[derive(Debug, Clone)]
enum Expected {
    Status(String),
    Runs(ByTask<u64>),
    Executions(ByTask<u64>),
    ItemExecutions(ByTask<BTreeMap<u32, u64>>),
    Skipped(BTreeSet<String>),
    Omitted(BTreeSet<String>),
    TaskStatus(ByTask<String>),
    Order(Vec<(String, String)>),
    Sequence(Vec<String>),
    Overlap(Vec<(String, String)>),
    MaxParallel(ByTask<u64>),
    Inputs(ByTask<Vec<Value>>),
    Actions(ByTask<Vec<String>>),
    Output(Value),
    Vars(Map<String, Value>),
    Errors(Vec<Map<String, Value>>),
    Elapsed(f64),
    StartedAt(ByTask<Vec<f64>>),
    Checkpoints(Vec<(f64, String)>),
    StaleResults(u64),
    StartCount(u64),
}

/// Something that was seen otherwise than expected.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// Which part, as a path: `runs.review`.
    pub at: String,
    /// What was expected there; null for nothing.
    pub expected: Value,
    /// What was seen; null for nothing.
    pub seen: Value,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { at, expected, seen } = self;
        write!(f, "{at}: expected {expected}, seen {seen}")
    }
}

impl Expectation {
    /// Without what holds in virtual time alone: when something happened, and what was the status then.
    #[must_use]
    pub fn without_times(mut self) -> Self {
        self.expected.retain(|part| match part {
            Expected::Elapsed(_) | Expected::StartedAt(_) | Expected::Checkpoints(_) => false,
            Expected::Status(_)
            | Expected::Runs(_)
            | Expected::Executions(_)
            | Expected::ItemExecutions(_)
            | Expected::Skipped(_)
            | Expected::Omitted(_)
            | Expected::TaskStatus(_)
            | Expected::Order(_)
            | Expected::Sequence(_)
            | Expected::Overlap(_)
            | Expected::MaxParallel(_)
            | Expected::Inputs(_)
            | Expected::Actions(_)
            | Expected::Output(_)
            | Expected::Vars(_)
            | Expected::Errors(_)
            | Expected::StaleResults(_)
            | Expected::StartCount(_) => true,
        });
        self
    }

    /// How many things are expected.
    #[must_use]
    pub fn parts(&self) -> usize {
        self.expected.len()
    }

    /// Whether the definition is expected to be refused.
    #[must_use]
    pub fn is_invalid(&self) -> bool {
        let mut expected = self.expected.iter();
        expected.any(|part| matches!(part, Expected::Status(status) if status == "invalid"))
    }
}
