//! Tasks with items, played: windows, answers of single items, and what counts as a run.

use flotilla_scripted::{Seen, WorkflowSource, open, play, unhandled};

/// Plays the one case of a file, in which all that is expected must be seen.
fn holds(source: &str) -> Seen {
    let file = open(source).unwrap_or_else(|errors| panic!("{errors:#?}"));
    let WorkflowSource::Inline(Ok(compiled)) = &file.workflow else {
        panic!("the workflow is sound: {:?}", file.workflow);
    };
    let cases = file.cases(&compiled.workflow);
    let cases = cases.unwrap_or_else(|errors| panic!("{errors:#?}"));
    let seen = play(&compiled.workflow, &cases[0].script);
    assert_eq!(cases[0].expectation.compare(&seen), [], "{seen:#?}");
    seen
}

fn workflow(task: &str) -> String {
    format!(
        "
workflow:
  ref: items.flow
  parameters: {{list: {{type: array, default: [a, b, c, d]}}}}
  tasks:
    - {{name: work, action: demo.work, with_items: \"{{{{ parameters.list }}}}\", input: {{x: \"{{{{ item }}}}\", at: \"{{{{ index }}}}\"}}, publish: [{{r: \"{{{{ result() }}}}\"}}], on_success: end{task}}}
    - {{name: end}}
  output_map: {{r: \"{{{{ vars.r }}}}\"}}
"
    )
}

#[test]
fn a_window_holds_items_back_and_the_task_is_one_run() {
    let seen = holds(&format!(
        "{}
task_results: {{work: {{echo: true, takes: 4}}}}
expect:
  status: succeeded
  runs: {{work: 1, end: 1}}
  sequence: [work, end]
  task_status: {{work: succeeded}}
  executions: {{work: 4}}
  item_executions: {{work: {{0: 1, 1: 1, 2: 1, 3: 1}}}}
  max_parallel: {{work: 2}}
  inputs: {{work: [{{x: d, at: 3}}, {{x: a, at: 0}}, {{x: b, at: 1}}, {{x: c, at: 2}}]}}
  order: [[work, end]]
  elapsed: 8
",
        workflow(", concurrency: 2")
    ));
    assert_eq!(
        seen.runs.len(),
        2,
        "runs of items are part of the run of their task"
    );
}

#[test]
fn each_item_has_answers_of_its_own() {
    holds(&format!(
        "{}
task_results:
  work:
    items:
      0: {{result: one}}
      2: [{{status: failed}}, {{result: third}}]
    default: {{result: other}}
expect:
  status: succeeded
  item_executions: {{work: {{0: 1, 1: 1, 2: 2, 3: 1}}}}
  output: {{r: [one, other, third, other]}}
",
        workflow(", retry: {count: 1, delay: 2}")
    ));
}

#[test]
fn the_order_of_dispatch_counts_where_answers_are_a_list() {
    holds(&format!(
        "{}
task_results: {{work: [{{result: 1}}, {{result: 2}}, {{result: 3}}]}}
expect: {{output: {{r: [1, 2, 3, 3]}}}}
",
        workflow("")
    ));
}

#[test]
fn an_item_that_fails_fails_the_task_unless_it_is_tolerated() {
    let script = "
task_results: {work: {items: {1: {status: failed, error: {kind: broken}}}}}
";
    let seen = holds(&format!(
        "{}{script}
expect: {{status: failed, runs: {{work: 1}}, executions: {{work: 4}}, task_status: {{work: failed}}, errors: [{{task: work}}]}}
",
        workflow("")
    ));
    assert!(!seen.errors.is_empty());
    holds(&format!(
        "{}{script}
expect: {{status: succeeded, runs: {{work: 1, end: 1}}}}
",
        workflow(", tolerate: 1")
    ));
    holds(&format!(
        "{}{script}
expect: {{status: failed, executions: {{work: 2}}}}
",
        workflow(", concurrency: 1, on_item_failure: drain")
    ));
}

#[test]
fn an_empty_list_is_a_run_without_a_delivery() {
    holds(&format!(
        "{}
parameters: {{list: []}}
expect: {{status: succeeded, runs: {{work: 1, end: 1}}, executions: {{work: 0}}, output: {{r: []}}}}
",
        workflow("")
    ));
}

#[test]
fn batches_are_executions_and_a_pause_holds_the_window() {
    holds(&format!(
        "{}
task_results: {{work: {{takes: 4}}}}
events: [{{at: 1, do: pause}}, {{at: 5, do: check}}, {{at: 30, do: resume}}]
expect:
  status: succeeded
  inputs: {{work: [{{x: [a, b], at: 0}}, {{x: [c, d], at: 1}}]}}
  checkpoints: [{{at: 5, status: paused}}]
  elapsed: 34
",
        workflow(", batch_size: 2, concurrency: 1")
    ));
}

#[test]
fn a_task_with_items_without_a_handler_is_found() {
    let source = format!("{}\nexpect: {{status: succeeded}}\n", workflow(""));
    let file = open(&source).expect("it is sound");
    let WorkflowSource::Inline(Ok(compiled)) = &file.workflow else {
        panic!("the workflow is sound");
    };
    let case = file
        .cases(&compiled.workflow)
        .expect("it is sound")
        .remove(0);
    let seen = play(&compiled.workflow, &case.script);
    let found = unhandled(&compiled.workflow, &case.script, &seen);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].task, "work");
}
