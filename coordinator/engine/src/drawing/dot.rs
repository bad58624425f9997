//! The drawing in the language of Graphviz.

use super::{Drawing, Edge, Form, Point, in_one_line, lines};
use crate::workflow::{Task, Workflow};

/// Draws a workflow in the language of Graphviz; the text ends without a line break.
#[must_use]
pub fn dot(workflow: &Workflow) -> String {
    let drawing = Drawing::of(workflow);
    let mut out = vec![
        format!("digraph {} {{", quoted(&[workflow.reference.to_string()])),
        "    node [shape=box];".to_owned(),
        "    start [shape=circle];".to_owned(),
    ];
    let form = Form {
        task: node,
        order: |id| format!("{id} [shape=circle];"),
        finally: (
            &["subgraph cluster_finally {", "    label=\"finally\";"],
            "}",
        ),
        arrow,
    };
    drawing.write(&form, &mut out);
    out.push("}".to_owned());
    out.join("\n")
}

/// A task; one that waits for others is a hexagon.
fn node(task: &Task) -> String {
    let shape = match (&task.join, &task.needs) {
        (None, None) => "",
        (Some(_), _) | (None, Some(_)) => ", shape=hexagon",
    };
    let label = quoted(&lines(task));
    format!("{} [label={label}{shape}];", Point::Task(task.index.0).id())
}

fn arrow(edge: &Edge) -> String {
    let mut attributes = Vec::new();
    if !edge.label.is_empty() {
        attributes.push(format!(
            "label={}",
            quoted(std::slice::from_ref(&edge.label))
        ));
    }
    if edge.is_need {
        attributes.push("style=dashed".to_owned());
    }
    let attributes = match attributes.as_slice() {
        [] => String::new(),
        attributes => format!(" [{}]", attributes.join(", ")),
    };
    format!("{} -> {}{attributes};", edge.from.id(), edge.to.id())
}

/// Lines of a label between quotes, in which a backslash begins a code.
fn quoted(lines: &[String]) -> String {
    let lines = lines
        .iter()
        .map(|line| in_one_line(line).replace('\\', "\\\\").replace('"', "\\\""));
    format!("\"{}\"", lines.collect::<Vec<_>>().join("\\n"))
}
