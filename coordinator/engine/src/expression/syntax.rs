//! The tree of an expression. The template engine parses for itself; this tree exists because
//! checks want names with their places, and because operators that could grow a value without
//! bound are rewritten into bounded ones (see [`super::guard`]).

use std::ops::Range;

use super::token::{Kind, SyntaxError, Token};

/// An expression and its place in the text.
#[derive(Debug, Clone)]
pub(super) struct Expr {
    pub node: Node,
    pub span: Range<usize>,
}

/// What an expression consists of.
#[derive(Debug, Clone)]
pub(super) enum Node {
    /// A text in quotes; its source stands at the span.
    Text,
    /// A number.
    Number,
    /// `true`, `false`, `none`, in the engine's spelling.
    Word(&'static str),
    /// A name.
    Name(String),
    /// `a.b` or `a.0`.
    Attribute(Box<Expr>, String),
    /// `a[b]`.
    Item(Box<Expr>, Box<Expr>),
    /// `a[b:c:d]`.
    Slice(Box<Expr>, [Option<Box<Expr>>; 3]),
    /// `a(b)`.
    Call(Box<Expr>, Vec<Argument>),
    /// `a | b(c)`.
    Filter(Box<Expr>, Named),
    /// `a is b(c)`, and whether it is negated.
    Test(Box<Expr>, Named, bool),
    /// `-a`, `not a`.
    Unary(&'static str, Box<Expr>),
    /// Arithmetic, `~`, `and`, `or`.
    Binary(&'static str, Box<Expr>, Box<Expr>),
    /// `a < b <= c`.
    Compare(Box<Expr>, Vec<(&'static str, Expr)>),
    /// `a if b else c`.
    If(Box<Expr>, Box<Expr>, Option<Box<Expr>>),
    /// `[a, b]`.
    List(Vec<Expr>),
    /// `(a, b)`.
    Tuple(Vec<Expr>),
    /// `{a: b}`.
    Map(Vec<(Expr, Expr)>),
}

/// A filter or test with its arguments.
#[derive(Debug, Clone)]
pub(super) struct Named {
    pub name: String,
    pub span: Range<usize>,
    pub arguments: Vec<Argument>,
}

/// One argument of a call.
#[derive(Debug, Clone)]
pub(super) struct Argument {
    /// Of a keyword argument.
    pub name: Option<String>,
    pub value: Expr,
}

/// Reads expressions out of a list of tokens.
pub(super) struct Parser<'a> {
    pub(super) source: &'a str,
    pub(super) tokens: &'a [Token],
    pub(super) at: usize,
    pub(super) depth: usize,
    pub(super) links: usize,
}

pub(super) type Parsed = Result<Expr, SyntaxError>;

impl<'a> Parser<'a> {
    pub(super) fn new(source: &'a str, tokens: &'a [Token]) -> Self {
        Self {
            source,
            tokens,
            at: 0,
            depth: 0,
            links: 0,
        }
    }

    /// An expression that is followed by nothing.
    pub(super) fn whole(mut self) -> Parsed {
        let expression = self.expression()?;
        self.end()?;
        Ok(expression)
    }

    pub(super) fn end(&self) -> Result<(), SyntaxError> {
        match self.peek().kind {
            Kind::End => Ok(()),
            Kind::Name | Kind::Text | Kind::Number | Kind::Symbol(_) => {
                Err(self.unexpected("the end of the expression"))
            }
        }
    }

    pub(super) fn expression(&mut self) -> Parsed {
        self.descend()?;
        let expression = self.conditional();
        self.depth -= 1;
        expression
    }

    fn conditional(&mut self) -> Parsed {
        let mut value = self.or()?;
        while self.take_word("if") {
            self.link()?;
            let test = self.or()?;
            let otherwise = if self.take_word("else") {
                Some(Box::new(self.expression()?))
            } else {
                None
            };
            let span = value.span.start..self.last_end();
            value = Expr {
                node: Node::If(Box::new(test), Box::new(value), otherwise),
                span,
            };
        }
        Ok(value)
    }

    /// An expression without a condition behind it, as `for … in` wants it.
    pub(super) fn or(&mut self) -> Parsed {
        let mut left = self.and()?;
        while self.take_word("or") {
            self.link()?;
            left = binary("or", left, self.and()?);
        }
        Ok(left)
    }

    fn and(&mut self) -> Parsed {
        let mut left = self.not()?;
        while self.take_word("and") {
            self.link()?;
            left = binary("and", left, self.not()?);
        }
        Ok(left)
    }

    fn not(&mut self) -> Parsed {
        let start = self.peek().span.start;
        let mut negations = 0_usize;
        while self.take_word("not") {
            negations += 1;
        }
        let mut value = self.compare()?;
        // Two negations make a boolean of it, as more do.
        for _ in 0..if negations > 2 {
            2 - negations % 2
        } else {
            negations
        } {
            let span = start..value.span.end;
            value = Expr {
                node: Node::Unary("not ", Box::new(value)),
                span,
            };
        }
        Ok(value)
    }

    fn compare(&mut self) -> Parsed {
        let first = self.sum()?;
        let mut others = Vec::new();
        while let Some(operator) = self.comparison()? {
            self.link()?;
            others.push((operator, self.sum()?));
        }
        if others.is_empty() {
            return Ok(first);
        }
        let span = first.span.start..self.last_end();
        Ok(Expr {
            node: Node::Compare(Box::new(first), others),
            span,
        })
    }

    fn comparison(&mut self) -> Result<Option<&'static str>, SyntaxError> {
        if let Some(symbol) = self.take_symbol(&["==", "!=", "<=", ">=", "<", ">"]) {
            return Ok(Some(symbol));
        }
        if self.take_word("in") {
            return Ok(Some("in"));
        }
        if self.take_word("not") {
            return if self.take_word("in") {
                Ok(Some("not in"))
            } else {
                Err(self.unexpected("`in`"))
            };
        }
        Ok(None)
    }

    fn sum(&mut self) -> Parsed {
        let mut left = self.concatenation()?;
        while let Some(operator) = self.take_symbol(&["+", "-"]) {
            self.link()?;
            left = binary(operator, left, self.concatenation()?);
        }
        Ok(left)
    }

    fn concatenation(&mut self) -> Parsed {
        let mut left = self.product()?;
        while let Some(operator) = self.take_symbol(&["~"]) {
            self.link()?;
            left = binary(operator, left, self.product()?);
        }
        Ok(left)
    }

    fn product(&mut self) -> Parsed {
        let mut left = self.power()?;
        while let Some(operator) = self.take_symbol(&["*", "/", "//", "%"]) {
            self.link()?;
            left = binary(operator, left, self.power()?);
        }
        Ok(left)
    }

    fn power(&mut self) -> Parsed {
        let mut left = self.filtered()?;
        while let Some(operator) = self.take_symbol(&["**"]) {
            self.link()?;
            left = binary(operator, left, self.filtered()?);
        }
        Ok(left)
    }

    fn filtered(&mut self) -> Parsed {
        let mut value = self.negated()?;
        loop {
            let start = value.span.start;
            let node = if self.take_symbol(&["|"]).is_some() {
                let mut named = self.name("the name of a filter")?;
                if self.is_symbol("(") {
                    named.arguments = self.arguments()?;
                }
                Node::Filter(Box::new(value), named)
            } else if self.take_word("is") {
                let negated = self.take_word("not");
                let mut named = self.name("the name of a test")?;
                named.arguments = self.test_arguments()?;
                Node::Test(Box::new(value), named, negated)
            } else {
                return Ok(value);
            };
            self.link()?;
            value = Expr {
                node,
                span: start..self.last_end(),
            };
        }
    }

    pub(super) fn name(&mut self, expected: &str) -> Result<Named, SyntaxError> {
        let token = self.peek().clone();
        if token.kind != Kind::Name {
            return Err(self.unexpected(expected));
        }
        self.at += 1;
        let name = self.source[token.span.clone()].to_owned();
        Ok(Named {
            name,
            span: token.span,
            arguments: Vec::new(),
        })
    }

    /// The arguments of a test, of which one may stand without brackets.
    fn test_arguments(&mut self) -> Result<Vec<Argument>, SyntaxError> {
        if self.is_symbol("(") {
            return self.arguments();
        }
        let begins = match self.peek().kind {
            Kind::Name => !["and", "or", "else", "is", "if", "not", "in"].contains(&self.word()),
            Kind::Text | Kind::Number => true,
            Kind::Symbol(symbol) => ["[", "{"].contains(&symbol),
            Kind::End => false,
        };
        if !begins {
            return Ok(Vec::new());
        }
        Ok(vec![Argument {
            name: None,
            value: self.negated()?,
        }])
    }
}

fn binary(operator: &'static str, left: Expr, right: Expr) -> Expr {
    let span = left.span.start..right.span.end;
    Expr {
        node: Node::Binary(operator, Box::new(left), Box::new(right)),
        span,
    }
}
