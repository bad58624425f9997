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
    /// How many tasks an execution runs.
    pub tasks: u32,
}

impl Shape {
    /// The name that the report shows.
    pub fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Chain => "chain",
        }
    }

    /// The workflow; only a chain has a length.
    pub fn workflow(self, length: u32) -> Workflow {
        let tasks = match self {
            Self::Single => 1,
            Self::Chain => length,
        };
        let reference = format!("loadtest.{}", self.name());
        let version = format!("1.0.{tasks}");
        let mut source = format!(
            "ref: {reference}\nlabel: Load test\nversion: \"{version}\"\n\
             parameters:\n  start: {{type: integer, required: true}}\n\
             vars:\n  value: \"{{{{ parameters.start }}}}\"\n\
             tasks:\n"
        );
        for task in 1..=tasks {
            let next = if task < tasks {
                format!("    on_success: step_{}\n", task + 1)
            } else {
                String::new()
            };
            // Writing into a text cannot fail.
            let _ = write!(
                source,
                "  - name: step_{task}\n    action: core.echo\n    \
                 input: {{value: \"{{{{ vars.value + 1 }}}}\"}}\n    \
                 publish:\n      - value: \"{{{{ result().value }}}}\"\n{next}"
            );
        }
        source.push_str("output_map:\n  value: \"{{ vars.value }}\"\n");
        Workflow {
            reference,
            version,
            source,
            tasks,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_links_its_tasks() {
        let chain = Shape::Chain.workflow(3);
        assert_eq!(chain.source.matches("action:").count(), 3);
        assert_eq!(chain.source.matches("on_success:").count(), 2);
        assert!(chain.source.contains("on_success: step_3"));
        assert!(chain.source.contains("{value: \"{{ vars.value + 1 }}\"}"));
    }

    #[test]
    fn a_single_has_one_task_whatever_the_length() {
        assert_eq!(Shape::Single.workflow(10).tasks, 1);
    }
}
