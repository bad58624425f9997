//! Everything that crosses a process border: ids, names, messages, and the connection to the broker.
//!
//! This crate is the wire contract in code. It decides nothing. The broker connection is behind the
//! feature `amqp`, so that the engine and the turn logic depend on the types alone.

pub mod ids;
pub mod message;
pub mod names;

pub use ids::{ExecutionId, RunNo, TaskId};
pub use message::RawJson;
