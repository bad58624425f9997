//! Queues and exchanges are declared as the contract says, and refused otherwise.

use flotilla_protocol::amqp::{
    Connection, Outgoing, PublishOutcome, declare, declare_inbox, declare_pool, delete_queue,
    queue_depth, reply_queue, worker_cancel_queue,
};
use flotilla_protocol::message::TaskCancel;
use flotilla_protocol::{ExecutionId, TaskId, names};
use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};
use uuid::Uuid;

use crate::support::{Fixture, connect, next, publisher, soon, url};

/// Declares a queue with these arguments on a connection of its own; whether the broker agreed.
async fn declares(queue: &str, arguments: &[(&str, AMQPValue)]) -> bool {
    let properties = lapin::ConnectionProperties::default();
    let connection = lapin::Connection::connect(&url(), properties).await;
    let connection = connection.expect("the broker answers");
    let channel = connection.create_channel().await.expect("a channel");
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        table.insert((*name).into(), value.clone());
    }
    let options = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    channel
        .queue_declare(queue.into(), options, table)
        .await
        .is_ok()
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

#[tokio::test]
async fn the_topology_has_exactly_the_arguments_of_the_contract() {
    let fixture = Fixture::new().await;
    let jobs = |limit: i32| {
        vec![
            ("x-queue-type", text("quorum")),
            ("x-delivery-limit", AMQPValue::LongInt(limit)),
            ("x-dead-letter-exchange", text("flotilla.dead")),
            ("x-dead-letter-strategy", text("at-least-once")),
            ("x-overflow", text("reject-publish")),
        ]
    };
    for queue in [fixture.queue.as_str(), "flotilla.jobs.default"] {
        assert!(declares(queue, &jobs(20)).await, "{queue}");
        assert!(!declares(queue, &jobs(21)).await, "{queue}");
        assert!(!declares(queue, &jobs(20)[..4]).await, "{queue}");
    }
    let other = |limit: i32| {
        vec![
            ("x-queue-type", text("quorum")),
            ("x-delivery-limit", AMQPValue::LongInt(limit)),
        ]
    };
    let names = [
        "flotilla.start",
        "flotilla.control",
        "flotilla.dead",
        "flotilla.inbox.0",
    ];
    for queue in names {
        assert!(declares(queue, &other(1_000_000)).await, "{queue}");
        assert!(!declares(queue, &other(20)).await, "{queue}");
    }
    fixture.end().await;
}

#[tokio::test]
async fn declaring_twice_changes_nothing() {
    let fixture = Fixture::new().await;
    let again = declare(&fixture.connection, 1).await;
    again.expect("the topology is declared again");
    let again = declare_pool(&fixture.connection, &fixture.pool).await;
    again.expect("the pool is declared again");
    let partition = 1_000_000 + i32::from(Uuid::now_v7().as_bytes()[15]);
    declare_inbox(&fixture.connection, partition)
        .await
        .expect("an inbox");
    let queue = names::inbox_queue(partition);
    delete_queue(&fixture.connection, &queue)
        .await
        .expect("deleted");
    fixture.end().await;
}

#[tokio::test]
async fn the_depth_of_a_queue_is_known_and_none_without_the_queue() {
    let fixture = Fixture::new().await;
    let depth = queue_depth(&fixture.connection, &fixture.queue).await;
    assert_eq!(depth.expect("the broker answers"), Some(0));
    let publisher = publisher(&url());
    for number in 0..3 {
        let outcome = publisher.publish(fixture.message(number)).await;
        assert_eq!(outcome, PublishOutcome::Confirmed);
    }
    soon("the depth of three", async {
        let three = || async { queue_depth(&fixture.connection, &fixture.queue).await };
        while three().await.expect("the broker answers") != Some(3) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let missing = queue_depth(&fixture.connection, "flotilla.jobs.no-such-pool").await;
    assert_eq!(missing.expect("the broker answers"), None);
    assert!(fixture.connection.is_open());
    fixture.end().await;
}

#[tokio::test]
async fn each_worker_hears_each_cancel() {
    let fixture = Fixture::new().await;
    let mut consumers = Vec::new();
    let other = connect().await;
    for connection in [&fixture.connection, &other] {
        let queue = worker_cancel_queue(connection).await.expect("a queue");
        consumers.push(connection.consume(&queue, 10).await.expect("consumed"));
    }
    let cancel = TaskCancel {
        execution_id: ExecutionId(Uuid::now_v7()),
        task_id: TaskId(Uuid::now_v7()),
        attempt: 1,
        reason: None,
    };
    let outcome = publisher(&url()).publish(Outgoing::cancel(&cancel)).await;
    assert_eq!(outcome, PublishOutcome::Confirmed);
    for consumer in &mut consumers {
        // Other tests may cancel as well.
        loop {
            let delivery = next(consumer).await;
            let heard =
                flotilla_protocol::decode::decode_cancel(&delivery.envelope, &delivery.body);
            if heard.expect("a cancel") == cancel {
                break;
            }
        }
    }
    fixture.end().await;
}

#[tokio::test]
async fn a_client_has_its_own_queue_for_answers() {
    let fixture = Fixture::new().await;
    let queue = reply_queue(&fixture.connection).await.expect("a queue");
    let mut answers = fixture
        .connection
        .consume(&queue, 10)
        .await
        .expect("consumed");
    let answer = Outgoing::reply(
        &queue,
        Some("request-1"),
        names::WORKFLOW_STARTED,
        b"{}".to_vec(),
    );
    let outcome = publisher(&url()).publish(answer).await;
    assert_eq!(outcome, PublishOutcome::Confirmed);
    let delivery = next(&mut answers).await;
    assert_eq!(
        delivery.envelope.correlation_id.as_deref(),
        Some("request-1")
    );
    assert_eq!(
        delivery.envelope.message_type.as_deref(),
        Some("workflow.started")
    );
    assert_eq!(delivery.envelope.version, Some(1));
    fixture.end().await;
}

#[tokio::test]
async fn an_address_without_a_broker_is_an_error_and_no_wait() {
    let opened = Connection::open("amqp://guest:guest@127.0.0.1:1/%2f", "test").await;
    assert!(opened.is_err());
    let options =
        flotilla_protocol::amqp::ConnectOptions::new("amqp://guest:guest@127.0.0.1:1/%2f", "test");
    let limit = Some(std::time::Duration::from_millis(200));
    let opened = soon("giving up", Connection::open_with_backoff(&options, limit)).await;
    assert!(opened.is_err());
}
