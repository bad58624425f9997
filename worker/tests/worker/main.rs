//! The worker against a real broker, with the test in the place of a coordinator.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

mod builtin;
mod cancel;
mod delivery;
mod drain;
mod fleet;
mod gate;
mod proxy;
mod shell;
mod silence;
mod suspects;
