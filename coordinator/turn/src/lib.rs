//! What a coordinator decides in a turn, as a state machine: it is told what has happened and says
//! what to do. No I/O, no clock, no randomness.
//!
//! ```text
//! deliveries ─┐            ┌► load ─► Loaded ─┐                      ┌► acknowledge
//! timers ─────┼─► gather ──┤                  ├─► decide ─► commit ──┼► publish ─► watermark
//! recoveries ─┘            └──────────────────┘     ▲        │       └► pass on
//!                                                   └────────┘ fenced, refused: decided again
//! ```

mod cache;
mod channels;
mod control;
mod debts;
mod decision;
mod due;
mod durations;
pub mod effect;
mod encode;
mod fairness;
mod family;
pub mod fold;
mod gather;
mod heartbeats;
mod inspect;
mod item_ends;
mod kept;
mod library;
mod loading;
mod machine;
pub mod message;
mod mutant;
mod ownership;
mod pacing;
mod partitions;
mod publications;
mod reach;
mod refused;
mod rerun;
mod restore;
pub mod rows;
mod settle;
mod shares;
mod starts;
mod suspects;
mod timers;

pub use cache::Held;
pub use effect::{Destination, Effect, Input, LoadFailure, LoadRequest, Loaded, Mark, Publication};
pub use gather::{MAX_TURN_BYTES, MAX_TURN_MESSAGES};
pub use kept::Kept;
pub use machine::{Config, TIMER_HORIZON_S, Turns};
pub use mutant::Mutant;
pub use rerun::order;
pub use restore::{RestoreError, restore, restore_past};
