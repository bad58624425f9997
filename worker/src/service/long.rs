//! Jobs that run long: acknowledged before they end, and kept alive by heartbeats; as are those whose
//! task says how long they may be silent.
//!
//! The broker waits for an acknowledgement for half an hour, and then closes the whole channel. So a
//! job that runs for a while is announced as acknowledged; once that announcement is confirmed, the
//! job is acknowledged, and from then on the coordinator waits for heartbeats in the broker's place.

use std::time::Duration;

use tokio::time::Instant;

use super::Service;
use super::held::{JobKey, Phase};
use crate::pulse::Pulse;

/// Heartbeats within the silence that means the worker's death: two may be lost.
const BEATS: u32 = 3;

impl Service {
    /// Whether a job may have to be acknowledged before its start is told.
    pub(super) fn acknowledges_before_telling(&self) -> bool {
        self.options.acknowledge_after <= self.options.started_after
    }

    /// A job has run for a while and may run on; of short ones nothing is kept. The broker counts from
    /// its delivery.
    pub(super) fn watch(&mut self, key: JobKey) {
        if let Some(held) = self.held.find(key) {
            let due = held.delivered_at + self.options.acknowledge_after;
            self.long.insert((due, key));
        }
    }

    /// When the next long job is to be announced, or the next heartbeat sent; forgets the jobs that
    /// have ended meanwhile.
    pub(super) fn next_long(&mut self) -> Option<Instant> {
        while let Some((_, key)) = self.long.first()
            && self.held.pulse(*key).is_none()
        {
            self.long.pop_first();
        }
        while let Some((_, key, _)) = self.beating.first()
            && self.held.pulse(*key).is_none()
        {
            self.beating.pop_first();
        }
        let long = self.long.first().map(|(due, _)| *due);
        let beat = self.beating.first().map(|(due, ..)| *due);
        long.into_iter().chain(beat).min()
    }

    pub(super) fn tend_long(&mut self, now: Instant) {
        while let Some((due, key)) = self.long.first().copied()
            && due <= now
        {
            self.long.pop_first();
            self.announce_acknowledgement(key);
        }
        while let Some((due, key, pause)) = self.beating.first().copied()
            && due <= now
        {
            self.beating.pop_first();
            if let Some(pulse) = self.held.pulse(key) {
                pulse.beat();
                self.beating.insert((now + pause, key, pause));
            }
        }
    }

    /// Heartbeats of a job begin, so many that its silence is never as long as this.
    pub(super) fn keep_alive(&mut self, key: JobKey, silence: Duration) {
        let pause = silence / BEATS;
        self.beating.insert((Instant::now() + pause, key, pause));
    }

    /// Tells that a job that runs is about to be acknowledged.
    pub(super) fn announce_acknowledgement(&mut self, key: JobKey) {
        let silence = self.options.heartbeat;
        if let Some(held) = self.held.find(key)
            && let Phase::Running { pulse, .. } = &held.phase
        {
            let started = pulse.acknowledgement(silence);
            self.outbound.acknowledgement(&held.reply_to, key, &started);
        }
    }

    /// The announcement is confirmed. A job that has ended meanwhile is acknowledged with its
    /// completion, as any other.
    pub(super) fn acknowledgement_told(&mut self, key: JobKey) {
        let Some(held) = self.held.find(key) else {
            return;
        };
        if !matches!(held.phase, Phase::Running { .. }) {
            return;
        }
        let is_new = !std::mem::replace(&mut held.is_acknowledged, true);
        for receipt in std::mem::take(&mut held.receipts) {
            self.done(receipt, None);
        }
        // Where the task itself says how long it may be silent, that counts, and heartbeats come.
        let is_beating = self.beating.iter().any(|(_, beating, _)| *beating == key);
        if is_new && !is_beating {
            self.keep_alive(key, self.options.heartbeat);
        }
    }
}

impl super::held::HeldJobs {
    /// The signs of life of a job, if it runs.
    fn pulse(&self, key: JobKey) -> Option<Pulse> {
        match &self.look(key)?.phase {
            Phase::Running { pulse, .. } => Some(pulse.clone()),
            Phase::Waiting(_) | Phase::Announcing(_) | Phase::Ended => None,
        }
    }
}
