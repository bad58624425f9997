//! One connection to the broker, which ends for good when it is lost.

use std::future::Future;
use std::str::FromStr;
use std::time::Duration;

use futures::StreamExt;
use tokio::sync::watch;

use super::AmqpError;
use super::reconnect::Waits;

/// How long connecting may take, with the handshake.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// How long a clean close may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(3);
/// How often the state is looked at, should an end come without an event.
const STATE_CHECK: Duration = Duration::from_millis(500);

/// How to connect.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// The URL, `amqp://user:password@host:port/vhost`; what its query sets wins.
    pub url: String,
    /// The name that the broker shows for the connection.
    pub name: String,
    /// Seconds between heartbeats.
    pub heartbeat_seconds: u16,
}

impl ConnectOptions {
    /// The usual options.
    #[must_use]
    pub fn new(url: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            name: name.into(),
            heartbeat_seconds: 10,
        }
    }

    /// The URL with the parameters that it does not set itself. Small frames keep the buffers of a
    /// connection at 0.3 MB in place of 7.8.
    fn full_url(&self) -> String {
        let mut url = self.url.clone();
        let heartbeat = self.heartbeat_seconds.to_string();
        for (name, value) in [("heartbeat", heartbeat.as_str()), ("frame_max", "8192")] {
            let query = url.split_once('?').map(|(_, query)| query);
            let is_set = query.is_some_and(|query| {
                query
                    .split('&')
                    .any(|pair| pair.split('=').next() == Some(name))
            });
            if !is_set {
                url.push(if query.is_some() { '&' } else { '?' });
                url.push_str(name);
                url.push('=');
                url.push_str(value);
            }
        }
        url
    }
}

/// What a connection can do at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionStatus {
    /// It works.
    Open,
    /// The broker takes nothing from it (an alarm); it lives on.
    Blocked,
    /// It has ended and does not come back.
    Closed,
}

/// A connection to the broker.
pub struct Connection {
    pub(super) inner: lapin::Connection,
    status: watch::Receiver<ConnectionStatus>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("status", &*self.status.borrow())
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects, in one attempt of at most 3 seconds.
    ///
    /// # Errors
    /// The broker cannot be reached, refuses, or does not answer in time.
    pub async fn open(url: &str, name: &str) -> Result<Self, AmqpError> {
        Self::open_with(&ConnectOptions::new(url, name)).await
    }

    /// As [`Connection::open`], with options.
    ///
    /// # Errors
    /// The broker cannot be reached, refuses, or does not answer in time.
    pub async fn open_with(options: &ConnectOptions) -> Result<Self, AmqpError> {
        let properties = lapin::ConnectionProperties::default()
            .with_connection_name(options.name.as_str().into());
        let url = options.full_url();
        let connecting = Box::pin(async {
            knock(&url).await?;
            lapin::Connection::connect(&url, properties).await
        });
        let inner = tokio::time::timeout(CONNECT_LIMIT, connecting)
            .await
            .map_err(|_| AmqpError::TimedOut(CONNECT_LIMIT))?
            .map_err(AmqpError::Connect)?;
        let (sender, status) = watch::channel(ConnectionStatus::Open);
        tokio::spawn(follow(
            inner.status().clone(),
            inner.events_listener(),
            sender,
        ));
        Ok(Self { inner, status })
    }

    /// Tries until it succeeds, or until `limit` has passed.
    ///
    /// # Errors
    /// The last attempt's error, once `limit` has passed.
    pub async fn open_with_backoff(
        options: &ConnectOptions,
        limit: Option<Duration>,
    ) -> Result<Self, AmqpError> {
        let started = tokio::time::Instant::now();
        let mut waits = Waits::new();
        loop {
            match Self::open_with(options).await {
                Ok(connection) => return Ok(connection),
                Err(error) if limit.is_some_and(|limit| started.elapsed() >= limit) => {
                    return Err(error);
                }
                Err(error) => {
                    tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        "broker not reached"
                    );
                    waits.wait().await;
                }
            }
        }
    }

    /// Whether the connection can still be used.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.inner.status().connected()
    }

    /// The status, to be read or waited for.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<ConnectionStatus> {
        self.status.clone()
    }

    /// Waits until the connection has ended, for whatever reason. Does not borrow the connection.
    pub fn closed(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut status = self.status.clone();
        async move {
            // An error means that the task that follows the connection has ended: so has it.
            let _ = status
                .wait_for(|status| *status == ConnectionStatus::Closed)
                .await;
        }
    }

    /// Closes the connection cleanly; what is unacknowledged goes back to its queue.
    pub async fn close(&self) {
        let closing = self.inner.close(200, "OK".into());
        match tokio::time::timeout(CLOSE_LIMIT, closing).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "connection was closed already"),
            Err(_) => tracing::debug!("the broker did not confirm the close"),
        }
    }

    /// A new channel.
    pub(super) async fn channel(&self) -> Result<lapin::Channel, AmqpError> {
        tokio::time::timeout(CONNECT_LIMIT, self.inner.create_channel())
            .await
            .map_err(|_| AmqpError::TimedOut(CONNECT_LIMIT))?
            .map_err(AmqpError::Channel)
    }
}

/// Fails if nobody listens. lapin 4.12 keeps some 10 kB of each attempt that cannot connect, for good,
/// and a broker that is away is tried several times a second: so it is asked only where somebody answers.
async fn knock(url: &str) -> Result<(), lapin::Error> {
    let uri = lapin::uri::AMQPUri::from_str(url).map_err(std::io::Error::other)?;
    let address = (uri.authority.host.as_str(), uri.authority.port);
    tokio::net::TcpStream::connect(address).await?;
    Ok(())
}

/// Keeps `sender` up to date until the connection has ended. There is one follower per connection,
/// since lapin hands each event to only one of its listeners.
async fn follow(
    connection: lapin::ConnectionStatus,
    events: impl futures::Stream<Item = lapin::Event>,
    sender: watch::Sender<ConnectionStatus>,
) {
    let mut events = std::pin::pin!(events);
    loop {
        let status = if !connection.connected() {
            ConnectionStatus::Closed
        } else if connection.blocked() {
            ConnectionStatus::Blocked
        } else {
            ConnectionStatus::Open
        };
        sender.send_if_modified(|old| std::mem::replace(old, status) != status);
        if status == ConnectionStatus::Closed {
            return;
        }
        // An event says that there is something to see; what it is, the state itself tells. Only why the
        // broker blocks stands nowhere else.
        match tokio::time::timeout(STATE_CHECK, events.next()).await {
            Ok(None) => break,
            Ok(Some(event)) => log_blocking(&event),
            Err(_) => {}
        }
    }
    sender.send_replace(ConnectionStatus::Closed);
}

/// Whoever runs the fleet must hear of it: until the broker's operator acts, nothing moves.
fn log_blocking(event: &lapin::Event) {
    if let lapin::Event::ConnectionBlocked(reason) = event {
        tracing::warn!(
            %reason,
            "the broker takes no messages: free what it lacks; publishing waits until then"
        );
    } else if matches!(event, lapin::Event::ConnectionUnblocked) {
        tracing::info!("the broker takes messages again");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resident_kb() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().nth(1));
        number.unwrap().parse().unwrap()
    }

    #[tokio::test]
    async fn attempts_that_nobody_answers_leave_nothing_behind() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("amqp://{}/v", listener.local_addr().unwrap());
        drop(listener);
        let attempts = async |count| {
            for _ in 0..count {
                let error = Connection::open(&url, "test").await.unwrap_err();
                assert!(matches!(error, AmqpError::Connect(_)), "{error:?}");
            }
        };
        attempts(100).await;
        let before = resident_kb();
        attempts(1_000).await;
        let more = resident_kb().saturating_sub(before);
        assert!(more < 4_000, "1,000 attempts have left {more} kB");
    }

    #[tokio::test]
    async fn a_url_that_is_none_is_refused() {
        let error = Connection::open("http://127.0.0.1/v", "test").await;
        assert!(matches!(error, Err(AmqpError::Connect(_))), "{error:?}");
    }

    #[test]
    fn parameters_are_added_unless_the_url_sets_them() {
        let full = |url: &str| ConnectOptions::new(url, "test").full_url();
        assert_eq!(full("amqp://h/v"), "amqp://h/v?heartbeat=10&frame_max=8192");
        assert_eq!(
            full("amqp://h/v?frame_max=4096"),
            "amqp://h/v?frame_max=4096&heartbeat=10"
        );
        assert_eq!(
            full("amqp://h/v?heartbeat=3&frame_max=4096"),
            "amqp://h/v?heartbeat=3&frame_max=4096"
        );
    }
}
