//! The two databases behind one face, and how a case runs on both.

use chrono::{DateTime, TimeDelta, Utc};
use flotilla_protocol::ExecutionId;
use flotilla_simulation::Store;
use flotilla_simulation::store::Call;
use flotilla_turn::rows::{
    Commit, Epoch, FoundStart, LoadedExecution, PartitionNo, StartLookup, TakenPartition,
};
use flotilla_turn::{LoadRequest, Mark};
use sqlx::PgPool;
use uuid::Uuid;

use crate::answer::{Answer, Found, Outcome, Share};
use crate::postgres::Postgres;
use crate::rows::{self, LEASE_S, ME};
use crate::tables::{self, Tables};

/// A database whose clock stands still unless it is moved.
pub enum Database {
    Memory(Box<Store>),
    Postgres(Box<Postgres>),
}

/// Runs a case on the model and on Postgres; afterwards the tables of both must be the same.
pub async fn on_both(pool: &PgPool, partitions: PartitionNo, case: impl AsyncFn(&mut Database)) {
    let store = Store::new(partitions, flotilla_simulation::workflows());
    let postgres = Postgres::new(pool, partitions, store.now).await;
    let mut memory = Database::Memory(Box::new(store));
    println!("in memory:");
    rows::begin();
    case(&mut memory).await;
    println!("on Postgres:");
    rows::begin();
    let mut postgres = Database::Postgres(Box::new(postgres));
    case(&mut postgres).await;
    tables::assert_same(&memory.tables().await, &postgres.tables().await, "");
}

/// The same, with all partitions taken by [`ME`].
pub async fn with_partitions(
    pool: &PgPool,
    partitions: PartitionNo,
    case: impl AsyncFn(&mut Database),
) {
    on_both(pool, partitions, async |database: &mut Database| {
        database.register(ME).await;
        let (taken, _) = database.take(ME).await;
        assert!(taken.iter().map(|taken| taken.partition).eq(0..partitions));
        case(database).await;
    })
    .await;
}

impl Database {
    /// Asks for something.
    pub async fn ask(&mut self, call: &Call) -> Answer {
        match self {
            Self::Memory(store) => ask_model(store, call),
            Self::Postgres(postgres) => postgres.ask(call).await,
        }
    }

    pub async fn tables(&mut self) -> Tables {
        match self {
            Self::Memory(store) => tables::of_model(store),
            Self::Postgres(postgres) => tables::of_postgres(postgres.connection()).await,
        }
    }

    pub fn now(&self) -> DateTime<Utc> {
        match self {
            Self::Memory(store) => store.now,
            Self::Postgres(postgres) => postgres.now(),
        }
    }

    pub async fn set_clock(&mut self, now: DateTime<Utc>) {
        match self {
            Self::Memory(store) => store.now = now,
            Self::Postgres(postgres) => postgres.set_clock(now).await,
        }
    }

    pub async fn pass(&mut self, milliseconds: i64) {
        let now = self.now() + TimeDelta::milliseconds(milliseconds);
        self.set_clock(now).await;
    }

    pub async fn register(&mut self, id: Uuid) {
        let answer = self.ask(&Call::Register(id)).await;
        assert_eq!(answer, Answer::Registered);
    }

    pub async fn take(&mut self, owner: Uuid) -> (Vec<TakenPartition>, Share) {
        let lease_s = LEASE_S;
        let Answer::Taken(taken, share) = self.ask(&Call::Take { owner, lease_s }).await else {
            panic!("another answer");
        };
        (taken, share)
    }

    pub async fn release(
        &mut self,
        owner: Uuid,
        held: &[(PartitionNo, Epoch)],
        resigns: bool,
    ) -> usize {
        let held = held.to_vec();
        let call = Call::Release {
            owner,
            held,
            resigns,
        };
        let Answer::Released(count) = self.ask(&call).await else {
            panic!("another answer");
        };
        count
    }

    pub async fn commit(&mut self, commit: &Commit) -> Outcome {
        let call = Call::Commit(Box::new(commit.clone()));
        let Answer::Commit(outcome) = self.ask(&call).await else {
            panic!("another answer");
        };
        outcome
    }

    /// The commit must be written.
    pub async fn committed(&mut self, commit: &Commit) {
        let outcome = self.commit(commit).await;
        assert_eq!(outcome, Outcome::Committed(self.now()));
    }

    /// The commit must be answered so, and leave everything as it is.
    pub async fn unwritten(&mut self, commit: &Commit, expected: Outcome) {
        let before = self.tables().await;
        assert_eq!(self.commit(commit).await, expected);
        tables::assert_same(&before, &self.tables().await, "written all the same");
    }

    pub async fn load(&mut self, request: LoadRequest) -> Found {
        let Answer::Loaded(found) = self.ask(&Call::Load(request)).await else {
            panic!("another answer");
        };
        found
    }

    pub async fn load_start(&mut self, lookup: StartLookup) -> FoundStart {
        let request = LoadRequest {
            starts: vec![lookup],
            ..LoadRequest::default()
        };
        self.load(request).await.starts.remove(0)
    }

    pub async fn load_execution(&mut self, id: ExecutionId) -> LoadedExecution {
        let request = LoadRequest {
            executions: vec![id],
            ..LoadRequest::default()
        };
        let mut found = self.load(request).await.executions;
        assert_eq!(found.len(), 1, "it exists");
        found.remove(0)
    }

    pub async fn mark(&mut self, owner: Uuid) -> Mark {
        let call = Call::Mark {
            key: "message 1".to_owned(),
            owner,
            lease_s: LEASE_S,
        };
        let Answer::Marked(mark) = self.ask(&call).await else {
            panic!("another answer");
        };
        mark
    }
}

/// Asks the model.
pub fn ask_model(store: &mut Store, call: &Call) -> Answer {
    match call {
        Call::AddPartition => Answer::Added(store.add_partition()),
        Call::Register(id) => {
            store.register(*id);
            Answer::Registered
        }
        Call::Take { owner, lease_s } => {
            let (taken, share) = store.take(*owner, *lease_s);
            let share = Share {
                partitions: share.partitions,
                held: share.held,
            };
            Answer::Taken(taken, share)
        }
        Call::Release {
            owner,
            held,
            resigns,
        } => Answer::Released(store.release(*owner, held, *resigns)),
        Call::Renew {
            owner,
            held,
            lease_s,
        } => Answer::Renewed(store.renew(*owner, held, *lease_s)),
        Call::Commit(commit) => Answer::Commit(store.commit(commit).into()),
        Call::Load(request) => {
            let loaded = store.load(request);
            let found = Found::new(
                loaded.starts,
                loaded.executions,
                loaded.pasts,
                loaded.controls,
            );
            Answer::Loaded(found)
        }
        Call::Timers {
            partition,
            from,
            until,
        } => Answer::Timers(store.timers(*partition, *from, *until)),
        Call::SilentJobs {
            partitions,
            resend_after_s,
        } => Answer::SilentJobs(store.silent_jobs(partitions, *resend_after_s)),
        Call::PartitionOf(id) => Answer::Partition(store.partition_of(*id)),
        Call::Mark {
            key,
            owner,
            lease_s,
        } => Answer::Marked(store.mark_suspect(key, *owner, *lease_s)),
        Call::Clear { key, owner } => {
            store.clear_suspect(key, *owner);
            Answer::Cleared
        }
        Call::DeadLetter { key, reason } => Answer::DeadLetter {
            is_new: store.insert_dead_letter(key, reason),
        },
    }
}
