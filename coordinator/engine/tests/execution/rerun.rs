//! Reruns: what runs again, what is kept, and what waits again.

use flotilla_engine::Json;
use flotilla_engine::execution::{
    ControlRefusal, ExecutionStatus, Outcome, RerunOrder, RerunRefusal,
};
use serde_json::{Value, json};

use crate::harness::{Scene, begin, none, succeed_all};

const CHAIN: &str = "
ref: t.chain
parameters: {region: {type: string, default: north}}
vars: {x: 0}
tasks:
  - {name: a, action: core.noop, publish: [{x: \"{{ result() }}\"}], on_success: b}
  - {name: b, action: core.noop, input: {x: \"{{ vars.x }}\", region: \"{{ parameters.region }}\"}, on_success: c}
  - {name: c, action: core.noop}
output_map: {x: \"{{ vars.x }}\"}
";
const JOIN: &str = "
ref: t.join
vars: {p: 0, q: 0}
tasks:
  - {name: a, action: core.noop, publish: [{p: \"{{ result() }}\"}], on_success: j}
  - {name: b, action: core.noop, publish: [{q: \"{{ result() }}\"}], on_success: j}
  - {name: j, join: all, action: core.noop, input: {p: \"{{ vars.p }}\", q: \"{{ vars.q }}\"}, on_success: z}
  - {name: z, action: core.noop}
";
const ITEMS: &str = "
ref: t.items
tasks:
  - name: work
    action: core.noop
    with_items: [a, b, c]
    input: {it: \"{{ item }}\"}
    publish: [{all: \"{{ result() }}\"}]
output_map: {all: \"{{ vars.all }}\"}
";

fn vars(given: &Value) -> RerunOrder {
    RerunOrder {
        vars: Some(Json::of(given)),
        ..RerunOrder::default()
    }
}

fn parameters(given: &Value) -> RerunOrder {
    RerunOrder {
        parameters: Some(Json::of(given)),
        ..RerunOrder::default()
    }
}

fn refusal(scene: &Scene, order: &RerunOrder) -> RerunRefusal {
    let plan = scene.execution.plan_rerun(order, &scene.past);
    plan.expect_err("it is refused")
}

#[test]
fn what_failed_runs_again_as_a_new_visit_and_what_succeeded_is_kept() {
    let mut scene = begin(CHAIN, &none());
    scene.succeed("a", &json!(7));
    scene.fail("b", "broken");
    assert_eq!(scene.status(), "failed");
    let at = scene.log.len();
    assert_eq!(scene.rerun(&[]), Outcome::Applied);
    assert_eq!(scene.status(), "running");
    assert_eq!(scene.execution.finished_at, None);
    assert_eq!(scene.execution.output, None);
    assert_eq!(scene.errors(), []);
    assert_eq!(
        scene.log[at..],
        [
            "control_applied ->-",
            "execution_status_changed failed>running",
            "task_dispatched ->dispatched",
        ]
    );
    let job = scene.job("b");
    assert_eq!((job.visit, job.attempt, job.run), (2, 1, 3));
    scene.jobs.push(job);
    assert_eq!(scene.input("b"), json!({"x": 7, "region": "north"}));
    succeed_all(&mut scene);
    assert_eq!(scene.status(), "succeeded");
    assert_eq!(scene.output(), json!({"x": 7}));
    let ends: Vec<_> = scene
        .ends()
        .into_iter()
        .map(|(name, end)| format!("{name} {end}"))
        .collect();
    assert_eq!(
        ends,
        ["a succeeded", "b failed", "b succeeded", "c succeeded"]
    );
}

#[test]
fn a_handled_failure_is_not_repeated() {
    let mut scene = begin(
        "
ref: t.handled
tasks:
  - {name: a, action: core.noop, on_failure: heal}
  - {name: heal, action: core.noop}
  - {name: b, action: core.noop}
",
        &none(),
    );
    scene.fail("a", "broken");
    scene.succeed("heal", &json!(null));
    scene.fail("b", "broken");
    scene.rerun(&[]);
    assert_eq!(scene.waiting(), ["b"]);
    succeed_all(&mut scene);
    assert_eq!(scene.status(), "succeeded");
}

#[test]
fn a_named_task_runs_again_and_what_follows_it_too() {
    let mut scene = begin(CHAIN, &none());
    succeed_all(&mut scene);
    assert_eq!(scene.status(), "succeeded");
    assert_eq!(scene.rerun(&["b"]), Outcome::Applied);
    assert_eq!(scene.waiting(), ["b"]);
    scene.succeed("b", &json!(null));
    assert_eq!(scene.waiting(), ["c"]);
    succeed_all(&mut scene);
    assert_eq!(scene.status(), "succeeded");
    assert_eq!(scene.execution.visits, [1, 2, 2]);
}

#[test]
fn of_named_tasks_that_lead_to_each_other_the_first_begins() {
    let mut scene = begin(CHAIN, &none());
    succeed_all(&mut scene);
    scene.rerun(&["c", "a", "b"]);
    assert_eq!(scene.waiting(), ["a"]);
    succeed_all(&mut scene);
    assert_eq!(scene.execution.visits, [2, 2, 2]);
}

#[test]
fn a_failure_that_is_not_named_still_counts_at_the_end() {
    let mut scene = begin(
        "
ref: t.two
fail_policy: continue
tasks:
  - {name: a, action: core.noop}
  - {name: b, action: core.noop}
",
        &none(),
    );
    scene.fail("a", "broken");
    scene.fail("b", "bad");
    scene.rerun(&["a"]);
    assert_eq!(scene.waiting(), ["a"]);
    assert_eq!(scene.status(), "running");
    succeed_all(&mut scene);
    assert_eq!(scene.status(), "failed");
    assert_eq!(scene.errors(), [("bad".to_owned(), "b".to_owned())]);
    scene.rerun(&[]);
    assert_eq!(scene.waiting(), ["b"], "now it is the one that has failed");
    succeed_all(&mut scene);
    assert_eq!(scene.status(), "succeeded");
}

#[test]
fn a_join_behind_opens_again_and_keeps_what_has_arrived() {
    let mut scene = begin(JOIN, &none());
    scene.succeed("a", &json!(1));
    scene.fail("b", "broken");
    assert_eq!(scene.status(), "failed");
    scene.rerun(&[]);
    assert_eq!(scene.waiting(), ["b"]);
    scene.succeed("b", &json!(2));
    assert_eq!(scene.input("j"), json!({"p": 1, "q": 2}));
    succeed_all(&mut scene);
    assert_eq!(scene.status(), "succeeded");
    assert_eq!(scene.execution.visits, [1, 2, 2, 1]);
}

#[test]
fn a_join_that_has_run_opens_again_for_a_named_task_before_it() {
    let mut scene = begin(JOIN, &none());
    scene.succeed("a", &json!(1));
    scene.succeed("b", &json!(2));
    succeed_all(&mut scene);
    assert_eq!(scene.status(), "succeeded");
    scene.rerun(&["b"]);
    scene.succeed("b", &json!(3));
    assert_eq!(scene.input("j"), json!({"p": 1, "q": 3}));
    succeed_all(&mut scene);
    assert_eq!(scene.status(), "succeeded");
    assert_eq!(scene.execution.visits, [1, 2, 2, 2]);
}

#[test]
fn a_join_that_failed_runs_again_with_the_same_merged_values() {
    let mut scene = begin(JOIN, &none());
    scene.succeed("a", &json!(1));
    scene.succeed("b", &json!(2));
    scene.fail("j", "broken");
    scene.rerun(&[]);
    assert_eq!(scene.waiting(), ["j"]);
    assert_eq!(scene.input("j"), json!({"p": 1, "q": 2}));
    succeed_all(&mut scene);
    assert_eq!(scene.status(), "succeeded");
}

#[test]
fn what_a_drain_held_back_is_dispatched() {
    let mut scene = begin(
        "
ref: t.drain
tasks:
  - {name: a, action: core.noop}
  - {name: b, action: core.noop, on_success: c}
  - {name: c, action: core.noop}
",
        &none(),
    );
    scene.fail("a", "broken");
    scene.succeed("b", &json!(null));
    assert_eq!(scene.status(), "failed");
    scene.rerun(&[]);
    assert_eq!(scene.waiting(), ["a", "c"]);
    succeed_all(&mut scene);
    assert_eq!(scene.status(), "succeeded");
    assert_eq!(scene.execution.visits, [2, 1, 2]);
}

#[test]
fn only_the_items_that_failed_run_again_and_the_result_is_in_their_order() {
    let mut scene = begin(ITEMS, &none());
    scene.succeed("work", &json!(0));
    scene.fail("work", "broken");
    scene.succeed("work", &json!(2));
    assert_eq!(scene.status(), "failed");
    scene.rerun(&[]);
    assert_eq!(scene.waiting(), ["work"]);
    assert_eq!(scene.input("work"), json!({"it": "b"}));
    scene.fail("work", "again");
    assert_eq!(scene.status(), "failed");
    scene.rerun(&["work"]);
    assert_eq!(scene.waiting(), ["work"], "also the second time");
    scene.succeed("work", &json!(1));
    assert_eq!(scene.status(), "succeeded");
    assert_eq!(scene.output(), json!({"all": [0, 1, 2]}));
}

#[test]
fn with_reset_items_all_of_them_run_again() {
    let mut scene = begin(ITEMS, &none());
    scene.succeed("work", &json!(0));
    scene.fail("work", "broken");
    scene.succeed("work", &json!(2));
    scene.rerun_with(RerunOrder {
        reset_items: true,
        ..RerunOrder::default()
    });
    assert_eq!(scene.waiting(), ["work", "work", "work"]);
    for result in [3, 4, 5] {
        scene.succeed("work", &json!(result));
    }
    assert_eq!(scene.output(), json!({"all": [3, 4, 5]}));
}

#[test]
fn the_retry_budget_is_fresh() {
    let mut scene = begin(
        "ref: t.r\ntasks:\n  - {name: a, action: core.noop, retry: {count: 1}}\n",
        &none(),
    );
    scene.fail("a", "broken");
    scene.fail("a", "broken");
    assert_eq!(scene.status(), "failed");
    scene.rerun(&[]);
    scene.fail("a", "broken");
    assert_eq!(scene.status(), "running");
    scene.succeed("a", &json!(null));
    assert_eq!(scene.status(), "succeeded");
}

#[test]
fn variables_that_are_given_replace_those_that_the_runs_had() {
    let mut scene = begin(CHAIN, &none());
    scene.succeed("a", &json!(7));
    scene.fail("b", "broken");
    scene.rerun_with(vars(&json!({"x": 9})));
    assert_eq!(scene.input("b")["x"], 9);
    succeed_all(&mut scene);
    assert_eq!(scene.output(), json!({"x": 9}));
}

#[test]
fn parameters_that_are_given_replace_the_others_from_then_on() {
    let mut scene = begin(CHAIN, &json!({"region": "south"}));
    scene.succeed("a", &json!(7));
    scene.fail("b", "broken");
    scene.rerun_with(parameters(&json!({"region": "west"})));
    assert_eq!(scene.input("b")["region"], "west");
    scene.fail("b", "broken");
    scene.rerun(&[]);
    assert_eq!(scene.input("b")["region"], "west");
}

#[test]
fn finally_runs_again_and_the_output_is_evaluated_again() {
    let mut scene = begin(
        "
ref: t.finally
finally: [clean]
tasks:
  - {name: a, action: core.noop, publish: [{x: \"{{ result() }}\"}]}
  - {name: clean, action: core.noop, input: {status: \"{{ system.status }}\"}}
vars: {x: null}
output_map: {x: \"{{ vars.x }}\"}
",
        &none(),
    );
    scene.fail("a", "broken");
    assert_eq!(scene.input("clean"), json!({"status": "failed"}));
    scene.succeed("clean", &json!(null));
    assert_eq!(scene.output(), json!({"x": null}));
    scene.rerun(&[]);
    assert_eq!(scene.waiting(), ["a"]);
    scene.succeed("a", &json!(1));
    assert_eq!(scene.input("clean"), json!({"status": "succeeded"}));
    scene.fail("clean", "broken");
    assert_eq!(scene.status(), "failed");
    scene.rerun(&[]);
    assert_eq!(scene.waiting(), ["clean"], "what failed is of `finally`");
    succeed_all(&mut scene);
    assert_eq!(scene.status(), "succeeded");
    assert_eq!(scene.output(), json!({"x": 1}));
}

#[test]
fn an_execution_can_run_again_any_number_of_times() {
    let mut scene = begin(JOIN, &none());
    scene.succeed("a", &json!(1));
    scene.fail("b", "broken");
    for round in 2..5 {
        scene.rerun(&[]);
        assert_eq!(scene.waiting(), ["b"]);
        scene.fail("b", "broken");
        assert_eq!(scene.status(), "failed");
        assert_eq!(scene.execution.visits, [1, round, round, 0]);
    }
    scene.rerun(&[]);
    scene.succeed("b", &json!(2));
    assert_eq!(scene.input("j"), json!({"p": 1, "q": 2}));
    succeed_all(&mut scene);
    assert_eq!(scene.status(), "succeeded");
}

#[test]
fn what_a_cancel_cut_off_runs_again_and_what_ended_meanwhile_leads_on() {
    let mut scene = begin(
        "
ref: t.cancelled
tasks:
  - {name: a, action: core.noop, on_success: j}
  - {name: b, action: core.noop, on_success: j}
  - {name: c, action: core.noop, on_success: j}
  - {name: j, join: all, action: core.noop}
",
        &none(),
    );
    scene.succeed("a", &json!(null));
    scene.cancel();
    scene.succeed("b", &json!(null));
    scene.stop("c");
    assert_eq!(scene.status(), "cancelled");
    assert_eq!(scene.rerun(&[]), Outcome::Applied);
    assert_eq!(scene.waiting(), ["c"]);
    scene.succeed("c", &json!(null));
    assert_eq!(scene.waiting(), ["j"]);
    succeed_all(&mut scene);
    assert_eq!(scene.status(), "succeeded");
}

#[test]
fn an_execution_that_timed_out_has_its_time_again() {
    let mut scene = begin(
        "ref: t.t\ntimeout: 10\ntasks:\n  - {name: a, action: core.noop}\n",
        &none(),
    );
    scene.wait();
    scene.stop("a");
    assert_eq!(scene.status(), "timed_out");
    let ended = scene.now;
    assert_eq!(scene.rerun(&[]), Outcome::Applied);
    assert_eq!(scene.waiting(), ["a"]);
    assert_eq!((scene.timers[&0].1 - ended).num_seconds(), 10);
    succeed_all(&mut scene);
    assert_eq!(scene.status(), "succeeded");
}

#[test]
fn what_a_cancelling_failure_stopped_runs_again() {
    let mut scene = begin(
        "
ref: t.stop
fail_policy: cancel
tasks:
  - {name: a, action: core.noop}
  - {name: b, action: core.noop, on_success: d}
  - {name: c, action: core.noop, on_success: d}
  - {name: d, join: all, action: core.noop}
",
        &none(),
    );
    scene.fail("a", "broken");
    scene.stop("b");
    scene.succeed("c", &json!(null));
    assert_eq!(scene.status(), "failed");
    scene.rerun(&[]);
    assert_eq!(scene.waiting(), ["a", "b"]);
    succeed_all(&mut scene);
    assert_eq!(scene.status(), "succeeded");
    assert_eq!(scene.execution.visits, [2, 2, 1, 1]);
}

#[test]
fn what_is_refused_changes_nothing_and_says_why() {
    let mut scene = begin(CHAIN, &none());
    assert_eq!(
        scene.rerun(&["a"]),
        Outcome::Refused(ControlRefusal::StillRunning)
    );
    scene.succeed("a", &json!(7));
    scene.fail("b", "broken");
    let named = |task: &str| RerunOrder {
        from: vec![task.to_owned()],
        ..RerunOrder::default()
    };
    let cases = [
        (
            named("nobody"),
            RerunRefusal::UnknownTask("nobody".to_owned()),
        ),
        (named("c"), RerunRefusal::NeverRan("c".to_owned())),
        (
            vars(&json!({"y": 1})),
            RerunRefusal::InvalidVariables("nothing assigns the variable y".to_owned()),
        ),
        (
            parameters(&json!({"zone": 1})),
            RerunRefusal::InvalidParameters("zone: is not a parameter of this workflow".to_owned()),
        ),
    ];
    let before = scene.log.len();
    for (order, expected) in cases {
        assert_eq!(refusal(&scene, &order), expected);
        assert_eq!(scene.rerun_with(order), Outcome::Refused(expected.kind()));
    }
    assert_eq!(scene.log.len(), before);
    assert_eq!(scene.execution.status, ExecutionStatus::Failed);
    scene.rerun(&[]);
    succeed_all(&mut scene);
    assert_eq!(
        refusal(&scene, &RerunOrder::default()),
        RerunRefusal::NothingFailed
    );
}

#[test]
fn visits_are_bounded_over_all_reruns() {
    let mut scene = begin(
        "ref: t.bound\nmax_runs_per_task: 2\ntasks:\n  - {name: a, action: core.noop}\n",
        &none(),
    );
    scene.fail("a", "broken");
    scene.rerun(&[]);
    scene.fail("a", "broken");
    scene.rerun(&[]);
    assert_eq!(scene.status(), "failed");
    assert_eq!(
        scene.errors(),
        [("limit_exceeded".to_owned(), "a".to_owned())]
    );
}
