//! RabbitMQ, through the connection that Flotilla has to it.

use std::pin::Pin;
use std::time::Duration;

use flotilla_protocol::amqp::{
    Acker, ConnectOptions, Connection, Consumer, Delivery, Outgoing, PublishOutcome, Publisher,
    PublisherOptions, PublisherStatus, declare, declare_pool, delete_queue, queue_depth,
};
use flotilla_protocol::names;
use flotilla_tests::servers::Servers;
use flotilla_tests::{LIMIT, wait_until, within};
use uuid::Uuid;

use crate::server::{ChannelNo, ConnectionNo, Delivered, PublisherNo, Told};

/// How long nothing has to come. What is to come from a broker near by comes sooner.
const SILENCE: Duration = Duration::from_millis(300);
/// Dead letters of others that may lie before those of a test.
const MANY: u16 = 2_000;

type Outcome = Pin<Box<dyn Future<Output = PublishOutcome> + Send>>;

pub struct Rabbit {
    servers: Servers,
    /// To look, declare and delete.
    admin: Connection,
    pool: String,
    queue: String,
    connections: Vec<Connection>,
    publishers: Vec<Publisher>,
    consumers: Vec<Option<Consumer>>,
    ackers: Vec<Acker>,
    blocked: Vec<Outcome>,
}

impl Rabbit {
    pub async fn new(servers: Servers) -> Self {
        let admin = connect(&servers).await;
        declare(&admin, 1).await.expect("the topology is declared");
        let pool = format!("model-{}", Uuid::now_v7());
        let mut rabbit = Self {
            queue: names::jobs_queue(&pool),
            servers,
            admin,
            pool,
            connections: Vec::new(),
            publishers: Vec::new(),
            consumers: Vec::new(),
            ackers: Vec::new(),
            blocked: Vec::new(),
        };
        rabbit.declare_queue().await;
        rabbit
    }

    pub async fn end(mut self) {
        self.delete_queue().await;
        for connection in self.connections.iter().chain([&self.admin]) {
            connection.close().await;
        }
        for publisher in &self.publishers {
            publisher.close().await;
        }
    }

    pub fn servers(&self) -> Servers {
        self.servers.clone()
    }

    pub async fn connect(&mut self) -> ConnectionNo {
        self.connections.push(connect(&self.servers).await);
        self.connections.len() - 1
    }

    pub async fn publisher(&mut self) -> PublisherNo {
        let connect = ConnectOptions::new(&self.servers.amqp_url, "flotilla model");
        let publisher = Publisher::start(PublisherOptions::new(connect));
        assert!(within("a connection", publisher.ready()).await);
        self.publishers.push(publisher);
        self.publishers.len() - 1
    }

    pub async fn consume(&mut self, connection: ConnectionNo, prefetch: u16) -> Option<ChannelNo> {
        let connection = &self.connections[connection];
        let consumer = connection.consume(&self.queue, prefetch).await.ok()?;
        self.ackers.push(consumer.acker());
        self.consumers.push(Some(consumer));
        Some(self.consumers.len() - 1)
    }

    pub async fn publish(&mut self, publisher: PublisherNo, number: u32, mandatory: bool) -> Told {
        let body = number.to_string().into_bytes();
        let mut message = Outgoing::to_queue(self.queue.clone(), names::TASK_JOB, body);
        message.message_id = Some(format!("{}/{number}", self.pool));
        message.mandatory = mandatory;
        let publisher = &self.publishers[publisher];
        let mut status = publisher.status();
        let mut outcome: Outcome = Box::pin(publisher.enqueue(message));
        let published = async {
            tokio::select! {
                outcome = &mut outcome => told(outcome),
                _ = status.wait_for(|status| *status == PublisherStatus::Blocked) => Told::Blocked,
            }
        };
        let told = within("word of a publication", published).await;
        if told == Told::Blocked {
            self.blocked.push(outcome);
        }
        told
    }

    pub async fn unblocked(&mut self) -> Vec<Told> {
        let outcomes = futures::future::join_all(self.blocked.drain(..));
        let outcomes = within("the outcomes", outcomes).await;
        outcomes.into_iter().map(told).collect()
    }

    /// `None` once the consumer has ended.
    pub async fn next(&mut self, channel: ChannelNo) -> Option<Delivered> {
        let consumer = self.consumers[channel].as_mut()?;
        let delivery = within("a delivery or the end", consumer.next()).await?;
        Some(delivered(&delivery))
    }

    pub async fn is_idle(&mut self, channel: ChannelNo) -> bool {
        let consumer = self.consumers[channel].as_mut().expect("it is open");
        tokio::time::timeout(SILENCE, consumer.next())
            .await
            .is_err()
    }

    pub async fn acknowledge(&mut self, channel: ChannelNo, tag: u64, multiple: bool) -> bool {
        let sent = self.ackers[channel].ack(tag, multiple).await;
        sent.expect("it can be sent where the channel is open")
    }

    pub async fn close_channel(&mut self, channel: ChannelNo) {
        let consumer = self.consumers[channel].take();
        consumer.expect("it is open").close().await;
    }

    pub async fn close_connection(&mut self, connection: ConnectionNo) {
        self.connections[connection].close().await;
    }

    pub async fn will_hold(&mut self, count: usize) {
        let holds = async || {
            let depth = queue_depth(&self.admin, &self.queue).await;
            let depth = depth.expect("it is looked at");
            depth.and_then(|depth| usize::try_from(depth).ok()) == Some(count)
        };
        wait_until("the queue holds what it should", LIMIT, holds).await;
    }

    pub fn purge(&mut self) {
        self.servers.run(&["ctl", "purge_queue", &self.queue]);
    }

    pub async fn delete_queue(&mut self) {
        let deleted = delete_queue(&self.admin, &self.queue).await;
        deleted.expect("it is deleted");
    }

    pub async fn declare_queue(&mut self) {
        let declared = declare_pool(&self.admin, &self.pool).await;
        declared.expect("it is declared");
    }

    pub async fn dead_letters(&mut self, count: usize) -> Vec<(Delivered, String)> {
        let consumer = self.admin.consume(names::DEAD, MANY).await;
        let mut consumer = consumer.expect("it is consumed");
        let acker = consumer.acker();
        let mut letters = Vec::new();
        while letters.len() < count {
            let delivery = within("a dead letter", consumer.next()).await;
            let delivery = delivery.expect("the consumer lives");
            // Those of others go back when the channel is closed.
            if delivery.envelope.original_queue.as_ref() == Some(&self.queue) {
                let reason = delivery.envelope.reason.clone();
                letters.push((delivered(&delivery), reason.expect("a reason")));
                let sent = acker.ack(delivery.tag, false).await;
                assert!(sent.expect("it is sent"));
            }
        }
        consumer.close().await;
        letters
    }
}

async fn connect(servers: &Servers) -> Connection {
    let connection = Connection::open(&servers.amqp_url, "flotilla model").await;
    connection.expect("RabbitMQ answers")
}

fn delivered(delivery: &Delivery) -> Delivered {
    let body = String::from_utf8_lossy(&delivery.body);
    Delivered {
        tag: delivery.tag,
        number: body.parse().expect("a number"),
        returns: delivery.envelope.delivery_count,
    }
}

fn told(outcome: PublishOutcome) -> Told {
    match outcome {
        PublishOutcome::Confirmed => Told::Confirmed,
        PublishOutcome::Returned => Told::Returned,
        PublishOutcome::Nacked | PublishOutcome::Unknown => panic!("{outcome:?}"),
    }
}
