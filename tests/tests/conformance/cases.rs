//! Which cases a fleet plays: those that pass in process, end, and have no limits of
//! time.

use std::collections::BTreeMap;
use std::path::Path;

use conformance::{Status, run};
use flotilla_engine::compile;
use flotilla_engine::yaml::{literal, parse};
use flotilla_scripted::{Action, Expectation, Script, Seen, Step, library, open, play};
use serde_json::{Value, json};

/// The pack that all translated workflows are in.
const PACK: &str = "neutral.";
/// Limits of time. Under them an answer that is late is another answer.
const LIMITS: [&str; 3] = ["timeout", "total_timeout", "heartbeat"];
/// The longest that a case with delays may take, in seconds: these pass in real time, too.
const LONGEST_S: f64 = 10.0;
/// Steps of a case that are done one after another within seconds.
const MOST_STEPS: usize = 500;

/// A case that a fleet can play.
#[derive(Debug)]
pub struct Playable {
    /// Its file.
    pub file: String,
    /// The pack that its workflows alone are in.
    pub pack: String,
    /// Its workflows, the one under test first.
    pub workflows: Vec<Value>,
    /// What workers answer, and what happens from outside.
    pub script: Script,
    /// What must be seen in real time, too.
    pub expectation: Expectation,
    /// What was seen in virtual time.
    pub played: Seen,
}

impl Playable {
    /// Reference of the workflow under test.
    pub fn reference(&self) -> &str {
        self.workflows[0]["ref"].as_str().expect("it has one")
    }
}

/// All that can be played, and how many cases cannot, by reason.
pub fn playable() -> (Vec<Playable>, BTreeMap<&'static str, usize>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance/cases");
    let report = run(&folder).expect("there are cases");
    let (mut chosen, mut left_out) = (Vec::new(), BTreeMap::new());
    for (number, case) in report.cases.iter().enumerate() {
        let source = std::fs::read_to_string(folder.join(&case.file)).expect("it is there");
        match judge(number, case, &source) {
            Ok(playable) => chosen.push(playable),
            Err(reason) => *left_out.entry(reason).or_insert(0) += 1,
        }
    }
    (chosen, left_out)
}

/// Reads a case; an error is why it is left out.
fn judge(number: usize, case: &conformance::Case, source: &str) -> Result<Playable, &'static str> {
    if case.status != Status::Pass {
        return Err("it does not pass in process");
    }
    let neutral = read(source);
    if neutral["expect"]["status"] == "invalid" {
        return Err("it is refused at registration");
    }
    let pack = format!("neutral{number}");
    let workflows = case.workflows.iter();
    let workflows: Vec<Value> = workflows.map(|text| in_pack(read(text), &pack)).collect();
    if workflows.iter().any(is_limited) {
        return Err("it has limits of time");
    }
    let texts = workflows.iter().map(Value::to_string);
    let compiled: Vec<_> = texts
        .map(|text| compile(&text).expect("it passed before"))
        .collect();
    let (children, _) = library(compiled.iter());
    let workflow = &compiled[0].workflow;
    let file = file_of(&neutral, &workflows[0]);
    let cases = open(&file).and_then(|file| file.cases_with(workflow, &children));
    let case_of = cases.expect("it was read before").remove(0);
    let played = play(workflow, &case_of.script);
    if played.status == "rejected" {
        return Err("it is refused at the start");
    }
    if !played.is_final {
        return Err("it does not end");
    }
    let is_long = played
        .elapsed_s
        .is_none_or(|elapsed_s| elapsed_s > LONGEST_S);
    if is_long && played.steps.contains(&Step::TimerFired) {
        return Err("it waits for long");
    }
    if played.steps.contains(&Step::Acted(Action::Restart)) {
        return Err("it says itself when a coordinator dies");
    }
    let is_rerun = |step: &Step| matches!(step, Step::Acted(Action::Rerun(_)));
    if played.steps.iter().any(is_rerun) {
        return Err("it is run again");
    }
    if played.steps.len() > MOST_STEPS {
        return Err("it takes too many steps");
    }
    Ok(Playable {
        file: case.file.clone(),
        pack,
        workflows,
        script: case_of.script,
        expectation: case_of.expectation.without_times(),
        played,
    })
}

fn read(text: &str) -> Value {
    let node = parse(text).expect("it was parsed before");
    serde_json::from_str(literal(&node.value).text()).expect("it is JSON")
}

/// The workflow in a pack of its own, and so its children.
fn in_pack(mut workflow: Value, pack: &str) -> Value {
    let renamed = |name: &Value| {
        let name = name.as_str().and_then(|name| name.strip_prefix(PACK));
        name.map(|name| json!(format!("{pack}.{name}")))
    };
    workflow["ref"] = renamed(&workflow["ref"]).expect("it is in the pack");
    for task in workflow["tasks"].as_array_mut().into_iter().flatten() {
        if let Some(action) = renamed(&task["action"]) {
            task["action"] = action;
        }
    }
    workflow
}

/// Whether a limit of time has a value, at any depth.
fn is_limited(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.iter().any(|(key, value)| {
            (LIMITS.contains(&key.as_str()) && !value.is_null()) || is_limited(value)
        }),
        Value::Array(items) => items.iter().any(is_limited),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// The case as a file of our own form, in which its workflow is ours.
fn file_of(neutral: &Value, workflow: &Value) -> String {
    let mut file = json!({"workflow": workflow});
    for (theirs, ours) in [
        ("inputs", "parameters"),
        ("task_results", "task_results"),
        ("events", "events"),
        ("expect", "expect"),
    ] {
        if let Some(value) = neutral.get(theirs) {
            file[ours] = value.clone();
        }
    }
    file.to_string()
}
