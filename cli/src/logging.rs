//! Logs: always to stderr, so that stdout holds what was asked for and nothing else.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Names the filter of our own; it wins over `RUST_LOG`.
const FILTER: &str = "FLOTILLA_LOG";

/// Starts to log: services tell what they do, other commands only what goes wrong.
pub fn start(is_service: bool) {
    // What lapin calls errors (a returned message, the end of a connection) is handled, and said, by
    // our own code.
    let default = if is_service {
        "info,lapin=off,sqlx=warn"
    } else {
        "warn,lapin=off,sqlx=error"
    };
    let given = std::env::var(FILTER).or_else(|_| std::env::var("RUST_LOG"));
    let filter = match given {
        Ok(filter) if !filter.is_empty() => EnvFilter::new(filter),
        Ok(_) | Err(_) => EnvFilter::new(default),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .log_internal_errors(false)
        .init();
}

/// Says that a service has stopped, and what it has moved; the load harness reads it.
pub fn stopped() {
    let traffic = flotilla_protocol::amqp::traffic();
    tracing::info!(
        published = traffic.published,
        delivered = traffic.delivered,
        "stopped"
    );
}
