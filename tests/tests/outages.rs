//! Servers that die, cut everybody off or stop listening amid orders: every order ends right.

use std::time::{Duration, Instant};

use flotilla_tests::load::{Load, order_count};
use flotilla_tests::{Alarm, Fleet, Options, invariants};

/// Orders of each test; `FLOTILLA_TEST_ORDERS` asks for more.
const ORDERS: usize = 80;
/// Seconds of an alarm in `make test`; `FLOTILLA_TEST_ALARM` asks for more.
const ALARM_S: u64 = 5;
/// Shares of the orders, in percent, after which everybody is cut off.
const CUTS_AT: [usize; 3] = [20, 40, 60];

/// Lets something happen after each of these shares of the orders, in percent, with two coordinators
/// and two workers; then everything has to end as if nothing had happened.
async fn orders_survive(name: &str, shares: &[usize], mut outage: impl AsyncFnMut(&Fleet)) {
    let fleet = Fleet::with(Options {
        alone: true,
        ..Options::default()
    })
    .await;
    if !fleet.servers.may_be_stopped(name) {
        return;
    }
    let coordinators = [fleet.coordinator().await, fleet.coordinator().await];
    let workers = [fleet.worker().await, fleet.worker().await];
    let count = order_count(ORDERS);
    let load = Load::start(&fleet, count, count / 4);
    let mut outages = Vec::new();
    for share in shares {
        load.finished(&fleet.database, *share).await;
        let begin = Instant::now();
        outage(&fleet).await;
        outages.push(begin.elapsed());
    }
    let done = fleet.database.executions("succeeded").await;
    assert!(
        usize::try_from(done).expect("a count") < count,
        "all orders had ended before the last outage did"
    );
    invariants::check(&fleet.database).await;
    let over = Instant::now();
    load.end(&fleet.database).await;
    println!(
        "{name}: {count} orders, outages of {outages:.1?}, {done} orders had ended after the last, the others {:.1?} later",
        over.elapsed()
    );
    fleet.rest(workers.into_iter().chain(coordinators)).await;
}

#[tokio::test]
async fn orders_survive_the_death_of_the_broker() {
    orders_survive("death of the broker", &[20], async |fleet| {
        fleet.servers.run(&["kill-rabbitmq"]);
        fleet.servers.run(&["start-rabbitmq"]);
    })
    .await;
}

#[tokio::test]
async fn orders_survive_the_death_of_postgres() {
    orders_survive("death of Postgres", &[20], async |fleet| {
        fleet.servers.run(&["kill-postgres"]);
        fleet.servers.run(&["start-postgres"]);
    })
    .await;
}

#[tokio::test]
async fn orders_survive_an_immediate_shutdown_of_postgres() {
    orders_survive("immediate shutdown of Postgres", &[20, 50], async |fleet| {
        fleet.servers.run(&["abort-postgres"]);
        fleet.servers.run(&["start-postgres"]);
    })
    .await;
}

#[tokio::test]
async fn orders_survive_that_the_broker_closes_all_connections() {
    orders_survive("closed connections", &CUTS_AT, async |fleet| {
        let vhost = fleet.vhost();
        let close = ["ctl", "close_all_connections", "--vhost", vhost, "a test"];
        fleet.servers.run(&close);
    })
    .await;
}

#[tokio::test]
async fn orders_survive_that_postgres_ends_all_connections() {
    let terminate = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let mut ended = Vec::new();
    orders_survive("terminated connections", &CUTS_AT, async |fleet| {
        ended.push(fleet.database.number(terminate).await);
    })
    .await;
    // Later cuts may come while the coordinators still connect again.
    assert!(
        ended.first().is_none_or(|first| *first >= 4),
        "each coordinator has more than one connection, but {ended:?} were ended"
    );
}

#[tokio::test]
async fn orders_survive_a_memory_alarm() {
    let given = std::env::var("FLOTILLA_TEST_ALARM").ok();
    let seconds = given.and_then(|text| text.parse().ok()).unwrap_or(ALARM_S);
    orders_survive("memory alarm", &[20], async |fleet| {
        let alarm = Alarm::raise(&fleet.servers);
        let before = fleet.database.executions("succeeded").await;
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let during = fleet.database.executions("succeeded").await - before;
        assert!(during < 20, "{during} orders ended during the alarm");
        fleet.has_logged("the broker takes no messages").await;
        drop(alarm);
        fleet.has_logged("the broker takes messages again").await;
    })
    .await;
}
