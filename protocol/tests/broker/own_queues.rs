//! Queues of one connection, and consumers that come first.

use flotilla_protocol::amqp::{
    Outgoing, PublishOutcome, QueueState, copies_of, limited_queue, named_queue, queue_state,
};
use flotilla_protocol::names;
use uuid::Uuid;

use crate::support::{Fixture, connect, next, publisher, soon, url};

fn name() -> String {
    format!("flotilla-test.{}", Uuid::now_v7())
}

fn to(queue: &str, text: &str) -> Outgoing {
    Outgoing::to_queue(queue, "test", text.as_bytes().to_vec())
}

#[tokio::test]
async fn a_queue_with_a_limit_refuses_until_there_is_room() {
    let connection = connect().await;
    let publisher = publisher(&url());
    let queue = name();
    let missing = publisher.publish(to(&queue, "none")).await;
    assert_eq!(missing, PublishOutcome::Returned);
    limited_queue(&connection, &queue, 1).await.unwrap();
    let first = publisher.publish(to(&queue, "first")).await;
    assert_eq!(first, PublishOutcome::Confirmed);
    let second = publisher.publish(to(&queue, "second")).await;
    assert_eq!(second, PublishOutcome::Nacked);
    let mut consumer = connection.consume(&queue, 10).await.unwrap();
    assert_eq!(next(&mut consumer).await.body, b"first");
    let third = publisher.publish(to(&queue, "third")).await;
    assert_eq!(third, PublishOutcome::Confirmed);
    assert_eq!(next(&mut consumer).await.body, b"third");
    connection.close().await;
}

#[tokio::test]
async fn a_named_queue_belongs_to_its_connection() {
    let (connection, other) = (connect().await, connect().await);
    let queue = name();
    named_queue(&connection, &queue).await.unwrap();
    assert!(named_queue(&other, &queue).await.is_err(), "it is taken");
    let mut consumer = connection.consume(&queue, 10).await.unwrap();
    let published = publisher(&url()).publish(to(&queue, "for the name")).await;
    assert_eq!(published, PublishOutcome::Confirmed);
    assert_eq!(next(&mut consumer).await.body, b"for the name");
    connection.close().await;
    assert_eq!(queue_state(&other, &queue).await.unwrap(), None);
    other.close().await;
}

#[tokio::test]
async fn copies_of_dead_letters_come_beside_the_queue_of_dead_letters() {
    let fixture = Fixture::new().await;
    let queue = copies_of(&fixture.connection, names::DEAD).await.unwrap();
    let mut copies = fixture.connection.consume(&queue, 10).await.unwrap();
    let id = Uuid::now_v7().to_string();
    let mut message = Outgoing::new(names::DEAD, "", "test", Vec::new());
    message.message_id = Some(id.clone());
    message
        .headers
        .push((names::VERSION_HEADER.to_owned(), "2".to_owned()));
    let published = publisher(&url()).publish(message).await;
    assert_eq!(published, PublishOutcome::Confirmed);
    let mut copy = next(&mut copies).await;
    // Other tests leave dead letters, too.
    while copy.envelope.message_id.as_ref() != Some(&id) {
        copy = next(&mut copies).await;
    }
    assert_eq!(copy.envelope.version, Some(2));
    let headers = &copy.properties_json()["headers"];
    assert_eq!(headers[names::VERSION_HEADER], 2, "it stays a number");
    fixture.end().await;
}

#[tokio::test]
async fn who_consumes_first_gets_what_there_is_room_for() {
    let fixture = Fixture::new().await;
    let publisher = publisher(&url());
    let mut usual = fixture.consume(10).await;
    let first = fixture.connection.consume_first(&fixture.queue, 1).await;
    let mut first = first.unwrap();
    let state = queue_state(&fixture.connection, &fixture.queue).await;
    let both = QueueState {
        messages: 0,
        consumers: 2,
    };
    assert_eq!(state.unwrap(), Some(both));
    for number in 0..2 {
        publisher.publish(fixture.message(number)).await;
    }
    let taken = next(&mut first).await;
    assert_eq!(taken.body, b"{\"number\":0}");
    assert_eq!(next(&mut usual).await.body, b"{\"number\":1}");
    // Given back, it goes to the other, and is counted.
    assert!(first.acker().nack_requeue(taken.tag).await.unwrap());
    let again = soon("it again", async {
        tokio::select! {
            delivery = first.next() => delivery,
            delivery = usual.next() => delivery,
        }
    });
    let again = again.await.expect("both consume");
    assert_eq!(again.body, b"{\"number\":0}");
    assert_eq!(again.envelope.delivery_count, 1);
    fixture.end().await;
}
