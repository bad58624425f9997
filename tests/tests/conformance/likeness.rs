//! Whether the fleet did the same as the engine in virtual time, in all that does not hang on time.

use flotilla_scripted::{Delivery, Seen};
use serde_json::{Value, json};

/// Takes one part of what was seen.
type Part = fn(&Seen) -> Value;

/// What is seen otherwise than in process, a sentence each.
pub fn unlike(in_process: &Seen, on_fleet: &Seen) -> Vec<String> {
    let parts: [(&str, Part); 8] = [
        ("status", |seen| json!(seen.status)),
        ("output", |seen| seen.output.clone()),
        ("variables", |seen| json!(seen.variables)),
        ("runs", |seen| json!(seen.run_counts())),
        ("statuses of runs", statuses),
        ("jobs", jobs),
        ("errors", errors),
        ("executions", |seen| json!(seen.created)),
    ];
    let parts = parts
        .into_iter()
        .map(|(what, of)| (what, of(in_process), of(on_fleet)));
    parts
        .filter(|(_, in_process, on_fleet)| in_process != on_fleet)
        .map(|(what, in_process, on_fleet)| {
            format!("{what}: in process {in_process}, on the fleet {on_fleet}")
        })
        .collect()
}

fn statuses(seen: &Seen) -> Value {
    let runs = seen.runs.values();
    sorted(runs.map(|run| json!([&*run.task, run.status])))
}

fn jobs(seen: &Seen) -> Value {
    let job = |one: &Delivery| json!([&*one.task, one.item, one.input, one.attempt]);
    sorted(seen.deliveries.iter().map(job))
}

/// Without the ids of runs, which come from that of the execution.
fn errors(seen: &Seen) -> Value {
    let errors = seen.errors.iter();
    sorted(errors.map(|one| json!([one.kind, one.message, one.task, one.field, one.expression])))
}

/// As a list whose order says nothing.
fn sorted(values: impl Iterator<Item = Value>) -> Value {
    let mut values: Vec<Value> = values.collect();
    values.sort_by_key(Value::to_string);
    json!(values)
}
