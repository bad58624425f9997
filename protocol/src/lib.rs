//! Everything that crosses a process border: ids, names, messages, and the connection to the broker.
//!
//! This crate is the wire contract in code. It decides nothing. The broker connection is behind the
//! feature `amqp`, so that the engine and the turn logic depend on the types alone.

#[cfg(feature = "amqp")]
pub mod amqp;
pub mod bundle;
mod completions;
pub mod decode;
pub mod envelope;
pub mod ids;
pub mod message;
pub mod names;
pub mod refusal;
pub mod scan;

pub use decode::{
    InboxMessage, decode_cancel, decode_control, decode_inbox, decode_job, decode_start,
};
pub use envelope::Envelope;
pub use ids::{ExecutionId, RunNo, TaskId};
pub use message::RawJson;
pub use refusal::{Refusal, Refused};
