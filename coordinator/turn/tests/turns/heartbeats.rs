//! Acknowledged jobs: heartbeats, silence, and what moves in memory alone.

use flotilla_engine::execution::TimerKind;
use flotilla_protocol::decode::InboxMessage;
use flotilla_protocol::message::{TaskJob, TaskStarted};
use flotilla_turn::message::ChannelId;
use serde_json::json;

use crate::control::control;
use crate::messages::{execution_id, started, succeeded};
use crate::world::{Fate, Lane, World};

const LONG: &str = "ref: t.long\ntasks:\n  - {name: a, action: core.noop}\n";
const LIMITED: &str = "ref: t.limited\ntasks:\n  - {name: a, action: core.noop, timeout: 30}\n";

fn alive(job: &TaskJob, acknowledged: bool, heartbeat: Option<f64>) -> TaskStarted {
    TaskStarted {
        execution_id: job.execution_id,
        task_id: job.task_id,
        attempt: job.attempt,
        worker: Some("w".to_owned()),
        started_at: None,
        acknowledged,
        heartbeat,
        progress: None,
        detail: None,
    }
}

/// An execution whose only job runs and is acknowledged, with 10 s of silence allowed.
fn acknowledged(yaml: &str) -> (World, TaskJob) {
    let mut world = World::with_owner(1, &[yaml]);
    let name = yaml.split_whitespace().nth(1).expect("a name");
    world.put_start(name, 1);
    world.calm(0);
    let job = world.take_job().expect("the job");
    world.put_inbox(0, InboxMessage::Started(alive(&job, true, Some(10.0))));
    world.calm(0);
    assert_eq!(kinds(&world), [TimerKind::Heartbeat]);
    (world, job)
}

fn kinds(world: &World) -> Vec<TimerKind> {
    let timers = world.database.timers.values();
    timers.map(|timer| timer.kind).collect()
}

fn beat(world: &mut World, job: &TaskJob, heartbeat: Option<f64>) {
    world.put_inbox(0, InboxMessage::Heartbeat(alive(job, false, heartbeat)));
    world.calm(0);
}

#[test]
fn heartbeats_keep_a_job_alive_and_silence_sends_it_again() {
    let (mut world, job) = acknowledged(LONG);
    let row = *world.database.timers.values().next().expect("the timer");
    for heartbeat in [Some(10.0), None, Some(10.0), None] {
        world.pass(9.0);
        beat(&mut world, &job, heartbeat);
        assert_eq!(world.broker.jobs, ["a/1"]);
    }
    let now = *world.database.timers.values().next().expect("the timer");
    assert_eq!(now, row, "only memory has moved");
    world.pass(10.1);
    world.calm(0);
    assert_eq!(world.broker.jobs, ["a/1", "a/1"], "the same attempt");
    assert!(world.database.timers.is_empty());
    let again = world.take_job().expect("the job");
    assert_eq!(again.starts, 1);
    world.complete(succeeded(&again, &json!(1)));
    world.calm(0);
    assert_eq!(world.status(1), "succeeded");
}

#[test]
fn silence_does_not_count_before_what_waits_in_the_inbox_is_read() {
    let (mut world, job) = acknowledged(LONG);
    world.pass(11.0);
    world.put_inbox(0, InboxMessage::Heartbeat(alive(&job, false, Some(10.0))));
    assert!(world.run(0).contains(&"probe 0".to_owned()));
    world.calm(0);
    assert_eq!(world.broker.jobs, ["a/1"]);
    // A channel that is opened anew has much to tell.
    world.pass(9.0);
    world.lose_channel(0, ChannelId::Inbox(0));
    world.calm(0);
    world.pass(9.0);
    world.calm(0);
    assert_eq!(world.broker.jobs, ["a/1"]);
    world.pass(2.0);
    world.calm(0);
    assert_eq!(world.broker.jobs, ["a/1", "a/1"]);
}

#[test]
fn the_time_limit_counts_for_an_acknowledged_job_too() {
    let (mut world, job) = acknowledged(LIMITED);
    for _ in 0..3 {
        world.pass(9.0);
        beat(&mut world, &job, Some(10.0));
    }
    world.pass(7.9);
    world.calm(0);
    assert_eq!(world.status(1), "running");
    world.pass(0.2);
    world.calm(0);
    assert_eq!(world.status(1), "failed", "35 s after the acknowledgement");
    assert_eq!(world.broker.jobs, ["a/1"]);
}

#[test]
fn each_heartbeat_of_a_cancelled_attempt_is_told_to_stop_again() {
    let (mut world, job) = acknowledged(LONG);
    control(&mut world, 1, "cancel", Some("c-1"));
    world.calm(0);
    for _ in 0..2 {
        world.put_inbox(0, InboxMessage::Heartbeat(alive(&job, false, Some(10.0))));
        world.deliver(0);
        world.run(0);
        world.commit(0, Fate::Answered);
        assert!(world.run(0).contains(&"cancel 1".to_owned()));
        world.calm(0);
    }
    world.complete(succeeded(&job, &json!(1)));
    world.calm(0);
    assert_eq!(world.status(1), "cancelled");
    world.put_inbox(0, InboxMessage::Heartbeat(alive(&job, false, None)));
    world.deliver(0);
    world.run(0);
    world.drain(0, Lane::Loads);
    world.run(0);
    world.commit(0, Fate::Answered);
    assert!(
        world.run(0).contains(&"cancel 1".to_owned()),
        "nobody waits for it"
    );
}

#[test]
fn a_heartbeat_of_a_job_that_is_not_acknowledged_moves_nothing() {
    let mut world = World::with_owner(1, &[LIMITED]);
    world.put_start("t.limited", 1);
    world.calm(0);
    let job = world.take_job().expect("the job");
    world.put_inbox(0, started(&job));
    world.calm(0);
    for _ in 0..3 {
        world.pass(10.0);
        beat(&mut world, &job, None);
    }
    assert_eq!(kinds(&world), [TimerKind::Deadline]);
    world.pass(5.1);
    world.calm(0);
    assert_eq!(world.status(1), "failed");
    assert_eq!(world.partition_of(execution_id(1)), 0);
}

/// An execution whose only job runs, is not acknowledged, and may be silent for 10 s by its task.
fn watched(fields: &str) -> (World, TaskJob) {
    let yaml = format!(
        "ref: t.watched\ntasks:\n  - {{name: a, action: core.noop, heartbeat: 10, {fields}}}\n"
    );
    let mut world = World::with_owner(1, &[&yaml]);
    world.put_start("t.watched", 1);
    world.calm(0);
    let job = world.take_job().expect("the job");
    assert_eq!(job.heartbeat, Some(10.0));
    world.put_inbox(0, started(&job));
    world.calm(0);
    assert_eq!(kinds(&world), [TimerKind::Heartbeat]);
    (world, job)
}

#[test]
fn silence_ends_an_attempt_whose_task_says_so_and_heartbeats_put_that_off() {
    let (mut world, job) = watched("retry: {count: 1}");
    // What a worker means by silence does not count.
    for heartbeat in [None, Some(60.0), None, Some(1.0)] {
        world.pass(9.0);
        beat(&mut world, &job, heartbeat);
        assert_eq!(world.broker.jobs, ["a/1"]);
    }
    world.pass(10.1);
    world.calm(0);
    assert_eq!(world.broker.jobs, ["a/1", "a/2"], "another attempt");
    let again = world.take_job().expect("the job");
    world.complete(succeeded(&again, &json!(1)));
    world.calm(0);
    assert_eq!(world.status(1), "succeeded");
}

#[test]
fn the_time_limit_counts_beside_the_task_s_own_silence() {
    let (mut world, job) = watched("timeout: 30");
    for _ in 0..3 {
        world.pass(9.0);
        beat(&mut world, &job, None);
    }
    world.pass(7.9);
    world.calm(0);
    assert_eq!(world.status(1), "running");
    world.pass(0.2);
    world.calm(0);
    assert_eq!(world.status(1), "failed", "35 s after the start");
}

#[test]
fn heartbeats_do_not_put_off_the_time_over_all_attempts() {
    let (mut world, job) = watched("timeout: null, total_timeout: 30, retry: {count: 9}");
    for _ in 0..3 {
        world.pass(9.0);
        beat(&mut world, &job, None);
    }
    world.pass(2.9);
    world.calm(0);
    assert_eq!(world.status(1), "running");
    world.pass(0.2);
    world.calm(0);
    assert_eq!(world.status(1), "failed");
    assert_eq!(world.broker.jobs, ["a/1"], "without a retry");
}

#[test]
fn a_new_owner_gives_an_acknowledged_job_its_time_limit_once_more_and_no_longer() {
    let (mut world, job) = acknowledged(LIMITED);
    world.crash(0);
    world.pass(4.0);
    let owner = world.join();
    let beat = |world: &mut World| {
        world.put_inbox(0, InboxMessage::Heartbeat(alive(&job, false, Some(10.0))));
        world.calm(owner);
    };
    beat(&mut world);
    for _ in 0..3 {
        world.pass(9.0);
        beat(&mut world);
    }
    world.pass(7.9);
    world.calm(owner);
    assert_eq!(world.status(1), "running");
    world.pass(0.2);
    world.calm(owner);
    assert_eq!(world.status(1), "failed", "35 s after the first heartbeat");
}
