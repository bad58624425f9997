//! Reruns where tasks are brought together: parallel tasks, needs, loops and splits.

use serde_json::json;

use crate::harness::{begin, none, succeed_all};

#[test]
fn a_task_that_needs_a_failed_one_is_decided_again() {
    let mut scene = begin(
        "
ref: t.needs
tasks:
  - {name: a, action: core.noop}
  - {name: b, action: core.noop}
  - {name: n, action: core.noop, needs: [a, b]}
  - {name: m, action: core.noop, needs: [n]}
",
        &none(),
    );
    scene.succeed("a", &json!(null));
    scene.fail("b", "broken");
    assert_eq!(scene.status(), "failed");
    scene.rerun(&[]);
    assert_eq!(scene.waiting(), ["b"]);
    scene.succeed("b", &json!(null));
    assert_eq!(scene.waiting(), ["n"]);
    succeed_all(&mut scene);
    assert_eq!(scene.status(), "succeeded");
}

#[test]
fn of_a_parallel_task_the_children_that_failed_run_again() {
    let mut scene = begin(
        "
ref: t.parallel
tasks:
  - name: p
    type: parallel
    publish: [{all: \"{{ result() }}\"}]
    tasks:
      - {name: a, action: core.noop}
      - {name: b, action: core.noop}
output_map: {all: \"{{ vars.all }}\"}
",
        &none(),
    );
    scene.succeed("p/a", &json!(1));
    scene.fail("p/b", "broken");
    assert_eq!(scene.status(), "failed");
    scene.rerun(&[]);
    assert_eq!(scene.waiting(), ["p/b"]);
    scene.succeed("p/b", &json!(2));
    assert_eq!(scene.status(), "succeeded");
    assert_eq!(scene.output(), json!({"all": {"a": 1, "b": 2}}));
    scene.rerun(&["p"]);
    assert_eq!(
        scene.waiting(),
        ["p/a", "p/b"],
        "where none has failed, all of them"
    );
    succeed_all(&mut scene);
    assert_eq!(scene.status(), "succeeded");
}

#[test]
fn a_join_in_a_loop_counts_its_rounds_on() {
    let mut scene = begin(
        "
ref: t.loop
vars: {n: 0}
tasks:
  - {name: s, action: core.noop, on_success: [a, b]}
  - {name: a, action: core.noop, on_success: j}
  - {name: b, action: core.noop, on_success: j}
  - name: j
    join: all
    action: core.noop
    publish: [{n: \"{{ vars.n + 1 }}\"}]
    next:
      - {when: \"{{ succeeded() and vars.n < 3 }}\", do: s}
output_map: {n: \"{{ vars.n }}\"}
start: [s]
",
        &none(),
    );
    for task in ["s", "a", "b", "j", "s", "a"] {
        scene.succeed(task, &json!(null));
    }
    scene.fail("b", "broken");
    assert_eq!(scene.status(), "failed");
    scene.rerun(&[]);
    assert_eq!(scene.waiting(), ["b"]);
    succeed_all(&mut scene);
    assert_eq!(scene.status(), "succeeded");
    assert_eq!(scene.output(), json!({"n": 3}));
    assert_eq!(scene.execution.visits, [3, 3, 4, 4]);
}

#[test]
fn each_route_of_a_split_is_repeated_by_itself() {
    let mut scene = begin(
        "
ref: t.split
tasks:
  - {name: a, action: core.noop, on_success: tail}
  - {name: b, action: core.noop, on_success: tail}
  - {name: tail, action: core.noop, on_success: [x, y]}
  - {name: x, action: core.noop, on_success: j}
  - {name: y, action: core.noop, on_success: j}
  - {name: j, join: all, action: core.noop}
",
        &none(),
    );
    for task in ["a", "tail", "x", "y", "j", "b", "tail", "x"] {
        scene.succeed(task, &json!(null));
    }
    scene.fail("y", "broken");
    assert_eq!(scene.status(), "failed");
    scene.rerun(&[]);
    assert_eq!(scene.waiting(), ["y"]);
    scene.succeed("y", &json!(null));
    assert_eq!(scene.waiting(), ["j"]);
    succeed_all(&mut scene);
    assert_eq!(scene.status(), "succeeded");
}

#[test]
fn a_second_rerun_knows_what_the_first_has_decided_again() {
    let mut scene = begin(
        "
ref: t.needs
tasks:
  - {name: a, action: core.noop}
  - {name: n, action: core.noop, needs: a}
",
        &none(),
    );
    scene.fail("a", "broken");
    scene.rerun(&[]);
    scene.succeed("a", &json!(null));
    scene.fail("n", "broken");
    assert_eq!(scene.status(), "failed");
    scene.rerun(&[]);
    assert_eq!(scene.waiting(), ["n"]);
    scene.succeed("n", &json!(null));
    assert_eq!(scene.status(), "succeeded");
    scene.rerun(&["a"]);
    assert_eq!(scene.waiting(), ["a"]);
    scene.succeed("a", &json!(null));
    assert_eq!(scene.waiting(), ["n"]);
    scene.fail("n", "broken");
    assert_eq!(scene.status(), "failed");
}

#[test]
fn what_was_never_reached_is_decided_again_where_a_rerun_may_lead_there() {
    for policy in ["drain", "cancel", "continue"] {
        let yaml = format!(
            "
ref: t.reached
fail_policy: {policy}
tasks:
  - {{name: f, action: core.noop, on_success: t}}
  - {{name: t, action: core.noop}}
  - {{name: n, action: core.noop, needs: t}}
  - {{name: m, action: core.noop, needs: n}}
start: [f]
"
        );
        let mut scene = begin(&yaml, &none());
        scene.fail("f", "broken");
        assert_eq!(scene.status(), "failed", "{policy}");
        scene.rerun(&[]);
        for task in ["f", "t", "n", "m"] {
            assert_eq!(scene.waiting(), [task], "{policy}");
            scene.succeed(task, &json!(null));
        }
        assert_eq!(scene.status(), "succeeded", "{policy}");
        scene.rerun(&["f"]);
        scene.fail("f", "broken");
        assert_eq!(scene.status(), "failed", "{policy}");
        scene.rerun(&[]);
        for task in ["f", "t", "n", "m"] {
            assert_eq!(scene.waiting(), [task], "{policy}");
            scene.succeed(task, &json!(null));
        }
        assert_eq!(scene.status(), "succeeded", "{policy}");
    }
}

#[test]
fn what_is_named_beside_one_that_leads_to_it_waits_for_it() {
    let mut scene = begin(
        "
ref: t.named
tasks:
  - {name: a, action: core.noop, on_success: j}
  - {name: b, action: core.noop, on_success: j}
  - {name: j, join: all, action: core.noop}
  - {name: n, action: core.noop, needs: [a, b]}
",
        &none(),
    );
    succeed_all(&mut scene);
    assert_eq!(scene.status(), "succeeded");
    for others in [["a", "j"], ["a", "n"]] {
        scene.rerun(&others);
        assert_eq!(scene.waiting(), ["a"]);
        scene.succeed("a", &json!(null));
        assert_eq!(scene.waiting(), ["j", "n"]);
        succeed_all(&mut scene);
        assert_eq!(scene.status(), "succeeded");
    }
}
