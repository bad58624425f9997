//! Take-overs, shares, releases, and who counts as living.

use chrono::TimeDelta;
use flotilla_simulation::store::Call;
use flotilla_turn::Mark;
use sqlx::PgPool;

use crate::answer::{Answer, Share};
use crate::database::{on_both, with_partitions};
use crate::rows::{
    ME, OTHER, THIRD, add_start, finished_reply, id, job, start_turn, stored_reply, timer, turn,
    turn_through,
};

#[sqlx::test(migrations = false)]
async fn partitions_are_taken_when_their_leases_have_expired_and_not_before(pool: PgPool) {
    on_both(&pool, 2, async |database| {
        database.register(ME).await;
        let (taken, share) = database.take(ME).await;
        let epochs: Vec<_> = taken.iter().map(|t| (t.partition, t.epoch)).collect();
        assert_eq!(epochs, [(0, 1), (1, 1)]);
        assert_eq!((share.partitions, share.held), (2, 0));
        database.committed(&turn(1, &[1])).await;
        database.pass(2_999).await;
        assert_eq!(database.take(OTHER).await.0, []);
        // The turn has moved no clock: at this very moment both leases end.
        database.pass(1).await;
        let (taken, _) = database.take(OTHER).await;
        let now = database.now();
        let all = taken
            .iter()
            .map(|t| (t.partition, t.epoch, t.last_turn, t.now));
        assert_eq!(all.collect::<Vec<_>>(), [(0, 2, 0, now), (1, 2, 1, now)]);
    })
    .await;
}

#[sqlx::test(migrations = false)]
async fn a_commit_renews_the_leases_of_its_partitions_alone(pool: PgPool) {
    with_partitions(&pool, 2, async |database| {
        database.pass(2_000).await;
        database.committed(&turn(1, &[1])).await;
        database.pass(2_000).await;
        let (taken, share) = database.take(ME).await;
        assert_eq!(taken.len(), 1);
        assert_eq!((taken[0].partition, taken[0].epoch), (0, 2));
        assert_eq!((share.partitions, share.held), (2, 1));
    })
    .await;
}

#[sqlx::test(migrations = false)]
async fn partitions_are_shared_among_those_who_live(pool: PgPool) {
    on_both(&pool, 5, async |database| {
        for coordinator in [ME, OTHER, THIRD] {
            database.register(coordinator).await;
        }
        let (taken, share) = database.take(ME).await;
        let even = |partitions, held| Share { partitions, held };
        assert_eq!((taken.len(), share), (2, even(2, 0)));
        let (taken, share) = database.take(ME).await;
        assert_eq!((taken.len(), share), (0, even(2, 2)));
        // The third has stopped, the second is not heard of for a lease.
        database.release(THIRD, &[], true).await;
        assert_eq!(database.take(ME).await.1, even(3, 2));
        database.pass(2_999).await;
        let (taken, share) = database.take(ME).await;
        assert_eq!((taken.len(), share), (0, even(3, 3)));
        database.pass(1).await;
        let (taken, share) = database.take(ME).await;
        assert_eq!((taken.len(), share), (5, even(5, 0)));
        // It comes back, and finds nothing to take.
        let (taken, share) = database.take(OTHER).await;
        assert_eq!((taken.len(), share), (0, even(3, 0)));
    })
    .await;
}

#[sqlx::test(migrations = false)]
async fn a_take_over_finds_what_is_owed_above_the_watermark(pool: PgPool) {
    with_partitions(&pool, 2, async |database| {
        database.committed(&start_turn(1, id(1))).await;
        let mut second = turn(2, &[0]);
        second.replies = vec![stored_reply(0, 2), finished_reply(0, 2, id(1))];
        second.jobs = vec![job(0, 2, id(2)), job(0, 2, id(1))];
        database.committed(&second).await;
        let mut third = turn_through(3, &[0], 1);
        third.jobs = vec![job(0, 3, id(3))];
        third.partitions.push(turn(1, &[1]).partitions[0]);
        third.jobs.push(job(1, 1, id(4)));
        database.committed(&third).await;
        database.pass(10_000).await;
        let (taken, _) = database.take(OTHER).await;
        let [zero, one] = taken.as_slice() else {
            panic!("{taken:?}");
        };
        assert_eq!((zero.last_turn, zero.dispatched_through), (3, 1));
        let jobs = [job(0, 2, id(2)), job(0, 2, id(1)), job(0, 3, id(3))];
        assert_eq!(zero.jobs, jobs);
        assert_eq!(
            zero.replies,
            [stored_reply(0, 2), finished_reply(0, 2, id(1))]
        );
        assert_eq!((one.last_turn, one.dispatched_through), (1, 0));
        assert_eq!(one.jobs, [job(1, 1, id(4))]);
        assert_eq!(one.replies, []);
    })
    .await;
}

#[sqlx::test(migrations = false)]
async fn a_take_over_finds_the_timers_that_are_due_before_its_horizon(pool: PgPool) {
    with_partitions(&pool, 1, async |database| {
        let taken_at = database.now() + TimeDelta::seconds(10);
        let horizon = taken_at + TimeDelta::seconds(300);
        let microsecond = TimeDelta::microseconds(1);
        let overdue = timer(id(2), 1, taken_at - TimeDelta::hours(1));
        let last = timer(id(1), 2, horizon - microsecond);
        let later = timer(id(1), 1, horizon);
        let mut commit = turn(1, &[0]);
        commit.timers_set = vec![later, last, overdue];
        database.committed(&commit).await;
        database.pass(10_000).await;
        let (taken, _) = database.take(OTHER).await;
        assert_eq!(taken[0].timers, [overdue, last]);
        assert_eq!(taken[0].timers_until, horizon);
        let next = Call::Timers {
            partition: 0,
            from: horizon,
            until: horizon + microsecond,
        };
        assert_eq!(database.ask(&next).await, Answer::Timers(vec![later]));
        let other = Call::Timers {
            partition: 1,
            from: overdue.due_at,
            until: horizon + microsecond,
        };
        assert_eq!(database.ask(&other).await, Answer::Timers(Vec::new()));
    })
    .await;
}

#[sqlx::test(migrations = false)]
async fn only_ones_own_partitions_are_released(pool: PgPool) {
    with_partitions(&pool, 3, async |database| {
        database.register(OTHER).await;
        assert_eq!(database.release(OTHER, &[(0, 1)], false).await, 0);
        assert_eq!(database.release(ME, &[(0, 2), (7, 1)], false).await, 0);
        assert_eq!(database.release(ME, &[(2, 1), (1, 1)], false).await, 2);
        let (taken, share) = database.take(OTHER).await;
        let epochs: Vec<_> = taken.iter().map(|t| (t.partition, t.epoch)).collect();
        assert_eq!(epochs, [(1, 2), (2, 2)]);
        assert_eq!((share.partitions, share.held), (2, 0));
        assert_eq!(database.release(ME, &[(1, 1), (0, 1)], true).await, 1);
        assert_eq!(database.take(OTHER).await.1.partitions, 3);
    })
    .await;
}

#[sqlx::test(migrations = false)]
async fn a_mark_tells_whether_its_owner_lives_has_stopped_or_has_died(pool: PgPool) {
    on_both(&pool, 1, async |database| {
        for coordinator in [ME, OTHER, THIRD] {
            database.register(coordinator).await;
        }
        assert_eq!(database.mark(ME).await, Mark::Ours);
        assert_eq!(database.mark(ME).await, Mark::Ours, "it is still ours");
        assert_eq!(database.mark(OTHER).await, Mark::OfTheLiving);
        database.release(ME, &[], true).await;
        assert_eq!(database.mark(OTHER).await, Mark::Ours, "ME has stopped");
        database.pass(3_000).await;
        assert_eq!(database.mark(OTHER).await, Mark::Ours, "dead or not");
        assert_eq!(database.mark(THIRD).await, Mark::OfTheDead);
        let clear = |owner| Call::Clear {
            key: "message 1".to_owned(),
            owner,
        };
        database.ask(&clear(OTHER)).await;
        assert_eq!(database.mark(OTHER).await, Mark::OfTheDead, "THIRD had it");
        database.ask(&clear(OTHER)).await;
        assert_eq!(database.mark(ME).await, Mark::Ours, "nobody had it");
    })
    .await;
}

#[sqlx::test(migrations = false)]
async fn the_mark_of_somebody_unknown_is_that_of_the_dead(pool: PgPool) {
    on_both(&pool, 1, async |database| {
        assert_eq!(database.mark(ME).await, Mark::Ours);
        assert_eq!(database.mark(OTHER).await, Mark::OfTheDead);
    })
    .await;
}

#[sqlx::test(migrations = false)]
async fn a_take_over_reads_what_was_committed_last(pool: PgPool) {
    with_partitions(&pool, 2, async |database| {
        let mut commit = turn(1, &[0, 1]);
        add_start(&mut commit, id(1), 0);
        add_start(&mut commit, id(2), 1);
        database.committed(&commit).await;
        database.register(OTHER).await;
        database.release(ME, &[(1, 1)], false).await;
        let (taken, _) = database.take(OTHER).await;
        assert_eq!(taken.len(), 1);
        let of_only = (taken[0].partition, taken[0].epoch, taken[0].last_turn);
        assert_eq!(of_only, (1, 2, 1));
        let partition = database.ask(&Call::PartitionOf(id(2))).await;
        assert_eq!(partition, Answer::Partition(Some(1)));
        let partition = database.ask(&Call::PartitionOf(id(3))).await;
        assert_eq!(partition, Answer::Partition(None));
    })
    .await;
}
