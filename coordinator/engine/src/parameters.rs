//! What a start must bring: parameters are checked, completed with defaults, and bound.

use std::collections::BTreeMap;
use std::fmt;

use jsonschema::{PatternOptions, Validator};
use serde_json::value::RawValue;
use thiserror::Error;

use crate::expression::{ExpressionError, ValueTemplate};
use crate::json::{Json, JsonObject};
use crate::scope::{Scope, System};
use crate::variables::Variables;

/// The parameters of a workflow.
pub struct ParameterSchema {
    parameters: Vec<Parameter>,
    validator: Validator,
    /// Whether names that are not declared are taken, too.
    is_open: bool,
}

/// One declared parameter.
#[derive(Debug)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Whether a start without it, and without a default, is refused.
    pub required: bool,
    /// What it is where it is not given.
    pub default: Option<ValueTemplate>,
}

/// One parameter that is not as the workflow wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterProblem {
    /// The parameter; empty where all of them are meant.
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

impl fmt::Debug for ParameterSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParameterSchema")
            .field("parameters", &self.parameters)
            .finish()
    }
}

impl Parameter {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            required: false,
            default: None,
        }
    }
}

impl ParameterSchema {
    /// Compiles the schema that parameters are checked with; gives them back where it is not
    /// valid.
    pub(crate) fn new(
        parameters: Vec<Parameter>,
        schema: &str,
        is_open: bool,
    ) -> Result<Self, (Vec<Parameter>, String)> {
        let schema = match serde_json::from_str(schema) {
            Ok(schema) => schema,
            Err(error) => return Err((parameters, error.to_string())),
        };
        // Without back-references a pattern takes linear time, whatever a start brings.
        let options = jsonschema::options().with_pattern_options(PatternOptions::regex());
        match options.build(&schema) {
            Ok(validator) => Ok(Self {
                parameters,
                validator,
                is_open,
            }),
            Err(error) => Err((parameters, error.to_string())),
        }
    }

    /// Names of the declared parameters, in the order of the file.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parameters
            .iter()
            .map(|parameter| parameter.name.as_str())
    }

    /// The declared parameters, in the order of the file.
    #[must_use]
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Whether names that are not declared are taken, too.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// Checks what a start has brought (`None`: nothing), and fills in the defaults.
    ///
    /// # Errors
    ///
    /// [`BindError`].
    pub fn bind(&self, given: Option<&RawValue>, system: &System) -> Result<Json, BindError> {
        let given = read(given).map_err(|problem| BindError::Invalid(vec![problem]))?;
        let problems = self.problems(&given);
        if !problems.is_empty() {
            return Err(BindError::Invalid(problems));
        }
        let mut bound = JsonObject::default();
        for parameter in &self.parameters {
            if let Some(value) = given.get(&parameter.name) {
                bound.push(&parameter.name, value.get());
            } else if let Some(default) = &parameter.default {
                let value = self.default(parameter, default, &bound, system)?;
                bound.push(&parameter.name, value.text());
            }
        }
        for (name, value) in &given {
            if self.names().all(|declared| declared != name) {
                bound.push(name, value.get());
            }
        }
        Ok(bound.json())
    }

    /// The default, which sees the parameters before it.
    fn default(
        &self,
        parameter: &Parameter,
        default: &ValueTemplate,
        bound: &JsonObject,
        system: &System,
    ) -> Result<Json, BindError> {
        let parameters = bound.json();
        let scope = Scope {
            parameters: &parameters,
            vars: &Variables::default(),
            tasks: &BTreeMap::new(),
            system,
            item: None,
            ended: None,
        };
        let value = default.render(&scope).map_err(BindError::Default)?;
        if default.is_literal() {
            // It was checked when the definition was compiled.
            return Ok(value);
        }
        match self.check_one(&parameter.name, &value).into_iter().next() {
            None => Ok(value),
            Some(problem) => Err(BindError::Default(ExpressionError {
                expression: parameter.name.clone(),
                message: format!("the default is not valid: {}", problem.message),
                limit: false,
            })),
        }
    }

    fn problems(&self, given: &BTreeMap<String, Box<RawValue>>) -> Vec<ParameterProblem> {
        let mut problems = Vec::new();
        for name in given.keys() {
            if !self.is_open && self.names().all(|declared| declared != name) {
                problems.push(problem(name, "is not a parameter of this workflow"));
            }
        }
        for parameter in &self.parameters {
            let is_missing = parameter.required && parameter.default.is_none();
            if is_missing && !given.contains_key(&parameter.name) {
                problems.push(problem(&parameter.name, "is missing"));
            }
        }
        let mut object = JsonObject::default();
        given
            .iter()
            .for_each(|(name, value)| object.push(name, value.get()));
        problems.extend(self.check(&object.json()));
        problems
    }

    /// What is wrong with the value of one parameter.
    pub(crate) fn check_one(&self, name: &str, value: &Json) -> Vec<ParameterProblem> {
        let mut object = JsonObject::default();
        object.push(name, value.text());
        let problems = self.check(&object.json());
        problems
            .into_iter()
            .filter(|problem| problem.name == name)
            .collect()
    }

    /// What the schema finds, less what is missing or too much, which is ours to say.
    fn check(&self, object: &Json) -> Vec<ParameterProblem> {
        let value: serde_json::Value = match serde_json::from_str(object.text()) {
            Ok(value) => value,
            Err(_) => return vec![problem("", "the parameters are nested too deeply")],
        };
        let errors = self.validator.iter_errors(&value);
        let found = errors.filter_map(|error| {
            let path = error.instance_path().to_string();
            if path.is_empty()
                && ["required", "additionalProperties"].contains(&error.kind().keyword())
            {
                return None;
            }
            let mut steps = path.trim_start_matches('/').splitn(2, '/');
            let name = steps
                .next()
                .unwrap_or("")
                .replace("~1", "/")
                .replace("~0", "~");
            let message = match steps.next() {
                Some(inner) => format!("{} at {}", error.masked(), inner.replace('/', ".")),
                None => error.masked().to_string(),
            };
            Some(problem(&name, &message))
        });
        found.collect()
    }
}

fn problem(name: &str, message: &str) -> ParameterProblem {
    ParameterProblem {
        name: name.to_owned(),
        message: message.to_owned(),
    }
}

fn read(given: Option<&RawValue>) -> Result<BTreeMap<String, Box<RawValue>>, ParameterProblem> {
    let Some(given) = given else {
        return Ok(BTreeMap::new());
    };
    serde_json::from_str(given.get()).map_err(|_| problem("", "the parameters are an object"))
}
