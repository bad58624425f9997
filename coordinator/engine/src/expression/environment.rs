//! The one environment of the template engine: strict about names, without a loader, bounded.

use std::borrow::Cow;
use std::sync::LazyLock;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Environment, Error, State, UndefinedBehavior, Value};

use super::{guard, output, range};
use crate::json::Json;

/// The environment that every expression is compiled in.
pub(super) static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(environment);

/// Deepest nesting of loops and calls.
const RECURSION_LIMIT: usize = 60;

/// Functions that an expression may call, without those of the end of a task.
pub(crate) const FUNCTIONS: [&str; 3] = ["dict", "merge", "range"];

/// Filters that an expression may use.
pub(crate) const FILTERS: [&str; 47] = [
    "abs",
    "attr",
    "batch",
    "bool",
    "capitalize",
    "chain",
    "count",
    "d",
    "default",
    "dictsort",
    "first",
    "float",
    "format",
    "from_json",
    "groupby",
    "indent",
    "int",
    "items",
    "join",
    "last",
    "length",
    "lines",
    "list",
    "lower",
    "map",
    "max",
    "merge",
    "min",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "select",
    "selectattr",
    "slice",
    "sort",
    "split",
    "string",
    "sum",
    "title",
    "to_json",
    "tojson",
    "trim",
    "unique",
    "upper",
    "zip",
];

/// Tests that an expression may use.
pub(crate) const TESTS: [&str; 34] = [
    "boolean",
    "defined",
    "divisibleby",
    "endingwith",
    "eq",
    "equalto",
    "even",
    "false",
    "float",
    "ge",
    "greaterthan",
    "gt",
    "in",
    "int",
    "integer",
    "iterable",
    "le",
    "lessthan",
    "lower",
    "lt",
    "mapping",
    "ne",
    "none",
    "number",
    "odd",
    "sameas",
    "sequence",
    "startingwith",
    "string",
    "test",
    "true",
    "undefined",
    "upper",
    "filter",
];

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(guard::FUEL));
    environment.set_recursion_limit(RECURSION_LIMIT);
    let syntax = SyntaxConfig::builder().keep_trailing_newline(true).build();
    environment.set_syntax(syntax.expect("the default marks are sound"));
    environment.set_unknown_method_callback(method);
    environment.set_formatter(|out, _, value| {
        let mut text = String::new();
        output::write_text(&mut text, value, guard::OUTPUT_LIMIT)?;
        guard::charge(text.len())?;
        out.write_str(&text)
            .map_err(|_| guard::limit("the template gives too much output"))
    });
    for global in ["debug", "namespace"] {
        environment.remove_global(global);
    }
    environment.add_function("__m", guard::measured);
    environment.add_function("__add", guard::add);
    environment.add_function("__mul", guard::mul);
    environment.add_function("__cat", guard::cat);
    environment.add_function("range", range::range);
    environment.add_function("merge", merge);
    add_filters(&mut environment);
    environment
}

fn add_filters(environment: &mut Environment<'static>) {
    for filter in ["pprint", "safe", "escape", "e"] {
        environment.remove_filter(filter);
    }
    environment.add_filter("merge", merge);
    environment.add_filter("from_json", from_json);
    environment.add_filter("to_json", to_json);
    environment.add_filter("tojson", to_json);
    environment.add_filter("string", |value: &Value| text(value));
    environment.add_filter("join", join);
    environment.add_filter("replace", replace);
    environment.add_filter("indent", indent);
    environment.add_filter(
        "batch",
        |value: &Value, size: usize, fill: Option<Value>| batch(value, size, fill),
    );
    environment.add_filter(
        "slice",
        |value: &Value, count: usize, fill: Option<Value>| slice(value, count, fill.as_ref()),
    );
    environment.add_filter(
        "format",
        |state: &mut State, format: &Value, args: Rest<Value>| {
            check_format(format)?;
            let text = minijinja::formatting::format(
                minijinja::formatting::FormatStyle::Printf,
                format.as_str().unwrap_or_default(),
                &args.0,
            )?;
            let _ = state;
            guard::make(text.len())?;
            Ok::<_, Error>(text)
        },
    );
}

/// Methods as Python has them, the ones that can grow a text bounded.
fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    if value.kind() == ValueKind::String {
        match (name, args) {
            ("replace", [from, to, ..]) => check_replace(value, from, to)?,
            ("join", [items]) => return joined(items, Some(value), None),
            ("format", _) => check_format(value)?,
            _ => {}
        }
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args)
}

fn text(value: &Value) -> Result<Value, Error> {
    if value.kind() == ValueKind::String {
        return Ok(value.clone());
    }
    let mut text = String::new();
    output::write_text(&mut text, value, guard::OUTPUT_LIMIT)?;
    guard::charge(text.len())?;
    Ok(Value::from(text))
}

/// `merge(a, b, …)`: one object; of equal names the last wins, and it does not go deep.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the engine hands arguments over"
)]
fn merge(objects: Rest<Value>) -> Result<Value, Error> {
    let mut pairs = Vec::new();
    for object in objects.iter() {
        if object.kind() != ValueKind::Map {
            return Err(guard::invalid(format!(
                "merge() wants objects, not {}",
                object.kind()
            )));
        }
        for key in object.try_iter()? {
            let value = object.get_item(&key)?;
            pairs.push((key, value));
        }
    }
    Ok(Value::from_pairs(pairs))
}

fn from_json(value: &Value) -> Result<Value, Error> {
    let Some(text) = value.as_str() else {
        return Err(guard::invalid(format!(
            "from_json wants a text, not {}",
            value.kind()
        )));
    };
    let json = Json::parse(text.to_owned())
        .map_err(|error| guard::invalid(format!("the text is not JSON: {error}")))?;
    Ok(json.value().clone())
}

fn to_json(value: &Value) -> Result<Value, Error> {
    let mut json = String::new();
    output::write_json(&mut json, value, guard::OUTPUT_LIMIT)?;
    guard::charge(json.len())?;
    Ok(Value::from(json))
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the engine hands arguments over"
)]
fn join(
    items: &Value,
    separator: Option<Value>,
    attribute: Option<&str>,
    options: Kwargs,
) -> Result<Value, Error> {
    let attribute = match attribute {
        Some(attribute) => Some(attribute),
        None => options.get::<Option<&str>>("attribute")?,
    };
    options.assert_all_used()?;
    joined(items, separator.as_ref(), attribute)
}

fn joined(
    items: &Value,
    separator: Option<&Value>,
    attribute: Option<&str>,
) -> Result<Value, Error> {
    let mut between = String::new();
    if let Some(separator) = separator {
        output::write_text(&mut between, separator, guard::OUTPUT_LIMIT)?;
    }
    let mut joined = String::new();
    for (index, item) in items.try_iter()?.enumerate() {
        let mut item = item;
        for step in attribute.iter().flat_map(|path| path.split('.')) {
            item = item.get_attr(step)?;
        }
        let before = joined.len();
        if index > 0 {
            joined.push_str(&between);
        }
        output::write_text(&mut joined, &item, guard::OUTPUT_LIMIT)?;
        guard::charge(joined.len() - before)?;
    }
    Ok(Value::from(joined))
}

fn replace(value: &Value, from: &Value, to: &Value) -> Result<Value, Error> {
    let (value, from, to) = (text(value)?, text(from)?, text(to)?);
    check_replace(&value, &from, &to)?;
    let replaced = str_of(&value).replace(str_of(&from).as_ref(), str_of(&to).as_ref());
    Ok(Value::from(replaced))
}

fn check_replace(value: &Value, from: &Value, to: &Value) -> Result<(), Error> {
    let (value, from, to) = (str_of(value), str_of(from), str_of(to));
    let matches = if to.len() > from.len() {
        value.matches(from.as_ref()).count()
    } else {
        0
    };
    guard::make(value.len().saturating_add(matches.saturating_mul(to.len())))
}

fn str_of(value: &Value) -> Cow<'_, str> {
    Cow::Borrowed(value.as_str().unwrap_or_default())
}

fn indent(value: &Value, width: usize, first: Option<bool>) -> Result<Value, Error> {
    let value = text(value)?;
    let value = str_of(&value);
    let lines = value.lines().count().saturating_add(1);
    guard::make(value.len().saturating_add(lines.saturating_mul(width)))?;
    let space = " ".repeat(width);
    let mut out = String::with_capacity(value.len());
    for (index, line) in value.split_inclusive('\n').enumerate() {
        if (index > 0 || first == Some(true)) && !line.trim_end().is_empty() {
            out.push_str(&space);
        }
        out.push_str(line);
    }
    Ok(Value::from(out))
}

fn batch(value: &Value, size: usize, fill: Option<Value>) -> Result<Value, Error> {
    if size == 0 {
        return Err(guard::invalid("the size of a batch is at least 1"));
    }
    let items: Vec<Value> = value.try_iter()?.collect();
    let mut batches: Vec<Vec<Value>> = items.chunks(size).map(<[Value]>::to_vec).collect();
    if let (Some(fill), Some(last)) = (fill, batches.last_mut()) {
        guard::make(size.saturating_mul(guard::measure(&fill)?))?;
        last.resize(size, fill);
    }
    Ok(Value::from(batches))
}

fn slice(value: &Value, count: usize, fill: Option<&Value>) -> Result<Value, Error> {
    if count == 0 {
        return Err(guard::invalid("the number of slices is at least 1"));
    }
    let fill_size = fill.map_or(Ok(0), guard::measure)?;
    guard::make(count.saturating_mul(16 + fill_size))?;
    let items: Vec<Value> = value.try_iter()?.collect();
    let (each, extra) = (items.len() / count, items.len() % count);
    let mut rest = items.as_slice();
    let mut slices = Vec::with_capacity(count);
    for index in 0..count {
        let (head, tail) = rest.split_at(each + usize::from(index < extra));
        rest = tail;
        let mut slice = head.to_vec();
        if let Some(fill) = fill
            && extra > 0
            && index >= extra
        {
            slice.push(fill.clone());
        }
        slices.push(Value::from(slice));
    }
    Ok(Value::from(slices))
}

/// Refuses widths that are out of proportion, and such as come from an argument.
fn check_format(format: &Value) -> Result<(), Error> {
    let format = str_of(format);
    let mut digits = 0;
    for c in format.chars() {
        digits = if c.is_ascii_digit() { digits + 1 } else { 0 };
        if digits > 3 {
            return Err(guard::limit("a width in the format is too large"));
        }
    }
    let has_star = format.split('%').skip(1).any(|part| {
        part.trim_start_matches(['-', '+', ' ', '0', '#', '.'])
            .starts_with('*')
            || part.contains(".*")
    });
    let has_nested = format
        .split('{')
        .skip(1)
        .any(|part| part.contains(':') && !part.contains('}'));
    if has_star || has_nested {
        return Err(guard::invalid("a width in a format is a number"));
    }
    Ok(())
}
