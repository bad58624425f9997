//! The workflows that a run starts: the real language, with a parameter, a templated input and a
//! publish for each task.

use std::fmt::Write as _;

use crate::options::Shape;

/// Reference of the workflow of a shape.
pub fn reference(shape: Shape, length: u32) -> String {
    match shape {
        Shape::Single => "loadtest.single".to_owned(),
        Shape::Chain => format!("loadtest.chain_{length}"),
    }
}

/// Tasks of one execution.
pub fn tasks(shape: Shape, length: u32) -> u32 {
    match shape {
        Shape::Single => 1,
        Shape::Chain => length,
    }
}

/// The definition of a shape.
pub fn definition(shape: Shape, length: u32) -> String {
    let tasks = tasks(shape, length);
    let mut yaml = format!(
        "ref: {}\nparameters:\n  n: {{type: integer, required: true}}\n",
        reference(shape, length)
    );
    yaml.push_str("vars:\n  x: \"{{ parameters.n }}\"\ntasks:\n");
    for no in 1..=tasks {
        let mut next = String::new();
        if no < tasks {
            write!(next, ", on_success: step_{}", no + 1).expect("a text takes all");
        }
        writeln!(
            yaml,
            "  - {{name: step_{no}, action: core.echo, input: {{x: \"{{{{ vars.x }}}}\", n: {no}}}, \
             publish: [{{x: \"{{{{ result().x + 1 }}}}\"}}]{next}}}"
        )
        .expect("a text takes all");
    }
    yaml.push_str("output_map:\n  x: \"{{ vars.x }}\"\n");
    yaml
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_leads_from_each_task_to_the_next() {
        let yaml = definition(Shape::Chain, 3);
        assert!(yaml.contains("ref: loadtest.chain_3"));
        assert!(
            yaml.contains("name: step_1, action: core.echo, input: {x: \"{{ vars.x }}\", n: 1}")
        );
        assert!(yaml.contains("on_success: step_3}"));
        assert!(!yaml.contains("step_4"));
    }

    #[test]
    fn a_single_task_leads_nowhere() {
        assert!(!definition(Shape::Single, 10).contains("on_success"));
        assert_eq!(tasks(Shape::Single, 10), 1);
    }
}
