//! The operands of an expression: values, and what is read or called of them. Part of the parser in
//! [`super::syntax`].

use super::syntax::{Argument, Expr, Node, Parsed, Parser};
use super::token::{Kind, SyntaxError};

impl Parser<'_> {
    pub(super) fn negated(&mut self) -> Parsed {
        let start = self.peek().span.start;
        if self.take_symbol(&["-"]).is_none() {
            return self.postfix();
        }
        self.descend()?;
        let value = self.negated()?;
        self.depth -= 1;
        let span = start..value.span.end;
        Ok(Expr {
            node: Node::Unary("-", Box::new(value)),
            span,
        })
    }

    fn postfix(&mut self) -> Parsed {
        let mut value = self.primary()?;
        loop {
            let start = value.span.start;
            let node = match self.peek().kind {
                Kind::Symbol(".") => self.attribute(value)?,
                Kind::Symbol("[") => self.subscript(value)?,
                Kind::Symbol("(") => Node::Call(Box::new(value), self.arguments()?),
                Kind::Symbol(_) | Kind::Name | Kind::Text | Kind::Number | Kind::End => {
                    return Ok(value);
                }
            };
            self.link()?;
            value = Expr {
                node,
                span: start..self.last_end(),
            };
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

    pub(super) fn arguments(&mut self) -> Result<Vec<Argument>, SyntaxError> {
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
            let mut argument = Argument {
                name: None,
                value: self.expression()?,
            };
            if let Node::Name(name) = &argument.value.node
                && self.take_symbol(&["="]).is_some()
            {
                argument = Argument {
                    name: Some(name.clone()),
                    value: self.expression()?,
                };
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
        Ok(Expr {
            node,
            span: token.span.start..self.last_end(),
        })
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
            return Ok(Expr {
                node: Node::Tuple(Vec::new()),
                span: start..self.last_end(),
            });
        }
        let first = self.expression()?;
        if self.take_symbol(&[")"]).is_some() {
            return Ok(first);
        }
        self.expect(",")?;
        let mut items = vec![first];
        items.extend(self.items(")", Self::expression)?);
        Ok(Expr {
            node: Node::Tuple(items),
            span: start..self.last_end(),
        })
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
