//! What must hold of the rows of any fleet at any time, whatever has happened to its processes: the
//! invariants, each one statement and so one snapshot, and the check that looks at them. The fold
//! alone is more than a statement: it reads all of an execution at one moment.
//!
//! ```text
//! executions, in chunks by creation ──► log, attempts, executions, families, runs, variables, waits, refold
//! small tables as a whole           ──► fleet
//! large tables along their keys     ──► orphans
//! ```
//!
//! It only reads, and is meant for fleets that live: an invariant holds in every snapshot, since a
//! turn is one statement. Those that speak of time allow for what is late and for clocks that are
//! set. Memory and load are bounded: a chunk of executions, one statement at a time, a number of
//! findings for each invariant.

mod attempts;
mod executions;
mod families;
mod fleet;
mod items;
mod log;
mod orphans;
mod refold;
mod runs;
mod variables;
mod waits;
mod walk;

use std::time::Duration;

use chrono::{DateTime, Utc};
use flotilla_protocol::ExecutionId;
use serde::Serialize;
use sqlx::PgConnection;

use super::StorageError;
use refold::Workflows;
use walk::Check;

/// Something that must hold.
#[derive(Debug, Clone, Copy)]
pub struct Invariant {
    /// Names it, for scripts.
    pub name: &'static str,
    /// One sentence that says what must hold.
    pub rule: &'static str,
    query: Query,
}

/// How it is looked at. A row of a query is a violation: the execution, and what is wrong.
#[derive(Debug, Clone, Copy)]
enum Query {
    /// For the executions of `$1`.
    Executions(&'static str),
    /// Once.
    Fleet(&'static str),
    /// For each execution that a table has rows of.
    Walk(&'static str),
    /// By the engine, execution by execution.
    Fold,
}

/// Which executions are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// All.
    Ever,
    /// Those that were created at this time or later.
    Time(DateTime<Utc>),
    /// Those that were created so long ago or later, by the clock of the database.
    Ago(Duration),
}

/// A violation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The invariant that does not hold.
    pub invariant: &'static str,
    /// The execution that it does not hold for; `None` if it is about none.
    pub execution_id: Option<ExecutionId>,
    /// What is wrong.
    pub detail: String,
}

/// What a check has seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checked {
    /// The violations.
    pub findings: Vec<Finding>,
    /// How many executions were looked at.
    pub executions: u64,
    /// What was left out, for people.
    pub notes: Vec<String>,
}

/// All invariants.
pub fn invariants() -> impl Iterator<Item = &'static Invariant> {
    let groups = [
        log::INVARIANTS,
        attempts::INVARIANTS,
        executions::INVARIANTS,
        families::INVARIANTS,
        runs::INVARIANTS,
        items::INVARIANTS,
        variables::INVARIANTS,
        waits::INVARIANTS,
        fleet::INVARIANTS,
        orphans::INVARIANTS,
        refold::INVARIANTS,
    ];
    groups.into_iter().flatten()
}

/// Looks at all invariants. The connection is to be one of
/// [`connect_read_only`](super::connect_read_only), which has the limits for it.
///
/// # Errors
///
/// When the database fails, or a statement takes too long.
pub async fn check(conn: &mut PgConnection, since: Since) -> Result<Checked, StorageError> {
    look(conn, since, true).await
}

/// The same without the fold: statements alone, also within a transaction of the caller.
///
/// # Errors
///
/// When the database fails, or a statement takes too long.
pub async fn check_statements(
    conn: &mut PgConnection,
    since: Since,
) -> Result<Checked, StorageError> {
    look(conn, since, false).await
}

async fn look(conn: &mut PgConnection, since: Since, folds: bool) -> Result<Checked, StorageError> {
    let mut check = Check::begin(conn, since).await?;
    let mut workflows = Workflows::default();
    let mut last = None;
    loop {
        let chunk = check.next_chunk(last).await?;
        if chunk.last.is_none() {
            break;
        }
        let ids = chunk.ids();
        for invariant in invariants() {
            check.executions(invariant, &ids).await?;
        }
        if folds {
            check.fold(&mut workflows, &chunk).await?;
        }
        last = chunk.last;
    }
    for invariant in invariants() {
        check.fleet(invariant).await?;
        check.walk(invariant).await?;
    }
    Ok(check.checked)
}
