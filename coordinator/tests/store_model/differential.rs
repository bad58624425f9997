//! What the coordinators of random simulations ask of their store is asked of the model and of
//! Postgres: every answer and at the end all tables must be the same. `STORE_SECONDS` (10) says for
//! how long, beginning with a seed that is always the same; `STORE_SEED` runs one alone.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use flotilla_simulation::store::Call;
use flotilla_simulation::{Store, record_seed, workflows};
use sqlx::PgPool;

use crate::answer::{Answer, Outcome};
use crate::database::Database;
use crate::postgres::Postgres;
use crate::tables;

/// Seeds after which everything that is to be seen has been seen.
const MANY: u64 = 12;

#[sqlx::test(migrations = false)]
async fn the_model_answers_as_postgres_does(pool: PgPool) {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let only = number("STORE_SEED");
    let seconds = Duration::from_secs(number("STORE_SECONDS").unwrap_or(10));
    let begun = Instant::now();
    let postgres = Postgres::new(&pool, 1, Store::new(1, workflows()).now).await;
    let mut postgres = Database::Postgres(Box::new(postgres));
    let mut seen = BTreeMap::new();
    let mut seed = only.unwrap_or(0);
    while begun.elapsed() < seconds || only == Some(seed) {
        compare(seed, &mut postgres, &mut seen).await;
        seed += 1;
        if only.is_some() {
            break;
        }
    }
    println!("{seed} seeds: {seen:?}");
    if only.is_none() && seed >= MANY {
        let missing = [
            "taken",
            "committed",
            "fenced",
            "start exists",
            "loaded",
            "marked",
        ];
        let missing = missing.iter().filter(|kind| !seen.contains_key(*kind));
        assert_eq!(
            missing.collect::<Vec<_>>(),
            [&""; 0],
            "these never happened"
        );
    }
}

type Seen = BTreeMap<&'static str, usize>;

async fn compare(seed: u64, postgres: &mut Database, seen: &mut Seen) {
    let (partitions, calls) = record_seed(seed);
    let mut model = Database::Memory(Box::new(Store::new(partitions, workflows())));
    if let Database::Postgres(postgres) = postgres {
        postgres.empty(partitions).await;
    }
    for (no, (at, call)) in calls.iter().enumerate() {
        model.set_clock(*at).await;
        postgres.set_clock(*at).await;
        let expected = postgres.ask(call).await;
        let answer = model.ask(call).await;
        assert_eq!(answer, expected, "STORE_SEED={seed}, call {no}: {call:?}");
        *seen.entry(kind(call, &answer)).or_default() += 1;
    }
    let what = format!("with STORE_SEED={seed}, after {} calls", calls.len());
    tables::assert_same(&model.tables().await, &postgres.tables().await, &what);
}

fn kind(call: &Call, answer: &Answer) -> &'static str {
    match answer {
        Answer::Taken(taken, _) if taken.is_empty() => "nothing taken",
        Answer::Taken(..) => "taken",
        Answer::Commit(Outcome::Committed(_)) => "committed",
        Answer::Commit(Outcome::Fenced(_)) => "fenced",
        Answer::Commit(Outcome::StartExists) => "start exists",
        Answer::Commit(Outcome::Refused(_)) => panic!("a sound turn is refused: {call:?}"),
        Answer::Loaded(_) => "loaded",
        Answer::Timers(_) => "timers",
        Answer::SilentJobs(_) => "silent jobs",
        Answer::Partition(_) => "partition of",
        Answer::Marked(_) | Answer::Cleared => "marked",
        Answer::DeadLetter { .. } => "dead letter",
        Answer::Registered => "registered",
        Answer::Released(_) => "released",
    }
}
