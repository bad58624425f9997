//! The semantics of executions: given a workflow, when attempts end, then exactly these jobs and
//! this state.

mod alive;
mod branches;
mod cancel;
mod delays;
mod failures;
mod finally;
mod harness;
mod items;
mod joins;
mod limits;
mod log;
mod lost;
mod needs;
mod outputs;
mod parallel;
mod pause;
mod policies;
mod rerun;
mod rerun_flow;
mod retries;
mod secrets;
mod starts;
