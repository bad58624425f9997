//! Deliveries, acknowledgements, and every way in which they end.

use flotilla_protocol::amqp::{Connection, Outgoing, PublishOutcome, delete_queue, queue_depth};
use flotilla_protocol::{Refusal, names};

use crate::support::{Fixture, Proxy, next, publisher, soon, url};

async fn fill(fixture: &Fixture, count: usize) {
    let publisher = publisher(&url());
    for number in 0..count {
        let outcome = publisher.publish(fixture.message(number)).await;
        assert_eq!(outcome, PublishOutcome::Confirmed);
    }
    publisher.close().await;
}

#[tokio::test]
async fn one_acknowledgement_covers_all_before_it() {
    let fixture = Fixture::new().await;
    fill(&fixture, 5).await;
    let mut consumer = fixture.consume(10).await;
    let mut tags = Vec::new();
    for number in 0..5 {
        let delivery = next(&mut consumer).await;
        assert_eq!(
            delivery.envelope.message_id,
            Some(format!("message-{number}"))
        );
        assert_eq!(delivery.envelope.delivery_count, 0);
        tags.push(delivery.tag);
    }
    let acker = consumer.acker();
    assert!(acker.ack(tags[3], true).await.expect("acknowledged"));
    consumer.close().await;
    assert!(
        !acker.ack(tags[4], false).await.expect("looked at"),
        "too late"
    );

    let mut consumer = fixture.consume(10).await;
    let delivery = next(&mut consumer).await;
    assert_eq!(delivery.envelope.message_id.as_deref(), Some("message-4"));
    fixture.end().await;
}

#[tokio::test]
async fn what_is_consumed_without_acknowledgements_does_not_come_again() {
    let fixture = Fixture::new().await;
    fill(&fixture, 3).await;
    let consuming = fixture.connection.consume_without_acks(&fixture.queue);
    let mut consumer = consuming.await.expect("consumed");
    for number in 0..3 {
        let delivery = next(&mut consumer).await;
        let expected = format!("message-{number}");
        assert_eq!(delivery.envelope.message_id, Some(expected));
    }
    consumer.close().await;
    let left = queue_depth(&fixture.connection, &fixture.queue).await;
    assert_eq!(left.expect("the broker answers"), Some(0));
    fixture.end().await;
}

#[tokio::test]
async fn a_redelivery_says_how_often_it_was_delivered() {
    let fixture = Fixture::new().await;
    fill(&fixture, 1).await;
    for count in 0..3 {
        let mut consumer = fixture.consume(1).await;
        let delivery = next(&mut consumer).await;
        assert_eq!(delivery.envelope.delivery_count, count);
        assert_eq!(delivery.envelope.redelivered, count > 0);
        // Dropping gives the message back just as well as closing.
        drop(consumer);
    }
    let mut consumer = fixture.consume(1).await;
    let delivery = next(&mut consumer).await;
    let acker = consumer.acker();
    assert!(acker.nack_requeue(delivery.tag).await.expect("given back"));
    assert_eq!(next(&mut consumer).await.envelope.delivery_count, 4);
    fixture.end().await;
}

#[tokio::test]
async fn a_deleted_queue_ends_its_consumer() {
    let fixture = Fixture::new().await;
    let mut consumer = fixture.consume(1).await;
    delete_queue(&fixture.connection, &fixture.queue)
        .await
        .expect("deleted");
    assert!(soon("the end", consumer.next()).await.is_none());
    assert!(
        consumer.next().await.is_none(),
        "nothing comes after the end"
    );
    assert!(fixture.connection.is_open());
    fixture.end().await;
}

#[tokio::test]
async fn a_queue_that_is_missing_is_an_error() {
    let fixture = Fixture::new().await;
    let consumed = fixture
        .connection
        .consume("flotilla.jobs.no-such-pool", 1)
        .await;
    assert!(consumed.is_err());
    assert!(fixture.connection.is_open());
    fixture.end().await;
}

#[tokio::test]
async fn a_lost_connection_ends_its_consumers_and_gives_back_what_they_held() {
    let fixture = Fixture::new().await;
    fill(&fixture, 1).await;
    let proxy = Proxy::start().await;
    let connection = Connection::open(&proxy.url, "test")
        .await
        .expect("connected");
    let mut consumer = connection
        .consume(&fixture.queue, 10)
        .await
        .expect("consumed");
    let delivery = next(&mut consumer).await;
    let closed = connection.closed();
    proxy.cut();
    assert!(soon("the end", consumer.next()).await.is_none());
    soon("the close", closed).await;
    assert!(!connection.is_open() && !consumer.is_open());
    let late = consumer.acker().ack(delivery.tag, false).await;
    assert!(!late.expect("looked at"), "too late");
    assert!(connection.consume(&fixture.queue, 1).await.is_err());

    let mut consumer = fixture.consume(1).await;
    assert_eq!(next(&mut consumer).await.envelope.delivery_count, 1);
    fixture.end().await;
}

#[tokio::test]
async fn a_dead_letter_keeps_what_was_known_of_the_message() {
    let fixture = Fixture::new().await;
    let publisher = publisher(&url());
    let mut message = fixture.message(0);
    message.traceparent = Some("00-abc-def-01".to_owned());
    message
        .headers
        .push((names::VERSION_HEADER.to_owned(), "7".to_owned()));
    assert_eq!(publisher.publish(message).await, PublishOutcome::Confirmed);
    let mut consumer = fixture.consume(1).await;
    let delivery = next(&mut consumer).await;
    assert_eq!(delivery.envelope.version, Some(7));

    let dead = Outgoing::dead_letter(&delivery, &fixture.queue, Refusal::NewerVersion);
    // To the test's own queue, where others do not look for dead letters.
    let dead = Outgoing {
        exchange: "".into(),
        routing_key: fixture.queue.clone(),
        ..dead
    };
    assert!(
        consumer
            .acker()
            .ack(delivery.tag, false)
            .await
            .expect("acknowledged")
    );
    assert_eq!(publisher.publish(dead).await, PublishOutcome::Confirmed);
    let delivery = next(&mut consumer).await;
    let envelope = &delivery.envelope;
    assert_eq!(envelope.reason.as_deref(), Some("newer_version"));
    assert_eq!(envelope.original_queue.as_ref(), Some(&fixture.queue));
    assert_eq!(envelope.message_id.as_deref(), Some("message-0"));
    assert_eq!(envelope.traceparent.as_deref(), Some("00-abc-def-01"));
    assert_eq!(envelope.version, Some(7));
    let properties = delivery.properties_json();
    assert_eq!(properties["message_id"], "message-0");
    assert_eq!(properties["headers"]["flotilla-reason"], "newer_version");
    fixture.end().await;
}
