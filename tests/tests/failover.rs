//! How fast another coordinator carries on, and that one that was thought dead writes nothing.

use std::time::Duration;

use chrono::{DateTime, Utc};
use flotilla_tests::membership::wait_for_even_shares;
use flotilla_tests::{Database, Fleet, LIMIT, Options, Service, Stream, invariants, wait_until};
use uuid::Uuid;

/// Times in `make test`; `FLOTILLA_TEST_FAILOVERS` asks for more.
const TIMES: usize = 3;
const IN_FLIGHT: usize = 30;
/// What is promised, in seconds: after a death, the median; after a clean stop, each time. Machines
/// for tests are busy, so a test that is no measurement only looks for what must never be.
const DEATH_LIMIT_S: f64 = 15.0;
const STOP_LIMIT_S: f64 = 15.0;
/// Seconds of a lease: as a coordinator has it, and longer than any limit, so that whoever waits for
/// one to run out is found.
const USUAL_LEASE_S: &str = "3";
const LONG_LEASE_S: &str = "40";

fn times() -> usize {
    let given = std::env::var("FLOTILLA_TEST_FAILOVERS").ok();
    given
        .and_then(|text| text.parse().ok())
        .map_or(TIMES, |given: usize| given.max(TIMES))
}

/// Two coordinators, a worker, and a stream of executions.
struct Pair {
    fleet: Fleet,
    /// The coordinators' leases, in seconds.
    lease: &'static str,
    coordinators: Vec<Service>,
    worker: Service,
    stream: Stream,
}

impl Pair {
    async fn start(lease: &'static str) -> Self {
        let fleet = Fleet::with(Options {
            partitions: 16,
            ..Options::default()
        })
        .await;
        let coordinators = vec![
            coordinator(&fleet, lease).await,
            coordinator(&fleet, lease).await,
        ];
        let worker = fleet.effects_worker("effects").await;
        let stream = Stream::start(&fleet, IN_FLIGHT);
        Self {
            fleet,
            lease,
            coordinators,
            worker,
            stream,
        }
    }

    /// Waits until both have an even share, and each has made a transition since then.
    async fn settle(&self) {
        let database = &self.fleet.database;
        wait_for_even_shares(database, &self.coordinators).await;
        let since = database_now(database).await;
        for coordinator in &self.coordinators {
            let partitions = coordinator.partitions(database).await;
            first_transition(database, &partitions, since).await;
        }
    }

    async fn end(self) {
        self.stream.end(&self.fleet.database).await;
        self.worker.stop().await;
        for coordinator in self.coordinators {
            coordinator.stop().await;
        }
        invariants::check_at_rest(&self.fleet.database).await;
    }
}

async fn coordinator(fleet: &Fleet, lease: &str) -> Service {
    let arguments = ["coordinator", "--lease", lease];
    fleet.spawn(&arguments, &[]).ready().await
}

async fn database_now(database: &Database) -> DateTime<Utc> {
    let now = sqlx::query_scalar("SELECT clock_timestamp()");
    now.fetch_one(&database.pool)
        .await
        .expect("the database answers")
}

/// Waits for the first transition in these partitions after `since`; gives its time.
async fn first_transition(
    database: &Database,
    partitions: &[i32],
    since: DateTime<Utc>,
) -> DateTime<Utc> {
    let query = "SELECT min(t.at) FROM workflow_transition t
        JOIN workflow_execution_summary e USING (execution_id)
        WHERE e.partition = ANY ($1) AND t.at > $2";
    let mut first: Option<DateTime<Utc>> = None;
    wait_until("the executions of a partition go on", LIMIT, async || {
        first = sqlx::query_scalar(query)
            .bind(partitions)
            .bind(since)
            .fetch_one(&database.pool)
            .await
            .expect("the database answers");
        first.is_some()
    })
    .await;
    first.expect("it has come")
}

/// Ends one coordinator after the other; gives the seconds until the executions of each went on.
async fn fail_over(pair: &mut Pair, end: impl AsyncFn(Service)) -> Vec<f64> {
    let mut seconds = Vec::new();
    for _ in 0..times() {
        pair.settle().await;
        let victim = pair.coordinators.remove(0);
        let partitions = victim.partitions(&pair.fleet.database).await;
        let begun = database_now(&pair.fleet.database).await;
        end(victim).await;
        // What it has written itself is no take-over.
        let since = match last_turn_of_the_dead(&pair.fleet.database, &partitions).await {
            Some(at) => at.max(begun),
            None => begun,
        };
        let first = first_transition(&pair.fleet.database, &partitions, since).await;
        seconds.push((first - begun).as_seconds_f64());
        let next = coordinator(&pair.fleet, pair.lease).await;
        pair.coordinators.push(next);
    }
    seconds.sort_by(f64::total_cmp);
    seconds
}

/// The time of the newest transition in these partitions.
async fn last_turn_of_the_dead(database: &Database, partitions: &[i32]) -> Option<DateTime<Utc>> {
    let query = "SELECT max(t.at) FROM workflow_transition t
        JOIN workflow_execution_summary e USING (execution_id) WHERE e.partition = ANY ($1)";
    let newest = sqlx::query_scalar(query).bind(partitions);
    newest
        .fetch_one(&database.pool)
        .await
        .expect("the database answers")
}

#[tokio::test]
async fn after_a_death_another_carries_on_within_a_lease_and_a_little() {
    let mut pair = Pair::start(USUAL_LEASE_S).await;
    let seconds = fail_over(&mut pair, async |victim: Service| victim.kill()).await;
    println!("from kill -9 to the next transition, in seconds: {seconds:.2?}");
    assert!(seconds[seconds.len() / 2] < DEATH_LIMIT_S, "{seconds:?}");
    pair.end().await;
}

#[tokio::test]
async fn after_a_clean_stop_another_carries_on_at_once() {
    let mut pair = Pair::start(LONG_LEASE_S).await;
    let seconds = fail_over(&mut pair, async |victim: Service| victim.stop().await).await;
    println!("from SIGTERM to the next transition, in seconds: {seconds:.2?}");
    assert!(seconds[seconds.len() / 2] < STOP_LIMIT_S, "{seconds:?}");
    pair.end().await;
}

#[tokio::test]
async fn who_wakes_up_late_writes_nothing_and_goes_on_as_a_member() {
    let mut pair = Pair::start(USUAL_LEASE_S).await;
    for _ in 0..times() {
        pair.settle().await;
        let victim = pair.coordinators.remove(0);
        let database = &pair.fleet.database;
        let id = id_of(database, &victim).await;
        let lost = victim.partitions(database).await;
        victim.freeze();
        wait_until(
            "all that it owned has another owner, who works",
            LIMIT,
            async || {
                let taken = turns(database).await;
                taken
                    .iter()
                    .all(|turn| turn.owner != Some(id) && turn.is_of_owner())
            },
        )
        .await;
        victim.thaw();
        let mut looks = 0;
        wait_until("it is a member again", LIMIT, async || {
            for turn in turns(database).await {
                let is_late = lost.contains(&turn.partition)
                    && turn.owner != Some(id)
                    && is_by(turn.turn_id, id);
                assert!(!is_late, "{turn:?} was written by {id}, which had lost it");
            }
            looks += 1;
            !victim.partitions(database).await.is_empty()
        })
        .await;
        println!("{id} wrote nothing of {lost:?} in {looks} looks, and is a member again");
        pair.coordinators.push(victim);
    }
    pair.end().await;
}

/// The last turn of a partition.
#[derive(Debug, sqlx::FromRow)]
struct LastTurn {
    partition: i32,
    owner: Option<Uuid>,
    turn_id: Option<Uuid>,
}

impl LastTurn {
    fn is_of_owner(&self) -> bool {
        self.owner.is_some_and(|owner| is_by(self.turn_id, owner))
    }
}

/// Whether a turn was committed by this coordinator: the id of a turn is that of its coordinator with
/// the number of the turn in its last eight bytes.
fn is_by(turn_id: Option<Uuid>, coordinator: Uuid) -> bool {
    turn_id.is_some_and(|turn_id| turn_id.as_bytes()[..8] == coordinator.as_bytes()[..8])
}

async fn turns(database: &Database) -> Vec<LastTurn> {
    let query = "SELECT id AS partition, owner, turn_id FROM coordinator_partition ORDER BY id";
    database.rows(query).await
}

async fn id_of(database: &Database, coordinator: &Service) -> Uuid {
    let query = "SELECT id FROM coordinator WHERE pid = $1 ORDER BY started_at DESC LIMIT 1";
    let id = sqlx::query_scalar(query)
        .bind(i32::try_from(coordinator.id()).expect("process ids are small"))
        .fetch_one(&database.pool)
        .await;
    id.expect("the database answers")
}

#[tokio::test]
async fn many_that_start_and_stop_at_once_share_in_the_end() {
    let fleet = Fleet::with(Options {
        partitions: 16,
        ..Options::default()
    })
    .await;
    let worker = fleet.effects_worker("effects").await;
    let stream = Stream::start(&fleet, IN_FLIGHT);
    let starting = (0..5).map(|_| fleet.spawn(&["coordinator"], &[]).ready());
    let mut coordinators = futures::future::join_all(starting).await;
    wait_for_even_shares(&fleet.database, &coordinators).await;
    let rest = coordinators.split_off(2);
    let stopping = rest.into_iter().map(Service::stop);
    let stopped =
        tokio::time::timeout(Duration::from_secs(60), futures::future::join_all(stopping));
    assert!(stopped.await.is_ok(), "three stop at once");
    wait_for_even_shares(&fleet.database, &coordinators).await;
    stream.end(&fleet.database).await;
    worker.stop().await;
    for coordinator in coordinators {
        coordinator.stop().await;
    }
    invariants::check_at_rest(&fleet.database).await;
}
