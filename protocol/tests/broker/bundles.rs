//! Bundles of jobs: a queue from which each is delivered once, whatever becomes of it.

use flotilla_protocol::amqp::{
    Consumer, Delivery, Outgoing, PublishOutcome, copies_of, declare_bundles, delete_queue,
};
use flotilla_protocol::bundle::BundleWriter;
use flotilla_protocol::names;

use crate::support::{Fixture, next, publisher, url};

/// Publishes a bundle of two jobs, of which nobody makes sense.
async fn publish(fixture: &Fixture) {
    let declared = declare_bundles(&fixture.connection, &fixture.pool).await;
    declared.expect("the queue is declared");
    let mut writer = BundleWriter::default();
    for job in ["1", "2"] {
        writer.push("nowhere", None, job.as_bytes());
    }
    let bundle = Outgoing::bundle(&fixture.pool, writer.finish());
    let published = publisher(&url()).publish(bundle).await;
    assert_eq!(published, PublishOutcome::Confirmed);
}

/// The next dead letter of this test's bundles. Other tests leave some, too.
async fn next_dead(dead: &mut Consumer, queue: &str) -> Delivery {
    loop {
        let letter = next(dead).await;
        if letter.envelope.original_queue.as_deref() == Some(queue) {
            return letter;
        }
    }
}

#[tokio::test]
async fn a_bundle_that_comes_back_is_a_dead_letter_with_its_jobs() {
    let fixture = Fixture::new().await;
    let queue = names::bundles_queue(&fixture.pool);
    let copies = copies_of(&fixture.connection, names::DEAD).await.unwrap();
    let mut dead = fixture.connection.consume(&copies, 10).await.unwrap();

    // Its worker dies.
    publish(&fixture).await;
    let mut consumer = fixture.connection.consume(&queue, 1).await.unwrap();
    assert!(next(&mut consumer).await.is_bundle());
    consumer.close().await;
    let letter = next_dead(&mut dead, &queue).await;
    assert_eq!(letter.envelope.reason.as_deref(), Some("delivery_limit"));
    let jobs = letter.unbundle().unwrap();
    assert!(jobs.iter().map(|job| &*job.body).eq([b"1", b"2"]));

    // Its worker rejects it.
    publish(&fixture).await;
    let mut consumer = fixture.connection.consume(&queue, 1).await.unwrap();
    let bundle = next(&mut consumer).await;
    assert!(consumer.acker().reject(bundle.tag).await.unwrap());
    let letter = next_dead(&mut dead, &queue).await;
    assert_eq!(letter.envelope.reason.as_deref(), Some("rejected"));
    consumer.close().await;

    // Who takes it apart fails amid that.
    publish(&fixture).await;
    let getter = fixture.connection.getter(&queue).await.unwrap();
    let got = getter.get().await.unwrap().expect("one waits");
    assert_eq!(got.unbundle().unwrap().len(), 2);
    assert!(getter.get().await.unwrap().is_none());
    getter.close().await;
    let letter = next_dead(&mut dead, &queue).await;
    assert_eq!(letter.envelope.reason.as_deref(), Some("delivery_limit"));

    // Or does not.
    publish(&fixture).await;
    let getter = fixture.connection.getter(&queue).await.unwrap();
    let got = getter.get().await.unwrap().expect("one waits");
    assert!(getter.acker().ack(got.tag, false).await.unwrap());
    getter.close().await;
    let left = fixture.connection.getter(&queue).await.unwrap();
    assert!(left.get().await.unwrap().is_none());

    delete_queue(&fixture.connection, &queue).await.unwrap();
    fixture.end().await;
}
