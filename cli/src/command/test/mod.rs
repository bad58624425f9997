//! `test`: plays the cases of a file in virtual time, and says which failure has no handler.

mod sheet;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use flotilla_engine::Workflow;
use flotilla_engine::diagnostic::Severity;
use flotilla_scripted::{Case, Difference, Unhandled, WorkflowSource, open, play, unhandled};
use serde::Serialize;
use serde_json::json;

use super::validate;
use crate::arguments::Global;
use crate::failure::{Exit, Failure};
use crate::output::{explain, is_colourful, print, print_json};
use crate::source::{self, Source};

/// What `test` takes.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct TestArguments {
    /// Files of cases
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

const AFTER_HELP: &str = "\
A file names its workflow and what is scripted and expected:

  workflow: order.yaml                # as seen from this file; or the workflow itself
  workflows: [charge.yaml]            # what it runs as sub-workflows, likewise
  cases:                              # or one case at the top level
    - title: A declined payment cancels the order
      parameters: {order_id: 7}
      task_results:                   # what is not named succeeds after a second, with null
        charge: {status: failed, error: {kind: payment_declined, retryable: false}}
      events:
        - {at: 0.5, do: check}
      expect:
        status: succeeded
        runs: {reserve: 1, charge: 1, cancel_order: 1}
        output: {state: cancelled}

A task_result is one answer, a list of them for the first, second, … execution, or {items: {0: …}, \
default: …}. An answer has status (succeeded, failed, timed_out, lost, never), result, echo, error, \
takes, duplicates, duplicate_gap, on_cancel and silent_after. Events are pause, resume, cancel, check, \
restart_coordinator, start_again and rerun (with from, reset_items, parameters and vars; \
`after: final` in place of `at`: a second after the end). Time is virtual, in seconds from the start.

What is expected, all of it optional:
  status           of the execution; `rejected`: its parameters are refused, `invalid`: the workflow is
  output, vars     its output; of its variables those that are named
  runs             how often each task was visited; one that is not named must not have run
  executions       attempts of each named task; item_executions: of each of its items
  task_status      how each named task ended; skipped, omitted: lists of tasks
  errors           failures that nothing handled, each by some of its fields: [{task: charge, kind: …}]
  inputs, actions  of each named task, a list with one for each attempt
  order, overlap   pairs of tasks: the first before the second; both at once
  sequence         all starts, in order; max_parallel: attempts of a named task at once, at most
  elapsed          seconds until the end; started_at: those at which each named task was started
  checkpoints      the status at a time: what {do: check} of the events saw
  start_count      executions that were made; stale_results: answers that had no effect
A task of a sub-workflow has the name of the workflow before its own, without the pack: charge.pay.

Each task that ran is also made to fail once; where nothing would handle that, it is said.

Exit codes: 0 all cases pass; 1 a case does not; 2 a file cannot be used.

Example: flotilla test examples/workflows/order.test.yaml";

/// What became of one case.
#[derive(Debug, Serialize)]
pub struct CaseReport {
    file: String,
    title: String,
    passed: bool,
    /// Why it could not be played as written.
    unsupported: Vec<String>,
    differences: Vec<Difference>,
    /// How the execution ended.
    status: String,
    elapsed_s: Option<f64>,
    /// What failed in it without a handler.
    errors: Vec<flotilla_engine::execution::ExecutionError>,
}

/// What is known of one file.
#[derive(Debug, Default)]
pub struct FileReport {
    cases: Vec<CaseReport>,
    /// By the position of the task in the workflow.
    without_handler: BTreeMap<usize, Unhandled>,
    never_ran: Vec<String>,
}

/// Plays all cases of all files, if all files can be used.
pub fn run(global: &Global, arguments: &TestArguments) -> Exit {
    let mut reports = Vec::new();
    let mut unusable = Vec::new();
    for file in &arguments.files {
        match test(file) {
            Ok(report) => reports.push((file.display().to_string(), report)),
            Err(source) => unusable.push(*source),
        }
    }
    if !unusable.is_empty() {
        return refuse(global, &unusable);
    }
    let passed = reports
        .iter()
        .all(|(_, report)| report.cases.iter().all(|case| case.passed));
    if global.output.is_json() {
        print_json(&document(passed, &reports));
    } else {
        print(&sheet::sheet(&reports));
    }
    if passed {
        Exit::Done
    } else {
        Exit::NotSucceeded
    }
}

fn document(passed: bool, reports: &[(String, FileReport)]) -> serde_json::Value {
    let cases: Vec<&CaseReport> = reports
        .iter()
        .flat_map(|(_, report)| &report.cases)
        .collect();
    let of_files = reports.iter();
    let without_handler: Vec<_> = of_files
        .clone()
        .flat_map(|(file, report)| {
            report.without_handler.values().map(move |one| {
                json!({"file": file, "task": one.task, "effect": one.effect, "fix": one.fix})
            })
        })
        .collect();
    let never_ran: Vec<_> = of_files
        .flat_map(|(file, report)| {
            let tasks = report.never_ran.iter();
            tasks.map(move |task| json!({"file": file, "task": task}))
        })
        .collect();
    json!({
        "passed": passed, "cases": cases, "without_handler": without_handler, "never_ran": never_ran
    })
}

/// Shows what is wrong with the files that cannot be used.
fn refuse(global: &Global, sources: &[Source]) -> Exit {
    let failure = Failure::refused(format!("nothing is tested: {}", validate::count(sources)))
        .of_kind("invalid_test");
    if global.output.is_json() {
        let mut document = failure.json();
        let errors: Vec<_> = validate::findings(sources, Severity::Error).collect();
        document["errors"] = json!(errors);
        print_json(&document);
    } else {
        for picture in validate::pictures(sources, is_colourful()) {
            print(&picture);
            print("");
        }
    }
    explain(&failure.text());
    failure.exit()
}

/// Plays the cases of a file; `Err` is the file that cannot be used, with what is wrong.
fn test(path: &Path) -> Result<FileReport, Box<Source>> {
    let text = source::text(path)?;
    let file = path.display().to_string();
    let refused = |findings| Box::new(Source::invalid(path, text.clone(), findings));
    let opened = open(&text).map_err(refused)?;
    let expects_invalid = opened.expects_invalid();
    let mut workflows = Vec::new();
    for source in std::iter::once(&opened.workflow).chain(&opened.children) {
        match source {
            WorkflowSource::Inline(Ok(compiled)) => workflows.push(Arc::clone(&compiled.workflow)),
            WorkflowSource::Inline(Err(_)) if expects_invalid => return Ok(invalid(&file)),
            WorkflowSource::Inline(Err(findings)) => return Err(refused(findings.clone())),
            WorkflowSource::File(name) => {
                let folder = path.parent().unwrap_or(Path::new(""));
                let source = source::read(&folder.join(name));
                match source.workflow() {
                    Some(workflow) => workflows.push(Arc::clone(workflow)),
                    None if expects_invalid && !source.text.is_empty() => {
                        return Ok(invalid(&file));
                    }
                    None => return Err(Box::new(source)),
                }
            }
        }
    }
    let workflow = Arc::clone(&workflows[0]);
    let children = workflows
        .into_iter()
        .map(|workflow| (workflow.reference.to_string(), workflow));
    let cases = opened.cases_with(&workflow, &children.collect());
    Ok(report(&file, &workflow, &cases.map_err(refused)?))
}

/// The workflow is refused, as the file expects.
fn invalid(file: &str) -> FileReport {
    let case = CaseReport {
        file: file.to_owned(),
        title: "the workflow is refused".to_owned(),
        passed: true,
        unsupported: Vec::new(),
        differences: Vec::new(),
        status: "invalid".to_owned(),
        elapsed_s: None,
        errors: Vec::new(),
    };
    FileReport {
        cases: vec![case],
        ..FileReport::default()
    }
}

fn report(file: &str, workflow: &Arc<Workflow>, cases: &[Case]) -> FileReport {
    let mut report = FileReport::default();
    let mut ran = std::collections::BTreeSet::new();
    for case in cases {
        let seen = play(workflow, &case.script);
        let differences = case.expectation.compare(&seen);
        for one in unhandled(workflow, &case.script, &seen) {
            if let Some(index) = workflow.by_name.get(one.task.as_str()) {
                report.without_handler.entry(index.0).or_insert(one);
            }
        }
        ran.extend(seen.starts.iter().map(|(_, task, _)| Arc::clone(task)));
        report.cases.push(CaseReport {
            file: file.to_owned(),
            title: case.title.clone(),
            passed: differences.is_empty() && case.unsupported.is_empty(),
            unsupported: case.unsupported.clone(),
            differences,
            status: seen.status,
            elapsed_s: seen.elapsed_s,
            errors: seen.errors,
        });
    }
    let tasks = workflow.tasks.iter();
    report.never_ran = tasks
        .filter(|task| !ran.contains(&task.name))
        .map(|task| task.name.to_string())
        .collect();
    report
}
