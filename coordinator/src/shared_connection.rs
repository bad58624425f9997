//! A connection to the broker that several tasks share, opened when it is needed and again when it is
//! lost.

use std::sync::Arc;

use flotilla_protocol::amqp::{AmqpError, ConnectOptions, Connection};
use tokio::sync::Mutex;

/// The connection and how to open it.
pub(crate) struct SharedConnection {
    options: ConnectOptions,
    current: Mutex<Option<Arc<Connection>>>,
}

impl SharedConnection {
    pub fn new(options: ConnectOptions) -> Self {
        Self {
            options,
            current: Mutex::new(None),
        }
    }

    /// The connection that works; opens one if there is none.
    pub async fn current(&self) -> Result<Arc<Connection>, AmqpError> {
        let mut current = self.current.lock().await;
        if let Some(connection) = current.as_ref().filter(|connection| connection.is_open()) {
            return Ok(Arc::clone(connection));
        }
        let opened = Arc::new(Connection::open_with(&self.options).await?);
        *current = Some(Arc::clone(&opened));
        Ok(opened)
    }

    /// Closes it if it is open.
    pub async fn close(&self) {
        if let Some(connection) = self.current.lock().await.take() {
            connection.close().await;
        }
    }
}
