//! The output of a workflow against its schema, and what fails before the first task.

use serde_json::json;

use crate::harness::{begin, none};

const CHECKED: &str = "
ref: t.output
vars: {n: 0}
tasks:
  - {name: a, action: core.noop, publish: [{n: \"{{ result() }}\"}]}
output: {n: {type: integer, required: true}}
output_map: {n: \"{{ vars.n }}\"}
";

#[test]
fn an_output_that_its_schema_refuses_fails_a_success() {
    let mut scene = begin(CHECKED, &none());
    scene.succeed("a", &json!("text"));
    assert_eq!(scene.status(), "failed");
    assert_eq!(
        scene.errors(),
        [("invalid_output".to_owned(), String::new())]
    );
    assert_eq!(scene.execution.errors[0].field.as_deref(), Some("output"));
    assert_eq!(scene.output(), json!({"n": "text"}), "it is kept");
}

#[test]
fn an_output_that_its_schema_takes_is_the_output() {
    let mut scene = begin(CHECKED, &none());
    scene.succeed("a", &json!(7));
    assert_eq!(scene.status(), "succeeded");
    assert_eq!(scene.output(), json!({"n": 7}));
}

#[test]
fn the_schema_of_an_output_adds_nothing_to_a_failure_or_a_cancel() {
    let yaml = CHECKED.replace("{n: 0}", "{n: none}");
    let mut failed = begin(&yaml, &none());
    failed.fail("a", "broken");
    assert_eq!(failed.errors(), [("broken".to_owned(), "a".to_owned())]);
    let mut cancelled = begin(&yaml, &none());
    cancelled.cancel();
    cancelled.stop("a");
    assert_eq!(cancelled.status(), "cancelled");
    assert!(cancelled.errors().is_empty());
}

#[test]
fn an_error_in_vars_or_a_default_fails_before_the_first_task_and_leaves_no_timer() {
    for (part, field) in [
        ("vars: {x: \"{{ 1 // 0 }}\"}", "vars.x"),
        (
            "parameters: {a: {type: integer, default: 0}, x: {type: number, default: \"{{ 1 // parameters.a }}\"}}",
            "parameters",
        ),
    ] {
        let yaml =
            format!("ref: t.bad\ntimeout: 60\n{part}\ntasks: [{{name: a, action: core.noop}}]");
        let scene = begin(&yaml, &none());
        assert_eq!(scene.status(), "failed");
        assert_eq!(
            scene.errors(),
            [("expression_error".to_owned(), String::new())]
        );
        assert_eq!(scene.execution.errors[0].field.as_deref(), Some(field));
        assert_eq!(scene.execution.counts.total, 0);
        assert!(scene.timers.is_empty());
    }
}

#[test]
fn a_default_sees_the_parameters_before_it() {
    let yaml = "
ref: t.defaults
parameters:
  a: {type: integer, default: 2}
  b: {type: integer, default: \"{{ parameters.a + 1 }}\"}
tasks:
  - {name: t, action: core.noop, input: {b: \"{{ parameters.b }}\"}}
";
    assert_eq!(begin(yaml, &none()).input("t"), json!({"b": 3}));
    assert_eq!(begin(yaml, &json!({"a": 8})).input("t"), json!({"b": 9}));
}

#[test]
fn an_output_keeps_all_digits_of_a_number() {
    let yaml = "
ref: t.digits
vars: {id: 12345678901234567890123}
tasks:
  - {name: a, action: core.noop}
output_map: {z: \"{{ vars.id }}\", a: 1}
";
    let mut scene = begin(yaml, &none());
    scene.succeed("a", &json!(null));
    let output = scene
        .execution
        .output
        .as_ref()
        .map(flotilla_engine::Json::text);
    assert_eq!(output, Some(r#"{"z":12345678901234567890123,"a":1}"#));
}
