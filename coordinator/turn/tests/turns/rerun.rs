//! Reruns of executions that have ended: loaded with what they have behind them, once for each message.

use serde_json::json;

use crate::control::{control, replies};
use crate::flow::{ONE, first_job};
use crate::messages::{failed, succeeded};
use crate::world::World;

/// An execution of `t.one` that has failed.
fn failed_one(cached: usize) -> World {
    let mut world = World::with_owner_that_keeps(cached, &[ONE]);
    let job = first_job(&mut world, 1);
    world.complete(failed(&job));
    world.calm(0);
    assert_eq!(world.status(1), "failed");
    world
}

#[test]
fn a_rerun_that_is_delivered_again_runs_once() {
    let mut world = failed_one(100);
    for _ in 0..2 {
        control(&mut world, 1, "rerun", Some("r-1"));
        world.calm(0);
    }
    let job = world.take_job().expect("the job of the second visit");
    assert_eq!((job.visit, job.attempt), (2, 1));
    assert!(world.take_job().is_none(), "there is one");
    world.complete(failed(&job));
    world.calm(0);
    control(&mut world, 1, "rerun", Some("r-1"));
    world.calm(0);
    assert_eq!(world.status(1), "failed", "it is still the same rerun");
    assert_eq!(replies(&world), ["\"rerun\" true null"; 3]);
}

#[test]
fn a_failure_and_its_rerun_may_come_in_one_turn() {
    let mut world = World::with_owner(1, &[ONE]);
    let job = first_job(&mut world, 1);
    world.complete(failed(&job));
    control(&mut world, 1, "rerun", Some("r-1"));
    world.calm(0);
    assert_eq!(world.status(1), "running");
    let job = world.take_job().expect("the job of the second visit");
    world.complete(succeeded(&job, &json!(1)));
    world.calm(0);
    assert_eq!(world.status(1), "succeeded");
}

#[test]
fn another_owner_goes_on_with_a_rerun() {
    let mut world = failed_one(0);
    control(&mut world, 1, "rerun", None);
    world.calm(0);
    let job = world.take_job().expect("the job of the second visit");
    world.crash(0);
    world.pass(60.0);
    let next = world.join();
    world.calm(next);
    world.complete(failed(&job));
    world.calm(next);
    assert_eq!(world.status(1), "failed");
    control(&mut world, 1, "rerun", None);
    world.calm(next);
    let mut last = None;
    while let Some(job) = world.take_job() {
        last = Some(job);
    }
    let job = last.expect("the job of the third visit");
    assert_eq!(job.visit, 3);
    world.complete(succeeded(&job, &json!(1)));
    world.calm(next);
    assert_eq!(world.status(1), "succeeded");
}
