//! A variable may be read where some path has assigned it, and nowhere else.

use flotilla_engine::compile;

fn verdict(tasks: &str) -> Vec<(&'static str, String)> {
    let source = format!("ref: a.b\nvars: {{known: 1}}\n{tasks}");
    match compile(&source) {
        Ok(_) => Vec::new(),
        Err(found) => found
            .into_iter()
            .map(|found| (found.code, found.path))
            .collect(),
    }
}

#[track_caller]
fn accepted(tasks: &str) {
    assert_eq!(verdict(tasks), [], "{tasks}");
}

#[track_caller]
fn refused(tasks: &str, path: &str) {
    assert_eq!(
        verdict(tasks),
        [("unassigned_variable", path.to_owned())],
        "{tasks}"
    );
}

#[test]
fn a_variable_is_there_behind_what_publishes_it() {
    accepted(
        "tasks:
- {name: a, publish: [{x: 1}], on_success: b}
- {name: b, on_success: c}
- {name: c, input: {v: '{{ vars.x + vars.known }}'}}",
    );
    refused(
        "tasks:
- {name: a, input: {v: '{{ vars.later }}'}, next: [{do: b}]}
- {name: b, next: [{publish: [{later: 1}]}]}",
        "tasks[0].input.v",
    );
}

#[test]
fn a_sibling_does_not_see_it() {
    refused(
        "tasks:
- {name: a, on_success: [b, c]}
- {name: b, publish: [{x: 1}]}
- {name: c, when: '{{ vars.x }}'}",
        "tasks[2].when",
    );
}

#[test]
fn one_path_of_several_is_enough() {
    accepted(
        "tasks:
- {name: a, decision: [{when: '{{ true }}', publish: [{x: 1}], next: b}, {default: true, next: b}]}
- {name: b, input: {v: '{{ vars.x }}'}}",
    );
}

#[test]
fn a_loop_brings_it_back() {
    accepted(
        "tasks:
- {name: a, on_success: b}
- {name: b, input: {v: '{{ vars.x }}'}, publish: [{x: 1}], next: [{when: '{{ vars.x < 3 }}', do: b}]}",
    );
}

#[test]
fn a_publish_list_is_read_in_order() {
    accepted(
        "tasks:
- {name: a, publish: [{x: 1}, {y: '{{ vars.x }}'}], next: [{publish: [{z: '{{ vars.y }}'}, {w: '{{ vars.z }}'}]}]}",
    );
    refused(
        "tasks:\n- {name: a, publish: [{y: '{{ vars.x }}'}, {x: 1}]}",
        "tasks[0].publish[0].y",
    );
    refused(
        "tasks:\n- {name: a, publish: [{x: '{{ vars.x }}'}]}",
        "tasks[0].publish[0].x",
    );
    refused(
        "tasks:\n- {name: a, next: [{publish: [{x: 1}]}, {publish: [{y: '{{ vars.x }}'}]}]}",
        "tasks[0].next[1].publish[0].y",
    );
    refused(
        "tasks:\n- {name: a, retry: {count: 1, when: '{{ vars.x }}'}, publish: [{x: 1}]}",
        "tasks[0].retry.when",
    );
}

#[test]
fn who_asks_first_may_read() {
    let read = |expression: &str| {
        format!(
            "tasks:
- {{name: a, input: {{v: '{{{{ {expression} }}}}'}}, on_success: b}}
- {{name: b, publish: [{{x: 1}}]}}"
        )
    };
    accepted(&read("vars.x | default(0)"));
    accepted(&read("vars.x is defined"));
    accepted(&read("vars.x if vars.x is defined else 0"));
    accepted(&read("vars.x.y if vars.x is defined else 0"));
    accepted(&read("vars | length"));
    accepted(&read("vars[vars.known]"));
    refused(&read("vars.x"), "tasks[0].input.v");
    refused(&read("vars[\"x\"]"), "tasks[0].input.v");
}

#[test]
fn vars_and_output_see_what_stands_before() {
    let with = |vars: &str, output: &str| {
        let source = format!(
            "ref: a.b\nvars: {vars}\ntasks: [{{name: a, publish: [{{p: 1}}]}}]\noutput_map: {output}"
        );
        compile(&source)
            .map(|_| ())
            .map_err(|found| found[0].path.clone())
    };
    assert_eq!(
        with(
            "{a: 1, b: '{{ vars.a }}'}",
            "{o: '{{ vars.p }}', q: '{{ vars.o }}'}"
        ),
        Ok(())
    );
    assert_eq!(
        with("{b: '{{ vars.a }}', a: 1}", "{}"),
        Err("vars.b".to_owned())
    );
    assert_eq!(
        with("{}", "{q: '{{ vars.o }}', o: 1}"),
        Err("output_map.q".to_owned())
    );
    assert_eq!(with("{a: '{{ vars.p }}'}", "{}"), Err("vars.a".to_owned()));
    assert_eq!(
        with("{a: '{{ task.a.result }}'}", "{}"),
        Err("vars.a".to_owned())
    );
}

#[test]
fn a_local_name_is_no_variable() {
    accepted(
        "tasks:\n- {name: a, input: {v: '{% for x in [1, 2] %}{{ x }}{{ loop.index }}{% endfor %}'}}",
    );
    accepted("tasks:\n- {name: a, input: {v: '{% set y = 1 %}{{ y }}'}}");
}
