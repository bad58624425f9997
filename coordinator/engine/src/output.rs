//! What the output of a workflow is to be, by its schema.

use std::fmt;

use jsonschema::{PatternOptions, Validator};

use crate::json::Json;

/// Sentences about one output that are told at most.
const MOST_PROBLEMS: usize = 10;

/// What `output_map` of a workflow is to give.
pub struct OutputSchema(Validator);

impl fmt::Debug for OutputSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OutputSchema")
    }
}

impl OutputSchema {
    /// Compiles a JSON Schema; `Err` says what is wrong with it.
    pub(crate) fn new(schema: &str) -> Result<Self, String> {
        let schema = serde_json::from_str(schema).map_err(|error| error.to_string())?;
        // Without back-references a pattern takes linear time, whatever a task publishes.
        let options = jsonschema::options().with_pattern_options(PatternOptions::regex());
        let validator = options.build(&schema).map_err(|error| error.to_string())?;
        Ok(Self(validator))
    }

    /// What is wrong with an output, one sentence for all of it; `None`: nothing.
    #[must_use]
    pub fn problem(&self, output: &Json) -> Option<String> {
        let Ok(value) = serde_json::from_str(output.text()) else {
            return Some("it is nested too deeply".to_owned());
        };
        let problems = self.0.iter_errors(&value).map(|error| {
            let path = error.instance_path().to_string();
            match path.strip_prefix('/') {
                Some(path) => format!("{} at {}", error.masked(), path.replace('/', ".")),
                None => error.masked().to_string(),
            }
        });
        let problems: Vec<String> = problems.take(MOST_PROBLEMS).collect();
        (!problems.is_empty()).then(|| problems.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(schema: &str, output: &str) -> Option<String> {
        let schema = OutputSchema::new(schema).expect("the schema is sound");
        schema.problem(&Json::parse(output.to_owned()).expect("JSON"))
    }

    #[test]
    fn a_problem_names_the_place_and_never_the_value() {
        let schema = r#"{"properties": {"a": {"properties": {"b": {"type": "integer"}}}}}"#;
        assert_eq!(problem(schema, r#"{"a": {"b": 1}}"#), None);
        let found = problem(schema, r#"{"a": {"b": "hush"}}"#).expect("it is no integer");
        assert!(found.ends_with(" at a.b"), "{found}");
        assert!(!found.contains("hush"), "{found}");
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let schema = r#"{"required": ["a", "b"]}"#;
        let found = problem(schema, "{}").expect("both are missing");
        assert_eq!(found.split("; ").count(), 2, "{found}");
    }

    #[test]
    fn a_schema_that_is_none_is_refused() {
        assert!(OutputSchema::new(r#"{"type": 7}"#).is_err());
    }

    #[test]
    fn an_output_that_is_nested_too_deeply_is_a_problem() {
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        let found = problem("{}", &format!(r#"{{"a": {deep}}}"#));
        assert_eq!(found.as_deref(), Some("it is nested too deeply"));
    }
}
