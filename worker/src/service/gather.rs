//! Completions on their way to their inboxes: what is ready while a confirm is under way is gathered
//! into one message.
//!
//! There is no timer. An idle lane sends at once; a busy one sends what has gathered as soon as the
//! confirm is in, so messages grow with the load and with the slowness of the broker.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use flotilla_protocol::names::MAX_MESSAGE_BYTES;

use super::held::JobKey;

/// The most completions in one message. A turn takes messages whole, and what one execution has of it is
/// to be bounded where others wait.
const MAX_COMPLETIONS: usize = 50;

/// Gathers completions by inbox.
#[derive(Debug, Default)]
pub(crate) struct Gatherer {
    lanes: BTreeMap<Arc<str>, Lane>,
}

#[derive(Debug, Default)]
struct Lane {
    waiting: VecDeque<(JobKey, Vec<u8>)>,
    /// How many of those that wait go out now. All that has gathered when the last confirm is in goes
    /// at once, and what comes later gathers again: a message sent meanwhile would be a small one, for
    /// no gain, since the inbox waits for the confirms before it.
    released: usize,
    /// Messages that wait for their confirm.
    in_flight: usize,
}

/// The completions of one message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    /// The inbox.
    pub(crate) reply_to: Arc<str>,
    /// Whose completions they are.
    pub(crate) keys: Vec<JobKey>,
    /// One object, or an array of them.
    pub(crate) body: Vec<u8>,
}

impl Gatherer {
    /// Adds a completion, written as JSON.
    pub(crate) fn push(&mut self, reply_to: &Arc<str>, key: JobKey, body: Vec<u8>) {
        // Looked up first: nearly always the lane is there and the name need not be cloned.
        match self.lanes.get_mut(reply_to) {
            Some(lane) => lane.waiting.push_back((key, body)),
            None => {
                let lane = self.lanes.entry(Arc::clone(reply_to)).or_default();
                lane.waiting.push_back((key, body));
            }
        }
    }

    /// The next message that may be sent now.
    pub(crate) fn next_batch(&mut self) -> Option<Batch> {
        let (reply_to, lane) = self.lanes.iter_mut().find(|(_, lane)| lane.may_send())?;
        if lane.in_flight == 0 {
            lane.released = lane.waiting.len();
        }
        lane.in_flight += 1;
        let (keys, body) = lane.take();
        Some(Batch {
            reply_to: Arc::clone(reply_to),
            keys,
            body,
        })
    }

    /// A message of this inbox is confirmed.
    pub(crate) fn confirmed(&mut self, reply_to: &str) {
        if let Some(lane) = self.lanes.get_mut(reply_to) {
            lane.in_flight = lane.in_flight.saturating_sub(1);
            if lane.in_flight == 0 && lane.waiting.is_empty() {
                self.lanes.remove(reply_to);
            }
        }
    }

    /// Whether every completion is confirmed.
    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }
}

impl Lane {
    fn may_send(&self) -> bool {
        self.released > 0 || (self.in_flight == 0 && !self.waiting.is_empty())
    }

    fn take(&mut self) -> (Vec<JobKey>, Vec<u8>) {
        let mut keys = Vec::new();
        let mut body = vec![b'['];
        while self.released > 0
            && let Some((key, completion)) = self.waiting.pop_front()
        {
            let is_full = keys.len() == MAX_COMPLETIONS
                || (!keys.is_empty() && body.len() + completion.len() > MAX_MESSAGE_BYTES);
            if is_full {
                self.waiting.push_front((key, completion));
                break;
            }
            self.released -= 1;
            if keys.is_empty() && self.released == 0 {
                return (vec![key], completion);
            }
            if !keys.is_empty() {
                body.push(b',');
            }
            keys.push(key);
            body.extend_from_slice(&completion);
        }
        body.push(b']');
        (keys, body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::held::tests::key;

    fn gatherer(completions: &[(&str, u128, &str)]) -> Gatherer {
        let mut gatherer = Gatherer::default();
        for &(inbox, id, body) in completions {
            gatherer.push(&inbox.into(), key(id), body.as_bytes().to_vec());
        }
        gatherer
    }

    fn text(batch: Option<Batch>) -> Option<String> {
        batch.map(|batch| String::from_utf8(batch.body).unwrap())
    }

    #[test]
    fn an_idle_lane_sends_one_object_at_once() {
        let mut gatherer = gatherer(&[("a", 1, "{}")]);
        let batch = gatherer.next_batch().unwrap();
        assert_eq!(batch.body, b"{}");
        assert_eq!(batch.keys, [key(1)]);
        assert_eq!(gatherer.next_batch(), None);
        gatherer.confirmed("a");
        assert!(gatherer.is_empty());
    }

    #[test]
    fn what_gathers_during_a_confirm_is_one_array() {
        let mut gatherer = gatherer(&[("a", 1, "{}")]);
        assert!(gatherer.next_batch().is_some());
        for id in 2..=4 {
            gatherer.push(&"a".into(), key(id), id.to_string().into_bytes());
        }
        assert_eq!(gatherer.next_batch(), None);
        gatherer.confirmed("a");
        assert_eq!(text(gatherer.next_batch()).as_deref(), Some("[2,3,4]"));
        assert!(!gatherer.is_empty());
    }

    #[test]
    fn inboxes_do_not_wait_for_each_other() {
        let mut gatherer = gatherer(&[("a", 1, "1"), ("b", 2, "2")]);
        assert_eq!(text(gatherer.next_batch()).as_deref(), Some("1"));
        assert_eq!(text(gatherer.next_batch()).as_deref(), Some("2"));
    }

    #[test]
    fn a_message_is_bounded_in_number_and_size() {
        let many: Vec<_> = (0..51).map(|id| ("a", id, "1")).collect();
        let mut gatherer = gatherer(&many);
        assert_eq!(gatherer.next_batch().unwrap().keys.len(), 50);
        assert_eq!(gatherer.next_batch().unwrap().keys.len(), 1);
        assert_eq!(gatherer.next_batch(), None);
    }

    #[test]
    fn what_comes_while_several_messages_are_in_flight_waits_for_all_of_them() {
        let many: Vec<_> = (0..60).map(|id| ("a", id, "1")).collect();
        let mut gatherer = gatherer(&many);
        assert_eq!(gatherer.next_batch().unwrap().keys.len(), 50);
        gatherer.push(&"a".into(), key(60), b"1".to_vec());
        assert_eq!(gatherer.next_batch().unwrap().keys.len(), 10);
        gatherer.confirmed("a");
        assert_eq!(gatherer.next_batch(), None);
        gatherer.confirmed("a");
        assert_eq!(gatherer.next_batch().unwrap().keys, [key(60)]);
    }

    #[test]
    fn a_large_completion_goes_alone() {
        let large = "1".repeat(MAX_MESSAGE_BYTES + 1);
        let mut gatherer = gatherer(&[("a", 1, &large), ("a", 2, "2"), ("a", 3, "3")]);
        assert_eq!(gatherer.next_batch().unwrap().keys, [key(1)]);
        assert_eq!(text(gatherer.next_batch()).as_deref(), Some("[2,3]"));
    }
}
