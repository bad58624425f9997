//! Names in expressions that cannot exist are refused, with their place and what was meant.

use flotilla_engine::compile;
use flotilla_engine::diagnostic::{Diagnostic, Severity};

/// All findings of a file that is refused.
fn findings(source: &str) -> Vec<Diagnostic> {
    match compile(source) {
        Ok(_) => panic!("accepted:\n{source}"),
        Err(found) => found,
    }
}

/// `line:column code path: message (hint)` of each error.
fn errors(source: &str) -> Vec<String> {
    let found = findings(source);
    let errors = found
        .iter()
        .filter(|found| found.severity == Severity::Error);
    errors.map(line).collect()
}

fn line(found: &Diagnostic) -> String {
    let hint = found
        .hint
        .as_ref()
        .map_or_else(String::new, |hint| format!(" ({hint})"));
    let Diagnostic {
        line,
        column,
        code,
        path,
        message,
        ..
    } = found;
    format!("{line}:{column} {code} {path}: {message}{hint}")
}

/// Expressions in the input of a task, and what is said of them.
const WRONG_NAMES: [(&str, &str); 23] = [
    (
        "paramters.x",
        "7:18 unknown_name tasks[0].input.v: there is no name `paramters` (did you mean parameters?)",
    ),
    (
        "parameters.urgant",
        "7:18 unknown_parameter tasks[0].input.v: there is no parameter `urgant` (did you mean urgent?)",
    ),
    (
        "parameters['urgant']",
        "7:18 unknown_parameter tasks[0].input.v: there is no parameter `urgant` (did you mean urgent?)",
    ),
    (
        "vars.chargd",
        "7:18 unknown_variable tasks[0].input.v: nothing assigns the variable `chargd` (did you mean charged?)",
    ),
    (
        "vars.chargd | default(1)",
        "7:18 unknown_variable tasks[0].input.v: nothing assigns the variable `chargd` (did you mean charged?)",
    ),
    (
        "vars.total",
        "7:18 unassigned_variable tasks[0].input.v: no path assigns the variable `total` before it is read here (give it a first value in `vars`, or write vars.total | default(…))",
    ),
    (
        "charged",
        "7:18 unknown_name tasks[0].input.v: there is no name `charged` (write vars.charged)",
    ),
    (
        "urgent",
        "7:18 unknown_name tasks[0].input.v: there is no name `urgent` (write parameters.urgent)",
    ),
    (
        "task.c.result",
        "7:18 unknown_task tasks[0].input.v: there is no task `c` (did you mean a?)",
    ),
    (
        "task.b.body",
        "7:18 unknown_name tasks[0].input.v: a task has no `body` (write task.b.result.body)",
    ),
    (
        "task[vars.charged]",
        "7:18 unknown_task tasks[0].input.v: its name is literal: task.<name>.result",
    ),
    (
        "system.status",
        "7:18 unknown_name tasks[0].input.v: `system.status` is not known here",
    ),
    (
        "system.vist",
        "7:18 unknown_name tasks[0].input.v: there is no `system.vist` (did you mean visit?)",
    ),
    (
        "result()",
        "7:18 misplaced_function tasks[0].input.v: `result()` is known only where a task has ended (in `publish`, in the conditions of routes, in `retry.when`)",
    ),
    (
        "ragne(3)",
        "7:18 unknown_function tasks[0].input.v: there is no function `ragne` (did you mean range?)",
    ),
    (
        "1 | rond",
        "7:22 unknown_filter tasks[0].input.v: there is no filter `rond` (did you mean round?)",
    ),
    (
        "1 is ood",
        "7:23 unknown_test tasks[0].input.v: there is no test `ood` (did you mean odd?)",
    ),
    (
        "secret('x') | upper",
        "7:18 misplaced_function tasks[0].input.v: `secret()` has a literal name and stands alone between its braces (\"Bearer {{ secret('token') }}\"; the worker puts it in)",
    ),
    (
        "item.x",
        "7:18 misplaced_name tasks[0].input.v: `item` is known only where one item of `with_items` is run (in `action`, `input`, `timeout` and `retry` of a task with `with_items`)",
    ),
    (
        "pack.config",
        "7:18 unknown_config tasks[0].input.v: this workflow lies in no pack, so it has no `pack.config` (put it into `workflows/` beside the pack's `pack.yaml`)",
    ),
    (
        "1 +",
        "7:22 template_syntax tasks[0].input.v: expected a value, but the expression ends",
    ),
    (
        "(1",
        "7:15 template_syntax tasks[0].input.v: `}}` is missing",
    ),
    (
        "1 ? 2",
        "7:20 template_syntax tasks[0].input.v: unexpected character `?`",
    ),
];

#[test]
fn refuses_names_that_cannot_exist() {
    for (expression, expected) in WRONG_NAMES {
        let source = format!(
            "ref: a.b\nparameters: {{urgent: {{type: boolean}}}}\nvars:\n  charged: 0\ntasks:\n- name: a\n  input: {{v: \
             \"{{{{ {expression} }}}}\"}}\n  on_success: b\n- {{name: b, publish: [{{total: 1}}]}}\n"
        );
        let found = errors(&source);
        assert_eq!(
            found.first().map(String::as_str),
            Some(expected),
            "{expression}: {found:#?}"
        );
    }
}
