//! Sub-workflows played in virtual time, as they are and with all executions reloaded after each event.

use flotilla_scripted::{Reload, WorkflowSource, library, open, play_with};

/// Plays a file of one case; what it expects is seen whether or not it is reloaded.
fn holds(source: &str) {
    let file = open(source).unwrap_or_else(|errors| panic!("{errors:#?}"));
    let compiled: Vec<_> = std::iter::once(&file.workflow)
        .chain(&file.children)
        .map(|source| match source {
            WorkflowSource::Inline(Ok(compiled)) => compiled,
            other @ (WorkflowSource::File(_) | WorkflowSource::Inline(Err(_))) => {
                panic!("the workflow is sound: {other:?}")
            }
        })
        .collect();
    let (children, _) = library(compiled.iter().copied());
    let workflow = &compiled[0].workflow;
    let cases = file.cases_with(workflow, &children);
    for case in cases.unwrap_or_else(|errors| panic!("{errors:#?}")) {
        for reload in [Reload::AtRestarts, Reload::AfterEachEvent] {
            let seen = play_with(workflow, &case.script, reload);
            let damage = &seen.damage;
            assert!(
                damage.is_empty(),
                "{} ({reload:?}): {damage:#?}",
                case.title
            );
            let found = case.expectation.compare(&seen);
            assert!(found.is_empty(), "{} ({reload:?}): {found:#?}", case.title);
        }
    }
}

/// A parent whose task `call` runs a child of two tasks; both files are continued by the test.
fn parent(call: &str, rest: &str) -> String {
    format!(
        "
workflow:
  ref: own.parent
  parameters: {{n: {{default: 1}}}}
  vars: {{seen: null}}
  tasks:
    - name: call
      type: workflow
      action: own.child
{call}
workflows:
  - ref: own.child
    parameters: {{n: {{type: integer, default: 1}}}}
    tasks:
      - {{name: first, action: demo.work, on_success: second}}
      - {{name: second, action: demo.work, input: {{n: \"{{{{ parameters.n }}}}\"}}}}
    output_map:
      twice: \"{{{{ parameters.n * 2 }}}}\"
{rest}"
    )
}

#[test]
fn the_output_of_the_child_is_the_result_of_the_task() {
    holds(&parent(
        "      input: {n: \"{{ parameters.n + 4 }}\"}
      publish: [seen: \"{{ result().twice }}\"]
      on_success: after
    - {name: after, action: demo.note, input: {seen: \"{{ vars.seen }}\", id: \"{{ system.parent_id }}\"}}",
        "expect:
  status: succeeded
  runs: {call: 1, after: 1, child.first: 1, child.second: 1}
  executions: {call: 1}
  inputs: {child.second: [{n: 5}], after: [{seen: 10, id: null}]}
  elapsed: 3
  order: [[child.first, child.second], [child.second, after]]",
    ));
}

#[test]
fn a_child_knows_its_parent() {
    holds(
        "
workflow:
  ref: own.parent
  tasks: [{name: call, type: workflow, action: own.child, input: {id: '{{ system.execution_id }}'}}]
workflows:
  - ref: own.child
    parameters: {id: {required: true}}
    tasks: [{name: t, action: demo.work, when: '{{ system.parent_id == parameters.id }}'}]
expect: {status: succeeded, runs: {call: 1, child.t: 1}}",
    );
}

#[test]
fn a_failure_of_the_child_is_a_failure_of_the_task_that_tells_what_happened() {
    let failing = "task_results:
  second: {status: failed, error: {kind: broken, message: it broke}}
";
    holds(&parent(
        "      on_failure: rescue
    - name: rescue
      action: demo.work
      input: {kind: \"{{ task.call.error.kind }}\", why: \"{{ task.call.error.message }}\", \
         status: \"{{ task.call.error.details.status }}\", task: \"{{ task.call.error.details.errors[0].task }}\", \
         twice: \"{{ task.call.result.twice }}\"}",
        &format!(
            "{failing}expect:
  status: succeeded
  inputs:
    rescue:
      - {{kind: child_failed, why: 'own.child ended as failed: it broke', status: failed, task: second, twice: 2}}"
        ),
    ));
    holds(&parent(
        "",
        &format!(
            "{failing}expect: {{status: failed, errors: [{{kind: child_failed, task: call}}], task_status: {{call: failed}}}}"
        ),
    ));
}

#[test]
fn each_attempt_is_a_child_of_its_own() {
    holds(&parent(
        "      retry: {count: 2, delay: 5}",
        "task_results:
  second: [{status: failed}, {status: failed}, {status: succeeded}]
expect: {status: succeeded, executions: {call: 3}, runs: {call: 1, child.first: 3, child.second: 3}, elapsed: 16}",
    ));
}

#[test]
fn a_cancel_is_passed_on_and_waited_for() {
    holds(&parent(
        "      on_success: after
    - {name: after, action: demo.work}",
        "task_results:
  first: {status: never, on_cancel: {takes: 2}}
events: [{at: 3, do: cancel}, {at: 4, do: check}]
expect: {status: cancelled, runs: {call: 1, child.first: 1}, task_status: {call: cancelled, child.first: cancelled}, \
  checkpoints: [{at: 4, status: cancelling}], elapsed: 5}",
    ));
}

#[test]
fn a_child_that_does_not_stop_is_bounded_by_its_own_grace() {
    holds(
        "
workflow: {ref: own.parent, cancel_grace: 2, tasks: [{name: call, type: workflow, action: own.child}]}
workflows: [{ref: own.child, cancel_grace: 6, tasks: [{name: t, action: demo.work}]}]
task_results: {t: {status: never}}
events: [{at: 3, do: cancel}]
expect: {status: cancelled, task_status: {call: cancelled, child.t: cancelled}, elapsed: 9}",
    );
}

#[test]
fn a_pause_is_passed_on_and_so_is_the_resume() {
    holds(&parent(
        "      on_success: after
    - {name: after, action: demo.work}",
        "events: [{at: 0.5, do: pause}, {at: 2, do: check}, {at: 10, do: resume}]
expect: {status: succeeded, elapsed: 12, started_at: {child.first: [0], child.second: [10], after: [11]}, \
  checkpoints: [{at: 2, status: paused}]}",
    ));
}

#[test]
fn a_cancel_during_a_pause_reaches_the_child() {
    holds(&parent(
        "",
        "events: [{at: 0.5, do: pause}, {at: 2, do: cancel}]
expect: {status: cancelled, elapsed: 2, task_status: {call: cancelled, child.first: succeeded}}",
    ));
}

#[test]
fn the_time_limit_of_the_task_stops_the_child() {
    holds(&parent(
        "      timeout: 4
      on_timeout: late
    - {name: late, action: demo.work}",
        "task_results:
  first: {takes: 100, on_cancel: {takes: 1}}
expect: {status: succeeded, runs: {call: 1, late: 1, child.first: 1}, task_status: {call: timed_out, child.first: cancelled}, elapsed: 5}",
    ));
}

#[test]
fn a_time_limit_that_passes_during_a_pause_acts_at_resume() {
    holds(&parent(
        "      timeout: 4",
        "task_results:
  first: {takes: 1}
events: [{at: 0.5, do: pause}, {at: 10, do: resume}]
expect: {status: failed, runs: {call: 1, child.first: 1}, task_status: {call: timed_out}, elapsed: 10, \
  errors: [{kind: task_timeout, task: call}]}",
    ));
}

#[test]
fn the_time_over_all_attempts_stops_the_child_too() {
    holds(&parent(
        "      total_timeout: 7
      retry: {count: 5, delay: 1}
      on_timeout: noop",
        "task_results:
  second: {status: failed}
expect: {status: succeeded, executions: {call: 3}, task_status: {call: timed_out}, elapsed: 7}",
    ));
}

#[test]
fn the_end_of_a_child_that_nobody_waits_for_is_not_heard() {
    holds(&parent(
        "      timeout: 2
      retry: {count: 1}",
        "task_results:
  first: [{takes: 100, on_cancel: {takes: 3}}, {takes: 0.5}]
expect: {status: succeeded, executions: {call: 2}, runs: {call: 1, child.first: 2, child.second: 1}, elapsed: 3.5}",
    ));
}

#[test]
fn a_child_may_time_out_by_itself() {
    holds(
        "
workflow:
  ref: own.parent
  tasks:
    - {name: call, type: workflow, action: own.child, on_timeout: late}
    - {name: late, action: demo.work, input: {why: '{{ task.call.error.message }}'}}
workflows:
  - {ref: own.child, timeout: 3, tasks: [{name: t, action: demo.work}]}
task_results: {t: {takes: 9, on_cancel: {takes: 1}}}
expect:
  status: succeeded
  task_status: {call: timed_out}
  inputs: {late: [{why: 'own.child ended as timed_out: the execution took longer than 3 s'}]}
  elapsed: 5",
    );
}

#[test]
fn a_child_that_was_cancelled_by_itself_is_a_failure() {
    // By the way that cancels it here: a task of its own that fails, whose policy cancels the rest.
    holds(
        "
workflow:
  ref: own.parent
  fail_policy: cancel
  tasks:
    - {name: call, type: workflow, action: own.child}
    - {name: other, action: demo.work}
workflows:
  - {ref: own.child, tasks: [{name: t, action: demo.work}]}
task_results:
  t: {takes: 9, on_cancel: {takes: 1}}
  other: {status: failed}
expect: {status: failed, task_status: {call: cancelled, child.t: cancelled}, elapsed: 2, errors: [{task: other}]}",
    );
}

#[test]
fn items_may_be_children() {
    holds(&parent(
        "      with_items: [1, 2, 3, 4, 5]
      concurrency: 2
      input: {n: \"{{ item }}\"}
      tolerate: 1
      on_success: after
    - {name: after, action: demo.work, input: {all: \"{{ task.call.result }}\"}}",
        "task_results:
  second: [{}, {status: failed}, {}, {}, {}]
expect:
  status: succeeded
  executions: {call: 5}
  max_parallel: {call: 2}
  inputs: {after: [{all: [{twice: 2}, {twice: 4}, {twice: 6}, {twice: 8}, {twice: 10}]}]}
  elapsed: 7",
    ));
}

#[test]
fn items_in_flight_are_cancelled_with_their_children() {
    holds(&parent(
        "      with_items: [1, 2, 3]
      on_item_failure: cancel
      input: {n: \"{{ item }}\"}",
        "task_results:
  first: [{takes: 20, on_cancel: {takes: 1}}, {status: failed}, {takes: 20, on_cancel: {takes: 1}}]
expect: {status: failed, executions: {call: 3}, elapsed: 2, runs: {call: 1, child.first: 3}}",
    ));
}

#[test]
fn a_task_of_a_parallel_one_may_be_a_child() {
    holds(
        "
workflow:
  ref: own.parent
  tasks:
    - name: both
      type: parallel
      tasks:
        - {name: a, type: workflow, action: own.child}
        - {name: b, action: demo.work}
      on_success: after
    - {name: after, action: demo.work, input: {a: '{{ task.both.result.a }}'}}
workflows:
  - {ref: own.child, tasks: [{name: t, action: demo.work}], output_map: {x: 7}}
expect: {status: succeeded, inputs: {after: [{a: {x: 7}}]}, elapsed: 2}",
    );
}

#[test]
fn the_name_of_the_workflow_may_be_a_template() {
    holds(
        "
workflow:
  ref: own.parent
  parameters: {which: {default: second}}
  tasks: [{name: call, type: workflow, action: 'own.{{ parameters.which }}'}]
workflows:
  - {ref: own.first, tasks: [{name: a, action: demo.work}]}
  - {ref: own.second, tasks: [{name: b, action: demo.work}]}
cases:
  - title: one that is there
    expect: {status: succeeded, runs: {call: 1, second.b: 1}, actions: {call: [own.second]}}
  - title: one that is not
    parameters: {which: third}
    expect: {status: failed, runs: {call: 1}, errors: [{kind: unknown_workflow, task: call}]}",
    );
}

#[test]
fn parameters_that_the_child_refuses_fail_the_task_for_good() {
    holds(&parent(
        "      input: {n: many, m: 1}
      retry: {count: 3}",
        "expect: {status: failed, runs: {call: 1}, executions: {}, errors: [{kind: invalid_input, task: call}], elapsed: 0}",
    ));
}

#[test]
fn a_child_in_finally_holds_a_cancel_up_no_longer_than_the_grace() {
    holds(
        "
workflow:
  ref: own.parent
  cancel_grace: 4
  finally: [clean]
  tasks:
    - {name: work, action: demo.work}
    - {name: clean, type: workflow, action: own.child}
workflows:
  - {ref: own.child, tasks: [{name: t, action: demo.work}]}
cases:
  - title: it ends in time
    events: [{at: 0.5, do: cancel}]
    task_results: {work: {takes: 50, on_cancel: {takes: 0.5}}, t: {takes: 3}}
    expect: {status: cancelled, task_status: {clean: succeeded, child.t: succeeded}, elapsed: 4}
  - title: it does not
    events: [{at: 0.5, do: cancel}]
    task_results: {work: {takes: 50, on_cancel: {takes: 0.5}}, t: {takes: 30, on_cancel: {takes: 1}}}
    expect: {status: cancelled, task_status: {clean: cancelled, child.t: cancelled}, elapsed: 5}",
    );
}

#[test]
fn children_have_children() {
    holds(
        "
workflow: {ref: own.a, tasks: [{name: call, type: workflow, action: own.b}], output_map: {x: '{{ task.call.result.x + 1 }}'}}
workflows:
  - {ref: own.b, tasks: [{name: call, type: workflow, action: own.c}], output_map: {x: '{{ task.call.result.x + 1 }}'}}
  - {ref: own.c, tasks: [{name: t, action: demo.work}], output_map: {x: 1}}
expect: {status: succeeded, output: {x: 3}, runs: {call: 1, b.call: 1, c.t: 1}, elapsed: 1}",
    );
}

#[test]
fn children_that_do_nothing_end_without_a_worker_however_many_they_are() {
    holds(
        "
workflow:
  ref: own.parent
  vars: {n: 0}
  tasks:
    - {name: many, type: workflow, action: own.empty, with_items: '{{ range(600) }}', on_success: again}
    - name: again
      type: workflow
      action: own.nested
      publish: [n: '{{ vars.n + 1 }}']
      next: [{when: '{{ vars.n < 300 }}', do: again}]
workflows:
  - {ref: own.empty, tasks: [{name: t}]}
  - {ref: own.nested, tasks: [{name: u, type: workflow, action: own.empty}]}
expect: {status: succeeded, vars: {n: 300}, executions: {many: 600, again: 300}, elapsed: 0}",
    );
}

#[test]
fn a_rerun_of_the_parent_starts_a_new_child() {
    holds(&parent(
        "      on_success: after
    - {name: after, action: demo.work, input: {twice: \"{{ task.call.result.twice }}\"}}",
        "task_results:
  second: [{status: failed}, {status: succeeded}]
events: [{after: final, do: rerun}]
expect:
  status: succeeded
  executions: {call: 2}
  runs: {call: 2, after: 1, child.first: 2, child.second: 2}
  inputs: {after: [{twice: 2}]}",
    ));
}

#[test]
fn a_restart_changes_nothing() {
    holds(&parent(
        "      on_success: after
    - {name: after, action: demo.work}",
        "events: [{at: 0.5, do: restart_coordinator}, {at: 1.5, do: restart_coordinator}]
expect: {status: succeeded, runs: {call: 1, after: 1, child.first: 1, child.second: 1}, elapsed: 3}",
    ));
}
