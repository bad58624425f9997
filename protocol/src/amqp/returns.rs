//! Which publishes were returned.
//!
//! The broker sends a returned message ahead of the confirm of the same publish. lapin hands the
//! oldest returned message to whichever confirm comes next, which may be that of another publish.
//! So each returned message is matched here with the publish it belongs to, by a key made of its
//! address and message id, and a publish that received a stranger's message waits until its own can
//! no longer be on the way.

/// What a publish and its returned message have in common.
pub(super) type Key = u64;

/// Returned messages and acknowledged publishes that have not met yet.
pub(super) struct Returns<T> {
    unmatched: Vec<Key>,
    undecided: Vec<Undecided<T>>,
    /// Number of [`Returns::end_settling`] calls so far.
    settlings: u64,
    /// Whether the current settling has seen a confirm without any message.
    saw_none: bool,
}

struct Undecided<T> {
    key: Key,
    publish: T,
    settling: u64,
}

/// How an acknowledged publish ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Confirmed,
    Returned,
}

impl<T> Returns<T> {
    pub(super) fn new() -> Self {
        Self {
            unmatched: Vec::new(),
            undecided: Vec::new(),
            settlings: 0,
            saw_none: false,
        }
    }

    /// Takes note of a returned message. Gives the publish that had been waiting for it, if any.
    pub(super) fn note(&mut self, key: Key) -> Option<T> {
        if let Some(at) = self.undecided.iter().position(|waiting| waiting.key == key) {
            return Some(self.undecided.swap_remove(at).publish);
        }
        self.unmatched.push(key);
        None
    }

    /// Decides an acknowledged publish, or keeps it until [`Returns::end_settling`] or
    /// [`Returns::note`] gives it back. To be called when the returned messages of all confirms up
    /// to and including this one have been noted. `had_message`: this confirm carried a message,
    /// its own or a stranger's.
    pub(super) fn decide(&mut self, key: Key, had_message: bool, publish: T) -> Option<(Fate, T)> {
        self.saw_none |= !had_message;
        if let Some(at) = self.unmatched.iter().position(|&returned| returned == key) {
            self.unmatched.swap_remove(at);
            return Some((Fate::Returned, publish));
        }
        if !had_message {
            return Some((Fate::Confirmed, publish));
        }
        let settling = self.settlings;
        self.undecided.push(Undecided {
            key,
            publish,
            settling,
        });
        None
    }

    /// Ends a settling; gives back those whose message can no longer be on the way, which means
    /// that there is none. A confirm without a message shows that none was waiting at that moment,
    /// and it came later than every confirm that was decided two settlings ago. With nothing left
    /// in flight, none can be waiting either.
    pub(super) fn end_settling(&mut self, nothing_in_flight: bool) -> Vec<T> {
        let now = self.settlings;
        let saw_none = std::mem::take(&mut self.saw_none);
        self.settlings += 1;
        if self.undecided.is_empty() || !(nothing_in_flight || saw_none) {
            return Vec::new();
        }
        self.undecided
            .extract_if(.., |waiting| {
                nothing_in_flight || waiting.settling + 2 <= now
            })
            .map(|confirmed| confirmed.publish)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_came_with_another_confirm_finds_its_publish() {
        let mut returns = Returns::new();
        // Publish 2 carries the message of publish 1, which carries none.
        assert!(returns.note(1).is_none());
        assert_eq!(
            returns.decide(1, false, "one"),
            Some((Fate::Returned, "one"))
        );
        assert_eq!(returns.decide(2, true, "two"), None);
        assert!(returns.end_settling(false).is_empty());
        assert_eq!(returns.end_settling(true), ["two"]);
    }

    #[test]
    fn a_message_that_comes_after_its_confirm_finds_its_publish() {
        let mut returns = Returns::new();
        returns.note(2);
        assert_eq!(returns.decide(1, true, "one"), None);
        assert!(returns.end_settling(false).is_empty());
        assert_eq!(returns.note(1), Some("one"));
        assert_eq!(
            returns.decide(2, true, "two"),
            Some((Fate::Returned, "two"))
        );
        assert!(returns.end_settling(true).is_empty());
    }

    #[test]
    fn a_later_confirm_without_a_message_clears_the_one_that_waits() {
        let mut returns = Returns::new();
        returns.note(9);
        assert_eq!(returns.decide(1, true, "one"), None);
        for key in 2..4 {
            assert!(returns.end_settling(false).is_empty());
            assert_eq!(
                returns.decide(key, false, "x"),
                Some((Fate::Confirmed, "x"))
            );
        }
        assert_eq!(returns.end_settling(false), ["one"]);
    }
}
