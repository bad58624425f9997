//! Joins: how many arrivals they wait for, of which branches, and what becomes of them when nothing
//! can arrive any more.

use serde_json::json;

use crate::harness::{Scene, begin, none};

fn three(join: &str) -> String {
    format!(
        "
ref: t.quorum
tasks:
  - {{name: start, action: core.noop, on_success: [a, b, c]}}
  - {{name: a, action: core.noop, publish: [{{a: 1}}], on_success: quorum, on_failure: noop}}
  - {{name: b, action: core.noop, publish: [{{b: 2}}], on_success: quorum, on_failure: noop}}
  - {{name: c, action: core.noop, publish: [{{c: 3}}], on_success: quorum, on_failure: noop}}
  - {{name: quorum, action: core.noop, join: {join}, on_success: receipt}}
  - {{name: receipt, action: core.noop}}
output_map: {{sum: \"{{{{ (vars.a|default(0)) + (vars.b|default(0)) + (vars.c|default(0)) }}}}\"}}
"
    )
}

fn ok(scene: &mut Scene, tasks: &[&str]) {
    for task in tasks {
        scene.succeed(task, &json!(null));
    }
}

#[test]
fn a_join_of_two_runs_at_the_second_arrival_and_absorbs_the_third() {
    let mut scene = begin(&three("2"), &none());
    ok(&mut scene, &["start", "a"]);
    assert_eq!(scene.waiting(), ["b", "c"]);
    ok(&mut scene, &["b"]);
    assert_eq!(scene.waiting(), ["c", "quorum"]);
    ok(&mut scene, &["quorum", "receipt"]);
    assert_eq!(scene.status(), "running", "the third branch is alive");
    ok(&mut scene, &["c"]);
    assert_eq!(scene.status(), "succeeded");
    let quorums = scene
        .ends()
        .iter()
        .filter(|(task, _)| task == "quorum")
        .count();
    assert_eq!(quorums, 1);
    assert_eq!(scene.output(), json!({"sum": 6}), "what came late is kept");
}

#[test]
fn a_number_that_cannot_be_reached_any_more_fails_at_once() {
    let mut scene = begin(&three("2"), &none());
    ok(&mut scene, &["start", "a"]);
    scene.fail("b", "broken");
    assert_eq!(scene.status(), "running");
    scene.fail("c", "broken");
    assert_eq!(scene.status(), "failed");
    assert_eq!(
        scene.errors(),
        [("unreachable_join".to_owned(), "quorum".to_owned())]
    );
    let message = &scene.execution.errors[0].message;
    assert!(
        message.contains("1 of 2") && message.contains("b, c"),
        "{message}"
    );
}

#[test]
fn an_unreachable_join_is_found_while_another_branch_goes_on() {
    let yaml = "
ref: t.early
tasks:
  - {name: a, action: core.noop, on_success: meet}
  - {name: b, action: core.noop, on_success: meet, on_failure: noop}
  - {name: meet, action: core.noop, join: all}
  - {name: long, action: core.noop}
";
    let mut scene = begin(yaml, &none());
    ok(&mut scene, &["a"]);
    scene.fail("b", "broken");
    assert_eq!(scene.status(), "failing");
    ok(&mut scene, &["long"]);
    assert_eq!(scene.status(), "failed");
}

#[test]
fn a_join_that_nothing_has_reached_is_not_run() {
    let yaml = "
ref: t.mourn
tasks:
  - {name: a, action: core.noop, on_failure: mourn}
  - {name: b, action: core.noop, on_failure: mourn}
  - {name: mourn, action: core.noop, join: all}
";
    let mut scene = begin(yaml, &none());
    ok(&mut scene, &["a", "b"]);
    assert_eq!(scene.status(), "succeeded");
    assert_eq!(scene.ends().len(), 2);
}

#[test]
fn an_active_join_runs_once_no_live_branch_can_reach_it() {
    let yaml = "
ref: t.active
parameters: {way: {type: integer, required: true}}
tasks:
  - name: pick
    action: core.noop
    next:
      - {when: \"{{ parameters.way == 1 }}\", do: one}
      - {when: \"{{ parameters.way == 2 }}\", do: two}
      - {when: \"{{ parameters.way < 3 }}\", do: side}
  - {name: one, action: core.noop, on_success: meet}
  - {name: two, action: core.noop, on_success: meet}
  - {name: side, action: core.noop, on_success: meet, on_failure: noop}
  - {name: meet, action: core.noop, join: active}
";
    let mut scene = begin(yaml, &json!({"way": 2}));
    ok(&mut scene, &["pick", "two"]);
    assert_eq!(scene.waiting(), ["side"]);
    ok(&mut scene, &["side"]);
    assert_eq!(scene.waiting(), ["meet"]);
    ok(&mut scene, &["meet"]);
    assert_eq!(scene.status(), "succeeded");

    let mut scene = begin(yaml, &json!({"way": 1}));
    ok(&mut scene, &["pick", "one"]);
    scene.fail("side", "broken");
    assert_eq!(
        scene.waiting(),
        ["meet"],
        "the branch that ended elsewhere frees it"
    );

    let mut scene = begin(yaml, &json!({"way": 3}));
    ok(&mut scene, &["pick"]);
    assert_eq!(scene.status(), "succeeded", "nothing has reached it");
    assert_eq!(scene.ends().len(), 1);
}

/// Two joins in a row: the first is alive for the second.
#[test]
fn a_join_that_waits_is_alive_for_what_lies_behind_it() {
    let yaml = "
ref: t.row
tasks:
  - {name: s, action: core.noop, on_success: [a, b, c]}
  - {name: a, action: core.noop, on_success: first}
  - {name: b, action: core.noop, on_success: first, on_failure: noop}
  - {name: c, action: core.noop, on_success: second}
  - {name: first, action: core.noop, join: active, on_success: second}
  - {name: second, action: core.noop, join: active}
";
    let mut scene = begin(yaml, &none());
    ok(&mut scene, &["s", "a", "c"]);
    assert_eq!(scene.waiting(), ["b"]);
    scene.fail("b", "broken");
    assert_eq!(
        scene.waiting(),
        ["first"],
        "the one that no other can reach settles first"
    );
    ok(&mut scene, &["first"]);
    assert_eq!(scene.waiting(), ["second"]);
    ok(&mut scene, &["second"]);
    assert_eq!(scene.status(), "succeeded");
}

#[test]
fn two_active_joins_of_one_loop_do_not_wait_for_each_other() {
    let yaml = "
ref: t.circle
vars: {n: 0}
tasks:
  - {name: s, action: core.noop, on_success: [a, b]}
  - {name: a, action: core.noop, on_success: left}
  - {name: b, action: core.noop, on_success: right}
  - {name: left, action: core.noop, join: active, publish: [{n: \"{{ vars.n + 1 }}\"}], next: [{when: \"{{ vars.n < 3 }}\", do: right}]}
  - {name: right, action: core.noop, join: active, next: [{when: \"{{ vars.n < 2 }}\", do: left}]}
";
    let mut scene = begin(yaml, &none());
    ok(&mut scene, &["s", "a", "b"]);
    assert_eq!(scene.waiting(), ["left"], "the oldest goes first");
    ok(&mut scene, &["left"]);
    assert_eq!(scene.waiting(), ["right"]);
    ok(&mut scene, &["right"]);
    assert_eq!(scene.waiting(), ["left"], "a new generation");
    ok(&mut scene, &["left"]);
    assert_eq!(scene.waiting(), ["right"]);
    ok(&mut scene, &["right"]);
    assert_eq!(scene.status(), "succeeded");
}

#[test]
fn each_round_of_a_loop_has_its_own_generation() {
    let yaml = "
ref: t.rounds
vars: {n: 0}
tasks:
  - {name: begin, action: core.noop, on_success: fork}
  - {name: fork, action: core.noop, publish: [{n: \"{{ vars.n + 1 }}\"}], on_success: [a, b]}
  - {name: a, action: core.noop, on_success: meet}
  - {name: b, action: core.noop, on_success: meet}
  - {name: meet, action: core.noop, join: all, input: {n: \"{{ vars.n }}\"}, next: [{when: \"{{ vars.n < 3 }}\", do: fork}]}
";
    let mut scene = begin(yaml, &none());
    ok(&mut scene, &["begin"]);
    for round in 1..=3 {
        ok(&mut scene, &["fork", "a", "b"]);
        assert_eq!(scene.input("meet"), json!({"n": round}));
        ok(&mut scene, &["meet"]);
    }
    assert_eq!(scene.status(), "succeeded");
}

#[test]
fn each_entry_of_a_split_has_joins_of_its_own() {
    let yaml = "
ref: t.splits
tasks:
  - {name: t1, action: core.noop, on_success: [t2, t3, t8]}
  - {name: t2, action: core.noop, on_success: t4}
  - {name: t3, action: core.noop, on_success: t4}
  - {name: t4, action: core.noop, on_success: [t5, t6]}
  - {name: t5, action: core.noop, on_success: t7}
  - {name: t6, action: core.noop, on_success: t7}
  - {name: t7, action: core.noop, join: all, on_success: t8}
  - {name: t8, action: core.noop}
";
    let mut scene = begin(yaml, &none());
    ok(&mut scene, &["t1", "t2", "t3", "t4", "t4"]);
    assert_eq!(scene.waiting(), ["t8", "t5", "t6", "t5", "t6"]);
    ok(&mut scene, &["t5", "t5"]);
    assert!(
        !scene.waiting().contains(&"t7"),
        "they are on different routes"
    );
    ok(&mut scene, &["t6"]);
    assert_eq!(scene.waiting(), ["t8", "t6", "t7"]);
    ok(&mut scene, &["t6", "t7", "t7", "t8", "t8", "t8"]);
    assert_eq!(scene.status(), "succeeded");
    assert_eq!(scene.ends().len(), 14);
}

#[test]
fn two_transitions_from_one_task_to_one_task_double_what_lies_behind() {
    let yaml = "
ref: t.double
tasks:
  - {name: mid, action: core.noop, next: [{do: tail}, {do: tail}]}
  - {name: tail, action: core.noop, on_success: [x, y]}
  - {name: x, action: core.noop, on_success: meet}
  - {name: y, action: core.noop, on_success: meet}
  - {name: meet, action: core.noop, join: all}
";
    let mut scene = begin(yaml, &none());
    ok(
        &mut scene,
        &["mid", "tail", "tail", "x", "x", "y", "y", "meet", "meet"],
    );
    assert_eq!(scene.status(), "succeeded");
}

#[test]
fn on_a_route_that_dies_the_join_fails_and_the_other_goes_on() {
    let yaml = "
ref: t.route
fail_policy: continue
tasks:
  - {name: r1, action: core.noop, on_success: mid}
  - {name: r2, action: core.noop, on_success: mid}
  - {name: mid, action: core.noop, on_success: [x, y]}
  - {name: x, action: core.noop, on_success: meet}
  - {name: y, action: core.noop, on_success: meet, on_failure: noop}
  - {name: meet, action: core.noop, join: all, on_success: end}
  - {name: end, action: core.noop}
";
    let mut scene = begin(yaml, &none());
    ok(&mut scene, &["r1", "r2", "mid", "mid", "x", "x"]);
    scene.fail("y", "broken");
    assert_eq!(
        scene.errors(),
        [("unreachable_join".to_owned(), "meet".to_owned())]
    );
    assert_eq!(scene.status(), "failing");
    ok(&mut scene, &["y", "meet", "end"]);
    assert_eq!(scene.status(), "failed");
    assert_eq!(scene.errors().len(), 1);
}

#[test]
fn a_loop_that_may_come_again_keeps_an_active_join_waiting() {
    let yaml = "
ref: t.loop
tasks:
  - {name: s, action: core.noop, on_success: [spin, side]}
  - {name: spin, action: core.noop, next: [{when: \"{{ result() }}\", do: spin}, {when: \"{{ not result() }}\", do: meet}]}
  - {name: side, action: core.noop, on_success: meet}
  - {name: meet, action: core.noop, join: active}
";
    let mut scene = begin(yaml, &none());
    ok(&mut scene, &["s", "side"]);
    scene.succeed("spin", &json!(true));
    assert_eq!(scene.waiting(), ["spin"]);
    scene.succeed("spin", &json!(false));
    assert_eq!(scene.waiting(), ["meet"]);
}

#[test]
fn during_a_pause_a_join_is_decided_and_runs_after_it() {
    let mut scene = begin(&three("active"), &none());
    ok(&mut scene, &["start", "a", "b"]);
    scene.pause();
    ok(&mut scene, &["c"]);
    assert_eq!(scene.status(), "paused");
    assert_eq!(scene.waiting(), [""; 0]);
    scene.resume();
    assert_eq!(scene.waiting(), ["quorum"]);
}

#[test]
fn a_cancel_ends_a_join_that_waits() {
    let mut scene = begin(&three("2"), &none());
    ok(&mut scene, &["start", "a"]);
    scene.cancel();
    scene.stop("b");
    scene.stop("c");
    assert_eq!(scene.status(), "cancelled");
    assert!(scene.ends().contains(&("quorum".to_owned(), "cancelled")));
}

#[test]
fn items_of_a_task_count_as_the_task() {
    let yaml = "
ref: t.items
tasks:
  - {name: many, action: core.noop, with_items: [1, 2], on_success: meet}
  - {name: side, action: core.noop, on_success: meet}
  - {name: meet, action: core.noop, join: active}
";
    let mut scene = begin(yaml, &none());
    ok(&mut scene, &["side", "many"]);
    assert_eq!(scene.waiting(), ["many"]);
    ok(&mut scene, &["many"]);
    assert_eq!(scene.waiting(), ["meet"]);
}

#[test]
fn a_branch_that_reaches_a_join_which_may_not_be_visited_again_keeps_what_it_wrote() {
    let yaml = "
ref: t.worn
max_runs_per_task: 1
vars: {x: 1}
tasks:
  - {name: s, action: core.noop, on_success: meet}
  - name: meet
    action: core.noop
    join: active
    next:
      - {publish: [{x: 2}], do: meet}
";
    let mut scene = begin(yaml, &none());
    ok(&mut scene, &["s", "meet"]);
    assert_eq!(
        scene.errors(),
        [("limit_exceeded".to_owned(), "meet".to_owned())]
    );
    assert_eq!(scene.variables(), json!({"x": 2}));
}
