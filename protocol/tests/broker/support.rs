//! What the tests share: a connection, queues that nobody else uses, and a proxy that cuts.

use std::sync::Arc;
use std::time::Duration;

use flotilla_protocol::amqp::{
    ConnectOptions, Connection, Consumer, Delivery, Outgoing, Publisher, PublisherOptions, declare,
    declare_pool, delete_queue,
};
use flotilla_protocol::names;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use uuid::Uuid;

/// How long a condition may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(20);

pub fn url() -> String {
    std::env::var("AMQP_URL").expect("AMQP_URL must name a RabbitMQ; `make test` sets it")
}

/// A test's own pool with its queue, and a connection to look at it.
pub struct Fixture {
    pub connection: Connection,
    pub pool: String,
    pub queue: String,
}

impl Fixture {
    pub async fn new() -> Self {
        let connection = connect().await;
        declare(&connection, 1)
            .await
            .expect("the topology is declared");
        let pool = format!("test-{}", Uuid::now_v7());
        declare_pool(&connection, &pool)
            .await
            .expect("the pool is declared");
        let queue = names::jobs_queue(&pool);
        Self {
            connection,
            pool,
            queue,
        }
    }

    /// A message to this test's queue.
    pub fn message(&self, number: usize) -> Outgoing {
        let key = names::job_routing_key(&self.pool);
        let body = format!("{{\"number\":{number}}}").into_bytes();
        let mut message = Outgoing::new(names::EXCHANGE, key, names::TASK_JOB, body);
        message.message_id = Some(format!("message-{number}"));
        message
    }

    pub async fn consume(&self, prefetch: u16) -> Consumer {
        let consumer = self.connection.consume(&self.queue, prefetch).await;
        consumer.expect("the queue is consumed")
    }

    pub async fn end(self) {
        let deleted = delete_queue(&self.connection, &self.queue).await;
        deleted.expect("the queue is deleted");
        self.connection.close().await;
    }
}

pub async fn connect() -> Connection {
    Connection::open(&url(), "flotilla-test")
        .await
        .expect("the broker answers")
}

pub fn publisher(url: &str) -> Publisher {
    let connect = ConnectOptions::new(url, "flotilla-test-publisher");
    Publisher::start(PublisherOptions::new(connect))
}

/// Waits for something that must come.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not come within {PATIENCE:?}"),
    }
}

pub async fn next(consumer: &mut Consumer) -> Delivery {
    let delivery = soon("a delivery", consumer.next()).await;
    delivery.expect("the consumer has not ended")
}

/// A TCP proxy in front of the broker, which can be frozen and cut.
pub struct Proxy {
    pub url: String,
    state: Arc<watch::Sender<ProxyState>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct ProxyState {
    /// Connections of an earlier generation are cut.
    generation: u32,
    is_frozen: bool,
}

impl Proxy {
    pub async fn start() -> Self {
        let url = url();
        let (before, after) = url.split_once('@').expect("the URL has credentials");
        let end = after.find(['/', '?']).unwrap_or(after.len());
        let (target, path) = after.split_at(end);
        let target = target.to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (state, receiver) = watch::channel(ProxyState {
            generation: 0,
            is_frozen: false,
        });
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(relay(client, target.clone(), receiver.clone()));
            }
        });
        Self {
            url: format!("{before}@{address}{path}"),
            state: Arc::new(state),
        }
    }

    /// Lets nothing from the broker through any more, until the next cut.
    pub fn freeze(&self) {
        self.state.send_modify(|state| state.is_frozen = true);
    }

    /// Cuts all connections; later ones work again.
    pub fn cut(&self) {
        self.state.send_modify(|state| {
            state.generation += 1;
            state.is_frozen = false;
        });
    }
}

async fn relay(client: TcpStream, target: String, mut state: watch::Receiver<ProxyState>) {
    let Ok(server) = TcpStream::connect(target).await else {
        return;
    };
    let generation = state.borrow_and_update().generation;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let mut thaw = state.clone();
    // What was held back at a cut is lost with the connection.
    let passes = move |state: &ProxyState| !state.is_frozen && state.generation == generation;
    let back = async {
        let mut buffer = vec![0; 65_536];
        loop {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let Ok(count @ 1..) = from_server.read(&mut buffer).await else {
                return;
            };
            if thaw.wait_for(passes).await.is_err()
                || to_client.write_all(&buffer[..count]).await.is_err()
            {
                return;
            }
        }
    };
    tokio::select! {
        _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
        () = back => {}
        _ = state.wait_for(|state| state.generation != generation) => {}
    }
}
