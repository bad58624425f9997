//! The tokens of an expression, with their places.

use std::ops::Range;

/// What is wrong with the text of a template, and where in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    /// One sentence.
    pub message: String,
    /// The place, in bytes of the text.
    pub span: Range<usize>,
}

impl SyntaxError {
    pub(super) fn new(message: impl Into<String>, span: Range<usize>) -> Self {
        Self {
            message: message.into(),
            span,
        }
    }
}

/// Kind of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A name or keyword.
    Name,
    /// A text in quotes.
    Text,
    /// A number.
    Number,
    /// An operator or bracket.
    Symbol(&'static str),
    /// The end of the expression.
    End,
}

/// A token and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub kind: Kind,
    pub span: Range<usize>,
}

/// Longest first, so that the first that matches is the right one.
const SYMBOLS: [&str; 25] = [
    "**", "//", "==", "!=", "<=", ">=", "+", "-", "*", "/", "%", "~", "<", ">", "=", "|", ".", ",",
    ":", "(", ")", "[", "]", "{", "}",
];

/// The tokens of `source` from `start` on, up to `close` (`}}` or `%}`) outside of any bracket, or
/// to the end of the text where there is no `close`. Gives the place behind them.
pub(super) fn tokenize(
    source: &str,
    start: usize,
    close: Option<&str>,
) -> Result<(Vec<Token>, usize), SyntaxError> {
    let mut tokens = Vec::new();
    let mut at = start;
    let mut open = 0_usize;
    loop {
        at += source[at..].len() - source[at..].trim_start_matches(char::is_whitespace).len();
        let rest = &source[at..];
        if close.is_some_and(|close| open == 0 && closes(rest, close)) || rest.is_empty() {
            if rest.is_empty()
                && let Some(close) = close
            {
                let begin = start.saturating_sub(2);
                return Err(SyntaxError::new(format!("`{close}` is missing"), begin..at));
            }
            tokens.push(Token {
                kind: Kind::End,
                span: at..at,
            });
            return Ok((tokens, at));
        }
        let (kind, length) = token(source, at)?;
        match kind {
            Kind::Symbol("(" | "[" | "{") => open += 1,
            Kind::Symbol(")" | "]" | "}") => open = open.saturating_sub(1),
            Kind::Symbol(_) | Kind::Name | Kind::Text | Kind::Number | Kind::End => {}
        }
        tokens.push(Token {
            kind,
            span: at..at + length,
        });
        at += length;
    }
}

/// Whether `rest` begins with the closing mark, perhaps with a sign that trims white space.
fn closes(rest: &str, close: &str) -> bool {
    rest.starts_with(close)
        || rest
            .strip_prefix(['-', '+'])
            .is_some_and(|rest| rest.starts_with(close))
}

fn token(source: &str, at: usize) -> Result<(Kind, usize), SyntaxError> {
    let rest = &source[at..];
    let first = rest.chars().next().expect("the rest is not empty");
    if first == '_' || first.is_ascii_alphabetic() {
        return Ok((Kind::Name, name_length(rest)));
    }
    if first.is_ascii_digit() {
        let after_dot = source[..at].ends_with('.');
        return Ok((Kind::Number, number_length(rest, after_dot)));
    }
    if first == '\'' || first == '"' {
        return text_length(rest, first)
            .map(|length| (Kind::Text, length))
            .ok_or_else(|| SyntaxError::new("a text is not closed", at..source.len()));
    }
    match SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
        Some(symbol) => Ok((Kind::Symbol(symbol), symbol.len())),
        None => Err(SyntaxError::new(
            format!("unexpected character `{first}`"),
            at..at + first.len_utf8(),
        )),
    }
}

fn name_length(rest: &str) -> usize {
    rest.find(|c: char| c != '_' && !c.is_ascii_alphanumeric())
        .unwrap_or(rest.len())
}

/// Length of the text in quotes that `rest` begins with.
fn text_length(rest: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// Length of the number that `rest` begins with. After a dot it is an index, without a fraction.
fn number_length(rest: &str, after_dot: bool) -> usize {
    let bytes = rest.as_bytes();
    let digits = |from: usize| {
        bytes[from..]
            .iter()
            .take_while(|b| b.is_ascii_digit() || **b == b'_')
            .count()
    };
    if let [b'0', b'x' | b'X' | b'o' | b'O' | b'b' | b'B', ..] = bytes {
        return 2 + bytes[2..]
            .iter()
            .take_while(|b| b.is_ascii_hexdigit() || **b == b'_')
            .count();
    }
    let mut length = digits(0);
    if after_dot {
        return length;
    }
    if bytes.get(length) == Some(&b'.') && bytes.get(length + 1).is_some_and(u8::is_ascii_digit) {
        length += 1 + digits(length + 1);
    }
    if matches!(bytes.get(length), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(length + 1), Some(b'+' | b'-')));
        let exponent = digits(length + 1 + sign);
        if exponent > 0 {
            length += 1 + sign + exponent;
        }
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(source: &str) -> Vec<&str> {
        let (tokens, _) = tokenize(source, 0, None).expect("tokens");
        tokens
            .iter()
            .map(|token| &source[token.span.clone()])
            .filter(|w| !w.is_empty())
            .collect()
    }

    #[test]
    fn cuts_at_the_right_places() {
        assert_eq!(
            words("a.b|c(1.5, 'x\\'y')**2"),
            [
                "a", ".", "b", "|", "c", "(", "1.5", ",", "'x\\'y'", ")", "**", "2"
            ]
        );
        assert_eq!(
            words("a.1.0 1_000 0xff 2e3 3e"),
            ["a", ".", "1", ".", "0", "1_000", "0xff", "2e3", "3", "e"]
        );
    }

    #[test]
    fn ends_at_the_mark_outside_of_brackets() {
        let source = "{'a': {'b': '}}'}} }} rest";
        let (_, end) = tokenize(source, 0, Some("}}")).expect("tokens");
        assert_eq!(&source[end..], "}} rest");
    }

    #[test]
    fn says_where_a_text_is_open() {
        let error = tokenize("a == 'b", 0, None).expect_err("open text");
        assert_eq!(error.span, 5..7);
        let error = tokenize("a ? b", 0, None).expect_err("no such character");
        assert_eq!(error.span, 2..3);
    }
}
