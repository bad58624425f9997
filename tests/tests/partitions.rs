//! Partitions on a living system: doubled, shared, taken over.

use std::time::{Duration, Instant};

use flotilla_tests::load::order_count;
use flotilla_tests::membership::wait_for_even_shares;
use flotilla_tests::{Client, Fleet, LIMIT, Options, Start, invariants, wait_until};
use serde_json::json;
use uuid::Uuid;

/// Executions that run while the partitions are doubled; `FLOTILLA_TEST_ORDERS` asks for more.
const EXECUTIONS: usize = 200;
/// Executions that begin right before, and again right after.
const BUSY: usize = 64;
const PARTITIONS: u32 = 8;
/// Timers that are overdue at a take-over; `FLOTILLA_TEST_TIMERS` asks for more.
const TIMERS: usize = 300;
/// How long thousands of executions may take.
const LONG_LIMIT: Duration = Duration::from_secs(300);

async fn fleet_of(partitions: u32) -> Fleet {
    Fleet::with(Options {
        partitions,
        ..Options::default()
    })
    .await
}

/// Where each execution lives.
async fn places(fleet: &Fleet) -> Vec<(Uuid, i32)> {
    let query = "SELECT execution_id, partition FROM workflow_execution_summary ORDER BY 1";
    fleet.database.rows(query).await
}

/// Executions that do something meanwhile.
fn busy() -> Vec<Start> {
    let steps = || Start::of("tests.steps").silent();
    (0..BUSY).map(|_| steps()).collect()
}

/// Waits until so many executions have succeeded, however many there are.
async fn all_succeeded(fleet: &Fleet, count: usize) {
    wait_until(&format!("{count} succeeded"), LONG_LIMIT, async || {
        usize::try_from(fleet.database.executions("succeeded").await) == Ok(count)
    })
    .await;
}

/// Starts so many executions that fail once, and waits until all of them wait for their retry.
async fn start_later(fleet: &Fleet, client: &Client, count: usize) {
    // Longer than it takes to start them all.
    let delay = json!({"delay": 10 + count / 60});
    let later = || Start::of("tests.later").parameters(&delay).silent();
    let starts: Vec<Start> = (0..count).map(|_| later()).collect();
    client.start_all(&starts).await;
    let retrying = "SELECT count(*) FROM workflow_task_detail WHERE status = 'retrying'";
    wait_until("all wait for their retry", LONG_LIMIT, async || {
        usize::try_from(fleet.database.number(retrying).await) == Ok(count)
    })
    .await;
}

#[tokio::test]
async fn doubling_the_partitions_changes_nothing_but_the_number() {
    let fleet = fleet_of(PARTITIONS).await;
    let coordinators = [fleet.coordinator().await, fleet.coordinator().await];
    let workers = [fleet.worker().await, fleet.worker().await];
    let client = fleet.client().await;
    wait_for_even_shares(&fleet.database, &coordinators).await;
    let count = order_count(EXECUTIONS);
    start_later(&fleet, &client, count).await;
    let before = places(&fleet).await;
    client.start_all(&busy()).await;

    let doubled = (2 * PARTITIONS).to_string();
    let migrated = fleet.command_ok(&["migrate", "--partitions", &doubled]);
    assert_eq!(migrated["partitions"], 2 * PARTITIONS);
    let begin = Instant::now();
    let running = fleet.database.executions("running").await;
    wait_for_even_shares(&fleet.database, &coordinators).await;
    println!(
        "doubled with {running} executions running; all owned {:.2?} later",
        begin.elapsed()
    );
    assert!(usize::try_from(running).unwrap() >= count, "{running} ran");
    invariants::check(&fleet.database).await;
    client.start_all(&busy()).await;
    let more = use_new_partitions(&fleet, &client).await;
    all_succeeded(&fleet, count + 2 * BUSY + more).await;
    check_places(&fleet, &before).await;
    fleet.rest(workers.into_iter().chain(coordinators)).await;
}

/// Starts that come together share a partition, and each turn takes the next one: started one by one,
/// executions come to all of them. Gives how many it took.
async fn use_new_partitions(fleet: &Fleet, client: &Client) -> usize {
    let unused = format!(
        "SELECT count(*) FROM generate_series({PARTITIONS}, 2 * {PARTITIONS} - 1) p
         WHERE NOT EXISTS (SELECT FROM workflow_execution_summary WHERE partition = p)"
    );
    let mut started = 0;
    wait_until("new partitions are used", LIMIT, async || {
        if fleet.database.number(&unused).await == 0 {
            return true;
        }
        client.start(&Start::of("tests.steps").silent()).await;
        started += 1;
        false
    })
    .await;
    started
}

/// Nothing has moved, and everything ran as often as it had to.
async fn check_places(fleet: &Fleet, before: &[(Uuid, i32)]) {
    let after = places(fleet).await;
    let moved = before
        .iter()
        .find(|place| after.binary_search(place).is_err());
    assert_eq!(moved, None, "an execution stays where it is");
    let wrong = "SELECT count(*) FROM workflow_execution_summary
        WHERE tasks_total <> CASE workflow WHEN 'tests.later' THEN 1 ELSE 2 END OR attempts_total <> 2";
    assert_eq!(fleet.database.number(wrong).await, 0, "tasks and attempts");
}

#[tokio::test]
async fn shares_stay_even_when_coordinators_come_and_go() {
    let fleet = fleet_of(16).await;
    // All at once, as a deployment does it; with leases that are longer than what is allowed below, so
    // that one which is not released is missed.
    let start = || fleet.spawn(&["coordinator", "--lease", "30"], &[]).ready();
    let (first, second, third) = tokio::join!(start(), start(), start());
    let mut coordinators = vec![first, second, third];
    wait_for_even_shares(&fleet.database, &coordinators).await;
    coordinators.push(fleet.coordinator().await);
    let begin = Instant::now();
    wait_for_even_shares(&fleet.database, &coordinators).await;
    println!(
        "a fourth has its share {:.2?} after it is ready",
        begin.elapsed()
    );

    let leaver = coordinators.remove(1);
    leaver.stop().await;
    let begin = Instant::now();
    let owned =
        "SELECT count(*) FROM coordinator_partition WHERE lease_expires_at > clock_timestamp()";
    wait_until("others own all partitions", LIMIT, async || {
        fleet.database.number(owned).await == 16
    })
    .await;
    let taken = begin.elapsed();
    println!("all partitions are owned {taken:.2?} after one has stopped");
    assert!(taken < Duration::from_secs(10), "a lease was waited for");
    wait_for_even_shares(&fleet.database, &coordinators).await;
    fleet.rest(coordinators).await;
}

/// Thousands of timers may be overdue after an outage: all of them act, at a measured pace.
#[tokio::test]
async fn timers_that_became_due_while_nobody_looked_all_act() {
    let fleet = fleet_of(PARTITIONS).await;
    let coordinator = fleet.coordinator().await;
    let worker = fleet.worker().await;
    let client = fleet.client().await;
    let given = std::env::var("FLOTILLA_TEST_TIMERS").ok();
    let count = given.and_then(|text| text.parse().ok()).unwrap_or(TIMERS);
    start_later(&fleet, &client, count).await;
    coordinator.kill();
    let overdue = "SELECT count(*) FROM workflow_timer WHERE due_at < clock_timestamp()";
    wait_until("all timers are overdue", LONG_LIMIT, async || {
        usize::try_from(fleet.database.number(overdue).await) == Ok(count)
    })
    .await;
    let begin = Instant::now();
    let coordinators = [fleet.coordinator().await, fleet.coordinator().await];
    all_succeeded(&fleet, count).await;
    println!(
        "{count} overdue timers acted within {:.2?}",
        begin.elapsed()
    );
    let [first, second] = coordinators;
    fleet.rest([worker, first, second]).await;
}
