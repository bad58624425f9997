//! The simulated store is held against the real one: every case is written once and runs on both, and
//! what the coordinators of random simulations ask is asked of both. Where they differ, the model is
//! wrong.

mod answer;
mod commits;
mod database;
mod differential;
mod fence;
mod loads;
mod partitions;
mod postgres;
mod rows;
mod tables;
