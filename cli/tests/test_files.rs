//! `flotilla test` on real files: the examples pass, what differs is shown, mistakes are drawn.

mod binary;

use std::path::Path;
use std::process::Output;

use serde_json::Value;

use binary::{flotilla, stdout};

fn test(arguments: &[&str]) -> Output {
    flotilla(&[&["test"], arguments].concat())
}

fn json(arguments: &[&str]) -> (Option<i32>, Value) {
    let output = test(&[arguments, &["-o", "json"]].concat());
    let document = serde_json::from_slice(&output.stdout).expect("one JSON document");
    (output.status.code(), document)
}

/// A file of cases in a folder of its own.
fn written(name: &str, text: &str) -> String {
    let folder = std::env::temp_dir().join(format!("flotilla-test-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a temporary folder");
    let file = folder.join(name);
    std::fs::write(&file, text).expect("it can be written");
    file.to_str().expect("text").to_owned()
}

#[test]
fn all_cases_of_the_examples_pass() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let files = case_files(&folder);
    assert!(files.len() >= 2, "{files:?}");
    let arguments: Vec<&str> = files.iter().map(String::as_str).collect();
    let output = test(&arguments);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    for part in [
        "pass  A large order",
        "failures without a handler",
        "all passed",
    ] {
        assert!(text.contains(part), "{part} is missing in:\n{text}");
    }
}

/// All files of cases below a folder.
fn case_files(folder: &Path) -> Vec<String> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("it can be read") {
        let path = entry.expect("an entry").path();
        let text = path.to_str().expect("text");
        if path.is_dir() {
            files.extend(case_files(&path));
        } else if text.ends_with(".test.yaml") {
            files.push(text.to_owned());
        }
    }
    files
}

#[test]
fn what_differs_is_shown_with_the_failure_that_nothing_handles() {
    let output = test(&["files/differs.test.yaml"]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for part in [
        "FAIL  case 1  (failed after 1 s)",
        "- expected \"succeeded\"",
        "+ seen     \"failed\"",
        "runs.charge",
        "nothing handles that reserve failed (sold_out: none left)",
        "in no case ran: back_order, charge",
        "add `on_failure: TASK`",
        "1 case, 1 failed",
    ] {
        assert!(text.contains(part), "{part} is missing in:\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "no colours in a pipe: {text:?}");
    let help = "a task that `runs` does not name must not run";
    assert!(!text.contains(help), "no such task ran:\n{text}");
}

#[test]
fn a_task_that_runs_without_being_named_is_explained() {
    let case = "workflow: {ref: a.b, tasks: [{name: x, on_success: y}, {name: y}]}\nexpect: {runs: {x: 1}}\n";
    let name = format!("flotilla-unnamed-{}.test.yaml", std::process::id());
    let file = std::env::temp_dir().join(name);
    std::fs::write(&file, case).expect("it can be written");
    let output = test(&[file.to_str().expect("text")]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let help = "help: a task that `runs` does not name must not run; name all that do";
    assert_eq!(text.matches(help).count(), 1, "{text}");
}

#[test]
fn scripts_get_the_same_as_one_document() {
    let (code, document) = json(&["files/differs.test.yaml"]);
    assert_eq!(code, Some(1));
    assert_eq!(document["passed"], false);
    let case = &document["cases"][0];
    assert_eq!(case["file"], "files/differs.test.yaml");
    assert_eq!(case["passed"], false);
    assert_eq!(case["errors"][0]["kind"], "sold_out");
    let differences = case["differences"].as_array().expect("a list");
    let at: Vec<&str> = differences
        .iter()
        .filter_map(|one| one["at"].as_str())
        .collect();
    assert_eq!(at, ["status", "errors", "runs.charge"]);
    assert_eq!(differences[0]["expected"], "succeeded");
    assert_eq!(differences[0]["seen"], "failed");
    assert_eq!(document["without_handler"][0]["task"], "reserve");
    assert_eq!(document["never_ran"][0]["task"], "back_order");
}

#[test]
fn a_file_that_cannot_be_used_is_drawn() {
    let output = test(&["files/mistaken.test.yaml"]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    for part in [
        "error[unknown_task]",
        "--> files/mistaken.test.yaml:4:3\n",
        "did you mean charge?",
        "error[wrong_type]",
        "--> files/mistaken.test.yaml:7:39\n",
    ] {
        assert!(text.contains(part), "{part} is missing in:\n{text}");
    }
    let (code, document) = json(&["files/mistaken.test.yaml"]);
    assert_eq!(code, Some(2));
    assert_eq!(document["error"]["kind"], "invalid_test");
    assert_eq!(document["errors"][0]["line"], 4);
}

#[test]
fn a_missing_file_and_an_invalid_workflow_are_unusable() {
    let (code, document) = json(&["files/no-such-file.test.yaml"]);
    assert_eq!(
        (code, &document["errors"][0]["code"]),
        (Some(2), &"unreadable".into())
    );
    let lost = written(
        "lost.test.yaml",
        "workflow: nowhere.yaml\nexpect: {status: invalid}\n",
    );
    let (code, document) = json(&[&lost]);
    assert_eq!(
        (code, &document["errors"][0]["code"]),
        (Some(2), &"unreadable".into())
    );
    let bad = "ref: a.b\ntasks: [{name: x, on_success: y}]\n";
    written("bad.yaml", bad);
    let case = written(
        "bad.test.yaml",
        "workflow: bad.yaml\nexpect: {status: failed}\n",
    );
    let (code, document) = json(&[&case]);
    assert_eq!(
        (code, &document["errors"][0]["code"]),
        (Some(2), &"unknown_target".into())
    );
    let case = written(
        "bad2.test.yaml",
        "workflow: bad.yaml\nexpect: {status: invalid}\n",
    );
    let (code, document) = json(&[&case]);
    assert_eq!((code, &document["passed"]), (Some(0), &true.into()));
}

#[test]
fn what_is_not_supported_does_not_pass() {
    let text = "
workflow: {ref: a.b, tasks: [{name: x, action: a.b}]}
events: [{at: 1, do: signal}]
expect: {status: succeeded}
";
    let (code, document) = json(&[&written("signal.test.yaml", text)]);
    assert_eq!(code, Some(1));
    let case = &document["cases"][0];
    assert_eq!(case["passed"], false);
    assert_eq!(case["differences"], serde_json::json!([]));
    assert!(
        case["unsupported"][0]
            .as_str()
            .is_some_and(|why| why.contains("signal"))
    );
}

#[test]
fn an_execution_that_never_ends_is_said_to() {
    let text = "
workflow: {ref: a.b, tasks: [{name: x, action: a.b, timeout: null}]}
task_results: {x: {status: never}}
expect: {status: succeeded}
";
    let output = test(&[&written("never.test.yaml", text)]);
    assert_eq!(output.status.code(), Some(1));
    let text = stdout(&output);
    assert!(
        text.contains("(running, and nothing more happens)"),
        "{text}"
    );
}

#[test]
fn folders_of_workflows_are_read_without_their_cases() {
    let output = flotilla(&["validate", "../../examples/workflows"]);
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
}
