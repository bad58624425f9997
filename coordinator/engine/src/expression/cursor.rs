//! Steps over the tokens of an expression, for the parser in [`super::syntax`].

use super::syntax::Parser;
use super::token::{Kind, SyntaxError, Token};

/// Deepest nesting of an expression.
const DEPTH_LIMIT: usize = 40;
/// Most operators, calls and steps of an expression.
const LINK_LIMIT: usize = 400;

impl<'a> Parser<'a> {
    /// Counts one more operator, call or step into a value: the tree leans on them, and whoever
    /// walks it recurses.
    pub(super) fn link(&mut self) -> Result<(), SyntaxError> {
        self.links += 1;
        if self.links > LINK_LIMIT {
            return Err(self.error("the expression is too long"));
        }
        Ok(())
    }

    /// Counts one more bracket that is open.
    pub(super) fn descend(&mut self) -> Result<(), SyntaxError> {
        self.depth += 1;
        if self.depth > DEPTH_LIMIT {
            return Err(self.error("the expression is nested too deeply"));
        }
        Ok(())
    }

    pub(super) fn expect(&mut self, symbol: &'static str) -> Result<(), SyntaxError> {
        match self.take_symbol(&[symbol]) {
            Some(_) => Ok(()),
            None => Err(self.unexpected(&format!("`{symbol}`"))),
        }
    }

    pub(super) fn peek(&self) -> &'a Token {
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    pub(super) fn word(&self) -> &'a str {
        &self.source[self.peek().span.clone()]
    }

    /// A name, which is then behind us.
    pub(super) fn take_name(&mut self) -> Result<String, SyntaxError> {
        Ok(self.name("a name")?.name)
    }

    pub(super) fn is_symbol(&self, symbol: &str) -> bool {
        matches!(self.peek().kind, Kind::Symbol(found) if found == symbol)
    }

    pub(super) fn take_symbol(&mut self, symbols: &[&'static str]) -> Option<&'static str> {
        let Kind::Symbol(symbol) = self.peek().kind else {
            return None;
        };
        let found = symbols.iter().find(|wanted| **wanted == symbol)?;
        self.at += 1;
        Some(found)
    }

    pub(super) fn take_word(&mut self, word: &str) -> bool {
        let found = self.peek().kind == Kind::Name && self.word() == word;
        self.at += usize::from(found);
        found
    }

    pub(super) fn last_end(&self) -> usize {
        self.tokens[self.at.saturating_sub(1)].span.end
    }

    pub(super) fn error(&self, message: &str) -> SyntaxError {
        let span = self.peek().span.clone();
        SyntaxError::new(
            message,
            span.start..span.end.max(span.start + 1).min(self.source.len()),
        )
    }

    pub(super) fn unexpected(&self, expected: &str) -> SyntaxError {
        match self.peek().kind {
            Kind::End => self.error(&format!("expected {expected}, but the expression ends")),
            Kind::Name | Kind::Text | Kind::Number | Kind::Symbol(_) => {
                self.error(&format!("expected {expected}, found `{}`", self.word()))
            }
        }
    }
}
