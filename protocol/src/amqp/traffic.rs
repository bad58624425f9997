//! How many messages this process has sent and got: what a task costs the broker.

use std::sync::atomic::{AtomicU64, Ordering};

static PUBLISHED: AtomicU64 = AtomicU64::new(0);
static DELIVERED: AtomicU64 = AtomicU64::new(0);

/// Messages of this process, over all connections and since it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    /// Handed to the broker, each time that it was.
    pub published: u64,
    /// Delivered to a consumer, each time that it was.
    pub delivered: u64,
}

/// The messages of this process until now.
#[must_use]
pub fn traffic() -> Traffic {
    // Nothing is ordered by these counters.
    Traffic {
        published: PUBLISHED.load(Ordering::Relaxed),
        delivered: DELIVERED.load(Ordering::Relaxed),
    }
}

pub(super) fn count_published() {
    PUBLISHED.fetch_add(1, Ordering::Relaxed);
}

pub(super) fn count_delivered() {
    DELIVERED.fetch_add(1, Ordering::Relaxed);
}
