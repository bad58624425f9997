//! A text of a definition that has been compiled: it is read once and evaluated often.

use std::fmt;
use std::io;
use std::ops::Range;

use minijinja::{Environment, Error, ErrorKind, Expression, Value};
use serde::Serialize;

use super::context::{Context, Needs};
use super::environment::ENVIRONMENT;
use super::names::{self, Names, Read};
use super::path::Path;
use super::syntax::Expr;
use super::template::{self, Form, Part, Template};
use super::token::SyntaxError;
use super::{ExpressionError, guard, output};
use crate::scope::Scope;

/// A compiled text.
pub(crate) struct Compiled {
    source: String,
    code: Code,
    /// Whether the text is exactly a call of `range()`.
    is_range: bool,
    needs: Needs,
    /// What it reads, to say which name is missing.
    reads: Vec<Read>,
}

enum Code {
    Text,
    Value(Box<CompiledExpression>),
    Parts(Vec<Piece>),
    /// An environment with this one template in it.
    Template(Box<Environment<'static>>),
}

enum Piece {
    Text(String),
    Value(CompiledExpression, Range<usize>),
    Secret(String),
}

/// One expression.
struct CompiledExpression {
    engine: Expression<'static, 'static>,
    /// Where it is no more than that.
    path: Option<Path>,
}

/// A piece of a text that the worker completes.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SecretPart {
    /// It stands as it is.
    Text(String),
    /// The name of a secret.
    Secret(String),
}

impl fmt::Debug for Compiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.source)
    }
}

impl Compiled {
    /// Compiles a text, and tells what it reads.
    pub(crate) fn new(source: &str) -> Result<(Self, Names), SyntaxError> {
        let template = template::read(source)?;
        let names = names::names(source, &template);
        let code = code(source, &template)?;
        Ok((
            Self {
                source: source.to_owned(),
                code,
                is_range: template.is_range(),
                needs: Needs::of(&names),
                reads: names.reads.clone(),
            },
            names,
        ))
    }

    /// The text as it was written.
    pub(super) fn source(&self) -> &str {
        &self.source
    }

    /// Whether the text is exactly one expression.
    pub(crate) fn is_expression(&self) -> bool {
        matches!(self.code, Code::Value(_))
    }

    /// The value in `scope`.
    pub(super) fn evaluate(&self, scope: &Scope) -> Result<Value, ExpressionError> {
        guard::begin();
        self.run(scope)
    }

    /// The value as the items of a task: a range stays one.
    pub(super) fn evaluate_items(&self, scope: &Scope) -> Result<Value, ExpressionError> {
        if self.is_range {
            guard::begin_items();
        } else {
            guard::begin();
        }
        self.run(scope)
    }

    fn run(&self, scope: &Scope) -> Result<Value, ExpressionError> {
        let context = Value::from_object(Context::new(scope, &self.needs));
        let result = match &self.code {
            Code::Text => Ok(Value::from(&self.source)),
            Code::Value(expression) => expression.evaluate(&context).and_then(defined),
            Code::Parts(pieces) => self.parts(pieces, &context, scope)?,
            Code::Template(environment) => render(environment, context),
        };
        result.map_err(|error| self.error(&error, scope))
    }

    /// Whether there are secrets in it, which only a worker can fill in.
    pub(super) fn has_secrets(&self) -> bool {
        match &self.code {
            Code::Parts(pieces) => pieces.iter().any(|piece| matches!(piece, Piece::Secret(_))),
            Code::Text | Code::Value(_) | Code::Template(_) => false,
        }
    }

    /// The text in `scope`, in pieces between its secrets.
    pub(super) fn secret_parts(&self, scope: &Scope) -> Result<Vec<SecretPart>, ExpressionError> {
        let Code::Parts(pieces) = &self.code else {
            return Ok(Vec::new());
        };
        guard::begin();
        let context = Value::from_object(Context::new(scope, &self.needs));
        let mut parts = Vec::new();
        let mut text = String::new();
        for piece in pieces {
            if let Piece::Secret(name) = piece {
                if !text.is_empty() {
                    parts.push(SecretPart::Text(std::mem::take(&mut text)));
                }
                parts.push(SecretPart::Secret(name.clone()));
            } else {
                self.write_piece(piece, &context, scope, &mut text)?;
            }
        }
        if !text.is_empty() {
            parts.push(SecretPart::Text(text));
        }
        Ok(parts)
    }

    fn write_piece(
        &self,
        piece: &Piece,
        context: &Value,
        scope: &Scope,
        text: &mut String,
    ) -> Result<(), ExpressionError> {
        match piece {
            Piece::Text(literal) => text.push_str(literal),
            // It is where no worker fills it in, which the checks of the definition refuse.
            Piece::Secret(_) => {}
            Piece::Value(expression, place) => {
                let written = expression
                    .evaluate(context)
                    .and_then(|value| output::write_text(text, &value, guard::OUTPUT_LIMIT));
                if let Err(error) = written {
                    let source = &self.source[place.clone()];
                    return Err(self.error_in(&error, scope, source, Some(place)));
                }
            }
        }
        Ok(())
    }

    fn parts(
        &self,
        pieces: &[Piece],
        context: &Value,
        scope: &Scope,
    ) -> Result<Result<Value, Error>, ExpressionError> {
        let mut text = String::new();
        for piece in pieces {
            self.write_piece(piece, context, scope, &mut text)?;
        }
        Ok(if text.len() > guard::OUTPUT_LIMIT {
            Err(guard::limit("the template gives too much output"))
        } else {
            Ok(Value::from(text))
        })
    }

    /// Puts an error of the engine into our words.
    pub(super) fn error(&self, error: &Error, scope: &Scope) -> ExpressionError {
        self.error_in(error, scope, &self.source, None)
    }

    fn error_in(
        &self,
        error: &Error,
        scope: &Scope,
        source: &str,
        place: Option<&Range<usize>>,
    ) -> ExpressionError {
        let mut plain = plain_error(error, source);
        let names_it = |detail: &str| detail.contains("undefined");
        if error.kind() == ErrorKind::UndefinedError || error.detail().is_some_and(names_it) {
            let context = Value::from_object(Context::new(scope, &self.needs));
            let missing = self
                .reads
                .iter()
                .filter(|read| {
                    place.is_none_or(|place| {
                        place.start <= read.span.start && read.span.end <= place.end
                    })
                })
                .filter(|read| !read.optional)
                .find_map(|read| missing(&context, &read.path));
            if let Some(missing) = missing {
                plain.message = format!("`{missing}` does not exist");
            }
        }
        plain
    }
}

impl CompiledExpression {
    /// Takes the expression and its text as the engine gets it.
    fn compile(text: &str, expression: &Expr) -> Result<Self, SyntaxError> {
        let compiled = ENVIRONMENT.compile_expression_owned(text.to_owned());
        Ok(Self {
            engine: compiled.map_err(|error| syntax_error(&error, expression.span.clone()))?,
            path: Path::of(expression),
        })
    }

    /// The value, which may be undefined.
    fn evaluate(&self, context: &Value) -> Result<Value, Error> {
        let path = self.path.as_ref();
        match path.and_then(|path| path.follow(context)) {
            Some(value) => Ok(value),
            None => self.engine.eval(context.clone()),
        }
    }
}

/// The part of a path that does not exist.
fn missing(context: &Value, path: &[String]) -> Option<String> {
    let mut value = context.clone();
    for (index, step) in path.iter().enumerate() {
        let key = step
            .parse::<i64>()
            .map_or_else(|_| Value::from(step), Value::from);
        let next = value
            .get_item(&key)
            .ok()
            .filter(|next| !next.is_undefined());
        let Some(next) = next else {
            return Some(path[..=index].join("."));
        };
        value = next;
    }
    None
}

/// An error of the engine, without a scope to explain it.
pub(super) fn plain_error(error: &Error, source: &str) -> ExpressionError {
    let limit = is_limit(error);
    let kind = error.kind();
    let is_ours = matches!(kind, ErrorKind::OutOfFuel | ErrorKind::InvalidOperation);
    let message = match error.detail() {
        _ if kind == ErrorKind::UndefinedError => "a value that is not defined is used".to_owned(),
        Some(detail) if is_ours => detail.to_owned(),
        Some(detail) => format!("{kind}: {detail}"),
        None if kind == ErrorKind::OutOfFuel => {
            format!("the expression takes more than {} steps", guard::FUEL)
        }
        None => kind.to_string(),
    };
    ExpressionError {
        expression: source.to_owned(),
        message,
        limit,
    }
}

fn is_limit(error: &Error) -> bool {
    let mut at: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = at {
        if error
            .downcast_ref::<Error>()
            .is_some_and(|error| error.kind() == ErrorKind::OutOfFuel)
        {
            return true;
        }
        at = error.source();
    }
    false
}

fn defined(value: Value) -> Result<Value, Error> {
    // The engine is strict about what is done with an undefined value, but gives one away.
    if value.is_undefined() {
        Err(Error::from(ErrorKind::UndefinedError))
    } else {
        Ok(value)
    }
}

fn code(source: &str, template: &Template) -> Result<Code, SyntaxError> {
    match &template.form {
        Form::Literal => Ok(Code::Text),
        Form::Whole(text) => CompiledExpression::compile(text, &template.expressions[0])
            .map(Box::new)
            .map(Code::Value),
        Form::Parts(parts) => parts
            .iter()
            .map(|part| match part {
                Part::Text(text) => Ok(Piece::Text(text.clone())),
                Part::Secret(name) => Ok(Piece::Secret(name.clone())),
                Part::Value(text, index) => {
                    let expression = &template.expressions[*index];
                    let place = expression.span.clone();
                    CompiledExpression::compile(text, expression)
                        .map(|compiled| Piece::Value(compiled, place))
                }
            })
            .collect::<Result<_, _>>()
            .map(Code::Parts),
        Form::Statements(text) => {
            let mut environment = Box::new(ENVIRONMENT.clone());
            environment
                .add_template_owned("template", text.clone())
                .map_err(|error| syntax_error(&error, 0..source.len()))?;
            Ok(Code::Template(environment))
        }
    }
}

fn syntax_error(error: &Error, span: Range<usize>) -> SyntaxError {
    SyntaxError {
        message: error
            .detail()
            .unwrap_or("the expression is not valid")
            .to_owned(),
        span,
    }
}

fn render(environment: &Environment<'static>, context: Value) -> Result<Value, Error> {
    let mut writer = Bounded::default();
    let template = environment.get_template("template")?;
    match template.render_captured_to(context, &mut writer) {
        Ok(_) => Ok(Value::from(
            String::from_utf8_lossy(&writer.bytes).into_owned(),
        )),
        Err(_) if writer.is_full => Err(guard::limit("the template gives too much output")),
        Err(error) => Err(error),
    }
}

/// Takes output up to the bound.
#[derive(Default)]
struct Bounded {
    bytes: Vec<u8>,
    is_full: bool,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > guard::OUTPUT_LIMIT {
            self.is_full = true;
            return Err(io::Error::other("too much output"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
