//! Tasks that run after the graph has ended, whatever the outcome.

use serde_json::json;

use crate::harness::{Scene, begin, none};

const CLEANUP: &str = "
ref: t.cleanup
vars: {x: 0}
finally: [cleanup]
tasks:
  - {name: a, action: core.noop, publish: [{x: 1}], on_success: b}
  - {name: b, action: core.noop}
  - {name: cleanup, action: core.noop, timeout: 20, input: {status: \"{{ system.status }}\", x: \"{{ vars.x }}\"}, publish: [{done: true}]}
output_map: {status: \"{{ system.status }}\", done: \"{{ vars.done | default(false) }}\"}
";

fn ok(scene: &mut Scene, tasks: &[&str]) {
    for task in tasks {
        scene.succeed(task, &json!(null));
    }
}

#[test]
fn it_runs_after_a_success_and_sees_what_was_left() {
    let mut scene = begin(CLEANUP, &none());
    assert_eq!(scene.waiting(), ["a"], "it is no start task");
    ok(&mut scene, &["a", "b"]);
    assert_eq!(
        scene.input("cleanup"),
        json!({"status": "succeeded", "x": 1})
    );
    assert_eq!(scene.status(), "running");
    ok(&mut scene, &["cleanup"]);
    assert_eq!(scene.status(), "succeeded");
    assert_eq!(scene.output(), json!({"status": "succeeded", "done": true}));
}

#[test]
fn it_runs_after_a_failure_with_its_retries() {
    let yaml = CLEANUP.replace("timeout: 20,", "retry: {count: 1, delay: 3},");
    let mut scene = begin(&yaml, &none());
    scene.fail("a", "broken");
    assert_eq!(scene.status(), "failing");
    assert_eq!(scene.input("cleanup"), json!({"status": "failed", "x": 0}));
    scene.fail("cleanup", "not yet");
    assert!((scene.wait() - 3.0).abs() < 1e-6);
    ok(&mut scene, &["cleanup"]);
    assert_eq!(scene.status(), "failed");
    assert_eq!(scene.output(), json!({"status": "failed", "done": true}));
    assert_eq!(scene.errors(), [("broken".to_owned(), "a".to_owned())]);
}

#[test]
fn a_failed_one_fails_a_success() {
    let mut scene = begin(CLEANUP, &none());
    ok(&mut scene, &["a", "b"]);
    scene.fail("cleanup", "broken");
    assert_eq!(scene.status(), "failed");
    assert_eq!(
        scene.errors(),
        [("broken".to_owned(), "cleanup".to_owned())]
    );
}

#[test]
fn one_that_fails_does_not_keep_the_others_from_running() {
    let yaml = "
ref: t.several
finally: [y, z]
tasks:
  - {name: a, action: core.noop}
  - {name: y, action: core.noop, retry: {count: 1, delay: 1}}
  - {name: z, action: core.noop, with_items: [1, 2, 3], concurrency: 1}
";
    let mut scene = begin(yaml, &none());
    ok(&mut scene, &["a"]);
    assert_eq!(scene.waiting(), ["y", "z"]);
    scene.fail_for_good("y");
    assert_eq!(scene.status(), "failing");
    ok(&mut scene, &["z", "z", "z"]);
    assert_eq!(scene.status(), "failed");
    assert_eq!(scene.ends().last(), Some(&("z".to_owned(), "succeeded")));
}

#[test]
fn it_runs_after_a_cancel_for_as_long_as_its_own_time_limit() {
    let mut scene = begin(CLEANUP, &none());
    scene.cancel();
    scene.stop("a");
    assert_eq!(scene.status(), "cancelling");
    assert_eq!(
        scene.input("cleanup"),
        json!({"status": "cancelled", "x": 0})
    );
    assert_eq!(scene.cancels.len(), 1, "only a was told to stop");
    scene.started("cleanup");
    assert!((scene.wait() - 20.0).abs() < 1e-6);
    assert_eq!(scene.status(), "cancelled");
    assert_eq!(scene.cancels.len(), 2, "nobody waits for it any more");
    assert_eq!(
        scene.ends().last(),
        Some(&("cleanup".to_owned(), "cancelled"))
    );
    assert_eq!(
        scene.output(),
        json!({"status": "cancelled", "done": false})
    );
}

#[test]
fn a_cancel_waits_for_it_no_longer_than_the_grace() {
    let yaml = CLEANUP.replace("vars:", "cancel_grace: 7\nvars:");
    let mut scene = begin(&yaml, &none());
    scene.cancel();
    assert!((scene.wait() - 7.0).abs() < 1e-6, "the grace of a");
    assert_eq!(scene.waiting(), ["a", "cleanup"]);
    assert!((scene.wait() - 7.0).abs() < 1e-6);
    assert_eq!(scene.status(), "cancelled");
}

#[test]
fn after_a_cancel_it_is_not_retried_and_its_failure_is_told() {
    let yaml = CLEANUP.replace("timeout: 20,", "retry: {count: 3, delay: 3},");
    let mut scene = begin(&yaml, &none());
    scene.cancel();
    scene.stop("a");
    scene.fail("cleanup", "broken");
    assert_eq!(scene.status(), "cancelled");
    assert_eq!(
        scene.errors(),
        [("broken".to_owned(), "cleanup".to_owned())]
    );
}

#[test]
fn a_cancel_while_it_runs_lets_it_end() {
    let mut scene = begin(CLEANUP, &none());
    ok(&mut scene, &["a", "b"]);
    scene.cancel();
    assert_eq!(scene.status(), "cancelling");
    assert_eq!(scene.cancels, [], "it is not told to stop");
    ok(&mut scene, &["cleanup"]);
    assert_eq!(scene.status(), "cancelled");
    assert_eq!(scene.output(), json!({"status": "cancelled", "done": true}));
}

#[test]
fn a_pause_holds_it_back_and_a_cancel_lets_it_go() {
    let mut scene = begin(CLEANUP, &none());
    ok(&mut scene, &["a"]);
    scene.pause();
    ok(&mut scene, &["b"]);
    assert_eq!(scene.status(), "paused");
    scene.resume();
    assert_eq!(scene.waiting(), ["cleanup"]);

    let yaml = CLEANUP.replace("timeout: 20,", "retry: {count: 1, delay: 3},");
    let mut scene = begin(&yaml, &none());
    ok(&mut scene, &["a", "b"]);
    scene.fail("cleanup", "not yet");
    scene.pause();
    scene.wait();
    assert_eq!(scene.waiting(), [""; 0]);
    scene.cancel();
    assert_eq!(
        scene.status(),
        "cancelled",
        "a retry does not start after a cancel"
    );
}

#[test]
fn a_failure_of_it_during_a_pause_is_told_when_the_pause_is_over() {
    let yaml = "
ref: t.paused
finally: [y, z]
tasks:
  - {name: a, action: core.noop}
  - {name: y, action: core.noop}
  - {name: z, action: core.noop, retry: {count: 1, delay: 1}}
";
    let mut scene = begin(yaml, &none());
    ok(&mut scene, &["a"]);
    scene.fail("z", "not yet");
    scene.pause();
    scene.wait();
    scene.fail("y", "broken");
    assert_eq!(scene.status(), "paused");
    scene.resume();
    assert_eq!(scene.status(), "failing");
    ok(&mut scene, &["z"]);
    assert_eq!(scene.status(), "failed");
}

#[test]
fn a_guard_may_skip_it() {
    let yaml = CLEANUP.replace("timeout: 20,", "when: \"{{ system.status == 'failed' }}\",");
    let mut scene = begin(&yaml, &none());
    ok(&mut scene, &["a", "b"]);
    assert_eq!(scene.status(), "succeeded");
    assert_eq!(
        scene.ends().last(),
        Some(&("cleanup".to_owned(), "skipped"))
    );
}

#[test]
fn an_execution_that_fails_before_its_first_task_has_none() {
    let yaml = CLEANUP.replace("{x: 0}", "{x: \"{{ 1 // 0 }}\"}");
    let scene = begin(&yaml, &none());
    assert_eq!(scene.status(), "failed");
    assert_eq!(scene.ends().len(), 0);
}

#[test]
fn one_that_leads_to_fail_does_not_keep_the_others_from_running() {
    for policy in ["drain", "cancel", "continue"] {
        let yaml = format!(
            "
ref: t.verdict
fail_policy: {policy}
finally: [verdict, clean]
tasks:
  - {{name: a, action: core.noop}}
  - {{name: verdict, next: [{{do: fail}}]}}
  - {{name: clean, action: core.noop}}
"
        );
        let mut scene = begin(&yaml, &none());
        ok(&mut scene, &["a"]);
        assert_eq!(scene.waiting(), ["clean"], "{policy}");
        ok(&mut scene, &["clean"]);
        assert_eq!(scene.status(), "failed", "{policy}");
    }
}

#[test]
fn after_a_cancel_it_does_not_wait_for_its_delay() {
    let yaml = CLEANUP.replace("timeout: 20,", "delay: 600,");
    let mut scene = begin(&yaml, &none());
    scene.cancel();
    scene.stop("a");
    assert_eq!(scene.waiting(), ["cleanup"]);

    let mut scene = begin(&yaml, &none());
    ok(&mut scene, &["a", "b"]);
    assert_eq!(scene.waiting(), [""; 0], "its delay runs");
    scene.now += chrono::TimeDelta::seconds(500);
    scene.cancel();
    assert_eq!(scene.waiting(), ["cleanup"]);
    assert!(
        (scene.wait() - 300.0).abs() < 1e-6,
        "the time that it has counts from the cancel"
    );
    assert_eq!(scene.status(), "cancelled");
}
