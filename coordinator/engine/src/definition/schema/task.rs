//! The part of the schema that tasks are: what they do, their limits, and what follows them.

use serde_json::{Map, Value, json};

use super::super::{retry, routes, task};
use super::{
    described, flag, from_zero, limit, list, object, of, or_template, some_names, whole, words,
};
use crate::rule::RULES;

/// The schema of a task.
pub(super) fn schema() -> Value {
    let mut schema = object(&task::KNOWN, &["name"], |key| {
        work(key)
            .or_else(|| limits(key))
            .or_else(|| items(key))
            .or_else(|| ways(key))
    });
    let beside_items = json!(["with_items"]);
    schema.insert(
        "dependentRequired".to_owned(),
        json!({
            "rule": ["needs"],
            "with_items": ["action"],
            "batch_size": beside_items,
            "concurrency": beside_items,
            "tolerate": beside_items,
            "on_item_failure": beside_items,
        }),
    );
    let no_others: Map<String, Value> = routes::BESIDE_NEXT
        .iter()
        .map(|key| ((*key).to_owned(), json!(false)))
        .collect();
    schema.insert(
        "dependentSchemas".to_owned(),
        json!({"next": {"properties": no_others}}),
    );
    Value::Object(schema)
}

/// What a task is and does.
fn work(key: &str) -> Option<Value> {
    let (shape, description) = match key {
        "name" => (
            json!({"$ref": "#/$defs/name", "not": {"enum": ["fail", "noop"]}}),
            "The name, unique in the workflow.",
        ),
        "type" => (
            words(&["action", "workflow", "parallel"]),
            "What the task is; `action` by default.",
        ),
        "tasks" => (
            list(&of("task")),
            "The children of a task of `type: parallel`.",
        ),
        "action" => (
            json!({"anyOf": [of("reference"), of("template")]}),
            "What a worker runs, `pack.name`. A task without one does nothing and succeeds.",
        ),
        "input" => (
            json!({"anyOf": [{"type": ["object", "null"]}, of("template")]}),
            "The input of the action; every text in it may be a template.",
        ),
        "when" => (
            of("condition"),
            "A guard: where it is false the task is skipped, and the flow goes on.",
        ),
        "pool" => (
            json!({"type": "string", "pattern": "^[A-Za-z0-9_.-]{1,100}$"}),
            "The worker pool that the job goes to; `default` by default.",
        ),
        "publish" => (
            of("publish"),
            "Variables that are set when the task succeeds: `name: template`, or a bare name for \
             the whole result.",
        ),
        "ignore_failure" => (
            flag(),
            "Whether its failure counts as success for what follows.",
        ),
        _ => return None,
    };
    described(shape, description)
}

/// How long and how often a task is tried.
fn limits(key: &str) -> Option<Value> {
    let (shape, description) = match key {
        "retry" => (of("retry"), "How failed attempts are retried."),
        "timeout" => (
            or_template(&limit()),
            "Seconds that one attempt may run; 300 by default for actions, `null` for no limit.",
        ),
        "total_timeout" => (
            limit(),
            "Seconds over all attempts and the waits between them.",
        ),
        "heartbeat" => (
            json!({"type": ["number", "null"], "minimum": 1}),
            "Seconds of silence after which an attempt is given up.",
        ),
        "delay" => (
            or_template(&from_zero()),
            "Seconds to wait before the first attempt.",
        ),
        "max_redeliveries" => (
            whole(0, None),
            "How often a lost worker is replaced; 5 by default.",
        ),
        _ => return None,
    };
    described(shape, description)
}

fn items(key: &str) -> Option<Value> {
    let (shape, description) = match key {
        "with_items" => (
            or_template(&json!({"type": "array"})),
            "A list, or a template that gives one: the action runs once for each item.",
        ),
        "batch_size" => (
            whole(1, None),
            "Items that one run takes together; `item` is a list then.",
        ),
        "concurrency" => (
            or_template(&whole(1, None)),
            "How many items (or batches) may be in flight at once.",
        ),
        "tolerate" => (
            json!({"anyOf": [whole(0, None), {"type": "string", "pattern": "%$"}]}),
            "How many items may fail while the task still succeeds: `3`, or \"10%\".",
        ),
        "on_item_failure" => (
            words(&["continue", "drain", "cancel"]),
            "What happens to the other items once more have failed than are tolerated; `continue` \
             by default.",
        ),
        _ => return None,
    };
    described(shape, description)
}

/// How a task is entered and what follows it.
fn ways(key: &str) -> Option<Value> {
    let rules: Vec<&str> = RULES.iter().map(|(word, _)| *word).collect();
    let (shape, description) = match key {
        "join" => (
            json!({"anyOf": [{"enum": ["all", "active"]}, whole(1, None)]}),
            "Which arrivals the task waits for; without it, it runs once for each.",
        ),
        "needs" => (some_names(), "Tasks by whose ends this one runs."),
        "rule" => (
            words(&rules),
            "What must hold of the tasks of `needs`; `all_success` by default.",
        ),
        "on_success" => (of("names"), "What follows success, or a skip."),
        "on_failure" => (
            of("names"),
            "What follows a failure; `fail` fails the execution, `noop` does nothing.",
        ),
        "on_timeout" => (of("names"), "What follows a timeout."),
        "on_complete" => (of("names"), "What follows in every case."),
        "decision" => (
            list(&of("branch")),
            "Branches, of which exactly the first that holds is taken when the task succeeds.",
        ),
        "next" => (
            json!({"type": "array", "items": of("entry")}),
            "The general form of what follows: all entries that hold are taken, in order.",
        ),
        _ => return None,
    };
    described(shape, description)
}

pub(super) fn retry(key: &str) -> Option<Value> {
    let (shape, description) = match key {
        "count" => (or_template(&whole(0, None)), "Attempts after the first."),
        "delay" => (or_template(&from_zero()), "Seconds before the first retry."),
        "backoff" => (
            words(&retry::BACKOFFS),
            "How the delay grows; `constant` by default.",
        ),
        "factor" => (
            json!({"type": "number", "minimum": 1}),
            "What `backoff: exponential` multiplies the delay by; 2 by default.",
        ),
        "max_delay" => (from_zero(), "The largest delay in seconds."),
        "jitter" => (
            json!({"type": "number", "minimum": 0, "maximum": 1}),
            "The share of the delay that is spread at random.",
        ),
        "when" => (
            of("condition"),
            "Only where it holds is there another attempt.",
        ),
        _ => return None,
    };
    described(shape, description)
}

pub(super) fn entry(key: &str) -> Option<Value> {
    let (shape, description) = match key {
        "when" => (
            of("condition"),
            "When the entry is taken; always by default.",
        ),
        "publish" => (of("publish"), "Variables that are set along this way only."),
        "do" => (of("names"), "Where it leads."),
        _ => return None,
    };
    described(shape, description)
}

pub(super) fn branch_schema() -> Value {
    let mut schema = object(&routes::BRANCH, &[], branch);
    schema.insert(
        "oneOf".to_owned(),
        json!([{"required": ["when"]}, {"required": ["default"]}]),
    );
    Value::Object(schema)
}

fn branch(key: &str) -> Option<Value> {
    let (shape, description) = match key {
        "when" => (of("condition"), "When the branch is taken."),
        "default" => (
            json!({"const": true}),
            "The branch that is taken where no other is; it stands last.",
        ),
        "publish" => (
            of("publish"),
            "Variables that are set along this branch only.",
        ),
        "next" => (of("names"), "Where it leads."),
        _ => return None,
    };
    described(shape, description)
}
