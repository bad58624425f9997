//! How a command ends: the exit codes that scripts rely on, and errors that say what to do next.

use std::error::Error;
use std::fmt;

/// The exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// The command did what it was asked.
    Done,
    /// The execution ended other than succeeded, or a check found something.
    NotSucceeded,
    /// Usage, an invalid file, a rejected start, a refused command, an unknown id.
    Refused,
    /// A server cannot be reached, or nobody answers.
    Unreachable,
    /// `--wait-timeout` ran out.
    TimedOut,
    /// Somebody pressed Ctrl-C.
    Interrupted,
}

impl Exit {
    /// The number that the process ends with.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::NotSucceeded => 1,
            Self::Refused => 2,
            Self::Unreachable => 3,
            Self::TimedOut => 4,
            Self::Interrupted => 130,
        }
    }
}

/// Why a command could not do what it was asked: what, where, and what to do next.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    kind: String,
    message: String,
    hint: Option<String>,
    cause: Option<Box<dyn Error + Send + Sync>>,
}

impl Failure {
    /// The request is at fault; exit 2.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(Exit::Refused, "refused", message.into())
    }

    /// A server cannot be reached; exit 3.
    pub fn unreachable(message: impl Into<String>) -> Self {
        Self::new(Exit::Unreachable, "unreachable", message.into())
    }

    fn new(exit: Exit, kind: &str, message: String) -> Self {
        Self {
            exit,
            kind: kind.to_owned(),
            message,
            hint: None,
            cause: None,
        }
    }

    /// One word that scripts can match on.
    pub fn of_kind(mut self, kind: impl Into<String>) -> Self {
        self.kind = kind.into();
        self
    }

    /// Whether it is of this kind.
    pub fn is_of_kind(&self, kind: &str) -> bool {
        self.kind == kind
    }

    /// What to do next.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The error behind it.
    pub fn because(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// What the process ends with.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// The same for scripts.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "error": {"kind": self.kind, "message": self.to_string(), "hint": self.hint}
        })
    }

    /// The same for people, one or two lines.
    pub fn text(&self) -> String {
        match &self.hint {
            Some(hint) => format!("error: {self}\n  hint: {hint}"),
            None => format!("error: {self}"),
        }
    }
}

/// The message with all that is behind it.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let mut said = self.message.clone();
        let mut next = self.cause.as_deref().map(|cause| cause as &dyn Error);
        while let Some(cause) = next {
            let text = cause.to_string();
            // Some libraries repeat their source in their own text.
            if !said.contains(&text) {
                write!(f, ": {text}")?;
            }
            said = text;
            next = cause.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_those_that_scripts_rely_on() {
        let all = [
            Exit::Done,
            Exit::NotSucceeded,
            Exit::Refused,
            Exit::Unreachable,
            Exit::TimedOut,
            Exit::Interrupted,
        ];
        assert_eq!(all.map(Exit::code), [0, 1, 2, 3, 4, 130]);
    }

    #[test]
    fn a_failure_names_its_causes_and_what_to_do() {
        let failure = Failure::unreachable("could not reach Postgres")
            .because("connection refused")
            .hint("start it");
        assert_eq!(
            failure.text(),
            "error: could not reach Postgres: connection refused\n  hint: start it"
        );
    }
}
