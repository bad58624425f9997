//! A library to write Flotilla workers with, and the built-in actions.
//!
//! A worker knows nothing about workflows: it takes a job, runs the action that it names, and
//! answers to whoever asked. [`Worker`] is where to begin.

mod action;
mod attempt;
mod builtin;
mod completion;
mod config;
mod context;
mod error;
mod log;
mod pulse;
mod secrets;
mod service;
mod worker;

pub use config::WorkerConfig;
pub use context::Context;
pub use error::{ActionError, WorkerError};
pub use worker::Worker;
