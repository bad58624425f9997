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

type Parsed = Result<Expr, SyntaxError>;

impl<'a> Parser<'a> {
    pub(super) fn new(source: &'a str, tokens: &'a [Token]) -> Self {
        Self { source, tokens, at: 0, depth: 0, links: 0 }
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
            value = Expr { node: Node::If(Box::new(test), Box::new(value), otherwise), span };
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
        for _ in 0..if negations > 2 { 2 - negations % 2 } else { negations } {
            let span = start..value.span.end;
            value = Expr { node: Node::Unary("not ", Box::new(value)), span };
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
        Ok(Expr { node: Node::Compare(Box::new(first), others), span })
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
            self.link()?;
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
            value = Expr { node, span: start..self.last_end() };
        }
    }

    pub(super) fn name(&mut self, expected: &str) -> Result<Named, SyntaxError> {
        let token = self.peek().clone();
        if token.kind != Kind::Name {
            return Err(self.unexpected(expected));
        }
        self.at += 1;
        let name = self.source[token.span.clone()].to_owned();
        Ok(Named { name, span: token.span, arguments: Vec::new() })
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
        Ok(vec![Argument { name: None, value: self.negated()? }])
    }

    fn negated(&mut self) -> Parsed {
        let start = self.peek().span.start;
        if self.take_symbol(&["-"]).is_none() {
            return self.postfix();
        }
        self.descend()?;
        let value = self.negated()?;
        self.depth -= 1;
        let span = start..value.span.end;
        Ok(Expr { node: Node::Unary("-", Box::new(value)), span })
    }

    fn postfix(&mut self) -> Parsed {
        let mut value = self.primary()?;
        loop {
            self.link()?;
            let start = value.span.start;
            let node = match self.peek().kind {
                Kind::Symbol(".") => self.attribute(value)?,
                Kind::Symbol("[") => self.subscript(value)?,
                Kind::Symbol("(") => Node::Call(Box::new(value), self.arguments()?),
                Kind::Symbol(_) | Kind::Name | Kind::Text | Kind::Number | Kind::End => {
                    return Ok(value);
                }
            };
            value = Expr { node, span: start..self.last_end() };
        }
    }

    fn attribute(&mut self, value: Expr) -> Result<Node, SyntaxError> {
        self.at += 1;
        if !matches!(self.peek().kind, Kind::Name | Kind::Number) {
            return Err(self.unexpected("a name"));
        }
        let name = self.word().to_owned();
        self.at += 1;
        Ok(Node::Attribute(Box::new(value), name))
    }

    fn subscript(&mut self, value: Expr) -> Result<Node, SyntaxError> {
        self.at += 1;
        let mut parts = [const { None }; 3];
        let mut colons = 0;
        loop {
            if self.take_symbol(&["]"]).is_some() {
                break;
            }
            if colons < 2 && self.take_symbol(&[":"]).is_some() {
                colons += 1;
                continue;
            }
            if parts[colons].is_some() {
                return Err(self.unexpected("`]`"));
            }
            parts[colons] = Some(Box::new(self.expression()?));
        }
        match (colons, parts) {
            (0, [Some(item), None, None]) => Ok(Node::Item(Box::new(value), item)),
            (0, _) => Err(self.error("`[]` is empty")),
            (_, parts) => Ok(Node::Slice(Box::new(value), parts)),
        }
    }

    fn arguments(&mut self) -> Result<Vec<Argument>, SyntaxError> {
        self.at += 1;
        let mut arguments: Vec<Argument> = Vec::new();
        while self.take_symbol(&[")"]).is_none() {
            if !arguments.is_empty() {
                self.expect(",")?;
                if self.take_symbol(&[")"]).is_some() {
                    break;
                }
            }
            if self.is_symbol("*") || self.is_symbol("**") {
                return Err(self.error("`*` before an argument is not supported"));
            }
            let mut argument = Argument { name: None, value: self.expression()? };
            if let Node::Name(name) = &argument.value.node
                && self.take_symbol(&["="]).is_some()
            {
                argument = Argument { name: Some(name.clone()), value: self.expression()? };
            } else if arguments.last().is_some_and(|last| last.name.is_some()) {
                return Err(self.error("arguments without a name come first"));
            }
            arguments.push(argument);
        }
        Ok(arguments)
    }

    fn primary(&mut self) -> Parsed {
        let token = self.peek().clone();
        let node = match token.kind {
            Kind::Name => self.named(),
            Kind::Text => Node::Text,
            Kind::Number => Node::Number,
            Kind::Symbol("(") => return self.bracketed(token.span.start),
            Kind::Symbol("[") => {
                self.at += 1;
                Node::List(self.items("]", Self::expression)?)
            }
            Kind::Symbol("{") => {
                self.at += 1;
                Node::Map(self.items("}", Self::pair)?)
            }
            Kind::Symbol(_) | Kind::End => return Err(self.unexpected("a value")),
        };
        if matches!(token.kind, Kind::Name | Kind::Text | Kind::Number) {
            self.at += 1;
        }
        // Texts that stand side by side are one text.
        while matches!(node, Node::Text) && self.peek().kind == Kind::Text {
            self.at += 1;
        }
        Ok(Expr { node, span: token.span.start..self.last_end() })
    }

    fn named(&self) -> Node {
        match self.word() {
            "true" | "True" => Node::Word("true"),
            "false" | "False" => Node::Word("false"),
            "none" | "None" | "null" => Node::Word("none"),
            name => Node::Name(name.to_owned()),
        }
    }

    fn bracketed(&mut self, start: usize) -> Parsed {
        self.at += 1;
        if self.take_symbol(&[")"]).is_some() {
            return Ok(Expr { node: Node::Tuple(Vec::new()), span: start..self.last_end() });
        }
        let first = self.expression()?;
        if self.take_symbol(&[")"]).is_some() {
            return Ok(first);
        }
        self.expect(",")?;
        let mut items = vec![first];
        items.extend(self.items(")", Self::expression)?);
        Ok(Expr { node: Node::Tuple(items), span: start..self.last_end() })
    }

    fn items<T>(
        &mut self,
        close: &'static str,
        item: fn(&mut Self) -> Result<T, SyntaxError>,
    ) -> Result<Vec<T>, SyntaxError> {
        let mut items = Vec::new();
        while self.take_symbol(&[close]).is_none() {
            if !items.is_empty() {
                self.expect(",")?;
                if self.take_symbol(&[close]).is_some() {
                    break;
                }
            }
            items.push(item(self)?);
        }
        Ok(items)
    }

    fn pair(&mut self) -> Result<(Expr, Expr), SyntaxError> {
        let key = self.expression()?;
        self.expect(":")?;
        Ok((key, self.expression()?))
    }
}

fn binary(operator: &'static str, left: Expr, right: Expr) -> Expr {
    let span = left.span.start..right.span.end;
    Expr { node: Node::Binary(operator, Box::new(left), Box::new(right)), span }
}
