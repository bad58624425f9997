//! Starts: parameters, variables, and a single task.

use serde_json::json;

use crate::harness::{begin, none, try_begin};

const SINGLE: &str = r#"
ref: t.single
parameters:
  n: {type: integer, required: true}
  name: {type: string, default: "x"}
vars:
  twice: "{{ parameters.n * 2 }}"
  text: "n is {{ vars.twice }}"
tasks:
  - name: work
    action: core.echo
    input: {n: "{{ parameters.n }}", twice: "{{ vars.twice }}", text: "{{ vars.text }}", name: "{{ parameters.name }}"}
    publish:
      - got: "{{ result().n }}"
output_map:
  got: "{{ vars.got }}"
  more: "{{ vars.got + 1 }}"
"#;

#[test]
fn a_single_task_runs_with_its_types_kept() {
    let mut scene = begin(SINGLE, &json!({"n": 21}));
    assert_eq!(scene.waiting(), ["work"]);
    assert_eq!(
        scene.input("work"),
        json!({"n": 21, "twice": 42, "text": "n is 42", "name": "x"})
    );
    scene.succeed("work", &json!({"n": 5}));
    assert_eq!(scene.status(), "succeeded");
    assert_eq!(scene.output(), json!({"got": 5, "more": 6}));
    assert_eq!(
        scene.log,
        [
            "execution_started ->running",
            "task_dispatched ->dispatched",
            "task_ended dispatched>succeeded",
            "execution_status_changed running>succeeded",
        ]
    );
}

#[test]
fn wrong_parameters_are_refused_all_at_once() {
    let refused = try_begin(SINGLE, &json!({"name": 7, "other": 1}))
        .err()
        .expect("the start is refused");
    for part in ["n", "name", "other"] {
        assert!(refused.contains(part), "{part} is named in: {refused}");
    }
}

#[test]
fn an_error_in_vars_makes_an_execution_that_has_failed_before_its_first_task() {
    let yaml = "
ref: t.vars
vars:
  x: \"{{ 1 // 0 }}\"
tasks:
  - {name: a, action: core.noop}
";
    let scene = begin(yaml, &none());
    assert_eq!(scene.status(), "failed");
    assert_eq!(
        scene.errors(),
        [("expression_error".to_owned(), String::new())]
    );
    assert_eq!(scene.execution.errors[0].field.as_deref(), Some("vars.x"));
    assert!(scene.jobs.is_empty());
    assert_eq!(scene.execution.counts.total, 0);
}

#[test]
fn a_task_without_action_succeeds_at_once_and_a_false_guard_skips() {
    let yaml = "
ref: t.guard
parameters:
  go: {type: boolean, default: false}
tasks:
  - {name: first, on_success: [maybe]}
  - {name: maybe, action: core.noop, when: \"{{ parameters.go }}\", publish: [{x: 1}], on_success: last}
  - {name: last, action: core.noop}
";
    let mut scene = begin(yaml, &none());
    assert_eq!(scene.waiting(), ["last"]);
    scene.succeed("last", &json!(null));
    assert_eq!(scene.status(), "succeeded");
    assert_eq!(
        scene.ends(),
        [
            ("first".to_owned(), "succeeded"),
            ("maybe".to_owned(), "skipped"),
            ("last".to_owned(), "succeeded")
        ]
    );
    assert_eq!(
        scene.variables(),
        json!({}),
        "a skipped task publishes nothing"
    );
}

#[test]
fn the_output_is_an_error_of_a_success_but_not_of_a_failure() {
    let yaml = "
ref: t.output
tasks:
  - {name: a, action: core.noop, publish: [{x: \"{{ result() }}\"}]}
output_map:
  half: \"{{ vars.x / 2 }}\"
  whole: 1
";
    let mut scene = begin(yaml, &none());
    scene.succeed("a", &json!("not a number"));
    assert_eq!(scene.status(), "failed");
    assert_eq!(
        scene.output(),
        json!({"whole": 1}),
        "as far as it can be evaluated"
    );
    assert_eq!(
        scene.errors(),
        [("expression_error".to_owned(), String::new())]
    );

    let mut scene = begin(yaml, &none());
    scene.fail("a", "broken");
    assert_eq!(scene.status(), "failed");
    assert_eq!(scene.errors(), [("broken".to_owned(), "a".to_owned())]);
}
