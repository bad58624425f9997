//! The semantics of executions: given a workflow, when attempts end, then exactly these jobs and
//! this state.

mod alive;
mod branches;
mod cancel;
mod delays;
mod failures;
mod harness;
mod items;
mod limits;
mod log;
mod lost;
mod outputs;
mod pause;
mod retries;
mod starts;
