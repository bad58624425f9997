//! YAML as a tree in which every key and value knows its place. The only place that parses YAML.

use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::{AliasLimits, DuplicateKeyPolicy, MergeKeyPolicy};
use serde_saphyr::{Location, Spanned};

use crate::diagnostic::{Diagnostic, Severity};

/// Most bytes of a definition.
pub(super) const SOURCE_LIMIT: usize = 1024 * 1024;
/// Deepest nesting of a definition.
const DEPTH_LIMIT: usize = 64;

/// A place in the source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// In bytes.
    pub span: Range<usize>,
}

/// A value and its place.
#[derive(Debug, Clone)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Where it stands.
    pub place: Place,
}

/// A value of YAML that JSON has, too.
#[derive(Debug, Clone)]
pub enum Value {
    /// `null`, or nothing at all.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number, as JSON writes it.
    Number(String),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// An object, in the order of the file.
    Map(Vec<(Key, Node)>),
}

/// A key of a map and its place.
#[derive(Debug, Clone)]
pub struct Key {
    /// The key.
    pub text: String,
    /// Where it stands.
    pub place: Place,
}

/// Parses a document.
///
/// # Errors
///
/// When it is not YAML, exceeds a limit, or holds a value that JSON does not have.
pub fn parse(source: &str) -> Result<Node, Vec<Diagnostic>> {
    if source.len() > SOURCE_LIMIT {
        let message = format!("a definition has at most {SOURCE_LIMIT} bytes");
        return Err(vec![diagnostic(
            "too_large",
            message,
            Place {
                line: 1,
                column: 1,
                span: 0..0,
            },
        )]);
    }
    let parsed = serde_saphyr::from_str_with_options::<Spanned<Raw>>(source, options());
    let raw = parsed.map_err(|error| vec![syntax(source, &error)])?;
    let mut builder = Builder {
        source,
        errors: Vec::new(),
    };
    let node = builder.node(raw);
    if builder.errors.is_empty() {
        Ok(node)
    } else {
        Err(builder.errors)
    }
}

fn options() -> serde_saphyr::Options {
    let mut aliases = AliasLimits::default();
    aliases.max_total_replayed_events = 20_000;
    aliases.max_replay_stack_depth = 8;
    aliases.max_alias_expansions_per_anchor = 1_000;
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: DEPTH_LIMIT,
            flow_nesting_limit: DEPTH_LIMIT,
            max_events: 400_000,
            max_nodes: 200_000,
            max_aliases: 1_000,
            max_anchors: 1_000,
            max_documents: 1,
            max_recorded_anchor_events: 100_000,
            max_recorded_anchor_bytes: 4 * SOURCE_LIMIT,
            max_total_scalar_bytes: 4 * SOURCE_LIMIT,
        },
        emit_comments: false,
        strict_booleans: true,
        duplicate_keys: DuplicateKeyPolicy::Error,
        merge_keys: MergeKeyPolicy::Merge,
        alias_limits: aliases,
        with_snippet: false,
    }
}

fn syntax(source: &str, error: &serde_saphyr::Error) -> Diagnostic {
    let error = error.without_snippet();
    let mut place = error
        .location()
        .map_or_else(Place::default, |location| place(source, location));
    if place.span == (0..0) {
        place.span = span_of(source, &place);
    }
    let text = error.render();
    let text = text.lines().next().unwrap_or("the file is not YAML");
    let text = text.rfind(" at line ").map_or(text, |at| &text[..at]);
    let is_budget = matches!(error, serde_saphyr::Error::Budget { .. });
    let (code, message) = if matches!(error, serde_saphyr::Error::DuplicateMappingKey { .. }) {
        let key = source[place.span.clone()].trim();
        (
            "duplicate_key",
            format!("the key `{key}` stands twice in one object"),
        )
    } else if is_budget && text.contains("Documents") {
        ("yaml_syntax", "a file holds one definition".to_owned())
    } else if is_budget {
        (
            "too_large",
            format!("the definition exceeds a limit: {text}"),
        )
    } else {
        ("yaml_syntax", text.to_owned())
    };
    diagnostic(code, message, place)
}

/// The character at a line and column.
fn span_of(source: &str, place: &Place) -> Range<usize> {
    let lines = source
        .split_inclusive('\n')
        .take(place.line.saturating_sub(1));
    let line_start: usize = lines.map(str::len).sum();
    let line = &source[line_start..];
    let (at, c) = match line.char_indices().nth(place.column.saturating_sub(1)) {
        Some((at, c)) if !line[..at].contains('\n') => (at, c.len_utf8()),
        _ => (line.find('\n').unwrap_or(line.len()), 0),
    };
    line_start + at..line_start + at + c
}

fn diagnostic(code: &'static str, message: String, place: Place) -> Diagnostic {
    Diagnostic {
        severity: Severity::Error,
        code,
        message,
        hint: None,
        path: String::new(),
        line: place.line.max(1),
        column: place.column.max(1),
        span: place.span,
    }
}

fn place(source: &str, location: Location) -> Place {
    let whole = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let span = location.span();
    let start = whole(span.byte_offset().unwrap_or(0)).min(source.len());
    let end = start
        .saturating_add(whole(span.byte_len().unwrap_or(0)))
        .min(source.len());
    Place {
        line: whole(location.line()),
        column: whole(location.column()),
        span: start..end,
    }
}

/// What serde hands over, before numbers are looked at in the source.
enum Raw {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<RawKey>, Spanned<Raw>)>),
}

struct RawKey(String);

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

impl<'de> Deserialize<'de> for RawKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that JSON has, too")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Integer(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Float(value))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }

    fn visit_string<E: serde::de::Error>(self, value: String) -> Result<Raw, E> {
        Ok(Raw::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut pairs: Vec<(Spanned<RawKey>, Spanned<Raw>)> = Vec::new();
        while let Some(pair) = access.next_entry()? {
            pairs.push(pair);
        }
        if pairs.len() > 100_000 {
            return Err(A::Error::custom("a map has too many keys"));
        }
        Ok(Raw::Map(pairs))
    }
}

struct Builder<'a> {
    source: &'a str,
    errors: Vec<Diagnostic>,
}

impl Builder<'_> {
    fn node(&mut self, raw: Spanned<Raw>) -> Node {
        let place = place(self.source, raw.referenced);
        let written = self::place(self.source, raw.defined);
        let value = match raw.value {
            Raw::Null => Value::Null,
            Raw::Bool(value) => Value::Bool(value),
            Raw::Integer(value) => self.number(&written, &place, value.to_string()),
            Raw::Float(value) => {
                let text = serde_json::Number::from_f64(value).map(|number| number.to_string());
                self.number(&written, &place, text.unwrap_or_default())
            }
            Raw::Text(text) => Value::Text(text),
            Raw::List(items) => {
                Value::List(items.into_iter().map(|item| self.node(item)).collect())
            }
            Raw::Map(pairs) => Value::Map(
                pairs
                    .into_iter()
                    .map(|(key, value)| self.pair(key, value))
                    .collect(),
            ),
        };
        Node { value, place }
    }

    fn pair(&mut self, key: Spanned<RawKey>, value: Spanned<Raw>) -> (Key, Node) {
        let place = place(self.source, key.referenced);
        (
            Key {
                text: key.value.0,
                place,
            },
            self.node(value),
        )
    }

    /// A number as it was written, where that is how JSON writes it: the value has lost digits.
    fn number(&mut self, written: &Place, place: &Place, value: String) -> Value {
        let text = self.source[written.span.clone()].trim();
        let digits = text.trim_start_matches(['-', '+']);
        if written == place
            && digits.len() > 1
            && digits.starts_with('0')
            && digits.as_bytes()[1].is_ascii_digit()
        {
            let mut error = diagnostic(
                "leading_zero",
                format!("`{text}` is read differently by different programs"),
                place.clone(),
            );
            error.hint = Some(format!(
                "write \"{text}\" for a text, or {} for a number",
                text.replacen(digits, digits.trim_start_matches('0'), 1)
            ));
            self.errors.push(error);
        }
        if is_json_number(text) {
            return Value::Number(text.to_owned());
        }
        if value.is_empty() {
            let message = format!("`{text}` is no number of JSON");
            self.errors
                .push(diagnostic("wrong_type", message, place.clone()));
        }
        Value::Number(value)
    }
}

fn is_json_number(text: &str) -> bool {
    let starts = text
        .trim_start_matches('-')
        .starts_with(|c: char| c.is_ascii_digit());
    starts && serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok()
}
