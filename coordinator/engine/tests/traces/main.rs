//! Whole traces of small workflows, to be read as documentation: what happens, line by line. After a
//! change that is meant, look at the difference and run the test with `INSTA_UPDATE=always`.

mod play;

use play::trace;

/// Compares a trace with the one that is kept; the workflow stands above it.
macro_rules! traces {
    ($($name:ident: $script:expr => $yaml:expr;)*) => {$(
        #[test]
        fn $name() {
            insta::with_settings!({omit_expression => true}, {
                insta::assert_snapshot!(stringify!($name), trace($yaml, $script));
            });
        }
    )*};
}

traces! {
    one_after_the_other: &["a ok", "b ok"] => "
ref: t.row
tasks:
  - {name: a, action: core.noop, on_success: b}
  - {name: b, action: core.noop}
";
    a_failure_takes_its_transition: &["a fail", "mend ok"] => "
ref: t.handled
tasks:
  - {name: a, action: core.noop, on_success: go_on, on_failure: mend}
  - {name: go_on, action: core.noop}
  - {name: mend, action: core.noop}
";
    a_failure_that_nothing_handles_drains: &["a fail", "b ok"] => "
ref: t.drain
tasks:
  - {name: a, action: core.noop}
  - {name: b, action: core.noop, on_success: c}
  - {name: c, action: core.noop}
";
    others_continue_where_the_policy_says_so: &["a fail", "b ok", "c ok"] => "
ref: t.continue
fail_policy: continue
tasks:
  - {name: a, action: core.noop}
  - {name: b, action: core.noop, on_success: c}
  - {name: c, action: core.noop}
";
    a_failed_attempt_is_retried: &["a fail", "wait", "a ok"] => "
ref: t.retry
tasks:
  - {name: a, action: core.noop, retry: {count: 1, delay: 5}}
";
    a_join_waits_for_all: &["a ok", "b ok", "meet ok"] => "
ref: t.all
tasks:
  - {name: a, action: core.noop, on_success: meet}
  - {name: b, action: core.noop, on_success: meet}
  - {name: meet, action: core.noop, join: all}
";
    a_join_that_can_no_longer_be_complete_fails: &["a ok", "b fail"] => "
ref: t.unreachable
tasks:
  - {name: a, action: core.noop, on_success: meet}
  - {name: b, action: core.noop, on_success: meet, on_failure: noop}
  - {name: meet, action: core.noop, join: all}
";
    an_active_join_runs_with_the_branches_that_came: &["a ok", "b fail", "meet ok"] => "
ref: t.active
tasks:
  - {name: a, action: core.noop, on_success: meet}
  - {name: b, action: core.noop, on_success: meet, on_failure: noop}
  - {name: meet, action: core.noop, join: active}
";
    a_guard_that_is_false_skips: &["a ok", "c ok"] => "
ref: t.guard
tasks:
  - {name: a, action: core.noop, on_success: b}
  - {name: b, action: core.noop, when: \"{{ false }}\", on_success: c}
  - {name: c, action: core.noop}
";
    a_loop_ends_when_its_condition_does: &["a ok", "a ok", "a ok"] => "
ref: t.loop
vars: {n: 0}
start: [a]
tasks:
  - name: a
    action: core.noop
    publish: [{n: \"{{ vars.n + 1 }}\"}]
    next: [{when: \"{{ vars.n < 3 }}\", do: a}]
output_map: {n: \"{{ vars.n }}\"}
";
    a_rule_accepts_a_failure: &["a fail", "b ok", "report ok"] => "
ref: t.needs
tasks:
  - {name: a, action: core.noop}
  - {name: b, action: core.noop}
  - {name: report, action: core.noop, needs: [a, b], rule: all_done}
  - {name: gain, action: core.noop, needs: [a, b]}
";
    finally_runs_whatever_happened: &["a fail", "tidy ok"] => "
ref: t.finally
finally: [tidy]
tasks:
  - {name: a, action: core.noop}
  - {name: tidy, action: core.noop}
";
    items_run_in_a_window: &["each ok", "each fail", "each ok"] => "
ref: t.items
tasks:
  - {name: each, action: core.noop, with_items: [x, y, z], concurrency: 2, tolerate: 1, input: {v: \"{{ item }}\"}}
";
    a_second_completion_is_ignored: &["a ok", "again", "b ok"] => "
ref: t.twice
tasks:
  - {name: a, action: core.noop, on_success: b}
  - {name: b, action: core.noop}
";
}
