//! What happens to the rest when something fails or a user cancels: `fail_policy`,
//! `cancellation_policy`, `cancel_grace`, `ignore_failure`, `max_runs_per_task`, `fail`.

use serde_json::json;

use crate::harness::{Scene, begin, none};

fn branches(policy: &str) -> String {
    format!(
        "
ref: t.policy
fail_policy: {policy}
tasks:
  - {{name: s, action: core.noop, on_success: [bad, long1, wait]}}
  - {{name: bad, action: core.noop, on_success: x}}
  - {{name: x, action: core.noop}}
  - {{name: long1, action: core.noop, on_success: long2}}
  - {{name: long2, action: core.noop}}
  - {{name: wait, action: core.noop, retry: {{count: 1, delay: 9}}}}
"
    )
}

fn ok(scene: &mut Scene, tasks: &[&str]) {
    for task in tasks {
        scene.succeed(task, &json!(null));
    }
}

fn text(task: &str, status: &'static str) -> (String, &'static str) {
    (task.to_owned(), status)
}

#[test]
fn with_continue_the_other_branches_run_to_their_end() {
    let mut scene = begin(&branches("continue"), &none());
    ok(&mut scene, &["s"]);
    scene.fail("bad", "broken");
    assert_eq!(scene.status(), "failing");
    scene.fail("wait", "not yet");
    ok(&mut scene, &["long1", "long2"]);
    assert_eq!(scene.status(), "failing");
    assert!((scene.wait() - 9.0).abs() < 1e-6, "retries go on");
    ok(&mut scene, &["wait"]);
    assert_eq!(scene.status(), "failed");
    assert_eq!(scene.errors(), [("broken".to_owned(), "bad".to_owned())]);
}

#[test]
fn with_continue_every_failure_is_listed() {
    let mut scene = begin(&branches("continue"), &none());
    ok(&mut scene, &["s"]);
    scene.fail("bad", "broken");
    scene.fail_for_good("wait");
    scene.fail("long1", "also");
    assert_eq!(scene.status(), "failed");
    let errors = scene.errors();
    let tasks: Vec<&str> = errors.iter().map(|(_, task)| task.as_str()).collect();
    assert_eq!(tasks, ["bad", "wait", "long1"]);
}

#[test]
fn with_drain_nothing_new_starts() {
    let mut scene = begin(&branches("drain"), &none());
    ok(&mut scene, &["s"]);
    scene.fail("bad", "broken");
    ok(&mut scene, &["long1", "wait"]);
    assert_eq!(scene.status(), "failed");
    assert_eq!(scene.ends().last(), Some(&text("long2", "omitted")));
}

#[test]
fn with_cancel_what_runs_is_told_to_stop() {
    let mut scene = begin(&branches("cancel"), &none());
    ok(&mut scene, &["s"]);
    scene.fail("bad", "broken");
    assert_eq!(scene.status(), "failing");
    assert_eq!(scene.cancels.len(), 2);
    scene.stop("long1");
    assert_eq!(scene.ends().last(), Some(&text("long1", "cancelled")));
    scene.wait();
    assert_eq!(scene.status(), "failed", "the grace of the other is over");
    assert_eq!(scene.ends().last(), Some(&text("wait", "cancelled")));
    assert_eq!(scene.errors(), [("broken".to_owned(), "bad".to_owned())]);
}

#[test]
fn with_cancel_nothing_follows_what_ends_by_itself() {
    let mut scene = begin(&branches("cancel"), &none());
    ok(&mut scene, &["s"]);
    scene.fail("bad", "broken");
    ok(&mut scene, &["long1"]);
    scene.fail("wait", "too");
    assert_eq!(scene.status(), "failed");
    assert_eq!(
        scene.errors().len(),
        1,
        "what is cancelled is nobody's fault"
    );
    let ended: Vec<String> = scene.ends().into_iter().map(|(task, _)| task).collect();
    assert_eq!(ended, ["s", "bad", "long1", "wait"]);
}

#[test]
fn with_cancel_the_items_in_flight_are_told_to_stop() {
    let yaml = "
ref: t.items
fail_policy: cancel
tasks:
  - {name: bad, action: core.noop}
  - {name: many, action: core.noop, with_items: [1, 2, 3], concurrency: 2}
";
    let mut scene = begin(yaml, &none());
    scene.fail("bad", "broken");
    assert_eq!(scene.cancels.len(), 2);
    scene.stop("many");
    scene.stop("many");
    assert_eq!(scene.status(), "failed");
    assert_eq!(scene.ends().last(), Some(&text("many", "cancelled")));
    assert_eq!(scene.errors().len(), 1);
}

const FAIL: &str = "
ref: t.fail
tasks:
  - {name: s, action: core.noop, on_success: [step, other]}
  - {name: step, action: core.noop, next: [{when: \"{{ failed() }}\", publish: [{cause: \"{{ result() }}\"}], do: [log, fail]}]}
  - {name: log, action: core.noop, input: {m: \"{{ vars.cause }}\"}, on_success: after}
  - {name: after, action: core.noop}
  - {name: other, action: core.noop, on_success: other2}
  - {name: other2, action: core.noop}
";

#[test]
fn beside_fail_tasks_run_and_their_successors_do_not() {
    for (policy, ends) in [
        ("drain", &["other", "log"][..]),
        ("continue", &["other", "other2", "log"][..]),
        ("cancel", &["other", "log"][..]),
    ] {
        let yaml = FAIL.replace("tasks:\n", &format!("fail_policy: {policy}\ntasks:\n"));
        let mut scene = begin(&yaml, &none());
        ok(&mut scene, &["s"]);
        scene.fail("step", "broken");
        assert_eq!(scene.waiting(), ["other", "log"], "{policy}");
        assert_eq!(
            scene.errors(),
            [("explicit_fail".to_owned(), "step".to_owned())]
        );
        ok(&mut scene, ends);
        assert_eq!(scene.status(), "failed", "{policy}");
        let ran = |task: &str| scene.ends().contains(&text(task, "succeeded"));
        assert!(ran("log") && !ran("after"), "{policy}");
        assert_eq!(ran("other2"), policy == "continue", "{policy}");
    }
}

#[test]
fn with_continue_a_failure_during_a_pause_is_told_when_the_pause_is_over() {
    let mut scene = begin(&branches("continue"), &none());
    ok(&mut scene, &["s"]);
    scene.pause();
    ok(&mut scene, &["long1", "wait"]);
    scene.fail("bad", "broken");
    assert_eq!(scene.status(), "paused");
    scene.resume();
    assert_eq!(scene.status(), "failing");
    ok(&mut scene, &["long2"]);
    assert_eq!(scene.status(), "failed");
}

#[test]
fn with_allow_finish_a_cancel_lets_finish_what_runs() {
    let yaml = branches("drain").replace(
        "fail_policy:",
        "cancellation_policy: allow_finish\nfail_policy:",
    );
    let mut scene = begin(&yaml, &none());
    ok(&mut scene, &["s"]);
    scene.fail("wait", "not yet");
    scene.started("bad");
    scene.cancel();
    assert_eq!(scene.cancels, []);
    assert_eq!(scene.status(), "cancelling");
    assert_eq!(
        scene.ends().last(),
        Some(&text("wait", "cancelled")),
        "waits end"
    );
    ok(&mut scene, &["long1"]);
    assert_eq!(scene.waiting(), ["bad"], "nothing follows");
    scene.wait();
    assert_eq!(scene.status(), "cancelled");
    assert_eq!(
        scene.ends().last(),
        Some(&text("bad", "timed_out")),
        "limits hold"
    );
    assert_eq!(scene.errors(), []);
}

#[test]
fn the_grace_bounds_what_was_told_to_stop() {
    let yaml = branches("drain").replace("fail_policy:", "cancel_grace: 0.5\nfail_policy:");
    let mut scene = begin(&yaml, &none());
    ok(&mut scene, &["s"]);
    scene.cancel();
    assert!((scene.wait() - 0.5).abs() < 1e-6);
    scene.wait();
    scene.wait();
    assert_eq!(scene.status(), "cancelled");
}

#[test]
fn an_ignored_failure_takes_the_success_transitions_and_publishes_nothing() {
    let yaml = "
ref: t.ignored
vars: {x: 0}
tasks:
  - name: a
    action: core.noop
    ignore_failure: true
    publish: [{x: 1}]
    on_success: good
    on_failure: bad
    on_timeout: late
  - {name: good, action: core.noop, input: {x: \"{{ vars.x }}\"}}
  - {name: bad, action: core.noop}
  - {name: late, action: core.noop}
";
    let mut scene = begin(yaml, &none());
    scene.fail("a", "broken");
    assert_eq!(scene.waiting(), ["good"]);
    assert_eq!(scene.input("good"), json!({"x": 0}));
    ok(&mut scene, &["good"]);
    assert_eq!(scene.status(), "succeeded");
    assert_eq!(scene.ends()[0], text("a", "failed"));
    let mut scene = begin(yaml, &none());
    scene.time_out("a");
    assert_eq!(scene.waiting(), ["good"]);
}

#[test]
fn conditions_see_an_ignored_failure_as_success_and_its_status_as_it_is() {
    let yaml = "
ref: t.ignored
tasks:
  - name: a
    action: core.noop
    ignore_failure: true
    next:
      - {when: \"{{ succeeded() and not failed() and not timed_out() and status() == 'failed' }}\", do: b}
  - name: b
    action: core.noop
    ignore_failure: true
    decision: [{default: true, next: c}]
  - {name: c, action: core.noop, ignore_failure: true, input: {x: \"{{ task.a.result.x }}\"}}
";
    let mut scene = begin(yaml, &none());
    scene.fail("a", "broken");
    scene.fail("b", "broken");
    assert_eq!(scene.status(), "succeeded", "also what cannot be rendered");
    assert_eq!(scene.ends().last(), Some(&text("c", "failed")));
}

#[test]
fn a_loop_without_an_exit_is_stopped_at_the_limit() {
    let yaml = "
ref: t.runaway
max_runs_per_task: 5
tasks:
  - {name: init, action: core.noop, on_success: spin}
  - {name: spin, action: core.noop, on_complete: spin}
";
    let mut scene = begin(yaml, &none());
    ok(
        &mut scene,
        &["init", "spin", "spin", "spin", "spin", "spin"],
    );
    assert_eq!(scene.status(), "failed");
    assert_eq!(
        scene.errors(),
        [("limit_exceeded".to_owned(), "spin".to_owned())]
    );
    assert_eq!(scene.ends().len(), 6);
}

#[test]
fn a_start_that_is_named_is_the_only_one() {
    let yaml = "
ref: t.start
start: [spin]
tasks:
  - {name: spin, action: core.noop, next: [{when: \"{{ result() }}\", do: spin}]}
";
    let mut scene = begin(yaml, &none());
    scene.succeed("spin", &json!(true));
    scene.succeed("spin", &json!(false));
    assert_eq!(scene.status(), "succeeded");
    assert_eq!(scene.ends().len(), 2);
}

#[test]
fn an_output_that_cannot_be_evaluated_fails_a_success_and_not_a_cancel() {
    let yaml = "
ref: t.output
tasks: [{name: a, action: core.noop}]
output_map: {one: 1, two: \"{{ 1 // 0 }}\", three: \"{{ vars.one + 2 }}\"}
";
    let mut scene = begin(yaml, &none());
    ok(&mut scene, &["a"]);
    assert_eq!(scene.status(), "failed");
    assert_eq!(scene.output(), json!({"one": 1, "three": 3}));
    let mut scene = begin(yaml, &none());
    scene.cancel();
    scene.stop("a");
    assert_eq!(scene.status(), "cancelled");
    assert_eq!(scene.output(), json!({"one": 1, "three": 3}));
    assert_eq!(scene.errors(), []);
}
