//! What a run costs the servers: rows and log bytes as Postgres counts them, and the messages that
//! our own processes have sent and got, as each tells when it stops.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use flotilla_coordinator::storage::connect_read_only;
use flotilla_protocol::amqp::traffic;
use serde::Serialize;
use sqlx::Connection;

use crate::failure::Failure;
use crate::timeline::count;

/// How long Postgres may take to count what its processes did last: they tell once a second.
const COUNTED_AFTER: Duration = Duration::from_millis(1200);

/// Counters of the database, since it was made.
#[derive(Debug, Clone, Default)]
pub struct Counters {
    transactions: u64,
    wal_bytes: Option<u64>,
    wal_flushes: Option<u64>,
    tables: BTreeMap<String, Rows>,
}

/// Rows of a table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Rows<N = u64> {
    /// Inserted.
    pub inserted: N,
    /// Updated.
    pub updated: N,
    /// Of the updated ones, those that stayed on their page, so that no index had to be told.
    pub updated_in_place: N,
    /// Deleted.
    pub deleted: N,
}

/// Messages of one kind of process.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Messages<N = u64> {
    /// Published.
    pub published: N,
    /// Delivered.
    pub delivered: N,
}

/// What a task costs, on the average of the whole run.
#[derive(Debug, Serialize)]
pub struct Costs {
    /// Messages by kind of process; null where some were not started here.
    pub messages: BTreeMap<&'static str, Option<Messages<f64>>>,
    /// Messages that were published, by all processes together; null if one is not known.
    pub messages_per_task: Option<f64>,
    /// Rows that were inserted, updated or deleted.
    pub rows_per_task: f64,
    /// The same by table.
    pub rows_by_table: BTreeMap<String, Rows<f64>>,
    /// Commits.
    pub transactions_per_task: f64,
    /// Bytes of the write-ahead log, of all databases of the server; null if it does not say.
    pub wal_bytes_per_task: Option<f64>,
    /// How often that log was flushed to disk, likewise. Fewer than commits, where several share one.
    pub wal_flushes_per_task: Option<f64>,
}

impl Counters {
    /// Reads them.
    pub async fn read(url: &str) -> Result<Self, Failure> {
        tokio::time::sleep(COUNTED_AFTER).await;
        let mut connection = connect_read_only(url).await?;
        let transactions: i64 = sqlx::query_scalar(
            "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()",
        )
        .fetch_one(&mut connection)
        .await?;
        // A standby has no place in a log of its own; then the rest still counts.
        let wal_bytes: Option<i64> = sqlx::query_scalar(
            "SELECT CASE WHEN NOT pg_is_in_recovery()
                 THEN pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint END",
        )
        .fetch_one(&mut connection)
        .await?;
        // The view has other columns in some versions. Where the log is opened so that each write is
        // synced, no syncs are counted.
        let wal_flushes: Option<i64> = sqlx::query_scalar(
            "SELECT (to_jsonb(w) ->> CASE WHEN current_setting('wal_sync_method') LIKE 'open%'
                 THEN 'wal_write' ELSE 'wal_sync' END)::bigint FROM pg_stat_wal AS w",
        )
        .fetch_one(&mut connection)
        .await?;
        let tables: Vec<(String, i64, i64, i64, i64)> = sqlx::query_as(
            "SELECT relname::text, n_tup_ins, n_tup_upd, n_tup_hot_upd, n_tup_del
             FROM pg_stat_user_tables WHERE schemaname = 'public'",
        )
        .fetch_all(&mut connection)
        .await?;
        // All that was asked has been answered.
        let _ = connection.close().await;
        let number = |count: i64| u64::try_from(count).unwrap_or(0);
        let rows = tables.into_iter().map(|(table, ins, upd, hot, del)| {
            let rows = Rows {
                inserted: number(ins),
                updated: number(upd),
                updated_in_place: number(hot),
                deleted: number(del),
            };
            (table, rows)
        });
        Ok(Self {
            transactions: number(transactions),
            wal_bytes: wal_bytes.map(number),
            wal_flushes: wal_flushes.map(number),
            tables: rows.collect(),
        })
    }

    /// What the `tasks` that ran between `before` and this cost.
    pub fn costs_since(
        &self,
        before: &Self,
        messages: &BTreeMap<&'static str, Option<Messages>>,
        tasks: u64,
    ) -> Costs {
        let per_task = |number: u64| count(number) / count(tasks.max(1));
        let rows_by_table: BTreeMap<String, Rows<f64>> = self
            .tables
            .iter()
            .map(|(table, rows)| {
                let earlier = before.tables.get(table).copied().unwrap_or_default();
                (table.clone(), rows.since(earlier, per_task))
            })
            .filter(|(_, rows)| rows.total() > 0.0)
            .collect();
        let since = |now: Option<u64>, then: Option<u64>| {
            let both = now.zip(then);
            both.map(|(now, then)| per_task(now.saturating_sub(then)))
        };
        let published = messages.values().map(|of| of.map(|of| of.published));
        Costs {
            messages: messages
                .iter()
                .map(|(kind, of)| (*kind, of.map(|of| of.per(per_task))))
                .collect(),
            messages_per_task: published.sum::<Option<u64>>().map(per_task),
            rows_per_task: rows_by_table.values().map(Rows::total).sum(),
            rows_by_table,
            transactions_per_task: per_task(self.transactions.saturating_sub(before.transactions)),
            wal_bytes_per_task: since(self.wal_bytes, before.wal_bytes),
            wal_flushes_per_task: since(self.wal_flushes, before.wal_flushes),
        }
    }
}

impl Rows {
    fn since(self, before: Self, per_task: impl Fn(u64) -> f64) -> Rows<f64> {
        let since = |now: u64, then: u64| per_task(now.saturating_sub(then));
        Rows {
            inserted: since(self.inserted, before.inserted),
            updated: since(self.updated, before.updated),
            updated_in_place: since(self.updated_in_place, before.updated_in_place),
            deleted: since(self.deleted, before.deleted),
        }
    }
}

impl Rows<f64> {
    fn total(&self) -> f64 {
        self.inserted + self.updated + self.deleted
    }
}

impl Messages {
    /// Those of this process so far.
    pub fn own() -> Self {
        let traffic = traffic();
        Self {
            published: traffic.published,
            delivered: traffic.delivered,
        }
    }

    /// Those of this process since `before`: one process may make several runs.
    pub fn of_this_process(before: Self) -> Self {
        let now = Self::own();
        Self {
            published: now.published.saturating_sub(before.published),
            delivered: now.delivered.saturating_sub(before.delivered),
        }
    }

    fn per(self, per_task: impl Fn(u64) -> f64) -> Messages<f64> {
        Messages {
            published: per_task(self.published),
            delivered: per_task(self.delivered),
        }
    }
}

/// The messages of services that have stopped, from what they logged; `None` if there are none, one did
/// not say, or others, who tell us nothing, took part of their work.
pub fn messages_of(logs: &[impl AsRef<Path>], others: u32) -> Option<Messages> {
    let mut total = (!logs.is_empty() && others == 0).then(Messages::default)?;
    for log in logs {
        let text = std::fs::read_to_string(log).ok()?;
        let said = last_said(&text)?;
        total.published += said.published;
        total.delivered += said.delivered;
    }
    Some(total)
}

/// The line that a service writes when it has stopped.
fn last_said(log: &str) -> Option<Messages> {
    let line = log.lines().rev().find(|line| line.contains(" stopped "))?;
    let field = |name: &str| {
        let word = line
            .split_whitespace()
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        word?.parse().ok()
    };
    Some(Messages {
        published: field("published")?,
        delivered: field("delivered")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_service_says_at_its_end_is_read() {
        let log = "2026-11-24T10:00:00Z  INFO flotilla: draining\n\
                   2026-11-24T10:00:01Z  INFO flotilla: stopped published=12 delivered=30\n\
                   2026-11-24T10:00:01Z  INFO flotilla: bye\n";
        let said = Messages {
            published: 12,
            delivered: 30,
        };
        assert_eq!(last_said(log), Some(said));
        assert_eq!(last_said("stopped"), None);
        assert_eq!(last_said("INFO x: stopped published=1"), None);
    }

    #[test]
    fn messages_are_known_only_where_all_tell_them() {
        let folder = crate::session::Folder::create().unwrap();
        let log = folder.0.join("worker-0.log");
        std::fs::write(&log, "INFO x: stopped published=1 delivered=2").unwrap();
        let said = Messages {
            published: 1,
            delivered: 2,
        };
        assert_eq!(messages_of(&[&log], 0), Some(said));
        assert_eq!(messages_of(&[&log], 1), None);
        assert_eq!(messages_of(&[&log, &folder.0.join("none")], 0), None);
        assert_eq!(messages_of(&[] as &[&Path], 0), None);
    }

    #[test]
    fn costs_are_differences_by_task() {
        let rows = |inserted, updated| Rows {
            inserted,
            updated,
            updated_in_place: updated,
            deleted: 0,
        };
        let counters = |transactions, wal, table| Counters {
            transactions,
            wal_bytes: Some(wal),
            wal_flushes: None,
            tables: BTreeMap::from([
                ("workflow_task".to_owned(), table),
                ("idle".to_owned(), rows(7, 7)),
            ]),
        };
        let said = Messages {
            published: 20,
            delivered: 5,
        };
        let before = counters(10, 1000, rows(5, 5));
        let after = counters(20, 3000, rows(15, 25));
        let known = BTreeMap::from([("worker", Some(said)), ("loadtest", Some(said))]);
        let costs = after.costs_since(&before, &known, 10);
        let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
        assert!(near(costs.rows_per_task, 3.0), "{costs:?}");
        assert!(near(costs.transactions_per_task, 1.0), "{costs:?}");
        assert_eq!(costs.wal_bytes_per_task, Some(200.0));
        assert_eq!(costs.wal_flushes_per_task, None);
        assert_eq!(costs.messages_per_task, Some(4.0));
        assert_eq!(costs.rows_by_table.len(), 1);
        let unknown = BTreeMap::from([("worker", None), ("loadtest", Some(said))]);
        assert_eq!(
            after.costs_since(&before, &unknown, 10).messages_per_task,
            None
        );
    }
}
