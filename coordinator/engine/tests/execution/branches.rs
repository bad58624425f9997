//! Parallel branches, decisions, joins and the variables of branches.

use serde_json::json;

use crate::harness::{begin, none};

const JOIN: &str = "
ref: t.join
vars: {x: 0}
tasks:
  - {name: start, action: core.noop, on_success: [early, late]}
  - {name: early, action: core.noop, publish: [{x: early}, {e: 1}], on_success: slow}
  - {name: slow, action: core.noop, on_success: meet}
  - {name: late, action: core.noop, publish: [{x: late}, {l: 2}], on_success: meet}
  - {name: meet, action: core.noop, join: all, input: {x: \"{{ vars.x }}\", e: \"{{ vars.e }}\", l: \"{{ vars.l }}\"}}
output_map: {x: \"{{ vars.x }}\"}
";

#[test]
fn at_a_join_the_branch_that_arrives_last_wins() {
    let mut scene = begin(JOIN, &none());
    scene.succeed("start", &json!(null));
    assert_eq!(scene.waiting(), ["early", "late"]);
    scene.succeed("early", &json!(null));
    scene.succeed("late", &json!(null));
    assert_eq!(scene.waiting(), ["slow"], "the join waits for both");
    scene.succeed("slow", &json!(null));
    assert_eq!(scene.input("meet"), json!({"x": "early", "e": 1, "l": 2}));
    scene.succeed("meet", &json!(null));
    assert_eq!(scene.status(), "succeeded");
    assert_eq!(scene.output(), json!({"x": "early"}));
}

#[test]
fn siblings_do_not_see_each_other() {
    let yaml = "
ref: t.siblings
vars: {x: 0}
tasks:
  - {name: start, action: core.noop, on_success: [a, b]}
  - {name: a, action: core.noop, publish: [{x: 1}], on_success: a2}
  - {name: a2, action: core.noop, input: {x: \"{{ vars.x }}\"}}
  - {name: b, action: core.noop, on_success: b2}
  - {name: b2, action: core.noop, input: {x: \"{{ vars.x }}\"}}
";
    let mut scene = begin(yaml, &none());
    scene.succeed("start", &json!(null));
    scene.succeed("a", &json!(null));
    scene.succeed("b", &json!(null));
    assert_eq!(scene.input("a2"), json!({"x": 1}));
    assert_eq!(scene.input("b2"), json!({"x": 0}));
    scene.succeed("b2", &json!(null));
    scene.succeed("a2", &json!(null));
    assert_eq!(
        scene.variables(),
        json!({"x": 1}),
        "the ends are merged as at a join"
    );
}

#[test]
fn a_decision_takes_the_first_branch_that_holds() {
    let yaml = "
ref: t.decision
parameters: {n: {type: integer, required: true}}
tasks:
  - name: decide
    action: core.noop
    decision:
      - {when: \"{{ parameters.n > 10 }}\", publish: [{size: large}], next: big}
      - {when: \"{{ parameters.n > 5 }}\", next: small}
  - {name: big, action: core.noop, input: {size: \"{{ vars.size }}\"}}
  - {name: small, action: core.noop}
";
    let mut scene = begin(yaml, &json!({"n": 11}));
    scene.succeed("decide", &json!(null));
    assert_eq!(scene.waiting(), ["big"]);
    assert_eq!(scene.input("big"), json!({"size": "large"}));

    let mut scene = begin(yaml, &json!({"n": 6}));
    scene.succeed("decide", &json!(null));
    assert_eq!(scene.waiting(), ["small"]);

    let mut scene = begin(yaml, &json!({"n": 1}));
    scene.succeed("decide", &json!(null));
    assert_eq!(scene.status(), "failed");
    assert_eq!(
        scene.errors(),
        [("no_branch_matched".to_owned(), "decide".to_owned())]
    );
}

#[test]
fn all_routes_that_hold_are_taken_in_order_each_with_its_own_publish() {
    let yaml = "
ref: t.next
tasks:
  - name: a
    action: core.noop
    next:
      - {when: \"{{ succeeded() }}\", publish: [{who: one}], do: one}
      - {when: \"{{ result() == 7 }}\", publish: [{who: two}], do: [two]}
      - {when: \"{{ failed() }}\", do: three}
  - {name: one, action: core.noop, input: {who: \"{{ vars.who }}\"}}
  - {name: two, action: core.noop, input: {who: \"{{ vars.who }}\"}}
  - {name: three, action: core.noop}
";
    let mut scene = begin(yaml, &none());
    scene.succeed("a", &json!(7));
    assert_eq!(scene.waiting(), ["one", "two"]);
    assert_eq!(scene.input("one"), json!({"who": "one"}));
    assert_eq!(scene.input("two"), json!({"who": "two"}));
}

#[test]
fn a_join_that_one_branch_never_reaches_fails_and_says_what_is_missing() {
    let yaml = "
ref: t.unreachable
tasks:
  - {name: a, action: core.noop, on_success: meet}
  - {name: b, action: core.noop, on_success: meet, on_failure: noop}
  - {name: meet, action: core.noop, join: all}
";
    let mut scene = begin(yaml, &none());
    scene.succeed("a", &json!(null));
    scene.fail("b", "broken");
    assert_eq!(scene.status(), "failed");
    assert_eq!(
        scene.errors(),
        [("unreachable_join".to_owned(), "meet".to_owned())]
    );
    assert!(
        scene.execution.errors[0].message.contains('b'),
        "{:?}",
        scene.execution.errors
    );
    assert_eq!(scene.ends().last(), Some(&("meet".to_owned(), "omitted")));
}

#[test]
fn a_loop_visits_a_task_again_with_a_number_of_its_own() {
    let yaml = "
ref: t.loop
vars: {n: 0}
tasks:
  - {name: begin, action: core.noop, on_success: step}
  - name: step
    action: core.noop
    input: {n: \"{{ vars.n }}\", visit: \"{{ system.visit }}\"}
    publish: [{n: \"{{ vars.n + 1 }}\"}]
    decision:
      - {when: \"{{ vars.n < 3 }}\", next: step}
      - {default: true, next: done}
  - {name: done, action: core.noop, input: {n: \"{{ vars.n }}\", last: \"{{ task.step.result }}\"}}
";
    let mut scene = begin(yaml, &none());
    scene.succeed("begin", &json!(null));
    for round in 0..3 {
        assert_eq!(scene.input("step"), json!({"n": round, "visit": round + 1}));
        scene.succeed("step", &json!(round * 10));
    }
    assert_eq!(scene.input("done"), json!({"n": 3, "last": 20}));
    scene.succeed("done", &json!(null));
    assert_eq!(scene.status(), "succeeded");
    assert_eq!(scene.variables(), json!({"n": 3}));
}

#[test]
fn a_step_that_releases_many_jobs_puts_off_the_rest() {
    use std::fmt::Write as _;
    let mut yaml =
        "ref: t.wide\ntasks:\n  - name: start\n    action: core.noop\n    on_success:\n".to_owned();
    for n in 0..300 {
        writeln!(yaml, "      - t{n}").expect("memory");
    }
    for n in 0..300 {
        writeln!(yaml, "  - {{name: t{n}, action: core.noop}}").expect("memory");
    }
    let mut scene = begin(&yaml, &none());
    scene.succeed("start", &json!(null));
    assert_eq!(scene.jobs.len(), 256);
    assert_eq!(scene.timers.len(), 44);
    while !scene.timers.is_empty() {
        assert!(scene.wait() <= 0.0, "the rest is due at once");
    }
    assert_eq!(scene.jobs.len(), 300);
    for n in 0..300 {
        scene.succeed(&format!("t{n}"), &json!(null));
    }
    assert_eq!(scene.status(), "succeeded");
}
