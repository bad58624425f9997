//! Turns that are refused or panic, and messages that kill who takes them.

use flotilla_turn::message::ChannelId;
use serde_json::json;
use uuid::Uuid;

use crate::broker::Queue;
use crate::cached::CHAIN;
use crate::database::UNSTORABLE;
use crate::flow::{ONE, first_job};
use crate::messages::succeeded;
use crate::world::{Fate, Lane, World};

#[test]
fn one_message_that_cannot_be_stored_fails_its_task_and_no_other() {
    let mut world = World::with_owner(2, &[ONE]);
    for id in 1..=7 {
        world.put_start("t.one", id);
    }
    world.calm(0);
    while let Some(job) = world.take_job() {
        let is_bad = job.execution_id == crate::messages::execution_id(4);
        let result = if is_bad { UNSTORABLE } else { "fine" };
        world.complete(succeeded(&job, &json!(result)));
    }
    world.calm(0);
    for id in 1..=7 {
        let expected = if id == 4 { "failed" } else { "succeeded" };
        assert_eq!(world.status(id), expected, "execution {id}");
    }
    assert_eq!(world.forwarded, ["poison"]);
    let errors = world.database.executions[&crate::messages::execution_id(4)]
        .state
        .errors
        .clone();
    assert!(errors.expect("errors").text().contains("invalid_result"));
    assert_eq!(world.broker.unacknowledged(), 0);
}

#[test]
fn a_poison_completion_is_acknowledged_only_once_its_task_has_failed() {
    let mut world = World::with_owner(1, &[ONE]);
    let job = first_job(&mut world, 1);
    world.complete(succeeded(&job, &json!(UNSTORABLE)));
    world.deliver(0);
    world.run(0);
    world.commit(0, Fate::Answered);
    assert_eq!(world.run(0), ["load 0 starts, 1 executions"]);
    world.carry_out(0, Lane::Loads);
    assert_eq!(world.run(0), ["commit 0:1<2"], "the failure comes first");
    world.commit(0, Fate::Answered);
    assert_eq!(world.run(0), ["forward poison"]);
    assert_eq!(world.status(1), "failed");
    world.carry_out(0, Lane::Others);
    assert_eq!(world.run(0), ["ack Inbox(0) 1"]);
}

#[test]
fn a_panic_harms_only_the_message_that_causes_it() {
    let mut world = World::new(1, &[CHAIN]);
    world.config.cached_executions = 0;
    world.join();
    for id in 1..=3 {
        world.put_start("t.chain", id);
    }
    world.calm(0);
    let bad = crate::messages::execution_id(2);
    let row = world.database.executions.get_mut(&bad).expect("a row");
    row.state.visits.clear();
    while let Some(job) = world.take_job() {
        world.complete(succeeded(&job, &json!(1)));
    }
    world.calm(0);
    assert_eq!(world.forwarded, ["poison"]);
    assert_eq!(
        world.broker.jobs.iter().filter(|job| *job == "b/1").count(),
        2
    );
    assert_eq!(world.broker.unacknowledged(), 0);
    assert_eq!(world.status(2), "failed");
}

/// Makes the broker count so many deliveries of what is in the inbox.
fn wear_out(world: &mut World, times: usize) {
    for _ in 0..times {
        world.deliver(0);
        world.lose_channel(0, ChannelId::Inbox(0));
        world
            .coordinator(0)
            .inputs
            .retain(|input| !matches!(input, flotilla_turn::Input::Delivered(_)));
        world.run(0);
        world.drain(0, Lane::Channels);
        world.run(0);
    }
}

#[test]
fn suspects_are_marked_and_taken_one_by_one() {
    let mut world = World::with_owner(1, &[ONE]);
    let job = first_job(&mut world, 1);
    world.complete(succeeded(&job, &json!(1)));
    world.complete(succeeded(&job, &json!(2)));
    wear_out(&mut world, 3);
    world.deliver(0);
    assert_eq!(world.run(0), ["mark Inbox(0) 1"], "not both");
    world.carry_out(0, Lane::Others);
    assert_eq!(world.run(0), ["commit 0:1<2"]);
    world.commit(0, Fate::Answered);
    assert_eq!(
        world.run(0),
        ["clear mark", "ack Inbox(0) 1", "mark Inbox(0) 2"]
    );
    world.calm(0);
    assert_eq!(world.forwarded, [] as [String; 0]);
    assert!(world.database.suspects.is_empty());
}

#[test]
fn a_suspect_that_is_found_marked_is_poison_and_its_neighbours_are_not() {
    let mut world = World::with_owner(2, &[ONE]);
    for id in 1..=2 {
        world.put_start("t.one", id);
    }
    world.calm(0);
    let jobs = [
        world.take_job().expect("one"),
        world.take_job().expect("two"),
    ];
    for job in &jobs {
        world.complete(succeeded(job, &json!(1)));
    }
    for partition in 0..2 {
        let queue = crate::broker::Queue::Of(ChannelId::Inbox(partition));
        for message in world.broker.ready(&queue) {
            message.returns = 3;
        }
    }
    world.deliver(0);
    world.run(0);
    world.carry_out(0, Lane::Others);
    world.run(0);
    world.crash(0);
    world.pass(5.0);
    let next = world.join();
    world.calm(next);
    assert_eq!(world.forwarded, ["poison"], "the one that was being taken");
    let statuses = [world.status(1), world.status(2)];
    assert!(
        statuses.contains(&"failed") && statuses.contains(&"succeeded"),
        "{statuses:?}"
    );
    assert_eq!(world.database.suspects.len(), 0, "nobody waits for a mark");
}

/// What is done with is not acknowledged before what came before it; that one must get its turn all the
/// same.
#[test]
fn poison_does_not_keep_a_suspect_before_it_from_being_marked() {
    let mut world = World::with_owner(1, &[ONE]);
    let job = first_job(&mut world, 1);
    world.complete(succeeded(&job, &json!(1)));
    world.complete(succeeded(&job, &json!(UNSTORABLE)));
    wear_out(&mut world, 3);
    let (other, now) = (Uuid::from_u128(7), world.now);
    world.database.register(other);
    let key = world.broker.ready(&Queue::Of(ChannelId::Inbox(0)))[0].no;
    world
        .database
        .mark(&format!("message {key}"), other, 3.0, now);
    world.calm(0);
    world.pass(0.3);
    world.calm(0);
    assert_eq!(world.forwarded, ["poison"], "the second");
    world
        .database
        .clear_suspect(&format!("message {key}"), other);
    for _ in 0..3 {
        world.pass(0.5);
        world.tick(0);
        world.calm(0);
    }
    assert_eq!(world.broker.unacknowledged(), 0, "the first was taken, too");
}

#[test]
fn a_channel_that_closes_makes_no_poison() {
    let mut world = World::with_owner(1, &[ONE]);
    let job = first_job(&mut world, 1);
    world.complete(succeeded(&job, &json!(1)));
    wear_out(&mut world, 3);
    world.deliver(0);
    world.run(0);
    world.carry_out(0, Lane::Others);
    world.lose_channel(0, ChannelId::Inbox(0));
    world.calm(0);
    assert_eq!(world.forwarded, [] as [String; 0]);
    assert_eq!(world.status(1), "succeeded");
}
