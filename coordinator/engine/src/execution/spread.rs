//! Tasks with items: a run of the task as a whole, and beside it a run for each item (or batch) that
//! is in flight.
//!
//! ```text
//! the list ──next──► runs of items, at most `concurrency` ──end──► results, failures ──► end of the whole
//! ```
//!
//! The run of the whole keeps the list and how far it has come; runs of items that have ended leave
//! only what the end of the whole needs. So neither an item's start nor its end costs more where
//! there are more items.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_protocol::RunNo;
use serde::{Deserialize, Serialize};

use crate::items::ItemList;
use crate::json::Json;
use crate::scope::{EndStatus, Ended};

/// Items of one task that are in flight at most, whatever its `concurrency`.
pub const MAX_ITEMS_IN_FLIGHT: u32 = 1_000;
/// Above so many items the list of their results is made only if an expression reads it.
pub const MOST_UNREAD_RESULTS: u32 = 10_000;
/// Bytes of the list of results of one task.
pub const MAX_RESULT_LIST_BYTES: usize = 8 * 1024 * 1024;
/// Failures that `error().items` lists at most, those of the lowest indexes.
pub const MAX_LISTED_FAILURES: usize = 1_000;
/// Bytes that the errors of that list take at most.
const MAX_LISTED_BYTES: usize = 512 * 1024;

/// Which item of which task a run is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item {
    /// The run of the task as a whole.
    pub of: RunNo,
    /// Position of the item, or of the batch, from 0.
    pub index: u32,
    /// Items in the batch; `None` where items are not batched.
    pub batch_size: Option<u32>,
}

/// The items of a run of a task, and how far it has come with them.
#[derive(Debug, Clone, PartialEq)]
pub struct Spread {
    /// The items.
    pub list: ItemList,
    /// How far it has come.
    pub progress: Progress,
    /// What the items that have ended left.
    pub ends: ItemEnds,
    /// Items that are not run, since they have succeeded before.
    pub kept: BTreeSet<u32>,
}

/// How far a task has come with its items. "Items" are batches where there are batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Items in all.
    pub count: u32,
    /// Items that one run takes; `None`: one, not in a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_size: Option<u32>,
    /// Items that may be in flight.
    pub concurrency: u32,
    /// Items that may fail while the task still succeeds.
    pub tolerated: u32,
    /// The first item that has no run yet.
    pub next: u32,
    /// Items in flight: their runs have not ended.
    pub active: u32,
    /// Items that have failed.
    pub failed: u32,
    /// Items that were told to stop, or kept from starting.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub cancelled: u32,
    /// Whether the list of results is made at the end.
    pub keeps_results: bool,
    /// Whether no others start.
    #[serde(default, skip_serializing_if = "is_false")]
    pub stopped: bool,
    /// Whether those in flight are told to stop, though the execution goes on.
    #[serde(default, skip_serializing_if = "is_false")]
    pub cancelling: bool,
    /// Whether it goes on although the execution has failed: it stood beside `fail`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub exempt: bool,
    /// The run that this one repeats, whose items that have succeeded are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_of: Option<RunNo>,
    /// Whether a timer is set that lets more of them start.
    #[serde(default, skip_serializing_if = "is_false")]
    pub put_off: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_false(value: &bool) -> bool {
    !*value
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Progress {
    /// Whether some items were kept from running, or from running to their end.
    pub(super) fn is_cut_off(&self) -> bool {
        self.next < self.count || self.cancelled > 0
    }

    /// Whether no run of an item is alive or will be.
    pub(super) fn is_over(&self) -> bool {
        self.active == 0 && (self.stopped || self.next >= self.count)
    }

    /// Whether another item may start.
    pub(super) fn has_room(&self) -> bool {
        !self.stopped && self.next < self.count && self.active < self.concurrency
    }

    /// Whether more have failed than are tolerated.
    pub(super) fn has_failed(&self) -> bool {
        self.failed > self.tolerated
    }

    /// How many items the run at `index` takes, where there are batches, of `items` in all.
    pub(super) fn batch(&self, index: u32, items: u32) -> Option<u32> {
        let size = self.batch_size?;
        Some(size.min(items.saturating_sub(index.saturating_mul(size))))
    }
}

/// What the runs of items that have ended left, of which the end of the whole is made.
#[derive(Debug, Clone, PartialEq)]
pub struct ItemEnds {
    results: Results,
    /// Errors of failed items; those of the lowest indexes.
    failures: BTreeMap<u32, Json>,
}

#[derive(Debug, Clone, PartialEq)]
enum Results {
    /// Nobody reads them.
    Unread,
    /// Those that are not null, and the bytes that they take.
    Kept(BTreeMap<u32, Json>, usize),
    /// They take too much.
    TooLarge,
}

impl ItemEnds {
    /// Nothing has ended; `keeps_results` is that of [`Progress`].
    #[must_use]
    pub fn new(keeps_results: bool) -> Self {
        Self {
            results: if keeps_results {
                Results::Kept(BTreeMap::new(), 0)
            } else {
                Results::Unread
            },
            failures: BTreeMap::new(),
        }
    }

    /// Takes in the end of an item: its result, null if there is none, and its error if it failed.
    /// The order in which ends come makes no difference.
    pub fn add(&mut self, index: u32, result: &Json, error: Option<&Json>) {
        if let Results::Kept(kept, bytes) = &mut self.results {
            *bytes += result.text().len() + 1;
            if *bytes > MAX_RESULT_LIST_BYTES {
                self.results = Results::TooLarge;
            } else if !result.is_null() {
                kept.insert(index, result.clone());
            }
        }
        if let Some(error) = error {
            self.failures.insert(index, error.clone());
            if self.failures.len() > MAX_LISTED_FAILURES {
                self.failures.pop_last();
            }
        }
    }

    /// The results take more than a list of them may: none are kept.
    pub fn lose_results(&mut self) {
        match &self.results {
            Results::Kept(_, _) => self.results = Results::TooLarge,
            Results::Unread | Results::TooLarge => {}
        }
    }

    /// The list of results, null where an item has none. Null as a whole if nobody reads it;
    /// `None` if it would be too large.
    pub(super) fn results(&self, count: u32) -> Option<Json> {
        let (kept, bytes) = match &self.results {
            Results::Unread => return Some(Json::null()),
            Results::TooLarge => return None,
            Results::Kept(kept, bytes) => (kept, *bytes),
        };
        let mut text = String::with_capacity(bytes + 5 * (count as usize + 1));
        text.push('[');
        for index in 0..count {
            text.push_str(if index > 0 { "," } else { "" });
            text.push_str(kept.get(&index).map_or("null", Json::text));
        }
        text.push(']');
        Json::parse(text).ok()
    }

    /// What `error().items` shows: index and error of each failure, as many as there is room for.
    pub(super) fn failures(&self) -> Vec<ItemFailure<'_>> {
        let mut bytes = 0;
        let listed = self.failures.iter().take_while(|(_, error)| {
            bytes += error.text().len();
            bytes <= MAX_LISTED_BYTES
        });
        listed
            .map(|(index, error)| ItemFailure {
                index: *index,
                error: error.raw(),
            })
            .collect()
    }
}

/// One entry of `error().items`.
#[derive(Serialize)]
pub(super) struct ItemFailure<'a> {
    index: u32,
    error: &'a serde_json::value::RawValue,
}

impl Spread {
    /// Moves on to the first item that is not kept.
    pub(super) fn pass_kept(&mut self) {
        while self.kept.contains(&self.progress.next) {
            self.progress.next += 1;
        }
    }

    /// Takes in the end of the run of an item.
    pub(super) fn note_end(&mut self, index: u32, ended: &Ended) {
        self.progress.active = self.progress.active.saturating_sub(1);
        let is_failed = match ended.status {
            EndStatus::Failed | EndStatus::TimedOut => true,
            EndStatus::Succeeded | EndStatus::Skipped => false,
            EndStatus::Cancelled | EndStatus::Omitted => {
                self.progress.cancelled += 1;
                false
            }
        };
        self.progress.failed += u32::from(is_failed);
        self.ends
            .add(index, &ended.result, is_failed.then_some(&ended.error));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Json {
        Json::parse(text.to_owned()).expect("JSON")
    }

    #[test]
    fn results_stand_in_the_order_of_the_items() {
        let mut ends = ItemEnds::new(true);
        ends.add(2, &json("\"c\""), None);
        ends.add(0, &json("1"), Some(&json("{}")));
        let list = ends.results(4).expect("it is small");
        assert_eq!(list.text(), r#"[1,null,"c",null]"#);
        let mut reversed = ItemEnds::new(true);
        reversed.add(0, &json("1"), Some(&json("{}")));
        reversed.add(2, &json("\"c\""), None);
        assert_eq!(ends, reversed);
    }

    #[test]
    fn results_that_nobody_reads_are_not_kept() {
        let mut ends = ItemEnds::new(false);
        ends.add(0, &json("1"), None);
        assert_eq!(ends, ItemEnds::new(false));
        assert_eq!(ends.results(1), Some(Json::null()));
    }

    #[test]
    fn results_that_take_too_much_are_let_go() {
        let large = Json::of(&"x".repeat(MAX_RESULT_LIST_BYTES / 2));
        let mut ends = ItemEnds::new(true);
        ends.add(0, &large, None);
        assert!(ends.results(2).is_some());
        ends.add(1, &large, None);
        assert_eq!(ends.results(2), None);
        assert_eq!(ends.results, Results::TooLarge);
    }

    #[test]
    fn failures_of_the_lowest_indexes_are_listed() {
        let mut ends = ItemEnds::new(false);
        let last = u32::try_from(MAX_LISTED_FAILURES).expect("a small number");
        for index in (0..=last).rev() {
            ends.add(index, &Json::null(), Some(&json("{}")));
        }
        let listed = ends.failures();
        assert_eq!(listed.len(), MAX_LISTED_FAILURES);
        assert_eq!(listed[0].index, 0);
    }

    #[test]
    fn a_share_that_is_not_whole_is_cut_off() {
        use crate::workflow::Tolerance;
        assert_eq!(Tolerance::Percent(10.0).of(19), 1);
        assert_eq!(Tolerance::Percent(100.0).of(7), 7);
        assert_eq!(Tolerance::Count(9).of(7), 7);
    }
}
