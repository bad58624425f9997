//! Prints the tree of a file as YAML in one canonical form, such that reading it gives the same tree:
//! blocks for lists and objects, keys in the order of the file (which has a meaning for routes and
//! variables), texts without quotes where nothing can take them for something else.

use super::tree::{Node, Value};

/// What stands for something else than a text where no quotes are around it, in small letters.
const WORDS: [&str; 12] = [
    "null", "true", "false", "yes", "no", "on", "off", "y", "n", "nan", "inf", "infinity",
];

/// Prints a tree as YAML; the text ends with a line break.
#[must_use]
pub fn print(node: &Node) -> String {
    let mut out = String::new();
    print_inner(&node.value, 0, &mut out);
    out
}

/// A value, from the place where its first line begins.
fn print_inner(value: &Value, indent: usize, out: &mut String) {
    match value {
        Value::Map(entries) if !entries.is_empty() => {
            for (index, (key, node)) in entries.iter().enumerate() {
                begin_line(index, indent, out);
                out.push_str(&text(&key.text));
                out.push(':');
                print_value(&node.value, indent, out);
            }
        }
        Value::List(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                begin_line(index, indent, out);
                out.push_str("- ");
                print_inner(&item.value, indent + 2, out);
            }
        }
        Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::Text(_)
        | Value::List(_)
        | Value::Map(_) => {
            out.push_str(&scalar(value));
            out.push('\n');
        }
    }
}

/// The first line has been begun by whoever prints what is around it.
fn begin_line(index: usize, indent: usize, out: &mut String) {
    if index > 0 {
        out.extend(std::iter::repeat_n(' ', indent));
    }
}

/// The value of a key.
fn print_value(value: &Value, indent: usize, out: &mut String) {
    if is_block(value) {
        out.push('\n');
        out.extend(std::iter::repeat_n(' ', indent + 2));
        print_inner(value, indent + 2, out);
    } else {
        out.push(' ');
        print_inner(value, indent, out);
    }
}

fn is_block(value: &Value) -> bool {
    match value {
        Value::List(items) => !items.is_empty(),
        Value::Map(entries) => !entries.is_empty(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) => false,
    }
}

/// What takes one line.
fn scalar(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.clone(),
        Value::Text(value) => text(value),
        Value::List(_) => "[]".to_owned(),
        Value::Map(_) => "{}".to_owned(),
    }
}

fn text(value: &str) -> String {
    if is_plain(value) {
        return value.to_owned();
    }
    let mut out = String::from('"');
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            // What an editor does not show, or takes for the end of a line, stands as its number.
            c if c.is_control() || !is_shown(c) => {
                out.push_str(&format!("\\U{:08X}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn is_shown(c: char) -> bool {
    !matches!(
        c,
        '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
    )
}

/// Whether a text can be nothing but a text: a word that begins with a letter or `_`, or several.
fn is_plain(value: &str) -> bool {
    let is_inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | ' ');
    let begins = value.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    begins
        && value.chars().all(is_inner)
        && !value.ends_with(' ')
        && !WORDS.contains(&value.to_ascii_lowercase().as_str())
}
