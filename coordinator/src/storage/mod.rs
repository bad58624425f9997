//! The database: the only Rust that contains SQL. It maps rows to tables and back and decides
//! nothing. Free functions on a connection; each is one statement, so that no transaction is open
//! across an await (`migrate` alone holds a lock, `take_partitions` commits before it reads, and
//! `load_history`, which no coordinator calls, reads several tables of one moment).
//!
//! ```text
//! turn ──Commit──► commit ──► commit_turn_v4 ──► CommitAnswer
//!      ◄─LoadedExecution── load ◄── rows
//! ```

mod actions;
pub mod check;
mod column;
mod commit;
mod commit_call;
mod connect;
mod coordinators;
mod dead_letters;
mod definitions;
mod error;
mod history;
mod listen;
mod live;
mod load;
mod load_items;
mod load_past;
mod load_rows;
mod messages;
mod migrate;
mod outbox;
mod partitions;
mod task_log;
mod view;
mod watch;

pub use actions::{load_actions, register_action};
pub use commit::commit;
pub(crate) use connect::within;
pub use connect::{
    STATEMENT_TIMEOUT_S, connect, connect_one, connect_read_only, connect_to_commit,
};
pub use coordinators::register_coordinator;
pub use dead_letters::{
    DeadLetter, Resolution, list_dead_letters, load_dead_letter, resolve_dead_letter,
};
pub use definitions::{
    REGISTERED_CHANNEL, StoredDefinition, find_definitions, load_definitions, load_starts,
    register_definition,
};
pub use error::{StorageError, chain};
pub use history::load_history;
pub use listen::{ask_listener, listen};
pub use live::{load_controls, load_silent_jobs, load_silent_pools, partition_of};
pub use load::load_executions;
pub use load_past::{WithPast, load_pasts, load_with_past};
pub use messages::{DeadLetterRow, clear_suspect, insert_dead_letter, mark_suspect};
pub use migrate::{DEFAULT_PARTITIONS, Migrated, migrate};
pub use partitions::{
    FREED_CHANNEL, Share, load_timers, release_partitions, renew_leases, take_partitions,
};
pub use task_log::{ReadUpTo, TaskLogRow, insert_task_log, read_task_log};
pub use view::{ListFilter, Shown, execution_status, list, show, summary};
pub use watch::{LiveExecution, LiveTask, NEWS_LIMIT, News, load_live, load_news, workflow_names};
