//! `validate` on real files: five mistakes in each form, and the examples.

mod binary;

use std::process::Output;

use serde_json::Value;

use binary::{flotilla, stdout};

fn validate(arguments: &[&str]) -> Output {
    flotilla(&[&["validate"], arguments].concat())
}

fn json(arguments: &[&str]) -> (Option<i32>, Value) {
    let output = validate(arguments);
    let document = serde_json::from_slice(&output.stdout).expect("one JSON document");
    (output.status.code(), document)
}

const FILE: &str = "files/five-mistakes.yaml";

/// Code, line, column and path of each mistake in the file.
const MISTAKES: [(&str, u64, u64, &str); 5] = [
    ("template_syntax", 9, 46, "tasks[0].input.order"),
    ("unknown_key", 10, 5, "tasks[0].on_sucess"),
    ("unknown_target", 11, 17, "tasks[0].on_failure"),
    ("wrong_type", 14, 20, "tasks[1].retry.count"),
    ("duplicate_name", 17, 11, "tasks[3].name"),
];

#[test]
fn all_five_mistakes_are_drawn() {
    let output = validate(&[FILE]);
    assert_eq!(output.status.code(), Some(2));
    let text = stdout(&output);
    for (code, line, column, path) in MISTAKES {
        let place = format!("--> {FILE}:{line}:{column}\n");
        for part in [&format!("error[{code}]: "), &place, path] {
            assert!(text.contains(part), "{part} is missing in:\n{text}");
        }
    }
    assert_eq!(text.matches("= help: ").count(), 5, "{text}");
    assert!(text.ends_with("\n5 errors in 1 of 1 file\n"), "{text}");
    assert!(!text.contains('\u{1b}'), "colour without a terminal");
}

#[test]
fn one_picture_is_exactly_this() {
    let output = validate(&[FILE]);
    let expected = "\
error[unknown_key]: unknown key `on_sucess`
  --> files/five-mistakes.yaml:10:5
   |
10 |     on_sucess: price
   |     ^^^^^^^^^ tasks[0].on_sucess
   |
   = help: did you mean on_success?
";
    assert!(stdout(&output).contains(expected), "{}", stdout(&output));
}

#[test]
fn all_five_mistakes_are_in_the_document() {
    let (code, document) = json(&[FILE, "-o", "json"]);
    assert_eq!(code, Some(2));
    assert_eq!(document["valid"], false);
    assert_eq!(document["warnings"], serde_json::json!([]));
    let errors = document["errors"].as_array().expect("a list");
    assert_eq!(errors.len(), 5);
    for (error, (code, line, column, path)) in errors.iter().zip(MISTAKES) {
        assert_eq!(error["file"], FILE);
        assert_eq!(error["code"], code);
        assert_eq!(error["line"], line);
        assert_eq!(error["column"], column);
        assert_eq!(error["path"], path);
        for text in ["message", "hint"] {
            assert!(
                !error[text].as_str().unwrap_or_default().is_empty(),
                "{error}"
            );
        }
    }
}

#[test]
fn all_five_mistakes_are_annotations() {
    let output = validate(&[FILE, "-o", "github"]);
    assert_eq!(output.status.code(), Some(2));
    let text = stdout(&output);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 5, "{text}");
    for (line, (_, row, column, _)) in lines.iter().zip(MISTAKES) {
        let start = format!("::error file={FILE},line={row},col={column}::");
        assert!(line.starts_with(&start), "{line}");
    }
    assert!(
        lines[1].ends_with("::unknown key `on_sucess` (did you mean on_success?)"),
        "{text}"
    );
}

#[test]
fn all_examples_are_valid() {
    let (code, document) = json(&["../../examples/workflows", "-o", "json"]);
    assert_eq!(document["errors"], serde_json::json!([]));
    assert_eq!(document["valid"], true);
    assert_eq!(code, Some(0));
}

#[test]
fn one_bad_file_among_good_ones_is_named() {
    let good = "../../examples/workflows/single.yaml";
    let output = validate(&[good, FILE]);
    assert_eq!(output.status.code(), Some(2));
    let text = stdout(&output);
    assert!(text.ends_with("\n5 errors in 1 of 2 files\n"), "{text}");
}

#[test]
fn a_file_that_is_not_there_is_an_error_at_its_name() {
    let (code, document) = json(&["files/nowhere.yaml", "-o", "json"]);
    assert_eq!(code, Some(2));
    assert_eq!(document["errors"][0]["code"], "unreadable");
    assert_eq!(document["errors"][0]["file"], "files/nowhere.yaml");
}

const WARNED: &str = "files/warned.yaml";

#[test]
fn warnings_are_shown_in_each_form_and_are_no_errors() {
    let drawn = validate(&[WARNED]);
    assert_eq!(drawn.status.code(), Some(0));
    let expected = "\
warning[several_entries]: several transitions lead to `charge`: it runs once for each that is taken
 --> files/warned.yaml:7:12
  |
7 |   - {name: charge}
  |            ^^^^^^ tasks[3]
  |
  = help: write `join: all` if all of them are taken and it shall wait for all
";
    assert!(stdout(&drawn).contains(expected), "{}", stdout(&drawn));
    assert!(stdout(&drawn).ends_with("\n1 file is valid, 2 warnings\n"));

    let (code, document) = json(&[WARNED, "-o", "json"]);
    assert_eq!(code, Some(0));
    assert_eq!(document["valid"], true);
    assert_eq!(document["errors"], serde_json::json!([]));
    let warnings = document["warnings"].as_array().expect("a list");
    let codes: Vec<_> = warnings.iter().map(|warning| &warning["code"]).collect();
    assert_eq!(codes, ["unused_variable", "several_entries"]);

    let annotated = validate(&[WARNED, "-o", "github"]);
    assert_eq!(annotated.status.code(), Some(0));
    let expected = "\
::warning file=files/warned.yaml,line=2,col=8::nothing reads the variable `unread` (remove it, or \
read vars.unread where it was meant)
::warning file=files/warned.yaml,line=7,col=12::several transitions lead to `charge`: it runs once \
for each that is taken (write `join: all` if all of them are taken and it shall wait for all)
";
    assert_eq!(stdout(&annotated), expected);
}
