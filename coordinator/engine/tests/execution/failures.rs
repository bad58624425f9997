//! Failures: handled, not handled, and what is ignored.

use flotilla_engine::execution::{Event, IgnoredReason, Job, Outcome};
use flotilla_protocol::TaskId;
use flotilla_protocol::message::CompletionStatus;
use serde_json::json;
use uuid::Uuid;

use crate::harness::{begin, id, none};

#[test]
fn a_handled_failure_leaves_the_execution_able_to_succeed() {
    let yaml = "
ref: t.handled
tasks:
  - {name: a, action: core.noop, on_success: b, on_failure: mend}
  - {name: b, action: core.noop}
  - {name: mend, action: core.noop}
";
    let mut scene = begin(yaml, &none());
    scene.fail("a", "broken");
    assert_eq!(scene.waiting(), ["mend"]);
    scene.succeed("mend", &json!(null));
    assert_eq!(scene.status(), "succeeded");
    assert_eq!(scene.execution.counts.failed, 1);
}

#[test]
fn a_failure_that_nothing_handles_drains_the_execution() {
    let yaml = "
ref: t.drain
tasks:
  - {name: start, action: core.noop, on_success: [a, b, c]}
  - {name: a, action: core.noop}
  - {name: b, action: core.noop, publish: [{kept: 1}], on_success: b2}
  - {name: b2, action: core.noop}
  - {name: c, action: core.noop, retry: {count: 3, delay: 60}}
";
    let mut scene = begin(yaml, &none());
    scene.succeed("start", &json!(null));
    scene.fail("c", "later");
    assert_eq!(scene.timers.len(), 1);
    scene.fail("a", "broken");
    assert_eq!(scene.status(), "failing");
    assert!(scene.timers.is_empty(), "no retry starts");
    assert_eq!(scene.waiting(), ["b"]);
    scene.succeed("b", &json!(null));
    assert_eq!(scene.status(), "failed");
    assert!(scene.jobs.is_empty(), "b2 is not dispatched");
    let failed = |kind: &str, task: &str| (kind.to_owned(), task.to_owned());
    assert_eq!(
        scene.errors(),
        [failed("broken", "a"), failed("later", "c")]
    );
    assert_eq!(
        scene.variables(),
        json!({"kept": 1}),
        "what was published while draining is kept"
    );
    assert!(scene.ends().contains(&("b2".to_owned(), "omitted")));
}

#[test]
fn fail_beside_other_targets_lets_them_run_but_not_their_successors() {
    let yaml = "
ref: t.fail
tasks:
  - {name: a, action: core.noop, on_success: [report, fail]}
  - {name: report, action: core.noop, on_success: more}
  - {name: more, action: core.noop}
";
    let mut scene = begin(yaml, &none());
    scene.succeed("a", &json!(null));
    assert_eq!(scene.waiting(), ["report"]);
    assert_eq!(scene.status(), "failing");
    scene.succeed("report", &json!(null));
    assert_eq!(scene.status(), "failed");
    assert_eq!(
        scene.errors(),
        [("explicit_fail".to_owned(), "a".to_owned())]
    );
}

#[test]
fn an_input_that_cannot_be_rendered_starts_nothing_of_the_step() {
    let yaml = "
ref: t.render
vars: {word: plain}
tasks:
  - {name: s, action: core.noop, on_success: [a, b, c]}
  - {name: a, action: \"demo.{{ vars.word.kind }}\"}
  - {name: b, action: core.noop, input: {v: \"{{ vars.word.inner }}\"}}
  - {name: c, action: core.noop}
";
    let mut scene = begin(yaml, &none());
    scene.succeed("s", &json!(null));
    assert_eq!(scene.status(), "failed");
    assert!(scene.jobs.is_empty());
    let error = |task: &str| ("expression_error".to_owned(), task.to_owned());
    assert_eq!(scene.errors(), [error("a"), error("b")]);
    assert_eq!(scene.execution.errors[1].field.as_deref(), Some("input"));
}

#[test]
fn a_rendering_error_that_is_handled_does_not_keep_the_rest_back() {
    let yaml = "
ref: t.render_handled
vars: {word: plain}
tasks:
  - {name: s, action: core.noop, on_success: [a, b]}
  - {name: a, action: core.noop, input: {v: \"{{ vars.word.inner }}\"}, on_failure: mend}
  - {name: b, action: core.noop}
  - {name: mend, action: core.noop, input: {why: \"{{ task.a.error.kind }}\"}}
";
    let mut scene = begin(yaml, &none());
    scene.succeed("s", &json!(null));
    assert_eq!(scene.waiting(), ["b", "mend"]);
    assert_eq!(scene.input("mend"), json!({"why": "expression_error"}));
}

#[test]
fn an_error_in_a_condition_takes_nothing_and_fails_the_task() {
    let yaml = "
ref: t.condition
vars: {word: plain}
tasks:
  - name: step
    action: core.noop
    next:
      - {when: \"{{ vars.word.inner.deeper }}\", do: a}
      - {when: \"{{ succeeded() }}\", do: b}
  - {name: a, action: core.noop}
  - {name: b, action: core.noop}
";
    let mut scene = begin(yaml, &none());
    scene.succeed("step", &json!(1));
    assert_eq!(scene.status(), "failed");
    assert!(scene.jobs.is_empty());
    assert_eq!(
        scene.errors(),
        [("expression_error".to_owned(), "step".to_owned())]
    );
    assert_eq!(scene.execution.counts.failed, 1);
}

#[test]
fn an_error_in_a_publish_may_be_handled_as_a_failure() {
    let yaml = "
ref: t.publish
tasks:
  - {name: a, action: core.noop, publish: [{x: \"{{ result().no }}\"}], on_success: b, on_failure: mend}
  - {name: b, action: core.noop}
  - {name: mend, action: core.noop}
";
    let mut scene = begin(yaml, &none());
    scene.succeed("a", &json!({"yes": 1}));
    assert_eq!(scene.waiting(), ["mend"]);
    assert_eq!(
        scene.variables(),
        json!({}),
        "nothing of the list is published"
    );
}

#[test]
fn a_second_completion_and_one_of_an_earlier_attempt_are_ignored() {
    let yaml = "
ref: t.duplicates
tasks:
  - {name: a, action: core.noop, retry: {count: 1}, on_success: b}
  - {name: b, action: core.noop}
";
    let mut scene = begin(yaml, &none());
    let first = scene.jobs[0].clone();
    scene.fail("a", "broken");
    let second = scene.jobs[0].clone();
    assert_eq!(second.attempt, 2);
    let succeeded = CompletionStatus::Succeeded;
    let before = scene.log.len();
    assert_eq!(
        scene.answer(&first, succeeded, None, None),
        Outcome::Ignored(IgnoredReason::StaleAttempt)
    );
    assert_eq!(
        scene.answer(&second, succeeded, None, None),
        Outcome::Applied
    );
    assert_eq!(
        scene.answer(&second, succeeded, None, None),
        Outcome::Ignored(IgnoredReason::AlreadyCompleted)
    );
    scene.jobs.retain(|job| &*job.task == "b");
    scene.succeed("b", &json!(null));
    assert_eq!(
        scene.answer(&second, succeeded, None, None),
        Outcome::Ignored(IgnoredReason::ExecutionFinished)
    );
    let mut stranger = id(&second);
    stranger.task_id = TaskId(Uuid::from_u128(7));
    let event = Event::AttemptStarted {
        attempt: stranger,
        worker: None,
        started_at: None,
    };
    assert_eq!(
        scene.apply(&event),
        Outcome::Ignored(IgnoredReason::UnknownTask)
    );
    assert_eq!(
        scene.log.len(),
        before + 4,
        "ignored messages leave no trace in the log"
    );
}

#[test]
fn a_job_whose_workers_die_is_given_up() {
    let yaml = "
ref: t.lost
tasks:
  - {name: a, action: core.noop, max_redeliveries: 2, retry: {count: 3}}
";
    let mut scene = begin(yaml, &none());
    for _ in 0..3 {
        assert_eq!(scene.started("a"), Outcome::Applied);
        assert_eq!(scene.status(), "running");
    }
    scene.started("a");
    assert_eq!(scene.status(), "failed", "without a retry");
    assert_eq!(scene.errors(), [("worker_lost".to_owned(), "a".to_owned())]);
}

#[test]
fn a_dead_job_is_sent_again_unless_its_workers_died() {
    let yaml = "ref: t.dead\ntasks:\n  - {name: a, action: core.noop}\n";
    let mut scene = begin(yaml, &none());
    let job = scene.job("a");
    let died = |reason: &str| Event::JobDied {
        attempt: id(&job),
        reason: reason.to_owned(),
    };
    assert_eq!(scene.apply(&died("delivery_limit")), Outcome::Applied);
    assert_eq!(scene.waiting(), ["a"]);
    let again = Job {
        resent: true,
        ..job.clone()
    };
    assert_eq!(scene.jobs[0], again, "the same attempt");
    scene.apply(&died("not_json"));
    assert_eq!(
        scene.errors(),
        [("contract_violation".to_owned(), "a".to_owned())]
    );
}

#[test]
fn what_stands_beside_fail_runs_though_its_dispatch_was_put_off() {
    let large = "x".repeat(1_000_000);
    let targets: Vec<String> = (0..10).map(|no| format!("b{no}")).collect();
    let tasks: Vec<String> = targets
        .iter()
        .map(|name| {
            format!("  - {{name: {name}, action: core.noop, input: {{x: \"{{{{ parameters.x }}}}\"}}, on_success: z}}\n")
        })
        .collect();
    let yaml = format!(
        "
ref: t.many
parameters: {{x: {{type: string}}}}
tasks:
  - {{name: a, action: core.noop, on_success: [fail, {}]}}
{}  - {{name: z, action: core.noop}}
",
        targets.join(", "),
        tasks.concat()
    );
    let mut scene = begin(&yaml, &json!({"x": large}));
    scene.succeed("a", &json!(null));
    assert_eq!(scene.status(), "failing");
    assert!(scene.waiting().len() < 10, "a step sends so many bytes");
    while scene.waiting().len() < 10 {
        scene.wait();
    }
    for target in &targets {
        scene.succeed(target, &json!(null));
    }
    assert_eq!(scene.status(), "failed");
    assert_eq!(scene.execution.counts.succeeded, 11);
}
