//! One turn after the other: load, commit, acknowledge, publish, confirm.

use serde_json::json;

use crate::messages::succeeded;
use crate::world::{Fate, Lane, World};

const ONE: &str = "ref: t.one\ntasks:\n  - {name: a, action: core.noop}\n";

#[test]
fn a_start_is_loaded_committed_acknowledged_and_published() {
    let mut world = World::with_owner(1, &[ONE]);
    world.put_start("t.one", 1);
    world.deliver(0);
    assert_eq!(world.run(0), ["load 1 starts, 0 executions"]);
    world.carry_out(0, Lane::Loads);
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
