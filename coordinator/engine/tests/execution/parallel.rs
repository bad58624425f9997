//! Tasks of `type: parallel`: their children run side by side, and they end as one.

use serde_json::{Value, json};

use crate::harness::{Scene, begin, none};

/// A parallel task `both` of `a` and `b`, with `more` fields, between `first` and `after`.
fn both(more: &str) -> String {
    format!(
        "
ref: t.parallel
parameters: {{go: {{default: true}}}}
tasks:
  - {{name: first, action: core.noop, publish: [x: 1], on_success: both}}
  - name: both
    type: parallel
    tasks:
      - {{name: a, action: core.noop, input: {{x: \"{{{{ vars.x }}}}\"}}, publish: [from_a]}}
      - {{name: b, action: core.noop, retry: {{count: 1}}}}
    {more}
  - {{name: after, action: core.noop, input: {{all: \"{{{{ task.both.result }}}}\", status: \"{{{{ task.both.status }}}}\"}}}}
"
    )
}

const ON_SUCCESS: &str = "on_success: after";

fn started(more: &str) -> Scene {
    let mut scene = begin(&both(more), &none());
    scene.succeed("first", &json!(null));
    assert_eq!(scene.waiting(), ["both/a", "both/b"]);
    scene
}

fn ends(scene: &Scene, task: &str) -> Vec<&'static str> {
    let ends = scene.ends().into_iter();
    ends.filter(|(name, _)| name == task)
        .map(|(_, end)| end)
        .collect()
}

fn error_of(scene: &Scene, task: &str) -> Value {
    let mut runs = scene.ended.iter();
    let run = runs.rfind(|run| &*scene.execution.workflow.tasks[run.task.0].name == task);
    let ended = run
        .and_then(|run| run.ended.as_ref())
        .expect("it has ended");
    serde_json::from_str(ended.error.text()).expect("JSON")
}

#[test]
fn the_result_of_a_parallel_task_is_the_results_of_its_children() {
    let mut scene = started("publish: [all]\n    on_success: after");
    assert_eq!(scene.input("both/a"), json!({"x": 1}));
    scene.succeed("both/b", &json!("B"));
    assert_eq!(scene.waiting(), ["both/a"]);
    scene.succeed("both/a", &json!("A"));
    let all = json!({"a": "A", "b": "B"});
    assert_eq!(
        scene.input("after"),
        json!({"all": all, "status": "succeeded"})
    );
    scene.succeed("after", &json!(null));
    assert_eq!(scene.status(), "succeeded");
    let variables = json!({"x": 1, "from_a": "A", "all": all});
    assert_eq!(
        scene.variables(),
        variables,
        "what children publish is kept"
    );
}

#[test]
fn a_failed_child_fails_the_task_once_all_have_ended() {
    let mut scene = started(ON_SUCCESS);
    scene.fail("both/a", "broken");
    assert_eq!(scene.status(), "running", "the task has not ended");
    scene.fail("both/b", "broken");
    assert_eq!(scene.waiting(), ["both/b"], "a child has its own retries");
    scene.succeed("both/b", &json!(2));
    assert_eq!(scene.status(), "failed");
    assert_eq!(
        scene.errors(),
        [("task_failed".to_owned(), "both".to_owned())],
        "the failure is that of the task as a whole"
    );
    let error = error_of(&scene, "both");
    assert_eq!(error["message"], "1 of 2 children failed: a");
    assert_eq!(error["details"]["a"]["kind"], "broken");
    assert_eq!(ends(&scene, "both/a"), ["failed"]);
    assert_eq!(ends(&scene, "after"), Vec::<&str>::new());
}

#[test]
fn the_failure_of_the_whole_is_handled_like_any_other() {
    let mut scene = started("on_failure: after");
    scene.time_out("both/a");
    scene.succeed("both/b", &json!(2));
    let expected = json!({"all": {"a": null, "b": 2}, "status": "failed"});
    assert_eq!(scene.input("after"), expected);
    scene.succeed("after", &json!(null));
    assert_eq!(scene.status(), "succeeded");

    let mut scene = started("ignore_failure: true\n    on_success: after");
    scene.fail("both/a", "broken");
    scene.succeed("both/b", &json!(2));
    assert_eq!(scene.waiting(), ["after"]);
}

#[test]
fn a_child_whose_failure_is_ignored_does_not_fail_the_whole() {
    let yaml = both(ON_SUCCESS).replace("publish: [from_a]", "ignore_failure: true");
    let mut scene = begin(&yaml, &none());
    scene.succeed("first", &json!(null));
    scene.fail("both/a", "broken");
    scene.succeed("both/b", &json!(2));
    assert_eq!(scene.waiting(), ["after"]);
}

#[test]
fn a_false_guard_skips_the_whole() {
    let yaml = both("when: \"{{ parameters.go }}\"\n    publish: [all]\n    on_success: after");
    let mut scene = begin(&yaml, &json!({"go": false}));
    scene.succeed("first", &json!(null));
    let expected = json!({"all": null, "status": "skipped"});
    assert_eq!(scene.input("after"), expected);
    assert_eq!(scene.variables(), json!({}), "nothing has ended yet");
    scene.succeed("after", &json!(null));
    assert_eq!(scene.variables(), json!({"x": 1}), "nothing is published");
    assert_eq!(ends(&scene, "both"), ["skipped"]);
    assert_eq!(ends(&scene, "both/a"), Vec::<&str>::new());

    let mut scene = begin(&yaml, &none());
    scene.succeed("first", &json!(null));
    assert_eq!(scene.waiting(), ["both/a", "both/b"]);
}

#[test]
fn a_guard_that_cannot_be_evaluated_fails_the_whole() {
    let yaml = both("when: \"{{ parameters.go.nothing }}\"\n    on_failure: after");
    let mut scene = begin(&yaml, &none());
    scene.succeed("first", &json!(null));
    assert_eq!(scene.waiting(), ["after"]);
    assert_eq!(error_of(&scene, "both")["kind"], "expression_error");
    assert_eq!(error_of(&scene, "both")["field"], "when");
}

#[test]
fn a_delay_is_before_the_children() {
    let mut scene = begin(&both("delay: 5\n    on_success: after"), &none());
    scene.succeed("first", &json!(null));
    assert_eq!(scene.waiting(), Vec::<&str>::new());
    assert!((scene.wait() - 5.0).abs() < f64::EPSILON);
    assert_eq!(scene.waiting(), ["both/a", "both/b"]);
    scene.succeed("both/a", &json!(1));
    scene.succeed("both/b", &json!(2));
    assert_eq!(scene.waiting(), ["after"]);
}

#[test]
fn it_joins_and_needs_and_is_needed_like_any_task() {
    let mut scene = begin(
        "
ref: t.needs
tasks:
  - {name: one, action: core.noop}
  - {name: two, action: core.noop}
  - {name: p, type: parallel, needs: [one, two], tasks: [{name: a, action: core.noop}, {name: one}]}
  - {name: last, action: core.noop, needs: p, rule: one_failed}
",
        &none(),
    );
    scene.succeed("one", &json!(1));
    assert_eq!(scene.waiting(), ["two"]);
    scene.succeed("two", &json!(2));
    scene.fail("p/a", "broken");
    assert_eq!(scene.waiting(), ["last"]);
    scene.succeed("last", &json!(null));
    assert_eq!(scene.status(), "succeeded");
}

#[test]
fn each_visit_in_a_loop_has_its_own_children() {
    let mut scene = begin(
        "
ref: t.loop
vars: {n: 0}
tasks:
  - {name: first, on_success: p}
  - name: p
    type: parallel
    tasks: [{name: a, action: core.noop}, {name: b, action: core.noop}]
    publish: [n: \"{{ vars.n + result().a }}\"]
    next:
      - {when: \"{{ vars.n < 3 }}\", do: p}
",
        &none(),
    );
    assert_eq!(scene.errors(), []);
    for round in 1..=3 {
        assert_eq!(scene.waiting(), ["p/a", "p/b"], "round {round}");
        scene.succeed("p/a", &json!(1));
        scene.succeed("p/b", &json!(0));
    }
    assert_eq!(scene.status(), "succeeded");
    assert_eq!(scene.variables(), json!({"n": 3}));
    assert_eq!(ends(&scene, "p").len(), 3);
}

#[test]
fn each_entry_of_a_split_has_its_own_children() {
    let mut scene = begin(
        "
ref: t.split
tasks:
  - {name: one, action: core.noop, on_success: p}
  - {name: two, action: core.noop, on_success: p}
  - {name: p, type: parallel, tasks: [{name: a, action: core.noop}], on_success: end}
  - {name: end, input: {all: \"{{ task.p.result.a }}\"}, action: core.noop}
",
        &none(),
    );
    scene.succeed("one", &json!(null));
    scene.succeed("two", &json!(null));
    assert_eq!(scene.waiting(), ["p/a", "p/a"]);
    scene.succeed("p/a", &json!(1));
    assert_eq!(scene.input("end"), json!({"all": 1}));
    scene.succeed("end", &json!(null));
    scene.succeed("p/a", &json!(2));
    assert_eq!(scene.input("end"), json!({"all": 2}));
    scene.succeed("end", &json!(null));
    assert_eq!(scene.status(), "succeeded");
}

#[test]
fn a_cancel_ends_the_children_and_with_them_the_whole() {
    let mut scene = started(ON_SUCCESS);
    scene.cancel();
    assert_eq!(scene.cancels.len(), 2);
    scene.stop("both/a");
    scene.stop("both/b");
    assert_eq!(scene.status(), "cancelled");
    assert_eq!(ends(&scene, "both/a"), ["cancelled"]);
    assert_eq!(ends(&scene, "after"), Vec::<&str>::new());
}

#[test]
fn a_pause_between_two_children_loses_nothing() {
    let mut scene = started(ON_SUCCESS);
    scene.succeed("both/a", &json!(1));
    scene.pause();
    scene.succeed("both/b", &json!(2));
    assert_eq!(scene.waiting(), Vec::<&str>::new());
    scene.resume();
    assert_eq!(scene.waiting(), ["after"]);
    assert_eq!(scene.input("after")["all"], json!({"a": 1, "b": 2}));
}

#[test]
fn beside_fail_the_whole_runs_and_what_follows_it_does_not() {
    let yaml = both(ON_SUCCESS).replace("on_success: both", "on_success: [fail, both]");
    let mut scene = begin(&yaml, &none());
    scene.succeed("first", &json!(null));
    assert_eq!(scene.waiting(), ["both/a", "both/b"]);
    scene.succeed("both/a", &json!(1));
    scene.succeed("both/b", &json!(2));
    assert_eq!(scene.status(), "failed");
    assert_eq!(ends(&scene, "both"), ["succeeded"]);
    assert_eq!(ends(&scene, "after"), ["omitted"]);
    assert_eq!(
        scene.errors(),
        [("explicit_fail".to_owned(), "first".to_owned())]
    );
}
