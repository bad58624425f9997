//! The harness of the tests that run a whole fleet: real servers, real processes, and the test as
//! the user.
//!
//! ```text
//! test ── Client ──AMQP──► fleet ◄── Service: `flotilla coordinator`, `flotilla worker`
//!   └──── Database ──SQL──► views, invariants
//! ```
//!
//! Each test has a database and a vhost of its own, which go away with its [`Fleet`], and so do its
//! processes, however the test ends.

pub mod alarm;
pub mod binary;
pub mod client;
pub mod commands;
pub mod database;
pub mod fleet;
pub mod foreign;
pub mod invariants;
pub mod load;
pub mod membership;
pub mod servers;
pub mod service;
pub mod stream;
pub mod wait;

pub use alarm::Alarm;
pub use client::{Client, Reply, Start};
pub use database::Database;
pub use fleet::{Fleet, Options};
pub use service::Service;
pub use stream::Stream;
pub use wait::{LIMIT, wait_until, within};
