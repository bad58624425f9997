//! A connection to the broker that several tasks share, opened when it is needed and again when it is
//! lost.

use std::sync::Arc;
use std::time::Duration;

use flotilla_protocol::amqp::{ConnectOptions, Connection};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::storage::chain;

/// Wait after an attempt that failed. All who share the connection share it, so that their number
/// says nothing about how often the broker is tried.
pub(crate) const RETRY_AFTER: Duration = Duration::from_millis(300);

/// The connection and how to open it.
pub(crate) struct SharedConnection {
    options: ConnectOptions,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    current: Option<Arc<Connection>>,
    /// When the last attempt failed, if none has succeeded since.
    failed_at: Option<Instant>,
}

impl SharedConnection {
    pub fn new(options: ConnectOptions) -> Self {
        Self {
            options,
            state: Mutex::default(),
        }
    }

    /// The connection that works; opens one if there is none. `None` if the broker cannot be reached,
    /// which a line of the log has said, or could not be a moment ago.
    pub async fn current(&self) -> Option<Arc<Connection>> {
        let mut state = self.state.lock().await;
        if let Some(connection) = state.current.as_ref().filter(|current| current.is_open()) {
            return Some(Arc::clone(connection));
        }
        if state.failed_at.is_some_and(|at| at.elapsed() < RETRY_AFTER) {
            return None;
        }
        match Connection::open_with(&self.options).await {
            Ok(connection) => {
                let connection = Arc::new(connection);
                *state = State {
                    current: Some(Arc::clone(&connection)),
                    failed_at: None,
                };
                Some(connection)
            }
            Err(error) => {
                state.failed_at = Some(Instant::now());
                tracing::warn!(
                    connection = self.options.name,
                    error = chain(&error),
                    "the broker cannot be reached"
                );
                None
            }
        }
    }

    /// Closes it if it is open.
    pub async fn close(&self) {
        if let Some(connection) = self.state.lock().await.current.take() {
            connection.close().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// Counts who connects, and hangs up.
    async fn refuse(listener: TcpListener, attempts: Arc<std::sync::atomic::AtomicUsize>) {
        while let Ok((socket, _)) = listener.accept().await {
            attempts.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            drop(socket);
        }
    }

    #[tokio::test]
    async fn those_who_share_a_connection_try_the_broker_once_among_them() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let attempts = Arc::default();
        tokio::spawn(refuse(listener, Arc::clone(&attempts)));
        let options = ConnectOptions::new(format!("amqp://guest:guest@{address}/%2f"), "test");
        let shared = SharedConnection::new(options);
        let tries = (0..20).map(|_| shared.current());
        let found = futures::future::join_all(tries).await;
        assert!(found.iter().all(Option::is_none));
        let attempts = attempts.load(std::sync::atomic::Ordering::Relaxed);
        // Twenty attempts that were one after the other would be forty connections.
        assert!((1..=2).contains(&attempts), "{attempts} connections");
    }
}
