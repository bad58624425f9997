//! Which deliveries of one channel can be acknowledged, in as few messages as possible.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::held::JobKey;

/// How long an acknowledgement waits for others. The broker writes each to its disk, and the completion
/// that was just published should not wait for that. If the worker dies meanwhile, the job comes again,
/// and the coordinator knows that its second completion is one; if only the connection does, the worker
/// knows the job.
const WAIT: Duration = Duration::from_millis(5);
/// One in so many of the deliveries fetched may wait to be acknowledged; more are never held back, so
/// that the broker has others to deliver.
const WAITING_SHARE: u16 = 4;

/// One acknowledgement to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ack {
    /// The delivery.
    pub(crate) tag: u64,
    /// Whether all deliveries before it are meant too.
    pub(crate) multiple: bool,
}

/// The deliveries of one channel that are not acknowledged yet.
///
/// `multiple` is only used where every delivery before is done too; a delivery that is done while an
/// earlier one still runs is acknowledged alone, since a long job must not hold back the others.
#[derive(Debug)]
pub(crate) struct AckTracker {
    /// In the order of delivery, with whether the work is done.
    open: VecDeque<Open>,
    /// Done since the last call of [`AckTracker::take`], with the job that was answered, if it is known.
    done: BTreeMap<u64, Option<JobKey>>,
    /// To be rejected, since the last call of [`AckTracker::take_refused`].
    refused: Vec<u64>,
    /// Jobs whose acknowledgement was taken and is not known to be written.
    taken: Vec<JobKey>,
    /// When what is done is acknowledged at the latest.
    due: Option<Instant>,
    /// How many that are done do not wait.
    many: usize,
}

#[derive(Debug)]
struct Open {
    tag: u64,
    /// Jobs of it that are not done.
    left: usize,
    acknowledged: bool,
}

impl AckTracker {
    /// Of a channel for which the broker delivers at most `prefetch` that are not acknowledged.
    pub(crate) fn new(prefetch: u16) -> Self {
        Self {
            open: VecDeque::new(),
            done: BTreeMap::new(),
            refused: Vec::new(),
            taken: Vec::new(),
            due: None,
            many: usize::from((prefetch / WAITING_SHARE).max(1)),
        }
    }

    /// A delivery of so many jobs has come; the broker numbers them upwards.
    pub(crate) fn delivered(&mut self, tag: u64, jobs: usize) {
        self.open.push_back(Open {
            tag,
            left: jobs,
            acknowledged: false,
        });
    }

    /// A delivery is to be rejected, at once. Until then no acknowledgement covers it.
    pub(crate) fn refuse(&mut self, tag: u64) {
        self.refused.push(tag);
        self.due = Some(Instant::now());
    }

    /// Takes the deliveries to reject, before what is acknowledged is taken.
    pub(crate) fn take_refused(&mut self) -> Vec<u64> {
        let refused = std::mem::take(&mut self.refused);
        for open in &mut self.open {
            open.acknowledged |= refused.contains(&open.tag);
        }
        refused
    }

    /// A job of a delivery is done, and its completion is safe; or there is no answer to it that the
    /// worker would know again, as of a job that runs on: then the acknowledgement does not wait. A
    /// bundle is acknowledged once all of its jobs are done.
    pub(crate) fn done(&mut self, tag: u64, job: Option<JobKey>) {
        if let Ok(at) = self.open.binary_search_by_key(&tag, |open| open.tag) {
            let left = &mut self.open[at].left;
            *left = left.saturating_sub(1);
            if *left > 0 {
                return;
            }
        }
        if job.is_none() {
            self.due = Some(Instant::now());
        } else {
            self.due.get_or_insert_with(|| Instant::now() + WAIT);
        }
        self.done.insert(tag, job);
    }

    /// When to [`AckTracker::take`] at the latest.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether to [`AckTracker::take`] now.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.done.len() >= self.many || self.due.is_some_and(|due| due <= now)
    }

    /// The jobs that are done and not acknowledged.
    pub(crate) fn owed(&self) -> impl Iterator<Item = JobKey> {
        self.taken
            .iter()
            .chain(self.done.values().flatten())
            .copied()
    }

    /// Whether no delivery is left to acknowledge.
    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Takes the acknowledgements that are due. Their jobs are owed until [`AckTracker::written`].
    pub(crate) fn take(&mut self) -> Vec<Ack> {
        self.due = None;
        self.taken.extend(self.done.values().flatten());
        let mut acks = Vec::new();
        acks.extend(self.take_prefix());
        for tag in std::mem::take(&mut self.done).into_keys() {
            if let Ok(at) = self.open.binary_search_by_key(&tag, |open| open.tag) {
                self.open[at].acknowledged = true;
                acks.push(Ack {
                    tag,
                    multiple: false,
                });
            }
        }
        acks
    }

    /// All acknowledgements that were taken are written.
    pub(crate) fn written(&mut self) {
        self.taken.clear();
    }

    /// Takes off the deliveries before which nothing is open; one acknowledgement covers them all.
    fn take_prefix(&mut self) -> Option<Ack> {
        let mut last = None;
        let mut covered = 0;
        while let Some(open) = self.open.front() {
            if !open.acknowledged && self.done.remove(&open.tag).is_none() {
                break;
            }
            // The broker refuses a tag that it does not wait for, even with `multiple`.
            if !open.acknowledged {
                last = Some(open.tag);
                covered += 1;
            }
            self.open.pop_front();
        }
        last.map(|tag| Ack {
            tag,
            multiple: covered > 1,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::key;

    fn tracker(deliveries: u64, done: &[u64]) -> AckTracker {
        let mut tracker = AckTracker::new(64);
        (1..=deliveries).for_each(|tag| tracker.delivered(tag, 1));
        done.iter().for_each(|&tag| tracker.done(tag, None));
        tracker
    }

    fn one(tag: u64) -> Ack {
        Ack {
            tag,
            multiple: false,
        }
    }

    fn all_up_to(tag: u64) -> Ack {
        Ack {
            tag,
            multiple: true,
        }
    }

    #[test]
    fn a_prefix_is_one_acknowledgement() {
        let mut tracker = tracker(3, &[2, 1, 3]);
        assert!(!tracker.is_empty());
        assert_eq!(tracker.take(), [all_up_to(3)]);
        assert_eq!(tracker.take(), []);
        assert!(tracker.is_empty());
    }

    #[test]
    fn what_is_done_behind_a_running_job_is_acknowledged_alone() {
        let mut tracker = tracker(4, &[1, 3, 4]);
        assert_eq!(tracker.take(), [one(1), one(3), one(4)]);
        tracker.done(2, None);
        assert_eq!(tracker.take(), [one(2)]);
    }

    #[test]
    fn an_acknowledged_tag_is_never_named_again() {
        let mut tracker = tracker(3, &[3]);
        assert_eq!(tracker.take(), [one(3)]);
        tracker.done(1, None);
        tracker.done(2, None);
        assert_eq!(tracker.take(), [all_up_to(2)]);
    }

    #[test]
    fn what_is_done_waits_for_others_but_not_longer_than_the_first_may() {
        let mut tracker = tracker(3, &[]);
        assert_eq!(tracker.due(), None);
        assert!(!tracker.is_due(Instant::now()), "nothing is done");
        tracker.done(1, Some(key(1)));
        let due = tracker.due().expect("something is done");
        tracker.done(2, Some(key(2)));
        assert_eq!(tracker.due(), Some(due));
        assert!(!tracker.is_due(due - Duration::from_nanos(1)));
        assert!(tracker.is_due(due));
        assert_eq!(tracker.take(), [all_up_to(2)]);
        assert_eq!(tracker.due(), None);
        assert!(!tracker.is_due(due));
    }

    #[test]
    fn a_bundle_is_acknowledged_with_the_last_of_its_jobs() {
        let mut tracker = AckTracker::new(64);
        tracker.delivered(1, 3);
        tracker.delivered(2, 1);
        tracker.done(1, Some(key(1)));
        tracker.done(1, None);
        assert_eq!(tracker.due(), None);
        tracker.done(2, Some(key(2)));
        assert_eq!(tracker.take(), [one(2)]);
        tracker.done(1, Some(key(3)));
        assert!(tracker.due().is_some());
        assert_eq!(tracker.take(), [one(1)]);
        assert!(tracker.is_empty());
    }

    #[test]
    fn what_is_refused_is_rejected_at_once_and_never_acknowledged() {
        let mut tracker = AckTracker::new(64);
        tracker.delivered(1, 1);
        tracker.delivered(2, 1);
        tracker.refuse(2);
        tracker.delivered(3, 1);
        tracker.done(3, Some(key(3)));
        tracker.done(1, Some(key(1)));
        assert!(tracker.is_due(Instant::now()));
        assert_eq!(tracker.take(), [one(1), one(3)], "it is still open");
        assert_eq!(tracker.take_refused(), [2]);
        tracker.delivered(4, 1);
        tracker.done(4, None);
        assert_eq!(tracker.take(), [one(4)]);
        assert!(tracker.is_empty());
        assert!(tracker.take_refused().is_empty());
    }

    #[test]
    fn what_has_no_answer_does_not_wait() {
        let mut tracker = tracker(2, &[]);
        tracker.done(1, Some(key(1)));
        tracker.done(2, None);
        assert!(tracker.is_due(Instant::now()));
    }

    #[test]
    fn jobs_are_owed_from_their_answer_to_their_acknowledgement() {
        let mut tracker = tracker(3, &[1]);
        assert_eq!(tracker.owed().count(), 0, "nobody knows what it was");
        tracker.done(2, Some(key(2)));
        tracker.done(3, Some(key(3)));
        assert!(tracker.owed().eq([key(2), key(3)]));
        assert_eq!(tracker.take(), [all_up_to(3)]);
        assert!(tracker.owed().eq([key(2), key(3)]), "nothing is written");
        tracker.written();
        assert_eq!(tracker.owed().count(), 0);
    }

    #[test]
    fn many_that_are_done_do_not_wait() {
        let now = Instant::now();
        for (prefetch, many) in [(1, 1), (7, 1), (8, 2), (128, 32)] {
            let mut tracker = AckTracker::new(prefetch);
            (1..=many).for_each(|tag| tracker.delivered(tag, 1));
            (1..many).for_each(|tag| tracker.done(tag, None));
            assert!(!tracker.is_due(now), "{prefetch}");
            tracker.done(many, None);
            assert!(tracker.is_due(now), "{prefetch}");
        }
    }

    #[test]
    fn unknown_and_repeated_tags_are_no_acknowledgements() {
        let mut tracker = tracker(1, &[1, 1, 7]);
        assert_eq!(tracker.take(), [one(1)]);
        tracker.done(1, None);
        assert_eq!(tracker.take(), []);
    }
}
