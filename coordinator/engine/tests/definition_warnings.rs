//! What a definition is warned of, and what it is not.

use flotilla_engine::compile;

/// The warnings of a definition, as lines.
fn warnings(source: &str) -> Vec<String> {
    let compiled = compile(source).unwrap_or_else(|found| panic!("{found:#?}"));
    compiled.warnings.iter().map(ToString::to_string).collect()
}

#[test]
fn a_variable_that_nothing_reads_is_warned_of_once() {
    let source = "\
ref: a.b
vars:
  first: 1
  unread: \"{{ vars.first }}\"
tasks:
  - name: a
    publish: [raw, {one: 1, two: 2}]
    decision: [{default: true, publish: [{way: 1}, {unread: 2}], next: b}]
  - {name: b, next: [{publish: [{out: 1}, two]}]}
output_map:
  one: \"{{ vars.one | default(0) }}\"
";
    let hint = |name: &str| format!("(remove it, or read vars.{name} where it was meant)");
    assert_eq!(
        warnings(source),
        [
            format!(
                "4:3: warning[unused_variable]: vars.unread: nothing reads the variable `unread` {}",
                hint("unread")
            ),
            format!(
                "7:15: warning[unused_variable]: tasks[0].publish[0]: nothing reads the variable `raw` {}",
                hint("raw")
            ),
            format!(
                "7:29: warning[unused_variable]: tasks[0].publish[1].two: nothing reads the variable \
                 `two` {}",
                hint("two")
            ),
            format!(
                "8:43: warning[unused_variable]: tasks[0].decision[0].publish[0].way: nothing reads the \
                 variable `way` {}",
                hint("way")
            ),
            format!(
                "9:34: warning[unused_variable]: tasks[1].next[0].publish[0].out: nothing reads the \
                 variable `out` {}",
                hint("out")
            ),
        ]
    );
}

#[test]
fn variables_that_are_read_as_a_whole_are_all_read() {
    for read in ["{{ vars }}", "{{ vars['x' ~ 1] }}", "{{ vars.get('x1') }}"] {
        let source = format!(
            "ref: a.b\nvars: {{x1: 1}}\ntasks: [{{name: a}}]\noutput_map: {{o: \"{read}\"}}"
        );
        assert_eq!(warnings(&source), Vec::<String>::new(), "{read}");
    }
}

/// They are what the execution gives.
#[test]
fn without_output_map_what_tasks_publish_is_of_use() {
    let source = "ref: a.b\nvars: {done: false}\ntasks: [{name: a, publish: [{done: true}, raw]}]";
    assert_eq!(warnings(source), Vec::<String>::new());
    let constant = "ref: a.b\nvars: {done: false}\ntasks: [{name: a}]";
    assert_eq!(warnings(constant).len(), 1);
}

#[test]
fn a_limit_beyond_that_of_the_workflow_is_warned_of() {
    let source = "\
ref: a.b
timeout: 60
tasks:
  - {name: same, action: a.b, timeout: 60, total_timeout: 60}
  - {name: more, action: a.b, timeout: 60.5, total_timeout: 90}
  - {name: none, action: a.b, timeout: null}
  - {name: late, action: a.b, timeout: \"{{ 90 }}\"}
  - {name: default, action: a.b}
";
    let rest = "this limit is never reached: the whole workflow ends after 60 seconds (raise the \
                `timeout` of the workflow, or lower this one)";
    assert_eq!(
        warnings(source),
        [
            format!("5:40: warning[void_limit]: tasks[1].timeout: {rest}"),
            format!("5:61: warning[void_limit]: tasks[1].total_timeout: {rest}"),
        ]
    );
    assert_eq!(
        warnings(&source.replace("timeout: 60\n", "")),
        Vec::<String>::new()
    );
}

/// The tasks that are warned of, for tasks of the given list.
fn entered(tasks: &str) -> Vec<String> {
    let source = format!("ref: a.b\ntasks:\n{tasks}");
    let compiled = compile(&source).unwrap_or_else(|found| panic!("{found:#?}"));
    let found = compiled.warnings.iter();
    let found = found.filter(|found| found.code == "several_entries");
    found.map(|found| found.path.clone()).collect()
}

#[test]
fn parallel_branches_into_one_task_are_warned_of() {
    for tasks in [
        "- {name: a, on_success: [b, c]}\n- {name: b, on_success: d}\n- {name: c, on_success: d}\n- {name: d}",
        "- {name: a, on_success: [b, d]}\n- {name: b, on_success: d}\n- {name: c}\n- {name: d}",
        "- {name: a, on_success: b, on_complete: c}\n- {name: b, on_success: d}\n- {name: c, on_success: d}\n- {name: d}",
        "- {name: a, on_success: d}\n- {name: b, on_success: d}\n- {name: c}\n- {name: d}",
        "- {name: a, on_success: d, on_complete: d}\n- {name: b}\n- {name: c}\n- {name: d}",
        "- {name: a, on_success: d}\n- {name: b, needs: a, on_success: d}\n- {name: c}\n- {name: d}",
        "- {name: a, next: [{when: '{{ 1 == 1 }}', do: b}, {when: '{{ 1 == 2 }}', do: c}]}\n- {name: b, on_success: d}\n- {name: c, on_success: d}\n- {name: d}",
        "- {name: a, decision: [{default: true, next: [b, c]}]}\n- {name: b, on_success: d}\n- {name: c, on_success: d}\n- {name: d}",
        "- {name: a, decision: [{default: true, next: b}], on_complete: c}\n- {name: b, on_success: d}\n- {name: c, on_success: d}\n- {name: d}",
        "- {name: a, next: [{when: '{{ timed_out() }}', do: b}, {when: '{{ failed() }}', do: c}]}\n- {name: b, on_success: d}\n- {name: c, on_success: d}\n- {name: d}",
    ] {
        assert_eq!(entered(tasks), ["tasks[3]"], "{tasks}");
    }
}

#[test]
fn branches_of_which_one_is_taken_are_not_warned_of() {
    let to_d = "\n- {name: b, on_success: d}\n- {name: c, on_success: d}\n- {name: d}";
    for fork in [
        "on_success: b, on_failure: c",
        "on_failure: b, on_timeout: c",
        "decision: [{when: '{{ true }}', next: b}, {default: true, next: c}]",
        "decision: [{when: '{{ true }}', next: b}, {default: true, next: d}], on_failure: c",
        "next: [{when: '{{ succeeded() }}', do: b}, {when: '{{ failed() and 1 == 1 }}', do: c}]",
        "next: [{do: b}, {when: false, do: c}]",
    ] {
        let tasks = format!("- {{name: a, {fork}}}{to_d}");
        assert_eq!(entered(&tasks), Vec::<String>::new(), "{fork}");
    }
}

/// The joined branch is one; what is entered twice is told once, where it begins.
#[test]
fn only_the_first_task_that_runs_twice_is_warned_of() {
    let joined = "
- {name: a, on_success: [b, c]}
- {name: b, on_success: j}
- {name: c, on_success: j}
- {name: j, join: all, decision: [{when: '{{ true }}', next: e}, {default: true, next: f}]}
- {name: e, on_success: g}
- {name: f, on_success: g}
- {name: g}";
    assert_eq!(entered(joined), Vec::<String>::new());
    let twice = joined.replace("join: all, ", "");
    assert_eq!(entered(&twice), ["tasks[3]"]);
    let or_twice = joined.replace(
        "decision: [{when: '{{ true }}', next: e}, {default: true, next: f}]",
        "on_success: [e, f]",
    );
    assert_eq!(entered(&or_twice), ["tasks[6]"]);
}

/// A branch that may fail on either side: the conditions tell only where nothing can undo them.
#[test]
fn an_alternative_in_a_condition_tells_nothing() {
    let tasks = |condition: &str| {
        let routes = format!("{{when: '{{{{ {condition} }}}}', do: c}}");
        format!(
            "- {{name: a, next: [{{when: '{{{{ failed() }}}}', do: b}}, {routes}]}}\n\
             - {{name: b, on_success: d}}\n- {{name: c, on_success: d}}\n- {{name: d}}"
        )
    };
    assert_eq!(
        entered(&tasks("succeeded() and 1 == 1")),
        Vec::<String>::new()
    );
    assert_eq!(
        entered(&tasks("succeeded() and 1 == 1 or 1 == 1")),
        ["tasks[3]"]
    );
    assert_eq!(entered(&tasks("not failed()")), ["tasks[3]"]);
}

#[test]
fn a_wide_graph_is_looked_at_in_time() {
    let mut tasks = String::from("- {name: a, on_success: [t0");
    for at in 1..400 {
        tasks.push_str(&format!(", t{at}"));
    }
    tasks.push_str("]}\n");
    for at in 0..400 {
        tasks.push_str(&format!("- {{name: t{at}, on_success: [z, y]}}\n"));
    }
    tasks.push_str("- {name: z}\n- {name: y}\n");
    assert_eq!(entered(&tasks), ["tasks[401]", "tasks[402]"]);
}

#[test]
fn a_parameter_that_is_called_secret_is_stored_and_shown_all_the_same() {
    let tasks = "tasks: [{name: a, action: core.echo, input: {t: \"{{ parameters.token }}\"}}]\n";
    let flat = "parameters: {token: {type: string, secret: true}}\n";
    let schema = "parameters: {properties: {token: {type: string, secret: true}}}\n";
    for (parameters, path) in [
        (flat, "parameters.token"),
        (schema, "parameters.properties.token"),
    ] {
        let found = warnings(&format!("ref: a.b\n{parameters}{tasks}"));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].contains(&format!("warning[secret_parameter]: {path}:")),
            "{found:?}"
        );
    }
    let open = "parameters: {token: {type: string, secret: false}}\n";
    assert!(warnings(&format!("ref: a.b\n{open}{tasks}")).is_empty());
}
