//! Who may write: the fence, and what is answered to a commit that comes again or too late.

use sqlx::PgPool;

use crate::answer::Outcome;
use crate::database::{Database, with_partitions};
use crate::rows::{
    ME, OTHER, add_start, id, job, next_turn_id, start_turn, state, turn, turn_through,
};

#[sqlx::test(migrations = false)]
async fn the_same_turn_sent_again_is_answered_as_before(pool: PgPool) {
    with_partitions(&pool, 3, async |database| {
        let mut commit = turn(1, &[0, 1]);
        add_start(&mut commit, id(1), 0);
        database.committed(&commit).await;
        let again = Outcome::Committed(database.now());
        database.unwritten(&commit, again.clone()).await;
        database.committed(&turn(1, &[2])).await;
        database
            .unwritten(&commit, Outcome::Committed(database.now()))
            .await;
        // One partition has gone on; the other still bears the mark.
        database.committed(&turn(2, &[1])).await;
        database.unwritten(&commit, again).await;
        database.committed(&turn(2, &[0])).await;
        database
            .unwritten(&commit, Outcome::Fenced(vec![0, 1]))
            .await;
    })
    .await;
}

#[sqlx::test(migrations = false)]
async fn another_commit_for_the_same_turn_is_fenced(pool: PgPool) {
    with_partitions(&pool, 2, async |database| {
        database.committed(&start_turn(1, id(1))).await;
        let fenced = Outcome::Fenced(vec![0]);
        database
            .unwritten(&start_turn(1, id(2)), fenced.clone())
            .await;
        database.unwritten(&start_turn(3, id(2)), fenced).await;
        let unknown = Outcome::Fenced(vec![7]);
        database.unwritten(&turn(2, &[0, 7]), unknown).await;
    })
    .await;
}

async fn lose(database: &mut Database, partition: i32) {
    database.register(OTHER).await;
    database.release(ME, &[(partition, 1)], false).await;
    let (taken, _) = database.take(OTHER).await;
    assert_eq!(taken.len(), 1);
}

#[sqlx::test(migrations = false)]
async fn nothing_is_written_where_one_of_several_partitions_is_lost(pool: PgPool) {
    with_partitions(&pool, 3, async |database| {
        lose(database, 1).await;
        let mut commit = turn(1, &[0, 1, 2]);
        add_start(&mut commit, id(1), 0);
        commit.jobs.push(job(0, 1, id(1)));
        database.unwritten(&commit, Outcome::Fenced(vec![1])).await;
        commit.partitions.remove(1);
        commit.turn_id = next_turn_id();
        database.committed(&commit).await;
    })
    .await;
}

#[sqlx::test(migrations = false)]
async fn the_former_owner_writes_nothing_after_a_take_over(pool: PgPool) {
    with_partitions(&pool, 2, async |database| {
        let first = turn(1, &[0]);
        database.committed(&first).await;
        lose(database, 0).await;
        let stale = start_turn(2, id(1));
        database.unwritten(&stale, Outcome::Fenced(vec![0])).await;
        // The successor has not committed yet, so the mark stands; the epoch does not.
        database.unwritten(&first, Outcome::Fenced(vec![0])).await;
        let mut next = start_turn(2, id(1));
        next.partitions[0].epoch = 2;
        database.committed(&next).await;
        database.unwritten(&stale, Outcome::Fenced(vec![0])).await;
    })
    .await;
}

#[sqlx::test(migrations = false)]
async fn the_fence_comes_before_what_a_turn_says(pool: PgPool) {
    with_partitions(&pool, 2, async |database| {
        database.committed(&start_turn(1, id(1))).await;
        lose(database, 0).await;
        let mut commit = start_turn(2, id(1));
        commit.executions.push(state(id(9), &[]));
        database.unwritten(&commit, Outcome::Fenced(vec![0])).await;
    })
    .await;
}

#[sqlx::test(migrations = false)]
async fn a_watermark_removes_what_it_passes_and_never_sinks(pool: PgPool) {
    with_partitions(&pool, 2, async |database| {
        for number in 1..=4 {
            let mut commit = turn(number, &[0, 1]);
            commit.jobs = vec![job(0, number, id(1)), job(1, number, id(2))];
            database.committed(&commit).await;
        }
        let rows = async |database: &mut Database| {
            database.tables().await["workflow_outbox: jobs"].clone()
        };
        assert_eq!(rows(database).await.len(), 8);
        let mut passes = turn_through(5, &[0], 3);
        passes.jobs = vec![job(0, 5, id(1))];
        database.committed(&passes).await;
        let left = rows(database).await;
        assert_eq!(left.len(), 4 + 2);
        // A turn that says less is no way back.
        database.committed(&turn_through(6, &[0], 2)).await;
        assert_eq!(rows(database).await, left);
        let watermark = r#""dispatched_through":3"#;
        let partitions = &database.tables().await["coordinator_partition"];
        let with_it = partitions.iter().filter(|row| row.contains(watermark));
        assert_eq!(with_it.count(), 1, "{partitions:?}");
        database.committed(&turn_through(7, &[0], 6)).await;
        assert_eq!(rows(database).await.len(), 4);
    })
    .await;
}
