//! What is wrong with a definition, and where: plain data, drawn by whoever shows it.

use std::fmt;
use std::ops::Range;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The definition is refused.
    Error,
    /// The definition is accepted, but may not mean what was meant.
    Warning,
}

/// One finding in a definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Which rule, for programs: `unknown_key`.
    pub code: &'static str,
    /// What is wrong, one sentence.
    pub message: String,
    /// What would be right: `did you mean on_failure?`
    pub hint: Option<String>,
    /// The place in the tree: `tasks[2].retry.delay`; empty for the whole file.
    pub path: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The place in the source, in bytes.
    pub span: Range<usize>,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{}:{}: {word}[{}]: ", self.line, self.column, self.code)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}
