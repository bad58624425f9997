//! Reads a file of cases: the workflow, and for each case its script and what is expected.

use std::collections::BTreeMap;
use std::sync::Arc;

use flotilla_engine::definition::Compiled;
use flotilla_engine::diagnostic::{Diagnostic, Severity};
use flotilla_engine::yaml::{Fields, Node, Reader, Value, join, literal, parse};
use flotilla_engine::{Json, Workflow, compile_inline};
use serde_json::Map;

use crate::expect::{self, Expectation};
use crate::read::{ScriptReader, value};
use crate::script::{Children, Script, TaskAnswers};

const FILE: [&str; 8] = [
    "workflow",
    "workflows",
    "cases",
    "title",
    "parameters",
    "task_results",
    "events",
    "expect",
];
const CASE: [&str; 5] = ["title", "parameters", "task_results", "events", "expect"];

/// A file whose workflow is known, and whose cases are yet to be read.
#[derive(Debug)]
pub struct TestFile<'s> {
    source: &'s str,
    node: Node,
    /// The workflow.
    pub workflow: WorkflowSource,
    /// Workflows that it may run as its children.
    pub children: Vec<WorkflowSource>,
}

/// Where the workflow of a file is.
#[derive(Debug)]
pub enum WorkflowSource {
    /// In another file, as seen from this one.
    File(String),
    /// In the file itself.
    Inline(Result<Compiled, Vec<Diagnostic>>),
}

/// One case.
#[derive(Debug)]
pub struct Case {
    /// The rule under test, one sentence.
    pub title: String,
    /// What happens.
    pub script: Script,
    /// What must be seen.
    pub expectation: Expectation,
    /// What the case asks for that cannot be played; then it can not pass.
    pub unsupported: Vec<String>,
}

/// Reads which workflow a file is about.
///
/// # Errors
///
/// All that is wrong with the file, as far as it can be said without its workflow.
pub fn open(source: &str) -> Result<TestFile<'_>, Vec<Diagnostic>> {
    let node = parse(source)?;
    let mut reader = Reader::new(source);
    let workflows = reader.fields(&node, "", &FILE, &[]).and_then(|fields| {
        let workflow = workflow(&mut reader, &node, fields);
        let children = children(&mut reader, fields);
        Some((workflow?, children))
    });
    match workflows {
        Some((workflow, children)) if reader.diagnostics.is_empty() => Ok(TestFile {
            source,
            node,
            workflow,
            children,
        }),
        Some(_) | None => Err(reader.diagnostics),
    }
}

fn workflow(reader: &mut Reader, node: &Node, fields: Fields) -> Option<WorkflowSource> {
    let Some(workflow) = fields.get("workflow") else {
        let mut place = node.place.clone();
        place.span.end = place.span.start;
        let message = "a file of cases needs its `workflow`";
        let hint = "`workflow: order.yaml`, a path as seen from this file; or the workflow itself";
        reader.error("missing_key", &place, "", message).hint = Some(hint.to_owned());
        return None;
    };
    source_of(reader, workflow, "workflow")
}

/// The workflows that may be run as children.
fn children(reader: &mut Reader, fields: Fields) -> Vec<WorkflowSource> {
    let Some(node) = fields.get("workflows") else {
        return Vec::new();
    };
    let items = reader.list(node, "workflows", "a list of paths, or of workflows");
    let sources = items.iter().enumerate();
    sources
        .filter_map(|(index, item)| source_of(reader, item, &format!("workflows[{index}]")))
        .collect()
}

fn source_of(reader: &mut Reader, node: &Node, path: &str) -> Option<WorkflowSource> {
    match &node.value {
        Value::Text(file) => Some(WorkflowSource::File(file.clone())),
        Value::Map(_) => Some(WorkflowSource::Inline(compile_inline(
            reader.source(),
            node,
        ))),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::List(_) => {
            reader.wrong_type(node, path, "a path, or a workflow");
            None
        }
    }
}

impl TestFile<'_> {
    /// Reads the cases, which name tasks of the workflow.
    ///
    /// # Errors
    ///
    /// All that is wrong with them, in the order of their places.
    pub fn cases(&self, workflow: &Arc<Workflow>) -> Result<Vec<Case>, Vec<Diagnostic>> {
        self.cases_with(workflow, &Children::new())
    }

    /// As [`TestFile::cases`], of a workflow that may run others as its children.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn cases_with(
        &self,
        workflow: &Arc<Workflow>,
        children: &Children,
    ) -> Result<Vec<Case>, Vec<Diagnostic>> {
        let mut reader = Reader::new(self.source);
        let cases = self.read(&mut reader, workflow, children);
        let mut found = reader.diagnostics;
        found.sort_by_key(|found| (found.span.start, found.line, found.column));
        if found.iter().any(|found| found.severity == Severity::Error) {
            return Err(found);
        }
        Ok(cases)
    }

    /// Whether each case expects that the workflow is refused.
    #[must_use]
    pub fn expects_invalid(&self) -> bool {
        let Value::Map(entries) = &self.node.value else {
            return false;
        };
        let fields = Fields(entries);
        let says_so = |fields: Fields| {
            let Some(Value::Map(expect)) = fields.get("expect").map(|node| &node.value) else {
                return false;
            };
            let status = Fields(expect).get("status").map(|node| &node.value);
            matches!(status, Some(Value::Text(word)) if word == "invalid")
        };
        match fields.get("cases").map(|node| &node.value) {
            Some(Value::List(cases)) => cases
                .iter()
                .all(|case| matches!(&case.value, Value::Map(entries) if says_so(Fields(entries)))),
            Some(_) => false,
            None => says_so(fields),
        }
    }

    fn read(&self, reader: &mut Reader, workflow: &Workflow, children: &Children) -> Vec<Case> {
        let Some(fields) = reader.fields(&self.node, "", &FILE, &[]) else {
            return Vec::new();
        };
        let mut reader = CaseReader {
            reader,
            workflow,
            children,
            shared: Shared::default(),
        };
        let Some((key, cases)) = fields.entry("cases") else {
            return vec![reader.case(&self.node, fields, "", 0)];
        };
        for name in ["title", "events", "expect"] {
            if let Some((key, _)) = fields.entry(name) {
                let message = format!("`{name}` belongs to a case; this file has a list of them");
                reader
                    .reader
                    .error("unknown_key", &key.place, name, message);
            }
        }
        reader.shared = reader.shared(fields, "");
        let items = reader.reader.list(cases, "cases", "a list of cases");
        if items.is_empty() && matches!(cases.value, Value::List(_)) {
            let message = "a file needs at least one case";
            reader
                .reader
                .error("missing_key", &key.place, "cases", message);
        }
        let mut read = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let path = format!("cases[{index}]");
            if let Some(fields) = reader.reader.fields(item, &path, &CASE, &[]) {
                read.push(reader.case(item, fields, &path, index));
            }
        }
        read
    }
}

/// What all cases of a file have in common.
#[derive(Default)]
struct Shared {
    parameters: Map<String, serde_json::Value>,
    answers: BTreeMap<String, TaskAnswers>,
    unsupported: Vec<String>,
}

struct CaseReader<'r, 's> {
    reader: &'r mut Reader<'s>,
    workflow: &'r Workflow,
    children: &'r Children,
    shared: Shared,
}

impl<'s> CaseReader<'_, 's> {
    fn script(&mut self) -> ScriptReader<'_, 's> {
        ScriptReader {
            reader: self.reader,
            workflow: self.workflow,
            children: self.children,
            unsupported: Vec::new(),
        }
    }

    fn shared(&mut self, fields: Fields, path: &str) -> Shared {
        let mut parameters = Map::new();
        if let Some(node) = fields.get("parameters") {
            for (key, node) in self.reader.map(node, &join(path, "parameters")) {
                parameters.insert(key.text.clone(), value(&literal(&node.value)));
            }
        }
        let mut script = self.script();
        let answers = fields
            .get("task_results")
            .map(|node| script.answers(node, &join(path, "task_results")));
        Shared {
            parameters,
            answers: answers.unwrap_or_default(),
            unsupported: script.unsupported,
        }
    }

    /// A case; what it says of a parameter or a task wins over what the file says.
    fn case(&mut self, node: &Node, fields: Fields, path: &str, index: usize) -> Case {
        let own = self.shared(fields, path);
        let mut parameters = self.shared.parameters.clone();
        parameters.extend(own.parameters);
        let mut answers = self.shared.answers.clone();
        answers.extend(own.answers);
        let title = fields.get("title").and_then(|node| {
            self.reader
                .text(node, &join(path, "title"))
                .map(str::to_owned)
        });
        let mut unsupported = self.shared.unsupported.clone();
        unsupported.extend(own.unsupported);
        let mut script = self.script();
        let events = fields
            .get("events")
            .map(|node| script.events(node, &join(path, "events")));
        let expectation = fields
            .get("expect")
            .map(|node| expect::read(&mut script, node, &join(path, "expect")));
        unsupported.append(&mut script.unsupported);
        let expectation = expectation.unwrap_or_else(|| {
            let mut place = node.place.clone();
            place.span.end = place.span.start;
            let message = "a case needs `expect`, else it tests nothing";
            self.reader.error("missing_key", &place, path, message);
            Expectation::default()
        });
        Case {
            title: title.unwrap_or_else(|| format!("case {}", index + 1)),
            script: Script {
                parameters: Some(Json::of(&parameters)),
                answers,
                events: events.unwrap_or_default(),
                children: self.children.clone(),
            },
            expectation,
            unsupported,
        }
    }
}
