//! Parallel tasks played in virtual time, as they are and reloaded after each event.

use flotilla_scripted::{Reload, WorkflowSource, open, play, play_with, unhandled};

const WORKFLOW: &str = "
workflow:
  ref: cases.parallel
  parameters: {go: {default: true}}
  fail_policy: POLICY
  tasks:
    - {name: first, action: demo.work, on_success: [both, other]}
    - name: both
      type: parallel
      when: \"{{ parameters.go }}\"
      delay: 1
      tasks:
        - {name: a, action: demo.work, retry: {count: 1, delay: 2}, publish: [x: \"{{ result() }}\"]}
        - {name: b, action: demo.work, timeout: 10}
        - {name: items, action: demo.work, with_items: [1, 2], input: {n: \"{{ item }}\"}}
      publish: [all]
      on_success: last
      on_failure: rescue
    - {name: other, action: demo.work, on_failure: FAILS}
    - {name: last, action: demo.work, input: {x: \"{{ vars.x }}\", items: \"{{ task.both.result.items }}\"}}
    - {name: rescue, action: demo.work, input: {why: \"{{ task.both.error.message }}\"}}
";

/// Plays a case; what it expects is seen whether or not it is reloaded.
fn holds(policy: &str, on_other: &str, rest: &str) {
    let workflow = WORKFLOW.replace("POLICY", policy);
    let workflow = match on_other {
        "" => workflow.replace(", on_failure: FAILS", ""),
        name => workflow.replace("FAILS", name),
    };
    let source = format!("{workflow}{rest}");
    let file = open(&source).unwrap_or_else(|errors| panic!("{errors:#?}"));
    let WorkflowSource::Inline(Ok(compiled)) = &file.workflow else {
        panic!("the workflow is sound: {:?}", file.workflow);
    };
    let cases = file.cases(&compiled.workflow);
    for case in cases.unwrap_or_else(|errors| panic!("{errors:#?}")) {
        for reload in [Reload::AtRestarts, Reload::AfterEachEvent] {
            let seen = play_with(&compiled.workflow, &case.script, reload);
            let found = case.expectation.compare(&seen);
            let lines: Vec<String> = found.iter().map(ToString::to_string).collect();
            assert_eq!(lines, [] as [String; 0], "{reload:?}: {rest}");
        }
    }
}

#[test]
fn children_run_side_by_side() {
    holds(
        "drain",
        "noop",
        "
task_results:
  both/a: [{status: failed, takes: 3}, {result: 5, takes: 2}]
  both/b: {result: B, takes: 4}
  both/items: {echo: true, takes: 1}
expect:
  status: succeeded
  runs: {first: 1, 'both:fork': 1, both/a: 1, both/b: 1, both/items: 1, both: 1, last: 1, other: 1}
  executions: {both/a: 2}
  overlap: [[both/a, both/b]]
  inputs: {last: [{x: 5, items: [{n: 1}, {n: 2}]}]}
  elapsed: 10
",
    );
}

#[test]
fn a_failed_child_leads_to_the_handler_of_the_whole() {
    holds(
        "drain",
        "noop",
        "
task_results: {both/b: {status: never}, both/a: {result: 1}}
expect:
  status: succeeded
  task_status: {both/b: timed_out, both/a: succeeded, both: failed}
  inputs: {rescue: [{why: '1 of 3 children failed: b'}]}
  elapsed: 13
",
    );
}

#[test]
fn a_skipped_whole_goes_on() {
    holds(
        "drain",
        "noop",
        "
parameters: {go: false}
expect: {status: failed, task_status: {both: skipped}, errors: [{task: last}]}
",
    );
}

#[test]
fn a_failure_elsewhere_lets_the_children_finish_and_holds_what_follows() {
    holds(
        "drain",
        "",
        "
task_results:
  other: {status: failed, takes: 2}
  both/a: {result: 1, takes: 3}
  both/b: {result: 1, takes: 5}
expect:
  status: failed
  task_status: {both/a: succeeded, both/b: succeeded}
  errors: [{task: other}]
  executions: {both/a: 1, both/b: 1, both/items: 2}
  elapsed: 7
",
    );
    holds(
        "continue",
        "",
        "
task_results:
  other: {status: failed, takes: 2}
  both/a: {result: 1, takes: 3}
  both/b: {result: 1, takes: 5}
expect: {status: failed, task_status: {both: succeeded, last: succeeded}, elapsed: 8}
",
    );
    holds(
        "cancel",
        "",
        "
task_results:
  other: {status: failed, takes: 2}
  both/a: {result: 1, takes: 3}
  both/b: {result: 1, takes: 5, on_cancel: {takes: 1}}
expect: {status: failed, task_status: {first: succeeded}}
",
    );
}

#[test]
fn a_pause_and_a_cancel_reach_the_children() {
    holds(
        "drain",
        "noop",
        "
task_results: {both/a: {result: 1, takes: 3}, both/b: {takes: 5}}
events: [{at: 2, do: pause}, {at: 20, do: resume}]
expect: {status: succeeded, task_status: {last: succeeded}, elapsed: 21}
",
    );
    holds(
        "drain",
        "noop",
        "
task_results: {both/a: {result: 1, takes: 3}, both/b: {takes: 5}}
events: [{at: 2, do: cancel}]
expect: {status: canceled, task_status: {both/a: succeeded}}
",
    );
}

#[test]
fn the_failure_of_a_child_is_handled_at_the_whole() {
    let found = |more: &str| {
        let source = format!(
            "
workflow:
  ref: cases.parallel
  tasks: [{{name: p, type: parallel, tasks: [{{name: a, action: demo.work}}]{more}}}]
expect: {{status: succeeded}}
"
        );
        let file = open(&source).unwrap_or_else(|errors| panic!("{errors:#?}"));
        let WorkflowSource::Inline(Ok(compiled)) = &file.workflow else {
            panic!("the workflow is sound: {:?}", file.workflow);
        };
        let workflow = &compiled.workflow;
        let cases = file.cases(workflow);
        let case = &cases.unwrap_or_else(|errors| panic!("{errors:#?}"))[0];
        unhandled(workflow, &case.script, &play(workflow, &case.script))
    };
    assert_eq!(found(", on_failure: noop"), []);
    let found = found("");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].task, "p/a");
    assert!(
        found[0].fix.starts_with("at `p`, add `on_failure"),
        "{found:?}"
    );
}
