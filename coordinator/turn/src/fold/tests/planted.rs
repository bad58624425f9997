//! Differences that are planted, each of which must be found.

use flotilla_engine::Json;
use flotilla_engine::execution::{AttemptId, Event, Report, TimerKind, TransitionKind};
use flotilla_protocol::RunNo;
use flotilla_protocol::message::CompletionStatus;
use serde_json::json;

use super::{Random, Scene, WORKFLOWS, fold};
use crate::fold::{History, MAX_DIFFERENCES};

type Plant = fn(&mut History);

/// What is changed, and a word of the sentence that must say so.
const PLANTED: &[(&str, Plant)] = &[
    ("status of the execution", |h| {
        h.row.status = "failing".to_owned();
    }),
    ("finished_at of the execution", |h| {
        h.row.finished_at = Some(h.row.created_at);
    }),
    ("created_at", |h| {
        h.row.created_at -= chrono::TimeDelta::milliseconds(1);
    }),
    ("tasks_total", |h| h.row.counts.total += 1),
    ("tasks_active", |h| h.row.counts.active += 1),
    ("tasks_succeeded", |h| h.row.counts.succeeded += 1),
    ("attempts_total", |h| h.row.counts.attempts += 1),
    ("visits", |h| h.row.visits[0] += 1),
    ("last_run", |h| h.row.last_run += 1),
    ("last_write", |h| h.row.last_write += 1),
    ("last_seq", |h| h.row.last_seq += 1),
    ("live_runs", |h| h.row.live_runs.clear()),
    ("ends", |h| h.row.ends = Json::of(&json!({}))),
    ("errors", |h| {
        h.row.errors = Json::of(&json!([{"kind": "k"}]));
    }),
    ("output", |h| h.row.output = Some(Json::of(&json!({})))),
    ("not the one that was started", |h| {
        h.row.definition_hash.0[0] ^= 1;
    }),
    ("the stored parameters are refused", |h| {
        h.row.parameters = Json::of(&json!({"n": "x"}));
    }),
    ("value of write 2", |h| {
        h.row.parameters = Json::of(&json!({"n": 1, "s": "t"}));
    }),
    ("status of run 2", |h| {
        h.tasks[1].status = "dispatched".to_owned();
    }),
    ("held of run 2", |h| h.tasks[1].held = true),
    ("attempt of run 2", |h| h.tasks[1].attempt += 1),
    ("starts of run 1", |h| h.tasks[0].starts += 1),
    ("input of run 1", |h| {
        h.tasks[0].input = Some(Json::of(&json!({"x": 1})));
    }),
    ("branch of run 2", |h| {
        h.tasks[1].branch = Json::of(&json!({}));
    }),
    ("caused_by of run 2", |h| h.tasks[1].caused_by.clear()),
    ("error of run 2", |h| {
        h.tasks[1].error = Some(Json::of(&json!({"kind": "k"})));
    }),
    ("dispatched_at of run 2", |h| {
        h.tasks[1].dispatched_at = None;
    }),
    ("finished_at of run 1", |h| h.tasks[0].finished_at = None),
    ("timeout_s of run 2", |h| h.tasks[1].timeout_s = Some(7.0)),
    ("run 3 is not stored", |h| drop(h.tasks.pop())),
    ("run 4 is stored", |h| {
        let mut task = h.tasks[2].clone();
        task.run = 4;
        h.tasks.push(task);
    }),
    ("value of write 1", |h| {
        h.variables[0].value = Json::of(&json!(9));
    }),
    ("name of write 2", |h| h.variables[1].name = "z".to_owned()),
    ("previous_write_no of write 3", |h| {
        h.variables[2].previous_write_no = None;
    }),
    ("write 3 of x is not stored", |h| drop(h.variables.pop())),
    ("write 4 is stored", |h| {
        let mut write = h.variables[2].clone();
        write.write_no = 4;
        h.variables.push(write);
    }),
    ("value of write 3", |h| {
        h.tasks[0].result = Some(Json::of(&json!(6)));
    }),
    ("is not stored", |h| h.timers.clear()),
    ("due_at of the timer of run 2", |h| {
        h.timers[0].due_at += chrono::TimeDelta::microseconds(1);
    }),
    ("a timer (deadline) of run 3", |h| {
        let mut timer = h.timers[0];
        timer.run = 3;
        h.timers.push(timer);
    }),
    ("the log is empty", |h| h.transitions.clear()),
    ("the log ends", |h| h.transitions.truncate(3)),
    ("entry 3", |h| drop(h.transitions.remove(1))),
    ("entry 4", |h| h.transitions.swap(2, 3)),
    ("entry 4", |h| {
        h.transitions[2].at += chrono::TimeDelta::seconds(1);
    }),
    ("entry 3", |h| {
        h.transitions[2].kind = TransitionKind::JoinArrived;
    }),
    ("entry 3", |h| {
        h.transitions[2].to_status = Some("failed".to_owned());
    }),
    ("entry 3", |h| h.transitions[2].detail = None),
    ("entry 4", |h| h.transitions[3].attempt = Some(2)),
    ("entry 3", |h| h.transitions[2].attempt = Some(2)),
];

fn attempt_ended(scene: &Scene, run: RunNo, status: CompletionStatus) -> Event {
    let report = Report {
        status,
        result: Some(Json::of(&json!(5))),
        error: None,
        started_at: None,
        finished_at: None,
        worker: None,
    };
    Event::AttemptEnded {
        attempt: first_attempt(scene, run),
        report: Box::new(report),
    }
}

fn first_attempt(scene: &Scene, run: RunNo) -> AttemptId {
    AttemptId {
        task_id: scene.held.execution.task_id(run),
        attempt: 1,
    }
}

/// One that has a variable written, a run that has ended, one that runs and one that is dispatched.
fn history() -> (Scene, History) {
    let mut scene = Scene::begin(WORKFLOWS[0], Random(1), true);
    scene.apply_one(&attempt_ended(&scene, 1, CompletionStatus::Succeeded));
    scene.apply_one(&Event::AttemptStarted {
        attempt: first_attempt(&scene, 2),
        worker: None,
        started_at: None,
    });
    let history = scene.history.clone().expect("committed");
    assert_eq!(fold(&history, scene.workflow()), Vec::<String>::new());
    (scene, history)
}

#[test]
fn every_planted_difference_is_found() {
    let (scene, sound) = history();
    for (expected, plant) in PLANTED {
        let mut history = sound.clone();
        plant(&mut history);
        let found = fold(&history, scene.workflow());
        assert!(
            found.iter().any(|sentence| sentence.contains(expected)),
            "{expected}: {found:#?}"
        );
    }
}

#[test]
fn a_retry_before_its_time_is_found() {
    let mut scene = Scene::begin(WORKFLOWS[2], Random(1), true);
    scene.apply_one(&attempt_ended(&scene, 1, CompletionStatus::Failed));
    scene.now += chrono::TimeDelta::seconds(3);
    scene.apply_one(&Event::TimerFired {
        run: 1,
        kind: TimerKind::Retry,
    });
    let mut history = scene.history.clone().expect("committed");
    assert_eq!(fold(&history, scene.workflow()), Vec::<String>::new());
    let last = history.transitions.last_mut().expect("an entry");
    last.at -= chrono::TimeDelta::microseconds(1);
    history.tasks[0].dispatched_at = Some(last.at);
    let found = fold(&history, scene.workflow());
    assert!(
        found
            .iter()
            .any(|sentence| sentence.contains("does not follow")),
        "{found:#?}"
    );
}

#[test]
fn no_more_is_told_than_the_limit() {
    let (scene, mut history) = history();
    for (no, task) in (1..).zip(&mut history.tasks) {
        (task.attempt, task.starts, task.max_attempts, task.visit) = (9, 9, 9, 9);
        (task.action, task.input, task.timeout_s) = (None, None, Some(9.0));
        task.caused_by = vec![no];
    }
    assert_eq!(fold(&history, scene.workflow()).len(), MAX_DIFFERENCES);
}
