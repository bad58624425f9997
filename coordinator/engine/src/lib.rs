//! The pure core of Flotilla: it turns a definition into a checked graph, and an event on an
//! execution into changes. No I/O, no clock, no randomness: the time and the ids are arguments.
//!
//! ```text
//! YAML ──definition──► Workflow ─┐
//!                                ├─► execution: (state, event, now) ──► state, changes
//!            completions, timers ┘
//! ```

pub mod definition;
pub mod diagnostic;
pub mod drawing;
pub mod execution;
pub mod expression;
pub mod items;
pub mod json;
pub mod output;
pub mod pack;
pub mod parameters;
pub mod reach;
pub mod rule;
pub mod scope;
pub mod variables;
pub mod workflow;
pub mod yaml;

pub use definition::pack::{ActionFile, PackFile, read_action, read_pack};
pub use definition::{
    ChildName, compile, compile_in, compile_inline, compile_stored, reference_of,
};
pub use json::Json;
pub use workflow::{DefinitionHash, TaskIndex, Workflow};
