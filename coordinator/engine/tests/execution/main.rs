//! The semantics of executions: given a workflow, when attempts end, then exactly these jobs and
//! this state.

mod branches;
mod failures;
mod harness;
mod retries;
mod starts;
