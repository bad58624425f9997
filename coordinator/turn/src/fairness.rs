//! How much of a turn one execution may have.
//!
//! Large turns are cheap and slow. An execution that keeps hundreds of jobs in flight fills every turn,
//! and with it every queue behind the turn: another execution's single job then waits at each step for
//! hundreds that are not its own. So where several executions are active, each has a bounded part of a
//! turn, and what goes beyond it waits here, where it is in nobody's way.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use flotilla_protocol::ExecutionId;
use flotilla_protocol::decode::InboxMessage;

use crate::message::Message;

/// Completions of one execution that a turn takes where others are active. One message may exceed it.
const SHARE: usize = 32;
/// For how long an execution counts as active, in milliseconds.
const ACTIVE_MS: i64 = 1_000;

/// Whether several executions are active.
#[derive(Debug)]
pub(crate) struct Crowd {
    last: Option<ExecutionId>,
    until: DateTime<Utc>,
}

/// What a turn has taken of each execution.
#[derive(Debug)]
pub(crate) struct Shares {
    taken: HashMap<ExecutionId, usize>,
    limit: usize,
}

impl Crowd {
    pub fn new(now: DateTime<Utc>) -> Self {
        let last = None;
        Self { last, until: now }
    }

    /// An execution is active.
    pub fn see(&mut self, execution: ExecutionId, now: DateTime<Utc>) {
        if self.last.replace(execution) != Some(execution) {
            self.until = now + TimeDelta::milliseconds(ACTIVE_MS);
        }
    }

    /// What bounds each execution: `bound` where several are active, and nothing where one is alone.
    pub fn limit(&self, bound: usize, now: DateTime<Utc>) -> usize {
        if now < self.until { bound } else { usize::MAX }
    }

    /// What each may have of a turn.
    pub fn shares(&self, now: DateTime<Utc>) -> Shares {
        Shares {
            taken: HashMap::new(),
            limit: self.limit(SHARE, now),
        }
    }
}

impl Shares {
    /// Takes a message, unless an execution that it speaks of has had its share.
    pub fn take(&mut self, message: &Message, crowd: &mut Crowd, now: DateTime<Utc>) -> bool {
        let Message::Inbox(InboxMessage::Completed(list)) = message else {
            return true;
        };
        let is_over = |execution| self.taken.get(execution) >= Some(&self.limit);
        if list
            .iter()
            .any(|completed| is_over(&completed.execution_id))
        {
            return false;
        }
        for completed in list {
            crowd.see(completed.execution_id, now);
            *self.taken.entry(completed.execution_id).or_default() += 1;
        }
        true
    }
}
