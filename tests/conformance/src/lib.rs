//! Plays cases of a neutral form, which belongs to no engine, on ours.
//!
//! ```text
//! case ──translate──► workflow in our language ──the real parser──► engine, scripted worker
//!   └── task_results, events, expect ──────────────────────────────► what was seen, compared
//! ```
//!
//! Each case is played twice: as it is, and with the execution made of its rows after each event. Both
//! times all that is expected must be seen.

mod expression;
mod report;
mod translate;

use std::sync::Arc;

use flotilla_engine::diagnostic::{Diagnostic, Severity};
use flotilla_engine::yaml::{literal, parse};
use flotilla_engine::{Workflow, compile};
use flotilla_scripted::{Children, Reload, library, open, play_with};
use serde_json::{Value, json};

pub use report::{Case, Report, Status, run};

/// Name of the workflow under test, which no child has.
const UNDER_TEST: &str = "case-under-test";

/// What our language has no words for is an error.
type Translated<T> = Result<T, String>;

/// A list, also where one value stands for it.
fn list(value: &Value) -> &[Value] {
    let one = std::slice::from_ref(value);
    value.as_array().map_or(one, Vec::as_slice)
}

/// The entries of an object; anything else has none.
fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

/// Plays one case.
#[must_use]
pub fn case(file: &str, source: &str) -> Case {
    let mut workflows = Vec::new();
    let judged = judge(source, &mut workflows);
    Case::new(file, judged, workflows)
}

type Judged<T> = Result<T, (Status, String)>;

fn fail<T>(detail: impl Into<String>) -> Judged<T> {
    Err((Status::Fail, detail.into()))
}

fn judge(source: &str, workflows: &mut Vec<String>) -> Judged<()> {
    let node = parse(source).or_else(|errors| fail(listed(&errors)))?;
    let mut case: Value = serde_json::from_str(literal(&node.value).text()).unwrap_or_default();
    let children = entries(&case["workflows"]).map(|(name, child)| (name.as_str(), child));
    let mut unsupported = Vec::new();
    let mut ours = Vec::new();
    for (name, workflow) in std::iter::once((UNDER_TEST, &case["workflow"])).chain(children) {
        let workflow = translate::workflow(name, workflow, &mut unsupported).or_else(fail)?;
        let text = serde_saphyr::to_string(&workflow);
        workflows.push(text.or_else(|error| fail(error.to_string()))?);
        ours.push(workflow);
    }
    let compiled: Vec<_> = workflows.iter().map(|text| compile(text)).collect();
    let refused = compiled.iter().filter_map(|one| one.as_ref().err());
    let mut refused: Vec<Diagnostic> = refused.flatten().cloned().collect();
    let (known, unknown) = library(compiled.iter().filter_map(|one| one.as_ref().ok()));
    refused.extend(unknown);
    let later = refused.iter().filter(|one| one.code == "not_supported");
    unsupported.extend(later.map(|one| one.message.clone()));
    if !unsupported.is_empty() {
        return Err((Status::Unsupported, unsupported.join("; ")));
    }
    case["workflow"] = ours.swap_remove(0);
    match compiled.into_iter().next() {
        Some(Ok(compiled)) if refused.is_empty() => compare(&case, &compiled.workflow, &known),
        _ if case["expect"]["status"] == "invalid" => refusal(&case, &refused),
        _ => fail(listed(&refused)),
    }
}

/// The definition is refused, as expected; each error that is expected must be among those found.
fn refusal(case: &Value, found: &[Diagnostic]) -> Judged<()> {
    let of_task = |found: &Diagnostic| {
        let index = found.path.strip_prefix("tasks[")?.split(']').next()?;
        case["workflow"]["tasks"][index.parse::<usize>().ok()?]["name"].as_str()
    };
    let holds = |found: &Diagnostic, key: &str, value: &Value| match key {
        "category" => value == "invalid_definition" && found.severity == Severity::Error,
        "task" => of_task(found) == value.as_str(),
        _ => false,
    };
    for (key, expected) in entries(&case["expect"]) {
        let is_so = match (key.as_str(), expected) {
            ("status", _) => true,
            ("runs", Value::Object(runs)) => runs.is_empty(),
            ("start_count", count) => count == 0,
            ("errors", errors) => list(errors).iter().all(|error| {
                let is_it = |one| entries(error).all(|(key, value)| holds(one, key, value));
                found.iter().any(is_it)
            }),
            _ => false,
        };
        if !is_so {
            let seen = listed(found);
            return fail(format!("{key}: expected {expected}, seen {seen}"));
        }
    }
    Ok(())
}

/// Plays the case as it is, and reloaded after each event.
fn compare(case: &Value, workflow: &Arc<Workflow>, children: &Children) -> Judged<()> {
    let mut file = json!({});
    for (key, value) in entries(case) {
        match key.as_str() {
            "inputs" => file["parameters"] = value.clone(),
            "workflow" | "task_results" | "events" | "expect" => file[key] = value.clone(),
            _ => {}
        }
    }
    let text = serde_saphyr::to_string(&file).or_else(|error| fail(error.to_string()))?;
    let read = open(&text).and_then(|file| file.cases_with(workflow, children));
    for script in read.or_else(|errors| fail(listed(&errors)))? {
        if !script.unsupported.is_empty() {
            return Err((Status::Unsupported, script.unsupported.join("; ")));
        }
        for reload in [Reload::AtRestarts, Reload::AfterEachEvent] {
            let seen = play_with(workflow, &script.script, reload);
            let found = script.expectation.compare(&seen);
            let lines: Vec<String> = found.iter().map(ToString::to_string).collect();
            if !lines.is_empty() {
                let when = ["", "reloaded after each event: "];
                let when = when[usize::from(reload == Reload::AfterEachEvent)];
                return fail(format!("{when}{}", lines.join("; ")));
            }
        }
    }
    Ok(())
}

fn listed(found: &[Diagnostic]) -> String {
    let errors = found.iter().filter(|one| one.severity == Severity::Error);
    let lines = errors.map(|one| format!("{}: {}", one.path, one.message));
    lines.collect::<Vec<_>>().join("; ")
}
