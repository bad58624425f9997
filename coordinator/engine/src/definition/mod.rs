//! From the text of a definition to a checked [`Workflow`], or to all that is wrong with it.

use std::sync::Arc;

use crate::diagnostic::Diagnostic;
use crate::workflow::Workflow;

/// A definition that was accepted.
#[derive(Debug)]
pub struct Compiled {
    /// The checked definition.
    pub workflow: Arc<Workflow>,
    /// What may not mean what was meant.
    pub warnings: Vec<Diagnostic>,
}

/// Reads and checks a definition.
///
/// # Errors
///
/// All errors of the file, in the order of their places.
pub fn compile(source: &str) -> Result<Compiled, Vec<Diagnostic>> {
    let _ = source;
    Err(Vec::new())
}
