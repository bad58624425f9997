//! What comes back: where it stands, how it is counted, and when it is too much.

use crate::server::{Server, on_both, on_both_alone};

/// What a consumer gets that takes all.
async fn all(server: &mut Server, count: usize) -> Vec<(u32, u32)> {
    let connection = server.connect().await;
    let channel = server.consume(connection, 100).await;
    let (taken, _) = server.take(channel, count).await;
    assert!(server.is_idle(channel).await, "that is all");
    taken
}

#[tokio::test]
async fn what_a_closed_channel_held_comes_again_first_and_in_order() {
    on_both(async |server| {
        server.fill(1..=5).await;
        let connection = server.connect().await;
        let channel = server.consume(connection, 3).await;
        server.take(channel, 3).await;
        server.close_channel(channel).await;
        server.will_hold(5).await;
        let expected = [(1, 1), (2, 1), (3, 1), (4, 0), (5, 0)];
        assert_eq!(all(server, 5).await, expected);
    })
    .await;
}

#[tokio::test]
async fn a_closed_connection_gives_back_what_all_its_channels_held() {
    on_both(async |server| {
        server.fill(1..=4).await;
        let connection = server.connect().await;
        let first = server.consume(connection, 1).await;
        server.take(first, 1).await;
        let second = server.consume(connection, 1).await;
        server.take(second, 1).await;
        server.close_connection(connection).await;
        assert!(server.has_ended(first).await && server.has_ended(second).await);
        assert!(!server.acknowledge(first, 1, false).await);
        assert_eq!(server.try_consume(connection, 1).await, None);
        server.will_hold(4).await;
        // Which of two channels comes back first nobody says.
        let mut taken = all(server, 4).await;
        taken[..2].sort_unstable();
        assert_eq!(taken, [(1, 1), (2, 1), (3, 0), (4, 0)]);
    })
    .await;
}

#[tokio::test]
async fn what_comes_back_later_stands_behind_what_came_back_before() {
    on_both(async |server| {
        server.fill(1..=6).await;
        let connection = server.connect().await;
        let first = server.consume(connection, 2).await;
        server.take(first, 2).await;
        let second = server.consume(connection, 2).await;
        server.take(second, 2).await;
        server.close_channel(second).await;
        server.will_hold(4).await;
        server.close_channel(first).await;
        server.will_hold(6).await;
        let expected = [(3, 1), (4, 1), (1, 1), (2, 1), (5, 0), (6, 0)];
        assert_eq!(all(server, 6).await, expected);
    })
    .await;
}

#[tokio::test]
async fn what_is_taken_again_and_comes_back_stands_behind_what_still_waits() {
    on_both(async |server| {
        server.fill(1..=4).await;
        let connection = server.connect().await;
        let channel = server.consume(connection, 3).await;
        server.take(channel, 3).await;
        server.close_channel(channel).await;
        server.will_hold(4).await;
        let channel = server.consume(connection, 1).await;
        assert_eq!(server.take(channel, 1).await.0, [(1, 1)]);
        server.close_channel(channel).await;
        server.will_hold(4).await;
        assert_eq!(all(server, 4).await, [(2, 1), (3, 1), (1, 2), (4, 0)]);
    })
    .await;
}

#[tokio::test]
async fn beyond_the_delivery_limit_a_message_dies_whoever_held_it_and_why() {
    on_both(async |server| {
        server.fill(1..=3).await;
        let connection = server.connect().await;
        // Clean closes count, and so does what was only held beside another.
        for returns in 0..=20 {
            let channel = server.consume(connection, 2).await;
            let (taken, _) = server.take(channel, 2).await;
            assert_eq!(taken, [(1, returns), (2, returns)]);
            server.close_channel(channel).await;
            server.will_hold(if returns < 20 { 3 } else { 1 }).await;
        }
        let letters = server.dead_letters(2).await;
        let letters = letters.iter();
        let letters = letters.map(|(letter, reason)| (letter.number, letter.returns, &reason[..]));
        // It is counted anew.
        assert_eq!(
            letters.collect::<Vec<_>>(),
            [(1, 0, "delivery_limit"), (2, 0, "delivery_limit")]
        );
        assert_eq!(all(server, 1).await, [(3, 0)]);
    })
    .await;
}

#[tokio::test]
async fn a_purge_removes_what_waits_and_not_what_is_held() {
    on_both_alone("a purge", async |server| {
        server.fill(1..=5).await;
        let connection = server.connect().await;
        let returned = server.consume(connection, 1).await;
        server.take(returned, 1).await;
        let held = server.consume(connection, 2).await;
        server.take(held, 2).await;
        server.close_channel(returned).await;
        server.will_hold(3).await;
        server.purge();
        server.will_hold(0).await;
        server.fill(6..=6).await;
        server.close_channel(held).await;
        server.will_hold(3).await;
        assert_eq!(all(server, 3).await, [(2, 1), (3, 1), (6, 0)]);
    })
    .await;
}

#[tokio::test]
async fn a_deleted_queue_ends_its_consumers_and_takes_what_they_hold() {
    on_both(async |server| {
        server.fill(1..=3).await;
        let connection = server.connect().await;
        let holds = server.consume(connection, 1).await;
        let (_, last) = server.take(holds, 1).await;
        let other = server.consume(connection, 2).await;
        server.take(other, 2).await;
        server.delete_queue().await;
        assert!(server.has_ended(holds).await && server.has_ended(other).await);
        assert_eq!(server.try_consume(connection, 1).await, None);
        server.declare_queue().await;
        server.fill(4..=4).await;
        // The channels are open still; what they held is gone.
        assert!(server.acknowledge(holds, last, true).await);
        server.close_channel(holds).await;
        server.close_channel(other).await;
        assert_eq!(all(server, 1).await, [(4, 0)]);
    })
    .await;
}
