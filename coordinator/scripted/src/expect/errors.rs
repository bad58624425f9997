//! Whether an error that was seen is one that was expected, in our words or in those of the neutral form.

use flotilla_engine::execution::{ExecutionError, kind};
use serde_json::{Map, Value};

/// The kinds that the engine gives itself; any other is one of an action.
const OWN: [&str; 11] = [
    kind::TASK_TIMEOUT,
    kind::EXPLICIT_FAIL,
    kind::UNREACHABLE_JOIN,
    kind::NO_BRANCH_MATCHED,
    kind::EXPRESSION_ERROR,
    kind::WORKER_LOST,
    kind::INVALID_RESULT,
    kind::CANCELLED,
    kind::LIMIT_EXCEEDED,
    kind::CONTRACT_VIOLATION,
    "invalid_input",
];

/// Whether all that is expected holds for this error.
pub(super) fn matches(expected: &Map<String, Value>, error: &ExecutionError) -> bool {
    expected.iter().all(|(key, value)| holds(key, value, error))
}

fn holds(key: &str, value: &Value, error: &ExecutionError) -> bool {
    let Some(text) = value.as_str() else {
        return false;
    };
    match key {
        "kind" => error.kind == text,
        "category" => category(&error.kind) == category(text),
        // Of a start that was refused the neutral form says more closely what is wrong, and with which
        // parameter; both are in our message, `name: is missing; other: is not a parameter of this workflow`.
        "code" if error.kind == "invalid_input" => {
            problems(&error.message).any(|(_, problem)| code(problem) == text)
        }
        "name" if error.kind == "invalid_input" => {
            problems(&error.message).any(|(name, _)| name == text)
        }
        "code" => error.kind == text,
        "message" => error.message.contains(text),
        "task" => error.task.as_deref() == Some(text),
        "field" => error.field.as_deref() == Some(text),
        "where" => error.field.as_deref().map(place) == Some(text),
        "expression" => error.expression.as_deref() == Some(text),
        "name" => error.message.contains(text),
        _ => false,
    }
}

/// What is wrong with which parameter.
fn problems(message: &str) -> impl Iterator<Item = (&str, &str)> {
    let problems = message.split("; ");
    problems.filter_map(|problem| problem.split_once(": "))
}

/// The neutral form's word for what is wrong with a parameter.
fn code(problem: &str) -> &'static str {
    match problem {
        "is missing" => "missing_input",
        problem if problem.starts_with("is not a parameter") => "unknown_input",
        _ => "wrong_type",
    }
}

/// The category of a kind: all kinds of actions are one.
fn category(kind: &str) -> &str {
    match kind {
        "lost_worker" => kind::WORKER_LOST,
        kind if OWN.contains(&kind) => kind,
        "child_failed" | "rejected" | "workflow_timeout" | "invalid_definition" => kind,
        _ => kind::TASK_FAILED,
    }
}

/// Where a field is evaluated, as the neutral form says it.
fn place(field: &str) -> &str {
    let end = field.find(['.', '[']).unwrap_or(field.len());
    let top = &field[..end];
    match top {
        "input" | "vars" | "retry" | "parameters" => top,
        "output_map" => "output",
        "publish" => "publish",
        "next" | "decision" if field.contains(".publish") => "publish",
        "next" | "decision" => "transition",
        top if top.starts_with("on_") => "transition",
        _ => "task",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn is(expected: &Value, error: &ExecutionError) -> bool {
        matches(expected.as_object().expect("an object"), error)
    }

    #[test]
    fn both_spellings_of_a_kind_are_known() {
        let lost = ExecutionError::new(kind::WORKER_LOST, "gone".to_owned());
        assert!(is(&json!({"kind": "worker_lost"}), &lost));
        assert!(is(&json!({"category": "lost_worker"}), &lost));
        assert!(!is(&json!({"category": "task_failed"}), &lost));
        let declined = ExecutionError::new("declined", "no".to_owned());
        assert!(is(
            &json!({"category": "task_failed", "code": "declined"}),
            &declined
        ));
        assert!(!is(&json!({"kind": "task_failed"}), &declined));
    }

    #[test]
    fn a_refused_start_says_what_is_wrong_with_which_parameter() {
        let message = "n: is missing; m: is not a parameter of this workflow; k: 7 is not of type";
        let refused = ExecutionError::new("invalid_input", message.to_owned());
        for (name, code) in [
            ("n", "missing_input"),
            ("m", "unknown_input"),
            ("k", "wrong_type"),
        ] {
            assert!(is(
                &json!({"category": "invalid_input", "name": name}),
                &refused
            ));
            assert!(is(&json!({"code": code}), &refused));
        }
        assert!(!is(&json!({"name": "is"}), &refused));
        assert!(!is(&json!({"code": "invalid_input"}), &refused));
        let refused = ExecutionError::new("invalid_input", "n: is missing".to_owned());
        assert!(!is(&json!({"code": "wrong_type"}), &refused));
    }

    #[test]
    fn a_field_is_found_by_where_it_is_evaluated() {
        for (field, expected) in [
            ("input", "input"),
            ("publish.total", "publish"),
            ("next[0].when", "transition"),
            ("next[0].publish.a", "publish"),
            ("decision[1].when", "transition"),
            ("output_map.x", "output"),
            ("when", "task"),
            ("retry.count", "retry"),
        ] {
            assert_eq!(place(field), expected, "{field}");
        }
    }
}
