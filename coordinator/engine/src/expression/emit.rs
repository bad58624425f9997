//! The text of an expression as the template engine gets it: operators that could grow a value
//! without bound are replaced by the bounded functions of [`super::guard`], and their operands
//! measured.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "picks a few shapes out of a grammar"
)]

use super::names::is_end_function;
use super::syntax::{Argument, Expr, Named, Node};

/// Filters that look at no more than the surface of a value, whose operand needs no measuring.
const SHALLOW_FILTERS: [&str; 9] = [
    "length", "count", "default", "d", "first", "int", "float", "bool", "abs",
];

/// The object that the functions of the end of a task become attributes of.
pub(super) const END: &str = "__end";

/// The expression of `source` in the engine's syntax.
pub(super) fn emit(source: &str, expression: &Expr) -> String {
    let mut emitter = Emitter {
        source,
        out: String::with_capacity(source.len() + 16),
    };
    emitter.expression(expression);
    emitter.out
}

/// As [`emit`], and the value is measured.
pub(super) fn emit_measured(source: &str, expression: &Expr) -> String {
    let mut emitter = Emitter {
        source,
        out: String::with_capacity(source.len() + 16),
    };
    emitter.measured(expression);
    emitter.out
}

struct Emitter<'a> {
    source: &'a str,
    out: String,
}

impl Emitter<'_> {
    fn expression(&mut self, expression: &Expr) {
        match &expression.node {
            Node::Text | Node::Number => self.out.push_str(&self.source[expression.span.clone()]),
            Node::Word(word) => self.out.push_str(word),
            Node::Name(name) => self.out.push_str(name),
            Node::Attribute(value, name) => {
                self.operand(value);
                self.out.push('.');
                self.out.push_str(name);
            }
            Node::Item(value, item) => {
                self.operand(value);
                self.out.push('[');
                self.expression(item);
                self.out.push(']');
            }
            Node::Slice(value, parts) => self.slice(value, parts),
            Node::Call(callee, arguments) => self.call(callee, arguments),
            Node::Filter(value, named) => self.filter(value, named),
            Node::Test(value, named, negated) => self.test(value, named, *negated),
            Node::Unary(operator, value) => {
                self.out.push('(');
                self.out.push_str(operator);
                self.operand(value);
                self.out.push(')');
            }
            Node::Binary(operator, left, right) => self.binary(operator, left, right),
            Node::Compare(first, others) => self.compare(first, others),
            Node::If(test, value, otherwise) => self.conditional(test, value, otherwise.as_deref()),
            Node::List(items) => self.list("[", items, "]"),
            Node::Tuple(items) => self.list("(", items, if items.len() == 1 { ",)" } else { ")" }),
            Node::Map(pairs) => self.map(pairs),
        }
    }

    /// An expression that binds as tightly as a name.
    fn operand(&mut self, expression: &Expr) {
        if !matches!(expression.node, Node::Filter(..)) {
            // All others are one word, or stand in brackets of their own.
            return self.expression(expression);
        }
        self.out.push('(');
        self.expression(expression);
        self.out.push(')');
    }

    /// An operand that is measured before the operator sees it.
    fn measured(&mut self, expression: &Expr) {
        if is_small(expression) {
            return self.operand(expression);
        }
        self.out.push_str("__m(");
        self.expression(expression);
        self.out.push(')');
    }

    fn slice(&mut self, value: &Expr, parts: &[Option<Box<Expr>>; 3]) {
        self.measured(value);
        self.out.push('[');
        for (index, part) in parts.iter().enumerate() {
            if index > 0 && (index < 2 || part.is_some()) {
                self.out.push(':');
            }
            if let Some(part) = part {
                self.expression(part);
            }
        }
        self.out.push(']');
    }

    fn call(&mut self, callee: &Expr, arguments: &[Argument]) {
        match &callee.node {
            Node::Name(name) if is_end_function(name) => {
                self.out.push_str(END);
                self.out.push('.');
                self.out.push_str(name);
                return;
            }
            Node::Name(name) => self.out.push_str(name),
            Node::Attribute(value, name) => {
                self.measured(value);
                self.out.push('.');
                self.out.push_str(name);
            }
            _ => self.operand(callee),
        }
        self.arguments(arguments);
    }

    fn arguments(&mut self, arguments: &[Argument]) {
        self.out.push('(');
        for argument in arguments {
            if let Some(name) = &argument.name {
                self.out.push_str(name);
                self.out.push('=');
            }
            self.measured(&argument.value);
            self.out.push(',');
        }
        self.out.push(')');
    }

    fn filter(&mut self, value: &Expr, named: &Named) {
        if SHALLOW_FILTERS.contains(&named.name.as_str()) {
            self.operand(value);
        } else {
            self.measured(value);
        }
        self.out.push('|');
        self.out.push_str(&named.name);
        self.arguments(&named.arguments);
    }

    fn test(&mut self, value: &Expr, named: &Named, negated: bool) {
        self.out.push('(');
        if named.arguments.is_empty() {
            self.operand(value);
        } else {
            self.measured(value);
        }
        self.out.push_str(if negated { " is not " } else { " is " });
        self.out.push_str(&named.name);
        if !named.arguments.is_empty() {
            self.arguments(&named.arguments);
        }
        self.out.push(')');
    }

    fn binary(&mut self, operator: &str, left: &Expr, right: &Expr) {
        let function = bounded(operator, left, right);
        if let Some(function) = function {
            self.out.push_str(function);
            self.chain(operator, left, function);
            self.out.push(',');
            self.expression(right);
            self.out.push(')');
            return;
        }
        self.out.push('(');
        self.chain(operator, left, "");
        self.out.push(' ');
        self.out.push_str(operator);
        self.out.push(' ');
        self.operand(right);
        self.out.push(')');
    }

    /// The operands to the left, without brackets where the operator is the same: the engine's
    /// parser counts them.
    fn chain(&mut self, operator: &str, left: &Expr, function: &str) {
        match &left.node {
            Node::Binary(inner, first, second)
                if *inner == operator
                    && bounded(operator, first, second).unwrap_or_default() == function =>
            {
                self.chain(operator, first, function);
                if function.is_empty() {
                    self.out.push(' ');
                    self.out.push_str(operator);
                    self.out.push(' ');
                } else {
                    self.out.push(',');
                }
                self.operand(second);
            }
            _ => self.operand(left),
        }
    }

    fn compare(&mut self, first: &Expr, others: &[(&'static str, Expr)]) {
        let is_cheap = is_small(first) || others.iter().any(|(_, other)| is_small(other));
        self.out.push('(');
        if is_cheap {
            self.operand(first);
        } else {
            self.measured(first);
        }
        for (operator, other) in others {
            self.out.push(' ');
            self.out.push_str(operator);
            self.out.push(' ');
            if is_cheap && !operator.ends_with("in") {
                self.operand(other);
            } else {
                self.measured(other);
            }
        }
        self.out.push(')');
    }

    fn conditional(&mut self, test: &Expr, value: &Expr, otherwise: Option<&Expr>) {
        self.out.push('(');
        self.operand(value);
        self.out.push_str(" if ");
        self.operand(test);
        if let Some(otherwise) = otherwise {
            self.out.push_str(" else ");
            self.operand(otherwise);
        }
        self.out.push(')');
    }

    fn list(&mut self, open: &str, items: &[Expr], close: &str) {
        self.out.push_str(open);
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.out.push(',');
            }
            self.expression(item);
        }
        self.out.push_str(close);
    }

    fn map(&mut self, pairs: &[(Expr, Expr)]) {
        self.out.push('{');
        for (key, value) in pairs {
            self.expression(key);
            self.out.push(':');
            self.expression(value);
            self.out.push(',');
        }
        self.out.push('}');
    }
}

/// The bounded function that does the work of an operator, with its bracket.
fn bounded(operator: &str, left: &Expr, right: &Expr) -> Option<&'static str> {
    match operator {
        "+" if !is_number(left) && !is_number(right) => Some("__add("),
        "*" if !(is_number(left) && is_number(right)) => Some("__mul("),
        "~" => Some("__cat("),
        _ => None,
    }
}

/// Whether the value is a number in any case, or the operator fails.
fn is_number(expression: &Expr) -> bool {
    match &expression.node {
        Node::Number | Node::Unary("-", _) => true,
        Node::Binary(operator, ..) => ["-", "/", "//", "%", "**"].contains(operator),
        Node::Filter(_, named) => {
            ["length", "count", "int", "float", "abs", "round"].contains(&named.name.as_str())
        }
        _ => false,
    }
}

/// Whether the value is so small that nothing can be made of it.
fn is_small(expression: &Expr) -> bool {
    is_number(expression)
        || match &expression.node {
            Node::Text | Node::Word(_) | Node::Test(..) | Node::Compare(..) => true,
            Node::Unary(operator, _) => *operator == "not ",
            _ => false,
        }
}
