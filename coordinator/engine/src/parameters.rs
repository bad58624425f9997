//! What a start must bring: parameters are checked, completed with defaults, and bound.

use serde_json::value::RawValue;
use thiserror::Error;

use crate::expression::ExpressionError;
use crate::json::Json;
use crate::scope::System;

/// The parameters of a workflow.
#[derive(Debug, Default)]
pub struct ParameterSchema {
    names: Vec<String>,
}

/// One parameter that is not as the workflow wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterProblem {
    /// The parameter.
    pub name: String,
    /// What is wrong with it.
    pub message: String,
}

/// Why parameters could not be bound.
#[derive(Debug, Error)]
pub enum BindError {
    /// The start is to be refused: all that is wrong.
    #[error("invalid parameters")]
    Invalid(Vec<ParameterProblem>),
    /// A default could not be evaluated: the execution fails.
    #[error("the default of a parameter could not be evaluated")]
    Default(#[source] ExpressionError),
}

impl ParameterSchema {
    /// Names of the declared parameters, in the order of the file.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// Checks what a start has brought (`None`: nothing), and fills in the defaults.
    ///
    /// # Errors
    ///
    /// [`BindError`].
    pub fn bind(&self, given: Option<&RawValue>, _system: &System) -> Result<Json, BindError> {
        Ok(given.map_or_else(
            || Json::new(RawValue::from_string("{}".to_owned()).expect("is JSON")),
            |given| Json::new(given.to_owned()),
        ))
    }
}
