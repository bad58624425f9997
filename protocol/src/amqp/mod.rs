//! The connection to the broker: the only place that names lapin.
//!
//! ```text
//! Connection ── declare… ──> exchanges, queues        (topology.rs)
//!     └──────── consume ──> Consumer ──> Delivery, Acker
//! Publisher ── own connection, own task, reconnects ──> PublishOutcome
//! ```
//!
//! Nothing here recovers by itself except the [`Publisher`]: whoever consumes opens a new
//! [`Connection`] and a new [`Consumer`] when the old one has ended.

mod connection;
mod consumer;
mod delivery;
mod in_flight;
mod outgoing;
mod own_queues;
mod publisher;
mod reconnect;
mod reply;
mod returns;
mod sender;
mod session;
mod topology;
mod traffic;

pub use connection::{ConnectOptions, Connection, ConnectionStatus};
pub use consumer::{Acker, Consumer, Getter};
pub use delivery::Delivery;
pub use outgoing::Outgoing;
pub use own_queues::{copies_of, limited_queue, named_queue, reply_queue, worker_cancel_queue};
pub use publisher::{PublishOutcome, Publisher, PublisherOptions, PublisherStatus};
pub use reply::Outcomes;
pub use topology::{
    QueueState, declare, declare_bundles, declare_inbox, declare_pool, delete_queue, queue_depth,
    queue_state,
};
pub use traffic::{Traffic, traffic};

/// What failed at the broker, by the step that failed.
#[derive(Debug, thiserror::Error)]
pub enum AmqpError {
    /// No connection could be made.
    #[error("could not connect to the broker")]
    Connect(#[source] lapin::Error),
    /// The broker did not answer in time.
    #[error("the broker did not answer within {0:?}")]
    TimedOut(std::time::Duration),
    /// A channel could not be opened or set up.
    #[error("could not open a channel")]
    Channel(#[source] lapin::Error),
    /// An exchange, queue or binding could not be declared.
    #[error("could not declare `{name}`")]
    Declare {
        /// The exchange or queue.
        name: String,
        /// What the broker said.
        #[source]
        source: lapin::Error,
    },
    /// A queue cannot be consumed.
    #[error("could not consume `{queue}`")]
    Consume {
        /// The queue.
        queue: String,
        /// What the broker said.
        #[source]
        source: lapin::Error,
    },
    /// An acknowledgement could not be sent.
    #[error("could not acknowledge")]
    Acknowledge(#[source] lapin::Error),
    /// A name is longer than AMQP allows.
    #[error("the name `{0}` is longer than 255 bytes")]
    NameTooLong(String),
    /// Headers do not fit into one frame.
    #[error("the headers of a message are too long")]
    HeadersTooLong,
}

/// A name as AMQP takes it; lapin's own conversion panics on a long one.
fn short(name: &str) -> Result<lapin::types::ShortString, AmqpError> {
    lapin::types::ShortString::try_new(name).map_err(|_| AmqpError::NameTooLong(name.to_owned()))
}

/// Whether the broker refused because the thing does not exist.
fn is_not_found(error: &lapin::Error) -> bool {
    matches!(
        error.kind(),
        lapin::ErrorKind::ProtocolError(error) if error.get_id() == 404
    )
}
