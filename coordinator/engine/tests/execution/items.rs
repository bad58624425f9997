//! `with_items`: the window, results, failures, batches, and how a task with items bears control.

use flotilla_engine::compile;
use flotilla_engine::execution::{Job, MAX_ITEMS_IN_FLIGHT, MAX_JOBS_PER_STEP, Outcome, TimerKind};
use flotilla_protocol::message::{CompletionStatus, TaskError};
use serde_json::{Value, json};

use crate::harness::{Scene, begin, none};

/// Starts a workflow whose task `work` has the items 1 to `count`, and `fields` beside them.
fn spread(count: u32, fields: &str) -> Scene {
    let yaml = format!(
        "
ref: t.items
tasks:
  - name: work
    action: core.noop
    with_items: \"{{{{ range(1, {}) }}}}\"
    input: {{v: \"{{{{ item }}}}\", i: \"{{{{ index }}}}\"}}
    publish: [{{r: \"{{{{ result() }}}}\"}}]
{fields}
output_map: {{r: \"{{{{ vars.r | default(null) }}}}\"}}
",
        count + 1
    );
    begin(&yaml, &none())
}

fn index(job: &Job) -> u32 {
    job.item.expect("a job of an item").0
}

fn in_flight(scene: &Scene) -> Vec<u32> {
    scene.jobs.iter().map(index).collect()
}

fn take(scene: &mut Scene, item: u32) -> Job {
    let at = scene.jobs.iter().position(|job| index(job) == item);
    scene.jobs.remove(at.expect("the item is in flight"))
}

fn succeed(scene: &mut Scene, item: u32, result: &Value) -> Outcome {
    let job = take(scene, item);
    scene.answer(&job, CompletionStatus::Succeeded, Some(result), None)
}

fn fail(scene: &mut Scene, item: u32) -> Outcome {
    let job = take(scene, item);
    let error = TaskError {
        kind: "broken".to_owned(),
        message: "no".to_owned(),
        retryable: None,
        details: None,
    };
    scene.answer(&job, CompletionStatus::Failed, None, Some(error))
}

fn end_of_whole(scene: &Scene) -> &'static str {
    let whole = scene.ended.iter().find(|run| run.item.is_none());
    whole.expect("the task has ended").status.word()
}

#[test]
fn results_stand_in_the_order_of_the_items_whatever_ends_first() {
    let mut scene = spread(3, "");
    assert_eq!(in_flight(&scene), [0, 1, 2]);
    assert_eq!(scene.input("work"), json!({"v": 1, "i": 0}));
    succeed(&mut scene, 2, &json!("c"));
    succeed(&mut scene, 0, &json!("a"));
    assert_eq!(scene.status(), "running");
    succeed(&mut scene, 1, &json!({"b": true}));
    assert_eq!(scene.status(), "succeeded");
    assert_eq!(scene.output(), json!({"r": ["a", {"b": true}, "c"]}));
    let counts = scene.execution.counts;
    assert_eq!((counts.total, counts.succeeded, counts.attempts), (4, 4, 3));
    assert_eq!(scene.execution.visits, [1], "items are no visits");
}

#[test]
fn the_log_has_the_start_of_the_whole_and_each_item() {
    let mut scene = spread(1, "");
    succeed(&mut scene, 0, &json!(null));
    assert_eq!(
        scene.log,
        [
            "execution_started ->running",
            "task_started ->running",
            "task_dispatched ->dispatched",
            "task_ended dispatched>succeeded",
            "task_ended running>succeeded",
            "execution_status_changed running>succeeded",
        ]
    );
    assert_eq!(scene.details[1], json!({"items": 1}));
}

#[test]
fn a_finished_item_lets_the_next_one_start() {
    let mut scene = spread(4, "    concurrency: 2");
    assert_eq!(in_flight(&scene), [0, 1]);
    succeed(&mut scene, 1, &json!(1));
    assert_eq!(in_flight(&scene), [0, 2]);
    succeed(&mut scene, 2, &json!(2));
    assert_eq!(in_flight(&scene), [0, 3]);
    succeed(&mut scene, 3, &json!(3));
    succeed(&mut scene, 0, &json!(0));
    assert_eq!(scene.output(), json!({"r": [0, 1, 2, 3]}));
}

#[test]
fn an_empty_list_succeeds_at_once() {
    let scene = spread(0, "");
    assert!(scene.jobs.is_empty());
    assert_eq!(scene.output(), json!({"r": []}));
    assert_eq!(scene.status(), "succeeded");
}

#[test]
fn many_items_are_let_in_step_by_step_up_to_the_bound_of_the_server() {
    let mut scene = spread(5_000, "");
    assert_eq!(scene.jobs.len(), MAX_JOBS_PER_STEP);
    assert!(matches!(
        scene.timers.values().next(),
        Some((TimerKind::Dispatch, _))
    ));
    while !scene.timers.is_empty() {
        assert!(
            scene.wait().abs() < f64::EPSILON,
            "the timer is due at once"
        );
    }
    let bound = usize::try_from(MAX_ITEMS_IN_FLIGHT).expect("a small number");
    assert_eq!(scene.jobs.len(), bound);
    succeed(&mut scene, 0, &json!(null));
    assert_eq!(scene.jobs.len(), bound);
    assert!(scene.timers.is_empty());
    while let Some(job) = scene.jobs.first() {
        let item = index(job);
        succeed(&mut scene, item, &json!(item));
    }
    let output = scene.output();
    let results = output["r"].as_array().expect("a list");
    assert_eq!(results.len(), 5_000);
    assert_eq!(results[4_999], json!(4_999));
}

#[test]
fn a_batch_is_a_list_and_counts_as_one() {
    let yaml = "
ref: t.batches
tasks:
  - name: work
    action: core.noop
    with_items: [a, b, c, d, e]
    batch_size: 2
    input: {rows: \"{{ item }}\", same: \"{{ batch == item }}\", part: \"{{ index }}\"}
    publish: [r]
";
    let mut scene = begin(yaml, &none());
    let inputs: Vec<Value> = scene
        .jobs
        .iter()
        .map(|job| serde_json::from_str(job.input.text()).expect("JSON"))
        .collect();
    assert_eq!(
        inputs,
        [
            json!({"rows": ["a", "b"], "same": true, "part": 0}),
            json!({"rows": ["c", "d"], "same": true, "part": 1}),
            json!({"rows": ["e"], "same": true, "part": 2}),
        ]
    );
    let sizes: Vec<_> = scene.jobs.iter().map(|job| job.item).collect();
    assert_eq!(
        sizes,
        [Some((0, Some(2))), Some((1, Some(2))), Some((2, Some(1)))]
    );
    for item in [0, 1, 2] {
        succeed(&mut scene, item, &json!(item));
    }
    assert_eq!(scene.variables(), json!({"r": [0, 1, 2]}));
}

#[test]
fn all_items_run_though_one_fails_and_the_failure_names_it() {
    let yaml = "
ref: t.failing
tasks:
  - name: work
    action: core.noop
    with_items: [a, b, c]
    concurrency: 1
    next:
      - {when: \"{{ failed() }}\", publish: [{partial: \"{{ result() }}\"}, {items: \"{{ error().items }}\"}], do: report}
  - {name: report, action: core.noop}
";
    let mut scene = begin(yaml, &none());
    succeed(&mut scene, 0, &json!("A"));
    fail(&mut scene, 1);
    succeed(&mut scene, 2, &json!("C"));
    assert_eq!(end_of_whole(&scene), "failed");
    assert_eq!(scene.waiting(), ["report"]);
    scene.succeed("report", &json!(null));
    assert_eq!(scene.status(), "succeeded");
    assert_eq!(
        scene.variables(),
        json!({
            "partial": ["A", null, "C"],
            "items": [{"index": 1, "error": {"kind": "broken", "message": "no"}}],
        })
    );
}

#[test]
fn a_failure_that_nothing_handles_is_told_once_for_the_whole() {
    let mut scene = spread(2, "");
    fail(&mut scene, 0);
    assert_eq!(scene.status(), "running");
    fail(&mut scene, 1);
    assert_eq!(scene.status(), "failed");
    assert_eq!(
        scene.errors(),
        [("task_failed".to_owned(), "work".to_owned())]
    );
    assert_eq!(scene.execution.errors[0].message, "2 of 2 items failed");
}

#[test]
fn tolerated_failures_leave_gaps() {
    for tolerate in ["1", "\"30%\""] {
        let mut scene = spread(4, &format!("    tolerate: {tolerate}"));
        for item in [0, 2, 3] {
            succeed(&mut scene, item, &json!(item));
        }
        fail(&mut scene, 1);
        assert_eq!(scene.status(), "succeeded", "{tolerate}");
        assert_eq!(scene.output(), json!({"r": [0, null, 2, 3]}));
    }
}

#[test]
fn drain_starts_no_more_and_lets_what_runs_end() {
    let mut scene = spread(5, "    concurrency: 2\n    on_item_failure: drain");
    fail(&mut scene, 0);
    assert_eq!(in_flight(&scene), [1]);
    succeed(&mut scene, 1, &json!(1));
    assert_eq!(end_of_whole(&scene), "failed");
    assert!(scene.cancels.is_empty());
    assert_eq!(scene.execution.counts.total, 3);
}

#[test]
fn cancel_tells_the_others_to_stop_and_waits_for_them() {
    let mut scene = spread(5, "    concurrency: 3\n    on_item_failure: cancel");
    fail(&mut scene, 1);
    assert_eq!(scene.cancels.len(), 2);
    assert_eq!(scene.status(), "running");
    let job = take(&mut scene, 0);
    scene.answer(&job, CompletionStatus::Cancelled, None, None);
    assert_eq!(scene.timers.len(), 1, "one is left to wait for");
    scene.wait();
    assert_eq!(end_of_whole(&scene), "failed");
    let ends: Vec<&str> = scene.ended.iter().map(|run| run.status.word()).collect();
    assert_eq!(ends, ["failed", "cancelled", "cancelled", "failed"]);
    assert_eq!(scene.status(), "failed");
    assert_eq!(scene.execution.errors[0].message, "1 of 5 items failed");
}

#[test]
fn each_item_has_its_own_retries() {
    let mut scene = spread(2, "    retry: {count: 1, delay: \"{{ item }}\"}");
    fail(&mut scene, 0);
    fail(&mut scene, 1);
    assert!(
        (scene.wait() - 1.0).abs() < f64::EPSILON,
        "the delay of item 1"
    );
    succeed(&mut scene, 0, &json!("again"));
    assert!((scene.wait() - 1.0).abs() < f64::EPSILON, "a second later");
    fail(&mut scene, 1);
    assert_eq!(end_of_whole(&scene), "failed");
    assert_eq!(scene.execution.counts.attempts, 4);
}

#[test]
fn an_item_that_cannot_be_rendered_starts_none_of_the_first_window() {
    let yaml = "
ref: t.names
tasks:
  - {name: work, action: core.noop, with_items: [{name: a}, {title: b}], input: {n: \"{{ item.name }}\"}}
";
    let scene = begin(yaml, &none());
    assert!(scene.jobs.is_empty());
    assert_eq!(
        scene.errors(),
        [("expression_error".to_owned(), "work".to_owned())]
    );
    let message = &scene.execution.errors[0].message;
    assert!(
        message.contains("at item 1") && message.contains("`item.name`"),
        "{message}"
    );
    assert_eq!(scene.execution.counts.total, 1);
}

#[test]
fn an_item_that_cannot_be_rendered_later_has_failed() {
    let yaml = "
ref: t.names
tasks:
  - name: work
    action: core.noop
    with_items: [{name: a}, {title: b}, {name: c}]
    concurrency: 1
    tolerate: 1
    input: {n: \"{{ item.name }}\"}
    publish: [r]
";
    let mut scene = begin(yaml, &none());
    succeed(&mut scene, 0, &json!("A"));
    assert_eq!(in_flight(&scene), [2]);
    succeed(&mut scene, 2, &json!("C"));
    assert_eq!(scene.status(), "succeeded");
    assert_eq!(scene.variables(), json!({"r": ["A", null, "C"]}));
}

#[test]
fn what_is_no_list_or_too_long_fails_the_task() {
    let cases = [
        ("null", "expression_error"),
        ("'abc'", "expression_error"),
        ("{'a': 1}", "expression_error"),
        ("range(100001)", "limit_exceeded"),
    ];
    for (list, kind) in cases {
        let yaml = format!(
            "ref: t.x\ntasks:\n  - {{name: work, action: core.noop, with_items: \"{{{{ {list} }}}}\"}}\n"
        );
        let scene = begin(&yaml, &none());
        assert_eq!(
            scene.errors(),
            [(kind.to_owned(), "work".to_owned())],
            "{list}"
        );
        assert!(scene.jobs.is_empty());
    }
    let raised = "ref: t.x\nmax_items: 200000\ntasks:\n  - {name: work, action: core.noop, with_items: \"{{ range(200000) }}\"}\n";
    assert_eq!(begin(raised, &none()).jobs.len(), MAX_JOBS_PER_STEP);
}

#[test]
fn a_pause_lets_items_in_flight_end_and_the_resume_lets_others_start() {
    let mut scene = spread(4, "    concurrency: 2");
    scene.pause();
    succeed(&mut scene, 0, &json!(0));
    assert_eq!(scene.status(), "pausing");
    succeed(&mut scene, 1, &json!(1));
    assert_eq!(scene.status(), "paused");
    assert!(scene.jobs.is_empty());
    scene.resume();
    assert_eq!(in_flight(&scene), [2, 3]);
    succeed(&mut scene, 2, &json!(2));
    scene.pause();
    succeed(&mut scene, 3, &json!(3));
    assert_eq!(end_of_whole(&scene), "succeeded", "nothing is held back");
    scene.resume();
    assert_eq!(scene.output(), json!({"r": [0, 1, 2, 3]}));
}

#[test]
fn a_pause_before_the_window_is_open_holds_the_rest_back() {
    let mut scene = spread(1_000, "");
    scene.pause();
    scene.wait();
    assert_eq!(
        scene.log.last().map(String::as_str),
        Some("control_applied running>running")
    );
    assert_eq!(scene.jobs.len(), MAX_JOBS_PER_STEP);
    scene.resume();
    assert_eq!(scene.jobs.len(), 2 * MAX_JOBS_PER_STEP);
}

#[test]
fn a_cancel_stops_items_in_flight_and_those_that_wait() {
    let mut scene = spread(6, "    concurrency: 3\n    retry: {count: 1, delay: 60}");
    succeed(&mut scene, 0, &json!(0));
    fail(&mut scene, 1);
    scene.cancel();
    assert_eq!(scene.status(), "cancelling");
    assert_eq!(scene.cancels.len(), 2);
    let job = take(&mut scene, 2);
    scene.answer(&job, CompletionStatus::Succeeded, Some(&json!(2)), None);
    let job = take(&mut scene, 3);
    scene.answer(&job, CompletionStatus::Cancelled, None, None);
    assert_eq!(scene.status(), "cancelled");
    assert_eq!(end_of_whole(&scene), "cancelled");
    assert_eq!(scene.execution.counts.total, 5);
}

#[test]
fn a_cancel_of_a_paused_task_with_items_ends_it_at_once() {
    let mut scene = spread(2, "    concurrency: 1");
    scene.pause();
    succeed(&mut scene, 0, &json!(0));
    assert_eq!(scene.status(), "paused");
    scene.cancel();
    assert_eq!(scene.status(), "cancelled");
    assert_eq!(end_of_whole(&scene), "cancelled");
}

#[test]
fn a_failure_elsewhere_starts_no_others_and_cuts_the_task_off() {
    let yaml = "
ref: t.drained
tasks:
  - {name: work, action: core.noop, with_items: [a, b, c], concurrency: 1, on_complete: after}
  - {name: other, action: core.noop}
  - {name: after, action: core.noop}
";
    let mut scene = begin(yaml, &none());
    scene.fail("other", "broken");
    assert_eq!(scene.status(), "failing");
    scene.succeed("work", &json!(null));
    assert_eq!(scene.status(), "failed");
    assert!(scene.jobs.is_empty());
    assert_eq!(scene.errors(), [("broken".to_owned(), "other".to_owned())]);
    assert_eq!(
        scene.ends(),
        [
            ("other".to_owned(), "failed"),
            ("work".to_owned(), "succeeded"),
            ("work".to_owned(), "cancelled"),
        ]
    );
}

#[test]
fn items_beside_fail_all_run() {
    let yaml = "
ref: t.beside
tasks:
  - {name: first, action: core.noop, on_success: [work, fail]}
  - {name: work, action: core.noop, with_items: [a, b], concurrency: 1}
";
    let mut scene = begin(yaml, &none());
    scene.succeed("first", &json!(null));
    assert_eq!(scene.status(), "failing");
    scene.succeed("work", &json!(null));
    scene.succeed("work", &json!(null));
    assert_eq!(scene.status(), "failed");
    assert_eq!(end_of_whole(&scene), "succeeded");
}

#[test]
fn an_item_in_a_step_that_fails_elsewhere_is_not_started() {
    let yaml = "
ref: t.step
tasks:
  - {name: first, action: core.noop, on_success: [work, broken]}
  - {name: work, action: core.noop, with_items: [a, b]}
  - {name: broken, action: core.noop, input: {x: \"{{ [] | first + 1 }}\"}}
";
    let mut scene = begin(yaml, &none());
    scene.succeed("first", &json!(null));
    assert_eq!(scene.status(), "failed");
    assert!(scene.jobs.is_empty());
    assert!(scene.ends().contains(&("work".to_owned(), "omitted")));
    assert_eq!(scene.execution.counts.total, 3);
}

#[test]
fn the_results_of_many_items_are_listed_only_where_they_are_read() {
    let read = "    publish: [{r: \"{{ result() | length }}\"}]";
    for (publish, expected) in [
        (read, json!({"r": 10_001})),
        ("    publish: [{r: 1}]", json!({"r": 1})),
    ] {
        let yaml = format!(
            "ref: t.many\ntasks:\n  - name: work\n    action: core.noop\n    with_items: \"{{{{ range(10001) }}}}\"\n{publish}\n"
        );
        let mut scene = begin(&yaml, &none());
        loop {
            while let Some(job) = scene.jobs.first() {
                let item = index(job);
                succeed(&mut scene, item, &json!(7));
            }
            if scene.timers.is_empty() {
                break;
            }
            scene.wait();
        }
        assert_eq!(scene.variables(), expected);
        let whole = scene.ended.last().expect("it has ended");
        let result = whole.ended.as_ref().expect("it has ended").result.is_null();
        assert_eq!(result, publish != read);
    }
}

fn errors(task: &str) -> Vec<String> {
    let yaml = format!("ref: t.bad\ntasks:\n  - {{name: work, {task}}}\n");
    let found = compile(&yaml).expect_err("it is refused");
    found
        .iter()
        .map(|found| format!("{} {}", found.code, found.path))
        .collect()
}

#[test]
fn what_makes_no_sense_is_refused() {
    let cases = [
        ("with_items: [1]", "missing_key tasks[0].with_items"),
        (
            "action: core.noop, with_items: 7",
            "wrong_type tasks[0].with_items",
        ),
        (
            "action: core.noop, concurrency: 2",
            "misplaced_key tasks[0].concurrency",
        ),
        (
            "action: core.noop, with_items: [1], concurrency: 0",
            "invalid_value tasks[0].concurrency",
        ),
        (
            "action: core.noop, with_items: [1], batch_size: 0",
            "wrong_type tasks[0].batch_size",
        ),
        (
            "action: core.noop, with_items: [1], tolerate: half",
            "wrong_type tasks[0].tolerate",
        ),
        (
            "action: core.noop, with_items: [1], tolerate: \"101%\"",
            "wrong_type tasks[0].tolerate",
        ),
        (
            "action: core.noop, with_items: [1], on_item_failure: stop",
            "invalid_value tasks[0].on_item_failure",
        ),
        (
            "action: core.noop, input: {x: \"{{ item }}\"}",
            "misplaced_name tasks[0].input.x",
        ),
        (
            "action: core.noop, with_items: [1], when: \"{{ item }}\"",
            "misplaced_name tasks[0].when",
        ),
        (
            "action: core.noop, with_items: [1], input: {x: \"{{ batch }}\"}",
            "misplaced_name tasks[0].input.x",
        ),
        (
            "action: core.noop, with_items: \"{{ index }}\"",
            "misplaced_name tasks[0].with_items",
        ),
    ];
    for (task, expected) in cases {
        assert_eq!(errors(task), [expected], "{task}");
    }
}
