//! Retries and time limits.

use flotilla_protocol::message::{CompletionStatus, TaskError};
use serde_json::json;

use crate::harness::{begin, none};

#[test]
fn a_failed_attempt_is_retried_after_its_delay() {
    let yaml = "
ref: t.retry
tasks:
  - name: a
    action: core.noop
    retry: {count: 3, delay: 2, backoff: exponential, factor: 3, max_delay: 10}
    input: {attempt: \"{{ system.attempt }}\"}
";
    let mut scene = begin(yaml, &none());
    for (attempt, delay) in [(1, 2.0), (2, 6.0), (3, 10.0)] {
        assert_eq!(scene.input("a"), json!({"attempt": attempt}));
        scene.fail("a", "broken");
        assert!(scene.jobs.is_empty());
        assert!((scene.wait() - delay).abs() < 1e-6);
    }
    scene.fail("a", "broken");
    assert_eq!(scene.status(), "failed");
    assert_eq!(scene.execution.counts.attempts, 4);
    assert_eq!(scene.execution.counts.failed, 1);
}

#[test]
fn an_action_can_ask_for_a_longer_delay_within_the_longest_one() {
    let yaml = "
ref: t.patience
tasks:
  - name: a
    action: core.noop
    retry: {count: 5, delay: 2, max_delay: 10}
";
    let mut scene = begin(yaml, &none());
    for (details, delay) in [
        (json!({"retry_after": 7.5}), 7.5),
        (json!({"retry_after": 1}), 2.0),
        (json!({"retry_after": 3_600}), 10.0),
        (json!({"retry_after": "soon"}), 2.0),
        (json!([-1]), 2.0),
    ] {
        let job = scene.job("a");
        let error = TaskError {
            kind: "http_status".to_owned(),
            message: "no".to_owned(),
            retryable: Some(true),
            details: serde_json::value::to_raw_value(&details).ok(),
        };
        scene.answer(&job, CompletionStatus::Failed, None, Some(error));
        assert!((scene.wait() - delay).abs() < 1e-6, "{details}");
    }
}

#[test]
fn without_a_delay_the_next_attempt_follows_at_once() {
    let yaml = "ref: t.at_once\ntasks:\n  - {name: a, action: core.noop, retry: {count: 1}}\n";
    let mut scene = begin(yaml, &none());
    scene.fail("a", "broken");
    assert_eq!(scene.waiting(), ["a"]);
    assert_eq!(scene.jobs[0].attempt, 2);
    scene.succeed("a", &json!(null));
    assert_eq!(scene.status(), "succeeded");
    assert_eq!(
        scene.log[1..],
        [
            "task_dispatched ->dispatched",
            "task_retry_scheduled dispatched>retrying",
            "task_dispatched retrying>dispatched",
            "task_ended dispatched>succeeded",
            "execution_status_changed running>succeeded",
        ]
    );
}

#[test]
fn an_error_that_is_not_retryable_is_not_retried() {
    let yaml = "ref: t.final\ntasks:\n  - {name: a, action: core.noop, retry: {count: 5}}\n";
    let mut scene = begin(yaml, &none());
    scene.fail_for_good("a");
    assert_eq!(scene.status(), "failed");
    assert_eq!(scene.execution.counts.attempts, 1);
}

#[test]
fn a_retry_condition_is_looked_at_after_success_too() {
    let yaml = "
ref: t.poll
tasks:
  - name: poll
    action: core.noop
    retry: {count: 2, when: \"{{ result().state != 'ready' }}\"}
    on_success: use
  - {name: use, action: core.noop}
";
    let mut scene = begin(yaml, &none());
    for _ in 0..3 {
        scene.succeed("poll", &json!({"state": "pending"}));
    }
    assert_eq!(scene.waiting(), ["use"], "the last attempt's status stands");
    assert_eq!(scene.execution.counts.attempts, 4);
}

#[test]
fn a_timeout_takes_its_own_route_or_else_that_of_a_failure() {
    let own = "
ref: t.timeout
tasks:
  - {name: a, action: core.noop, on_failure: failed, on_timeout: late}
  - {name: failed, action: core.noop}
  - {name: late, action: core.noop}
";
    let mut scene = begin(own, &none());
    scene.time_out("a");
    assert_eq!(scene.waiting(), ["late"]);

    let other = "
ref: t.timeout2
tasks:
  - {name: a, action: core.noop, on_failure: failed}
  - {name: failed, action: core.noop, input: {kind: \"{{ task.a.status }}\"}}
";
    let mut scene = begin(other, &none());
    scene.time_out("a");
    assert_eq!(scene.input("failed"), json!({"kind": "timed_out"}));
    assert_eq!(scene.execution.counts.timed_out, 1);
}

#[test]
fn an_attempt_that_is_seen_running_has_a_deadline() {
    let yaml = "ref: t.deadline\ntasks:\n  - {name: a, action: core.noop, timeout: 30, retry: {count: 1}}\n";
    let mut scene = begin(yaml, &none());
    assert!(
        scene.timers.is_empty(),
        "no timer before somebody has said that it runs"
    );
    scene.started("a");
    assert_eq!(scene.timers.len(), 1);
    scene.jobs.clear();
    assert!(
        (scene.wait() - 35.0).abs() < 1e-6,
        "the limit, and time for the worker to report it"
    );
    assert_eq!(scene.waiting(), ["a"], "retried like a failure");
    scene.succeed("a", &json!(null));
    assert_eq!(scene.status(), "succeeded");
    assert!(scene.timers.is_empty());
}

#[test]
fn count_delay_and_timeout_may_be_templates() {
    let yaml = "
ref: t.templates
parameters: {tries: {type: integer, default: 2}, gap: {type: number, default: 5}}
tasks:
  - name: flaky
    action: core.noop
    retry: {count: \"{{ parameters.tries }}\", delay: \"{{ parameters.gap }}\"}
    timeout: \"{{ parameters.gap * 2 }}\"
";
    let mut scene = begin(yaml, &none());
    assert_eq!(scene.jobs[0].timeout, Some(10.0));
    for _ in 0..2 {
        scene.fail("flaky", "broken");
        assert!((scene.wait() - 5.0).abs() < 1e-6);
    }
    scene.succeed("flaky", &json!(null));
    assert_eq!(scene.status(), "succeeded");
    assert_eq!(scene.execution.counts.attempts, 3);
}

#[test]
fn a_template_that_gives_no_such_number_fails_the_task() {
    for (field, bad) in [
        ("retry.count", "retry: {count: \"{{ -1 }}\"}"),
        ("timeout", "timeout: \"{{ 0 }}\""),
        ("concurrency", "with_items: [1], concurrency: \"{{ 0 }}\""),
    ] {
        let yaml = format!("ref: t.bad\ntasks: [{{name: a, action: core.noop, {bad}}}]");
        let scene = begin(&yaml, &none());
        assert_eq!(
            scene.errors(),
            [("expression_error".to_owned(), "a".to_owned())]
        );
        assert_eq!(scene.execution.errors[0].field.as_deref(), Some(field));
    }
}

#[test]
fn a_timeout_of_null_is_none() {
    let yaml = "ref: t.null\ntasks: [{name: a, action: core.noop, timeout: null}]";
    let mut scene = begin(yaml, &none());
    assert_eq!(scene.jobs[0].timeout, None);
    scene.started("a");
    assert!(scene.timers.is_empty());
}

#[test]
fn each_item_has_its_own_time_limit_and_retries() {
    let yaml = "
ref: t.item_limits
tasks:
  - {name: a, action: core.noop, with_items: [1, 2], timeout: 5, retry: {count: 1}, on_timeout: late, on_failure: bad}
  - {name: late, action: core.noop}
  - {name: bad, action: core.noop}
";
    let mut scene = begin(yaml, &none());
    scene.time_out("a");
    assert_eq!(scene.waiting(), ["a", "a"], "it is retried");
    scene.succeed("a", &json!(null));
    scene.time_out("a");
    assert_eq!(
        scene.waiting(),
        ["bad"],
        "the task has failed: an item timed out"
    );
}
