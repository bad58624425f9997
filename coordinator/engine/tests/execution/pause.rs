//! Pause and resume.

use flotilla_engine::execution::{ControlRefusal, Outcome, TimerKind};
use serde_json::json;

use crate::harness::{Scene, begin, none};

const FORK: &str = "
ref: t.fork
tasks:
  - {name: a, action: core.noop, publish: [{x: \"{{ result() }}\"}], on_success: c}
  - {name: b, action: core.noop, on_success: d}
  - {name: c, action: core.noop, input: {x: \"{{ vars.x }}\"}}
  - {name: d, action: core.noop}
";
const ONE: &str = "ref: t.one\ntasks:\n  - {name: a, action: core.noop}\n";
const RETRY: &str = "
ref: t.retry
tasks:
  - {name: a, action: core.noop, retry: {count: 3, delay: 60}}
";

fn since(scene: &Scene, at: usize) -> Vec<&str> {
    scene.log[at..].iter().map(String::as_str).collect()
}

#[test]
fn what_runs_comes_in_and_what_follows_waits_for_the_resume() {
    let mut scene = begin(FORK, &none());
    let at = scene.log.len();
    assert_eq!(scene.pause(), Outcome::Applied);
    assert_eq!(scene.status(), "pausing");
    scene.succeed("b", &json!(null));
    scene.succeed("a", &json!(7));
    assert_eq!(scene.status(), "paused");
    assert!(scene.jobs.is_empty(), "nothing is dispatched");
    assert!(scene.timers.is_empty());
    assert!(scene.execution.live.values().all(|run| run.held));
    assert_eq!(
        since(&scene, at),
        [
            "control_applied ->-",
            "execution_status_changed running>pausing",
            "task_ended dispatched>succeeded",
            "task_ended dispatched>succeeded",
            "execution_status_changed pausing>paused",
        ]
    );
    let at = scene.log.len();
    assert_eq!(scene.resume(), Outcome::Applied);
    assert_eq!(scene.waiting(), ["d", "c"], "in the order of their numbers");
    assert_eq!(scene.input("c"), json!({"x": 7}));
    assert!(scene.execution.live.values().all(|run| !run.held));
    assert_eq!(
        since(&scene, at),
        [
            "control_applied ->-",
            "execution_status_changed paused>running",
            "task_dispatched ->dispatched",
            "task_dispatched ->dispatched",
        ]
    );
}

#[test]
fn nothing_finishes_before_the_resume() {
    let mut scene = begin(ONE, &none());
    scene.pause();
    scene.succeed("a", &json!(null));
    assert_eq!(scene.status(), "paused");
    assert!(scene.execution.live.is_empty());
    scene.resume();
    assert_eq!(scene.status(), "succeeded");
}

#[test]
fn it_is_paused_at_once_where_nothing_runs() {
    let mut scene = begin(RETRY, &none());
    scene.fail("a", "broken");
    scene.pause();
    assert_eq!(scene.status(), "paused");
    assert_eq!(scene.timers.len(), 1, "the retry keeps its timer");
    scene.resume();
    assert_eq!(scene.status(), "running");
    assert!((scene.wait() - 60.0).abs() < 1e-6, "and its time");
    assert_eq!(scene.waiting(), ["a"]);
}

#[test]
fn a_retry_that_comes_due_during_the_pause_follows_at_resume() {
    let mut scene = begin(RETRY, &none());
    scene.fail("a", "broken");
    scene.pause();
    scene.wait();
    assert!(scene.jobs.is_empty());
    assert!(scene.timers.is_empty(), "it needs no timer any more");
    assert_eq!(
        scene.log.last().map(String::as_str),
        Some("control_applied retrying>retrying")
    );
    scene.resume();
    assert_eq!((scene.waiting(), scene.jobs[0].attempt), (vec!["a"], 2));
    assert!(scene.timers.is_empty());
}

#[test]
fn a_retry_without_a_delay_waits_for_the_resume_too() {
    let yaml = "ref: t.now\ntasks:\n  - {name: a, action: core.noop, retry: {count: 1}}\n";
    let mut scene = begin(yaml, &none());
    scene.pause();
    scene.fail("a", "broken");
    assert_eq!(scene.status(), "paused");
    assert!(scene.jobs.is_empty());
    assert!(scene.timers.is_empty());
    scene.resume();
    scene.fail("a", "broken");
    assert_eq!(scene.status(), "failed");
    assert_eq!(scene.execution.counts.attempts, 2);
}

#[test]
fn dispatches_that_were_put_off_wait_for_the_resume() {
    use std::fmt::Write;
    let mut yaml = "ref: t.wide\ntasks:\n".to_owned();
    for no in 0..260 {
        writeln!(yaml, "  - {{name: t{no}, action: core.noop}}").expect("a text");
    }
    let mut scene = begin(&yaml, &none());
    assert_eq!((scene.jobs.len(), scene.timers.len()), (256, 4));
    scene.pause();
    scene.wait();
    scene.wait();
    assert_eq!((scene.jobs.len(), scene.timers.len()), (256, 2));
    scene.resume();
    assert_eq!((scene.jobs.len(), scene.timers.len()), (258, 2));
    scene.wait();
    assert_eq!((scene.jobs.len(), scene.timers.len()), (259, 1));
}

#[test]
fn a_guard_is_looked_at_when_the_run_is_released() {
    let yaml = "
ref: t.guard
vars: {open: false}
tasks:
  - {name: a, action: core.noop, on_success: c}
  - {name: b, action: core.noop}
  - {name: c, action: core.noop, when: \"{{ task.b.status == 'succeeded' }}\"}
";
    let mut scene = begin(yaml, &none());
    scene.pause();
    scene.succeed("a", &json!(null));
    scene.succeed("b", &json!(null));
    assert!(scene.ends().iter().all(|(task, _)| task != "c"));
    scene.resume();
    assert_eq!(
        scene.waiting(),
        ["c"],
        "b had not ended when the run was held back"
    );
}

#[test]
fn joins_collect_during_a_pause_and_are_released_once() {
    let yaml = "
ref: t.join
tasks:
  - {name: a, action: core.noop, on_success: c}
  - {name: b, action: core.noop, on_success: c}
  - {name: c, join: all, action: core.noop}
";
    let mut scene = begin(yaml, &none());
    scene.succeed("a", &json!(null));
    scene.pause();
    scene.succeed("b", &json!(null));
    assert!(scene.jobs.is_empty());
    scene.resume();
    assert_eq!(scene.waiting(), ["c"]);
    scene.succeed("c", &json!(null));
    assert_eq!(scene.status(), "succeeded");
}

#[test]
fn a_join_that_cannot_complete_fails_at_resume() {
    let yaml = "
ref: t.half
tasks:
  - {name: a, action: core.noop, on_success: c}
  - {name: b, action: core.noop, on_failure: c}
  - {name: c, join: all, action: core.noop}
";
    let mut scene = begin(yaml, &none());
    scene.pause();
    scene.succeed("a", &json!(null));
    scene.succeed("b", &json!(null));
    assert_eq!(scene.status(), "paused");
    scene.resume();
    assert_eq!(scene.status(), "failed");
    assert_eq!(scene.errors()[0].0, "unreachable_join");
}

#[test]
fn a_failure_that_nothing_handles_ends_the_pause() {
    let mut scene = begin(FORK, &none());
    scene.pause();
    scene.succeed("a", &json!(1));
    scene.fail("b", "broken");
    assert_eq!(scene.status(), "failed");
    assert!(scene.jobs.is_empty());
    assert!(scene.ends().contains(&("c".to_owned(), "omitted")));
    assert_eq!(
        scene.resume(),
        Outcome::Refused(ControlRefusal::AlreadyFinished)
    );
}

#[test]
fn a_failure_during_a_pause_ends_retries_that_were_held_back() {
    let yaml = "
ref: t.both
tasks:
  - {name: a, action: core.noop, retry: {count: 1}}
  - {name: b, action: core.noop}
";
    let mut scene = begin(yaml, &none());
    scene.pause();
    scene.fail("a", "later");
    scene.fail("b", "broken");
    assert_eq!(scene.status(), "failed");
    assert_eq!(
        scene.ends(),
        [("b".to_owned(), "failed"), ("a".to_owned(), "failed")]
    );
}

#[test]
fn a_run_that_cannot_be_rendered_at_resume_fails() {
    let yaml = "
ref: t.render
tasks:
  - {name: a, action: core.noop, on_success: b}
  - {name: b, action: core.noop, input: {x: \"{{ 1 / 0 }}\"}}
";
    let mut scene = begin(yaml, &none());
    scene.pause();
    scene.succeed("a", &json!(null));
    assert_eq!(scene.status(), "paused");
    scene.resume();
    assert_eq!(scene.status(), "failed");
    assert_eq!(scene.errors()[0].0, "expression_error");
}

#[test]
fn deadlines_act_during_a_pause() {
    let yaml = "ref: t.deadline\ntasks:\n  - {name: a, action: core.noop, timeout: 30}\n";
    let mut scene = begin(yaml, &none());
    scene.pause();
    scene.started("a");
    assert_eq!(scene.timers[&1].0, TimerKind::Deadline);
    scene.wait();
    assert_eq!(
        scene.status(),
        "failed",
        "else the pause would never be complete"
    );
}

#[test]
fn commands_are_refused_where_they_make_no_sense() {
    let mut scene = begin(FORK, &none());
    assert_eq!(scene.resume(), Outcome::Refused(ControlRefusal::NotPaused));
    scene.pause();
    let at = scene.log.len();
    assert_eq!(scene.pause(), Outcome::Applied, "it is in force already");
    assert_eq!(since(&scene, at), ["control_applied ->-"]);
    scene.resume();
    scene.fail("a", "broken");
    assert_eq!(scene.status(), "failing");
    let at = scene.log.len();
    assert_eq!(scene.pause(), Outcome::Refused(ControlRefusal::WrongStatus));
    assert_eq!(scene.resume(), Outcome::Refused(ControlRefusal::NotPaused));
    scene.cancel();
    assert_eq!(scene.pause(), Outcome::Refused(ControlRefusal::WrongStatus));
    assert_eq!(since(&scene, at).len(), 2, "only the cancel is in the log");
    let words = [
        ControlRefusal::AlreadyFinished,
        ControlRefusal::NotPaused,
        ControlRefusal::WrongStatus,
    ]
    .map(ControlRefusal::word);
    assert_eq!(words, ["already_finished", "not_paused", "wrong_status"]);
}

#[test]
fn a_route_to_fail_during_a_pause_holds_back_what_stands_beside_it() {
    let mut scene = begin(
        "
ref: t.beside
fail_policy: continue
tasks:
  - {name: a, action: core.noop, on_success: [fail, b]}
  - {name: b, action: core.noop, on_success: c}
  - {name: c, action: core.noop}
  - {name: other, action: core.noop}
",
        &none(),
    );
    scene.pause();
    scene.succeed("a", &json!(null));
    assert_eq!(scene.waiting(), ["other"]);
    scene.resume();
    assert_eq!(scene.waiting(), ["other", "b"]);
    scene.pause();
    scene.succeed("b", &json!(null));
    scene.resume();
    scene.succeed("other", &json!(null));
    assert_eq!(scene.status(), "failed");
    assert_eq!(scene.execution.visits, [1, 1, 0, 1], "nothing follows b");
}
