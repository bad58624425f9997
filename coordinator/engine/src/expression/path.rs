//! Expressions that are no more than a path, as most are: `vars.order.total`, `result().value`. They are looked
//! up step by step; the engine's machine, which all others need, takes 2,000 instructions more for each.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "picks a few shapes out of a grammar"
)]

use minijinja::Value;
use minijinja::value::ValueKind;

use super::emit::END;
use super::names::is_end_function;
use super::syntax::{Expr, Node};

/// A top-level name and what is read of it.
pub(super) struct Path(Vec<String>);

impl Path {
    /// The path that an expression is, if it is one.
    pub(super) fn of(expression: &Expr) -> Option<Self> {
        let mut steps = Vec::new();
        let mut at = expression;
        let root = loop {
            match &at.node {
                Node::Name(name) => break name.as_str(),
                Node::Attribute(value, name) if is_name(name) => {
                    steps.push(name.clone());
                    at = value;
                }
                Node::Call(callee, arguments) if arguments.is_empty() => {
                    steps.push(end_function(callee)?.to_owned());
                    break END;
                }
                _ => return None,
            }
        };
        steps.push(root.to_owned());
        steps.reverse();
        Some(Self(steps))
    }

    /// What it leads to in a context; nothing where a step is missing or fails, which the engine explains.
    pub(super) fn follow(&self, context: &Value) -> Option<Value> {
        let (first, others) = self.0.split_first()?;
        others
            .iter()
            .try_fold(step(context, first)?, |value, name| step(&value, name))
    }
}

/// The function of the end of a task that is called.
fn end_function(callee: &Expr) -> Option<&str> {
    match &callee.node {
        Node::Name(name) if is_end_function(name) => Some(name),
        _ => None,
    }
}

/// `a.0` is an item and no attribute.
fn is_name(text: &str) -> bool {
    !text.starts_with(|c: char| c.is_ascii_digit())
}

fn step(value: &Value, name: &str) -> Option<Value> {
    let found = value.get_attr(name).ok()?;
    let is_sound = !matches!(found.kind(), ValueKind::Undefined | ValueKind::Invalid);
    is_sound.then_some(found)
}
