//! Transitions, one a line.

use serde_json::Value;

use super::Known;
use crate::command::show::{short, task_name, text, time};
use crate::output::print;

/// Each as a JSON document, with the name of its task.
pub fn json(known: &Known, transitions: Vec<Value>) {
    for mut transition in transitions {
        let (task, index) = match known.task_of(&transition) {
            Some(task) => (task["task"].clone(), task["item_index"].clone()),
            None => (Value::Null, Value::Null),
        };
        transition["task"] = task;
        transition["item_index"] = index;
        print(&transition.to_string());
    }
}

/// Each in words.
pub fn plain(known: &Known, transitions: &[Value]) {
    for transition in transitions {
        print(&line(known, transition));
    }
}

fn line(known: &Known, transition: &Value) -> String {
    let subject = match known.task_of(transition) {
        Some(task) => task_name(task),
        None => "execution".to_owned(),
    };
    let mut parts = vec![
        time(&transition["at"]),
        format!("{:>5}", text(&transition["seq"])),
        format!("{subject:<16}"),
        format!("{:<24}", text(&transition["kind"])),
        change(&transition["from_status"], &transition["to_status"]),
    ];
    if let Some(attempt) = transition["attempt"].as_i64() {
        parts.push(format!("attempt {attempt}"));
    }
    if !transition["detail"].is_null() {
        parts.push(short(&text(&transition["detail"])));
    }
    parts.join("  ").trim_end().to_owned()
}

fn change(from: &Value, to: &Value) -> String {
    match (text(from).as_str(), text(to).as_str()) {
        ("", to) => to.to_owned(),
        (from, to) if from == to => to.to_owned(),
        (from, to) => format!("{from} -> {to}"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_transition_is_one_line() {
        let mut known = Known::default();
        let task = json!({"task_id": "t", "task": "pack", "visit": 2});
        known.tasks.insert("t".to_owned(), task);
        let transition = json!({
            "at": "2026-01-01T00:00:00Z", "seq": 7, "kind": "task_ended", "task_id": "t",
            "attempt": 3, "from_status": "running", "to_status": "failed",
            "detail": {"why": "a\nb"}
        });
        assert_eq!(
            line(&known, &transition),
            "2026-01-01 00:00:00.000Z      7  pack#2            task_ended                \
             running -> failed  attempt 3  {\"why\":\"a\\nb\"}"
        );
        let start = json!({
            "at": "2026-01-01T00:00:00Z", "seq": 1, "kind": "execution_started",
            "task_id": null, "attempt": null, "from_status": null, "to_status": "running",
            "detail": null
        });
        assert_eq!(
            line(&known, &start),
            "2026-01-01 00:00:00.000Z      1  execution         execution_started         running"
        );
    }
}
