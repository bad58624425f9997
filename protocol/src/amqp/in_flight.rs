//! The publishes that wait for their confirms, in the order in which they were sent.

use std::collections::VecDeque;
use std::time::Duration;

use super::reply::Reply;
use super::returns::Key;

pub(super) struct Pending {
    pub(super) reply: Reply,
    pub(super) key: Key,
    /// When it was sent, on a clock that stands still while the connection is blocked.
    sent_at: Duration,
}

/// A window over consecutive numbers: adding, finding and removing take constant time.
#[derive(Default)]
pub(super) struct InFlight {
    first: u64,
    window: VecDeque<Option<Pending>>,
    pending: usize,
}

impl InFlight {
    pub(super) fn len(&self) -> usize {
        self.pending
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pending == 0
    }

    /// Adds a publish and returns its number.
    pub(super) fn add(&mut self, reply: Reply, key: Key, sent_at: Duration) -> u64 {
        self.window.push_back(Some(Pending {
            reply,
            key,
            sent_at,
        }));
        self.pending += 1;
        self.first + self.window.len() as u64 - 1
    }

    /// Removes a publish; `None` if it has been given up before.
    pub(super) fn take(&mut self, number: u64) -> Option<Pending> {
        let at = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let pending = self.window.get_mut(at)?.take()?;
        self.pending -= 1;
        self.trim();
        Some(pending)
    }

    /// Gives up what was sent before `limit`; returns how many these were.
    pub(super) fn give_up_before(&mut self, limit: Duration) -> usize {
        let before = self.pending;
        for slot in &mut self.window {
            match slot {
                Some(pending) if pending.sent_at < limit => {
                    *slot = None;
                    self.pending -= 1;
                }
                Some(_) => break,
                None => {}
            }
        }
        self.trim();
        before - self.pending
    }

    fn trim(&mut self) {
        while matches!(self.window.front(), Some(None)) {
            self.window.pop_front();
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn publishes_are_found_by_number_until_taken_or_given_up() {
        let mut in_flight = InFlight::default();
        let numbers: Vec<u64> = (0..4)
            .map(|n| in_flight.add(Reply::one(oneshot::channel().0), n, Duration::from_secs(n)))
            .collect();
        assert_eq!(
            in_flight.take(numbers[1]).map(|pending| pending.key),
            Some(1)
        );
        assert!(in_flight.take(numbers[1]).is_none());
        assert_eq!(in_flight.give_up_before(Duration::from_secs(3)), 2);
        assert!(in_flight.take(numbers[0]).is_none());
        assert_eq!(
            in_flight.take(numbers[3]).map(|pending| pending.key),
            Some(3)
        );
        assert!(in_flight.is_empty());
    }
}
