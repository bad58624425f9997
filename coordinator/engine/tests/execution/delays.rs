//! The delay before the first attempt of a task.

use flotilla_engine::execution::{Outcome, TimerKind};
use serde_json::json;

use crate::harness::{begin, none};

#[test]
fn a_delay_comes_before_the_first_attempt_and_before_no_other() {
    let yaml = "
ref: t.delay
parameters: {gap: {type: number, default: 10}}
tasks:
  - {name: a, action: core.noop, delay: \"{{ parameters.gap }}\", retry: {count: 2}}
";
    let mut scene = begin(yaml, &none());
    assert_eq!(scene.execution.live[&1].status.word(), "delayed");
    assert!(scene.waiting().is_empty());
    assert_eq!(scene.timers[&1].0, TimerKind::Delay);
    assert!((scene.wait() - 10.0).abs() < 1e-6);
    scene.fail("a", "broken");
    assert_eq!(scene.waiting(), ["a"], "the retry starts at once");
    scene.succeed("a", &json!(null));
    assert_eq!(scene.status(), "succeeded");
    assert!(scene.timers.is_empty());
}

#[test]
fn a_delay_of_zero_is_none() {
    let yaml = "ref: t.zero\ntasks:\n  - {name: a, action: core.noop, delay: 0}\n";
    assert_eq!(begin(yaml, &none()).waiting(), ["a"]);
}

#[test]
fn a_task_without_an_action_waits_too() {
    let yaml = "
ref: t.wait
tasks:
  - {name: wait, delay: 3, on_success: next}
  - {name: next, action: core.noop}
";
    let mut scene = begin(yaml, &none());
    assert!((scene.wait() - 3.0).abs() < 1e-6);
    assert_eq!(scene.ends(), [("wait".to_owned(), "succeeded")]);
    assert_eq!(scene.waiting(), ["next"]);
}

#[test]
fn a_task_with_items_waits_once_for_all_of_them() {
    let yaml = "
ref: t.items
tasks:
  - name: a
    action: core.noop
    delay: 4
    with_items: [1, 2, 3]
    concurrency: 2
";
    let mut scene = begin(yaml, &none());
    assert!((scene.wait() - 4.0).abs() < 1e-6);
    assert_eq!(scene.waiting(), ["a", "a"]);
    for _ in 0..3 {
        scene.succeed("a", &json!(null));
    }
    assert_eq!(scene.status(), "succeeded");
}

#[test]
fn a_guard_is_looked_at_before_the_delay() {
    let yaml = "ref: t.guard\ntasks:\n  - {name: a, action: core.noop, when: false, delay: 4}\n";
    assert_eq!(begin(yaml, &none()).status(), "succeeded");
}

#[test]
fn a_delay_that_is_no_number_of_seconds_fails_its_task() {
    for bad in ["soon", "-1"] {
        let yaml = format!(
            "
ref: t.bad
vars: {{d: \"{bad}\"}}
tasks:
  - {{name: later, action: core.noop, delay: \"{{{{ vars.d }}}}\", retry: {{count: 3}}}}
"
        );
        let scene = begin(&yaml, &none());
        assert_eq!(
            scene.errors(),
            [("expression_error".to_owned(), "later".to_owned())]
        );
        assert_eq!(scene.execution.errors[0].field.as_deref(), Some("delay"));
        assert_eq!(scene.execution.counts.attempts, 0);
    }
}

const DELAYED: &str = "
ref: t.pause
tasks:
  - {name: later, action: core.noop, delay: 5}
";

#[test]
fn a_pause_holds_back_what_a_delay_lets_go() {
    let mut scene = begin(DELAYED, &none());
    scene.pause();
    assert_eq!(scene.status(), "paused");
    scene.wait();
    assert!(scene.waiting().is_empty());
    assert!(scene.execution.live[&1].held);
    assert_eq!(scene.resume(), Outcome::Applied);
    assert_eq!(scene.waiting(), ["later"]);
}

#[test]
fn a_delay_that_outlasts_a_pause_goes_on() {
    let mut scene = begin(DELAYED, &none());
    scene.pause();
    scene.resume();
    assert!(scene.waiting().is_empty());
    assert!((scene.wait() - 5.0).abs() < 1e-6);
    assert_eq!(scene.waiting(), ["later"]);
}

#[test]
fn a_cancel_ends_a_delay() {
    let mut scene = begin(DELAYED, &none());
    scene.cancel();
    assert_eq!(scene.status(), "cancelled");
    assert_eq!(scene.ends(), [("later".to_owned(), "cancelled")]);
    assert!(scene.timers.is_empty());
}

#[test]
fn a_failure_elsewhere_ends_a_delay() {
    let yaml = "
ref: t.failing
tasks:
  - {name: bad, action: core.noop}
  - {name: later, action: core.noop, delay: 5}
";
    let mut scene = begin(yaml, &none());
    scene.fail("bad", "broken");
    assert_eq!(scene.status(), "failed");
    assert!(scene.timers.is_empty());
    assert_eq!(scene.execution.counts.omitted, 1);
}

#[test]
fn what_stands_beside_fail_runs_without_its_delay() {
    let yaml = "
ref: t.beside
tasks:
  - {name: a, action: core.noop, on_success: [log, fail]}
  - {name: log, action: core.noop, delay: 5}
";
    let mut scene = begin(yaml, &none());
    scene.succeed("a", &json!(null));
    assert_eq!(scene.waiting(), ["log"]);
    scene.succeed("log", &json!(null));
    assert_eq!(scene.status(), "failed");
}
