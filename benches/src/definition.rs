//! The workflows of the cases, in the real language: a parameter, templated inputs, and a publish
//! for each task, as in the load test.

use std::sync::Arc;

use flotilla_engine::{Workflow, compile};

const TASK: &str = "    action: core.echo\n    input: {value: \"{{ vars.value + 1 }}\"}\n    \
                    publish:\n      - value: \"{{ result().value }}\"\n";

/// Tasks one after another.
pub fn chain(length: u32) -> Arc<Workflow> {
    let mut tasks = String::new();
    for number in 1..=length {
        tasks.push_str(&format!("  - name: step_{number}\n{TASK}"));
        if number < length {
            tasks.push_str(&format!("    on_success: step_{}\n", number + 1));
        }
    }
    workflow(&tasks)
}

/// One task, `width` tasks beside each other, and one that waits for all of them.
pub fn fanout(width: u32) -> Arc<Workflow> {
    workflow(&fanout_tasks(width))
}

/// The text of [`fanout`].
pub fn fanout_source(width: u32) -> String {
    source(&fanout_tasks(width))
}

fn fanout_tasks(width: u32) -> String {
    let parts: Vec<String> = (1..=width).map(|number| format!("part_{number}")).collect();
    let mut tasks = format!(
        "  - name: split\n{TASK}    on_success: [{}]\n",
        parts.join(", ")
    );
    for part in &parts {
        tasks.push_str(&format!("  - name: {part}\n{TASK}    on_success: merge\n"));
    }
    tasks.push_str(&format!("  - name: merge\n{TASK}    join: all\n"));
    tasks
}

/// One task with `count` items, of which at most `concurrency` are in flight.
pub fn items(count: u32, concurrency: u32) -> Arc<Workflow> {
    workflow(&format!(
        "  - name: each\n    action: core.echo\n    with_items: \"{{{{ range({count}) }}}}\"\n    \
         concurrency: {concurrency}\n    \
         input: {{value: \"{{{{ item + vars.value }}}}\"}}\n    publish:\n      - value: 1\n"
    ))
}

fn workflow(tasks: &str) -> Arc<Workflow> {
    match compile(&source(tasks)) {
        Ok(compiled) => compiled.workflow,
        Err(errors) => panic!("the definition of a case is refused: {errors:?}"),
    }
}

fn source(tasks: &str) -> String {
    format!(
        "ref: bench.case\nversion: \"1.0.0\"\nmax_items: 1000000\n\
         parameters:\n  start: {{type: integer, required: true}}\n\
         vars:\n  value: \"{{{{ parameters.start }}}}\"\n\
         tasks:\n{tasks}output_map:\n  value: \"{{{{ vars.value }}}}\"\n"
    )
}
