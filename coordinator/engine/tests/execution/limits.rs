//! Time limits: over all attempts of a task, of its silence, and of the execution as a whole.

use flotilla_engine::execution::{Event, IgnoredReason, NO_RUN, Outcome, TimerKind};
use serde_json::json;

use crate::harness::{Scene, begin, id, none};

const TOTAL: &str = "
ref: t.total
tasks:
  - name: slow
    action: core.noop
    total_timeout: 10
    retry: {count: 100, delay: 3}
    on_timeout: late
  - {name: late, action: core.noop}
";

fn pass(scene: &mut Scene, seconds: i64) {
    scene.now += chrono::TimeDelta::seconds(seconds);
}

#[test]
fn a_total_timeout_cuts_the_wait_for_the_next_attempt() {
    let mut scene = begin(TOTAL, &none());
    for _ in 0..2 {
        pass(&mut scene, 1);
        scene.fail("slow", "broken");
        assert!((scene.wait() - 3.0).abs() < 1e-6);
    }
    pass(&mut scene, 1);
    scene.fail("slow", "broken");
    assert_eq!(scene.timers[&1].0, TimerKind::TotalTimeout);
    assert!((scene.wait() - 1.0).abs() < 1e-6, "not the delay of 3 s");
    assert_eq!(scene.ends(), [("slow".to_owned(), "timed_out")]);
    assert_eq!(scene.waiting(), ["late"]);
    assert_eq!(scene.execution.counts.attempts, 4);
    assert!(scene.cancels.is_empty(), "no worker had it");
}

#[test]
fn a_total_timeout_stops_the_attempt_that_runs_and_ignores_its_answer() {
    let mut scene = begin(TOTAL, &none());
    assert_eq!(scene.timers[&1].0, TimerKind::TotalTimeout);
    scene.started("slow");
    let attempt = id(&scene.jobs[0]);
    assert!((scene.wait() - 10.0).abs() < 1e-6, "before its own limit");
    assert_eq!(scene.ends(), [("slow".to_owned(), "timed_out")]);
    assert_eq!(scene.cancels.len(), 1);
    assert_eq!(scene.cancels[0].task_id, attempt.task_id);
    let late = scene.succeed("slow", &json!(1));
    assert_eq!(late, Outcome::Ignored(IgnoredReason::AlreadyCompleted));
    assert_eq!(scene.waiting(), ["late"], "there is no retry");
    assert!(scene.timers.is_empty());
}

#[test]
fn a_total_timeout_that_is_not_reached_leaves_no_timer() {
    let mut scene = begin(TOTAL, &none());
    scene.succeed("slow", &json!(1));
    assert_eq!(scene.status(), "succeeded");
    assert!(scene.timers.is_empty());
}

#[test]
fn the_delay_is_no_part_of_the_total_time() {
    let yaml = "
ref: t.both
tasks:
  - {name: a, action: core.noop, delay: 5, total_timeout: 3}
";
    let mut scene = begin(yaml, &none());
    assert!((scene.wait() - 5.0).abs() < 1e-6);
    assert_eq!(scene.waiting(), ["a"]);
    assert!((scene.wait() - 3.0).abs() < 1e-6);
    assert_eq!(
        scene.errors(),
        [("task_timeout".to_owned(), "a".to_owned())]
    );
}

#[test]
fn a_total_timeout_during_a_pause_acts_at_resume_on_what_only_waits() {
    let mut scene = begin(TOTAL, &none());
    pass(&mut scene, 8);
    scene.fail("slow", "broken");
    scene.pause();
    assert!((scene.wait() - 2.0).abs() < 1e-6);
    assert!(scene.ends().is_empty());
    assert_eq!(scene.status(), "paused");
    scene.resume();
    assert_eq!(scene.ends(), [("slow".to_owned(), "timed_out")]);
    assert_eq!(scene.waiting(), ["late"]);
}

#[test]
fn what_a_pause_held_back_keeps_its_total_timeout() {
    let mut scene = begin(TOTAL, &none());
    pass(&mut scene, 1);
    scene.fail("slow", "broken");
    scene.pause();
    assert!((scene.wait() - 3.0).abs() < 1e-6);
    assert!(scene.execution.live[&1].held);
    scene.resume();
    assert_eq!(scene.waiting(), ["slow"], "there is time left");
    assert!((scene.wait() - 6.0).abs() < 1e-6);
    assert_eq!(scene.ends(), [("slow".to_owned(), "timed_out")]);
}

#[test]
fn a_job_that_is_sent_again_keeps_the_total_timeout() {
    let mut scene = begin(TOTAL, &none());
    let attempt = id(&scene.jobs[0]);
    scene.apply(&Event::AttemptAcknowledged {
        attempt,
        worker: None,
        started_at: None,
        heartbeat_s: 4.0,
    });
    assert_eq!(scene.timers[&1].0, TimerKind::Heartbeat);
    assert!((scene.wait() - 4.0).abs() < 1e-6);
    assert_eq!(scene.jobs.len(), 2, "the same attempt, once more");
    assert!((scene.wait() - 6.0).abs() < 1e-6);
    assert_eq!(scene.ends(), [("slow".to_owned(), "timed_out")]);
}

const ITEMS: &str = "
ref: t.whole
tasks:
  - name: a
    action: core.noop
    with_items: [1, 2, 3, 4]
    concurrency: 2
    total_timeout: 10
    retry: {count: 1, delay: 60}
    on_timeout: late
    publish: [r]
  - name: late
    action: core.noop
    input: {so_far: \"{{ task.a.result }}\"}
";

#[test]
fn a_total_timeout_of_a_task_with_items_is_over_the_whole() {
    let mut scene = begin(ITEMS, &none());
    pass(&mut scene, 4);
    scene.succeed("a", &json!("one"));
    scene.fail("a", "broken");
    assert_eq!(scene.waiting(), ["a"], "the second waits for its retry");
    assert!((scene.wait() - 6.0).abs() < 1e-6);
    assert_eq!(scene.cancels.len(), 1, "of the item that runs");
    let ends = scene.ends();
    let word = |at: usize| ends[at].1;
    assert_eq!(word(0), "succeeded");
    assert_eq!(word(1), "timed_out", "the whole comes before its items");
    assert_eq!((word(2), word(3)), ("cancelled", "cancelled"));
    assert_eq!(
        scene.input("late"),
        json!({"so_far": ["one", null, null, null]})
    );
    let late = scene.succeed("a", &json!("three"));
    assert_eq!(late, Outcome::Ignored(IgnoredReason::AlreadyCompleted));
    assert!(scene.timers.is_empty());
    scene.succeed("late", &json!(null));
    assert_eq!(scene.status(), "succeeded");
}

#[test]
fn a_cancel_takes_the_place_of_a_total_timeout() {
    let mut scene = begin(ITEMS, &none());
    scene.cancel();
    let kinds: Vec<TimerKind> = scene.timers.values().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, [TimerKind::Cancel, TimerKind::Cancel]);
    scene.stop("a");
    scene.stop("a");
    assert_eq!(scene.status(), "cancelled");
}

#[test]
fn items_that_are_told_to_stop_are_cut_off_by_the_total_timeout_too() {
    let yaml = ITEMS.replace("retry: {count: 1, delay: 60}", "on_item_failure: cancel");
    let mut scene = begin(&yaml, &none());
    scene.fail("a", "broken");
    assert_eq!(scene.execution.live.len(), 2, "the whole, and one to stop");
    scene.wait();
    assert_eq!(scene.waiting(), ["a", "late"]);
    assert!(scene.timers.is_empty());
}

const SILENT: &str = "
ref: t.silent
tasks:
  - name: long
    action: core.noop
    timeout: 1000
    heartbeat: 10
    retry: {count: 1}
    on_timeout: late
  - {name: late, action: core.noop}
";

#[test]
fn silence_ends_an_attempt_whose_task_says_how_long_it_may_be_silent() {
    let mut scene = begin(SILENT, &none());
    assert_eq!(scene.jobs[0].heartbeat, Some(10.0));
    assert!(scene.timers.is_empty(), "it has not begun");
    scene.started("long");
    let first = scene.job("long");
    assert!((scene.wait() - 10.0).abs() < 1e-6);
    assert_eq!(scene.cancels.len(), 1);
    assert_eq!(scene.waiting(), ["long"], "it is retried like a failure");
    assert_eq!(scene.jobs[0].attempt, 2);
    let late = scene.apply(&Event::AttemptStarted {
        attempt: id(&first),
        worker: None,
        started_at: None,
    });
    assert_eq!(late, Outcome::Ignored(IgnoredReason::StaleAttempt));
    scene.started("long");
    scene.wait();
    assert_eq!(scene.ends(), [("long".to_owned(), "timed_out")]);
    assert_eq!(scene.jobs.last().map(|job| &*job.task), Some("late"));
}

#[test]
fn the_task_s_own_silence_counts_for_acknowledged_jobs_too() {
    let mut scene = begin(SILENT, &none());
    let attempt = id(&scene.jobs[0]);
    scene.apply(&Event::AttemptAcknowledged {
        attempt,
        worker: None,
        started_at: None,
        heartbeat_s: 60.0,
    });
    assert!((scene.wait() - 10.0).abs() < 1e-6);
    assert_eq!(scene.execution.live[&1].attempt, 2);
}

const WHOLE: &str = "
ref: t.limit
timeout: 20
tasks:
  - {name: a, action: core.noop, timeout: 5, on_complete: b}
  - {name: b, action: core.noop}
output_map: {status: \"{{ system.status }}\"}
";

#[test]
fn the_timeout_of_a_workflow_cancels_what_runs_and_ends_it_as_timed_out() {
    let mut scene = begin(WHOLE, &none());
    assert_eq!(scene.timers[&NO_RUN].0, TimerKind::ExecutionTimeout);
    assert!((scene.wait() - 20.0).abs() < 1e-6);
    assert_eq!(scene.status(), "cancelling");
    assert_eq!(scene.cancels.len(), 1);
    assert_eq!(scene.details.last(), Some(&json!({"timeout": 20.0})));
    scene.stop("a");
    assert_eq!(scene.status(), "timed_out");
    assert_eq!(scene.ends(), [("a".to_owned(), "cancelled")]);
    let error = ("workflow_timeout".to_owned(), String::new());
    assert_eq!(scene.errors(), [error]);
    assert_eq!(scene.output(), json!({"status": "timed_out"}));
    assert!(scene.timers.is_empty());
}

#[test]
fn a_worker_that_does_not_stop_does_not_hold_a_timeout_up() {
    let mut scene = begin(WHOLE, &none());
    scene.wait();
    assert!((scene.wait() - 5.0).abs() < 1e-6);
    assert_eq!(scene.status(), "timed_out");
}

#[test]
fn the_timeout_of_a_workflow_ends_what_only_waits_at_once() {
    let yaml = "ref: t.idle\ntimeout: 2\ntasks:\n  - {name: a, delay: 60}\n";
    let mut scene = begin(yaml, &none());
    assert!((scene.wait() - 2.0).abs() < 1e-6);
    assert_eq!(scene.status(), "timed_out");
    assert_eq!(scene.ends(), [("a".to_owned(), "cancelled")]);
}

#[test]
fn an_execution_that_ends_in_time_leaves_no_timer() {
    let mut scene = begin(WHOLE, &none());
    scene.succeed("a", &json!(null));
    scene.succeed("b", &json!(null));
    assert_eq!(scene.status(), "succeeded");
    assert!(scene.timers.is_empty());
}

#[test]
fn the_timeout_of_a_workflow_acts_at_resume_if_it_ran_out_during_a_pause() {
    let mut scene = begin(WHOLE, &none());
    scene.pause();
    assert!(scene.timers.is_empty(), "a pause has no limit");
    pass(&mut scene, 30);
    scene.succeed("a", &json!(null));
    assert_eq!(scene.status(), "paused");
    scene.resume();
    assert!(scene.waiting().is_empty(), "b does not start any more");
    assert_eq!(scene.status(), "timed_out");
}

#[test]
fn after_a_pause_the_timeout_of_a_workflow_is_where_it_was() {
    let mut scene = begin(WHOLE, &none());
    pass(&mut scene, 5);
    scene.pause();
    pass(&mut scene, 5);
    scene.resume();
    assert!((scene.wait() - 10.0).abs() < 1e-6);
    assert_eq!(scene.status(), "cancelling");
}

#[test]
fn an_execution_that_fails_while_it_is_paused_has_its_limit_again() {
    let yaml = "
ref: t.failing
timeout: 20
tasks:
  - {name: a, action: core.noop}
  - {name: b, action: core.noop, timeout: 60}
";
    let mut scene = begin(yaml, &none());
    scene.pause();
    scene.fail("a", "broken");
    assert_eq!(scene.status(), "failing");
    scene.wait();
    scene.stop("b");
    assert_eq!(scene.status(), "timed_out");
    let kinds: Vec<String> = scene.errors().into_iter().map(|error| error.0).collect();
    assert_eq!(kinds, ["broken", "workflow_timeout"]);
}

#[test]
fn a_cancel_comes_before_a_timeout_that_follows_it() {
    let mut scene = begin(WHOLE, &none());
    scene.cancel();
    let late = Event::TimerFired {
        run: NO_RUN,
        kind: TimerKind::ExecutionTimeout,
    };
    pass(&mut scene, 30);
    assert_eq!(scene.apply(&late), Outcome::Nothing);
    scene.stop("a");
    assert_eq!(scene.status(), "cancelled");
}

#[test]
fn a_timer_that_fires_too_early_does_nothing() {
    let mut scene = begin(WHOLE, &none());
    let early = Event::TimerFired {
        run: NO_RUN,
        kind: TimerKind::ExecutionTimeout,
    };
    assert_eq!(scene.apply(&early), Outcome::Nothing);
    let early = Event::TimerFired {
        run: 1,
        kind: TimerKind::TotalTimeout,
    };
    assert_eq!(scene.apply(&early), Outcome::Nothing);
    assert_eq!(scene.status(), "running");
}

#[test]
fn a_task_s_own_error_of_that_kind_is_no_timeout_of_the_workflow() {
    let yaml = "
ref: t.fake
tasks:
  - {name: a, action: core.noop}
  - {name: b, action: core.noop}
";
    let mut scene = begin(yaml, &none());
    scene.fail("a", "workflow_timeout");
    scene.cancel();
    scene.stop("b");
    assert_eq!(scene.status(), "cancelled");
}

#[test]
fn a_total_timeout_during_a_pause_acts_at_resume_on_items_that_wait_for_room() {
    let mut scene = begin(ITEMS, &none());
    pass(&mut scene, 1);
    scene.pause();
    scene.succeed("a", &json!("one"));
    scene.succeed("a", &json!("two"));
    assert_eq!(scene.status(), "paused");
    assert!((scene.wait() - 9.0).abs() < 1e-6);
    assert_eq!(scene.status(), "paused");
    assert!(scene.timers.is_empty());
    scene.resume();
    assert_eq!(scene.ends().last(), Some(&("a".to_owned(), "timed_out")));
    assert_eq!(scene.waiting(), ["late"]);
}

#[test]
fn more_than_ten_years_are_ten_years() {
    let yaml = "
ref: t.never
tasks:
  - {name: a, action: core.noop, timeout: 999999999}
";
    let scene = begin(yaml, &none());
    assert_eq!(scene.waiting(), ["a"]);
    assert_eq!(scene.execution.live[&1].timeout, Some(315_360_000.0));
}
