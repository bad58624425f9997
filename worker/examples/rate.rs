//! Measures how many `core.noop` jobs a worker takes per second, and what processor time each costs.
//!
//! `AMQP_URL=amqp://… cargo run --release -p flotilla-worker --example rate [JOBS] [CONCURRENCY] [INBOXES]`

use std::ops::Range;
use std::time::{Duration, Instant};

use flotilla_protocol::amqp::{
    ConnectOptions, Connection, Outgoing, Publisher, PublisherOptions, declare_inbox, declare_pool,
    delete_queue, queue_depth,
};
use flotilla_protocol::message::TaskJob;
use flotilla_protocol::{ExecutionId, InboxMessage, TaskId, decode_inbox, names};
use flotilla_worker::{Worker, WorkerConfig};
use futures::stream::{FuturesUnordered, StreamExt};
use uuid::Uuid;

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args()
        .skip(1)
        .map(|argument| argument.parse::<u16>());
    let jobs = arguments.next().transpose()?.unwrap_or(50_000);
    let concurrency = arguments.next().transpose()?.unwrap_or(256);
    let inboxes = i32::from(arguments.next().transpose()?.unwrap_or(1));

    let url = std::env::var("AMQP_URL")?;
    let connection = Connection::open(&url, "rate").await?;
    let pool = format!("rate-{}", Uuid::now_v7());
    let (queue, bundles) = (names::jobs_queue(&pool), names::bundles_queue(&pool));
    flotilla_protocol::amqp::declare(&connection, 0).await?;
    declare_pool(&connection, &pool).await?;
    // Far from the partitions of a fleet, and from those of a run before.
    let first = 0x4000_0000 | (i32::from_be_bytes(last_bytes(Uuid::now_v7())) & 0x3fff_ff00);
    for inbox in first..first + inboxes {
        declare_inbox(&connection, inbox).await?;
    }
    publish(&url, &pool, jobs, first, inboxes).await;

    let config = WorkerConfig {
        pools: vec![pool],
        concurrency,
        ..WorkerConfig::new(url)
    };
    let emptied = async {
        while queue_depth(&connection, &queue).await.ok().flatten() != Some(0) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let (started, processor) = (Instant::now(), processor_seconds()?);
    Worker::new(config).built_in().run(emptied).await?;
    let (elapsed, processor) = (
        started.elapsed().as_secs_f64(),
        processor_seconds()? - processor,
    );
    // What was fetched and not begun when the queue was empty has gone back.
    let left = queue_depth(&connection, &queue).await?.unwrap_or(0);
    let jobs = f64::from(jobs) - f64::from(left);
    let (messages, completions) = read(&connection, first..first + inboxes).await?;
    println!(
        "{:.0} jobs/s, {:.1} µs of processor per job, {completions} answers to {jobs} jobs in {messages} messages",
        jobs / elapsed,
        processor / jobs * 1e6
    );

    for queue in [queue, bundles] {
        delete_queue(&connection, &queue).await?;
    }
    for inbox in first..first + inboxes {
        delete_queue(&connection, &names::inbox_queue(inbox)).await?;
    }
    Ok(())
}

async fn publish(url: &str, pool: &str, jobs: u16, first: i32, inboxes: i32) {
    let publisher = Publisher::start(PublisherOptions::new(ConnectOptions::new(url, "rate")));
    let mut confirms = FuturesUnordered::new();
    for number in 0..i32::from(jobs) {
        let id = Uuid::now_v7();
        let job = TaskJob {
            execution_id: ExecutionId(id),
            task_id: TaskId(id),
            attempt: 1,
            workflow: "examples.rate".to_owned(),
            task: "nothing".to_owned(),
            visit: 1,
            action: "core.noop".to_owned(),
            input: serde_json::value::RawValue::NULL.to_owned(),
            timeout: None,
            heartbeat: None,
            idempotency_key: id.to_string(),
            item: None,
            secrets: Vec::new(),
            starts: 0,
            resent: false,
        };
        confirms.push(publisher.enqueue(Outgoing::job(pool, first + number % inboxes, &job)));
    }
    while confirms.next().await.is_some() {}
    publisher.close().await;
}

fn last_bytes(id: Uuid) -> [u8; 4] {
    let [.., a, b, c, d] = *id.as_bytes();
    [a, b, c, d]
}

/// Counts the messages of some inboxes, and the completions in them.
async fn read(connection: &Connection, inboxes: Range<i32>) -> Result<(usize, usize), Failure> {
    let (mut messages, mut completions) = (0, 0);
    for inbox in inboxes {
        let queue = names::inbox_queue(inbox);
        let waiting = queue_depth(connection, &queue).await?.unwrap_or(0);
        let mut consumer = connection.consume(&queue, 0).await?;
        for _ in 0..waiting {
            let delivery = consumer.next().await.ok_or("the inbox ended")?;
            // Without acknowledgements a quorum queue stops after 2,000 messages.
            consumer.acker().ack(delivery.tag, false).await?;
            messages += 1;
            let message = decode_inbox(&delivery.envelope, &delivery.body)?;
            let InboxMessage::Completed(all) = message else {
                return Err(format!("not a completion: {message:?}").into());
            };
            completions += all.len();
        }
        consumer.close().await;
    }
    Ok((messages, completions))
}

/// The processor time of this process so far. Linux counts it in hundredths of a second.
fn processor_seconds() -> Result<f64, Failure> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, after_name) = stat.rsplit_once(')').ok_or("no name in /proc/self/stat")?;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
    Ok(ticks / 100.0)
}
