//! What is wrong with a definition is said exactly: the rule, the place, what would be right.

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

/// The errors of a workflow with these tasks, and what stands at the place of the first.
#[track_caller]
fn refused(tasks: &str, expected: &str) {
    refused_file(&format!("ref: a.b\n{tasks}"), expected);
}

#[track_caller]
fn refused_file(source: &str, expected: &str) {
    assert_eq!(errors(source), [expected], "{source}");
}

#[test]
fn reports_five_mistakes_at_once() {
    let source = "\
ref: shop.order
parameters:
  urgent: {type: boolean}
tasks:
  - name: fetch
    action: core.http
    retyr: {count: 3}
    on_success: prise
  - name: price
    action: shop.price
    input: {sku: \"{{ parameters.urgent + }}\"}
    timeout: soon
    on_success: fetch_again
  - name: fetch
  - name: fetch_again
";
    assert_eq!(
        errors(source),
        [
            "7:5 unknown_key tasks[0].retyr: unknown key `retyr` (did you mean retry?)",
            "8:17 unknown_target tasks[0].on_success: there is no task `prise` (did you mean price?)",
            "11:42 template_syntax tasks[1].input.sku: expected a value, but the expression ends",
            "12:14 wrong_type tasks[1].timeout: expected a number, found the text \"soon\"",
            "14:11 duplicate_name tasks[2].name: the name `fetch` is taken by the task in line 5",
        ]
    );
    let spans: Vec<_> = findings(source)
        .iter()
        .map(|f| source[f.span.clone()].to_owned())
        .collect();
    assert_eq!(spans, ["retyr", "prise", "}", "soon", "fetch"]);
}

#[test]
fn refuses_what_is_not_yaml() {
    refused_file("a: [1", "1:4 yaml_syntax : unclosed bracket '['");
    refused_file(
        "ref: a.b\nref: a.c\n",
        "2:1 duplicate_key : the key `ref` stands twice in one object",
    );
    refused_file(
        "a: 1\n---\nb: 2\n",
        "2:1 yaml_syntax : a file holds one definition",
    );
    refused_file("[]", "1:1 wrong_type : expected an object, found a list");
    refused_file("", "1:1 wrong_type : expected an object, found nothing");
    refused_file(
        "ref: a.b\ntasks:\n- {name: a, action: c.d, input: {zip: 0123}}\n",
        "3:39 leading_zero : `0123` is read differently by different programs \
         (write \"0123\" for a text, or 123 for a number)",
    );
    let deep = format!("ref: a.b\ntasks: {}{}", "[".repeat(100), "]".repeat(100));
    assert_eq!(findings(&deep).len(), 1);
    let large = format!("ref: a.b\ndescription: {}\n", "x".repeat(1024 * 1024));
    assert_eq!(findings(&large)[0].code, "too_large");
    let mut bomb = "a0: &a0 [x]\n".to_owned();
    for level in 1..40 {
        let before = level - 1;
        bomb.push_str(&format!(
            "a{level}: &a{level} [*a{before}, *a{before}, *a{before}]\n"
        ));
    }
    assert_eq!(findings(&bomb).len(), 1);
}

#[test]
fn refuses_a_wrong_head() {
    refused_file(
        "tasks: [{name: a}]",
        "1:1 missing_key : a workflow needs a `ref`, `pack.name`",
    );
    refused_file("ref: a.b", "1:1 missing_key : a workflow needs `tasks`");
    refused(
        "tasks: []",
        "2:1 missing_key tasks: a workflow needs at least one task",
    );
    refused_file(
        "ref: order\ntasks: [{name: a}]",
        "1:6 invalid_ref ref: the ref `order` does not have the form `pack.name`",
    );
    refused_file(
        "ref: a.b\nversion: 1.0\ntasks: [{name: a}]",
        "2:10 wrong_type version: expected a text, found the number 1.0",
    );
    refused_file(
        "ref: a.b\nlabels: x\ntasks: [{name: a}]",
        "2:1 unknown_key labels: unknown key `labels` (did you mean label?)",
    );
    refused_file(
        "ref: a.b\nfinally: [a]\ntasks: [{name: a}]",
        "3:1 no_start tasks: there is no task to start with: something leads to each of them, or it is of `finally`",
    );
    let many: String = (0..1001).map(|n| format!("- {{name: t{n}}}\n")).collect();
    refused(
        &format!("tasks:\n{many}"),
        "2:1 too_many_tasks tasks: a workflow has at most 1000 tasks, this one 1001",
    );
}

/// Tasks and what is said of them.
const WRONG_TASKS: &[(&str, &str)] = &[
    (
        "{action: c.d}",
        "2:10 missing_key tasks[0]: a task needs a `name`",
    ),
    (
        "{name: fail}",
        "2:16 reserved_name tasks[0].name: `fail` is what routes say, so no task may be named so",
    ),
    (
        "{name: a b}",
        "2:16 invalid_name tasks[0].name: the name `a b` may hold letters, digits, `_` and `-` only",
    ),
    (
        "{name: a, action: run}",
        "2:27 invalid_ref tasks[0].action: the action `run` does not have the form `pack.name`",
    ),
    (
        "{name: a, action: core.noop, with_items: 1}",
        "2:50 wrong_type tasks[0].with_items: expected a list, or a template that gives one, found the number 1",
    ),
    (
        "{name: a, needs: [b]}",
        "2:27 unknown_target tasks[0].needs[0]: there is no task `b` (did you mean a?)",
    ),
    (
        "{name: a, type: workflow}",
        "2:16 missing_key tasks[0]: a task of `type: workflow` needs `action`, the workflow that it runs",
    ),
    (
        "{name: a, type: workflow, action: b.c, pool: gpu}",
        "2:48 misplaced_key tasks[0].pool: no worker runs a sub-workflow, so `pool` has no place here",
    ),
    (
        "{name: a, type: acton}",
        "2:25 invalid_value tasks[0].type: unknown type `acton` (did you mean action?)",
    ),
    (
        "{name: a, timeout: 0}",
        "2:28 invalid_value tasks[0].timeout: expected a number of more than 0, found 0",
    ),
    (
        "{name: a, timeout: -1.5}",
        "2:28 invalid_value tasks[0].timeout: expected a number of more than 0, found -1.5",
    ),
    (
        "{name: a, delay: -1}",
        "2:26 invalid_value tasks[0].delay: expected a number of 0 or more, found -1",
    ),
    (
        "{name: a, delay: soon}",
        "2:26 wrong_type tasks[0].delay: expected a number, found the text \"soon\"",
    ),
    (
        "{name: a, total_timeout: 0}",
        "2:34 invalid_value tasks[0].total_timeout: expected a number of more than 0, found 0",
    ),
    (
        "{name: a, heartbeat: 0.5}",
        "2:30 invalid_value tasks[0].heartbeat: expected a number of 1 or more, found 0.5",
    ),
    (
        "{name: a, input: [1]}",
        "2:26 wrong_type tasks[0].input: expected an object, found a list",
    ),
    (
        "{name: a, max_redeliveries: -1}",
        "2:37 wrong_type tasks[0].max_redeliveries: expected a whole number of 0 or more, found the number -1",
    ),
    (
        "{name: a, pool: 'a b'}",
        "2:25 invalid_name tasks[0].pool: the pool `a b` may hold 1 to 100 letters, digits, `_`, `-` and `.` only",
    ),
    (
        "{name: a, join: all}",
        "2:25 join_without_predecessor tasks[0].join: nothing leads to `a`, so there is nothing to join",
    ),
    (
        "{name: a, join: 2}",
        "2:25 join_without_predecessor tasks[0].join: nothing leads to `a`, so there is nothing to join",
    ),
    (
        "{name: a, join: active}",
        "2:25 join_without_predecessor tasks[0].join: nothing leads to `a`, so there is nothing to join",
    ),
    (
        "{name: a, join: al}",
        "2:25 wrong_type tasks[0].join: expected `all`, `active` or a whole number of 1 or more (did you mean all?)",
    ),
    (
        "{name: a, join: actve}",
        "2:25 wrong_type tasks[0].join: expected `all`, `active` or a whole number of 1 or more (did you mean active?)",
    ),
    (
        "{name: a, join: none}",
        "2:25 wrong_type tasks[0].join: expected `all`, `active` or a whole number of 1 or more, found the text \"none\"",
    ),
    (
        "{name: a, when: yes}",
        "2:25 wrong_type tasks[0].when: expected a condition, `{{ … }}`, or a boolean, found the text \"yes\" (write \"{{ yes }}\")",
    ),
    (
        "{name: a, when: 'x {{ true }}'}",
        "2:25 wrong_type tasks[0].when: a condition is exactly one `{{ … }}`; any other text would always hold",
    ),
    (
        "just_a_name",
        "2:9 wrong_type tasks[0]: expected an object, found the text \"just_a_name\"",
    ),
];

#[test]
fn refuses_wrong_tasks() {
    for (task, expected) in WRONG_TASKS {
        refused(&format!("tasks: [{task}]"), expected);
    }
}

#[test]
fn refuses_wrong_retries() {
    for (retry, expected) in [
        (
            "{delay: 1}",
            "2:27 missing_key tasks[0].retry: `retry` needs `count`, the attempts after the first",
        ),
        (
            "{count: -1}",
            "2:34 invalid_value tasks[0].retry.count: expected a number of 0 or more, found -1",
        ),
        (
            "{count: 1.5}",
            "2:34 wrong_type tasks[0].retry.count: expected a whole number of 0 or more, found the number 1.5",
        ),
        (
            "{count: 1, delay: -1}",
            "2:44 invalid_value tasks[0].retry.delay: expected a number of 0 or more, found -1",
        ),
        (
            "{count: 1, jitter: 2}",
            "2:45 invalid_value tasks[0].retry.jitter: expected a number from 0 to 1, found 2",
        ),
        (
            "{count: 1, backoff: expo}",
            "2:46 invalid_value tasks[0].retry.backoff: unknown backoff `expo`",
        ),
        (
            "{count: 1, backoff: liner}",
            "2:46 invalid_value tasks[0].retry.backoff: unknown backoff `liner` (did you mean linear?)",
        ),
        (
            "{count: 1, backoff: exponential, factor: 0.5}",
            "2:67 invalid_value tasks[0].retry.factor: expected a number of 1 or more, found 0.5",
        ),
        (
            "{count: 1, factor: 2}",
            "2:37 invalid_value tasks[0].retry.factor: `factor` belongs to `backoff: exponential`",
        ),
        (
            "{count: 1, max_delya: 2}",
            "2:37 unknown_key tasks[0].retry.max_delya: unknown key `max_delya` (did you mean max_delay?)",
        ),
        (
            "3",
            "2:26 wrong_type tasks[0].retry: expected an object, found the number 3",
        ),
    ] {
        refused(&format!("tasks: [{{name: a, retry: {retry}}}]"), expected);
    }
}

#[test]
fn refuses_wrong_routes() {
    for (task, expected) in [
        (
            "on_success: [b, b]",
            "2:35 duplicate_target tasks[0].on_success[1]: `b` stands twice in one list",
        ),
        (
            "on_success: {do: b}",
            "2:31 wrong_type tasks[0].on_success: expected the name of a task, or a list of names, found an object",
        ),
        (
            "next: [{do: b}], on_success: b",
            "2:19 mixed_routes tasks[0].next: `next` does not go together with `on_success` (write all routes as entries of `next`)",
        ),
        (
            "next: b",
            "2:25 wrong_type tasks[0].next: expected a list of `{when, publish, do}`, found the text \"b\"",
        ),
        (
            "next: [{on: b}, {do: b}]",
            "2:27 unknown_key tasks[0].next[0].on: unknown key `on`",
        ),
        (
            "decision: [{default: true, next: b}, {when: true, next: b}]",
            "2:31 default_not_last tasks[0].decision[0].default: the default stands last, and there is at most one",
        ),
        (
            "decision: [{default: true, next: b}, {default: true, next: b}]",
            "2:31 default_not_last tasks[0].decision[0].default: the default stands last, and there is at most one",
        ),
        (
            "decision: [{next: b}]",
            "2:31 missing_key tasks[0].decision[0]: a branch needs `when`, or `default: true`",
        ),
        (
            "decision: [{when: true, default: true, next: b}]",
            "2:43 invalid_value tasks[0].decision[0].default: a branch has `when` or `default`, not both",
        ),
        (
            "on_success: b, publish: {x: 1}",
            "2:43 wrong_type tasks[0].publish: expected a list of `name: value`, found an object",
        ),
        (
            "on_success: b, publish: [1]",
            "2:44 wrong_type tasks[0].publish[0]: expected `name: value`, or a name for the whole result, found the number 1",
        ),
        (
            "on_success: b, publish: [a.b: 1]",
            "2:44 invalid_name tasks[0].publish[0].a.b: the variable `a.b` may hold letters, digits, `_` and `-` only",
        ),
    ] {
        refused(
            &format!("tasks: [{{name: a, {task}}}, {{name: b}}]"),
            expected,
        );
    }
}

#[test]
fn refuses_graphs_that_cannot_run() {
    refused(
        "tasks: [{name: a, on_success: b}, {name: b, on_success: a}]",
        "2:1 no_start tasks: there is no task to start with: something leads to each of them",
    );
    let tasks = "tasks: [{name: a}, {name: b, on_success: c}, {name: c, on_success: b}, {name: d, on_success: d}]";
    assert_eq!(
        errors(&format!("ref: a.b\n{tasks}")),
        [
            "2:27 unreachable_task tasks[1]: no start leads to `b`",
            "2:53 unreachable_task tasks[2]: no start leads to `c`",
            "2:79 unreachable_task tasks[3]: no start leads to `d`",
        ]
    );
}

#[test]
fn warns_of_tasks_that_run_twice() {
    let source = "ref: a.b\ntasks: [{name: a, on_success: c}, {name: b, on_success: c}, {name: c}]";
    let warnings = compile(source).expect("accepted").warnings;
    assert_eq!(
        warnings.iter().map(line).collect::<Vec<_>>(),
        [
            "2:68 several_entries tasks[2]: several transitions lead to `c`: it runs once for each that \
          is taken (write `join: all` if all of them are taken and it shall wait for all)"
        ]
    );
    let joined = source.replace("{name: c}", "{name: c, join: all}");
    assert!(compile(&joined).expect("accepted").warnings.is_empty());
    let looping = "ref: a.b\ntasks: [{name: a, on_success: b}, {name: b, next: [{when: '{{ failed() }}', do: b}]}]";
    assert!(compile(looping).expect("accepted").warnings.is_empty());
}

#[test]
fn the_time_limit_and_the_schema_of_a_workflow_are_checked() {
    let file = |rest: &str| format!("ref: a.b\ntasks: [{{name: a}}]\n{rest}");
    refused_file(
        &file("timeout: 0"),
        "3:10 invalid_value timeout: expected a number of more than 0, found 0",
    );
    refused_file(
        &file("output: {n: {type: integer}}"),
        "3:1 misplaced_key output: `output` says what `output_map` gives, and there is no `output_map`",
    );
    refused_file(
        &file("output_map: {n: 1}\noutput: {n: {type: int}}"),
        "4:20 invalid_value output.n.type: unknown type `int`",
    );
    refused_file(
        &file("output_map: {n: 1}\noutput: [n]"),
        "4:9 wrong_type output: expected an object, found a list",
    );
    refused_file(
        &file("output_map: {n: 1}\noutput: {n: {default: 1}}"),
        "4:14 unknown_key output.n.default: unknown key `default`",
    );
    let invalid = errors(&file(
        "output_map: {n: 1}\noutput: {type: object, properties: {n: {type: 7}}}",
    ));
    assert!(
        invalid[0].starts_with("4:9 invalid_schema output: the schema is not valid: "),
        "{invalid:?}"
    );
}

#[test]
fn all_that_is_said_of_time_is_taken() {
    let source = "\
ref: a.b
label: Times
description: All of them
tags: [time]
timeout: 60
tasks:
  - {name: a, action: core.noop, delay: \"{{ 1 + 1 }}\", timeout: null, total_timeout: 9.5, heartbeat: 1}
output: {$schema: 'https://json-schema.org/draft/2020-12/schema', required: [n]}
output_map: {n: 1}
";
    let workflow = compile(source).expect("it is sound").workflow;
    let task = &workflow.tasks[0];
    assert_eq!(workflow.timeout, Some(60.0));
    assert_eq!((task.total_timeout, task.heartbeat), (Some(9.5), Some(1.0)));
    assert!(task.delay.is_some() && task.timeout.is_none() && workflow.output_schema.is_some());
}
