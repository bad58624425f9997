//! `graph`: a workflow as a picture in words, which Mermaid or Graphviz draws.

use std::path::PathBuf;

use clap::Args;
use flotilla_engine::drawing;
use serde_json::json;

use super::validate;
use crate::arguments::Global;
use crate::failure::{Exit, Failure};
use crate::output::{explain, print, print_json};
use crate::source;

/// What `graph` takes.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct GraphArguments {
    /// A workflow file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// For Graphviz, instead of a flowchart of Mermaid
    #[arg(long)]
    dot: bool,
}

const AFTER_HELP: &str = "\
Arrows are what leads where and when; dashed ones are `needs`. A hexagon waits for others.

Examples:
  flotilla graph examples/workflows/order.yaml
  flotilla graph --dot examples/workflows/order.yaml | dot -Tsvg > order.svg";

/// Draws the file.
pub fn run(global: &Global, arguments: &GraphArguments) -> Exit {
    let source = source::read(&arguments.file);
    let Some(workflow) = source.workflow() else {
        let sources = [source];
        if sources[0].is_valid() {
            let failure = Failure::refused("the file holds no workflow");
            return global.output.failure(&failure);
        }
        explain(&validate::pictures(&sources, false).join("\n\n"));
        let message = format!("nothing is drawn: {}", validate::count(&sources));
        let failure = Failure::refused(message).of_kind("invalid_definition");
        return global.output.failure(&failure);
    };
    let (form, text) = if arguments.dot {
        ("dot", drawing::dot(workflow))
    } else {
        ("mermaid", drawing::mermaid(workflow))
    };
    if global.output.is_json() {
        print_json(&json!({"workflow": &*workflow.reference, "form": form, "text": text}));
    } else {
        print(&text);
    }
    Exit::Done
}
