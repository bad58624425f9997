//! Expressions that are no more than a path, as most are: `vars.order.total`, `result().value`. They are looked
//! up step by step; the engine's machine, which all others need, takes ten times as long to begin.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "picks a few shapes out of a grammar"
)]

use minijinja::Value;
use minijinja::value::ValueKind;

use super::emit::{END, END_FUNCTIONS};
use super::syntax::{Expr, Node};

/// A top-level name and what is read of it.
pub(super) struct Path(Vec<String>);

impl Path {
    /// The path that an expression is, if it is one.
    pub(super) fn of(expression: &Expr) -> Option<Self> {
        let mut steps = Vec::new();
        let mut at = expression;
        loop {
            match &at.node {
                Node::Attribute(value, name) if is_name(name) => {
                    steps.push(name.clone());
                    at = value;
                }
                Node::Call(callee, arguments) if arguments.is_empty() => match &callee.node {
                    Node::Name(name) if END_FUNCTIONS.contains(&name.as_str()) => {
                        steps.extend([name.clone(), END.to_owned()]);
                        break;
                    }
                    _ => return None,
                },
                Node::Name(name) => {
                    steps.push(name.clone());
                    break;
                }
                _ => return None,
            }
        }
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

/// `a.0` is an item and no attribute.
fn is_name(text: &str) -> bool {
    !text.starts_with(|c: char| c.is_ascii_digit())
}

fn step(value: &Value, name: &str) -> Option<Value> {
    let found = value.get_attr(name).ok()?;
    let is_sound = !matches!(found.kind(), ValueKind::Undefined | ValueKind::Invalid);
    is_sound.then_some(found)
}
