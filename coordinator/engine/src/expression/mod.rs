//! Templates and conditions, compiled once per definition and evaluated against a [`Scope`].
//!
//! ```text
//! text ──token, syntax──► tree ──names──► what checks ask
//!                           └──emit──► bounded text ──engine──► compiled ──context──► value
//! ```

mod compiled;
mod context;
mod cursor;
mod emit;
mod environment;
mod guard;
mod names;
mod operand;
mod output;
mod path;
mod range;
mod syntax;
mod template;
mod token;

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};
use serde::Serialize;

use crate::items::{ItemList, Range};
use crate::json::Json;
use crate::scope::Scope;

pub(crate) use compiled::Compiled;
pub(crate) use context::SYSTEM_FACTS;
pub(crate) use environment::{FILTERS, FUNCTIONS, TESTS};
pub(crate) use names::{END_FUNCTIONS, Names, is_end_function};
pub(crate) use template::has_markers;
pub(crate) use token::SyntaxError;

/// An expression that could not be evaluated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} in `{expression}`")]
pub struct ExpressionError {
    /// The source text of the expression.
    pub expression: String,
    /// The cause.
    pub message: String,
    /// Whether a bound on steps or output was exceeded: `limit_exceeded`.
    pub limit: bool,
}

/// A JSON tree in which strings may be templates.
#[derive(Debug)]
pub struct ValueTemplate(Node);

#[derive(Debug)]
enum Node {
    Literal(Json),
    Text(Compiled),
    List(Vec<ValueTemplate>),
    Map(Vec<(String, ValueTemplate)>),
}

impl ValueTemplate {
    /// A template that always gives `value`.
    #[must_use]
    pub fn literal(value: Json) -> Self {
        Self(Node::Literal(value))
    }

    pub(crate) fn text(compiled: Compiled) -> Self {
        Self(Node::Text(compiled))
    }

    /// A list; it is a literal where all its items are.
    pub(crate) fn list(items: Vec<Self>) -> Self {
        Self(Node::List(items)).folded()
    }

    /// An object; it is a literal where all its values are.
    pub(crate) fn map(entries: Vec<(String, Self)>) -> Self {
        Self(Node::Map(entries)).folded()
    }

    fn folded(self) -> Self {
        if !self.is_literal() {
            return self;
        }
        let mut text = String::new();
        match self.write(None, &mut text, usize::MAX) {
            Ok(()) => Json::parse(text).map_or(self, Self::literal),
            Err(_) => self,
        }
    }

    /// Whether evaluating it needs no scope.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        match &self.0 {
            Node::Literal(_) => true,
            Node::Text(_) => false,
            Node::List(items) => items.iter().all(Self::is_literal),
            Node::Map(entries) => entries.iter().all(|(_, value)| value.is_literal()),
        }
    }

    /// The value, where it needs no scope.
    #[must_use]
    pub fn as_literal(&self) -> Option<&Json> {
        match &self.0 {
            Node::Literal(json) => Some(json),
            Node::Text(_) | Node::List(_) | Node::Map(_) => None,
        }
    }

    /// What was written, for people: a text as it is, another literal as JSON, and `…` for a list or
    /// an object with templates in it.
    #[must_use]
    pub fn written(&self) -> String {
        match &self.0 {
            Node::Literal(json) => {
                serde_json::from_str(json.text()).unwrap_or_else(|_| json.text().to_owned())
            }
            Node::Text(compiled) => compiled.source().to_owned(),
            Node::List(_) | Node::Map(_) => "…".to_owned(),
        }
    }

    /// The value in `scope`.
    ///
    /// # Errors
    ///
    /// The first expression in it that cannot be evaluated.
    pub fn evaluate(&self, scope: &Scope) -> Result<Value, ExpressionError> {
        match &self.0 {
            Node::Literal(json) => Ok(json.value().clone()),
            Node::Text(compiled) => compiled.evaluate(scope),
            Node::List(items) => items
                .iter()
                .map(|item| item.evaluate(scope))
                .collect::<Result<Vec<_>, _>>()
                .map(Value::from),
            Node::Map(entries) => entries
                .iter()
                .map(|(key, value)| Ok((Value::from(key), value.evaluate(scope)?)))
                .collect::<Result<Vec<_>, _>>()
                .map(Value::from_pairs),
        }
    }

    /// The value in `scope` as the items of a task: a call of `range()` that is all there is stays
    /// a range.
    ///
    /// # Errors
    ///
    /// When it cannot be evaluated, or is no list.
    pub(crate) fn items(&self, scope: &Scope) -> Result<ItemList, ExpressionError> {
        let Node::Text(compiled) = &self.0 else {
            return Ok(ItemList::List(self.render(scope)?));
        };
        let value = compiled.evaluate_items(scope)?;
        if let Some(range) = value.downcast_object_ref::<Range>() {
            return Ok(ItemList::Range(*range));
        }
        if !matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) {
            let found = Error::new(
                ErrorKind::InvalidOperation,
                format!("a list is expected, and this is {}", described(&value)),
            );
            return Err(compiled.error(&found, scope));
        }
        let mut text = String::new();
        output::write_json(&mut text, &value, guard::VALUE_LIMIT)
            .map_err(|error| compiled.error(&error, scope))?;
        Ok(ItemList::List(
            Json::parse(text).expect("what was written is JSON"),
        ))
    }

    /// The value in `scope` as JSON.
    ///
    /// # Errors
    ///
    /// The first expression in it that cannot be evaluated.
    pub fn render(&self, scope: &Scope) -> Result<Json, ExpressionError> {
        if let Node::Literal(json) = &self.0 {
            return Ok(json.clone());
        }
        let mut text = String::new();
        self.write(Some(scope), &mut text, guard::OUTPUT_LIMIT)?;
        Ok(Json::parse(text).expect("what was written is JSON"))
    }

    /// Whether there are secrets in it, which only a worker can fill in.
    #[must_use]
    pub fn has_secrets(&self) -> bool {
        match &self.0 {
            Node::Literal(_) => false,
            Node::Text(compiled) => compiled.has_secrets(),
            Node::List(items) => items.iter().any(Self::has_secrets),
            Node::Map(entries) => entries.iter().any(|(_, value)| value.has_secrets()),
        }
    }

    /// The places that a worker fills in, as `task.job` names them; in the rendered value they are null.
    ///
    /// # Errors
    ///
    /// The first expression beside a secret that cannot be evaluated.
    pub fn secrets(&self, scope: &Scope) -> Result<Json, ExpressionError> {
        let mut places = Vec::new();
        self.find_secrets(scope, &mut String::new(), &mut places)?;
        Ok(Json::of(&places))
    }

    fn find_secrets(
        &self,
        scope: &Scope,
        at: &mut String,
        places: &mut Vec<SecretPlace>,
    ) -> Result<(), ExpressionError> {
        let children: Vec<(String, &Self)> = match &self.0 {
            Node::Text(compiled) if compiled.has_secrets() => {
                places.push(SecretPlace {
                    at: at.clone(),
                    parts: compiled.secret_parts(scope)?,
                });
                return Ok(());
            }
            Node::Literal(_) | Node::Text(_) => return Ok(()),
            Node::List(items) => {
                let items = items.iter().enumerate();
                items
                    .map(|(index, item)| (index.to_string(), item))
                    .collect()
            }
            Node::Map(entries) => {
                let entries = entries.iter();
                entries
                    .map(|(key, value)| (key.replace('~', "~0").replace('/', "~1"), value))
                    .collect()
            }
        };
        let length = at.len();
        for (step, child) in children {
            at.push('/');
            at.push_str(&step);
            child.find_secrets(scope, at, places)?;
            at.truncate(length);
        }
        Ok(())
    }

    /// Appends the JSON. Without a scope it is known to be literal.
    fn write(
        &self,
        scope: Option<&Scope>,
        out: &mut String,
        limit: usize,
    ) -> Result<(), ExpressionError> {
        match (&self.0, scope) {
            (Node::Literal(json), _) => out.push_str(json.text()),
            (Node::Text(compiled), Some(_)) if compiled.has_secrets() => out.push_str("null"),
            (Node::Text(compiled), Some(scope)) => {
                let value = compiled.evaluate(scope)?;
                output::write_json(out, &value, limit)
                    .map_err(|error| compiled.error(&error, scope))?;
            }
            (Node::Text(_), None) => return Err(too_large()),
            (Node::List(items), _) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    out.push_str(if index > 0 { "," } else { "" });
                    item.write(scope, out, limit)?;
                }
                out.push(']');
            }
            (Node::Map(entries), _) => {
                out.push('{');
                for (index, (key, value)) in entries.iter().enumerate() {
                    out.push_str(if index > 0 { "," } else { "" });
                    out.push_str(&serde_json::to_string(key).expect("a text is JSON"));
                    out.push(':');
                    value.write(scope, out, limit)?;
                }
                out.push('}');
            }
        }
        if out.len() > limit {
            Err(too_large())
        } else {
            Ok(())
        }
    }
}

/// A place of an input that a worker fills in.
#[derive(Serialize)]
struct SecretPlace {
    /// A JSON pointer.
    at: String,
    parts: Vec<compiled::SecretPart>,
}

/// What a value is, for people.
fn described(value: &Value) -> String {
    if value.is_none() {
        "null".to_owned()
    } else {
        format!("a {}", value.kind())
    }
}

fn too_large() -> ExpressionError {
    ExpressionError {
        expression: String::new(),
        message: "the value is larger than 1 MiB".to_owned(),
        limit: true,
    }
}

/// A compiled condition.
#[derive(Debug)]
pub struct Condition(Holds);

#[derive(Debug)]
enum Holds {
    Always(bool),
    Where(Compiled),
}

impl Condition {
    pub(crate) fn constant(value: bool) -> Self {
        Self(Holds::Always(value))
    }

    pub(crate) fn compiled(compiled: Compiled) -> Self {
        Self(Holds::Where(compiled))
    }

    /// The expression, without the braces around it.
    #[must_use]
    pub fn text(&self) -> &str {
        let compiled = match &self.0 {
            Holds::Always(true) => return "true",
            Holds::Always(false) => return "false",
            Holds::Where(compiled) => compiled.source().trim(),
        };
        let inner = compiled.strip_prefix("{{").unwrap_or(compiled);
        let inner = inner.strip_suffix("}}").unwrap_or(inner);
        inner.trim_matches(['-', '+']).trim()
    }

    /// Whether it holds in `scope`; a value that is no boolean counts as in Jinja.
    ///
    /// # Errors
    ///
    /// When it cannot be evaluated.
    pub fn holds(&self, scope: &Scope) -> Result<bool, ExpressionError> {
        match &self.0 {
            Holds::Always(value) => Ok(*value),
            Holds::Where(compiled) => compiled.evaluate(scope).map(|value| value.is_true()),
        }
    }
}

/// The JSON of a value.
///
/// # Errors
///
/// When the value is undefined somewhere inside, is not a number of JSON, or is too large.
pub fn to_json(value: &Value) -> Result<Json, ExpressionError> {
    let mut text = String::new();
    match output::write_json(&mut text, value, guard::OUTPUT_LIMIT) {
        Ok(()) => Ok(Json::parse(text).expect("what was written is JSON")),
        Err(error) => Err(compiled::plain_error(&error, "")),
    }
}
