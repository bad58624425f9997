//! Commits that do not answer `ok`.

use flotilla_protocol::decode::InboxMessage;
use flotilla_turn::message::ChannelId;
use flotilla_turn::rows::{CommitAnswer, PartitionNo};
use flotilla_turn::{Input, LoadFailure};
use serde_json::json;
use uuid::Uuid;

use crate::flow::{NONE, ONE, first_job};
use crate::messages::succeeded;
use crate::world::{Fate, Lane, World};

/// Somebody else takes a partition.
fn steal(world: &mut World, partition: PartitionNo) {
    let now = world.now;
    world
        .database
        .take_one(partition, Uuid::from_u128(7), 3.0, now);
}

/// Starts 1, 2, … up to the commit of their turn.
fn starts(world: &mut World, count: u128) -> Vec<String> {
    for id in 1..=count {
        world.put_start("t.one", id);
    }
    world.deliver(0);
    world.run(0);
    world.carry_out(0, Lane::Loads);
    world.run(0)
}

#[test]
fn a_commit_whose_answer_is_lost_goes_out_again_unchanged() {
    for fate in [Fate::LostBefore, Fate::LostAfter] {
        let mut world = World::with_owner(1, &[ONE]);
        assert_eq!(starts(&mut world, 1), ["commit 0:0<1"]);
        world.commit(0, fate);
        let first = world.last_commit.take();
        assert_eq!(world.run(0), ["commit 0:0<1 again"]);
        world.commit(0, Fate::Answered);
        assert_eq!(world.last_commit, first);
        assert_eq!(world.run(0), ["ack Start 1", "publish a/1"]);
        assert_eq!(world.database.commits, 1);
    }
}

#[test]
fn a_duplicate_passes_the_fence_before_it_is_acknowledged() {
    let mut world = World::with_owner(1, &[ONE]);
    let job = first_job(&mut world, 1);
    world.complete(succeeded(&job, &json!(1)));
    world.calm(0);
    world.complete(succeeded(&job, &json!(1)));
    world.deliver(0);
    assert_eq!(world.run(0), ["load 0 starts, 1 executions"]);
    world.carry_out(0, Lane::Loads);
    assert_eq!(world.run(0), ["commit 0:2<3"]);
    world.commit(0, Fate::Answered);
    assert_eq!(world.run(0), ["ack Inbox(0) 2"]);
    assert_eq!(world.database.ignored[0].reason, "execution_finished");
}

#[test]
fn a_stale_owner_does_not_eat_a_duplicate() {
    let mut world = World::with_owner(1, &[ONE]);
    let job = first_job(&mut world, 1);
    world.complete(succeeded(&job, &json!(1)));
    world.calm(0);
    steal(&mut world, 0);
    world.complete(succeeded(&job, &json!(1)));
    world.deliver(0);
    world.run(0);
    world.carry_out(0, Lane::Loads);
    world.run(0);
    world.commit(0, Fate::Answered);
    assert_eq!(world.run(0), ["close Inbox(0)", "close Start"]);
}

#[test]
fn a_fenced_turn_is_decided_again_without_the_lost_partition() {
    let mut world = World::with_owner(2, &[ONE]);
    // More than share a partition.
    assert_eq!(starts(&mut world, 101), ["commit 0:0<1 1:0<1"]);
    steal(&mut world, 0);
    world.commit(0, Fate::Answered);
    assert_eq!(
        world.run(0),
        ["close Inbox(0)", "commit 1:0<1"],
        "all start in what is left"
    );
    world.commit(0, Fate::Answered);
    let jobs = format!("publish {}", vec!["a/1"; 101].join(", "));
    assert_eq!(world.run(0), ["ack Start 101".to_owned(), jobs]);
    assert_eq!(
        world.coordinator(0).turns.partitions().collect::<Vec<_>>(),
        [1]
    );
}

#[test]
fn a_start_that_somebody_else_has_made_is_looked_up_again() {
    let mut world = World::with_owner(1, &[ONE]);
    starts(&mut world, 1);
    world.commit(
        0,
        Fate::Says(CommitAnswer::StartExists { execution_id: None }),
    );
    assert_eq!(world.run(0), ["load 1 starts, 0 executions"]);
}

#[test]
fn a_partition_that_began_anew_is_not_dropped_for_its_earlier_epoch() {
    let mut world = World::with_owner(1, &[ONE]);
    starts(&mut world, 1);
    world.pass(10.0);
    let (owner, now) = (world.coordinator(0).owner, world.now);
    let (taken, _) = world.database.take(owner, 3.0, now);
    world.input(0, Input::PartitionsTaken { taken, share: None });
    world.run(0);
    world.commit(0, Fate::Answered);
    assert_eq!(
        world.run(0),
        ["commit 0:0<1"],
        "fenced, but nothing is lost"
    );
    assert_eq!(world.coordinator(0).turns.partitions().count(), 1);
    world.calm(0);
    assert_eq!(world.broker.jobs, ["a/1"]);
}

#[test]
fn what_a_partition_owed_when_it_began_anew_is_owed_once() {
    let mut world = World::with_owner(1, &[ONE]);
    starts(&mut world, 1);
    world.commit(0, Fate::LostAfter);
    world.run(0);
    world.pass(10.0);
    let (owner, now) = (world.coordinator(0).owner, world.now);
    let (taken, _) = world.database.take(owner, 3.0, now);
    assert_eq!(taken[0].jobs.len(), 1);
    world.input(0, Input::PartitionsTaken { taken, share: None });
    world.input(0, Input::CommitAnswered(CommitAnswer::Committed { now }));
    world.coordinator(0).effects.clear();
    world.run(0);
    world.drain(0, Lane::Channels);
    world.calm(0);
    world.pass(2.0);
    world.tick(0);
    world.calm(0);
    assert!(world.database.jobs.is_empty(), "the watermark moves on");
    assert_eq!(world.status(1), "running");
}

#[test]
fn acknowledged_is_a_prefix_and_it_waits_for_what_is_passed_on() {
    let mut world = World::with_owner(1, &[ONE]);
    world.put_start("t.unknown", 1);
    world.put_start("t.one", 2);
    world.deliver(0);
    world.run(0);
    world.carry_out(0, Lane::Loads);
    world.run(0);
    world.commit(0, Fate::Answered);
    assert_eq!(
        world.run(0),
        ["forward rejected", "publish a/1"],
        "nothing is acknowledged while the first is on its way"
    );
    world.carry_out(0, Lane::Others);
    assert_eq!(world.run(0), ["ack Start 2"]);
}

#[test]
fn a_load_that_fails_gives_everything_back() {
    let mut world = World::with_owner(1, &[ONE]);
    world.put_start("t.one", 1);
    world.deliver(0);
    world.run(0);
    world.pop(0, Lane::Loads);
    world.input(0, Input::LoadFailed(LoadFailure::Passing));
    assert_eq!(world.run(0), NONE, "not at once");
    world.pass(0.3);
    assert_eq!(world.run(0), ["load 1 starts, 0 executions"]);
}

/// Lets seconds pass; how often the leases of two partitions were renewed by themselves.
fn renewals(world: &mut World, seconds: u32) -> usize {
    let mut renewals = 0;
    for _ in 0..seconds {
        world.pass(1.0);
        let asked = world.tick(0);
        renewals += asked.iter().filter(|effect| *effect == "renew 2").count();
    }
    renewals
}

#[test]
fn leases_are_renewed_while_a_turn_is_loaded_but_not_for_ever() {
    let mut world = World::with_owner(2, &[ONE]);
    world.put_start("t.one", 1);
    world.deliver(0);
    world.run(0);
    assert_eq!(
        renewals(&mut world, 9),
        9,
        "a third of a lease passes each time"
    );
    world.pop(0, Lane::Loads);
    world.input(0, Input::LoadFailed(LoadFailure::Passing));
    world.run(0);
    assert!(
        renewals(&mut world, 40) < 30,
        "who cannot load leaves them to others"
    );
    world.drain(0, Lane::Loads);
    world.calm(0);
    assert_eq!(world.status(1), "running");
}

#[test]
fn leases_are_renewed_too_while_a_decided_turn_waits_for_what_else_it_needs() {
    let parent = "ref: t.parent\ntasks:\n  - {name: c, type: workflow, action: t.one}\n";
    let mut world = World::with_owner(2, &[ONE, parent]);
    world.put_start("t.parent", 1);
    world.deliver(0);
    world.run(0);
    world.carry_out(0, Lane::Loads);
    assert_eq!(
        world.run(0),
        ["load 0 starts, 0 executions"],
        "it was decided, and what the child is has to be looked up"
    );
    assert_eq!(renewals(&mut world, 9), 9);
    world.calm(0);
    assert_eq!(world.broker.jobs, ["a/1"]);
}

#[test]
fn a_load_that_takes_too_long_is_made_smaller() {
    let mut world = World::with_owner(1, &[ONE]);
    (1..=4).for_each(|id| world.put_start("t.one", id));
    world.deliver(0);
    assert_eq!(world.run(0), ["load 4 starts, 0 executions"]);
    for starts in [2, 1, 1] {
        world.pop(0, Lane::Loads);
        world.input(0, Input::LoadFailed(LoadFailure::TooMuch));
        world.run(0);
        world.pass(0.3);
        assert_eq!(
            world.run(0),
            [format!("load {starts} starts, 0 executions")]
        );
    }
    world.calm(0);
    assert!((1..=4).all(|id| world.status(id) == "running"));
}

#[test]
fn messages_of_a_channel_that_has_closed_come_again() {
    let mut world = World::with_owner(1, &[ONE]);
    let job = first_job(&mut world, 1);
    world.complete(succeeded(&job, &json!(1)));
    world.deliver(0);
    world.run(0);
    world.lose_channel(0, ChannelId::Inbox(0));
    world.commit(0, Fate::Answered);
    assert_eq!(world.run(0), ["open Inbox(0)"], "nothing to acknowledge");
    world.calm(0);
    assert_eq!(world.database.ignored.len(), 1, "the second delivery");
    assert_eq!(world.broker.unacknowledged(), 0);
}

#[test]
fn a_message_without_effect_on_executions_is_fenced_too() {
    let mut world = World::with_owner(1, &[ONE]);
    world.put_inbox(0, InboxMessage::Completed(Vec::new()));
    world.deliver(0);
    assert_eq!(world.run(0), ["commit 0:0<1"]);
}
