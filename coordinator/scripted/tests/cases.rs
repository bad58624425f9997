//! Cases played on the real engine: what passes, and that each part of an expectation can fail.

use std::sync::Arc;

use flotilla_protocol::message::CompletionStatus;
use flotilla_scripted::{
    Action, Case, Reload, Seen, Step, WorkflowSource, open, play, play_with, unhandled,
};
use serde_json::{Value, json};

const WORKFLOW: &str = "
workflow:
  ref: cases.flow
  parameters: {n: {type: integer, default: 1}}
  tasks:
    - {name: a, action: demo.work, input: {n: \"{{ parameters.n }}\"}, publish: [{x: \"{{ result() }}\"}], on_success: [b, c]}
    - {name: b, action: demo.work, retry: {count: 1, delay: 2}, on_success: d, on_failure: e}
    - {name: c, action: demo.work, when: \"{{ vars.x != 0 }}\", timeout: 10, max_redeliveries: 2, on_success: d}
    - {name: d, join: all}
    - {name: e, action: demo.other, on_success: fail}
  output_map: {x: \"{{ vars.x }}\"}
";

/// The one case that `rest` adds to the workflow.
fn case(rest: &str) -> (Arc<flotilla_engine::Workflow>, Case) {
    let source = format!("{WORKFLOW}{rest}");
    let file = open(&source).unwrap_or_else(|errors| panic!("{errors:#?}"));
    let WorkflowSource::Inline(Ok(compiled)) = &file.workflow else {
        panic!("the workflow is sound: {:?}", file.workflow);
    };
    let cases = file.cases(&compiled.workflow);
    let mut cases = cases.unwrap_or_else(|errors| panic!("{errors:#?}"));
    assert_eq!(cases.len(), 1);
    (Arc::clone(&compiled.workflow), cases.remove(0))
}

fn played(rest: &str) -> (Seen, Vec<String>) {
    let (workflow, case) = case(rest);
    let seen = play(&workflow, &case.script);
    let differences = case.expectation.compare(&seen);
    let at = differences.into_iter().map(|one| one.at).collect();
    (seen, at)
}

/// All of this is seen.
fn holds(rest: &str) -> Seen {
    let (seen, differences) = played(rest);
    assert_eq!(differences, Vec::<String>::new(), "{seen:#?}");
    seen
}

const ALL: &str = "
task_results:
  a: {result: 5}
  b: [{status: failed, takes: 3}, {takes: 2}]
  c: {echo: true, takes: 4}
expect:
  status: succeeded
  runs: {a: 1, b: 1, c: 1, d: 1}
  executions: {a: 1, b: 2, c: 1}
  task_status: {b: succeeded, d: succeeded}
  order: [[a, b], [b, d], [c, d]]
  sequence: [a, b, c, d]
  overlap: [[b, c]]
  max_parallel: {b: 1}
  inputs: {a: [{n: 1}]}
  actions: {b: [demo.work, demo.work]}
  output: {x: 5}
  vars: {x: 5.0}
  errors: []
  elapsed: 8
  started_at: {b: [1], d: [8]}
  stale_results: 0
  start_count: 1
";

#[test]
fn every_part_of_an_expectation_is_compared() {
    holds(ALL);
}

#[test]
fn every_part_of_an_expectation_can_fail() {
    for (part, at) in [
        ("status: failed", "status"),
        ("runs: {a: 1, b: 1, c: 1}", "runs.d"),
        ("runs: {a: 1, b: 2, c: 1, d: 1}", "runs.b"),
        ("executions: {b: 1}", "executions.b"),
        ("item_executions: {b: {0: 1}}", "item_executions.b"),
        ("skipped: [c]", "skipped"),
        ("omitted: [e]", "omitted"),
        ("task_status: {b: canceled}", "task_status.b"),
        ("order: [[c, b]]", "order[0]"),
        ("order: [[a, e]]", "order[0]"),
        ("sequence: [a, c, b, d]", "sequence"),
        ("overlap: [[a, b]]", "overlap[0]"),
        ("max_parallel: {b: 2}", "max_parallel.b"),
        ("inputs: {a: [{n: 2}]}", "inputs.a"),
        ("inputs: {a: [{n: 1}, {n: 1}]}", "inputs.a"),
        ("inputs: {b: [{}]}", "inputs.b"),
        ("actions: {b: [demo.work]}", "actions.b"),
        ("output: {x: 6}", "output"),
        ("vars: {y: 5}", "vars.y"),
        ("vars: {x: '5'}", "vars.x"),
        ("errors: [{kind: declined}]", "errors[0]"),
        ("elapsed: 7", "elapsed"),
        ("started_at: {b: [1, 6]}", "started_at.b"),
        (
            "checkpoints: [{at: 3, status: running}]",
            "checkpoints at 3",
        ),
        ("stale_results: 1", "stale_results"),
        ("start_count: 2", "start_count"),
    ] {
        let script = &ALL[..ALL.find("expect:").expect("there is one")];
        let (_, differences) = played(&format!("{script}expect: {{{part}}}\n"));
        assert_eq!(differences, [at], "{part}");
    }
}

#[test]
fn a_difference_says_what_was_seen() {
    let (workflow, case) = case("expect: {status: failed, runs: {a: 1}}");
    let differences = case.expectation.compare(&play(&workflow, &case.script));
    let first = &differences[0];
    assert_eq!(
        (&first.expected, &first.seen),
        (&json!("failed"), &json!("succeeded"))
    );
    assert_eq!(differences.len(), 4, "runs of b, c and d, too");
}

#[test]
fn a_lost_worker_is_replaced_and_then_given_up() {
    holds(
        "
task_results: {a: {result: 1}, c: [{status: lost, takes: 2}, {takes: 3}]}
expect: {status: succeeded, executions: {c: 2}, elapsed: 6}
",
    );
    holds(
        "
task_results: {a: {result: 1}, c: {status: lost}}
expect:
  status: failed
  executions: {c: 3}
  runs: {a: 1, b: 1, c: 1}
  omitted: [d]
  errors: [{category: lost_worker, task: c}, {kind: worker_lost}]
",
    );
}

#[test]
fn time_limits_are_kept_by_the_worker() {
    holds(
        "
task_results: {a: {result: 1}, c: {status: never}}
expect: {status: failed, task_status: {c: timed_out}, elapsed: 11, errors: [{kind: task_timeout, task: c}]}
",
    );
    holds(
        "
task_results: {a: {result: 1}, c: {takes: 50}}
expect: {status: failed, task_status: {c: timed_out}, elapsed: 11}
",
    );
}

#[test]
fn an_answer_that_comes_again_has_no_effect() {
    holds(
        "
task_results: {a: {result: 1, duplicates: 3, duplicate_gap: 0.25}}
expect: {status: succeeded, runs: {a: 1, b: 1, c: 1, d: 1}, stale_results: 3}
",
    );
}

#[test]
fn a_guard_skips_and_a_default_answer_is_null() {
    holds("task_results: {a: {result: 0}}\nexpect: {skipped: [c], runs: {a: 1, b: 1, d: 1}}");
    holds("expect: {vars: {x: null}, elapsed: 2}");
}

#[test]
fn commands_are_followed_at_their_time() {
    holds(
        "
task_results: {a: {takes: 5, result: 1}}
events: [{at: 1, do: pause}, {at: 2, do: check}, {at: 6, do: check}, {at: 10, do: resume}, {at: 10.5, do: resume}]
expect:
  status: succeeded
  checkpoints: [{at: 2, status: pausing}, {at: 6, status: paused}]
  started_at: {b: [10]}
",
    );
    for (answer, status, elapsed) in [
        ("{takes: 9, on_cancel: {takes: 1}}", "canceled", 3),
        // It does not listen, so its answer counts.
        ("{takes: 9}", "succeeded", 9),
    ] {
        holds(&format!(
            "
task_results: {{a: {answer}}}
events: [{{at: 2, do: cancel}}]
expect: {{status: canceled, runs: {{a: 1}}, task_status: {{a: {status}}}, elapsed: {elapsed}}}
"
        ));
    }
}

#[test]
fn a_failure_of_our_own_kind_reaches_its_handler() {
    let seen = holds(
        "
task_results:
  b: {status: failed, error: {code: declined, message: no funds, retryable: false, limit: 5}}
expect:
  status: failed
  runs: {a: 1, b: 1, c: 1, e: 1}
  actions: {e: [demo.other]}
  errors: [{category: explicit_fail, task: e}]
",
    );
    assert_eq!(seen.item_counts("b").len(), 0);
}

#[test]
fn a_start_that_is_refused_is_no_execution() {
    holds(
        "
parameters: {n: many}
expect: {status: rejected, runs: {}, start_count: 0, errors: [{category: invalid_input, code: wrong_type, name: n}]}
",
    );
}

#[test]
fn an_answer_after_the_time_limit_comes_too_late() {
    holds(
        "
task_results: {a: {result: 1, takes: 2}, b: {takes: 90}, c: {takes: 50}}
expect: {status: failed, task_status: {c: timed_out}, stale_results: 1, elapsed: 92}
",
    );
}

/// What a case shows is the same where the coordinator is restarted, even after each event.
#[test]
fn a_restart_changes_nothing() {
    let restarts = "events: [{at: 1, do: restart_coordinator}, {at: 2, do: restart_coordinator}, {at: 6.5, do: restart_coordinator}]";
    holds(&format!("{restarts}{ALL}"));
    let (workflow, case) = case(ALL);
    for script in [
        &case.script,
        &self::case(&format!("{restarts}{ALL}")).1.script,
    ] {
        let as_it_is = play(&workflow, script);
        let reloaded = play_with(&workflow, script, Reload::AfterEachEvent);
        assert_eq!(reloaded.damage, [] as [String; 0]);
        assert_eq!(reloaded.runs, as_it_is.runs);
        assert_eq!(reloaded.starts, as_it_is.starts);
        assert_eq!(case.expectation.compare(&reloaded), []);
    }
}

#[test]
fn damaged_rows_are_a_difference() {
    let (workflow, case) = case(ALL);
    let mut seen = play(&workflow, &case.script);
    seen.damage.push("run 1 is not stored".to_owned());
    let differences = case.expectation.compare(&seen);
    assert_eq!(differences.len(), 1);
    let shown = differences[0].to_string();
    assert_eq!(shown, "rows: expected null, seen \"run 1 is not stored\"");
}

#[test]
fn what_cannot_be_played_is_said() {
    let (_, case) = case(
        "
events: [{at: 1, do: signal, signal: go}, {after: final, do: pause}, {after: final, do: rerun}]
expect: {status: succeeded}
",
    );
    assert_eq!(case.unsupported.len(), 2, "{:?}", case.unsupported);
}

#[test]
fn a_failure_without_a_handler_is_found_with_what_it_does() {
    let (workflow, case) = case("task_results: {a: {result: 1}}\nexpect: {status: succeeded}");
    let seen = play(&workflow, &case.script);
    let found = unhandled(&workflow, &case.script, &seen);
    let tasks: Vec<&str> = found.iter().map(|one| one.task.as_str()).collect();
    // b has `on_failure`; e did not run.
    assert_eq!(tasks, ["a", "c"]);
    assert_eq!(
        found[0].effect,
        "the execution would end as failed: b, c, d would not run"
    );
    assert!(found[0].fix.contains("on_failure"), "{}", found[0].fix);
}

/// Code, path and hint of all that is wrong.
fn mistakes(source: &str) -> Vec<(String, String, Option<String>)> {
    let found = match open(source) {
        Err(found) => found,
        Ok(file) => {
            let WorkflowSource::Inline(Ok(compiled)) = &file.workflow else {
                panic!("the workflow is sound: {:?}", file.workflow);
            };
            file.cases(&compiled.workflow).expect_err("it has mistakes")
        }
    };
    assert!(found.iter().all(|one| one.line >= 1 && one.column >= 1));
    let found = found.into_iter();
    found
        .map(|one| (one.code.to_owned(), one.path, one.hint))
        .collect()
}

#[test]
fn all_mistakes_of_a_file_are_reported_with_their_places() {
    let found = mistakes(&format!(
        "{WORKFLOW}
task_results:
  bb: {{status: suceeded}}
  a: []
  b: {{takes: -1, duplicates: 0.5, echo: 1}}
events: [{{do: stop}}, {{at: 1}}]
expect:
  stauts: failed
  runs: {{a: many, z9: 1}}
  order: [[a]]
  checkpoints: [{{at: 1}}]
  item_executions: {{a: {{x: 1}}}}
"
    ));
    let paths: Vec<(&str, &str)> = found
        .iter()
        .map(|(code, path, _)| (code.as_str(), path.as_str()))
        .collect();
    assert_eq!(
        paths,
        [
            ("unknown_task", "task_results.bb"),
            ("invalid_value", "task_results.bb.status"),
            ("invalid_value", "task_results.a"),
            ("invalid_value", "task_results.b.takes"),
            ("wrong_type", "task_results.b.duplicates"),
            ("wrong_type", "task_results.b.echo"),
            ("missing_key", "events[0]"),
            ("invalid_value", "events[0].do"),
            ("missing_key", "events[1]"),
            ("unknown_key", "expect.stauts"),
            ("wrong_type", "expect.runs.a"),
            ("unknown_task", "expect.runs.z9"),
            ("wrong_type", "expect.order[0]"),
            ("missing_key", "expect.checkpoints[0]"),
            ("invalid_value", "expect.item_executions.a.x"),
        ]
    );
    assert_eq!(found[1].2.as_deref(), Some("did you mean succeeded?"));
    assert_eq!(found[9].2.as_deref(), Some("did you mean status?"));
}

#[test]
fn a_file_needs_a_workflow_cases_and_expectations() {
    let codes = |source: &str| -> Vec<String> {
        mistakes(source)
            .into_iter()
            .map(|(code, ..)| code)
            .collect()
    };
    assert_eq!(codes("title: none"), ["missing_key"]);
    assert_eq!(codes("workflow: 7"), ["wrong_type"]);
    assert_eq!(codes("workflow: ["), ["yaml_syntax"]);
    assert_eq!(codes(WORKFLOW), ["missing_key"]);
    assert_eq!(codes(&format!("{WORKFLOW}cases: []")), ["missing_key"]);
    assert_eq!(
        codes(&format!("{WORKFLOW}cases: [{{title: x}}]")),
        ["missing_key"]
    );
    assert_eq!(codes(&format!("{WORKFLOW}expect: {{}}")), ["invalid_value"]);
    assert_eq!(
        codes(&format!(
            "{WORKFLOW}events: []\ncases: [{{expect: {{elapsed: 1}}}}]"
        )),
        ["unknown_key"]
    );
}

#[test]
fn what_a_file_says_holds_for_all_cases_that_do_not_say_otherwise() {
    let source = format!(
        "{WORKFLOW}
parameters: {{n: 7}}
task_results: {{a: {{echo: true}}}}
cases:
  - {{title: one, expect: {{vars: {{x: {{n: 7}}}}}}}}
  - {{parameters: {{n: 8}}, expect: {{vars: {{x: {{n: 8}}}}}}}}
  - {{task_results: {{a: {{result: z}}}}, expect: {{vars: {{x: z}}}}}}
"
    );
    let file = open(&source).expect("it is sound");
    let WorkflowSource::Inline(Ok(compiled)) = &file.workflow else {
        panic!("the workflow is sound");
    };
    let cases = file.cases(&compiled.workflow).expect("they are sound");
    let titles: Vec<&str> = cases.iter().map(|case| case.title.as_str()).collect();
    assert_eq!(titles, ["one", "case 2", "case 3"]);
    for case in &cases {
        let seen = play(&compiled.workflow, &case.script);
        assert_eq!(case.expectation.compare(&seen), [], "{}", case.title);
    }
}

#[test]
fn an_invalid_workflow_may_be_what_is_expected() {
    let source = "
workflow: {ref: cases.bad, tasks: [{name: a, on_success: nowhere}]}
expect: {status: invalid}
";
    let file = open(source).expect("the file is sound");
    assert!(file.expects_invalid());
    let WorkflowSource::Inline(Err(errors)) = &file.workflow else {
        panic!("the workflow is not sound");
    };
    assert_eq!(errors[0].code, "unknown_target");
    assert_eq!(errors[0].line, 2, "a place in the file of the case");
    let never: Value = json!(play_of("expect: {status: invalid}").status);
    assert_eq!(never, "succeeded");
}

fn play_of(rest: &str) -> Seen {
    let (workflow, case) = case(rest);
    assert!(case.expectation.is_invalid());
    play(&workflow, &case.script)
}

#[test]
fn the_steps_say_what_happened_in_which_order() {
    let (seen, _) = played(
        "
task_results:
  a: {duplicates: 1}
  b: [{status: failed, takes: 3}, {takes: 2}]
  c: [{status: lost}, {takes: 9}]
events: [{at: 2.5, do: pause}, {at: 2.5, do: resume}]
expect: {status: succeeded}
",
    );
    let said = |delivery| Step::Answered(delivery, CompletionStatus::Succeeded);
    assert_eq!(
        seen.steps,
        [
            Step::Delivered(0),
            said(0),
            said(0),
            Step::Delivered(1),
            Step::Delivered(2),
            Step::Lost(2),
            Step::Delivered(3),
            Step::Acted(Action::Pause),
            Step::Acted(Action::Resume),
            Step::Answered(1, CompletionStatus::Failed),
            Step::TimerFired,
            Step::Delivered(4),
            said(4),
            said(3),
        ]
    );
    let tasks: Vec<&str> = seen.deliveries.iter().map(|one| &*one.task).collect();
    assert_eq!(tasks, ["a", "b", "c", "c", "b"]);
}

#[test]
fn an_expectation_without_times_keeps_all_else() {
    let (workflow, case) = case(
        "
task_results: {a: {result: 5}}
expect:
  status: failed
  runs: {a: 1, b: 1, c: 1}
  elapsed: 77
  started_at: {a: [77]}
  checkpoints: [{at: 7, status: paused}]
",
    );
    let seen = play(&workflow, &case.script);
    let differing = |expectation: &flotilla_scripted::Expectation| {
        let found = expectation.compare(&seen).into_iter();
        found.map(|one| one.at).collect::<Vec<_>>()
    };
    let all = [
        "status",
        "runs.d",
        "elapsed",
        "started_at.a",
        "checkpoints at 7",
    ];
    assert_eq!(case.expectation.parts(), 5);
    assert_eq!(differing(&case.expectation), all);
    let rest = case.expectation.without_times();
    assert_eq!(rest.parts(), 2);
    assert_eq!(differing(&rest), all[..2]);
}
