//! The fleet in one thread: the very turn logic and engine that run in production, over a store and a
//! broker in memory that behave as Postgres and RabbitMQ do. A seed gives a schedule: which process
//! does what next, which message is late, which answer is lost, who dies. What must hold is checked
//! after each step; at the end the faults stop, and everything must come to its end.
//!
//! ```text
//! seed ─► setup, numbered steps ─► world: coordinators ─ store      ─► violation ─► shrunk trace
//!                                         workers ────── broker
//!                                         clients ────── late things
//! ```
//!
//! A step is a number, and what it means depends on that number and on little else, so a schedule from
//! which steps are taken away still makes sense: that is how a failing one is shrunk.

pub mod broker;
mod channels;
mod checks;
mod clients;
mod commits;
mod converge;
mod coordinator;
mod coverage;
mod faults;
mod message;
mod orders;
mod planted;
mod random;
mod schedule;
mod seen;
mod shrink;
pub mod store;
mod worker;
mod workflows;
mod world;

pub use broker::Broker;
pub use coverage::{Coverage, Happening};
pub use planted::{Planted, ShellMutant};
pub use random::{Random, mix};
pub use schedule::{Failure, Outcome, record_seed, run_seed, run_steps, steps_of};
pub use shrink::{Shrunk, shrink};
pub use store::Store;
pub use workflows::workflows;
