//! Starts that come twice, conflict, or cannot be taken; and what a new owner does.

use flotilla_turn::message::{ReplyAddress, StartRequest};
use serde_json::json;

use crate::flow::{NONE, ONE, first_job};
use crate::messages::{execution_id, request, succeeded};
use crate::world::{Fate, Lane, World};

const NOTHING: &str = "ref: t.nothing\ntasks:\n  - {name: a}\n";

fn from(client: &str, workflow: &str, id: u128) -> StartRequest {
    StartRequest {
        reply_to: Some(ReplyAddress {
            reply_to: client.to_owned(),
            correlation_id: Some("c".to_owned()),
        }),
        ..request(workflow, id)
    }
}

fn with_key(client: &str, workflow: &str, id: u128, key: &str) -> StartRequest {
    let mut request = from(client, workflow, id);
    request.fresh_id = execution_id(id);
    request.start.execution_id = None;
    request.start.idempotency_key = Some(key.to_owned());
    request
}

/// Replies as `client type detail`.
fn replies(world: &World) -> Vec<String> {
    let word = |reply: &crate::broker::Reply| {
        let detail = match &reply.body {
            body if body.get("created").is_some() => body["created"].to_string(),
            body if body.get("error").is_some() => body["error"]["kind"].to_string(),
            body => body["status"].to_string(),
        };
        format!("{} {} {detail}", reply.to, reply.message_type)
    };
    world.broker.replies.iter().map(word).collect()
}

#[test]
fn the_same_id_starts_once_and_every_sender_is_answered() {
    for in_one_turn in [true, false] {
        let mut world = World::with_owner(2, &[ONE]);
        world.put_request(from("one", "t.one", 1));
        if !in_one_turn {
            world.calm(0);
        }
        world.put_request(from("two", "t.one", 1));
        world.calm(0);
        let job = world.take_job().expect("a job");
        world.complete(succeeded(&job, &json!(1)));
        world.calm(0);
        let mut replies = replies(&world);
        replies.sort();
        assert_eq!(
            replies,
            [
                "one workflow.finished \"succeeded\"",
                "one workflow.started true",
                "two workflow.finished \"succeeded\"",
                "two workflow.started false",
            ]
        );
        assert_eq!(world.broker.jobs, ["a/1"]);
    }
}

#[test]
fn a_hundred_senders_of_one_start_are_told_its_end() {
    let mut world = World::with_owner(1, &[ONE]);
    for sender in 0..101 {
        world.put_request(from(&format!("sender {sender}"), "t.one", 1));
        world.calm(0);
    }
    let job = world.take_job().expect("a job");
    world.complete(succeeded(&job, &json!(1)));
    world.calm(0);
    let replies = replies(&world);
    let count = |part: &str| replies.iter().filter(|reply| reply.contains(part)).count();
    assert_eq!(count("workflow.started true"), 1);
    assert_eq!(count("workflow.started false"), 100);
    assert_eq!(count("workflow.finished"), 100);
    assert_eq!(count("sender 100 workflow.finished"), 0);
}

#[test]
fn the_same_key_starts_once_and_another_workflow_is_a_conflict() {
    for in_one_turn in [true, false] {
        let mut world = World::with_owner(2, &[ONE, NOTHING]);
        world.put_request(with_key("one", "t.one", 1, "k"));
        if !in_one_turn {
            world.calm(0);
        }
        world.put_request(with_key("two", "t.one", 2, "k"));
        world.put_request(with_key("three", "t.nothing", 3, "k"));
        world.calm(0);
        let replies = replies(&world);
        assert_eq!(
            replies,
            [
                "one workflow.started true",
                "two workflow.started false",
                "three workflow.rejected \"id_conflict\"",
            ]
        );
        assert_eq!(world.database.executions.len(), 1);
    }
}

#[test]
fn an_execution_that_has_ended_answers_a_repeated_start_at_once() {
    for cached in [0, 10] {
        let mut world = World::new(1, &[NOTHING]);
        world.config.cached_executions = cached;
        world.join();
        world.put_request(from("one", "t.nothing", 1));
        world.calm(0);
        world.put_request(from("two", "t.nothing", 1));
        world.calm(0);
        assert_eq!(
            replies(&world),
            [
                "one workflow.started true",
                "one workflow.finished \"succeeded\"",
                "two workflow.started false",
                "two workflow.finished \"succeeded\"",
            ]
        );
    }
}

#[test]
fn starts_are_not_taken_without_a_partition() {
    let mut world = World::new(1, &[ONE]);
    world.start_coordinator();
    world.put_start("t.one", 1);
    world.deliver(0);
    assert_eq!(world.run(0), NONE);
    assert!(world.broker.consumers(0).is_empty());
}

#[test]
fn a_new_owner_publishes_what_is_owed_and_still_current() {
    let mut world = World::with_owner(1, &[ONE]);
    let done = first_job(&mut world, 1);
    for id in 2..=3 {
        world.put_request(from("client", "t.one", id));
    }
    world.complete(succeeded(&done, &json!(1)));
    world.deliver(0);
    world.run(0);
    world.drain(0, Lane::Loads);
    world.run(0);
    world.commit(0, Fate::Answered);
    world.run(0);
    world.drain(0, Lane::Channels);
    world.crash(0);
    world.broker.jobs.clear();
    world.pass(5.0);
    let next = world.join();
    world.calm(next);
    assert_eq!(
        world.broker.jobs,
        ["a/1", "a/1"],
        "those of 2 and 3, not of 1"
    );
    assert_eq!(
        replies(&world),
        [
            "client workflow.started true",
            "client workflow.started true"
        ]
    );
    world.pass(1.5);
    world.run(next);
    world.calm(next);
    assert!(world.database.jobs.is_empty() && world.database.replies.is_empty());
}

#[test]
fn a_new_owner_sends_the_end_that_its_predecessor_owed() {
    let mut world = World::with_owner(1, &[NOTHING]);
    world.put_request(from("client", "t.nothing", 1));
    world.deliver(0);
    world.run(0);
    world.drain(0, Lane::Loads);
    world.run(0);
    world.commit(0, Fate::LostAfter);
    world.crash(0);
    world.pass(5.0);
    let next = world.join();
    world.calm(next);
    let mut replies = replies(&world);
    replies.dedup();
    assert_eq!(
        replies[..2],
        [
            "client workflow.started true",
            "client workflow.finished \"succeeded\"",
        ]
    );
    assert_eq!(world.database.executions.len(), 1);
}

#[test]
fn starts_of_one_turn_share_a_partition_and_the_next_turn_takes_another() {
    let mut world = World::with_owner(4, &[ONE]);
    (1..=150).for_each(|id| world.put_start("t.one", id));
    world.calm(0);
    (151..=152).for_each(|id| world.put_start("t.one", id));
    world.calm(0);
    let mut partitions: Vec<i32> = (1..=152)
        .map(|id| world.partition_of(execution_id(id)))
        .collect();
    partitions.dedup();
    assert_eq!(
        partitions,
        [0, 1, 2],
        "a hundred, fifty more, and two later"
    );
}

#[test]
fn a_start_of_a_known_workflow_is_looked_up_only_after_one_that_was_there_before() {
    let mut world = World::with_owner(1, &[ONE]);
    let begin = |world: &mut World, id| {
        world.put_request(from("client", "t.one", id));
        world.deliver(0);
        world.run(0)
    };
    assert_eq!(begin(&mut world, 1), ["load 1 starts, 0 executions"]);
    world.calm(0);
    assert_eq!(
        begin(&mut world, 2),
        ["commit 0:1<2"],
        "what it starts is known"
    );
    world.calm(0);
    // Ended and forgotten: only the database knows it.
    let jobs: Vec<_> = std::iter::from_fn(|| world.take_job()).collect();
    for job in &jobs {
        world.complete(succeeded(job, &json!(1)));
        world.calm(0);
    }
    assert_eq!(begin(&mut world, 1).len(), 1);
    world.commit(0, Fate::Answered);
    assert_eq!(
        world.run(0),
        ["load 1 starts, 0 executions"],
        "it was there before"
    );
    world.calm(0);
    assert_eq!(begin(&mut world, 3), ["load 1 starts, 0 executions"]);
    world.calm(0);
    world.pass(6.0);
    world.tick(0);
    world.calm(0);
    assert_eq!(
        begin(&mut world, 4),
        ["load 1 starts, 0 executions"],
        "what is the newest version is asked every now and then"
    );
    world.calm(0);
    assert!(begin(&mut world, 5)[0].starts_with("commit"));
    world.calm(0);
    assert_eq!(world.status(1), "succeeded");
    let said: Vec<String> = replies(&world);
    let again = said
        .iter()
        .filter(|reply| *reply == "client workflow.started false");
    assert_eq!(again.count(), 1, "{said:?}");
}

#[test]
fn a_start_that_names_a_version_is_looked_up_once_for_it() {
    let versioned = "ref: t.one\nversion: '2'\ntasks:\n  - {name: a, action: core.noop}\n";
    let mut world = World::with_owner(1, &[versioned]);
    let begin = |world: &mut World, id, version: Option<&str>| {
        let mut request = from("client", "t.one", id);
        request.start.version = version.map(str::to_owned);
        world.put_request(request);
        world.deliver(0);
        let done = world.run(0);
        world.calm(0);
        done
    };
    let looked_up = ["load 1 starts, 0 executions"];
    assert_eq!(begin(&mut world, 1, Some("2")), looked_up);
    assert!(begin(&mut world, 2, Some("2"))[0].starts_with("commit"));
    assert_eq!(
        begin(&mut world, 3, None),
        looked_up,
        "the newest may be another"
    );
    assert!(begin(&mut world, 4, None)[0].starts_with("commit"));
    assert!(begin(&mut world, 5, Some("2"))[0].starts_with("commit"));
    assert_eq!(begin(&mut world, 6, Some("3")), looked_up);
    assert_eq!(
        begin(&mut world, 7, Some("3")),
        looked_up,
        "it may come to be registered"
    );
    assert_eq!(world.database.executions.len(), 5);
}

#[test]
fn a_sender_is_told_the_end_though_its_turn_was_decided_twice() {
    let parent = "ref: t.parent\ntasks:\n  - {name: c, type: workflow, action: t.child}\n";
    let child = "ref: t.child\ntasks:\n  - {name: a, action: core.noop}\n";
    let mut world = World::with_owner(1, &[ONE, parent, child]);
    world.put_request(from("one", "t.one", 1));
    world.calm(0);
    // What the child is has to be looked up, so all is decided again.
    world.put_request(from("two", "t.one", 1));
    world.put_start("t.parent", 2);
    world.calm(0);
    let job = world.take_job().expect("a job");
    world.complete(succeeded(&job, &json!(1)));
    world.calm(0);
    let told = replies(&world);
    let of_two: Vec<&String> = told.iter().filter(|told| told.starts_with("two")).collect();
    assert_eq!(
        of_two,
        [
            "two workflow.started false",
            "two workflow.finished \"succeeded\""
        ]
    );
}

#[test]
fn a_child_whose_id_is_taken_is_refused_and_its_parent_fails() {
    let parent = "ref: t.parent\ntasks:\n  - {name: a, action: core.noop, next: [{do: c}]}\n  \
                  - {name: c, type: workflow, action: t.one}\n";
    let begin = || {
        let mut world = World::with_owner(1, &[ONE, parent]);
        world.put_start("t.parent", 1);
        world.calm(0);
        let job = world.take_job().expect("the job of a");
        (world, job)
    };
    // An id of a child follows from its parent: whoever knows that can compute it.
    let (mut world, job) = begin();
    world.complete(succeeded(&job, &json!(1)));
    world.calm(0);
    let mut ids = world.database.executions.keys().copied();
    let child = ids.find(|id| *id != execution_id(1)).expect("the child");

    let (mut world, job) = begin();
    let mut foreign = request("t.one", 2);
    foreign.start.execution_id = Some(child);
    world.put_request(foreign);
    world.calm(0);
    let foreign_job = world.take_job().expect("the job of the other execution");
    world.complete(succeeded(&job, &json!(1)));
    world.calm(0);
    assert_eq!(world.status(1), "failed");
    let errors = &world.database.executions[&execution_id(1)].state.errors;
    let errors = errors.as_ref().expect("what failed").text();
    assert!(errors.contains(r#""kind":"id_conflict""#), "{errors}");
    world.complete(succeeded(&foreign_job, &json!(1)));
    world.calm(0);
    assert_eq!(world.database.executions[&child].state.status, "succeeded");
}
