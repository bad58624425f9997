//! Cuts a text of a definition into what stands as it is and what is evaluated.

use std::collections::BTreeSet;
use std::ops::Range;

use super::emit::{emit, emit_measured};
use super::names::secret_name;
use super::syntax::{Expr, Node, Parser};
use super::token::{Kind, SyntaxError, tokenize};

/// A text of a definition, read.
#[derive(Debug, Clone)]
pub(super) struct Template {
    pub form: Form,
    /// All expressions in it.
    pub expressions: Vec<Expr>,
    /// Names that the text itself gives a meaning (`for`, `set`).
    pub locals: BTreeSet<String>,
}

impl Template {
    /// Whether the text is exactly a call of `range()`.
    pub(super) fn is_range(&self) -> bool {
        let [only] = self.expressions.as_slice() else {
            return false;
        };
        match (&self.form, &only.node) {
            (Form::Whole(_), Node::Call(callee, _)) => {
                matches!(&callee.node, Node::Name(name) if name == "range")
            }
            (Form::Whole(_) | Form::Literal | Form::Parts(_) | Form::Statements(_), _) => false,
        }
    }
}

/// How a text is evaluated.
#[derive(Debug, Clone)]
pub(super) enum Form {
    /// Not at all.
    Literal,
    /// It is exactly one expression and gives its value; the expression as the engine gets it.
    Whole(String),
    /// Texts and values side by side give a text.
    Parts(Vec<Part>),
    /// It has statements, and the engine renders it; the template as the engine gets it.
    Statements(String),
}

/// A piece of a text.
#[derive(Debug, Clone)]
pub(super) enum Part {
    /// It stands as it is.
    Text(String),
    /// An expression as the engine gets it, and its index.
    Value(String, usize),
    /// A call of `secret()` by itself: its name, which the worker looks up.
    Secret(String),
}

/// Whether a text is a template at all.
pub(crate) fn has_markers(text: &str) -> bool {
    ["{{", "{%", "{#"]
        .iter()
        .any(|marker| text.contains(marker))
}

/// Reads a text of a definition.
pub(super) fn read(source: &str) -> Result<Template, SyntaxError> {
    let mut reader = Reader {
        source,
        pieces: Vec::new(),
        expressions: Vec::new(),
        locals: BTreeSet::new(),
        open: Vec::new(),
    };
    reader.read()?;
    let form = reader.form();
    Ok(Template {
        form,
        expressions: reader.expressions,
        locals: reader.locals,
    })
}

#[derive(Debug)]
enum Piece {
    Text(Range<usize>),
    /// Index of the expression, and the place with its braces.
    Output(usize, Range<usize>),
    Comment(Range<usize>),
    /// A statement as the engine gets it.
    Statement(String),
}

struct Reader<'a> {
    source: &'a str,
    pieces: Vec<Piece>,
    expressions: Vec<Expr>,
    locals: BTreeSet<String>,
    /// Statements that wait for their end, with their places.
    open: Vec<(&'static str, Range<usize>)>,
}

/// Statements that Jinja has and this language does not.
const REFUSED: [&str; 14] = [
    "include",
    "import",
    "from",
    "extends",
    "block",
    "endblock",
    "macro",
    "endmacro",
    "call",
    "endcall",
    "filter",
    "endfilter",
    "with",
    "autoescape",
];

impl Reader<'_> {
    fn read(&mut self) -> Result<(), SyntaxError> {
        let mut at = 0;
        while at < self.source.len() {
            let begin = find_marker(self.source, at);
            if begin > at {
                self.pieces.push(Piece::Text(at..begin));
            }
            at = match &self.source.as_bytes()[begin..] {
                [] => begin,
                [_, b'{', ..] => self.output(begin)?,
                [_, b'%', ..] => self.statement(begin)?,
                _ => self.comment(begin)?,
            };
        }
        match self.open.pop() {
            Some((word, span)) => Err(SyntaxError::new(
                format!("`{{% {word} %}}` is not closed"),
                span,
            )),
            None => Ok(()),
        }
    }

    fn output(&mut self, begin: usize) -> Result<usize, SyntaxError> {
        let start = inner_start(self.source, begin);
        let (tokens, end) = tokenize(self.source, start, Some("}}"))?;
        let close = close_end(self.source, end);
        let expression = Parser::new(self.source, &tokens).whole()?;
        self.pieces
            .push(Piece::Output(self.expressions.len(), begin..close));
        self.expressions.push(expression);
        Ok(close)
    }

    fn comment(&mut self, begin: usize) -> Result<usize, SyntaxError> {
        let end = self.source[begin..]
            .find("#}")
            .ok_or_else(|| SyntaxError::new("`#}` is missing", begin..self.source.len()))?;
        self.pieces.push(Piece::Comment(begin..begin + end + 2));
        Ok(begin + end + 2)
    }

    fn statement(&mut self, begin: usize) -> Result<usize, SyntaxError> {
        let start = inner_start(self.source, begin);
        let (tokens, end) = tokenize(self.source, start, Some("%}"))?;
        let close = close_end(self.source, end);
        let mut parser = Parser::new(self.source, &tokens);
        if tokens[0].kind != Kind::Name {
            return Err(parser.unexpected("a statement"));
        }
        let word = parser.word();
        if REFUSED.contains(&word) {
            let message = format!("`{{% {word} %}}` is not supported in a definition");
            return Err(SyntaxError::new(message, tokens[0].span.clone()));
        }
        if word == "raw" {
            return self.raw(begin, close);
        }
        let body = self.body(&mut parser, begin..close)?;
        parser.end()?;
        let (left, right) = (&self.source[begin..start], &self.source[end..close]);
        self.pieces
            .push(Piece::Statement(format!("{left} {body} {right}")));
        Ok(close)
    }

    /// What stands between `{% raw %}` and `{% endraw %}` is text.
    fn raw(&mut self, begin: usize, start: usize) -> Result<usize, SyntaxError> {
        let missing = || SyntaxError::new("`{% endraw %}` is missing", begin..start);
        let mut at = start;
        loop {
            let found = self.source[at..].find("{%").ok_or_else(missing)? + at;
            let inner = inner_start(self.source, found);
            let rest = self.source[inner..].trim_start();
            if let Some(rest) = rest.strip_prefix("endraw") {
                let rest = rest.trim_start();
                let rest = rest.strip_prefix('-').unwrap_or(rest);
                let Some(rest) = rest.strip_prefix("%}") else {
                    return Err(missing());
                };
                self.pieces.push(Piece::Text(start..found));
                return Ok(self.source.len() - rest.len());
            }
            at = inner;
        }
    }

    fn body(&mut self, parser: &mut Parser, span: Range<usize>) -> Result<String, SyntaxError> {
        let word = parser.word();
        parser.take_word(word);
        match word {
            "if" => {
                self.open.push(("if", span));
                Ok(format!("if {}", self.take(parser.expression()?)))
            }
            "elif" if self.is_open("if") => Ok(format!("elif {}", self.take(parser.expression()?))),
            "else" if self.is_open("if") || self.is_open("for") => Ok("else".to_owned()),
            "endif" if self.is_open("if") => self.close("endif"),
            "for" => {
                self.open.push(("for", span));
                self.for_loop(parser)
            }
            "endfor" if self.is_open("for") => self.close("endfor"),
            "set" => self.set(parser),
            _ => Err(SyntaxError::new(
                format!("unexpected statement `{word}`"),
                span,
            )),
        }
    }

    fn is_open(&self, word: &str) -> bool {
        self.open.last().is_some_and(|(open, _)| *open == word)
    }

    fn close(&mut self, word: &str) -> Result<String, SyntaxError> {
        self.open.pop();
        Ok(word.to_owned())
    }

    fn for_loop(&mut self, parser: &mut Parser) -> Result<String, SyntaxError> {
        let mut names = vec![parser.take_name()?];
        while parser.take_symbol(&[","]).is_some() {
            names.push(parser.take_name()?);
        }
        if !parser.take_word("in") {
            return Err(parser.unexpected("`in`"));
        }
        let items = parser.or()?;
        let mut body = format!(
            "for {} in {}",
            names.join(","),
            emit_measured(self.source, &items)
        );
        self.expressions.push(items);
        if parser.take_word("if") {
            let condition = parser.expression()?;
            body.push_str(" if ");
            body.push_str(&self.take(condition));
        }
        self.locals.extend(names);
        self.locals.insert("loop".to_owned());
        Ok(body)
    }

    fn set(&mut self, parser: &mut Parser) -> Result<String, SyntaxError> {
        let name = parser.take_name()?;
        if parser.take_symbol(&["="]).is_none() {
            return Err(parser.unexpected("`=`"));
        }
        let value = parser.expression()?;
        let body = format!("set {name} = {}", emit_measured(self.source, &value));
        self.expressions.push(value);
        self.locals.insert(name);
        Ok(body)
    }

    fn take(&mut self, expression: Expr) -> String {
        let emitted = emit(self.source, &expression);
        self.expressions.push(expression);
        emitted
    }

    fn form(&self) -> Form {
        let source = self.source;
        if self
            .pieces
            .iter()
            .any(|piece| matches!(piece, Piece::Statement(_)))
        {
            return Form::Statements(
                self.pieces
                    .iter()
                    .map(|piece| self.rewritten(piece))
                    .collect(),
            );
        }
        match self.pieces.as_slice() {
            [Piece::Output(index, _)] if self.secret(*index).is_none() => {
                Form::Whole(emit(source, &self.expressions[*index]))
            }
            pieces => match self.parts(pieces).as_slice() {
                [] if source.is_empty() => Form::Literal,
                [Part::Text(text)] if text == source => Form::Literal,
                parts => Form::Parts(parts.to_vec()),
            },
        }
    }

    /// The name that an expression gives `secret()`, if it is such a call and nothing else.
    fn secret(&self, index: usize) -> Option<&str> {
        secret_name(self.source, &self.expressions[index])
    }

    fn parts(&self, pieces: &[Piece]) -> Vec<Part> {
        let mut parts: Vec<Part> = Vec::new();
        let mut trim = false;
        for piece in pieces {
            let (Piece::Text(span) | Piece::Output(_, span) | Piece::Comment(span)) = piece else {
                continue;
            };
            let text = &self.source[span.clone()];
            if let Piece::Text(_) = piece {
                let text = if trim { text.trim_start() } else { text };
                parts.push(Part::Text(text.to_owned()));
                trim = false;
                continue;
            }
            if text.as_bytes().get(2) == Some(&b'-')
                && let Some(Part::Text(before)) = parts.last_mut()
            {
                before.truncate(before.trim_end().len());
            }
            trim = text.as_bytes().get(text.len() - 3) == Some(&b'-');
            if let Piece::Output(index, _) = piece {
                parts.push(match self.secret(*index) {
                    Some(name) => Part::Secret(name.to_owned()),
                    None => Part::Value(emit(self.source, &self.expressions[*index]), *index),
                });
            }
        }
        parts
    }

    fn rewritten(&self, piece: &Piece) -> String {
        match piece {
            Piece::Text(span) if has_markers(&self.source[span.clone()]) => {
                format!("{{% raw %}}{}{{% endraw %}}", &self.source[span.clone()])
            }
            Piece::Text(span) | Piece::Comment(span) => self.source[span.clone()].to_owned(),
            Piece::Output(index, span) => {
                let text = &self.source[span.clone()];
                let left = &text[..inner_start(text, 0)];
                let trim = text.as_bytes().get(text.len() - 3) == Some(&b'-');
                let right = if trim { "-}}" } else { "}}" };
                format!(
                    "{left} {} {right}",
                    emit(self.source, &self.expressions[*index])
                )
            }
            Piece::Statement(text) => text.clone(),
        }
    }
}

/// The next `{{`, `{%` or `{#`, or the end.
fn find_marker(source: &str, from: usize) -> usize {
    let bytes = source.as_bytes();
    (from..bytes.len().saturating_sub(1))
        .find(|at| bytes[*at] == b'{' && matches!(bytes[at + 1], b'{' | b'%' | b'#'))
        .unwrap_or(bytes.len())
}

/// Where the inside of a marker at `begin` starts, behind a sign that trims white space.
fn inner_start(source: &str, begin: usize) -> usize {
    let sign = matches!(source.as_bytes().get(begin + 2), Some(b'-' | b'+'));
    begin + 2 + usize::from(sign)
}

/// The place behind a closing mark at `end`, perhaps with its sign.
fn close_end(source: &str, end: usize) -> usize {
    let sign = matches!(source.as_bytes().get(end), Some(b'-' | b'+'));
    end + 2 + usize::from(sign)
}
