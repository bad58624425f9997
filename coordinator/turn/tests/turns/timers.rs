//! Timers: set, cleared, replaced, loaded, and deadlines that wait for their probe.

use chrono::TimeDelta;
use flotilla_engine::execution::TimerKind;
use flotilla_protocol::message::TaskJob;
use flotilla_turn::message::ChannelId;
use flotilla_turn::{Effect, Input};
use serde_json::json;

use crate::messages::{failed, started, succeeded};
use crate::world::{Fate, Lane, World};

const RETRY: &str = "
ref: t.retry
tasks:
  - {name: a, action: core.noop, timeout: 200, retry: {count: 2, delay: 2}}
";
const LATE: &str = "
ref: t.late
tasks:
  - {name: a, action: core.noop, retry: {count: 2, delay: 1000}}
";

fn begin(yaml: &str, cached: usize) -> (World, TaskJob) {
    let mut world = World::new(1, &[yaml]);
    world.config.cached_executions = cached;
    world.join();
    let name = yaml.split_whitespace().nth(1).expect("a name");
    world.put_start(name, 1);
    world.calm(0);
    let job = world.take_job().expect("the job");
    (world, job)
}

fn kinds(world: &World) -> Vec<TimerKind> {
    world
        .database
        .timers
        .values()
        .map(|timer| timer.kind)
        .collect()
}

#[test]
fn a_retry_fires_when_it_is_due_and_its_row_goes() {
    let (mut world, job) = begin(RETRY, 10);
    world.complete(failed(&job));
    world.calm(0);
    assert_eq!(kinds(&world), [TimerKind::Retry]);
    world.pass(1.9);
    world.tick(0);
    world.calm(0);
    assert_eq!(world.broker.jobs, ["a/1"]);
    world.pass(0.1);
    world.calm(0);
    assert_eq!(world.broker.jobs, ["a/1", "a/2"]);
    assert!(world.database.timers.is_empty());
}

#[test]
fn a_timer_beyond_the_horizon_is_loaded_in_time() {
    let (mut world, job) = begin(LATE, 10);
    world.complete(failed(&job));
    world.calm(0);
    assert!(
        world.coordinator(0).turns.next_due().is_none(),
        "it is a row and nothing else"
    );
    for _ in 0..100 {
        world.pass(10.0);
        world.tick(0);
        world.calm(0);
    }
    assert_eq!(world.broker.jobs, ["a/1", "a/2"]);
}

#[test]
fn a_deadline_acts_only_behind_what_came_before_its_probe() {
    let (mut world, job) = begin(RETRY, 10);
    world.put_inbox(0, started(&job));
    world.calm(0);
    assert_eq!(kinds(&world), [TimerKind::Deadline]);
    world.pass(206.0);
    world.complete(succeeded(&job, &json!(1)));
    assert!(world.run(0).contains(&"probe 0".to_owned()));
    world.calm(0);
    assert_eq!(
        world.status(1),
        "succeeded",
        "its completion was in the queue"
    );

    let (mut world, job) = begin(RETRY, 10);
    world.put_inbox(0, started(&job));
    world.calm(0);
    world.pass(206.0);
    world.calm(0);
    assert_eq!(
        kinds(&world),
        [TimerKind::Retry],
        "the attempt has timed out"
    );
}

#[test]
fn timers_that_are_loaded_do_not_replace_newer_ones() {
    let (mut world, job) = begin(RETRY, 10);
    world.put_inbox(0, started(&job));
    world.calm(0);
    world.pass(160.0);
    // The timers from 300 to 460 s are asked for; the attempt ends before the answer comes. Its old
    // deadline is among them.
    world.tick(0);
    let others = world.coordinator(0).effects.remove(&Lane::Others);
    let (partition, epoch, until) = others
        .into_iter()
        .flatten()
        .find_map(|effect| {
            let Effect::LoadTimers {
                partition,
                epoch,
                until,
                ..
            } = effect
            else {
                return None;
            };
            Some((partition, epoch, until))
        })
        .expect("the timers are asked for");
    let mut old = *world.database.timers.values().next().expect("the deadline");
    old.due_at = world.now + TimeDelta::seconds(1);
    world.complete(failed(&job));
    world.calm(0);
    let timers = Some(vec![old]);
    world.input(
        0,
        Input::TimersLoaded {
            partition,
            epoch,
            until,
            timers,
        },
    );
    world.calm(0);
    world.pass(2.0);
    world.tick(0);
    world.calm(0);
    assert_eq!(
        world.broker.jobs,
        ["a/1", "a/2"],
        "the retry was not forgotten"
    );
}

#[test]
fn a_timer_that_is_in_a_turn_survives_that_its_partition_begins_anew() {
    let (mut world, job) = begin(RETRY, 0);
    world.complete(failed(&job));
    world.calm(0);
    world.pass(9.0);
    assert!(
        world
            .run(0)
            .contains(&"load 0 starts, 1 executions".to_owned())
    );
    let (owner, now) = (world.coordinator(0).owner, world.now);
    let (taken, _) = world.database.take(owner, 3.0, now);
    world.input(0, Input::PartitionsTaken { taken, share: None });
    world.run(0);
    world.calm(0);
    assert_eq!(world.broker.jobs, ["a/1", "a/2"]);
    assert!(world.database.ignored.is_empty());
}

#[test]
fn timers_of_a_fenced_turn_are_restored() {
    let (mut world, job) = begin(RETRY, 10);
    world.complete(failed(&job));
    world.calm(0);
    world.pass(2.0);
    world.run(0);
    if world.has_effect(0, Lane::Loads) {
        world.carry_out(0, Lane::Loads);
        world.run(0);
    }
    let refused = flotilla_turn::rows::CommitAnswer::StartExists { execution_id: None };
    world.commit(0, Fate::Says(refused));
    world.calm(0);
    assert_eq!(world.broker.jobs, ["a/1", "a/2"]);
}

#[test]
fn many_deadlines_do_not_burst_a_turn() {
    let mut world = World::with_owner(1, &[RETRY]);
    for id in 1..=600 {
        world.put_start("t.retry", id);
    }
    world.calm(0);
    while let Some(job) = world.take_job() {
        world.put_inbox(0, started(&job));
    }
    world.calm(0);
    world.pass(206.0);
    let commits = world.database.commits;
    world.calm(0);
    assert!(
        world.database.commits >= commits + 2,
        "600 deadlines are two turns"
    );
    assert!(kinds(&world).iter().all(|kind| *kind == TimerKind::Retry));
}

#[test]
fn deadlines_wait_again_once_the_inbox_was_lost() {
    let (mut world, job) = begin(RETRY, 0);
    world.put_inbox(0, started(&job));
    world.calm(0);
    world.pass(206.0);
    world.run(0);
    world.drain(0, Lane::Others);
    world.complete(succeeded(&job, &json!(1)));
    world.lose_channel(0, ChannelId::Inbox(0));
    world.calm(0);
    assert_eq!(
        world.status(1),
        "succeeded",
        "its completion was there before"
    );
    assert!(world.database.ignored.is_empty());
}

#[test]
fn the_time_limit_of_an_execution_waits_for_a_probe_and_ends_it() {
    let mut world = World::with_owner(
        1,
        &["ref: t.limit\ntimeout: 20\ntasks:\n  - {name: a, action: core.noop, timeout: 5}\n"],
    );
    world.put_start("t.limit", 1);
    world.calm(0);
    let job = world.take_job().expect("the job");
    world.pass(20.1);
    assert!(world.run(0).contains(&"probe 0".to_owned()));
    world.calm(0);
    assert_eq!(world.status(1), "cancelling");
    world.complete(succeeded(&job, &json!(1)));
    world.calm(0);
    assert_eq!(world.status(1), "timed_out");
    assert!(world.database.timers.is_empty());
}

#[test]
fn an_older_probe_says_nothing_of_what_came_after_it() {
    let (mut world, first) = begin(RETRY, 10);
    world.put_start("t.retry", 2);
    world.calm(0);
    let second = world.take_job().expect("the job");
    world.put_inbox(0, started(&first));
    world.calm(0);
    world.pass(20.0);
    world.put_inbox(0, started(&second));
    world.calm(0);
    world.pass(186.0);
    assert!(world.run(0).contains(&"probe 0".to_owned()));
    world.drain(0, Lane::Others);
    world.commit(0, Fate::Answered);
    // The database stands still meanwhile; the second deadline passes, and another probe is sent.
    world.complete(succeeded(&second, &json!(1)));
    world.pass(35.0);
    assert!(world.run(0).contains(&"probe 0".to_owned()));
    world.drain(0, Lane::Others);
    let (channel, generation) = inbox(&world);
    assert!(world.deliver_one(0, channel, generation), "the first probe");
    world.run(0);
    world.commit(0, Fate::Answered);
    assert_eq!(kinds(&world), [TimerKind::Retry, TimerKind::Deadline]);
    world.calm(0);
    assert_eq!(world.status(2), "succeeded");
}

#[test]
fn a_probe_that_comes_again_with_its_channel_says_nothing() {
    let (mut world, job) = begin(RETRY, 10);
    world.put_inbox(0, started(&job));
    world.calm(0);
    world.pass(206.0);
    assert!(world.run(0).contains(&"probe 0".to_owned()));
    world.drain(0, Lane::Others);
    world.commit(0, Fate::Answered);
    world.deliver(0);
    world.pass(1.0);
    world.lose_channel(0, ChannelId::Inbox(0));
    assert!(
        world.run(0).contains(&"probe 0".to_owned()),
        "it is asked anew"
    );
    world.drain(0, Lane::Channels);
    let (channel, generation) = inbox(&world);
    assert!(world.deliver_one(0, channel, generation), "the first probe");
    world.run(0);
    world.commit(0, Fate::Answered);
    assert_eq!(kinds(&world), [TimerKind::Deadline]);
    world.calm(0);
    assert_eq!(kinds(&world), [TimerKind::Retry]);
}

/// The channel on which the inbox is read.
fn inbox(world: &World) -> (ChannelId, u64) {
    let read = world.broker.consumers(0);
    let inbox = read.into_iter().find(|(of, _)| *of == ChannelId::Inbox(0));
    inbox.expect("it is read")
}
