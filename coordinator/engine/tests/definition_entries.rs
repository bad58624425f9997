//! How tasks are entered is checked before anything runs: starts, joins, splits, `needs`, `finally`.

use flotilla_engine::compile;
use flotilla_engine::diagnostic::Severity;

/// Code and path of each error.
fn errors(source: &str) -> Vec<(&'static str, String)> {
    match compile(source) {
        Ok(_) => Vec::new(),
        Err(found) => found
            .into_iter()
            .filter(|found| found.severity == Severity::Error)
            .map(|found| (found.code, found.path))
            .collect(),
    }
}

#[track_caller]
fn accepted(tail: &str) {
    let source = format!("ref: a.b\n{tail}");
    assert_eq!(errors(&source), [], "{source}");
}

#[track_caller]
fn refused(tail: &str, expected: &[(&'static str, &str)]) {
    let source = format!("ref: a.b\n{tail}");
    let found = errors(&source);
    let found: Vec<(&str, &str)> = found
        .iter()
        .map(|(code, path)| (*code, path.as_str()))
        .collect();
    assert_eq!(found, expected, "{source}");
}

#[test]
fn a_join_of_more_arrivals_than_predecessors_is_refused() {
    let tasks = |join: &str| {
        format!(
            "tasks:
- {{name: a, next: [{{do: c}}, {{do: c}}]}}
- {{name: b, on_success: c}}
- {{name: c, join: {join}}}"
        )
    };
    accepted(&tasks("2"));
    refused(&tasks("3"), &[("join_of_too_many", "tasks[2].join")]);
    refused(&tasks("0"), &[("wrong_type", "tasks[2].join")]);
    refused(&tasks("1.5"), &[("wrong_type", "tasks[2].join")]);
    refused(&tasks("any"), &[("wrong_type", "tasks[2].join")]);
    refused(
        "tasks: [{name: a, join: active}]",
        &[("join_without_predecessor", "tasks[0].join")],
    );
}

const ACROSS: &str = "tasks:
- {name: t1, on_success: [t2, t3, t5]}
- {name: t2, on_success: t4}
- {name: t3, on_success: t4}
- {name: t4, on_success: t5}
- {name: t5, join: all}";

#[test]
fn a_join_across_splits_is_refused_and_told_how_to_mend_it() {
    refused(ACROSS, &[("join_across_splits", "tasks[4].join")]);
    let found = compile(&format!("ref: a.b\n{ACROSS}")).expect_err("it is refused");
    let error = found
        .iter()
        .find(|found| found.code == "join_across_splits")
        .expect("it was found");
    let hint = error.hint.as_deref().unwrap_or_default();
    assert!(hint.contains("`join: 1` at `t4`"), "{hint}");
    accepted(&ACROSS.replace("name: t4,", "name: t4, join: 1,"));
}

#[test]
fn a_loop_entered_from_outside_is_no_split() {
    accepted(
        "tasks:
- {name: s, on_success: [a, b]}
- {name: a, next: [{do: c}]}
- {name: b, next: [{do: b, when: '{{ false }}'}, {do: c}]}
- {name: c, join: all}",
    );
}

#[test]
fn a_start_that_is_entered_again_is_a_split() {
    refused(
        "start: [a, b]
tasks:
- {name: a, on_success: [b, c]}
- {name: b, on_success: c}
- {name: c, join: all}",
        &[("join_across_splits", "tasks[2].join")],
    );
}

#[test]
fn starts_are_those_that_are_named() {
    accepted("start: a\ntasks: [{name: a, on_success: b}, {name: b, on_success: a}]");
    refused(
        "tasks: [{name: a, on_success: b}, {name: b, on_success: a}]",
        &[("no_start", "tasks")],
    );
    refused(
        "start: [a]\ntasks: [{name: a}, {name: b}]",
        &[("unreachable_task", "tasks[1]")],
    );
    refused(
        "start: [x]\ntasks: [{name: a}]",
        &[("unknown_target", "start[0]"), ("no_start", "tasks")],
    );
    refused(
        "start: []\ntasks: [{name: a}]",
        &[("invalid_value", "start"), ("no_start", "tasks")],
    );
    refused(
        "start: [a, c]\ntasks: [{name: a, on_success: c}, {name: c, join: 1}]",
        &[("invalid_start", "start[1]")],
    );
    refused(
        "start: [a, c]\ntasks: [{name: a}, {name: c, needs: a}]",
        &[("invalid_start", "start[1]")],
    );
}

#[test]
fn a_task_with_needs_is_entered_by_nothing_else() {
    accepted("tasks: [{name: a}, {name: b, needs: a}, {name: c, needs: [a, b], rule: all_done}]");
    refused(
        "tasks: [{name: a, on_success: b}, {name: b, needs: [a]}]",
        &[("mixed_entries", "tasks[1].needs")],
    );
    refused(
        "tasks: [{name: a}, {name: b, needs: [a], join: all}]",
        &[("mixed_entries", "tasks[1].join")],
    );
    refused(
        "tasks: [{name: a, on_success: c}, {name: c}, {name: d, needs: [c], on_success: c}]",
        &[("needs_in_cycle", "tasks[2].needs")],
    );
    refused(
        "tasks: [{name: s}, {name: a, needs: [a, s]}]",
        &[("needs_in_cycle", "tasks[1].needs")],
    );
    refused(
        "tasks: [{name: a}, {name: b, rule: all_done}]",
        &[("missing_key", "tasks[1].rule")],
    );
    refused(
        "tasks: [{name: a}, {name: b, needs: []}]",
        &[("invalid_value", "tasks[1].needs")],
    );
    refused(
        "tasks: [{name: a}, {name: b, needs: [a, a]}]",
        &[("duplicate_target", "tasks[1].needs[1]")],
    );
    refused(
        "tasks: [{name: a}, {name: b, needs: [a], rule: all_succes}]",
        &[("invalid_value", "tasks[1].rule")],
    );
    refused(
        "tasks: [{name: a}, {name: b, needs: [noop]}]",
        &[("unknown_target", "tasks[1].needs[0]")],
    );
}

#[test]
fn a_task_of_finally_stands_alone() {
    accepted("finally: [z]\ntasks: [{name: a}, {name: z, on_failure: noop, publish: [{v: 1}]}]");
    refused(
        "finally: [z]\ntasks: [{name: a, on_success: z}, {name: z}]",
        &[("misplaced_finally", "tasks[0].on_success")],
    );
    refused(
        "finally: [z]\ntasks: [{name: a}, {name: b, needs: [a]}, {name: z, on_success: a}]",
        &[
            ("no_start", "tasks"),
            ("misplaced_finally", "tasks[2].on_success"),
        ],
    );
    refused(
        "finally: [z]\ntasks: [{name: a}, {name: z, needs: [a]}]",
        &[("misplaced_finally", "finally[0]")],
    );
    refused(
        "finally: [z]\ntasks: [{name: a}, {name: b, needs: [z]}, {name: z}]",
        &[("misplaced_finally", "tasks[1].needs[0]")],
    );
    refused(
        "finally: [z]\nstart: [a, z]\ntasks: [{name: a}, {name: z}]",
        &[("misplaced_finally", "start[1]")],
    );
    refused(
        "finally: [y]\ntasks: [{name: a}, {name: z}]",
        &[("unknown_target", "finally[0]")],
    );
}

#[test]
fn policies_are_words_and_limits_are_numbers() {
    accepted(
        "fail_policy: cancel\ncancellation_policy: allow_finish\ncancel_grace: 0.5\nmax_runs_per_task: 5\n\
         tasks: [{name: a, ignore_failure: true}]",
    );
    for (line, path) in [
        ("fail_policy: stop", "fail_policy"),
        ("cancellation_policy: cancel", "cancellation_policy"),
        ("cancel_grace: -1", "cancel_grace"),
    ] {
        refused(
            &format!("{line}\ntasks: [{{name: a}}]"),
            &[("invalid_value", path)],
        );
    }
    refused(
        "max_runs_per_task: 0\ntasks: [{name: a}]",
        &[("wrong_type", "max_runs_per_task")],
    );
    refused(
        "tasks: [{name: a, ignore_failure: 1}]",
        &[("wrong_type", "tasks[0].ignore_failure")],
    );
}

#[test]
fn variables_come_along_needs_and_end_up_in_finally() {
    accepted(
        "finally: [z]
tasks:
- {name: a, publish: [{x: 1}]}
- {name: b, needs: [a], input: {v: '{{ vars.x }}'}}
- {name: z, input: {v: '{{ vars.x }}', s: '{{ system.status }}'}}",
    );
    refused(
        "tasks:
- {name: a}
- {name: c, publish: [{x: 1}]}
- {name: b, needs: [a], input: {v: '{{ vars.x }}', s: '{{ system.status }}'}}",
        &[
            ("unassigned_variable", "tasks[2].input.v"),
            ("unknown_name", "tasks[2].input.s"),
        ],
    );
    refused(
        "finally: [z]\ntasks: [{name: a}, {name: z, input: {v: '{{ vars.o }}'}}]\noutput_map: {o: 1}",
        &[("unassigned_variable", "tasks[1].input.v")],
    );
}

#[test]
fn branches_that_write_one_variable_are_warned_of() {
    let warned = |tasks: &str| {
        let compiled = compile(&format!("ref: a.b\nvars: {{x: 0}}\ntasks:\n{tasks}"));
        let warnings = compiled.expect("it is sound").warnings;
        warnings
            .iter()
            .any(|found| found.code == "conflicting_writes")
    };
    let branches = |a: &str, b: &str, meet: &str| {
        format!(
            "- {{name: s, publish: [{{x: 1}}], on_success: [a, b]}}
- {{name: a, {a}}}
- {{name: b, {b}}}
- {{name: meet, {meet}}}"
        )
    };
    let writes = "publish: [{x: 2}], on_success: meet";
    let routes = "next: [{publish: [{x: 2}], do: meet}]";
    let reads = "on_success: meet";
    assert!(warned(&branches(writes, writes, "join: all")));
    assert!(warned(&branches(writes, routes, "join: 2")));
    assert!(
        !warned(&branches(writes, reads, "join: all")),
        "one of them alone"
    );
    assert!(
        !warned(&branches(writes, writes, "join: 1")),
        "one of them is taken"
    );
    assert!(!warned(&branches(writes, writes, "join: active")));
    let needed = "publish: [{x: 2}]";
    assert!(warned(&branches(needed, needed, "needs: [a, b]")));
    assert!(
        !warned(&branches(needed, needed, "needs: [s, b]")),
        "the later one has seen it"
    );

    let layers = |width: usize| {
        let names = |layer: char| (0..width).map(move |no| format!("{layer}{no}"));
        let next = names('b').collect::<Vec<_>>().join(", ");
        let first = names('a')
            .map(|name| format!("- {{name: {name}, publish: [{{x: 1}}], on_success: [{next}]}}\n"));
        let second = names('b').map(|name| format!("- {{name: {name}, join: all}}\n"));
        first.chain(second).collect::<String>()
    };
    assert!(warned(&layers(20)));
    assert!(
        !warned(&layers(180)),
        "so many ways are not looked at, one by one"
    );
}
