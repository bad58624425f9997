//! Deliveries and their acknowledgements while everything lives.

use crate::server::on_both;

#[tokio::test]
async fn the_prefetch_bounds_what_a_channel_holds() {
    on_both(async |server| {
        server.fill(1..=5).await;
        let connection = server.connect().await;
        let channel = server.consume(connection, 2).await;
        let (taken, last) = server.take(channel, 2).await;
        assert_eq!(taken, [(1, 0), (2, 0)]);
        server.will_hold(3).await;
        assert!(server.is_idle(channel).await);
        assert!(server.acknowledge(channel, last, false).await);
        assert_eq!(server.take(channel, 1).await.0, [(3, 0)]);
        assert!(server.is_idle(channel).await, "it still holds 1");
        server.will_hold(2).await;
    })
    .await;
}

#[tokio::test]
async fn two_consumers_share_a_queue_and_hold_what_is_theirs() {
    on_both(async |server| {
        server.fill(1..=6).await;
        let connection = server.connect().await;
        let first = server.consume(connection, 2).await;
        assert_eq!(server.take(first, 2).await.0, [(1, 0), (2, 0)]);
        // Another goes on behind what the first one holds, on whatever connection.
        let second = server.consume(connection, 1).await;
        let (taken, last) = server.take(second, 1).await;
        assert_eq!(taken, [(3, 0)]);
        let other = server.connect().await;
        let third = server.consume(other, 1).await;
        assert_eq!(server.take(third, 1).await.0, [(4, 0)]);
        assert!(server.acknowledge(second, last, true).await);
        assert_eq!(server.take(second, 1).await.0, [(5, 0)]);
        for channel in [first, second, third] {
            assert!(server.is_idle(channel).await);
        }
        server.will_hold(1).await;
    })
    .await;
}

#[tokio::test]
async fn one_acknowledgement_covers_the_prefix_of_its_channel_and_nothing_else() {
    on_both(async |server| {
        server.fill(1..=6).await;
        let connection = server.connect().await;
        let first = server.consume(connection, 4).await;
        server.take(first, 4).await;
        let second = server.consume(connection, 2).await;
        server.take(second, 2).await;
        // Tags count from 1 on each channel.
        assert!(server.acknowledge(first, 3, true).await);
        server.close_channel(first).await;
        server.will_hold(1).await;
        server.close_channel(second).await;
        server.will_hold(3).await;
        let channel = server.consume(connection, 10).await;
        let (taken, _) = server.take(channel, 3).await;
        assert_eq!(taken, [(4, 1), (5, 1), (6, 1)]);
        assert!(server.is_idle(channel).await);
    })
    .await;
}

#[tokio::test]
async fn a_single_acknowledgement_may_come_out_of_order() {
    on_both(async |server| {
        server.fill(1..=3).await;
        let connection = server.connect().await;
        let channel = server.consume(connection, 3).await;
        server.take(channel, 3).await;
        assert!(server.acknowledge(channel, 2, false).await);
        assert!(server.acknowledge(channel, 3, false).await);
        server.close_channel(channel).await;
        server.will_hold(1).await;
        let channel = server.consume(connection, 3).await;
        assert_eq!(server.take(channel, 1).await.0, [(1, 1)]);
    })
    .await;
}

#[tokio::test]
async fn a_second_acknowledgement_closes_the_channel() {
    on_both(async |server| {
        server.fill(1..=3).await;
        let connection = server.connect().await;
        let channel = server.consume(connection, 3).await;
        server.take(channel, 3).await;
        let other = server.consume(connection, 1).await;
        assert!(server.acknowledge(channel, 1, false).await);
        assert!(server.acknowledge(channel, 1, false).await);
        assert!(server.has_ended(channel).await);
        assert!(!server.acknowledge(channel, 2, false).await, "too late");
        // The connection and its other channels live, and get what comes back.
        let (taken, last) = server.take(other, 1).await;
        assert_eq!(taken, [(2, 1)]);
        assert!(server.acknowledge(other, last, true).await);
        assert_eq!(server.take(other, 1).await.0, [(3, 1)]);
    })
    .await;
}

#[tokio::test]
async fn an_acknowledgement_after_the_close_has_no_effect() {
    on_both(async |server| {
        server.fill(1..=1).await;
        let connection = server.connect().await;
        let channel = server.consume(connection, 1).await;
        let (_, last) = server.take(channel, 1).await;
        server.close_channel(channel).await;
        assert!(!server.acknowledge(channel, last, true).await);
        let channel = server.consume(connection, 1).await;
        assert_eq!(server.take(channel, 1).await.0, [(1, 1)]);
    })
    .await;
}
