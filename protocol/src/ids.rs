//! The ids that cross process borders, as types of their own so that they cannot be mixed up.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Names one execution of a workflow; `UUIDv7` unless the user chose one of their own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ExecutionId(pub Uuid);

/// Names one run of a task within an execution; the same for all attempts of that run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskId(pub Uuid);

/// The number of a run of a task within its execution, from 1 in the order of creation.
pub type RunNo = u32;

impl TaskId {
    /// The id of run `run` of an execution that was created at `created_at`.
    ///
    /// The id has the layout of a `UUIDv7`: the time of the execution, bits that depend on the
    /// execution's id, and the run number in the last 32 bits. So an id leads to its row without an
    /// index, and a coordinator that resumes makes the same id again.
    #[must_use]
    pub fn derive(execution_id: ExecutionId, created_at: DateTime<Utc>, run: RunNo) -> Self {
        let millis = u64::try_from(created_at.timestamp_millis()).unwrap_or(0) & 0xffff_ffff_ffff;
        let mixed = mix(execution_id.0);
        let rand_a = mixed & 0xfff;
        let rand_b = (mixed >> 12) & 0x3fff_ffff;
        let high = (millis << 16) | 0x7000 | rand_a;
        let low = (0b10 << 62) | (rand_b << 32) | u64::from(run);
        Self(Uuid::from_u64_pair(high, low))
    }

    /// The run number that [`TaskId::derive`] put in. Only comparing with a derived id tells
    /// whether the id is one of ours at all.
    #[must_use]
    pub fn run(self) -> RunNo {
        let bytes = self.0.as_bytes();
        RunNo::from_be_bytes([bytes[12], bytes[13], bytes[14], bytes[15]])
    }
}

impl ExecutionId {
    /// The id of the execution that one attempt of a run is, where its task is a sub-workflow.
    ///
    /// As [`TaskId::derive`], it is of the layout of a `UUIDv7`: the time of the parent, and bits that
    /// depend on the run and the attempt.
    #[must_use]
    pub fn of_child(task_id: TaskId, attempt: u32) -> Self {
        let (high, low) = task_id.0.as_u64_pair();
        let mixed = mix(Uuid::from_u64_pair(high, low ^ (u64::from(attempt) << 32)));
        Self(Uuid::from_u64_pair(high, (0b10 << 62) | (mixed >> 2)))
    }
}

/// Folds an id to 64 bits that all depend on all of its bits (the finalizer of `SplitMix64`).
fn mix(id: Uuid) -> u64 {
    let (high, low) = id.as_u64_pair();
    let mut z = high ^ low.rotate_left(32);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

macro_rules! id_text {
    ($id:ident) => {
        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $id {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

id_text!(ExecutionId);
id_text!(TaskId);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(millis).expect("a valid time")
    }

    #[test]
    fn a_task_id_is_a_uuid_of_version_7_that_carries_its_run() {
        let execution_id = ExecutionId(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001));
        let id = TaskId::derive(execution_id, at(1_700_000_000_123), 4_000_000_000);
        assert_eq!(id.0.get_version_num(), 7);
        assert_eq!(id.0.get_variant(), uuid::Variant::RFC4122);
        assert_eq!(id.run(), 4_000_000_000);
    }

    #[test]
    fn the_id_of_a_child_is_a_uuid_of_version_7_of_its_own() {
        let execution_id = ExecutionId(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001));
        let mut ids = std::collections::BTreeSet::new();
        for run in 1..=1_000 {
            let task_id = TaskId::derive(execution_id, at(1_700_000_000_123), run);
            for attempt in 1..=10 {
                let id = ExecutionId::of_child(task_id, attempt);
                assert_eq!(id.0.get_version_num(), 7);
                assert_eq!(id.0.get_variant(), uuid::Variant::RFC4122);
                ids.insert(id);
            }
        }
        assert_eq!(ids.len(), 10_000);
    }

    #[test]
    fn task_ids_of_different_executions_differ() {
        let ids: std::collections::BTreeSet<_> = (0..10_000_u128)
            .map(|n| TaskId::derive(ExecutionId(Uuid::from_u128(n)), at(1), 1))
            .collect();
        assert_eq!(ids.len(), 10_000);
    }
}
