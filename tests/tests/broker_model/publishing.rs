//! Confirms, returns, and the alarm.

use crate::server::{Told, on_both, on_both_alone};

#[tokio::test]
async fn a_message_that_a_queue_takes_is_confirmed_and_there() {
    on_both(async |server| {
        let publisher = server.publisher().await;
        for (number, mandatory) in [(1, true), (2, false)] {
            let told = server.publish(publisher, number, mandatory).await;
            assert_eq!(told, Told::Confirmed);
            server.will_hold(number as usize).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_message_that_no_queue_takes_comes_back_if_it_is_mandatory() {
    on_both(async |server| {
        let publisher = server.publisher().await;
        server.delete_queue().await;
        for (mandatory, expected) in [
            (true, Told::Returned),
            (false, Told::Confirmed),
            (true, Told::Returned),
        ] {
            let told = server.publish(publisher, 1, mandatory).await;
            assert_eq!(told, expected, "mandatory: {mandatory}");
        }
        // It is gone, though it was confirmed.
        server.declare_queue().await;
        server.will_hold(0).await;
        assert_eq!(server.publish(publisher, 2, true).await, Told::Confirmed);
        server.will_hold(1).await;
    })
    .await;
}

#[tokio::test]
async fn an_alarm_blocks_who_publishes_and_not_who_consumes() {
    on_both_alone("an alarm", async |server| {
        server.fill(1..=3).await;
        let publisher = server.publisher().await;
        let connection = server.connect().await;
        let channel = server.consume(connection, 1).await;
        let (_, first) = server.take(channel, 1).await;
        server
            .during_alarm(async |server| {
                let told = server.publish(publisher, 4, true).await;
                assert_eq!(told, Told::Blocked);
                assert!(server.acknowledge(channel, first, true).await);
                let (taken, last) = server.take(channel, 1).await;
                assert_eq!(taken, [(2, 0)]);
                assert!(server.acknowledge(channel, last, true).await);
                assert_eq!(server.take(channel, 1).await.0, [(3, 0)]);
                server.will_hold(0).await;
            })
            .await;
        assert_eq!(server.unblocked().await, [Told::Confirmed]);
        server.will_hold(1).await;
        assert_eq!(server.publish(publisher, 5, true).await, Told::Confirmed);
    })
    .await;
}
