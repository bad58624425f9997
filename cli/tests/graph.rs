//! `graph` and `schema` on real files, in each form of output.

mod binary;

use std::process::Output;

use serde_json::Value;

use binary::{flotilla, stdout};

const FILE: &str = "../../examples/workflows/chain.yaml";

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).expect("one JSON document")
}

#[test]
fn a_workflow_is_drawn_in_either_form() {
    let mermaid = flotilla(&["graph", FILE]);
    assert_eq!(mermaid.status.code(), Some(0));
    assert!(stdout(&mermaid).starts_with("flowchart TD\n    start((start))\n"));
    let dot = flotilla(&["graph", FILE, "--dot"]);
    assert_eq!(dot.status.code(), Some(0));
    assert!(stdout(&dot).starts_with("digraph \"examples.chain\" {\n"));
    assert!(stdout(&dot).ends_with("}\n"));

    for (arguments, form, text) in [(&[][..], "mermaid", &mermaid), (&["--dot"], "dot", &dot)] {
        let output = flotilla(&[&["graph", FILE, "-o", "json"], arguments].concat());
        let document = json(&output);
        assert_eq!(document["workflow"], "examples.chain");
        assert_eq!(document["form"], form);
        assert_eq!(document["text"].as_str(), Some(stdout(text).trim_end()));
    }
}

#[test]
fn a_file_with_mistakes_is_not_drawn() {
    let output = flotilla(&["graph", "files/five-mistakes.yaml"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(stdout(&output), "");
    let told = String::from_utf8(output.stderr).expect("text");
    assert_eq!(told.matches("error[").count(), 5, "{told}");
    assert!(told.contains("nothing is drawn: 5 errors"), "{told}");

    let output = flotilla(&["graph", "files/five-mistakes.yaml", "-o", "json"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(json(&output)["error"]["kind"], "invalid_definition");
}

#[test]
fn a_file_without_a_workflow_is_not_drawn() {
    let output = flotilla(&["graph", "../../examples/packs/orders/pack.yaml"]);
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8(output.stderr).expect("text");
    assert!(told.contains("the file holds no workflow"), "{told}");
}

#[test]
fn the_schema_is_one_json_document() {
    for arguments in [&["schema"][..], &["schema", "-o", "json"]] {
        let output = flotilla(arguments);
        assert_eq!(output.status.code(), Some(0));
        let schema = json(&output);
        assert_eq!(
            schema["$schema"],
            "https://json-schema.org/draft/2020-12/schema"
        );
        assert_eq!(schema["required"], serde_json::json!(["ref", "tasks"]));
        assert_eq!(schema["$defs"]["task"]["type"], "object");
    }
}
