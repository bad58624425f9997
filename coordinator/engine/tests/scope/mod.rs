//! A scope for tests of expressions: set a few values, render a template.

#![allow(dead_code, reason = "each test uses a part")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::DateTime;
use flotilla_engine::compile;
use flotilla_engine::expression::ExpressionError;
use flotilla_engine::json::Json;
use flotilla_engine::scope::{EndStatus, Ended, Scope, System, TaskView};
use flotilla_engine::variables::{Variables, Write};
use flotilla_engine::workflow::{Routes, Workflow};
use flotilla_protocol::ExecutionId;

pub struct World {
    parameters: Json,
    vars: BTreeMap<String, String>,
    known: BTreeSet<String>,
    tasks: BTreeMap<Arc<str>, Arc<TaskView>>,
    system: System,
    ended: Option<Ended>,
}

impl World {
    pub fn new() -> Self {
        let system = System {
            execution_id: ExecutionId(uuid::Uuid::nil()),
            workflow: "a.b".into(),
            version: "0.0.0".into(),
            started_at: DateTime::UNIX_EPOCH,
            parent_id: None,
            visit: Some(1),
            attempt: None,
            status: None,
            pack: None,
        };
        Self {
            parameters: Json::parse("{}".to_owned()).expect("JSON"),
            vars: BTreeMap::new(),
            known: BTreeSet::new(),
            tasks: BTreeMap::new(),
            system,
            ended: None,
        }
    }

    pub fn var(&mut self, name: &str, json: &str) {
        self.vars.insert(name.to_owned(), json.to_owned());
        self.known.insert(name.to_owned());
    }

    pub fn forget(&mut self, name: &str) {
        self.vars.remove(name);
    }

    pub fn parameters(&mut self, json: &str) {
        self.parameters = Json::parse(json.to_owned()).expect("JSON");
    }

    pub fn ran(&mut self, name: &str, result: &str) {
        let view = TaskView {
            status: EndStatus::Succeeded,
            result: Json::parse(result.to_owned()).expect("JSON"),
            error: Json::null(),
            visits: 1,
        };
        self.tasks.insert(name.into(), Arc::new(view));
    }

    pub fn ended(&mut self, result: &str) {
        self.ended = Some(Ended {
            status: EndStatus::Succeeded,
            result: Json::parse(result.to_owned()).expect("JSON"),
            error: Json::null(),
            timeout_is_failure: true,
            is_ignored: false,
        });
    }

    pub fn variables(&self) -> Variables {
        let mut variables = Variables::default();
        for (no, (name, json)) in self.vars.iter().enumerate() {
            variables.insert(Arc::new(Write {
                no: no as u64 + 1,
                name: name.as_str().into(),
                value: Json::parse(json.clone()).expect("JSON"),
                previous: None,
            }));
        }
        variables
    }

    pub fn with_scope<T>(&self, visit: impl FnOnce(&Scope) -> T) -> T {
        let vars = self.variables();
        visit(&Scope {
            parameters: &self.parameters,
            vars: &vars,
            tasks: &self.tasks,
            system: &self.system,
            item: None,
            ended: self.ended.as_ref(),
        })
    }

    /// A workflow whose last task publishes `template`, which may read all there is.
    pub fn workflow(&self, template: &str) -> Arc<Workflow> {
        self.compiled(&publish(template))
    }

    fn compiled(&self, field: &str) -> Arc<Workflow> {
        let source = self.source(field);
        compile(&source)
            .unwrap_or_else(|found| panic!("{found:#?}\n{source}"))
            .workflow
    }

    fn source(&self, field: &str) -> String {
        let vars: String = self
            .known
            .iter()
            .map(|name| format!("  {name}: null\n"))
            .collect();
        let vars = if vars.is_empty() {
            String::new()
        } else {
            format!("vars:\n{vars}")
        };
        let parameters = "parameters: {n: {}, s: {}}\n";
        format!(
            "ref: a.b\n{parameters}{vars}tasks:\n- name: last\n  {field}\n- name: fetch-it\n- name: other\n"
        )
    }

    pub fn render(&self, template: &str) -> Result<Json, ExpressionError> {
        self.render_published(&self.workflow(template))
    }

    /// Nothing where the checks of a definition refuse the template.
    pub fn render_accepted(&self, template: &str) -> Option<Result<Json, ExpressionError>> {
        let compiled = compile(&self.source(&publish(template))).ok()?;
        Some(self.render_published(&compiled.workflow))
    }

    fn render_published(&self, workflow: &Workflow) -> Result<Json, ExpressionError> {
        let published = &workflow.tasks[0].publish[0];
        let value = published.value.as_ref().expect("a value");
        self.with_scope(|scope| value.render(scope))
    }

    /// Whether a condition on a route holds.
    pub fn holds(&self, condition: &str) -> Result<bool, ExpressionError> {
        let quoted = serde_json::to_string(condition).expect("JSON");
        let workflow = self.compiled(&format!("decision: [{{when: {quoted}, next: noop}}]"));
        let Routes::First { branches, .. } = &workflow.tasks[0].routes else {
            panic!("a decision")
        };
        let condition = branches[0].when.as_ref().expect("a condition");
        self.with_scope(|scope| condition.holds(scope))
    }

    /// The rendered input of a task.
    pub fn input(&self, yaml: &str) -> Json {
        let workflow = self.compiled(&format!("input: {yaml}"));
        self.with_scope(|scope| workflow.tasks[0].input.render(scope))
            .expect("an input")
    }
}

fn publish(template: &str) -> String {
    let quoted = serde_json::to_string(template).expect("JSON");
    format!("publish: [{{out_of_it: {quoted}}}]")
}
