//! One turn after the other: load, commit, acknowledge, publish, confirm.

use flotilla_protocol::decode::InboxMessage;
use flotilla_protocol::message::TaskJob;
use flotilla_turn::message::{ChannelId, ReplyAddress};
use flotilla_turn::{Effect, Input};
use serde_json::json;

use crate::broker::{Body, Queue};
use crate::messages::{request, succeeded};
use crate::world::{Fate, Lane, World};

pub const ONE: &str = "ref: t.one\ntasks:\n  - {name: a, action: core.noop}\n";

#[test]
fn a_start_is_loaded_committed_acknowledged_and_published() {
    let mut world = World::with_owner(1, &[ONE]);
    world.put_start("t.one", 1);
    world.deliver(0);
    assert_eq!(world.run(0), ["load 1 starts, 0 executions"]);
    world.drain(0, Lane::Loads);
    assert_eq!(world.run(0), ["commit 0:0<1"]);
    world.commit(0, Fate::Answered);
    assert_eq!(world.run(0), ["ack Start 1", "publish a/1"]);
    world.drain(0, Lane::Channels);
    let job = {
        world.drain(0, Lane::Publications);
        world.take_job().expect("the job")
    };
    assert_eq!(
        world.run(0),
        [] as [String; 0],
        "the confirm alone makes no turn"
    );
    world.complete(succeeded(&job, &json!(1)));
    world.deliver(0);
    assert_eq!(world.run(0), ["commit 0:1<2"], "the watermark rides along");
    world.commit(0, Fate::Answered);
    assert_eq!(world.run(0), ["ack Inbox(0) 1"]);
    world.drain(0, Lane::Channels);
    assert_eq!(world.status(1), "succeeded");
    assert!(world.database.jobs.is_empty());
}

pub const NONE: [&str; 0] = [];

/// Starts `t.one` and gives its job.
pub fn first_job(world: &mut World, id: u128) -> TaskJob {
    world.put_start("t.one", id);
    world.calm(0);
    world.take_job().expect("the job")
}

#[test]
fn what_has_arrived_meanwhile_makes_one_turn() {
    let mut world = World::with_owner(2, &[ONE]);
    for id in 1..=5 {
        world.put_start("t.one", id);
    }
    world.calm(0);
    assert_eq!(world.database.commits, 1);
    while let Some(job) = world.take_job() {
        world.complete(succeeded(&job, &json!(1)));
    }
    world.calm(0);
    assert_eq!(world.database.commits, 2);
}

#[test]
fn the_watermark_waits_for_every_confirm() {
    let mut world = World::with_owner(1, &[ONE]);
    for id in 1..=2 {
        world.put_start("t.one", id);
        world.deliver(0);
        world.run(0);
        world.drain(0, Lane::Loads);
        world.run(0);
        world.commit(0, Fate::Answered);
        world.run(0);
    }
    let first = world.pop(0, Lane::Publications);
    world.drain(0, Lane::Publications);
    world.pass(1.5);
    world.run(0);
    assert_eq!(
        fence(&mut world),
        (3, 0),
        "turn 2 is confirmed, turn 1 is not"
    );
    let Effect::Publish(batch) = first else {
        panic!("a publication");
    };
    world.publish(0, &batch);
    world.pass(1.5);
    world.run(0);
    assert_eq!(fence(&mut world), (4, 3));
}

fn fence(world: &mut World) -> (i64, i64) {
    world.commit(0, Fate::Answered);
    world.run(0);
    let commit = world.last_commit.take().expect("a commit");
    (
        commit.partitions[0].turn,
        commit.partitions[0].dispatched_through,
    )
}

#[test]
fn a_job_without_a_queue_is_declared_and_a_reply_without_one_is_done() {
    let mut world = World::with_owner(1, &[ONE]);
    world.broker.delete(&Queue::Pool("default".to_owned()));
    world.broker.gone.insert("client".to_owned());
    let mut request = request("t.one", 1);
    request.reply_to = Some(ReplyAddress {
        reply_to: "client".to_owned(),
        correlation_id: None,
    });
    world.put_request(request);
    world.calm(0);
    assert!(
        world.broker.jobs.is_empty(),
        "its queue is there, the job not yet"
    );
    assert_eq!(world.tick(0), ["publish a/1"]);
    world.calm(0);
    world.pass(1.5);
    world.run(0);
    world.calm(0);
    assert!(world.database.jobs.is_empty() && world.database.replies.is_empty());
}

#[test]
fn a_clean_stop_finishes_publishes_and_releases() {
    let mut world = World::with_owner(1, &[ONE]);
    world.put_start("t.one", 1);
    world.deliver(0);
    world.run(0);
    world.drain(0, Lane::Loads);
    world.run(0);
    world.input(0, Input::Stop);
    world.commit(0, Fate::Answered);
    let last = [
        "ack Start 1",
        "publish a/1",
        "close Inbox(0)",
        "close Start",
    ];
    assert_eq!(world.run(0), last);
    world.put_start("t.one", 2);
    world.deliver(0);
    assert_eq!(world.run(0), NONE, "nothing new is taken");
    world.drain(0, Lane::Publications);
    assert_eq!(world.run(0), ["commit 0:1<2"]);
    world.commit(0, Fate::Answered);
    let farewell = [
        "release [(0, 1)] and resign",
        "close Control",
        "close Dead",
        "release [] and resign",
        "stopped",
    ];
    assert_eq!(world.run(0), farewell);
    world.drain(0, Lane::Channels);
    world.drain(0, Lane::Others);
    assert!(world.coordinator(0).stopped);
    assert!(world.database.jobs.is_empty());
    let next = world.join();
    world.calm(next);
    assert_eq!(world.status(2), "running");
}

#[test]
fn a_turn_takes_five_hundred_messages_or_sixteen_mebibytes() {
    let mut world = World::with_owner(1, &[ONE]);
    for id in 1..=501 {
        world.put_start("t.one", id);
    }
    world.deliver(0);
    assert_eq!(world.run(0), ["load 500 starts, 0 executions"]);
    let mut world = World::with_owner(1, &[ONE]);
    for id in 1..=20 {
        let start = Body::Start(Box::new(request("t.one", id)));
        world
            .broker
            .put(&Queue::Of(ChannelId::Start), start, 1 << 20);
    }
    world.deliver(0);
    assert_eq!(world.run(0), ["load 16 starts, 0 executions"]);
}

#[test]
fn starts_wait_while_too_much_is_unconfirmed() {
    let mut world = World::new(1, &[ONE]);
    world.config.max_unconfirmed = 1;
    world.join();
    world.put_start("t.one", 1);
    world.deliver(0);
    world.run(0);
    world.drain(0, Lane::Loads);
    world.run(0);
    world.commit(0, Fate::Answered);
    world.run(0);
    world.put_start("t.one", 2);
    world.deliver(0);
    assert_eq!(world.run(0), NONE);
    world.drain(0, Lane::Publications);
    assert_eq!(world.run(0), ["commit 0:1<2"]);
}

#[test]
fn leases_are_renewed_while_only_one_partition_is_busy() {
    let mut world = World::with_owner(2, &[ONE]);
    world.pass(1.5);
    world.put_inbox(0, InboxMessage::Completed(Vec::new()));
    world.deliver(0);
    assert_eq!(world.run(0), ["commit 0:0<1 1:0<1"]);
}
