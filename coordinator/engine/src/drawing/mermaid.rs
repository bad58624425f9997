//! The drawing as a flowchart of Mermaid.

use super::{Drawing, Edge, Form, Point, in_one_line, lines};
use crate::workflow::{Task, Workflow};

/// Draws a workflow as a flowchart of Mermaid; the text ends without a line break.
#[must_use]
pub fn mermaid(workflow: &Workflow) -> String {
    let drawing = Drawing::of(workflow);
    let mut out = vec!["flowchart TD".to_owned(), "    start((start))".to_owned()];
    let form = Form {
        task: node,
        order: |id| format!("{id}(({id}))"),
        finally: (&["subgraph finally"], "end"),
        arrow,
    };
    drawing.write(&form, &mut out);
    out.join("\n")
}

/// A task; one that waits for others is a hexagon.
fn node(task: &Task) -> String {
    let lines: Vec<String> = lines(task).iter().map(|line| escaped(line)).collect();
    let label = lines.join("<br/>");
    let (open, close) = match (&task.join, &task.needs) {
        (None, None) => ("[", "]"),
        (Some(_), _) | (None, Some(_)) => ("{{", "}}"),
    };
    format!("{}{open}\"{label}\"{close}", Point::Task(task.index.0).id())
}

fn arrow(edge: &Edge) -> String {
    let line = if edge.is_need { "-.->" } else { "-->" };
    let label = match edge.label.as_str() {
        "" => String::new(),
        label => format!("|\"{}\"|", escaped(label)),
    };
    format!("{} {line}{label} {}", edge.from.id(), edge.to.id())
}

/// A text between quotes: whatever has a meaning there (HTML, Markdown, directives, the ends of
/// labels) is written as its number.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in in_one_line(text).chars() {
        match c {
            '"' | '#' | '&' | '<' | '>' | '`' | '|' | '%' | '\\' | ';' | '*' | '~' | '$' => {
                out.push_str(&format!("#{};", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out
}
