//! What all readers of a part share: the findings so far, and the templates to be checked later.

use super::text::{did_you_mean, locate};
use super::tree::{Key, Node, Place, Value};
use crate::diagnostic::{Diagnostic, Severity};
use crate::expression::{Compiled, Condition, Names, SyntaxError, ValueTemplate, has_markers};
use crate::json::Json;
use crate::pack::Pack;

/// After so many errors no more are looked for: finding out what was meant costs time.
const ERROR_LIMIT: usize = 200;

/// Collects what is found while a definition is read.
pub struct Reader<'a> {
    pub(super) source: &'a str,
    /// What was found, in the order in which it was.
    pub diagnostics: Vec<Diagnostic>,
    pub(super) uses: Vec<Use>,
    /// What the definition gets of its pack.
    pub(super) pack: Pack,
}

/// A template, what it reads, and where in the workflow it is evaluated.
pub(super) struct Use {
    pub names: Names,
    pub site: Site,
    pub path: String,
    pub text: String,
    pub place: Place,
}

/// Where in the workflow a template is evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Site {
    /// The default of a parameter, by its position.
    Default(usize),
    /// An initial variable, by its position.
    Vars(usize),
    /// A task.
    Task(usize, Moment),
    /// An entry of `output_map`, by its position.
    Output(usize),
}

/// When in the life of a task a template is evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// Before the task, or before its items are known: a guard, `with_items`.
    Items,
    /// Before an attempt, of an item where the task has items.
    Before,
    /// When an attempt has ended.
    Attempted,
    /// In `publish`, at this position.
    Publish(usize),
    /// When the task has ended: a condition.
    Ended,
    /// In the `publish` of a route or branch, at this position of that list.
    Route(usize, usize),
}

/// The entries of an object, whose keys are known to be right.
#[derive(Clone, Copy)]
pub struct Fields<'n>(pub &'n [(Key, Node)]);

impl<'n> Fields<'n> {
    /// The value of a key.
    #[must_use]
    pub fn get(self, name: &str) -> Option<&'n Node> {
        self.entry(name).map(|(_, node)| node)
    }

    /// A key and its value.
    #[must_use]
    pub fn entry(self, name: &str) -> Option<&'n (Key, Node)> {
        self.0.iter().find(|(key, _)| key.text == name)
    }
}

impl<'a> Reader<'a> {
    /// Reads a source; places are places in it.
    #[must_use]
    pub fn new(source: &'a str) -> Self {
        Self {
            source,
            diagnostics: Vec::new(),
            uses: Vec::new(),
            pack: Pack::default(),
        }
    }

    /// The source.
    #[must_use]
    pub fn source(&self) -> &'a str {
        self.source
    }

    /// Whether so much is wrong that looking for more is of no use.
    pub(super) fn is_full(&self) -> bool {
        self.diagnostics.len() >= ERROR_LIMIT
            && self
                .diagnostics
                .iter()
                .filter(|f| f.severity == Severity::Error)
                .count()
                >= ERROR_LIMIT
    }

    /// Notes an error.
    pub fn error(
        &mut self,
        code: &'static str,
        place: &Place,
        path: &str,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        self.found(Severity::Error, code, place, path, message.into())
    }

    pub(super) fn warning(
        &mut self,
        code: &'static str,
        place: &Place,
        path: &str,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        self.found(Severity::Warning, code, place, path, message.into())
    }

    fn found(
        &mut self,
        severity: Severity,
        code: &'static str,
        place: &Place,
        path: &str,
        message: String,
    ) -> &mut Diagnostic {
        self.diagnostics.push(Diagnostic {
            severity,
            code,
            message,
            hint: None,
            path: path.to_owned(),
            line: place.line.max(1),
            column: place.column.max(1),
            span: place.span.clone(),
        });
        self.diagnostics.last_mut().expect("one was pushed")
    }

    /// Notes that a value is not what is expected there.
    pub fn wrong_type(&mut self, node: &Node, path: &str, expected: &str) {
        let message = format!("expected {expected}, found {}", describe(&node.value));
        self.error("wrong_type", &node.place, path, message);
    }

    pub(super) fn not_supported(&mut self, place: &Place, path: &str, what: &str) {
        self.error(
            "not_supported",
            place,
            path,
            format!("{what} is not supported yet"),
        );
    }

    /// The entries of an object. Keys of `later` are part of the language, but not of this version.
    pub fn fields<'n>(
        &mut self,
        node: &'n Node,
        path: &str,
        known: &[&str],
        later: &[&str],
    ) -> Option<Fields<'n>> {
        let Value::Map(entries) = &node.value else {
            self.wrong_type(node, path, "an object");
            return None;
        };
        for (key, _) in entries {
            let name = key.text.as_str();
            if known.contains(&name) {
                continue;
            }
            let path = join(path, name);
            if later.contains(&name) {
                self.not_supported(&key.place, &path, &format!("`{name}`"));
                continue;
            }
            if self.is_full() {
                break;
            }
            let hint = did_you_mean(name, known.iter().chain(later).copied());
            let message = format!("unknown key `{name}`");
            self.error("unknown_key", &key.place, &path, message).hint = hint;
        }
        Some(Fields(entries))
    }

    /// A text; anything else is noted, and is none.
    pub fn text<'n>(&mut self, node: &'n Node, path: &str) -> Option<&'n str> {
        let Value::Text(text) = &node.value else {
            self.wrong_type(node, path, "a text");
            return None;
        };
        Some(text)
    }

    /// A list; anything else is noted, and is an empty one.
    pub fn list<'n>(&mut self, node: &'n Node, path: &str, of: &str) -> &'n [Node] {
        let Value::List(items) = &node.value else {
            self.wrong_type(node, path, of);
            return &[];
        };
        items
    }

    /// An object; anything else is noted, and is an empty one.
    pub fn map<'n>(&mut self, node: &'n Node, path: &str) -> &'n [(Key, Node)] {
        let Value::Map(entries) = &node.value else {
            self.wrong_type(node, path, "an object");
            return &[];
        };
        entries
    }

    /// A number that stands in the file.
    pub fn number(&mut self, node: &Node, path: &str) -> Option<f64> {
        let Value::Number(text) = &node.value else {
            self.wrong_type(node, path, "a number");
            return None;
        };
        text.parse().ok()
    }

    /// Any JSON, in which texts may be templates.
    pub(super) fn value(&mut self, node: &Node, path: &str, site: Site) -> ValueTemplate {
        match &node.value {
            Value::Text(text) if has_markers(text) => match self.compile(node, text, path, site) {
                Some((compiled, _)) => ValueTemplate::text(compiled),
                None => ValueTemplate::literal(Json::null()),
            },
            Value::List(items) => ValueTemplate::list(
                items
                    .iter()
                    .enumerate()
                    .map(|(index, item)| self.value(item, &format!("{path}[{index}]"), site))
                    .collect(),
            ),
            Value::Map(entries) => ValueTemplate::map(
                entries
                    .iter()
                    .map(|(key, node)| {
                        let path = join(path, &key.text);
                        (key.text.clone(), self.value(node, &path, site))
                    })
                    .collect(),
            ),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) => {
                ValueTemplate::literal(literal(&node.value))
            }
        }
    }

    /// A condition, and whether it asks for a timeout.
    pub(super) fn condition(
        &mut self,
        node: &Node,
        path: &str,
        site: Site,
    ) -> Option<(Condition, bool)> {
        let text = match &node.value {
            Value::Bool(value) => return Some((Condition::constant(*value), false)),
            Value::Text(text) => text.trim(),
            Value::Null | Value::Number(_) | Value::List(_) | Value::Map(_) => {
                self.wrong_type(node, path, "a condition, `{{ … }}`, or a boolean");
                return None;
            }
        };
        if !has_markers(text) {
            self.wrong_type(node, path, "a condition, `{{ … }}`, or a boolean");
            let hint = format!("write \"{{{{ {text} }}}}\"");
            self.diagnostics.last_mut().expect("one was pushed").hint = Some(hint);
            return None;
        }
        let (compiled, asks) = self.compile(node, text, path, site)?;
        if !compiled.is_expression() {
            let message = "a condition is exactly one `{{ … }}`; any other text would always hold";
            self.error("wrong_type", &node.place, path, message);
            return None;
        }
        Some((Condition::compiled(compiled), asks))
    }

    fn compile(
        &mut self,
        node: &Node,
        text: &str,
        path: &str,
        site: Site,
    ) -> Option<(Compiled, bool)> {
        match Compiled::new(text) {
            Ok((compiled, names)) => {
                let asks = names.functions.iter().any(|(name, _)| name == "timed_out");
                self.uses.push(Use {
                    names,
                    site,
                    path: path.to_owned(),
                    text: text.to_owned(),
                    place: node.place.clone(),
                });
                Some((compiled, asks))
            }
            Err(_) if self.is_full() => None,
            Err(SyntaxError { message, span }) => {
                let place = locate(self.source, &node.place, text, &span);
                self.error("template_syntax", &place, path, message);
                None
            }
        }
    }
}

/// The JSON of a value without looking for templates.
///
/// # Panics
/// Never: what was read has a JSON.
#[must_use]
pub fn literal(value: &Value) -> Json {
    let mut text = String::new();
    write_literal(value, &mut text);
    Json::parse(text).expect("what was written is JSON")
}

fn write_literal(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Number(text) => out.push_str(text),
        Value::Text(text) => out.push_str(&serde_json::to_string(text).expect("a text is JSON")),
        Value::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                write_literal(&item.value, out);
            }
            out.push(']');
        }
        Value::Map(entries) => {
            out.push('{');
            for (index, (key, node)) in entries.iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                out.push_str(&serde_json::to_string(&key.text).expect("a text is JSON"));
                out.push(':');
                write_literal(&node.value, out);
            }
            out.push('}');
        }
    }
}

/// `path.name`
#[must_use]
pub fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

/// What a value is, for people.
#[must_use]
pub fn describe(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(value) => format!("the boolean {value}"),
        Value::Number(text) => format!("the number {text}"),
        Value::Text(text) if text.chars().count() <= 40 => format!("the text \"{text}\""),
        Value::Text(_) => "a text".to_owned(),
        Value::List(_) => "a list".to_owned(),
        Value::Map(_) => "an object".to_owned(),
    }
}

/// Whether a name consists of letters, digits, `_` and `-`.
#[must_use]
pub fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 128
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// Whether a reference has the form `pack.name`.
#[must_use]
pub fn is_reference(reference: &str) -> bool {
    reference.contains('.') && reference.split('.').all(is_name)
}
