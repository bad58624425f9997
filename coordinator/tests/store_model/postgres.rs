//! The real database, on a clock of its own: `clock_timestamp()` is looked up along the search path,
//! and there a function of that name stands before that of Postgres. All the rest is as in production,
//! and the answers of both databases can be compared to the microsecond.

use chrono::{DateTime, Utc};
use flotilla_coordinator::storage::{self, DeadLetterRow};
use flotilla_simulation::store::Call;
use flotilla_turn::LoadRequest;
use flotilla_turn::rows::{Epoch, PartitionNo};
use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection, PgConnection, PgPool};
use uuid::Uuid;

use crate::answer::{Answer, Found, Share};

const CLOCK: &str = "
CREATE SCHEMA test_clock;
CREATE TABLE test_clock.reading (now timestamptz NOT NULL);
INSERT INTO test_clock.reading VALUES ('epoch');
CREATE FUNCTION test_clock.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
    AS 'SELECT now FROM test_clock.reading';
";

pub struct Postgres {
    pool: PgPool,
    conn: PgConnection,
    now: DateTime<Utc>,
}

impl Postgres {
    /// Migrates an empty database.
    pub async fn new(pool: &PgPool, partitions: PartitionNo, now: DateTime<Utc>) -> Self {
        sqlx::raw_sql(CLOCK).execute(pool).await.expect("a clock");
        let options = (*pool.connect_options()).clone();
        let options = options.options([
            ("search_path", "public,test_clock,pg_catalog"),
            ("timezone", "UTC"),
            // What is written here need not outlive the server.
            ("synchronous_commit", "off"),
        ]);
        let pool = PgPoolOptions::new().max_connections(2);
        let pool = pool.connect_with(options).await.expect("it connects");
        storage::migrate(&pool, Some(partitions))
            .await
            .expect("it migrates");
        for workflow in flotilla_simulation::workflows() {
            let (reference, version) = (&workflow.reference, &workflow.version);
            let stored = storage::StoredDefinition {
                hash: workflow.hash,
                source: String::new(),
                pack: None,
            };
            storage::register_definition(&pool, &stored, reference, version)
                .await
                .expect("it is registered");
        }
        let conn = pool.acquire().await.expect("a connection").detach();
        let mut postgres = Self {
            pool,
            conn,
            now: DateTime::UNIX_EPOCH,
        };
        postgres.set_clock(now).await;
        postgres
    }

    pub fn connection(&mut self) -> &mut PgConnection {
        &mut self.conn
    }

    pub fn now(&self) -> DateTime<Utc> {
        self.now
    }

    pub async fn set_clock(&mut self, now: DateTime<Utc>) {
        if now != self.now {
            sqlx::query("UPDATE test_clock.reading SET now = $1")
                .bind(now)
                .execute(&mut self.conn)
                .await
                .expect("the clock is set");
            self.now = now;
        }
    }

    pub async fn ask(&mut self, call: &Call) -> Answer {
        match call {
            Call::AddPartition => self.add_partition().await,
            Call::Register(id) => self.register(*id).await,
            Call::Take { owner, lease_s } => self.take(*owner, *lease_s).await,
            Call::Release {
                owner,
                held,
                resigns,
            } => self.release(*owner, held, *resigns).await,
            Call::Renew {
                owner,
                held,
                lease_s,
            } => {
                let conn = &mut self.conn;
                let renewed = storage::renew_leases(conn, *owner, held, *lease_s).await;
                let renewed = renewed.expect("they are renewed");
                Answer::Renewed(usize::try_from(renewed).expect("a count"))
            }
            Call::Commit(commit) => {
                Answer::Commit(storage::commit(&mut self.conn, commit).await.into())
            }
            Call::Load(request) => self.load(request).await,
            Call::Timers {
                partition,
                from,
                until,
            } => {
                let timers = storage::load_timers(&mut self.conn, *partition, *from, *until).await;
                Answer::Timers(timers.expect("they are loaded"))
            }
            Call::SilentJobs {
                partitions,
                resend_after_s,
            } => {
                let (conn, after_s) = (&mut self.conn, *resend_after_s);
                let pools = storage::load_silent_pools(&mut *conn, partitions, after_s).await;
                let pools = pools.expect("they are looked for");
                let jobs = storage::load_silent_jobs(conn, partitions, &pools, after_s).await;
                Answer::SilentJobs(jobs.expect("they are looked for"))
            }
            Call::PartitionOf(id) => {
                let partition = storage::partition_of(&mut self.conn, *id).await;
                Answer::Partition(partition.expect("it is looked up"))
            }
            Call::Mark {
                key,
                owner,
                lease_s,
            } => {
                let mark = storage::mark_suspect(&mut self.conn, key, *owner, *lease_s).await;
                Answer::Marked(mark.expect("it is marked"))
            }
            Call::Clear { key, owner } => {
                let cleared = storage::clear_suspect(&mut self.conn, key, *owner).await;
                cleared.expect("it is cleared");
                Answer::Cleared
            }
            Call::DeadLetter { key, reason } => self.dead_letter(key, reason).await,
        }
    }

    /// As `migrate` does it.
    async fn add_partition(&mut self) -> Answer {
        let added = sqlx::query_scalar(
            "INSERT INTO coordinator_partition (id) SELECT max(id) + 1 FROM coordinator_partition RETURNING id",
        );
        let added = added.fetch_one(&mut self.conn).await;
        Answer::Added(added.expect("a partition is added"))
    }

    async fn register(&mut self, id: Uuid) -> Answer {
        let registered = storage::register_coordinator(&mut self.conn, id, "test").await;
        let (now, _) = registered.expect("it is registered");
        assert_eq!(now, self.now, "the clock is ours");
        Answer::Registered
    }

    async fn take(&mut self, owner: Uuid, lease_s: f64) -> Answer {
        // Postgres says that a commit is refused before it lets go of its rows, and to take partitions
        // passes over rows that are locked.
        self.conn.ping().await.expect("the last call has ended");
        let taken = storage::take_partitions(&self.pool, owner, lease_s).await;
        let (taken, share) = taken.expect("it looks for partitions");
        let count = |number: i32| usize::try_from(number).expect("a count");
        let share = Share {
            partitions: count(share.partitions),
            held: count(share.held),
        };
        Answer::Taken(taken, share)
    }

    async fn release(
        &mut self,
        owner: Uuid,
        held: &[(PartitionNo, Epoch)],
        resigns: bool,
    ) -> Answer {
        let released = storage::release_partitions(&mut self.conn, owner, held, resigns).await;
        let released = released.expect("they are released");
        Answer::Released(usize::try_from(released).expect("a count"))
    }

    async fn load(&mut self, request: &LoadRequest) -> Answer {
        let conn = &mut self.conn;
        let starts = storage::load_starts(&mut *conn, &request.starts).await;
        let executions = storage::load_executions(&mut *conn, &request.executions).await;
        let pasts = storage::load_pasts(&mut *conn, &request.pasts).await;
        let controls = storage::load_controls(&mut *conn, &request.controls).await;
        Answer::Loaded(Found::new(
            starts.expect("starts are looked up"),
            executions.expect("executions are loaded"),
            pasts.expect("pasts are loaded"),
            controls.expect("commands are looked up"),
        ))
    }

    async fn dead_letter(&mut self, key: &str, reason: &str) -> Answer {
        let letter = DeadLetterRow {
            key: key.to_owned(),
            queue: String::new(),
            reason: reason.to_owned(),
            message_id: None,
            execution_id: None,
            task_id: None,
            properties: serde_json::Value::Null,
            body: Vec::new(),
        };
        let is_new = storage::insert_dead_letter(&mut self.conn, &letter).await;
        Answer::DeadLetter {
            is_new: is_new.expect("it is recorded"),
        }
    }

    /// Makes all tables as they were, with so many partitions.
    pub async fn empty(&mut self, partitions: PartitionNo) {
        sqlx::raw_sql(
            "DELETE FROM coordinator; DELETE FROM coordinator_partition; \
             DELETE FROM workflow_start; DELETE FROM workflow_execution; \
             DELETE FROM workflow_task; DELETE FROM workflow_variable; \
             DELETE FROM workflow_transition; DELETE FROM workflow_timer; \
             DELETE FROM workflow_outbox; DELETE FROM workflow_ignored_message; \
             DELETE FROM workflow_dead_letter; DELETE FROM workflow_suspect_message",
        )
        .execute(&mut self.conn)
        .await
        .expect("the tables are emptied");
        sqlx::query("INSERT INTO coordinator_partition (id) SELECT generate_series(0, $1 - 1)")
            .bind(partitions)
            .execute(&mut self.conn)
            .await
            .expect("there are partitions");
    }
}
