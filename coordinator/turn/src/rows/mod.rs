//! The rows that a turn writes and loads: what the tables hold, as plain structures. Storage maps
//! them to SQL and back, and decides nothing.

mod commit;
mod loaded;

pub use commit::*;
pub use loaded::*;

/// Number of a partition, from 0.
pub type PartitionNo = i32;
/// How often a partition has changed hands.
pub type Epoch = i64;
/// Number of a turn of a partition, from 1.
pub type TurnNo = i64;
