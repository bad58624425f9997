//! Cases about time, played on the real engine: delays, limits over all attempts, silence, and the
//! time limit of a workflow.

use flotilla_scripted::{WorkflowSource, open, play};

/// Plays the one case of a file, of which everything must be as expected.
#[track_caller]
fn holds(source: &str) {
    let file = open(source).unwrap_or_else(|errors| panic!("{errors:#?}"));
    let WorkflowSource::Inline(Ok(compiled)) = &file.workflow else {
        panic!("the workflow is sound: {:?}", file.workflow);
    };
    let cases = file.cases(&compiled.workflow);
    let cases = cases.unwrap_or_else(|errors| panic!("{errors:#?}"));
    assert_eq!(cases[0].unsupported, Vec::<String>::new());
    let seen = play(&compiled.workflow, &cases[0].script);
    let differences = cases[0].expectation.compare(&seen);
    assert!(differences.is_empty(), "{differences:#?} in {seen:#?}");
}

#[test]
fn a_worker_that_stops_sending_heartbeats_is_given_up_before_its_time_limit() {
    holds(
        "
workflow:
  ref: cases.silent
  tasks:
    - {name: long_job, action: demo.work, timeout: 1000, heartbeat: 10, retry: {count: 1}}
task_results:
  long_job: [{status: never, silent_after: 30}, {takes: 5}]
expect: {status: succeeded, runs: {long_job: 1}, executions: {long_job: 2}, elapsed: 45}
",
    );
}

#[test]
fn a_worker_that_goes_on_sending_heartbeats_is_not_given_up() {
    holds(
        "
workflow:
  ref: cases.alive
  tasks: [{name: long_job, action: demo.work, heartbeat: 10}]
task_results: {long_job: {takes: 100}}
expect: {status: succeeded, runs: {long_job: 1}, executions: {long_job: 1}, elapsed: 100}
",
    );
}

#[test]
fn a_total_timeout_bounds_all_attempts_and_waits_together() {
    holds(
        "
workflow:
  ref: cases.total
  tasks:
    - {name: slow, action: demo.work, total_timeout: 10, retry: {count: 100, delay: 3}, on_timeout: late}
    - {name: late, action: demo.work}
task_results: {slow: {status: failed, takes: 1}}
expect:
  status: succeeded
  runs: {slow: 1, late: 1}
  executions: {slow: 3, late: 1}
  task_status: {slow: timed_out}
  started_at: {late: [10]}
",
    );
}

#[test]
fn a_retry_without_a_delay_is_immediate_even_if_the_task_has_one() {
    holds(
        "
workflow:
  ref: cases.delay
  tasks: [{name: flaky, delay: 10, action: demo.work, retry: {count: 2}}]
task_results: {flaky: [{status: failed, takes: 1}, {takes: 1}]}
expect: {status: succeeded, runs: {flaky: 1}, executions: {flaky: 2}, elapsed: 12}
",
    );
}

#[test]
fn a_delay_that_is_no_number_fails_before_the_task_starts() {
    holds(
        "
workflow:
  ref: cases.bad_delay
  vars: {d: soon}
  tasks: [{name: later, delay: '{{ vars.d }}', action: demo.work}]
expect: {status: failed, runs: {}, errors: [{category: expression_error, task: later}]}
",
    );
}

#[test]
fn the_time_limit_of_a_workflow_cancels_what_runs() {
    holds(
        "
workflow:
  ref: cases.limit
  timeout: 10
  tasks: [{name: a, action: demo.work, on_failure: b}, {name: b, action: demo.work}]
task_results: {a: {takes: 60, on_cancel: {takes: 1}}}
expect:
  status: timed_out
  runs: {a: 1}
  task_status: {a: cancelled}
  errors: [{category: workflow_timeout}]
  elapsed: 11
",
    );
}
