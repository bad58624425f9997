//! Acknowledged jobs, and workers that fall silent.

use flotilla_engine::execution::{Event, IgnoredReason, Outcome, TimerKind};
use serde_json::json;

use crate::harness::{Scene, begin, id, none};

const ONE: &str = "
ref: t.long
tasks:
  - {name: a, action: core.noop, timeout: 3600, max_redeliveries: 1, retry: {count: 3}}
";

fn acknowledge(scene: &mut Scene) -> Outcome {
    let attempt = id(scene.jobs.last().expect("a job waits"));
    scene.apply(&Event::AttemptAcknowledged {
        attempt,
        worker: Some("w".to_owned()),
        started_at: None,
        heartbeat_s: 20.0,
    })
}

#[test]
fn an_acknowledgement_goes_on_with_the_run_and_silence_counts_from_then_on() {
    let mut scene = begin(ONE, &none());
    scene.started("a");
    assert_eq!(scene.timers[&1].0, TimerKind::Deadline);
    assert_eq!(acknowledge(&mut scene), Outcome::Applied);
    assert_eq!(scene.execution.live[&1].starts, 1, "the same start");
    let due = scene.now + chrono::TimeDelta::seconds(20);
    assert_eq!(scene.timers[&1], (TimerKind::Heartbeat, due));
    assert_eq!(scene.execution.hear(id(&scene.jobs[0])), Ok(1));
    scene.succeed("a", &json!(null));
    assert!(scene.timers.is_empty());
    assert_eq!(scene.status(), "succeeded");
}

#[test]
fn silence_sends_the_same_attempt_again_until_too_many_workers_have_died() {
    let mut scene = begin(ONE, &none());
    assert_eq!(acknowledge(&mut scene), Outcome::Applied);
    assert!((scene.wait() - 20.0).abs() < 1e-6);
    assert_eq!(
        scene.log.last().map(String::as_str),
        Some("job_resent running>dispatched")
    );
    assert!(scene.timers.is_empty());
    assert_eq!((scene.jobs.len(), scene.jobs[1].attempt), (2, 1));
    assert_eq!((scene.jobs[0].starts, scene.jobs[1].starts), (0, 1));
    assert_eq!(scene.execution.counts.attempts, 1, "it is no retry");

    acknowledge(&mut scene);
    assert_eq!(scene.execution.live[&1].starts, 2);
    scene.wait();
    assert_eq!(scene.errors(), [("worker_lost".to_owned(), "a".to_owned())]);
    assert_eq!(scene.status(), "failed", "without a retry");
}

#[test]
fn a_job_that_comes_back_after_all_is_the_broker_s_again() {
    let yaml = "ref: t.back\ntasks:\n  - {name: a, action: core.noop, timeout: null}\n";
    let mut scene = begin(yaml, &none());
    acknowledge(&mut scene);
    assert_eq!(scene.timers[&1].0, TimerKind::Heartbeat);
    scene.started("a");
    assert!(scene.timers.is_empty());
    assert_eq!(scene.execution.live[&1].starts, 2);
}

#[test]
fn the_answer_of_a_worker_that_was_silent_counts_if_it_is_the_first() {
    let mut scene = begin(ONE, &none());
    acknowledge(&mut scene);
    scene.wait();
    assert_eq!(scene.execution.hear(id(&scene.jobs[0])), Ok(1));
    scene.jobs.truncate(1);
    scene.succeed("a", &json!(null));
    assert_eq!(scene.status(), "succeeded");
}

#[test]
fn a_cancelled_job_has_its_time_and_nobody_waits_for_what_has_ended() {
    let mut scene = begin(ONE, &none());
    acknowledge(&mut scene);
    scene.cancel();
    assert_eq!(scene.timers[&1].0, TimerKind::Cancel);
    let silence = Event::TimerFired {
        run: 1,
        kind: TimerKind::Heartbeat,
    };
    assert_eq!(scene.apply(&silence), Outcome::Nothing);
    let attempt = id(&scene.jobs[0]);
    scene.stop("a");
    assert_eq!(scene.status(), "cancelled");
    assert_eq!(
        scene.execution.hear(attempt),
        Err(IgnoredReason::ExecutionFinished)
    );
    assert_eq!(
        acknowledge_again(&mut scene, attempt),
        Outcome::Ignored(IgnoredReason::ExecutionFinished)
    );
}

fn acknowledge_again(scene: &mut Scene, attempt: flotilla_engine::execution::AttemptId) -> Outcome {
    scene.apply(&Event::AttemptAcknowledged {
        attempt,
        worker: None,
        started_at: None,
        heartbeat_s: 1.0,
    })
}
