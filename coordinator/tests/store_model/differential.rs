//! What the coordinators of random simulations ask of their store is asked of the model and of
//! Postgres: every answer and at the end all tables must be the same. `STORE_SECONDS` (8) says for
//! how long, beginning with a seed that is always the same and passing over schedules in which little
//! happens; `STORE_SEED` runs one alone.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use flotilla_simulation::store::{Call, Recorded};
use flotilla_simulation::{Store, record_seed, workflows};
use flotilla_turn::rows::PartitionNo;
use sqlx::PgPool;

use crate::answer::{Answer, Outcome};
use crate::database::ask_model;
use crate::postgres::Postgres;
use crate::tables;

/// Happenings for which alone a schedule is worth the time.
const RARE: [&str; 3] = ["start exists", "dead letter", "marked"];
/// A schedule with so many kinds of happenings is worth it as well.
const MANY_KINDS: usize = 8;
/// What must be seen in so many schedules.
const ENOUGH: usize = 40;
const USUAL: [&str; 8] = [
    "taken",
    "released",
    "committed",
    "fenced",
    "loaded",
    "timers",
    "silent jobs",
    "marked",
];

#[sqlx::test(migrations = false)]
async fn the_model_answers_as_postgres_does(pool: PgPool) {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let only = number("STORE_SEED");
    let seconds = Duration::from_secs(number("STORE_SECONDS").unwrap_or(8));
    let mut postgres = Postgres::new(&pool, 1, Store::new(1, workflows()).now).await;
    let mut seen = Kinds::new();
    let mut compared = 0;
    let begun = Instant::now();
    for seed in only.unwrap_or(0).. {
        let modelled = Modelled::new(seed);
        if only.is_some() || modelled.is_worth_it() {
            modelled.compare(&mut postgres).await;
            compared += 1;
            for (kind, count) in modelled.kinds {
                *seen.entry(kind).or_default() += count;
            }
        }
        if only.is_some() || begun.elapsed() >= seconds {
            println!("{compared} schedules up to seed {seed}: {seen:?}");
            break;
        }
    }
    if compared >= ENOUGH {
        let missing = USUAL.iter().filter(|kind| !seen.contains_key(*kind));
        assert_eq!(
            missing.collect::<Vec<_>>(),
            [&""; 0],
            "these never happened"
        );
    }
}

type Kinds = BTreeMap<&'static str, usize>;

/// What the model answers to the calls of a schedule.
struct Modelled {
    seed: u64,
    partitions: PartitionNo,
    answers: Vec<(Recorded, Answer)>,
    after: Store,
    kinds: Kinds,
}

impl Modelled {
    fn new(seed: u64) -> Self {
        let (partitions, calls) = record_seed(seed);
        let mut store = Store::new(partitions, workflows());
        let mut kinds = Kinds::new();
        let mut answers = Vec::new();
        for (at, call) in calls {
            store.now = at;
            let answer = ask_model(&mut store, &call);
            *kinds.entry(kind(&call, &answer)).or_default() += 1;
            answers.push(((at, call), answer));
        }
        Self {
            seed,
            partitions,
            answers,
            after: store,
            kinds,
        }
    }

    /// Whether enough happens in it.
    fn is_worth_it(&self) -> bool {
        let has = |kind: &&str| self.kinds.contains_key(kind);
        self.kinds.len() >= MANY_KINDS || RARE.iter().any(has)
    }

    /// Asks Postgres the same.
    async fn compare(&self, postgres: &mut Postgres) {
        let seed = self.seed;
        postgres.empty(self.partitions).await;
        for (no, ((at, call), answer)) in self.answers.iter().enumerate() {
            postgres.set_clock(*at).await;
            let expected = postgres.ask(call).await;
            assert_eq!(*answer, expected, "STORE_SEED={seed}, call {no}: {call:?}");
        }
        let tables = tables::of_postgres(postgres.connection()).await;
        let what = format!("with STORE_SEED={seed}");
        tables::assert_same(&tables::of_model(&self.after), &tables, &what);
    }
}

fn kind(call: &Call, answer: &Answer) -> &'static str {
    match answer {
        Answer::Taken(taken, _) if taken.is_empty() => "nothing taken",
        Answer::Taken(..) => "taken",
        Answer::Commit(Outcome::Committed(_)) => "committed",
        Answer::Commit(Outcome::Fenced(_)) => "fenced",
        Answer::Commit(Outcome::StartExists(_)) => "start exists",
        Answer::Commit(Outcome::Refused(_)) => panic!("a sound turn is refused: {call:?}"),
        Answer::Loaded(_) => "loaded",
        Answer::Timers(_) => "timers",
        Answer::SilentJobs(_) => "silent jobs",
        Answer::Partition(_) => "partition of",
        Answer::Marked(_) | Answer::Cleared => "marked",
        Answer::DeadLetter { .. } => "dead letter",
        Answer::Registered => "registered",
        Answer::Added(_) => "added",
        Answer::Released(_) => "released",
        Answer::Renewed(_) => "renewed",
    }
}
