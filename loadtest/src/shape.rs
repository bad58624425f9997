//! What an execution looks like: workflows in the real language, with a parameter, templated input
//! and a publish for each task.

use std::fmt::Write;

use clap::ValueEnum;

/// A shape of executions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// One task.
    Single,
    /// Tasks one after another, each taking what the one before has published.
    Chain,
    /// One task, then many beside each other, then one that joins them.
    Fanout,
    /// One task with many items.
    Items,
    /// All of them: of 20 executions 14 single, 4 chains, one fan-out and one with items.
    Mixed,
}

/// A workflow of a shape.
#[derive(Debug, Clone)]
pub struct Workflow {
    /// Its reference.
    pub reference: String,
    /// Its version.
    pub version: String,
    /// Its text.
    pub source: String,
    /// How many jobs an execution gives to workers: each counts as a task.
    pub tasks: u32,
    /// How many runs of tasks its row counts in the end.
    pub runs: u32,
}

/// The workflows of a load, and which of them comes when.
#[derive(Debug, Clone)]
pub struct Mix {
    /// The workflows.
    pub workflows: Vec<Workflow>,
    /// Indices of them, one for each start, over and over.
    order: Vec<usize>,
}

impl Shape {
    /// The name that the report shows.
    pub fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Chain => "chain",
            Self::Fanout => "fanout",
            Self::Items => "items",
            Self::Mixed => "mixed",
        }
    }

    /// What is started: a chain has `length` tasks, fan-outs and lists of items are `width` wide.
    pub fn mix(self, length: u32, width: u32) -> Mix {
        match self {
            Self::Single => Mix::of(chain("single", 1)),
            Self::Chain => Mix::of(chain("chain", length)),
            Self::Fanout => Mix::of(fanout(width)),
            Self::Items => Mix::of(items(width)),
            Self::Mixed => Mix {
                workflows: vec![
                    chain("single", 1),
                    chain("chain", length),
                    fanout(width),
                    items(width),
                ],
                order: vec![0, 0, 0, 1, 0, 0, 0, 1, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 0, 3],
            },
        }
    }
}

impl Mix {
    fn of(workflow: Workflow) -> Self {
        Self {
            workflows: vec![workflow],
            order: vec![0],
        }
    }

    /// The index of the workflow of a start.
    pub fn index(&self, start: usize) -> usize {
        self.order[start % self.order.len()]
    }
}

/// Tasks one after another.
fn chain(name: &str, length: u32) -> Workflow {
    let version = format!("1.0.{length}");
    let mut source = head(name, &version);
    for number in 1..=length {
        let next = (number < length).then(|| format!("step_{}", number + 1));
        task(&mut source, &format!("step_{number}"), next.as_slice());
    }
    workflow(name, version, source, length, length)
}

/// One task, `width` tasks, and one that waits for all of them.
fn fanout(width: u32) -> Workflow {
    let version = format!("1.0.{width}");
    let mut source = head("fanout", &version);
    let parts: Vec<String> = (1..=width).map(|number| format!("part_{number}")).collect();
    task(&mut source, "split", &parts);
    for part in &parts {
        task(&mut source, part, &["merge".to_owned()]);
    }
    task(&mut source, "merge", &[]);
    source.push_str("    join: all\n");
    workflow("fanout", version, source, width + 2, width + 2)
}

/// One task with `width` items; the task as a whole is one run more than its items.
fn items(width: u32) -> Workflow {
    let version = format!("1.0.{width}");
    let mut source = head("items", &version);
    // Writing into a text cannot fail.
    let _ = write!(
        source,
        "  - name: each\n    action: core.echo\n    with_items: \"{{{{ range({width}) }}}}\"\n    \
         input: {{value: \"{{{{ item + vars.value }}}}\"}}\n    \
         publish:\n      - value: \"{{{{ result() | length }}}}\"\n"
    );
    workflow("items", version, source, width, width + 1)
}

fn workflow(name: &str, version: String, mut source: String, tasks: u32, runs: u32) -> Workflow {
    source.push_str("output_map:\n  value: \"{{ vars.value }}\"\n");
    Workflow {
        reference: format!("loadtest.{name}"),
        version,
        source,
        tasks,
        runs,
    }
}

fn head(name: &str, version: &str) -> String {
    format!(
        "ref: loadtest.{name}\nlabel: Load test\nversion: \"{version}\"\n\
         parameters:\n  start: {{type: integer, required: true}}\n\
         vars:\n  value: \"{{{{ parameters.start }}}}\"\n\
         tasks:\n"
    )
}

fn task(source: &mut String, name: &str, next: &[String]) {
    let next = match next {
        [] => String::new(),
        [one] => format!("    on_success: {one}\n"),
        several => format!("    on_success: [{}]\n", several.join(", ")),
    };
    // Writing into a text cannot fail.
    let _ = write!(
        source,
        "  - name: {name}\n    action: core.echo\n    \
         input: {{value: \"{{{{ vars.value + 1 }}}}\"}}\n    \
         publish:\n      - value: \"{{{{ result().value }}}}\"\n{next}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(shape: Shape) -> String {
        shape.mix(3, 4).workflows[0].source.clone()
    }

    #[test]
    fn a_chain_links_its_tasks() {
        let chain = source(Shape::Chain);
        assert_eq!(chain.matches("action:").count(), 3);
        assert_eq!(chain.matches("on_success:").count(), 2);
        assert!(chain.contains("on_success: step_3"));
        assert!(chain.contains("{value: \"{{ vars.value + 1 }}\"}"));
    }

    #[test]
    fn a_single_has_one_task_whatever_the_length() {
        assert_eq!(Shape::Single.mix(10, 10).workflows[0].tasks, 1);
    }

    #[test]
    fn a_fan_out_splits_and_joins() {
        let fanout = source(Shape::Fanout);
        assert!(fanout.contains("on_success: [part_1, part_2, part_3, part_4]"));
        assert_eq!(fanout.matches("on_success: merge").count(), 4);
        assert!(fanout.contains("    join: all\noutput_map:"));
        assert_eq!(Shape::Fanout.mix(3, 4).workflows[0].tasks, 6);
    }

    #[test]
    fn every_shape_is_a_workflow_that_the_engine_takes() {
        for shape in [Shape::Single, Shape::Chain, Shape::Fanout, Shape::Items] {
            let compiled = flotilla_engine::compile(&source(shape));
            assert!(compiled.is_ok(), "{shape:?}: {:?}", compiled.err());
        }
    }

    #[test]
    fn a_mix_has_all_shapes_in_their_shares() {
        let mix = Shape::Mixed.mix(10, 100);
        let mut shares = [0; 4];
        (0..40).for_each(|start| shares[mix.index(start)] += 1);
        assert_eq!(shares, [28, 8, 2, 2]);
        let names: Vec<&str> = mix.workflows.iter().map(|w| w.reference.as_str()).collect();
        assert_eq!(
            names,
            [
                "loadtest.single",
                "loadtest.chain",
                "loadtest.fanout",
                "loadtest.items"
            ]
        );
    }
}
