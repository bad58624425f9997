//! All cases of the folder, with an exact list of those that do not pass yet.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use conformance::{Case, Report, Status, run};

/// Cases that do not pass yet, by the beginning of their names, and why. The list must shrink: a case
/// that passes, or does not pass for another reason, fails the test.
const OPEN: [(&str, Status, &str); 3] = [
    (
        "signal-02-times-out.yaml",
        Status::Unsupported,
        "tasks.answer.wait",
    ),
    (
        "signal-05-race-between-signal-and-work.yaml",
        Status::Unsupported,
        "tasks.stop.wait",
    ),
    (
        "signal-08-cancel-while-waiting.yaml",
        Status::Unsupported,
        "tasks.answer.wait",
    ),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cases")
}

fn played() -> Report {
    run(&folder()).expect("there are cases")
}

#[test]
fn all_cases_pass_but_those_that_are_listed() {
    let report = played();
    let open = report
        .cases
        .iter()
        .filter(|case| case.status != Status::Pass);
    let mut open: BTreeMap<&str, &Case> = open.map(|case| (case.file.as_str(), case)).collect();
    for (file, status, why) in OPEN {
        let case = open.remove(file);
        let case = case.unwrap_or_else(|| panic!("{file} passes: take it from the list"));
        assert_eq!(case.status, status, "{file}: {}", case.detail);
        assert!(case.detail.contains(why), "{file}: {}", case.detail);
    }
    assert!(open.is_empty(), "{open:#?}");
    assert_eq!(report.pass + OPEN.len(), report.cases.len());
    assert_eq!(report.cases.len(), 91);
}

#[test]
fn what_is_printed_is_what_the_parser_takes() {
    for case in played()
        .cases
        .iter()
        .filter(|case| case.status == Status::Pass)
    {
        let is_invalid = std::fs::read_to_string(folder().join(&case.file))
            .expect("it is there")
            .contains("status: invalid");
        let compiled = flotilla_engine::compile(&case.workflows[0]);
        // Whether a child exists is known only where all workflows are.
        let has_unknown = compiled
            .as_ref()
            .is_ok_and(|one| !one.children.is_empty() && case.workflows.len() == 1);
        let is_refused = compiled.is_err() || has_unknown;
        assert_eq!(is_refused, is_invalid, "{}: {compiled:?}", case.file);
    }
}

/// Lines of a file of the runner.
fn source(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(name);
    std::fs::read_to_string(path).expect("it is there")
}

#[test]
fn the_runner_is_small_and_knows_no_case() {
    let runner = ["lib.rs", "translate.rs", "expression.rs"]
        .map(source)
        .concat();
    assert!(runner.lines().count() <= 500, "{}", runner.lines().count());
    for case in played().cases {
        let name = case.file.trim_end_matches(".yaml");
        assert!(!runner.contains(name), "{name}");
    }
}
