//! Processes that die amid orders: every order ends right, and nothing happens twice.

use flotilla_protocol::amqp::{delete_queue, queue_depth};
use flotilla_protocol::names;
use flotilla_tests::load::order_count;
use flotilla_tests::{Fleet, LIMIT, Options, Start, invariants, load::Load, wait_until};
use serde_json::json;
use uuid::Uuid;

/// Orders of the test that kills both processes; `FLOTILLA_TEST_ORDERS` asks for more.
const ORDERS: usize = 300;
/// Orders of the other tests.
const FEW_ORDERS: u8 = 60;

#[tokio::test]
async fn orders_survive_the_death_of_coordinator_and_worker() {
    let count = order_count(ORDERS);
    let fleet = Fleet::with(Options {
        partitions: 16,
        ..Options::default()
    })
    .await;
    let coordinator = fleet.coordinator().await;
    let worker = fleet.worker().await;
    let load = Load::start(&fleet, count, count / 10);
    load.finished(&fleet.database, 20).await;
    coordinator.kill();
    worker.kill();

    let done = fleet.database.executions("succeeded").await;
    let done_share = done * 100 / i64::try_from(count).unwrap();
    assert!(
        (10..=50).contains(&done_share),
        "{done} of {count} orders are done at the kill"
    );
    let before = succeeded_tasks(&fleet).await;
    println!(
        "killed with {done} of {count} orders and {} tasks done",
        before.len()
    );
    invariants::check(&fleet.database).await;

    let coordinator = fleet.coordinator().await;
    let worker = fleet.worker().await;
    load.end(&fleet.database).await;
    let after = succeeded_tasks(&fleet).await;
    let changed: Vec<_> = before
        .iter()
        .filter(|row| after.binary_search(row).is_err())
        .collect();
    assert!(
        changed.is_empty(),
        "tasks that had succeeded were touched: {changed:?}"
    );
    worker.stop().await;
    coordinator.stop().await;
    invariants::check_at_rest(&fleet.database).await;
}

fn few_orders(fleet: &Fleet) -> Load {
    Load::start(fleet, usize::from(FEW_ORDERS), usize::from(FEW_ORDERS / 4))
}

/// Tasks that have succeeded: which attempt, and when, as text.
async fn succeeded_tasks(fleet: &Fleet) -> Vec<(Uuid, i32, String)> {
    let query = "SELECT task_id, attempt, finished_at::text FROM workflow_task_detail
                 WHERE status = 'succeeded' ORDER BY 1, 2, 3";
    fleet.database.rows(query).await
}

#[tokio::test]
async fn a_crash_before_the_commit_loses_nothing() {
    crashes_at("before_commit", &[0, 9]).await;
}

#[tokio::test]
async fn a_crash_after_the_commit_loses_nothing() {
    crashes_at("after_commit", &[1, 12]).await;
}

#[tokio::test]
async fn a_crash_after_the_acknowledgement_loses_nothing() {
    crashes_at("after_acknowledge", &[0, 11]).await;
}

#[tokio::test]
async fn a_crash_after_publishing_loses_nothing() {
    crashes_at("after_publish", &[0, 20]).await;
}

/// Lets coordinators die at a crash point, one after the other: each time after it has been passed
/// as often as said.
async fn crashes_at(point: &str, passed: &[usize]) {
    let fleet = Fleet::new().await;
    let worker = fleet.worker().await;
    let load = few_orders(&fleet);
    for passed in passed {
        let action = match passed {
            0 => format!("{point}=1*return"),
            passed => format!("{point}={passed}*off->1*return"),
        };
        let mut coordinator = fleet.crashing_coordinator(&action);
        let status = coordinator.ended().await;
        assert_eq!(
            status.code(),
            None,
            "it died by a signal: {}",
            coordinator.log()
        );
        invariants::check(&fleet.database).await;
    }
    let done = fleet.database.executions("succeeded").await;
    assert!(
        done < i64::from(FEW_ORDERS),
        "all was over before the last crash"
    );
    let coordinator = fleet.coordinator().await;
    load.end(&fleet.database).await;
    worker.stop().await;
    coordinator.stop().await;
    invariants::check_at_rest(&fleet.database).await;
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_counts_once() {
    let fleet = Fleet::new().await;
    let worker = fleet.worker().await;
    let load = few_orders(&fleet);
    // Some answers are lost and the same commit goes out again; the last one is lost for good, and
    // with it the process.
    let lossy = "lose_commit_answer=2*off->1*return->5*off->2*return->15*off->return";
    let coordinator = fleet.crashing_coordinator(lossy);
    wait_until(
        "the last answer was lost again and again",
        LIMIT,
        async || coordinator.log().matches("answer was lost").count() >= 6,
    )
    .await;
    let turns = turns(&fleet).await;
    coordinator.kill();
    assert!(turns >= 5, "only {turns} turns were committed");
    invariants::check(&fleet.database).await;

    let coordinator = fleet.coordinator().await;
    load.end(&fleet.database).await;
    worker.stop().await;
    coordinator.stop().await;
    invariants::check_at_rest(&fleet.database).await;
}

async fn turns(fleet: &Fleet) -> i64 {
    fleet
        .database
        .number("SELECT max(last_turn) FROM coordinator_partition")
        .await
}

#[tokio::test]
async fn a_job_queue_that_was_deleted_is_made_again() {
    let fleet = Fleet::new().await;
    let coordinator = fleet.coordinator().await;
    let mut client = fleet.client().await;
    let queue = names::jobs_queue(names::DEFAULT_POOL);
    delete_queue(&client.connection, &queue).await.unwrap();
    let start = Start::of("examples.single").parameters(&json!({"name": "Ada"}));
    client.start(&start).await;
    wait_until("the job was published again", LIMIT, async || {
        queue_depth(&client.connection, &queue).await.unwrap() == Some(1)
    })
    .await;

    // With a worker at the queue, it is made again for the worker.
    let worker = fleet.worker().await;
    let id = start.execution_id().to_string();
    client.reply(names::WORKFLOW_FINISHED, &id).await;
    delete_queue(&client.connection, &queue).await.unwrap();
    let finished = client.run(&Start::of("examples.single")).await;
    assert_eq!(finished["output"], json!({"greeting": "Hello, world!"}));
    worker.stop().await;
    coordinator.stop().await;
    invariants::check_at_rest(&fleet.database).await;
}
