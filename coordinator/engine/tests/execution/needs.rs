//! Tasks that run by how others have ended: `needs` and `rule`.

use serde_json::json;

use crate::harness::{Scene, begin, none};

/// A task `c` that needs `a` and `b` by a rule.
fn two(rule: &str) -> String {
    format!(
        "
ref: t.rules
fail_policy: continue
tasks:
  - {{name: a, action: core.noop, on_failure: noop}}
  - {{name: b, action: core.noop, on_failure: noop}}
  - {{name: c, action: core.noop, needs: [a, b], rule: {rule}}}
"
    )
}

fn end(scene: &mut Scene, task: &str, succeeds: bool) {
    if succeeds {
        scene.succeed(task, &json!(null));
    } else {
        scene.fail(task, "broken");
    }
}

fn omitted(scene: &Scene) -> Vec<String> {
    let ends = scene.ends().into_iter();
    ends.filter(|(_, status)| *status == "omitted")
        .map(|(task, _)| task)
        .collect()
}

/// After the first end, and after the second: `?` open, `+` runs, `-` omitted.
const DECISIONS: [(&str, bool, bool, &str); 24] = [
    ("all_success", true, true, "?+"),
    ("all_success", true, false, "?-"),
    ("all_success", false, true, "--"),
    ("all_done", true, true, "?+"),
    ("all_done", false, false, "?+"),
    ("one_success", true, false, "++"),
    ("one_success", false, true, "?+"),
    ("one_success", false, false, "?-"),
    ("one_failed", false, true, "++"),
    ("one_failed", true, false, "?+"),
    ("one_failed", true, true, "?-"),
    ("all_failed", false, false, "?+"),
    ("all_failed", true, false, "--"),
    ("all_failed", false, true, "?-"),
    ("none_failed", true, true, "?+"),
    ("none_failed", false, true, "--"),
    ("none_failed", true, false, "?-"),
    ("none_failed_min_one_success", true, true, "?+"),
    ("none_failed_min_one_success", false, true, "--"),
    ("none_skipped", true, false, "?+"),
    ("none_skipped", false, false, "?+"),
    ("all_skipped", true, true, "--"),
    ("all_skipped", false, true, "--"),
    ("all_skipped", false, false, "--"),
];

#[test]
fn a_rule_decides_as_soon_as_it_can_no_longer_change() {
    for (rule, first, second, expected) in DECISIONS {
        let mut scene = begin(&two(rule), &none());
        let mut seen = String::new();
        for (task, succeeds) in [("a", first), ("b", second)] {
            end(&mut scene, task, succeeds);
            seen.push(if scene.waiting().contains(&"c") {
                '+'
            } else if omitted(&scene).is_empty() {
                '?'
            } else {
                '-'
            });
        }
        assert_eq!(seen, expected, "{rule} {first} {second}");
        if seen.ends_with('+') {
            end(&mut scene, "c", true);
        }
        assert_eq!(scene.status(), "succeeded", "{rule} {first} {second}");
        assert_eq!(
            scene.ends().len(),
            3,
            "c has one run, whatever became of it"
        );
    }
}

#[test]
fn a_skipped_task_counts_as_success_where_all_must_succeed() {
    let yaml = |rule: &str| {
        format!(
            "
ref: t.skip
tasks:
  - {{name: a, action: core.noop, when: \"{{{{ false }}}}\"}}
  - {{name: b, action: core.noop, needs: a, rule: {rule}}}
"
        )
    };
    for (rule, runs) in [
        ("all_success", true),
        ("all_done", true),
        ("one_success", false),
        ("one_failed", false),
        ("all_failed", false),
        ("none_failed", true),
        ("none_failed_min_one_success", false),
        ("none_skipped", false),
        ("all_skipped", true),
    ] {
        let scene = begin(&yaml(rule), &none());
        assert_eq!(scene.waiting().contains(&"b"), runs, "{rule}");
        assert_eq!(omitted(&scene).is_empty(), runs, "{rule}");
    }
}

#[test]
fn an_omission_spreads_to_those_that_need_success() {
    let yaml = "
ref: t.spread
fail_policy: continue
tasks:
  - {name: a, action: core.noop}
  - {name: b, action: core.noop, needs: [a]}
  - {name: c, action: core.noop, needs: [b]}
  - {name: d, action: core.noop, needs: [b], rule: all_done}
  - {name: other, action: core.noop}
  - {name: other2, action: core.noop, needs: [other]}
";
    let mut scene = begin(yaml, &none());
    scene.fail("a", "broken");
    assert_eq!(omitted(&scene), ["b", "c"]);
    assert_eq!(scene.status(), "failing");
    assert_eq!(scene.waiting(), ["other", "d"]);
    end(&mut scene, "other", true);
    end(&mut scene, "other2", true);
    end(&mut scene, "d", true);
    assert_eq!(scene.status(), "failed");
    assert_eq!(scene.errors(), [("broken".to_owned(), "a".to_owned())]);
}

#[test]
fn a_needed_task_that_nothing_alive_can_reach_counts_as_omitted() {
    let yaml = "
ref: t.unreached
tasks:
  - {name: s, action: core.noop, on_failure: never}
  - {name: never, action: core.noop}
  - {name: side, action: core.noop}
  - {name: c, action: core.noop, needs: [never, side], rule: all_done}
  - {name: d, action: core.noop, needs: [never]}
";
    let mut scene = begin(yaml, &none());
    end(&mut scene, "s", true);
    assert_eq!(omitted(&scene), ["d"]);
    assert_eq!(scene.waiting(), ["side"]);
    end(&mut scene, "side", true);
    assert_eq!(scene.waiting(), ["c"]);
    end(&mut scene, "c", true);
    assert_eq!(scene.status(), "succeeded");
}

#[test]
fn it_sees_what_those_that_it_needs_have_published() {
    let yaml = "
ref: t.vars
vars: {x: 0}
tasks:
  - {name: a, action: core.noop, publish: [{x: 1}, {a: 1}]}
  - {name: b, action: core.noop, publish: [{x: 2}]}
  - {name: c, action: core.noop, needs: [a, b], input: {x: \"{{ vars.x }}\", a: \"{{ vars.a }}\"}, publish: [{x: 9}]}
output_map: {x: \"{{ vars.x }}\"}
";
    let mut scene = begin(yaml, &none());
    end(&mut scene, "b", true);
    end(&mut scene, "a", true);
    assert_eq!(scene.input("c"), json!({"x": 1, "a": 1}));
    end(&mut scene, "c", true);
    assert_eq!(scene.output(), json!({"x": 9}));
}

#[test]
fn where_none_of_those_that_it_needs_has_run_it_sees_what_has_been_left() {
    let yaml = "
ref: t.nothing
vars: {x: 0, y: 5}
tasks:
  - {name: s, action: core.noop, publish: [{x: 1}], on_failure: never}
  - {name: never, action: core.noop}
  - {name: left, action: core.noop, needs: [s], rule: all_failed}
  - {name: c, action: core.noop, needs: [never], rule: all_done, input: {x: \"{{ vars.x }}\", y: \"{{ vars.y }}\"}}
  - {name: d, action: core.noop, needs: [left], rule: all_done, input: {y: \"{{ vars.y }}\"}}
";
    let mut scene = begin(yaml, &none());
    end(&mut scene, "s", true);
    assert_eq!(omitted(&scene), ["left"]);
    assert_eq!(scene.input("c"), json!({"x": 1, "y": 5}));
    assert_eq!(scene.input("d"), json!({"y": 5}));
    end(&mut scene, "c", true);
    end(&mut scene, "d", true);
    assert_eq!(scene.status(), "succeeded");
}

#[test]
fn a_failure_that_a_rule_accepts_is_held_until_the_rule_is_decided() {
    let yaml = |rule: &str| {
        format!(
            "
ref: t.held
tasks:
  - {{name: a, action: core.noop}}
  - {{name: b, action: core.noop}}
  - {{name: c, action: core.noop, needs: [a, b], rule: {rule}}}
"
        )
    };
    let mut scene = begin(&yaml("all_done"), &none());
    scene.fail("a", "broken");
    assert_eq!(scene.status(), "running", "the failure is held");
    end(&mut scene, "b", true);
    end(&mut scene, "c", true);
    assert_eq!(scene.status(), "succeeded", "it was handled");

    let mut scene = begin(&yaml("all_failed"), &none());
    scene.fail("a", "broken");
    assert_eq!(scene.status(), "running");
    end(&mut scene, "b", true);
    assert_eq!(scene.status(), "failed", "nothing has handled it");
    assert_eq!(scene.errors(), [("broken".to_owned(), "a".to_owned())]);

    let mut scene = begin(&yaml("one_failed"), &none());
    scene.fail("a", "broken");
    assert_eq!(scene.waiting(), ["b", "c"]);
    scene.fail("b", "broken");
    assert_eq!(
        scene.status(),
        "running",
        "a task that accepts failures has run"
    );
    end(&mut scene, "c", true);
    assert_eq!(scene.status(), "succeeded");

    let mut scene = begin(&yaml("one_success"), &none());
    scene.fail("a", "broken");
    assert_eq!(scene.status(), "failing", "the rule accepts no failure");
    end(&mut scene, "b", true);
    assert_eq!(scene.status(), "failed");
}

#[test]
fn a_held_failure_counts_where_the_execution_fails_or_is_cancelled_before() {
    let yaml = "
ref: t.held
tasks:
  - {name: a, action: core.noop}
  - {name: b, action: core.noop}
  - {name: x, action: core.noop}
  - {name: c, action: core.noop, needs: [a, b], rule: all_done}
";
    let mut scene = begin(yaml, &none());
    scene.fail("a", "broken");
    scene.fail("x", "bad");
    assert_eq!(scene.status(), "failing");
    end(&mut scene, "b", true);
    assert_eq!(scene.status(), "failed");
    let expected = [("bad", "x"), ("broken", "a")];
    let expected = expected.map(|(kind, task)| (kind.to_owned(), task.to_owned()));
    assert_eq!(scene.errors(), expected);
    assert_eq!(omitted(&scene), ["c"], "it was due, and held back");

    let mut scene = begin(yaml, &none());
    scene.fail("a", "broken");
    scene.cancel();
    scene.stop("b");
    scene.stop("x");
    assert_eq!(scene.status(), "cancelled");
    assert_eq!(scene.errors(), [("broken".to_owned(), "a".to_owned())]);
}

#[test]
fn in_a_loop_the_last_end_counts_once_the_loop_is_over() {
    let yaml = "
ref: t.loop
tasks:
  - {name: s, action: core.noop, on_success: spin}
  - {name: spin, action: core.noop, next: [{when: \"{{ result() }}\", do: spin}]}
  - {name: c, action: core.noop, needs: [spin]}
";
    let mut scene = begin(yaml, &none());
    end(&mut scene, "s", true);
    scene.succeed("spin", &json!(true));
    assert_eq!(scene.waiting(), ["spin"]);
    scene.succeed("spin", &json!(false));
    assert_eq!(scene.waiting(), ["c"]);
    end(&mut scene, "c", true);
    assert_eq!(scene.status(), "succeeded");
}

#[test]
fn it_runs_once_for_all_routes() {
    let yaml = "
ref: t.routes
tasks:
  - {name: r1, action: core.noop, on_success: mid}
  - {name: r2, action: core.noop, on_success: mid}
  - {name: mid, action: core.noop}
  - {name: c, action: core.noop, needs: [mid], on_success: [x, y]}
  - {name: x, action: core.noop, on_success: meet}
  - {name: y, action: core.noop, on_success: meet}
  - {name: meet, action: core.noop, join: all}
";
    let mut scene = begin(yaml, &none());
    for task in ["r1", "mid", "r2"] {
        end(&mut scene, task, true);
    }
    assert_eq!(scene.waiting(), ["mid"]);
    for task in ["mid", "c", "x", "y", "meet"] {
        end(&mut scene, task, true);
    }
    assert_eq!(scene.status(), "succeeded");
}

#[test]
fn an_ignored_failure_counts_as_success() {
    let yaml = "
ref: t.ignored
tasks:
  - {name: a, action: core.noop, ignore_failure: true}
  - {name: b, action: core.noop, needs: [a]}
";
    let mut scene = begin(yaml, &none());
    scene.fail("a", "broken");
    assert_eq!(scene.waiting(), ["b"]);
    end(&mut scene, "b", true);
    assert_eq!(scene.status(), "succeeded");
    assert_eq!(scene.ends()[0], ("a".to_owned(), "failed"));
}

#[test]
fn what_comes_after_the_decision_is_absorbed() {
    let yaml = "
ref: t.late
tasks:
  - {name: a, action: core.noop}
  - {name: b, action: core.noop, publish: [{late: 1}]}
  - {name: c, action: core.noop, needs: [a, b], rule: one_success}
";
    let mut scene = begin(yaml, &none());
    end(&mut scene, "a", true);
    end(&mut scene, "c", true);
    assert_eq!(scene.status(), "running");
    end(&mut scene, "b", true);
    assert_eq!(scene.status(), "succeeded");
    assert_eq!(scene.variables(), json!({"late": 1}));
    assert_eq!(scene.ends().len(), 3);
}

#[test]
fn during_a_pause_it_is_decided_and_runs_after_it() {
    let mut scene = begin(&two("all_success"), &none());
    end(&mut scene, "a", true);
    scene.pause();
    end(&mut scene, "b", true);
    assert_eq!(scene.status(), "paused");
    assert_eq!(scene.waiting(), [""; 0]);
    scene.resume();
    assert_eq!(scene.waiting(), ["c"]);
}
