//! What a publish says about its message, through everything that can happen to a connection.

use flotilla_protocol::amqp::{
    ConnectOptions, Outgoing, PublishOutcome, Publisher, PublisherOptions, PublisherStatus,
    queue_depth, traffic,
};
use flotilla_protocol::names;
use futures::future::join_all;
use std::time::Duration;

use crate::support::{Fixture, Proxy, next, publisher, soon, url};

fn unroutable(number: usize) -> Outgoing {
    let key = names::job_routing_key("no-such-pool");
    let mut message = Outgoing::new(names::EXCHANGE, key, names::TASK_JOB, b"{}".to_vec());
    message.message_id = Some(format!("unroutable-{number}"));
    message
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_arrive_in_the_order_of_the_calls() {
    let fixture = Fixture::new().await;
    let publisher = publisher(&url());
    let outcomes = join_all((0..1_000).map(|number| publisher.publish(fixture.message(number))));
    let outcomes = soon("the confirms", outcomes).await;
    assert!(
        outcomes
            .iter()
            .all(|outcome| *outcome == PublishOutcome::Confirmed)
    );
    let mut consumer = fixture.consume(1_000).await;
    for number in 0..1_000 {
        let delivery = next(&mut consumer).await;
        assert_eq!(
            delivery.envelope.message_id,
            Some(format!("message-{number}"))
        );
    }
    fixture.end().await;
}

#[tokio::test]
async fn outcomes_come_out_of_one_channel_by_number() {
    let fixture = Fixture::new().await;
    let publisher = publisher(&url());
    let (outcomes, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    let before = traffic().published;
    publisher.enqueue_numbered(fixture.message(0), 7, &outcomes);
    publisher.enqueue_numbered(unroutable(0), 8, &outcomes);
    publisher.enqueue_numbered(fixture.message(1), 9, &outcomes);
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.extend(soon("an outcome", receiver.recv()).await);
    }
    seen.sort_by_key(|(number, _)| *number);
    let confirmed = PublishOutcome::Confirmed;
    let expected = [
        (7, confirmed),
        (8, PublishOutcome::Returned),
        (9, confirmed),
    ];
    assert_eq!(seen, expected);
    assert!(traffic().published >= before + 3);
    publisher.close().await;
    publisher.enqueue_numbered(fixture.message(2), 10, &outcomes);
    let late = soon("an outcome", receiver.recv()).await;
    assert_eq!(late, Some((10, PublishOutcome::Unknown)));
    fixture.end().await;
}

#[tokio::test]
async fn a_message_that_no_queue_takes_is_returned() {
    let fixture = Fixture::new().await;
    let publisher = publisher(&url());
    assert_eq!(
        publisher.publish(unroutable(0)).await,
        PublishOutcome::Returned
    );
    let mut optional = unroutable(1);
    optional.mandatory = false;
    assert_eq!(publisher.publish(optional).await, PublishOutcome::Confirmed);
    let gone = Outgoing::to_queue(
        "flotilla-no-such-queue",
        names::TASK_COMPLETED,
        b"{}".to_vec(),
    );
    assert_eq!(publisher.publish(gone).await, PublishOutcome::Returned);
    fixture.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_many_outcomes_belongs_to_its_message() {
    let fixture = Fixture::new().await;
    let publisher = publisher(&url());
    for _ in 0..5 {
        let outcomes = join_all((0..2_000).map(|number| {
            let message = match number % 3 {
                0 => unroutable(number),
                _ => fixture.message(number),
            };
            publisher.publish(message)
        }));
        let outcomes = soon("the confirms", outcomes).await;
        for (number, outcome) in outcomes.into_iter().enumerate() {
            let expected = match number % 3 {
                0 => PublishOutcome::Returned,
                _ => PublishOutcome::Confirmed,
            };
            assert_eq!(outcome, expected, "message {number}");
        }
    }
    fixture.end().await;
}

#[tokio::test]
async fn a_missing_exchange_is_survived() {
    let fixture = Fixture::new().await;
    let publisher = publisher(&url());
    assert!(publisher.ready().await);
    let lost = Outgoing::new("flotilla-no-such-exchange", "x", "x", b"{}".to_vec());
    let outcome = soon("an outcome", publisher.publish(lost)).await;
    assert_eq!(outcome, PublishOutcome::Unknown);
    let outcome = soon("an outcome", publisher.publish(fixture.message(0))).await;
    assert_eq!(outcome, PublishOutcome::Confirmed);
    fixture.end().await;
}

#[tokio::test]
async fn what_amqp_cannot_carry_is_refused_and_harms_nobody() {
    let fixture = Fixture::new().await;
    let publisher = publisher(&url());
    let mut long_id = fixture.message(0);
    long_id.message_id = Some("x".repeat(256));
    let mut long_headers = fixture.message(1);
    long_headers.headers = vec![("note".to_owned(), "x".repeat(100_000))];
    for message in [long_id, long_headers] {
        assert_eq!(publisher.publish(message).await, PublishOutcome::Nacked);
    }
    let mut large = fixture.message(2);
    large.body = vec![b' '; 3_000_000];
    large.reply_to = Some("r".repeat(255));
    large.correlation_id = Some("c".repeat(255));
    large.headers = vec![("note".to_owned(), "x".repeat(4_000))];
    assert_eq!(publisher.publish(large).await, PublishOutcome::Confirmed);
    let mut consumer = fixture.consume(1).await;
    assert_eq!(next(&mut consumer).await.body.len(), 3_000_000);
    fixture.end().await;
}

#[tokio::test]
async fn a_lost_connection_makes_what_is_outstanding_unknown_and_comes_back() {
    let fixture = Fixture::new().await;
    let proxy = Proxy::start().await;
    let publisher = publisher(&proxy.url);
    let outcome = publisher.publish(fixture.message(0)).await;
    assert_eq!(outcome, PublishOutcome::Confirmed);
    let mut status = publisher.status();
    proxy.freeze();
    let outstanding: Vec<_> = (1..50)
        .map(|number| publisher.enqueue(fixture.message(number)))
        .collect();
    soon("the messages in the queue", async {
        let depth = || async { queue_depth(&fixture.connection, &fixture.queue).await };
        while depth().await.expect("the broker answers") != Some(50) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    status.mark_unchanged();
    proxy.cut();
    let outcomes = soon("the outcomes", join_all(outstanding)).await;
    assert!(
        outcomes
            .iter()
            .all(|outcome| *outcome == PublishOutcome::Unknown)
    );
    soon("the change of status", status.changed())
        .await
        .expect("the publisher lives");
    let outcome = soon("an outcome", publisher.publish(fixture.message(50))).await;
    assert_eq!(outcome, PublishOutcome::Confirmed);
    assert_eq!(*publisher.status().borrow(), PublisherStatus::Open);
    fixture.end().await;
}

#[tokio::test]
async fn a_publish_waits_for_a_connection_within_its_limit() {
    let connect = ConnectOptions::new("amqp://guest:guest@127.0.0.1:1/%2f", "test");
    let mut options = PublisherOptions::new(connect);
    options.publish_limit = Duration::from_millis(300);
    let publisher = Publisher::start(options);
    let outcome = soon("giving up", publisher.publish(unroutable(0))).await;
    assert_eq!(outcome, PublishOutcome::Unknown);
    assert_eq!(*publisher.status().borrow(), PublisherStatus::Down);
    soon("the end", publisher.close()).await;
    assert_eq!(
        publisher.publish(unroutable(1)).await,
        PublishOutcome::Unknown
    );
}

#[tokio::test]
async fn a_confirm_that_does_not_come_is_given_up() {
    let fixture = Fixture::new().await;
    let proxy = Proxy::start().await;
    let mut options = PublisherOptions::new(ConnectOptions::new(&proxy.url, "test"));
    options.confirm_limit = Duration::from_millis(500);
    let publisher = Publisher::start(options);
    assert_eq!(
        publisher.publish(fixture.message(0)).await,
        PublishOutcome::Confirmed
    );
    proxy.freeze();
    let outcome = soon("giving up", publisher.publish(fixture.message(1))).await;
    assert_eq!(outcome, PublishOutcome::Unknown);
    proxy.cut();
    let outcome = soon("an outcome", publisher.publish(fixture.message(2))).await;
    assert_eq!(outcome, PublishOutcome::Confirmed);
    fixture.end().await;
}

#[tokio::test]
async fn closing_publishes_what_was_queued() {
    let fixture = Fixture::new().await;
    let publisher = publisher(&url());
    let queued: Vec<_> = (0..300)
        .map(|number| publisher.enqueue(fixture.message(number)))
        .collect();
    soon("the end", publisher.close()).await;
    let outcomes = join_all(queued).await;
    assert!(
        outcomes
            .iter()
            .all(|outcome| *outcome == PublishOutcome::Confirmed)
    );
    fixture.end().await;
}
