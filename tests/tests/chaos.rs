//! Three coordinators and three workers under load, of which one after the other is killed, frozen or
//! stopped: nothing is lost, and what ran twice a fault explains.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_tests::membership::wait_for_even_shares;
use flotilla_tests::stream::Effect;
use flotilla_tests::{Client, Fleet, LIMIT, Options, Service, Stream, invariants, wait_until};
use uuid::Uuid;

/// Rounds in `make test`; `FLOTILLA_TEST_ROUNDS` asks for more. Each has two faults.
const ROUNDS: usize = 3;
const MEMBERS: usize = 3;
const IN_FLIGHT: usize = 30;
/// Executions that finish before the next round, so that everybody works between two faults.
const BETWEEN_ROUNDS: usize = 20;
/// How long after its end a fault may still show: redelivery and take-over need a moment.
const AFTERMATH_MS: i64 = 15_000;

/// What happens to a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Kill,
    Freeze,
    Stop,
}

/// A fault, for the question what it explains.
#[derive(Debug)]
struct Fault {
    kind: Kind,
    from_ms: i64,
    until_ms: i64,
    /// The worker that it hit.
    worker: Option<String>,
    /// The partitions of the coordinator that it hit.
    partitions: Vec<i32>,
}

#[tokio::test]
async fn members_die_freeze_and_stop_and_nothing_is_lost() {
    let fleet = Fleet::with(Options {
        partitions: 16,
        ..Options::default()
    })
    .await;
    let mut members = Members::start(&fleet).await;
    let stream = Stream::start(&fleet, IN_FLIGHT);
    let rounds = std::env::var("FLOTILLA_TEST_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .map_or(ROUNDS, |given: usize| given.max(ROUNDS));
    let mut faults = Vec::new();
    for round in 0..rounds {
        let (of_coordinator, of_worker) = [
            (Kind::Kill, Kind::Freeze),
            (Kind::Freeze, Kind::Stop),
            (Kind::Stop, Kind::Kill),
        ][round % 3];
        faults.push(
            members
                .hit_coordinator(round % MEMBERS, of_coordinator)
                .await,
        );
        faults.push(members.hit_worker((round + 1) % MEMBERS, of_worker).await);
        members.go_on().await;
    }
    let ids = stream.end(&fleet.database).await;
    invariants::check(&fleet.database).await;
    members.stop().await;
    invariants::check_at_rest(&fleet.database).await;
    let repeated = check_effects(&fleet, &faults).await;
    println!(
        "{} faults in {rounds} rounds, {} executions, {repeated} effects more than once",
        faults.len(),
        ids.len()
    );
}

struct Members<'a> {
    fleet: &'a Fleet,
    client: Client,
    coordinators: Vec<Service>,
    workers: Vec<(String, Service)>,
    started: usize,
}

impl<'a> Members<'a> {
    async fn start(fleet: &'a Fleet) -> Self {
        let mut members = Self {
            fleet,
            client: fleet.client().await,
            coordinators: Vec::new(),
            workers: Vec::new(),
            started: 0,
        };
        for _ in 0..MEMBERS {
            members.coordinators.push(fleet.coordinator().await);
            let worker = members.new_worker().await;
            members.workers.push(worker);
        }
        members
    }

    async fn new_worker(&mut self) -> (String, Service) {
        self.started += 1;
        let name = format!("effects-{}", self.started);
        let worker = self.fleet.effects_worker(&name).await;
        (name, worker)
    }

    async fn hit_coordinator(&mut self, at: usize, kind: Kind) -> Fault {
        let victim = self.coordinators.remove(at);
        let partitions = victim.partitions(&self.fleet.database).await;
        let from_ms = now_ms();
        let owned = format!(
            "SELECT count(*) FROM coordinator_partition p JOIN coordinator c ON c.id = p.owner
             WHERE c.pid = {}",
            victim.id()
        );
        let database = &self.fleet.database;
        let survivor = hit(victim, kind, async |victim| {
            victim.freeze();
            wait_until("others have its work", LIMIT, async || {
                database.number(&owned).await == 0
            })
            .await;
            victim.thaw();
        })
        .await;
        let fault = Fault {
            kind,
            from_ms,
            until_ms: now_ms(),
            worker: None,
            partitions,
        };
        let replacement = match survivor {
            Some(survivor) => survivor,
            None => self.fleet.coordinator().await,
        };
        self.coordinators.insert(at, replacement);
        fault
    }

    async fn hit_worker(&mut self, at: usize, kind: Kind) -> Fault {
        let (name, victim) = self.workers.remove(at);
        let from_ms = now_ms();
        let connection = &self.client.connection;
        let survivor = hit(victim, kind, async |victim| {
            self.fleet.freeze_worker(connection, victim).await;
        })
        .await;
        let fault = Fault {
            kind,
            from_ms,
            until_ms: now_ms(),
            worker: Some(name.clone()),
            partitions: Vec::new(),
        };
        let replacement = match survivor {
            Some(survivor) => (name, survivor),
            None => self.new_worker().await,
        };
        self.workers.insert(at, replacement);
        fault
    }

    /// Waits until everybody has a share of the work, and some of it is done.
    async fn go_on(&self) {
        let database = &self.fleet.database;
        wait_for_even_shares(database, &self.coordinators).await;
        let done = database.executions("succeeded").await;
        let wanted = done + i64::try_from(BETWEEN_ROUNDS).expect("few");
        wait_until("work goes on", LIMIT, async || {
            database.executions("succeeded").await >= wanted
        })
        .await;
    }

    async fn stop(self) {
        for (_, worker) in self.workers {
            worker.stop().await;
        }
        for coordinator in self.coordinators {
            coordinator.stop().await;
        }
    }
}

/// Does it; gives the service back if it lives on. `freeze` lasts until its work is with others.
async fn hit(victim: Service, kind: Kind, freeze: impl AsyncFnOnce(&Service)) -> Option<Service> {
    match kind {
        Kind::Kill => {
            victim.kill();
            None
        }
        Kind::Stop => {
            victim.stop().await;
            None
        }
        Kind::Freeze => {
            freeze(&victim).await;
            Some(victim)
        }
    }
}

fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}

/// Every task that succeeded has left its trace, nothing else has, and only a fault explains a second
/// one. Gives how many were left more than once.
async fn check_effects(fleet: &Fleet, faults: &[Fault]) -> usize {
    let query = "SELECT t.task_id, t.attempt, t.status::text, e.partition
        FROM workflow_task_detail t JOIN workflow_execution_summary e USING (execution_id)";
    let rows: Vec<(Uuid, i32, String, i32)> = fleet.database.rows(query).await;
    let effects = fleet.effects();
    let mut partitions: BTreeMap<String, i32> = BTreeMap::new();
    for (task_id, attempt, status, partition) in rows {
        let key = format!("{task_id}/{attempt}");
        assert_eq!(status, "succeeded");
        assert!(
            effects.contains_key(&key),
            "{key} succeeded and left no trace"
        );
        partitions.insert(key, partition);
    }
    let traced: BTreeSet<&String> = effects.keys().collect();
    let known: BTreeSet<&String> = partitions.keys().collect();
    assert_eq!(
        traced.difference(&known).next(),
        None,
        "nobody asked for it"
    );
    let repeated = effects.iter().filter(|(_, traces)| traces.len() > 1);
    for (key, traces) in repeated.clone() {
        assert!(
            faults
                .iter()
                .any(|fault| explains(fault, traces, partitions[key])),
            "{key} left its trace more than once, and no fault explains it: {traces:?}\n{faults:#?}"
        );
    }
    repeated.count()
}

/// Whether a fault explains that something ran twice: its worker was hit before the broker had its
/// acknowledgement, or its coordinator before it had noted that the job was published. A frozen worker may
/// also run what another has run meanwhile.
fn explains(fault: &Fault, traces: &[Effect], partition: i32) -> bool {
    let (first, last) = (&traces[0], &traces[traces.len() - 1]);
    let is_near = first.at_ms <= fault.until_ms && last.at_ms >= fault.from_ms
        || (0..AFTERMATH_MS).contains(&(first.at_ms - fault.until_ms));
    let suspects = match fault.kind {
        Kind::Freeze => traces,
        Kind::Kill | Kind::Stop => &traces[..traces.len() - 1],
    };
    let is_its = |trace: &Effect| fault.worker.as_ref() == Some(&trace.worker);
    let is_hit = suspects.iter().any(is_its) || fault.partitions.contains(&partition);
    match fault.kind {
        Kind::Kill | Kind::Freeze => is_near && is_hit,
        Kind::Stop => false,
    }
}
