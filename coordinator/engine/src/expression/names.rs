//! Which names an expression reads, and where: what checks of a definition ask, and what an
//! evaluation has to lay out.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "picks a few shapes out of a grammar"
)]

use std::ops::Range;

use super::syntax::{Argument, Expr, Named, Node};
use super::template::{Form, Template};

/// Functions of the end of a task.
pub(crate) const END_FUNCTIONS: [&str; 6] = [
    "result",
    "error",
    "status",
    "succeeded",
    "failed",
    "timed_out",
];

/// What a text of a definition reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Names {
    /// Each reading of a top-level name, in order.
    pub reads: Vec<Read>,
    /// Functions that are called, with the place of the name.
    pub functions: Vec<(String, Range<usize>)>,
    /// Filters.
    pub filters: Vec<(String, Range<usize>)>,
    /// Tests.
    pub tests: Vec<(String, Range<usize>)>,
    /// Calls of `secret()` that stand by themselves: their places.
    pub secrets: Vec<Range<usize>>,
}

/// One reading of a top-level name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Read {
    /// The name and what is read of it by literal names: `["vars", "order", "lines"]`.
    pub path: Vec<String>,
    /// The place.
    pub span: Range<usize>,
    /// Whether it may be missing: `default()`, `is defined`.
    pub optional: bool,
    /// Whether something is read of the whole that has no literal name: `vars[x]`.
    pub dynamic: bool,
}

impl Names {
    /// Whether the end of a task is read: `result()` and its kin.
    pub(crate) fn read_end(&self) -> bool {
        self.functions.iter().any(|(name, _)| is_end_function(name))
    }
}

/// Whether `name` is one of the functions of the end of a task.
pub(crate) fn is_end_function(name: &str) -> bool {
    END_FUNCTIONS.contains(&name)
}

/// Collects the names of all expressions of a text.
pub(super) fn names(source: &str, template: &Template) -> Names {
    let mut collector = Collector {
        source,
        template,
        names: Names::default(),
    };
    for expression in &template.expressions {
        let stands_alone = matches!(template.form, Form::Parts(_));
        if stands_alone && secret_name(source, expression).is_some() {
            collector.names.secrets.push(expression.span.clone());
        } else {
            collector.visit(expression, false);
        }
    }
    let mut names = collector.names;
    let tested: Vec<_> = names
        .reads
        .iter()
        .filter(|read| read.optional)
        .map(|read| read.path.clone())
        .collect();
    for read in &mut names.reads {
        // `vars.x if vars.x is defined`: who asks once may read elsewhere in the same text.
        read.optional |= tested.iter().any(|path| read.path.starts_with(path));
    }
    names
}

/// The name that an expression gives `secret()`, if it is such a call and nothing else.
pub(super) fn secret_name<'s>(source: &'s str, expression: &Expr) -> Option<&'s str> {
    let Node::Call(callee, arguments) = &expression.node else {
        return None;
    };
    let is_secret = matches!(&callee.node, Node::Name(name) if name == "secret");
    let [argument] = arguments.as_slice() else {
        return None;
    };
    if !is_secret || argument.name.is_some() || !matches!(argument.value.node, Node::Text) {
        return None;
    }
    let quoted = &source[argument.value.span.clone()];
    let name = quoted.get(1..quoted.len() - 1)?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    (!name.is_empty() && name.chars().all(is_plain)).then_some(name)
}

struct Collector<'a> {
    source: &'a str,
    template: &'a Template,
    names: Names,
}

impl Collector<'_> {
    fn visit(&mut self, expression: &Expr, optional: bool) {
        match &expression.node {
            Node::Text | Node::Number | Node::Word(_) => {}
            Node::Name(_) | Node::Attribute(..) | Node::Item(..) => self.path(expression, optional),
            Node::Slice(value, parts) => {
                self.visit(value, false);
                parts
                    .iter()
                    .flatten()
                    .for_each(|part| self.visit(part, false));
            }
            Node::Call(callee, arguments) => self.call(callee, arguments),
            Node::Filter(value, named) => {
                self.names
                    .filters
                    .push((named.name.clone(), named.span.clone()));
                self.visit(value, ["default", "d"].contains(&named.name.as_str()));
                self.arguments(&named.arguments);
            }
            Node::Test(value, named, _) => self.test(value, named),
            Node::Unary(_, value) => self.visit(value, false),
            Node::Binary(_, left, right) => {
                self.visit(left, false);
                self.visit(right, false);
            }
            Node::Compare(first, others) => {
                self.visit(first, false);
                others
                    .iter()
                    .for_each(|(_, other)| self.visit(other, false));
            }
            Node::If(test, value, otherwise) => {
                self.visit(value, false);
                self.visit(test, false);
                otherwise.iter().for_each(|value| self.visit(value, false));
            }
            Node::List(items) | Node::Tuple(items) => {
                items.iter().for_each(|item| self.visit(item, false));
            }
            Node::Map(pairs) => {
                for (key, value) in pairs {
                    self.visit(key, false);
                    self.visit(value, false);
                }
            }
        }
    }

    fn test(&mut self, value: &Expr, named: &Named) {
        self.names
            .tests
            .push((named.name.clone(), named.span.clone()));
        self.visit(
            value,
            ["defined", "undefined"].contains(&named.name.as_str()),
        );
        self.arguments(&named.arguments);
    }

    fn arguments(&mut self, arguments: &[Argument]) {
        arguments
            .iter()
            .for_each(|argument| self.visit(&argument.value, false));
    }

    fn call(&mut self, callee: &Expr, arguments: &[Argument]) {
        match &callee.node {
            Node::Name(name) if !self.template.locals.contains(name) => {
                self.names
                    .functions
                    .push((name.clone(), callee.span.clone()));
            }
            Node::Attribute(value, _) => self.visit(value, false),
            _ => self.visit(callee, false),
        }
        self.arguments(arguments);
    }

    /// A chain of names that begins with a top-level name, or an ordinary value.
    fn path(&mut self, expression: &Expr, optional: bool) {
        let mut steps = Vec::new();
        let mut dynamic = false;
        let mut at = expression;
        let root = loop {
            match &at.node {
                Node::Name(name) => break Some(name.clone()),
                Node::Attribute(value, name) => {
                    steps.push(name.clone());
                    at = value;
                }
                Node::Item(value, item) => {
                    match self.literal(item) {
                        Some(name) => steps.push(name),
                        None => {
                            self.visit(item, false);
                            // What stands further out belongs to a value nobody can name.
                            steps.clear();
                            dynamic = true;
                        }
                    }
                    at = value;
                }
                _ => break None,
            }
        };
        let Some(root) = root else {
            return self.visit(at, false);
        };
        if self.template.locals.contains(&root) {
            return;
        }
        steps.push(root);
        steps.reverse();
        let dynamic = dynamic && steps.len() == 1;
        self.names.reads.push(Read {
            path: steps,
            span: expression.span.clone(),
            optional,
            dynamic,
        });
    }

    fn literal(&self, item: &Expr) -> Option<String> {
        let text = &self.source[item.span.clone()];
        match item.node {
            Node::Number => Some(text.to_owned()),
            Node::Text if !text.contains('\\') => Some(text[1..text.len() - 1].to_owned()),
            _ => None,
        }
    }
}
