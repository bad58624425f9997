//! The turn logic against a database and a broker in memory: given this state, when that happens,
//! then exactly these effects follow; and random schedules with every fault.

mod broker;
mod control;
mod database;
mod fences;
mod flow;
mod history;
mod messages;
mod poison;
mod random;
mod shares;
mod starts;
mod timers;
mod world;
