//! Partitions are shared evenly, handed over between two turns, and let go by who cannot work.

use flotilla_turn::Input;
use flotilla_turn::message::ChannelId;
use flotilla_turn::rows::PartitionNo;
use serde_json::json;

use crate::flow::{NONE, ONE, first_job};
use crate::messages::{execution_id, succeeded};
use crate::world::{Fate, Lane, World};

fn held(world: &mut World, no: usize) -> Vec<PartitionNo> {
    world.coordinator(no).turns.partitions().collect()
}

/// Lets a second pass in which the leases are renewed and nothing is delivered.
fn idle(world: &mut World) -> Vec<String> {
    world.pass(1.0);
    let mut effects = world.tick(0);
    world.drain(0, Lane::Others);
    effects.extend(world.run(0));
    while world.has_effect(0, Lane::Commits) {
        world.commit(0, Fate::Answered);
        effects.extend(world.run(0));
    }
    effects
}

fn count(effects: &[String], wanted: &str) -> usize {
    effects.iter().filter(|effect| *effect == wanted).count()
}

/// Lets both look for partitions once, half a second later.
fn look(world: &mut World) {
    world.pass(0.5);
    for no in 0..world.coordinators.len() {
        world.tick(no);
        world.calm(no);
    }
}

#[test]
fn a_second_coordinator_gets_its_share() {
    let mut world = World::with_owner(5, &[ONE]);
    let second = world.start_coordinator();
    look(&mut world);
    assert_eq!(held(&mut world, 0).len(), 5, "one look may be too early");
    look(&mut world);
    look(&mut world);
    assert_eq!(held(&mut world, 0), [0, 1, 2]);
    assert_eq!(held(&mut world, second), [3, 4]);
    look(&mut world);
    look(&mut world);
    assert_eq!(
        held(&mut world, 0),
        [0, 1, 2],
        "an even share stays as it is"
    );
}

#[test]
fn a_partition_is_handed_over_once_everything_is_confirmed() {
    let mut world = World::with_owner(2, &[ONE]);
    // One in each partition.
    for id in 1..=2 {
        world.put_start("t.one", id);
        world.deliver(0);
        world.run(0);
        world.drain(0, Lane::Loads);
        world.run(0);
        world.commit(0, Fate::Answered);
        let acknowledged = format!("ack Start {id}");
        assert_eq!(world.run(0), [acknowledged.as_str(), "publish a/1"]);
    }
    let second = world.start_coordinator();
    world.tick(second);
    world.drain(second, Lane::Others);
    for _ in 0..2 {
        let (taken, share) = (Vec::new(), Some(1));
        world.input(0, Input::PartitionsTaken { taken, share });
    }
    assert_eq!(world.run(0), ["close Inbox(1)"]);
    assert_eq!(world.run(0), NONE, "its job is not confirmed yet");
    world.drain(0, Lane::Publications);
    assert_eq!(world.run(0), ["commit 1:1<2"]);
    world.commit(0, Fate::Answered);
    assert_eq!(world.run(0), ["release [(1, 1)]"]);
    world.drain(0, Lane::Others);
    world.pass(0.5);
    world.tick(second);
    world.calm(second);
    assert_eq!(held(&mut world, second), [1]);
    assert_eq!(
        world.broker.jobs,
        ["a/1", "a/1"],
        "nothing was published twice"
    );
}

#[test]
fn nothing_starts_in_a_partition_that_is_handed_over() {
    let mut world = World::with_owner(2, &[ONE]);
    for _ in 0..2 {
        let (taken, share) = (Vec::new(), Some(1));
        world.input(0, Input::PartitionsTaken { taken, share });
    }
    for id in 1..=2 {
        world.put_start("t.one", id);
    }
    world.deliver(0);
    world.run(0);
    world.drain(0, Lane::Loads);
    world.run(0);
    world.commit(0, Fate::Answered);
    assert_eq!(
        (
            world.partition_of(execution_id(1)),
            world.partition_of(execution_id(2))
        ),
        (0, 0)
    );
}

#[test]
fn confirms_are_waited_for_only_so_long() {
    let mut world = World::with_owner(1, &[ONE]);
    world.put_start("t.one", 1);
    world.deliver(0);
    world.run(0);
    world.drain(0, Lane::Loads);
    world.run(0);
    world.commit(0, Fate::Answered);
    world.run(0);
    world.input(0, Input::Stop);
    world.run(0);
    world.pass(0.9);
    assert_eq!(world.run(0), NONE);
    world.pass(0.1);
    assert_eq!(
        world.run(0),
        ["commit 0:0<2"],
        "the job stays in the outbox"
    );
    world.commit(0, Fate::Answered);
    world.run(0);
    assert_eq!(world.database.jobs.len(), 1);
}

#[test]
fn who_cannot_read_an_inbox_lets_the_partition_go() {
    let mut world = World::with_owner(2, &[ONE]);
    world.lose_channel(0, ChannelId::Inbox(1));
    assert_eq!(world.run(0), ["open Inbox(1)"]);
    world.coordinator(0).effects.clear();
    world.pass(1.0);
    world.tick(0);
    world.calm(0);
    world.pass(2.9);
    world.tick(0);
    assert_eq!(held(&mut world, 0), [0, 1]);
    world.calm(0);
    world.pass(0.2);
    let effects = world.tick(0);
    assert!(
        effects.contains(&"release [(1, 1)]".to_owned()),
        "{effects:?}"
    );
    assert_eq!(held(&mut world, 0), [0]);
}

#[test]
fn who_cannot_publish_lets_everything_go_and_takes_nothing() {
    let mut world = World::with_owner(2, &[ONE]);
    world.input(0, Input::PublisherChanged { is_up: false });
    world.tick(0);
    world.calm(0);
    world.pass(3.1);
    world.tick(0);
    world.calm(0);
    assert!(held(&mut world, 0).is_empty());
    world.pass(3.0);
    assert!(!world.tick(0).contains(&"take".to_owned()));
    world.input(0, Input::PublisherChanged { is_up: true });
    world.pass(0.5);
    world.tick(0);
    world.pass(0.5);
    world.tick(0);
    world.calm(0);
    assert_eq!(held(&mut world, 0), [0, 1]);
}

#[test]
fn an_inbox_that_has_gone_silent_is_opened_again() {
    let mut world = World::with_owner(1, &[ONE]);
    let job = first_job(&mut world, 1);
    world.complete(succeeded(&job, &json!(1)));
    let mut effects = Vec::new();
    for _ in 0..9 {
        effects.extend(idle(&mut world));
    }
    assert_eq!(count(&effects, "probe 0"), 0);
    effects.extend(idle(&mut world));
    assert_eq!(count(&effects, "probe 0"), 1);
    for _ in 0..2 {
        effects.extend(idle(&mut world));
    }
    assert_eq!(count(&effects, "close Inbox(0)"), 0, "it may still come");
    effects.extend(idle(&mut world));
    assert_eq!(count(&effects, "probe 0"), 1);
    assert_eq!(count(&effects, "close Inbox(0)"), 1);
    assert_eq!(count(&effects, "open Inbox(0)"), 1);
    assert_eq!(world.status(1), "running");
    world.calm(0);
    assert_eq!(world.status(1), "succeeded");
}

#[test]
fn an_inbox_from_which_the_probe_comes_back_is_left_alone() {
    let mut world = World::with_owner(1, &[ONE]);
    let mut effects = Vec::new();
    for _ in 0..30 {
        effects.extend(idle(&mut world));
        world.deliver(0);
    }
    assert_eq!(
        count(&effects, "probe 0"),
        2,
        "one each ten seconds and a little"
    );
    assert_eq!(count(&effects, "close Inbox(0)"), 0);
}

#[test]
fn a_probe_that_cannot_be_sent_proves_nothing() {
    let mut world = World::with_owner(1, &[ONE]);
    for _ in 0..10 {
        world.pass(1.0);
        world.tick(0);
        world.calm(0);
        world.input(0, Input::ProbeFailed { partition: 0 });
    }
    let effects: Vec<String> = (0..9).flat_map(|_| idle(&mut world)).collect();
    assert_eq!(count(&effects, "close Inbox(0)"), 0);
}

#[test]
fn a_shared_queue_that_fills_while_nothing_comes_is_read_anew() {
    let mut world = World::with_owner(1, &[ONE]);
    let second = |world: &mut World| {
        let effects = idle(world);
        for (channel, generation) in world.broker.consumers(0) {
            if channel != ChannelId::Start {
                world.deliver_one(0, channel, generation);
            }
        }
        effects
    };
    let empty: Vec<String> = (0..30).flat_map(|_| second(&mut world)).collect();
    assert_eq!(count(&empty, "inspect Start"), 3);
    assert_eq!(count(&empty, "close Start"), 0);
    world.put_start("t.one", 1);
    let full: Vec<String> = (0..14).flat_map(|_| second(&mut world)).collect();
    assert_eq!(count(&full, "inspect Start"), 1);
    assert_eq!(count(&full, "close Start"), 1);
    world.calm(0);
    assert_eq!(world.status(1), "running");
}

#[test]
fn a_look_that_is_under_way_is_waited_for_before_a_stop() {
    let mut world = World::new(1, &[ONE]);
    let no = world.start_coordinator();
    assert!(world.tick(no).contains(&"take".to_owned()));
    world.input(no, Input::Stop);
    assert_eq!(world.run(no), NONE);
    world.calm(no);
    assert!(world.coordinator(no).stopped);
    let row = &world.database.partitions[&0];
    assert!(
        row.epoch == 1 && row.lease_expires_at <= world.now,
        "taken, and given back"
    );
}
