//! A workflow as a picture in words: what a graph shows of it, for [`mermaid`] and [`dot`] to write.

mod dot;
mod mermaid;

pub use dot::dot;
pub use mermaid::mermaid;

use crate::expression::{Condition, ValueTemplate};
use crate::rule::RULES;
use crate::workflow::{Branch, Join, On, Route, Routes, Targets, Task, Workflow};

/// What is drawn.
struct Drawing<'w> {
    workflow: &'w Workflow,
    edges: Vec<Edge>,
}

/// How a language writes what is drawn.
struct Form {
    task: fn(&Task) -> String,
    /// `fail` or `noop`, by its name in the drawing.
    order: fn(&str) -> String,
    /// The lines that open the frame around the tasks of `finally`, and the one that closes it.
    finally: (&'static [&'static str], &'static str),
    arrow: fn(&Edge) -> String,
}

/// An arrow.
struct Edge {
    from: Point,
    to: Point,
    /// When it is taken; empty: always.
    label: String,
    /// Whether it stands for `needs`, and not for a route.
    is_need: bool,
}

/// Where an arrow begins or ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Point {
    Start,
    Task(usize),
    Fail,
    Noop,
}

impl Point {
    /// Its name in the drawing: never one of the workflow, which could be a word of the form.
    fn id(self) -> String {
        match self {
            Self::Start => "start".to_owned(),
            Self::Task(index) => format!("t{index}"),
            Self::Fail => "fail".to_owned(),
            Self::Noop => "noop".to_owned(),
        }
    }
}

impl<'w> Drawing<'w> {
    fn of(workflow: &'w Workflow) -> Self {
        let mut edges: Vec<Edge> = workflow
            .starts
            .iter()
            .map(|task| edge(Point::Start, Point::Task(task.0), String::new()))
            .collect();
        for task in &workflow.tasks {
            routes(task, &mut edges);
        }
        for task in &workflow.tasks {
            let needed = task.needs.iter().flat_map(|needs| &needs.tasks);
            edges.extend(needed.map(|needed| Edge {
                is_need: true,
                ..edge(
                    Point::Task(needed.0),
                    Point::Task(task.index.0),
                    "needs".to_owned(),
                )
            }));
        }
        Self { workflow, edges }
    }

    /// Adds the lines of all that is drawn: tasks, orders, the frame of `finally`, arrows.
    fn write(&self, form: &Form, out: &mut Vec<String>) {
        out.extend(
            self.tasks(false)
                .map(|task| format!("    {}", (form.task)(task))),
        );
        out.extend(
            self.orders()
                .map(|order| format!("    {}", (form.order)(&order.id()))),
        );
        let mut finally = self.tasks(true).peekable();
        if finally.peek().is_some() {
            let (open, close) = form.finally;
            out.extend(open.iter().map(|line| format!("    {line}")));
            out.extend(finally.map(|task| format!("        {}", (form.task)(task))));
            out.push(format!("    {close}"));
        }
        out.extend(
            self.edges
                .iter()
                .map(|edge| format!("    {}", (form.arrow)(edge))),
        );
    }

    /// `fail` and `noop`, where something leads to them.
    fn orders(&self) -> impl Iterator<Item = Point> {
        let orders = [Point::Fail, Point::Noop].into_iter();
        orders.filter(|order| self.edges.iter().any(|edge| edge.to == *order))
    }

    /// The tasks of the graph, or those of `finally`.
    fn tasks(&self, is_finally: bool) -> impl Iterator<Item = &'w Task> {
        let tasks = self.workflow.tasks.iter();
        tasks.filter(move |task| task.is_finally == is_finally)
    }
}

fn edge(from: Point, to: Point, label: String) -> Edge {
    Edge {
        from,
        to,
        label,
        is_need: false,
    }
}

fn routes(task: &Task, edges: &mut Vec<Edge>) {
    let (branches, routes): (&[Branch], &[Route]) = match &task.routes {
        Routes::All(routes) => (&[], routes),
        Routes::First { branches, others } => (branches, others),
    };
    let from = Point::Task(task.index.0);
    for branch in branches {
        let label = match &branch.when {
            Some(condition) => when(condition),
            None => "default".to_owned(),
        };
        lead(from, &branch.targets, &label, edges);
    }
    for route in routes {
        lead(from, &route.targets, &on(&route.on), edges);
    }
}

fn lead(from: Point, targets: &Targets, label: &str, edges: &mut Vec<Edge>) {
    let tasks = targets.tasks.iter().map(|task| Point::Task(task.0));
    let orders = [(targets.fail, Point::Fail), (targets.noop, Point::Noop)];
    let orders = orders.into_iter().filter_map(|(is, to)| is.then_some(to));
    edges.extend(
        tasks
            .chain(orders)
            .map(|to| edge(from, to, label.to_owned())),
    );
}

fn on(on: &On) -> String {
    match on {
        On::Success => "on_success".to_owned(),
        On::Failure => "on_failure".to_owned(),
        On::Timeout => "on_timeout".to_owned(),
        On::Complete => "on_complete".to_owned(),
        On::When(condition) => when(condition),
    }
}

fn when(condition: &Condition) -> String {
    format!("when {}", condition.text())
}

/// The lines of a task: its name, and what it is.
fn lines(task: &Task) -> Vec<String> {
    let mut lines = vec![task.name.to_string()];
    if let Some(action) = task.action.as_ref().map(ValueTemplate::written) {
        lines.push(action);
    }
    if task.items.is_some() {
        lines.push("for each item".to_owned());
    }
    if let Some(condition) = &task.when {
        lines.push(when(condition));
    }
    match task.join {
        Some(Join::All) => lines.push("join: all".to_owned()),
        Some(Join::Active) => lines.push("join: active".to_owned()),
        Some(Join::Count(count)) => lines.push(format!("join: {count}")),
        None => {}
    }
    if let Some(needs) = &task.needs {
        let words = RULES.iter().find(|(_, rule)| *rule == needs.rule);
        lines.extend(words.map(|(word, _)| format!("rule: {word}")));
    }
    lines
}

/// A text in one line, without characters that a terminal would obey.
fn in_one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").replace(char::is_control, "\u{fffd}")
}
