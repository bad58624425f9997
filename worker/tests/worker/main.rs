//! The worker against a real broker, with the test in the place of a coordinator.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

mod builtin;
mod cancel;
mod delivery;
mod drain;
mod fleet;
mod gate;
mod http;
mod http_server;
mod logs;
mod long;
mod proxy;
mod python;
mod shell;
mod silence;
mod suspects;
