//! The jobs that wait for a place, and which of them begins next.
//!
//! A job that was delivered three times or more may be one that kills workers. The coordinator counts
//! the starts that are announced, and after `max_redeliveries` of them ends the task as
//! `worker_lost`. Jobs that were only fetched beside a killer, or ran beside it, come again as often as
//! the killer does; if all of them were announced again each time, they would reach that number with
//! it. So suspects take turns: the next is announced only when the one before is answered and so
//! cannot be lost any more. A killer's death then counts for the killer alone. Jobs that are not
//! suspect run beside the suspect one.

use std::collections::VecDeque;

use super::held::JobKey;

/// From how many earlier deliveries on a job is suspect.
const SUSPECT_DELIVERIES: u32 = 3;

/// What the deliveries of a job say about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It was not delivered before.
    New,
    /// It was delivered before, and its start is to be announced.
    Redelivered,
    /// It was delivered so often that it may have killed workers.
    Suspect,
}

/// The jobs that wait for a place.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    usual: VecDeque<(JobKey, Standing)>,
    suspects: VecDeque<JobKey>,
    /// The suspect whose turn it is, from its announcement until it is answered.
    turn: Option<JobKey>,
}

impl Standing {
    /// What a number of earlier deliveries means.
    pub(crate) fn of(delivery_count: u32) -> Self {
        match delivery_count {
            0 => Self::New,
            1..SUSPECT_DELIVERIES => Self::Redelivered,
            SUSPECT_DELIVERIES.. => Self::Suspect,
        }
    }
}

impl Backlog {
    pub(crate) fn push(&mut self, key: JobKey, standing: Standing) {
        match standing {
            Standing::New | Standing::Redelivered => self.usual.push_back((key, standing)),
            Standing::Suspect => self.suspects.push_back(key),
        }
    }

    /// The job that shall begin next. A suspect goes first where it is one's turn: others may come
    /// for ever, and it has waited longest.
    pub(crate) fn next(&mut self) -> Option<(JobKey, Standing)> {
        if self.turn.is_none()
            && let Some(key) = self.suspects.pop_front()
        {
            self.turn = Some(key);
            return Some((key, Standing::Suspect));
        }
        self.usual.pop_front()
    }

    /// Whether it is this suspect's turn.
    pub(crate) fn is_suspect(&self, key: JobKey) -> bool {
        self.turn == Some(key)
    }

    /// A job is answered, or did not begin after all.
    pub(crate) fn answered(&mut self, key: JobKey) {
        if self.turn == Some(key) {
            self.turn = None;
        }
    }

    /// All that wait will be delivered anew; a suspect that runs goes on.
    pub(crate) fn session_lost(&mut self, is_held: impl Fn(JobKey) -> bool) {
        self.usual.clear();
        self.suspects.clear();
        self.turn = self.turn.filter(|&key| is_held(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::held::tests::key;

    fn backlog(delivery_counts: &[u32]) -> Backlog {
        let mut backlog = Backlog::default();
        for (id, &count) in (1..).zip(delivery_counts) {
            backlog.push(key(id), Standing::of(count));
        }
        backlog
    }

    #[test]
    fn suspects_take_turns_and_others_run_beside_them() {
        let mut backlog = backlog(&[0, 3, 4, 2]);
        assert_eq!(backlog.next(), Some((key(2), Standing::Suspect)));
        assert_eq!(backlog.next(), Some((key(1), Standing::New)));
        assert_eq!(backlog.next(), Some((key(4), Standing::Redelivered)));
        assert_eq!(backlog.next(), None);
        backlog.answered(key(1));
        assert_eq!(backlog.next(), None);
        backlog.answered(key(2));
        assert_eq!(backlog.next(), Some((key(3), Standing::Suspect)));
    }

    #[test]
    fn a_lost_session_ends_the_turn_of_a_suspect_that_has_not_begun() {
        let mut backlog = backlog(&[3]);
        assert!(backlog.next().is_some());
        backlog.session_lost(|_| false);
        backlog.push(key(1), Standing::Suspect);
        assert_eq!(backlog.next(), Some((key(1), Standing::Suspect)));
        backlog.session_lost(|held| held == key(1));
        backlog.push(key(2), Standing::Suspect);
        assert_eq!(backlog.next(), None);
    }
}
