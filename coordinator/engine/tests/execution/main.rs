//! The semantics of executions: given a workflow, when attempts end, then exactly these jobs and
//! this state.

mod alive;
mod branches;
mod cancel;
mod failures;
mod finally;
mod harness;
mod items;
mod joins;
mod log;
mod lost;
mod needs;
mod pause;
mod policies;
mod retries;
mod starts;
