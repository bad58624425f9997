//! Each key of `expect` is compared: what holds passes, and what does not hold fails at that key.

use conformance::{Status, case};

const CASE: &str = "
workflow:
  vars: [{x: 0}]
  tasks:
    a: {action: demo.work, input: {x: {$var: x}}, next: [{when: succeeded, publish: [{x: {$result: null}}], do: [b, c, guarded]}]}
    b: {action: demo.slow, retry: {count: 1}, next: [{when: failed, do: [$noop]}]}
    c: {action: demo.work, with: {items: [p, q, r], concurrency: 2}, input: {i: {$item: null}}}
    guarded: {if: false, action: demo.work}
  output: [{x: {$var: x}}]
task_results:
  a: {result: 5, duplicates: 2}
  b: {status: failed, takes: 3}
  c: {items: {1: {takes: 4}}}
events: [{at: 2.5, do: check}, {at: 3, do: start_again}]
";

/// What holds of it, key by key, and what does not: each must be told from the first.
const KEYS: [(&str, &str, &[&str]); 20] = [
    (
        "status",
        "succeeded",
        &["failed", "canceled", "timed_out", "invalid", "rejected"],
    ),
    (
        "runs",
        "{a: 1, b: 1, c: 1}",
        &[
            "{a: 1, b: 1}",
            "{a: 1, b: 2, c: 1}",
            "{a: 1, b: 1, c: 1, guarded: 1}",
        ],
    ),
    (
        "executions",
        "{a: 1, b: 2, c: 3}",
        &["{b: 1}", "{c: 4}", "{guarded: 1}"],
    ),
    (
        "item_executions",
        "{c: {0: 1, 1: 1, 2: 1}}",
        &[
            "{c: {0: 1, 1: 1}}",
            "{c: {0: 1, 1: 2, 2: 1}}",
            "{a: {0: 1}}",
        ],
    ),
    ("skipped", "[guarded]", &["[]", "[a]", "[guarded, a]"]),
    ("omitted", "[]", &["[b]"]),
    (
        "task_status",
        "{a: succeeded, b: failed}",
        &["{a: failed}", "{b: timed_out}", "{guarded: succeeded}"],
    ),
    (
        "order",
        "[[a, b], [a, c]]",
        &["[[b, a]]", "[[b, c]]", "[[a, guarded]]"],
    ),
    (
        "sequence",
        "[a, b, c]",
        &["[a, c, b]", "[a, b]", "[a, b, c, guarded]"],
    ),
    ("overlap", "[[b, c]]", &["[[a, b]]", "[[a, guarded]]"]),
    (
        "max_parallel",
        "{c: 2, b: 1}",
        &["{c: 3}", "{c: 1}", "{guarded: 1}"],
    ),
    (
        "inputs",
        "{a: [{x: 0}], c: [{i: r}, {i: p}, {i: q}]}",
        &[
            "{a: [{x: 1}]}",
            "{a: [{x: '0'}]}",
            "{c: [{i: p}, {i: q}]}",
            "{a: []}",
        ],
    ),
    (
        "actions",
        "{b: [demo.slow, demo.slow]}",
        &["{b: [demo.slow]}", "{a: [demo.slow]}"],
    ),
    (
        "output",
        "{x: 5}",
        &["{x: 6}", "{}", "{x: 5, y: 1}", "{x: '5'}"],
    ),
    ("vars", "{x: 5}", &["{x: 0}", "{y: null}"]),
    (
        "errors",
        "[]",
        &["[{category: task_failed}]", "[{task: b}]"],
    ),
    ("elapsed", "7", &["6", "7.5"]),
    (
        "started_at",
        "{a: [0], b: [1]}",
        &["{b: [2]}", "{b: [1, 4]}", "{guarded: [1]}"],
    ),
    (
        "checkpoints",
        "[{at: 2.5, status: running}]",
        &["[{at: 2.5, status: failing}]", "[{at: 2, status: running}]"],
    ),
    ("stale_results", "2", &["0", "3"]),
];

fn played(expect: &str) -> (Status, String) {
    let played = case("case", &format!("{CASE}expect: {expect}\n"));
    (played.status, played.detail)
}

#[test]
fn what_holds_passes() {
    for (key, holds, _) in KEYS {
        assert_eq!(
            played(&format!("{{{key}: {holds}}}")),
            (Status::Pass, String::new()),
            "{key}"
        );
    }
    let all: Vec<String> = KEYS
        .iter()
        .map(|(key, holds, _)| format!("{key}: {holds}"))
        .collect();
    assert_eq!(
        played(&format!("{{{}}}", all.join(", "))),
        (Status::Pass, String::new())
    );
}

#[test]
fn what_does_not_hold_fails_at_its_key() {
    for (key, _, wrong) in KEYS {
        for value in wrong {
            let (status, detail) = played(&format!("{{{key}: {value}}}"));
            assert_eq!(status, Status::Fail, "{key}: {value}");
            assert!(detail.starts_with(key), "{key}: {value}: {detail}");
            assert!(!detail.contains("; "), "one difference alone: {detail}");
        }
    }
}

#[test]
fn no_execution_is_counted_that_was_not_created() {
    assert_eq!(played("{start_count: 1}").0, Status::Pass);
    for count in [0, 2] {
        let (status, detail) = played(&format!("{{start_count: {count}}}"));
        assert_eq!(
            (status, detail),
            (
                Status::Fail,
                format!("start_count: expected {count}, seen 1")
            )
        );
    }
}

const FAILS: &str = "
workflow:
  input: [{text: abc}]
  tasks:
    a: {action: demo.work, next: [{when: failed, do: [$fail]}]}
    b: {action: demo.work, next: [{do: [c]}]}
    c: {action: demo.work, input: {x: {$input: text.gone}}}
task_results: {a: {status: failed, takes: 3, error: {code: broken, message: it broke}}}
";

#[test]
fn each_key_of_an_error_is_compared() {
    let played = |error: &str| {
        case(
            "case",
            &format!("{FAILS}expect: {{status: failed, errors: [{error}]}}"),
        )
    };
    for error in [
        "{category: explicit_fail, task: a}",
        "{category: expression_error, task: c, where: input}",
        "{task: c}",
    ] {
        assert_eq!(played(error).detail, "", "{error}");
    }
    for error in [
        "{category: task_failed}",
        "{category: explicit_fail, task: b}",
        "{category: expression_error, task: a}",
        "{category: expression_error, where: publish}",
        "{code: broken2}",
        "{name: nobody}",
    ] {
        assert_eq!(played(error).status, Status::Fail, "{error}");
    }
}

#[test]
fn a_success_has_no_errors_and_a_misspelled_key_is_none() {
    let handled = played("{status: succeeded, errors: [{category: task_failed, task: b}]}");
    assert_eq!(handled.0, Status::Fail);
    let (status, detail) = played("{stauts: succeeded}");
    assert_eq!(status, Status::Fail);
    assert!(detail.contains("unknown key `stauts`"), "{detail}");
    assert_eq!(
        played("{}").0,
        Status::Fail,
        "an empty expectation would hold for anything"
    );
}

#[test]
fn a_refused_definition_is_compared_too() {
    let source = |expect: &str| {
        format!("workflow: {{tasks: {{a: {{acton: demo.work}}, b: {{}}}}}}\nexpect: {expect}\n")
    };
    for expect in [
        "{status: invalid}",
        "{status: invalid, runs: {}, errors: [{category: invalid_definition, task: a}], start_count: 0}",
    ] {
        assert_eq!(
            case("case", &source(expect)).status,
            Status::Pass,
            "{expect}"
        );
    }
    for expect in [
        "{status: succeeded}",
        "{status: rejected}",
        "{runs: {}}",
        "{status: invalid, errors: [{category: invalid_definition, task: b}]}",
        "{status: invalid, errors: [{category: task_failed}]}",
        "{status: invalid, errors: [{category: invalid_definition, code: x}]}",
        "{status: invalid, runs: {a: 1}}",
        "{status: invalid, start_count: 1}",
        "{status: invalid, elapsed: 0}",
    ] {
        let played = case("case", &source(expect));
        assert_eq!(played.status, Status::Fail, "{expect}");
        assert!(
            played.detail.contains("acton"),
            "{expect}: {}",
            played.detail
        );
    }
}

#[test]
fn a_refused_start_is_compared_too() {
    let source =
        |expect: &str| format!("workflow: {{input: [n], tasks: {{a: {{}}}}}}\nexpect: {expect}\n");
    let holds = "{status: rejected, runs: {}, start_count: 0, errors: [{category: invalid_input, code: missing_input, name: n}]}";
    assert_eq!(case("case", &source(holds)).detail, "");
    for expect in [
        "{status: succeeded}",
        "{status: rejected, start_count: 1}",
        "{status: rejected, errors: [{category: invalid_input, name: m}]}",
        "{status: rejected, errors: [{category: invalid_input, code: unknown_input}]}",
        "{status: rejected, errors: [{category: expression_error}]}",
    ] {
        assert_eq!(
            case("case", &source(expect)).status,
            Status::Fail,
            "{expect}"
        );
    }
}

#[test]
fn what_this_version_does_not_have_is_no_failure() {
    let played = case(
        "case",
        "
workflow: {tasks: {a: {wait: {signal: go}}}}
events: [{at: 1, do: signal, signal: go}]
expect: {status: succeeded}
",
    );
    assert_eq!(
        (played.status, played.detail.as_str()),
        (Status::Unsupported, "tasks.a.wait")
    );
}

#[test]
fn a_file_that_is_no_case_fails() {
    for source in [
        "[",
        "7",
        "workflow: {tasks: []}\nexpect: {status: succeeded}",
        "expect: {status: succeeded}",
    ] {
        assert_eq!(case("case", source).status, Status::Fail, "{source}");
    }
}
