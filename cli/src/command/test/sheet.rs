//! What people see of a test: each case, what differs, and which failure has no handler.

use std::collections::BTreeMap;

use flotilla_scripted::{Difference, Unhandled};
use serde_json::Value;

use super::{CaseReport, FileReport};
use crate::command::validate::number;
use crate::output::{Shade, paint, printable};

/// All files, then one line that counts.
pub fn sheet(reports: &[(String, FileReport)]) -> String {
    let mut lines = Vec::new();
    for (file, report) in reports {
        lines.push(file.clone());
        for case in &report.cases {
            lines.extend(case_lines(case));
        }
        lines.extend(handler_lines(report));
        lines.push(String::new());
    }
    lines.push(count(reports));
    lines.join("\n")
}

fn case_lines(case: &CaseReport) -> Vec<String> {
    let word = if case.passed {
        paint("pass", Shade::Good)
    } else {
        paint("FAIL", Shade::Bad)
    };
    let ended = match case.elapsed_s {
        Some(seconds) => format!("{} after {seconds} s", case.status),
        None if ["rejected", "invalid"].contains(&case.status.as_str()) => case.status.clone(),
        None => format!("{}, and nothing more happens", case.status),
    };
    let mut lines = vec![format!(
        "  {word}  {}  {}",
        printable(&case.title),
        paint(&format!("({ended})"), Shade::Faint)
    )];
    for reason in &case.unsupported {
        lines.push(format!("        not supported: {}", printable(reason)));
    }
    for difference in &case.differences {
        lines.push(format!("        {}", printable(&difference.at)));
        let (expected, seen) = (text(&difference.expected), text(&difference.seen));
        lines.push(paint(
            &format!("          - expected {expected}"),
            Shade::Bad,
        ));
        lines.push(paint(&format!("          + seen     {seen}"), Shade::Good));
    }
    let is_unasked_run = |one: &Difference| one.at.starts_with("runs.") && one.expected == 0;
    if case.differences.iter().any(is_unasked_run) {
        let help = "        help: a task that `runs` does not name must not run; name all that do";
        lines.push(paint(help, Shade::Faint));
    }
    for error in &case.errors {
        let Some(task) = &error.task else {
            lines.push(format!("        error: {}", printable(&error.message)));
            continue;
        };
        let (kind, message) = (printable(&error.kind), printable(&error.message));
        let said = if message.is_empty() {
            kind
        } else {
            format!("{kind}: {message}")
        };
        lines.push(format!(
            "        nothing handles that {task} failed ({said})"
        ));
    }
    lines
}

fn handler_lines(report: &FileReport) -> Vec<String> {
    let mut lines = Vec::new();
    if !report.without_handler.is_empty() {
        lines.push(String::new());
        lines.push("  failures without a handler".to_owned());
    }
    let mut by_fix: BTreeMap<&str, Vec<&Unhandled>> = BTreeMap::new();
    for one in report.without_handler.values() {
        by_fix.entry(&one.fix).or_default().push(one);
    }
    for (fix, tasks) in by_fix {
        let widest = tasks.iter().map(|one| one.task.len()).max().unwrap_or(0);
        for one in tasks {
            lines.push(format!("    {:widest$}  {}", one.task, one.effect));
        }
        lines.push(paint(&format!("    help: {fix}"), Shade::Faint));
    }
    if !report.never_ran.is_empty() {
        lines.push(String::new());
        lines.push(format!("  in no case ran: {}", report.never_ran.join(", ")));
    }
    lines
}

fn count(reports: &[(String, FileReport)]) -> String {
    let cases = || reports.iter().flat_map(|(_, report)| &report.cases);
    let failed = cases().filter(|case| !case.passed).count();
    let all = number(cases().count(), "case");
    match failed {
        0 => format!("{all}, all passed"),
        failed => format!("{all}, {failed} failed"),
    }
}

fn text(value: &Value) -> String {
    printable(&value.to_string())
}
