//! Compares an expectation with what was seen.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{ByTask, Difference, Expectation, Expected};
use crate::seen::Seen;

/// The most by which two times may differ that count as the same, in seconds.
const SAME_TIME_S: f64 = 1e-6;

impl Expectation {
    /// Where what was seen is not what was expected; empty if all is.
    #[must_use]
    pub fn compare(&self, seen: &Seen) -> Vec<Difference> {
        let mut differences = Differences::default();
        for expected in &self.expected {
            differences.compare(expected, seen);
        }
        for sentence in &seen.damage {
            differences.add("rows".to_owned(), Value::Null, json!(sentence));
        }
        differences.found
    }
}

#[derive(Default)]
struct Differences {
    found: Vec<Difference>,
}

impl Differences {
    fn compare(&mut self, expected: &Expected, seen: &Seen) {
        match expected {
            Expected::Status(status) => self.status(status, seen),
            Expected::Runs(runs) => self.runs(runs, seen),
            Expected::Executions(counts) => {
                self.by_task("executions", counts, |task| json!(seen.of(task).count()));
            }
            Expected::ItemExecutions(counts) => {
                self.by_task("item_executions", counts, |task| {
                    json!(seen.item_counts(task))
                });
            }
            Expected::Skipped(tasks) => {
                self.same("skipped", json!(tasks), json!(seen.tasks_in("skipped")));
            }
            Expected::Omitted(tasks) => self.omitted(tasks, seen),
            Expected::TaskStatus(statuses) => {
                self.by_task("task_status", statuses, |task| {
                    json!(seen.task_status(task))
                });
            }
            Expected::Order(pairs) => self.pairs("order", pairs, |a, b| seen.is_before(a, b)),
            Expected::Sequence(tasks) => {
                let starts: Vec<&str> = seen.starts.iter().map(|(_, task, _)| &**task).collect();
                self.same("sequence", json!(tasks), json!(starts));
            }
            Expected::Overlap(pairs) => self.pairs("overlap", pairs, |a, b| seen.overlap(a, b)),
            Expected::MaxParallel(counts) => {
                self.by_task("max_parallel", counts, |task| {
                    json!(seen.max_parallel(task))
                });
            }
            Expected::Inputs(inputs) => self.inputs(inputs, seen),
            Expected::Actions(actions) => self.by_task("actions", actions, |task| {
                let actions: Vec<&str> = seen.of(task).map(|one| &*one.action).collect();
                json!(actions)
            }),
            Expected::Output(output) => self.same("output", output.clone(), seen.output.clone()),
            Expected::Vars(variables) => {
                for (name, value) in variables {
                    let found = seen.variables.get(name).cloned();
                    self.same_or_absent(&format!("vars.{name}"), value.clone(), found);
                }
            }
            Expected::Errors(errors) => self.errors(errors, seen),
            Expected::Elapsed(seconds) => {
                self.same("elapsed", json!(seconds), json!(seen.elapsed_s));
            }
            Expected::StartedAt(times) => {
                self.by_task("started_at", times, |task| json!(seen.started_at(task)));
            }
            Expected::Checkpoints(checkpoints) => self.checkpoints(checkpoints, seen),
            Expected::StaleResults(count) => {
                self.same("stale_results", json!(count), json!(seen.ignored_answers));
            }
            Expected::StartCount(count) => {
                self.same("start_count", json!(count), json!(seen.created));
            }
        }
    }

    fn errors(&mut self, errors: &[serde_json::Map<String, Value>], seen: &Seen) {
        for (index, error) in errors.iter().enumerate() {
            let mut all = seen.errors.iter();
            if !all.any(|one| super::errors::matches(error, one)) {
                let at = format!("errors[{index}]");
                self.add(at, Value::Object(error.clone()), json!(seen.errors));
            }
        }
    }

    /// A success has no errors, whatever else is expected.
    fn status(&mut self, status: &str, seen: &Seen) {
        self.same("status", json!(status), json!(seen.status));
        if status == "succeeded" && !seen.errors.is_empty() {
            self.add("errors".to_owned(), json!([]), json!(seen.errors));
        }
    }

    /// A task that is not listed must not have run.
    fn runs(&mut self, runs: &ByTask<u64>, seen: &Seen) {
        let counts = seen.run_counts();
        let names: BTreeSet<&str> = runs
            .keys()
            .map(String::as_str)
            .chain(counts.keys().copied())
            .collect();
        for name in names {
            let expected = runs.get(name).copied().unwrap_or(0);
            let found = counts.get(name).copied().unwrap_or(0);
            self.same(&format!("runs.{name}"), json!(expected), json!(found));
        }
    }

    fn by_task<T: serde::Serialize>(
        &mut self,
        key: &str,
        expected: &ByTask<T>,
        seen: impl Fn(&str) -> Value,
    ) {
        for (task, expected) in expected {
            self.same(&format!("{key}.{task}"), json!(expected), seen(task));
        }
    }

    /// Each of these must be omitted. Others may be: a join that never ran is omitted, too.
    fn omitted(&mut self, expected: &BTreeSet<String>, seen: &Seen) {
        let found = seen.tasks_in("omitted");
        if expected.iter().any(|task| !found.contains(task.as_str())) {
            self.add("omitted".to_owned(), json!(expected), json!(found));
        }
    }

    fn pairs(&mut self, key: &str, pairs: &[(String, String)], holds: impl Fn(&str, &str) -> bool) {
        for (index, (first, second)) in pairs.iter().enumerate() {
            if !holds(first, second) {
                let at = format!("{key}[{index}]");
                self.add(at, json!([first, second]), json!("it was not so"));
            }
        }
    }

    /// In any order.
    fn inputs(&mut self, inputs: &ByTask<Vec<Value>>, seen: &Seen) {
        for (task, expected) in inputs {
            let found: Vec<&Value> = seen.of(task).map(|one| &one.input).collect();
            let mut open = found.clone();
            let all = expected.iter().all(|input| {
                let at = open.iter().position(|one| is_same(input, one));
                at.map(|at| open.remove(at)).is_some()
            });
            if !all || !open.is_empty() {
                self.add(format!("inputs.{task}"), json!(expected), json!(found));
            }
        }
    }

    fn checkpoints(&mut self, expected: &[(f64, String)], seen: &Seen) {
        let found: BTreeMap<usize, &str> = expected
            .iter()
            .enumerate()
            .filter_map(|(index, (at, _))| {
                let mut seen = seen.checkpoints.iter();
                let (_, status) = seen.find(|(time, _)| is_same_time(*time, *at))?;
                Some((index, status.as_str()))
            })
            .collect();
        for (index, (at, status)) in expected.iter().enumerate() {
            let found = found.get(&index);
            self.same(&format!("checkpoints at {at}"), json!(status), json!(found));
        }
    }

    fn same(&mut self, at: &str, expected: Value, seen: Value) {
        if !is_same(&expected, &seen) {
            self.add(at.to_owned(), expected, seen);
        }
    }

    /// Likewise, where null is not the same as nothing.
    fn same_or_absent(&mut self, at: &str, expected: Value, seen: Option<Value>) {
        match seen {
            Some(seen) => self.same(at, expected, seen),
            None => self.add(at.to_owned(), expected, json!("(no such variable)")),
        }
    }

    fn add(&mut self, at: String, expected: Value, seen: Value) {
        self.found.push(Difference { at, expected, seen });
    }
}

fn is_same_time(one: f64, other: f64) -> bool {
    (one - other).abs() <= SAME_TIME_S
}

/// Whether two values are the same; 1 and 1.0 are.
pub(super) fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            one == other
                || one
                    .as_f64()
                    .zip(other.as_f64())
                    .is_some_and(|(one, other)| is_same_time(one, other))
        }
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(a, b)| is_same(a, b))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .all(|(key, a)| other.get(key).is_some_and(|b| is_same(a, b)))
        }
        (one, other) => one == other,
    }
}
