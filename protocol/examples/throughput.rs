//! Prints how many persistent messages a second one process publishes to a quorum queue with
//! confirms, and then consumes: `AMQP_URL=… cargo run --release --example throughput --features amqp`.

use std::time::{Duration, Instant};

use flotilla_protocol::amqp::{
    ConnectOptions, Connection, Outgoing, PublishOutcome, Publisher, PublisherOptions, declare,
    declare_pool, delete_queue,
};
use flotilla_protocol::names;
use futures::stream::{FuturesUnordered, StreamExt};

const IN_FLIGHT: usize = 500;
const PREFETCH: u16 = 500;
const ACKNOWLEDGE_EVERY: usize = 50;

#[tokio::main]
async fn main() {
    let url = std::env::var("AMQP_URL").expect("AMQP_URL names a broker");
    let messages: usize = std::env::args().nth(1).map_or(100_000, |count| {
        count.parse().expect("a number of messages")
    });
    let name = "flotilla-throughput";
    let connection = Connection::open(&url, name)
        .await
        .expect("the broker answers");
    let pool = format!("throughput-{}", std::process::id());
    declare(&connection, 1)
        .await
        .expect("the topology is declared");
    declare_pool(&connection, &pool)
        .await
        .expect("the pool is declared");
    let publisher = Publisher::start(PublisherOptions::new(ConnectOptions::new(&url, name)));
    assert!(publisher.ready().await, "the publisher is open");

    let started = Instant::now();
    publish(&publisher, &pool, messages).await;
    print("published", messages, started.elapsed());

    let started = Instant::now();
    consume(&connection, &pool, messages).await;
    print("consumed", messages, started.elapsed());

    let queue = names::jobs_queue(&pool);
    delete_queue(&connection, &queue)
        .await
        .expect("the queue is deleted");
    publisher.close().await;
    connection.close().await;
}

async fn publish(publisher: &Publisher, pool: &str, messages: usize) {
    let mut in_flight = FuturesUnordered::new();
    for number in 0..messages {
        if in_flight.len() == IN_FLIGHT {
            assert_eq!(in_flight.next().await, Some(PublishOutcome::Confirmed));
        }
        let key = names::job_routing_key(pool);
        let mut message = Outgoing::new(names::EXCHANGE, key, names::TASK_JOB, vec![b' '; 400]);
        message.message_id = Some(format!("0190f000-0000-7000-8000-{number:012}/1"));
        message.correlation_id = Some("0190f000-0000-7000-8000-000000000000".to_owned());
        message.reply_to = Some("flotilla.inbox.0".to_owned());
        in_flight.push(publisher.enqueue(message));
    }
    while let Some(outcome) = in_flight.next().await {
        assert_eq!(outcome, PublishOutcome::Confirmed);
    }
}

async fn consume(connection: &Connection, pool: &str, messages: usize) {
    let queue = names::jobs_queue(pool);
    let mut consumer = connection
        .consume(&queue, PREFETCH)
        .await
        .expect("the queue is consumed");
    let acker = consumer.acker();
    for number in 1..=messages {
        let delivery = consumer.next().await.expect("the queue is not empty");
        if number % ACKNOWLEDGE_EVERY == 0 || number == messages {
            assert!(acker.ack(delivery.tag, true).await.expect("acknowledged"));
        }
    }
    consumer.close().await;
}

fn print(what: &str, messages: usize, elapsed: Duration) {
    let rate = f64::from(u32::try_from(messages).unwrap_or(u32::MAX)) / elapsed.as_secs_f64();
    println!("{what} {messages} in {elapsed:.2?}: {rate:.0}/s");
}
