//! The worker's own queue of cancel requests. It is best effort: whatever fails here is tried again
//! later and disturbs no job.

use std::sync::Arc;
use std::time::Duration;

use flotilla_protocol::amqp::{AmqpError, Connection, Consumer, worker_cancel_queue};
use flotilla_protocol::decode_cancel;
use flotilla_protocol::message::TaskCancel;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// How many requests the broker sends ahead; more wait in the queue.
const PREFETCH: u16 = 256;
/// How long opening the queue may hold up the jobs.
const OPEN_LIMIT: Duration = Duration::from_secs(3);
/// How long to wait before the queue is opened again.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Where requests go.
pub(crate) type CancelSender = mpsc::Sender<TaskCancel>;

/// A channel for the requests of all sessions; more than a few in it wait at the broker.
pub(crate) fn cancel_channel() -> (CancelSender, mpsc::Receiver<TaskCancel>) {
    mpsc::channel(usize::from(PREFETCH))
}

/// Listens for cancel requests on a connection, until this is dropped.
#[derive(Debug)]
pub(crate) struct CancelListener(JoinHandle<()>);

impl CancelListener {
    /// Opens the queue before the jobs of the session come, so that no cancel goes past them.
    pub(crate) async fn open(connection: &Arc<Connection>, requests: CancelSender) -> Self {
        let consumer = try_subscribe(connection).await;
        Self(tokio::spawn(listen(
            Arc::clone(connection),
            consumer,
            requests,
        )))
    }
}

impl Drop for CancelListener {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn listen(connection: Arc<Connection>, first: Option<Consumer>, requests: CancelSender) {
    let mut consumer = first;
    while connection.is_open() {
        if let Some(consumer) = consumer.take() {
            pass_on(consumer, &requests).await;
        }
        tokio::time::sleep(AGAIN_AFTER).await;
        consumer = try_subscribe(&connection).await;
    }
}

async fn try_subscribe(connection: &Connection) -> Option<Consumer> {
    match tokio::time::timeout(OPEN_LIMIT, subscribe(connection)).await {
        Ok(Ok(consumer)) => return Some(consumer),
        Ok(Err(error)) => tracing::warn!(
            error = &error as &dyn std::error::Error,
            "cannot listen for cancels"
        ),
        Err(_) => tracing::warn!("cannot listen for cancels: the broker does not answer"),
    }
    None
}

async fn subscribe(connection: &Connection) -> Result<Consumer, AmqpError> {
    let queue = worker_cancel_queue(connection).await?;
    connection.consume(&queue, PREFETCH).await
}

/// Passes requests on until the consumer ends. Acknowledging only makes the broker send more.
async fn pass_on(mut consumer: Consumer, requests: &CancelSender) {
    let acker = consumer.acker();
    while let Some(delivery) = consumer.next().await {
        match decode_cancel(&delivery.envelope, &delivery.body) {
            Ok(request) => {
                if requests.send(request).await.is_err() {
                    return;
                }
            }
            Err(refused) => tracing::warn!(
                reason = refused.refusal.reason(),
                message = refused.message,
                "cancel refused"
            ),
        }
        if !matches!(acker.ack(delivery.tag, false).await, Ok(true)) {
            return;
        }
    }
}
