//! Cancel.

use flotilla_engine::execution::{
    Command, ControlRefusal, Event, IgnoredReason, JobCancel, Outcome, TimerKind,
};
use serde_json::json;

use crate::harness::{Scene, begin, id, none};

const ONE: &str = "
ref: t.one
vars: {x: 0}
tasks:
  - {name: a, action: core.noop, timeout: 30, publish: [{x: \"{{ result() }}\"}], next: [{when: \"{{ failed() }}\", do: fix}, {when: \"{{ succeeded() }}\", do: more}]}
  - {name: fix, action: core.noop}
  - {name: more, action: core.noop}
output_map: {status: \"{{ system.status }}\", x: \"{{ vars.x }}\", bad: \"{{ 1 / 0 }}\"}
";
const WAITS: &str = "
ref: t.waits
tasks:
  - {name: a, action: core.noop, on_success: j}
  - {name: b, action: core.noop, retry: {count: 1, delay: 60}}
  - {name: c, action: core.noop, on_success: j}
  - {name: j, join: all, action: core.noop}
";

fn grace(scene: &mut Scene) -> f64 {
    assert!(
        scene
            .timers
            .values()
            .all(|(kind, _)| *kind == TimerKind::Cancel)
    );
    scene.wait()
}

#[test]
fn a_worker_that_stops_ends_the_execution_as_cancelled() {
    let mut scene = begin(ONE, &none());
    let at = scene.log.len();
    let command = Event::Controlled {
        command: Command::Cancel {
            reason: Some("late".to_owned()),
        },
        message_id: Some("m-1".to_owned()),
    };
    assert_eq!(scene.apply(&command), Outcome::Applied);
    assert_eq!(scene.status(), "cancelling");
    let expected = JobCancel {
        task_id: scene.execution.task_id(1),
        attempt: 1,
        reason: Some("late".to_owned()),
    };
    assert_eq!(scene.cancels, [expected]);
    scene.stop("a");
    assert_eq!(scene.status(), "cancelled");
    assert!(scene.jobs.is_empty(), "no route is taken");
    assert!(scene.timers.is_empty());
    assert_eq!(scene.errors(), []);
    assert_eq!(scene.execution.counts.cancelled, 1);
    assert_eq!(
        scene.output(),
        json!({"status": "cancelled", "x": 0}),
        "what of the output can be evaluated"
    );
    assert_eq!(
        scene.log[at..],
        [
            "control_applied ->-",
            "execution_status_changed running>cancelling",
            "task_ended dispatched>cancelled",
            "execution_status_changed cancelling>cancelled",
        ]
    );
    let error = scene.ended[0]
        .ended
        .as_ref()
        .map(|end| end.error.text().to_owned());
    assert!(error.is_some_and(|error| error.contains("\"cancelled\"")));
}

#[test]
fn a_natural_end_is_recorded_as_it_was_reported() {
    let mut scene = begin(ONE, &none());
    scene.cancel();
    scene.succeed("a", &json!(7));
    assert_eq!(scene.status(), "cancelled");
    assert!(scene.jobs.is_empty());
    assert_eq!(
        scene.variables(),
        json!({"x": 7}),
        "what it published is kept"
    );
    assert_eq!(scene.execution.counts.succeeded, 1);
}

#[test]
fn a_task_that_fails_during_a_cancel_is_not_retried_and_fails_nothing() {
    let yaml = "ref: t.flaky\ntasks:\n  - {name: a, action: core.noop, retry: {count: 3}}\n";
    let mut scene = begin(yaml, &none());
    scene.cancel();
    scene.fail("a", "broken");
    assert_eq!(scene.status(), "cancelled");
    assert_eq!(scene.errors(), []);
    assert_eq!(
        (
            scene.execution.counts.attempts,
            scene.execution.counts.failed
        ),
        (1, 1)
    );
}

#[test]
fn what_waits_ends_at_once() {
    let mut scene = begin(WAITS, &none());
    scene.succeed("a", &json!(null));
    scene.fail("b", "broken");
    scene.cancel();
    assert_eq!(scene.status(), "cancelling");
    assert_eq!(
        scene.ends()[1..],
        [("b".to_owned(), "cancelled"), ("j".to_owned(), "cancelled")]
    );
    assert!(
        scene.ended[1]
            .ended
            .as_ref()
            .is_some_and(|end| end.error.text().contains("broken")),
        "the error of the last attempt stays"
    );
    assert_eq!(scene.cancels.len(), 1);
    assert_eq!(scene.timers.len(), 1, "the retry has none any more");
    scene.stop("c");
    assert_eq!(scene.status(), "cancelled");
}

#[test]
fn a_worker_that_does_not_answer_holds_up_nothing() {
    let mut scene = begin(ONE, &none());
    scene.started("a");
    assert_eq!(scene.timers[&1].0, TimerKind::Deadline);
    scene.cancel();
    let run = scene.execution.live[&1].no;
    let deadline = Event::TimerFired {
        run,
        kind: TimerKind::Deadline,
    };
    assert_eq!(scene.apply(&deadline), Outcome::Nothing, "it was replaced");
    assert!(
        (grace(&mut scene) - 30.0).abs() < 1e-6,
        "its own time limit"
    );
    assert_eq!(scene.status(), "cancelled");
    assert_eq!(scene.ends(), [("a".to_owned(), "cancelled")]);
    let late = scene.succeed("a", &json!(1));
    assert_eq!(late, Outcome::Ignored(IgnoredReason::ExecutionFinished));

    let mut scene = begin(WAITS, &none());
    scene.cancel();
    assert!(
        (grace(&mut scene) - 300.0).abs() < 1e-6,
        "it has no time limit"
    );
}

#[test]
fn a_worker_that_takes_the_job_late_is_told_again() {
    let mut scene = begin(ONE, &none());
    scene.cancel();
    let due = scene.timers[&1].1;
    scene.now += chrono::TimeDelta::seconds(10);
    assert_eq!(scene.started("a"), Outcome::Applied);
    assert_eq!(scene.cancels.len(), 2);
    assert_eq!(
        scene.timers[&1],
        (TimerKind::Cancel, due),
        "it gets no more time"
    );
    assert_eq!(
        scene.log.last().map(String::as_str),
        Some("task_started dispatched>running")
    );
    scene.stop("a");
    assert_eq!(scene.status(), "cancelled");
    assert!(scene.timers.is_empty());
}

#[test]
fn a_job_that_dies_during_a_cancel_is_not_sent_again() {
    let mut scene = begin(ONE, &none());
    scene.cancel();
    let job = scene.job("a");
    scene.apply(&Event::JobDied {
        attempt: id(&job),
        reason: "delivery_limit".to_owned(),
    });
    assert_eq!(scene.status(), "cancelled");
    assert!(scene.jobs.is_empty());
    assert_eq!(scene.ends(), [("a".to_owned(), "cancelled")]);
}

#[test]
fn what_is_paused_or_failing_can_be_cancelled() {
    let mut scene = begin(ONE, &none());
    scene.pause();
    scene.succeed("a", &json!(1));
    assert_eq!(scene.status(), "paused");
    scene.cancel();
    assert_eq!(scene.status(), "cancelled");
    assert_eq!(
        scene.ends(),
        [
            ("a".to_owned(), "succeeded"),
            ("more".to_owned(), "cancelled")
        ]
    );
    assert_eq!(
        scene.log[scene.log.len() - 2],
        "task_ended waiting>cancelled"
    );
    assert!(scene.ended.iter().all(|run| !run.held));

    let mut scene = begin(WAITS, &none());
    scene.fail("a", "broken");
    assert_eq!(scene.status(), "failing");
    scene.cancel();
    scene.stop("b");
    scene.stop("c");
    assert_eq!(scene.status(), "cancelled");
    assert_eq!(scene.errors().len(), 1, "what failed before stays");
}

#[test]
fn a_second_cancel_changes_nothing() {
    let mut scene = begin(ONE, &none());
    scene.cancel();
    let (log, timers) = (scene.log.len(), scene.timers.clone());
    scene.now += chrono::TimeDelta::seconds(5);
    assert_eq!(scene.cancel(), Outcome::Applied);
    assert_eq!(scene.log[log..], ["control_applied ->-"]);
    assert_eq!((scene.cancels.len(), scene.timers.clone()), (1, timers));
    scene.stop("a");
    let refused = Outcome::Refused(ControlRefusal::AlreadyFinished);
    assert_eq!((scene.cancel(), scene.pause()), (refused, refused));
}

#[test]
fn without_a_cancel_a_worker_that_stops_has_failed() {
    let mut scene = begin(ONE, &none());
    scene.stop("a");
    assert_eq!(scene.waiting(), ["fix"]);
    assert_eq!(scene.execution.counts.failed, 1);
}
