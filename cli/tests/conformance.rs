//! `flotilla conformance` on real cases: what is shown, and with which code it exits.

mod binary;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use binary::{flotilla, stdout};

const RIGHT: &str = "
workflow: {tasks: {a: {action: demo.work, input: {x: {$add: [1, 2]}}}}}
expect: {status: succeeded, inputs: {a: [{x: 3}]}}
";
const WRONG: &str = "
workflow: {tasks: {a: {action: demo.work}}}
expect: {status: failed}
";

/// A folder of cases.
fn folder(name: &str, cases: &[(&str, &str)]) -> PathBuf {
    let name = format!("flotilla-conformance-{}-{name}", std::process::id());
    let folder = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&folder).expect("a temporary folder");
    for (file, text) in cases {
        std::fs::write(folder.join(file), text).expect("it can be written");
    }
    folder
}

fn run(folder: &Path, more: &[&str]) -> (Option<i32>, String) {
    let folder = folder.to_str().expect("text");
    let output = flotilla(&[&["conformance", folder], more].concat());
    (output.status.code(), stdout(&output))
}

#[test]
fn a_folder_is_played_and_a_failure_is_told_by_the_exit_code() {
    let cases = [("b.yaml", RIGHT), ("a.yaml", WRONG), ("notes.txt", "none")];
    let mixed = folder("mixed", &cases);
    let (code, text) = run(&mixed, &["-o", "json"]);
    assert_eq!(code, Some(1), "{text}");
    let report: Value = serde_json::from_str(&text).expect("one JSON document");
    let detail = "status: expected \"failed\", seen \"succeeded\"";
    let expected = json!({
        "cases": [
            {"file": "a.yaml", "status": "fail", "detail": detail},
            {"file": "b.yaml", "status": "pass", "detail": ""},
        ],
        "pass": 1, "fail": 1, "unsupported": 0,
    });
    assert_eq!(report, expected);
    assert_eq!(run(&mixed, &["--json"]), (Some(1), text));
    let (code, text) = run(&mixed, &[]);
    assert_eq!(code, Some(1), "{text}");
    assert_eq!(
        text,
        format!("fail a.yaml: {detail}\n1 pass, 1 fail, 0 unsupported\n")
    );
    let right = folder("right", &[("a.yaml", RIGHT)]);
    assert_eq!(run(&right, &[]).0, Some(0));
}

#[test]
fn what_is_printed_is_valid() {
    let right = folder("print", &[("a.yaml", RIGHT)]);
    let (code, text) = run(&right, &["--print"]);
    assert_eq!(code, Some(0), "{text}");
    let file = right.join("printed.yml");
    std::fs::write(&file, &text).expect("it can be written");
    let output = flotilla(&["validate", file.to_str().expect("text")]);
    assert_eq!(output.status.code(), Some(0), "{text}{}", stdout(&output));
    let (_, text) = run(&right, &["--print", "-o", "json"]);
    let report: Value = serde_json::from_str(&text).expect("one JSON document");
    let workflow = report["cases"][0]["workflows"][0].as_str().expect("text");
    assert!(workflow.contains("{{ 1 + 2 }}"), "{workflow}");
}

#[test]
fn a_folder_without_cases_is_refused() {
    let none = folder("none", &[]);
    assert_eq!(run(&none, &[]).0, Some(2));
    assert_eq!(run(&none.join("missing"), &[]).0, Some(2));
}
