//! Checks what the expressions of a definition read: names that cannot exist are refused before
//! anything runs.

use std::collections::BTreeSet;
use std::ops::Range;

use super::document::Draft;
use super::flow::Flow;
use super::graph::Graph;
use super::reader::{Moment, Reader, Site, Use};
use super::text::{did_you_mean, locate};
use crate::expression::{END_FUNCTIONS, FILTERS, FUNCTIONS, SYSTEM_FACTS, TESTS, is_end_function};
use crate::workflow::TaskIndex;

const ROOTS: [&str; 5] = ["parameters", "vars", "task", "system", "pack"];
const ITEM_ROOTS: [&str; 3] = ["item", "index", "batch"];
const TASK_FACTS: [&str; 4] = ["result", "status", "error", "visits"];

/// What the expressions of a definition read of its tasks.
#[derive(Default)]
pub(super) struct Read {
    /// Tasks that are read by name, `task.<name>`.
    pub watched: BTreeSet<TaskIndex>,
    /// Tasks whose result their own routes or `publish` read.
    pub results: BTreeSet<TaskIndex>,
    /// Variables that are read by name, `vars.<name>`.
    pub variables: BTreeSet<String>,
    /// Whether `vars` is read as a whole.
    pub all_variables: bool,
}

/// Checks all expressions; gives what they read of tasks.
pub(super) fn check(reader: &mut Reader, draft: &Draft, graph: &Graph) -> Read {
    let flow = Flow::new(draft, graph);
    let uses = std::mem::take(&mut reader.uses);
    let mut read = Read::default();
    for used in &uses {
        if reader.is_full() {
            break;
        }
        let mut checker = Checker {
            reader,
            draft,
            graph,
            flow: &flow,
            used,
            read: &mut read,
        };
        checker.check();
    }
    read
}

struct Checker<'c, 'a> {
    reader: &'c mut Reader<'a>,
    draft: &'c Draft,
    graph: &'c Graph,
    flow: &'c Flow,
    used: &'c Use,
    read: &'c mut Read,
}

impl Checker<'_, '_> {
    fn check(&mut self) {
        let names = &self.used.names;
        for (name, span) in &names.functions {
            self.function(name, span);
        }
        for span in &names.secrets {
            self.secret(span);
        }
        for (name, span) in &names.filters {
            self.known("unknown_filter", "filter", name, span, &FILTERS);
        }
        for (name, span) in &names.tests {
            self.known("unknown_test", "test", name, span, &TESTS);
        }
        for read in &names.reads {
            let rest = &read.path[1..];
            match read.path[0].as_str() {
                "parameters" => self.parameter(rest, &read.span),
                "vars" => self.variable(rest, &read.span, read.optional),
                "task" => self.task(rest, &read.span, read.dynamic),
                "system" => self.system(rest, &read.span),
                "pack" => self.pack(rest, &read.span, read.optional),
                name if ITEM_ROOTS.contains(&name) => self.item(name, &read.span),
                name => self.unknown_root(name, &read.span),
            }
        }
    }

    fn report(
        &mut self,
        code: &'static str,
        span: &Range<usize>,
        message: String,
        hint: Option<String>,
    ) {
        let place = locate(self.reader.source, &self.used.place, &self.used.text, span);
        self.reader
            .error(code, &place, &self.used.path, message)
            .hint = hint;
    }

    fn known(
        &mut self,
        code: &'static str,
        what: &str,
        name: &str,
        span: &Range<usize>,
        known: &[&'static str],
    ) {
        if !known.contains(&name) {
            let hint = did_you_mean(name, known.iter().copied());
            self.report(code, span, format!("there is no {what} `{name}`"), hint);
        }
    }

    /// A secret is for the worker alone, so it may stand in the input of an action, and nowhere else.
    fn secret(&mut self, span: &Range<usize>) {
        let message = match self.used.site {
            Site::Task(index, Moment::Before) => {
                let task = &self.draft.tasks[index];
                let rest = self.used.path.strip_prefix(task.path.as_str());
                let is_input = rest.is_some_and(|rest| rest.starts_with(".input"));
                if is_input && !task.is_workflow {
                    return;
                }
                if is_input {
                    "a sub-workflow gets no secrets: its own tasks name them"
                } else {
                    "`secret()` is known in `input` only"
                }
            }
            Site::Task(..) | Site::Default(_) | Site::Vars(_) | Site::Output(_) => {
                "`secret()` is known in `input` only"
            }
        };
        self.report("misplaced_function", span, message.to_owned(), None);
    }

    fn function(&mut self, name: &str, span: &Range<usize>) {
        if name == "secret" {
            let message = "`secret()` has a literal name and stands alone between its braces";
            let hint = "\"Bearer {{ secret('token') }}\"; the worker puts it in".to_owned();
            return self.report("misplaced_function", span, message.to_owned(), Some(hint));
        }
        if is_end_function(name) {
            if name == "result" {
                self.note_result();
            }
            if !self.sees_end() {
                let message = format!("`{name}()` is known only where a task has ended");
                let hint = "in `publish`, in the conditions of routes, in `retry.when`".to_owned();
                self.report("misplaced_function", span, message, Some(hint));
            }
            return;
        }
        if !FUNCTIONS.contains(&name) {
            let known = FUNCTIONS.iter().chain(&END_FUNCTIONS).copied();
            let hint = did_you_mean(name, known);
            self.report(
                "unknown_function",
                span,
                format!("there is no function `{name}`"),
                hint,
            );
        }
    }

    fn sees_end(&self) -> bool {
        match self.used.site {
            Site::Default(_) | Site::Vars(_) | Site::Output(_) => false,
            Site::Task(_, moment) => match moment {
                Moment::Items | Moment::Before => false,
                Moment::Attempted | Moment::Publish(_) | Moment::Ended | Moment::Route(..) => true,
            },
        }
    }

    fn note_result(&mut self) {
        match self.used.site {
            Site::Task(index, Moment::Publish(_) | Moment::Ended | Moment::Route(..)) => {
                self.read.results.insert(TaskIndex(index));
            }
            Site::Task(_, Moment::Items | Moment::Before | Moment::Attempted)
            | Site::Default(_)
            | Site::Vars(_)
            | Site::Output(_) => {}
        }
    }

    /// `item`, `index` or `batch`.
    fn item(&mut self, name: &str, span: &Range<usize>) {
        let items = match self.used.site {
            Site::Task(index, Moment::Before | Moment::Attempted) => {
                self.draft.tasks[index].items.as_ref()
            }
            Site::Task(
                _,
                Moment::Items | Moment::Publish(_) | Moment::Ended | Moment::Route(..),
            )
            | Site::Default(_)
            | Site::Vars(_)
            | Site::Output(_) => None,
        };
        let (message, hint) = match items {
            None => (
                format!("`{name}` is known only where one item of `with_items` is run"),
                "in `action`, `input`, `timeout` and `retry` of a task with `with_items`",
            ),
            Some(items) if name == "batch" && items.batch_size.is_none() => (
                "`batch` is known only beside `batch_size`".to_owned(),
                "write item",
            ),
            Some(_) => return,
        };
        self.report("misplaced_name", span, message, Some(hint.to_owned()));
    }

    fn unknown_root(&mut self, name: &str, span: &Range<usize>) {
        let hint = if is_end_function(name) || FUNCTIONS.contains(&name) {
            Some(format!("write {name}()"))
        } else if self.flow.writes(name) {
            Some(format!("write vars.{name}"))
        } else if self
            .draft
            .parameters
            .names()
            .any(|parameter| parameter == name)
        {
            Some(format!("write parameters.{name}"))
        } else {
            did_you_mean(name, ROOTS.into_iter().chain(ITEM_ROOTS))
        };
        self.report(
            "unknown_name",
            span,
            format!("there is no name `{name}`"),
            hint,
        );
    }

    fn parameter(&mut self, rest: &[String], span: &Range<usize>) {
        let Some(name) = rest.first() else { return };
        let parameters = &self.draft.parameters;
        let position = parameters.names().position(|parameter| parameter == name);
        match (position, self.used.site) {
            (Some(position), Site::Default(at)) if position >= at => {
                let message = format!("a default sees only the parameters before it, not `{name}`");
                self.report("unknown_parameter", span, message, None);
            }
            (None, _) if !parameters.is_open() => {
                let hint = did_you_mean(name, parameters.names());
                let message = format!("there is no parameter `{name}`");
                self.report("unknown_parameter", span, message, hint);
            }
            (Some(_) | None, _) => {}
        }
    }

    fn variable(&mut self, rest: &[String], span: &Range<usize>, optional: bool) {
        if let Site::Default(_) = self.used.site {
            let message = "a default sees only the parameters before it".to_owned();
            return self.report("unknown_variable", span, message, None);
        }
        let Some(name) = rest.first() else {
            self.read.all_variables = true;
            return;
        };
        if ["get", "items", "keys", "values"].contains(&name.as_str()) && !self.flow.writes(name) {
            self.read.all_variables = true;
            return;
        }
        self.read.variables.insert(name.clone());
        if self.flow.is_assigned(self.draft, name, self.used.site)
            || optional && self.flow.writes(name)
        {
            return;
        }
        if self.flow.writes(name) {
            let message = format!("no path assigns the variable `{name}` before it is read here");
            let hint =
                format!("give it a first value in `vars`, or write vars.{name} | default(…)");
            return self.report("unassigned_variable", span, message, Some(hint));
        }
        let hint = did_you_mean(name, self.flow.names());
        self.report(
            "unknown_variable",
            span,
            format!("nothing assigns the variable `{name}`"),
            hint,
        );
    }

    fn task(&mut self, rest: &[String], span: &Range<usize>, is_dynamic: bool) {
        if let Site::Default(_) | Site::Vars(_) = self.used.site {
            let message = "no task has run here yet".to_owned();
            return self.report("unknown_task", span, message, None);
        }
        let Some(name) = rest.first() else {
            let reason = if is_dynamic {
                "its name is literal"
            } else {
                "a task is read by its name"
            };
            let message = format!("{reason}: task.<name>.result");
            return self.report("unknown_task", span, message, None);
        };
        let Some(task) = self.graph.by_name.get(name) else {
            let hint = did_you_mean(name, self.graph.by_name.keys().map(String::as_str));
            return self.report(
                "unknown_task",
                span,
                format!("there is no task `{name}`"),
                hint,
            );
        };
        self.read.watched.insert(*task);
        if let Some(fact) = rest.get(1)
            && !TASK_FACTS.contains(&fact.as_str())
        {
            let hint = did_you_mean(fact, TASK_FACTS)
                .or_else(|| Some(format!("write task.{name}.result.{fact}")));
            self.report(
                "unknown_name",
                span,
                format!("a task has no `{fact}`"),
                hint,
            );
        }
    }

    fn pack(&mut self, rest: &[String], span: &Range<usize>, optional: bool) {
        let Some(fact) = rest.first() else { return };
        if fact != "config" {
            let hint = Some("write pack.config".to_owned());
            return self.report(
                "unknown_name",
                span,
                format!("there is no `pack.{fact}`"),
                hint,
            );
        }
        let Some(config) = &self.reader.pack.config else {
            let message = "this workflow lies in no pack, so it has no `pack.config`".to_owned();
            let hint = "put it into `workflows/` beside the pack's `pack.yaml`".to_owned();
            return self.report("unknown_config", span, message, Some(hint));
        };
        let Some(key) = rest
            .get(1)
            .filter(|key| !optional && !config.contains_key(*key))
        else {
            return;
        };
        let hint = did_you_mean(key, config.keys().map(String::as_str));
        let message = format!("`pack.yaml` has no `config.{key}`");
        self.report("unknown_config", span, message, hint);
    }

    fn system(&mut self, rest: &[String], span: &Range<usize>) {
        let Some(fact) = rest.first() else { return };
        if !SYSTEM_FACTS.contains(&fact.as_str()) {
            let hint = did_you_mean(fact, SYSTEM_FACTS);
            let message = format!("there is no `system.{fact}`");
            return self.report("unknown_name", span, message, hint);
        }
        let is_here = match self.used.site {
            Site::Default(_) | Site::Vars(_) => {
                !["visit", "attempt", "status"].contains(&fact.as_str())
            }
            Site::Output(_) => !["visit", "attempt"].contains(&fact.as_str()),
            Site::Task(index, _) => {
                fact != "status" || self.graph.finally.contains(&TaskIndex(index))
            }
        };
        if !is_here {
            let message = format!("`system.{fact}` is not known here");
            self.report("unknown_name", span, message, None);
        }
    }
}
