//! What others may see of the state: for checks that compare it with the rows.

use crate::Turns;
use crate::cache::Held;
use crate::machine::Phase;
use crate::rows::{Epoch, PartitionNo};

impl Turns {
    /// The partitions that are held.
    pub fn partitions(&self) -> impl Iterator<Item = PartitionNo> {
        self.partitions.keys().copied()
    }

    /// The epoch in which a partition is held.
    #[must_use]
    pub fn epoch(&self, partition: PartitionNo) -> Option<Epoch> {
        self.partitions.get(&partition).map(|held| held.epoch)
    }

    /// The executions in memory.
    pub fn executions(&self) -> impl Iterator<Item = &Held> {
        self.cache.iter()
    }

    /// Whether no turn is under way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Idle)
    }
}
