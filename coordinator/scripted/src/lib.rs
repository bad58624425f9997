//! Runs an execution without servers: a script answers in place of workers, and time is a number.
//!
//! ```text
//! YAML ──file──► cases: script, expectation
//!                          │        └──────────────compare──► differences
//!                          └─play──► engine ──► seen ──┘
//! ```
//!
//! The engine is the one of production, driven by events and timers as a coordinator drives it. No
//! I/O and no clock: the same script gives the same result each time.

mod expect;
mod file;
mod play;
mod read;
mod script;
mod seen;
mod unhandled;

pub use expect::{Difference, Expectation};
pub use file::{Case, TestFile, WorkflowSource, open};
pub use play::{Reload, play, play_with};
pub use script::{
    Action, Answer, AnswerStatus, Children, Script, ScriptEvent, TaskAnswers, library,
};
pub use seen::{Delivery, Seen, SeenRun, Step};
pub use unhandled::{Unhandled, unhandled};
