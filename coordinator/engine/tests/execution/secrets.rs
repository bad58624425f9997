//! Secrets: they stand in the input alone, and travel as places that the worker fills in.

use flotilla_engine::compile;
use flotilla_protocol::message::CompletionStatus;
use serde_json::{Value, json};

use crate::harness::{Scene, begin};

const WORKFLOW: &str = "
ref: own.secrets
vars: {user: me}
tasks:
  - name: a
    action: demo.work
    retry: {count: 1}
    input:
      headers: {a/b: \"Bearer {{ secret('api') }}\", plain: \"{{ vars.user }}\"}
      list: [1, \"{{ vars.user }}:{{ secret('pass-word') }}@{{ vars.user }}\", \"{{secret(\\\"x\\\")}}\"]
      text: \"secret('no') and {{ \\\"secret('no')\\\" }}\"
    on_success: b
  - {name: b, action: demo.work, input: {n: 1}}
";

fn secrets(scene: &Scene, task: &str) -> Option<Value> {
    let job = scene.jobs.iter().find(|job| &*job.task == task)?;
    let secrets = job.secrets.as_ref()?;
    serde_json::from_str(secrets.text()).expect("JSON")
}

#[test]
fn places_are_named_and_nothing_stands_in_them() {
    let mut scene = begin(WORKFLOW, &json!({}));
    assert_eq!(
        scene.input("a"),
        json!({
            "headers": {"a/b": null, "plain": "me"}, "list": [1, null, null],
            "text": "secret('no') and secret('no')"
        })
    );
    let expected = json!([
        {"at": "/headers/a~1b", "parts": [{"text": "Bearer "}, {"secret": "api"}]},
        {"at": "/list/1", "parts": [{"text": "me:"}, {"secret": "pass-word"}, {"text": "@me"}]},
        {"at": "/list/2", "parts": [{"secret": "x"}]}
    ]);
    assert_eq!(secrets(&scene, "a"), Some(expected.clone()));
    let job = scene.job("a");
    scene.answer(&job, CompletionStatus::Failed, None, None);
    assert_eq!(
        secrets(&scene, "a"),
        Some(expected),
        "of the next attempt too"
    );
    scene.succeed("a", &Value::Null);
    assert_eq!(secrets(&scene, "b"), None);
}

#[test]
fn each_item_has_its_own_text_beside_the_secret() {
    let scene = begin(
        "
ref: own.secrets
tasks:
  - {name: a, action: demo.work, with_items: [x, y], input: {key: \"{{ item }}-{{ secret('s') }}\"}}
",
        &json!({}),
    );
    let parts: Vec<Value> = scene
        .jobs
        .iter()
        .map(|job| serde_json::from_str(job.secrets.as_ref().expect("some").text()).expect("JSON"))
        .map(|places: Value| places[0]["parts"][0]["text"].clone())
        .collect();
    assert_eq!(parts, [json!("x-"), json!("y-")]);
}

#[test]
fn anywhere_else_they_are_refused() {
    let refused = |fields: &str| {
        let source = format!("ref: own.secrets\ntasks: [{{name: a, {fields}}}]\n");
        let found = compile(&source).expect_err(fields);
        format!("{} {}: {}", found[0].code, found[0].path, found[0].message)
    };
    for (fields, path, message) in [
        (
            "action: b.c, publish: [x: \"{{ secret('s') }}\"]",
            "publish[0].x",
            "`secret()` is known in `input` only",
        ),
        (
            "action: b.c, delay: \"{{ secret('s') }}\"",
            "delay",
            "`secret()` is known in `input` only",
        ),
        (
            "action: \"{{ secret('s') }}\"",
            "action",
            "`secret()` is known in `input` only",
        ),
        (
            "type: workflow, action: b.c, input: {x: \"{{ secret('s') }}\"}",
            "input.x",
            "a sub-workflow gets no secrets: its own tasks name them",
        ),
        (
            "action: b.c, input: {x: \"{{ secret('s') ~ 1 }}\"}",
            "input.x",
            "`secret()` has a literal name and stands alone between its braces",
        ),
        (
            "action: b.c, input: {x: \"{{ secret(vars.x) }}\"}",
            "input.x",
            "`secret()` has a literal name and stands alone between its braces",
        ),
        (
            "action: b.c, input: {x: \"{{ secret('a b') }}\"}",
            "input.x",
            "`secret()` has a literal name and stands alone between its braces",
        ),
        (
            "action: b.c, input: {x: \"{% if true %}{{ secret('s') }}{% endif %}\"}",
            "input.x",
            "`secret()` has a literal name and stands alone between its braces",
        ),
        (
            "action: b.c, input: \"{{ {'x': secret('s')} }}\"",
            "input",
            "`secret()` has a literal name and stands alone between its braces",
        ),
    ] {
        assert_eq!(
            refused(fields),
            format!("misplaced_function tasks[0].{path}: {message}")
        );
    }
}
