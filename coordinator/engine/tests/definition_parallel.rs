//! Parallel tasks: what is refused, and where the file is told to be wrong.

use flotilla_engine::compile;

fn findings(task: &str) -> Vec<String> {
    let source = format!("ref: a.b\ntasks:\n{task}");
    let found = match compile(&source) {
        Ok(compiled) => compiled.warnings,
        Err(found) => found,
    };
    let lines = found.iter();
    lines
        .map(|one| format!("{} {}: {}", one.code, one.path, one.message))
        .collect()
}

fn refused(task: &str, expected: &str) {
    assert_eq!(findings(task), [expected], "{task}");
}

#[test]
fn a_parallel_task_becomes_tasks_that_the_graph_can_have() {
    let source = "
ref: a.b
tasks:
  - {name: start, on_success: p}
  - {name: p, type: parallel, tasks: [{name: x, action: c.d}, {name: y, publish: [v: 1]}], on_success: last}
  - {name: last, publish: [w: \"{{ vars.v ~ task.p.result.x }}\"]}
";
    let compiled = compile(source).unwrap_or_else(|errors| panic!("{errors:#?}"));
    assert_eq!(compiled.warnings, []);
    let tasks = compiled.workflow.tasks.iter();
    let names: Vec<&str> = tasks.map(|task| &*task.name).collect();
    assert_eq!(names, ["start", "p", "last", "p:fork", "p/x", "p/y"]);
}

#[test]
fn what_belongs_to_an_action_is_refused() {
    for key in [
        "action: c.d",
        "retry: {count: 1}",
        "timeout: 3",
        "with_items: [1]",
        "on_timeout: noop",
    ] {
        let name = key.split(':').next().unwrap_or_default();
        refused(
            &format!("- {{name: p, type: parallel, tasks: [{{name: x}}], {key}}}"),
            &format!(
                "misplaced_key tasks[0].{name}: a parallel task runs no action, so `{name}` has no \
                 place here: its children have it"
            ),
        );
    }
}

#[test]
fn a_child_has_nothing_that_says_how_it_is_entered_or_left() {
    for key in [
        "join: all",
        "needs: p",
        "on_success: noop",
        "next: [{do: noop}]",
    ] {
        let name = key.split(':').next().unwrap_or_default();
        refused(
            &format!("- {{name: p, type: parallel, tasks: [{{name: x, {key}}}]}}"),
            &format!(
                "misplaced_key tasks[0].tasks[0].{name}: a child of a parallel task has no `{name}`: \
                 the task is entered, and left, as a whole"
            ),
        );
    }
    refused(
        "- {name: p, type: parallel, tasks: [{name: x, type: parallel}]}",
        "invalid_value tasks[0].tasks[0].type: a child of a parallel task is not parallel itself",
    );
}

#[test]
fn it_has_children_and_nothing_else_has() {
    refused(
        "- {name: p, type: parallel}",
        "missing_key tasks[0]: a parallel task needs `tasks`, its children",
    );
    refused(
        "- {name: p, type: parallel, tasks: []}",
        "missing_key tasks[0].tasks: a parallel task needs at least one child",
    );
    refused(
        "- {name: p, tasks: [{name: x}]}",
        "misplaced_key tasks[0].tasks: only a task of `type: parallel` has `tasks`",
    );
    refused(
        "- {name: p, type: parallel, tasks: [{name: x}, {name: x}]}",
        "duplicate_name tasks[0].tasks[1].name: the name `p/x` is taken by the task in line 3",
    );
    refused(
        "- {name: p, type: parallel, tasks: [{action: c.d, name: x, input: {v: \"{{ vars.y }}\"}}]}",
        "unknown_variable tasks[0].tasks[0].input.v: nothing assigns the variable `y`",
    );
    let many: String = (0..999).map(|n| format!("{{name: t{n}}},")).collect();
    refused(
        &format!("- {{name: p, type: parallel, tasks: [{many}]}}"),
        "too_many_tasks tasks: a workflow has at most 1000 tasks, this one 1001 with those that its \
         parallel tasks are made of",
    );
}

#[test]
fn its_parts_have_no_names_for_others() {
    let part = |name: &str| {
        format!("`{name}` is a part of a parallel task, which is entered, and left, as a whole")
    };
    for (task, path, name) in [
        ("{name: b, on_success: p/x}", "tasks[1].on_success", "p/x"),
        (
            "{name: b, decision: [{default: true, next: 'p:fork'}]}",
            "tasks[1].decision[0].next",
            "p:fork",
        ),
        ("{name: b, needs: p/x}", "tasks[1].needs", "p/x"),
    ] {
        let task = format!("- {{name: p, type: parallel, tasks: [{{name: x}}]}}\n- {task}");
        let found = findings(&task);
        let expected = format!("unknown_target {path}: {}", part(name));
        assert!(found.contains(&expected), "{found:#?}");
    }
    refused(
        "- {name: a}\n- {name: p, type: parallel, tasks: [{name: x}]}\nfinally: p",
        "misplaced_finally finally: `p` is parallel, so it is not of `finally`",
    );
}

#[test]
fn what_is_said_of_its_entry_names_the_task() {
    let found = findings(
        "- {name: a, on_success: p}\n- {name: b, on_success: p}\n- {name: p, type: parallel, tasks: [{name: x}]}",
    );
    assert_eq!(
        found,
        [
            "several_entries tasks[2]: several transitions lead to `p`: it runs once for each that is taken"
        ]
    );
    refused(
        "- {name: a}\n- {name: p, type: parallel, tasks: [{name: x}], on_success: p}",
        "unreachable_task tasks[1]: no start leads to `p`",
    );
    refused(
        "- {name: p, type: parallel, join: all, tasks: [{name: x}]}",
        "join_without_predecessor tasks[0].join: nothing leads to `p`, so there is nothing to join",
    );
}
