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
                "8:42: warning[unused_variable]: tasks[0].decision[0].publish[0].way: nothing reads the \
                 variable `way` {}",
                hint("way")
            ),
            format!(
                "9:33: warning[unused_variable]: tasks[1].next[0].publish[0].out: nothing reads the \
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
