//! What was asked of the store, in its order, so that the real server can be asked the same.

use std::cell::RefCell;

use chrono::{DateTime, Utc};
use flotilla_protocol::ExecutionId;
use flotilla_turn::LoadRequest;
use flotilla_turn::rows::{Commit, Epoch, PartitionNo};
use uuid::Uuid;

use super::Store;

/// Something that a coordinator asks of the database.
#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    /// Somebody adds a partition.
    AddPartition,
    /// It has started.
    Register(Uuid),
    /// It takes partitions, up to an even share.
    Take {
        /// Who.
        owner: Uuid,
        /// Seconds of its leases.
        lease_s: f64,
    },
    /// It gives partitions back.
    Release {
        /// Who.
        owner: Uuid,
        /// Those that it holds.
        held: Vec<(PartitionNo, Epoch)>,
        /// Whether it stops.
        resigns: bool,
    },
    /// It renews leases while it loads.
    Renew {
        /// Who.
        owner: Uuid,
        /// Those that it holds.
        held: Vec<(PartitionNo, Epoch)>,
        /// Seconds of its leases.
        lease_s: f64,
    },
    /// It commits a turn.
    Commit(Box<Commit>),
    /// It loads what a turn needs.
    Load(LoadRequest),
    /// It loads timers that are due in `from..until`.
    Timers {
        /// Of which partition.
        partition: PartitionNo,
        /// From this time on.
        from: DateTime<Utc>,
        /// Up to this time.
        until: DateTime<Utc>,
    },
    /// It looks for jobs that nobody has started.
    SilentJobs {
        /// Of these partitions.
        partitions: Vec<PartitionNo>,
        /// Dispatched more than so many seconds ago.
        resend_after_s: f64,
    },
    /// It asks for the partition of an execution.
    PartitionOf(ExecutionId),
    /// It marks a message as suspect.
    Mark {
        /// The message.
        key: String,
        /// Who.
        owner: Uuid,
        /// Seconds for which the owner of an older mark counts as living.
        lease_s: f64,
    },
    /// It takes a mark back.
    Clear {
        /// The message.
        key: String,
        /// Who.
        owner: Uuid,
    },
    /// It records a dead letter.
    DeadLetter {
        /// The message.
        key: String,
        /// Why.
        reason: String,
    },
}

/// A call, and the time at which it came.
pub type Recorded = (DateTime<Utc>, Call);

/// The calls so far, where somebody keeps them.
#[derive(Debug, Clone, Default)]
pub(super) struct Journal(Option<RefCell<Vec<Recorded>>>);

impl Store {
    /// Keeps all calls from now on.
    pub fn record(&mut self) {
        self.journal = Journal(Some(RefCell::default()));
    }

    /// The calls that were kept.
    #[must_use]
    pub fn recorded(&mut self) -> Vec<Recorded> {
        let kept = std::mem::take(&mut self.journal);
        kept.0.map(RefCell::into_inner).unwrap_or_default()
    }

    pub(super) fn keep(&self, call: impl FnOnce() -> Call) {
        if let Journal(Some(kept)) = &self.journal {
            kept.borrow_mut().push((self.now, call()));
        }
    }
}
