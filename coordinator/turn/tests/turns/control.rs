//! Commands, and jobs that are lost.

use flotilla_protocol::message::WorkflowControl;
use flotilla_turn::Input;
use flotilla_turn::message::{ControlRequest, ReplyAddress};
use flotilla_turn::rows::LostJob;
use serde_json::json;

use crate::flow::{ONE, first_job};
use crate::messages::{execution_id, failed, succeeded};
use crate::world::{Fate, Lane, World};

pub fn control(world: &mut World, id: u128, command: &str, message_id: Option<&str>) {
    let body = json!({"execution_id": execution_id(id), "command": command, "reason": "enough"});
    let control: WorkflowControl = serde_json::from_value(body).expect("a command");
    world.put_control(ControlRequest {
        control,
        message_id: message_id.map(str::to_owned),
        reply_to: Some(ReplyAddress {
            reply_to: "client".to_owned(),
            correlation_id: None,
        }),
    });
}

/// The replies so far, as `command accepted reason`.
pub fn replies(world: &World) -> Vec<String> {
    let replies = world.broker.replies.iter();
    replies
        .map(|reply| {
            let body = &reply.body;
            format!(
                "{} {} {}",
                body["command"], body["accepted"], body["reason"]
            )
        })
        .collect()
}

#[test]
fn a_cancel_reaches_the_worker_after_the_commit() {
    let mut world = World::with_owner(1, &[ONE]);
    let job = first_job(&mut world, 1);
    control(&mut world, 1, "cancel", Some("c-1"));
    world.deliver(0);
    world.run(0);
    world.carry_out(0, Lane::Loads);
    assert_eq!(world.run(0), ["commit 0:1<2"]);
    world.commit(0, Fate::Answered);
    assert_eq!(
        world.run(0),
        [
            "ack Inbox(0) 1",
            "publish workflow.control.reply",
            "cancel 1"
        ]
    );
    world.calm(0);
    assert_eq!(world.status(1), "cancelling");
    world.complete(failed(&job));
    world.calm(0);
    assert_eq!(world.status(1), "cancelled");
    assert_eq!(replies(&world), ["\"cancel\" true null"]);
}

#[test]
fn a_command_with_a_name_acts_once_and_is_answered_each_time() {
    let mut world = World::with_owner_that_keeps(0, &[ONE]);
    let job = first_job(&mut world, 1);
    for (command, name) in [("pause", "p-1"), ("resume", "r-1"), ("pause", "p-1")] {
        control(&mut world, 1, command, Some(name));
        world.calm(0);
    }
    assert_eq!(
        world.status(1),
        "running",
        "the second `p-1` is the first one again"
    );
    control(&mut world, 1, "pause", None);
    control(&mut world, 1, "pause", None);
    world.calm(0);
    world.complete(succeeded(&job, &json!(1)));
    world.calm(0);
    assert_eq!(world.status(1), "paused");
    control(&mut world, 1, "resume", Some("r-2"));
    world.calm(0);
    assert_eq!(world.status(1), "succeeded");
    assert!(replies(&world).iter().all(|reply| reply.contains("true")));
    assert_eq!(replies(&world).len(), 6);
}

#[test]
fn the_same_command_twice_in_one_turn_acts_once() {
    let mut world = World::with_owner(1, &[ONE]);
    first_job(&mut world, 1);
    for (command, name) in [("pause", "p-1"), ("resume", "r-1"), ("pause", "p-1")] {
        control(&mut world, 1, command, Some(name));
    }
    world.calm(0);
    assert_eq!(world.status(1), "running");
}

#[test]
fn what_cannot_be_done_is_refused_with_the_reason() {
    let mut world = World::with_owner(1, &[ONE]);
    let job = first_job(&mut world, 1);
    control(&mut world, 1, "resume", None);
    control(&mut world, 7, "cancel", None);
    control(&mut world, 1, "rerun", None);
    control(&mut world, 1, "dance", None);
    world.calm(0);
    world.complete(succeeded(&job, &json!(1)));
    world.calm(0);
    control(&mut world, 1, "cancel", None);
    world.calm(0);
    let refused = [
        "\"resume\" false \"not_paused\"",
        "\"cancel\" false \"unknown_execution\"",
        "\"rerun\" false \"still_running\"",
        "\"dance\" false \"not_supported\"",
        "\"cancel\" false \"already_finished\"",
    ];
    assert_eq!(replies(&world), refused);
    let details = world.broker.replies.iter();
    let details: Vec<_> = details
        .filter_map(|reply| reply.body.get("detail"))
        .collect();
    assert_eq!(details, ["the execution is running, and has not ended"]);
}

#[test]
fn a_lost_job_is_published_again_and_owed_until_it_is_confirmed() {
    let mut world = World::with_owner(1, &[ONE]);
    let job = first_job(&mut world, 1);
    world.pass(300.0);
    world.calm(0);
    let lost = LostJob {
        partition: 0,
        execution_id: job.execution_id,
        run: 1,
        attempt: 1,
    };
    world.input(0, Input::JobsLost(vec![lost]));
    world.calm(0);
    assert_eq!(world.broker.jobs, ["a/1", "a/1"]);
    assert!(world.log(1).join("\n").contains("job_resent"));
    world.complete(succeeded(&job, &json!(1)));
    world.calm(0);
    world.input(0, Input::JobsLost(vec![lost]));
    world.calm(0);
    assert_eq!(world.broker.jobs.len(), 2, "it has ended meanwhile");
    assert_eq!(world.status(1), "succeeded");
}

#[test]
fn lost_jobs_are_looked_for_now_and_then() {
    let mut world = World::with_owner(2, &[ONE]);
    world.pass(299.0);
    let looked = |effects: &[String]| effects.contains(&"find lost jobs of [0, 1]".to_owned());
    assert!(!looked(&world.tick(0)));
    world.pass(2.0);
    assert!(looked(&world.tick(0)));
    assert!(!looked(&world.tick(0)));
}
