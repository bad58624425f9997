//! Jobs that the broker has lost.

use flotilla_engine::execution::{Event, Job, Outcome};
use serde_json::json;

use crate::harness::{Scene, begin, id, none};

const ONE: &str = "ref: t.one\ntasks:\n  - {name: a, action: core.noop}\n";

fn lose(scene: &mut Scene) -> Outcome {
    let attempt = id(&scene.jobs[0]);
    scene.apply(&Event::JobLost { attempt })
}

#[test]
fn the_same_attempt_is_published_again() {
    let mut scene = begin(ONE, &none());
    scene.now += chrono::TimeDelta::seconds(900);
    assert_eq!(lose(&mut scene), Outcome::Applied);
    assert_eq!(scene.jobs.len(), 2);
    let again = Job {
        resent: true,
        ..scene.jobs[0].clone()
    };
    assert!(!scene.jobs[0].resent);
    assert_eq!(again, scene.jobs[1]);
    assert_eq!(scene.execution.live[&1].dispatched_at, Some(scene.now));
    assert_eq!(scene.execution.counts.attempts, 1);
    assert_eq!(
        scene.log.last().map(String::as_str),
        Some("job_resent dispatched>dispatched")
    );
}

#[test]
fn a_job_that_runs_or_has_ended_is_not() {
    let mut scene = begin(ONE, &none());
    scene.started("a");
    let log = scene.log.len();
    assert_eq!(lose(&mut scene), Outcome::Nothing);
    let attempt = id(&scene.jobs[0]);
    scene.succeed("a", &json!(null));
    assert_eq!(scene.apply(&Event::JobLost { attempt }), Outcome::Nothing);
    assert_eq!(scene.log.len(), log + 2);

    let mut scene = begin(ONE, &none());
    scene.cancel();
    assert_eq!(lose(&mut scene), Outcome::Nothing, "nobody is to run it");
    assert_eq!(scene.jobs.len(), 1);
}

#[test]
fn a_job_that_died_of_its_neighbours_is_published_again() {
    let mut scene = begin(ONE, &none());
    let attempt = id(&scene.jobs[0]);
    scene.apply(&Event::JobDied {
        attempt,
        reason: "delivery_limit".to_owned(),
    });
    assert_eq!(scene.jobs.len(), 2);
    assert_eq!(
        scene.log.last().map(String::as_str),
        Some("job_resent dispatched>dispatched")
    );
}

fn give_back(scene: &mut Scene) -> Outcome {
    let attempt = id(&scene.jobs[0]);
    scene.apply(&Event::JobReturned { attempt })
}

#[test]
fn a_job_whose_bundle_came_back_is_published_again_whoever_ran_it() {
    let mut scene = begin(ONE, &none());
    assert_eq!(give_back(&mut scene), Outcome::Applied);
    assert!(scene.jobs[1].resent);
    scene.started("a");
    assert_eq!(give_back(&mut scene), Outcome::Applied);
    assert_eq!(scene.jobs.len(), 3);
    assert_eq!(
        scene.log.last().map(String::as_str),
        Some("job_resent running>running")
    );
    assert_eq!(scene.execution.live[&1].starts, 1, "nobody has counted it");
}

#[test]
fn a_job_that_was_done_when_its_bundle_came_back_is_done() {
    let mut scene = begin(ONE, &none());
    let attempt = id(&scene.jobs[0]);
    scene.succeed("a", &json!(null));
    let log = scene.log.len();
    let outcome = scene.apply(&Event::JobReturned { attempt });
    assert_eq!(outcome, Outcome::Nothing);
    assert_eq!((scene.jobs.len(), scene.log.len()), (0, log));
}

#[test]
fn a_job_that_is_to_be_cancelled_ends_when_its_bundle_comes_back() {
    let mut scene = begin(ONE, &none());
    scene.cancel();
    assert_eq!(give_back(&mut scene), Outcome::Applied);
    assert_eq!(scene.jobs.len(), 1, "nobody is to run it");
    assert!(scene.execution.live.is_empty());
}
