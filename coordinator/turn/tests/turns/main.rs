//! The turn logic over the store and the broker of the simulation: given this state, when that
//! happens, then exactly these effects follow.

mod broker;
mod cached;
mod control;
mod database;
mod fences;
mod flow;
mod heartbeats;
mod messages;
mod poison;
mod rerun;
mod shares;
mod starts;
mod timers;
mod world;
