//! What the log says beside the statuses: enough to follow it again, and no more.

use flotilla_engine::execution::{Command, Event};
use flotilla_protocol::message::CompletionStatus;
use serde_json::{Value, json};

use crate::harness::{Scene, begin, id, none};

const ONE: &str = "
ref: t.one
vars: {x: 1}
tasks:
  - {name: a, action: core.noop, publish: [{x: \"{{ 6 // result() }}\"}]}
";
const RETRY: &str = "
ref: t.retry
tasks:
  - {name: a, action: core.noop, retry: {count: 2, when: \"{{ result() + 1 > 3 }}\"}}
";

/// The details of the entries of a kind.
fn details<'a>(scene: &'a Scene, kind: &str) -> Vec<&'a Value> {
    let entries = scene.log.iter().zip(&scene.details);
    entries
        .filter(|(entry, _)| entry.starts_with(kind))
        .map(|(_, detail)| detail)
        .collect()
}

#[test]
fn a_plain_success_says_nothing_but_what_it_published() {
    let mut scene = begin(
        "ref: t.plain\ntasks:\n  - {name: a, action: core.noop}\n",
        &none(),
    );
    scene.started("a");
    scene.succeed("a", &json!(1));
    assert_eq!(scene.details, vec![Value::Null; scene.log.len()]);

    let mut scene = begin(ONE, &none());
    scene.succeed("a", &json!(2));
    assert_eq!(
        details(&scene, "task_ended"),
        [&json!({"published": [["x", 2]]})]
    );
}

#[test]
fn a_retry_tells_the_result_that_the_row_will_lose() {
    let mut scene = begin(RETRY, &none());
    scene.succeed("a", &json!(7));
    let expected = json!({"ended": "succeeded", "error": null, "delay_s": 0.0, "result": 7});
    assert_eq!(details(&scene, "task_retry_scheduled"), [&expected]);

    let yaml = "ref: t.null\ntasks:\n  - {name: a, action: core.noop, retry: {count: 2}}\n";
    let mut scene = begin(yaml, &none());
    scene.fail("a", "broken");
    let error = json!({"kind": "broken", "message": "no"});
    let expected = json!({"ended": "failed", "error": error, "delay_s": 0.0});
    assert_eq!(details(&scene, "task_retry_scheduled"), [&expected]);
}

#[test]
fn an_end_that_is_not_as_reported_tells_the_report() {
    let mut scene = begin(ONE, &none());
    scene.succeed("a", &json!(0));
    let expected = json!({"reported": {"status": "succeeded", "error": null}});
    assert_eq!(details(&scene, "task_ended"), [&expected]);

    let mut scene = begin(RETRY, &none());
    let job = scene.job("a");
    scene.answer(&job, CompletionStatus::TimedOut, Some(&json!("text")), None);
    let error = json!({"kind": "task_timeout", "message": "the worker gave no reason"});
    let expected = json!({"reported": {"status": "timed_out", "error": error}});
    assert_eq!(details(&scene, "task_ended"), [&expected]);
    let ended = scene.ended[0].ended.as_ref().expect("it has ended");
    assert_eq!(ended.result.text(), "\"text\"", "the row keeps the result");
}

#[test]
fn an_attempt_that_is_given_up_is_marked() {
    let given_up = json!({"given_up": true});
    let mut scene = begin(RETRY, &none());
    let attempt = id(&scene.jobs[0]);
    scene.apply(&Event::JobDied {
        attempt,
        reason: "no_action".to_owned(),
    });
    assert_eq!(details(&scene, "task_ended"), [&given_up]);

    let mut scene = begin(RETRY, &none());
    scene.apply(&Event::CompletionPoisoned {
        attempt,
        reason: "it cannot be stored".to_owned(),
    });
    assert_eq!(details(&scene, "task_ended"), [&given_up]);

    let mut scene = begin(RETRY, &none());
    for _ in 0..7 {
        scene.started("a");
    }
    assert_eq!(details(&scene, "task_ended"), [&given_up]);
}

#[test]
fn commands_and_jobs_sent_again_say_why() {
    let mut scene = begin(ONE, &none());
    let attempt = id(&scene.jobs[0]);
    scene.apply(&Event::JobLost { attempt });
    scene.apply(&Event::JobDied {
        attempt,
        reason: "delivery_limit".to_owned(),
    });
    assert_eq!(
        details(&scene, "job_resent"),
        [
            &json!({"reason": "lost"}),
            &json!({"reason": "delivery_limit"})
        ]
    );
    scene.pause();
    scene.apply(&Event::Controlled {
        command: Command::Cancel {
            reason: Some("late".to_owned()),
        },
        message_id: Some("m-1".to_owned()),
    });
    assert_eq!(
        details(&scene, "control_applied"),
        [
            &json!({"command": "pause"}),
            &json!({"command": "cancel", "reason": "late", "message_id": "m-1"}),
        ]
    );
}
