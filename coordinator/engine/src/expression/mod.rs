//! Templates and conditions, compiled once per definition and evaluated against a [`Scope`].

use minijinja::Value;
use thiserror::Error;

use crate::json::Json;
use crate::scope::Scope;

/// An expression that could not be evaluated.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message} in `{expression}`")]
pub struct ExpressionError {
    /// The source text of the expression.
    pub expression: String,
    /// The cause.
    pub message: String,
    /// Whether a bound on steps or output was exceeded: `limit_exceeded`.
    pub limit: bool,
}

/// A JSON tree in which strings may be templates.
#[derive(Debug)]
pub struct ValueTemplate(Json);

impl ValueTemplate {
    /// A template that always gives `value`.
    #[must_use]
    pub fn literal(value: Json) -> Self {
        Self(value)
    }

    /// Whether evaluating it needs no scope.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        true
    }

    /// The value in `scope`.
    ///
    /// # Errors
    ///
    /// The first expression in it that cannot be evaluated.
    pub fn evaluate(&self, _scope: &Scope) -> Result<Value, ExpressionError> {
        Ok(self.0.value().clone())
    }

    /// The value in `scope` as JSON.
    ///
    /// # Errors
    ///
    /// The first expression in it that cannot be evaluated.
    pub fn render(&self, scope: &Scope) -> Result<Json, ExpressionError> {
        to_json(&self.evaluate(scope)?)
    }
}

/// A compiled condition.
#[derive(Debug)]
pub struct Condition(bool);

impl Condition {
    /// Whether it holds in `scope`.
    ///
    /// # Errors
    ///
    /// When it cannot be evaluated.
    pub fn holds(&self, _scope: &Scope) -> Result<bool, ExpressionError> {
        Ok(self.0)
    }
}

/// The JSON of a value.
///
/// # Errors
///
/// When the value is undefined somewhere inside, is not a number of JSON, or is too large.
pub fn to_json(value: &Value) -> Result<Json, ExpressionError> {
    serde_json::value::to_raw_value(value)
        .map(Json::new)
        .map_err(|error| ExpressionError {
            expression: String::new(),
            message: error.to_string(),
            limit: false,
        })
}
