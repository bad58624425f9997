//! What goes wrong with processes, channels and queues.

use flotilla_turn::message::ChannelId;
use flotilla_turn::{Destination, Input};

use crate::broker::ChannelNo;
use crate::coverage::Happening;
use crate::message::{AttemptKey, Body};
use crate::random::Random;
use crate::world::{LateCommit, World};

/// Partitions that there are at most.
const MAX_PARTITIONS: usize = 4;

/// A little more than a lease.
const OVER_A_LEASE_US: i64 = 3_100_000;

impl World {
    /// Something goes wrong.
    pub fn fault_step(&mut self, random: &mut Random) -> bool {
        let place = random.below(self.coordinators.len());
        let worker = random.below(self.workers.len());
        match random.below(18) {
            0 | 1 => self.crash_coordinator(place, random),
            2 | 3 => self.pause_coordinator(place, random),
            4 | 5 => self.start_somewhere(place),
            6 => self.stop_coordinator(place, random),
            7 | 8 => self.lose_channel(place, random, false),
            9 => self.lose_channel(place, random, true),
            10 => self.lose_connection(place, random),
            11 => {
                self.crash_worker(worker);
                true
            }
            12 => self.pause_worker(worker, random),
            13 => self.toggle_alarm(),
            14 => self.client_leaves(random),
            15 => self.lose_inbox(random),
            16 => self.add_partition(),
            _ => self.lose_pool(random),
        }
    }

    fn start_somewhere(&mut self, place: usize) -> bool {
        if self.is_alive(place) {
            return self.resume_coordinator(place);
        }
        self.note(Happening::CoordinatorStarted);
        self.start_coordinator(place);
        true
    }

    /// A coordinator dies. What it had sent may arrive all the same.
    pub fn crash_coordinator(&mut self, place: usize, random: &mut Random) -> bool {
        let Some(mut held) = self.coordinators[place].take() else {
            return false;
        };
        self.note(Happening::CoordinatorCrashed);
        self.say(|| format!("coordinator {place} dies"));
        for commit in held.commits.drain(..) {
            if random.percent(50) {
                let sender = held.owner;
                self.late.commits.push(LateCommit { commit, sender });
            }
        }
        self.coordinators[place] = Some(held);
        self.lose_publications(place, random, false);
        let held = self.coordinators[place].take().expect("it was put there");
        self.broker.close_connection(held.consuming);
        self.broker.close_connection(held.publisher);
        true
    }

    /// What is under way to the broker is stored, late or lost; the turn logic is told if it lives.
    fn lose_publications(&mut self, place: usize, random: &mut Random, is_told: bool) {
        let held = self.coordinator(place);
        let publications = std::mem::take(&mut held.publishing);
        for publication in publications {
            if is_told {
                let failed = Input::PublishFailed(publication.id);
                self.coordinator(place).mailbox.push_back(failed);
            }
            let Destination::Pool { .. } = &publication.to else {
                continue;
            };
            let (queue, body) = self.destination(&publication);
            match random.below(3) {
                0 => drop(self.arrive(queue, body)),
                1 => self.late.publications.push((queue, body)),
                _ => {}
            }
        }
    }

    fn pause_coordinator(&mut self, place: usize, random: &mut Random) -> bool {
        let Some(held) = &mut self.coordinators[place] else {
            return false;
        };
        if held.is_paused {
            return self.resume_coordinator(place);
        }
        held.is_paused = true;
        self.note(Happening::CoordinatorPaused);
        self.say(|| format!("coordinator {place} stands still"));
        if random.percent(70) {
            // Long enough for others to take over.
            self.pass_with_ticks(OVER_A_LEASE_US);
        }
        true
    }

    pub fn resume_coordinator(&mut self, place: usize) -> bool {
        let Some(held) = self.coordinators[place]
            .as_mut()
            .filter(|held| held.is_paused)
        else {
            return false;
        };
        held.is_paused = false;
        self.say(|| format!("coordinator {place} goes on"));
        true
    }

    fn stop_coordinator(&mut self, place: usize, random: &mut Random) -> bool {
        if !self.is_alive(place) || random.percent(50) {
            return false;
        }
        self.note(Happening::CoordinatorStopped);
        self.say(|| format!("coordinator {place} is asked to stop"));
        let held = self.coordinator(place);
        held.is_stopping = true;
        held.mailbox.push_back(Input::Stop);
        true
    }

    /// A channel of a coordinator closes, or falls silent.
    fn lose_channel(&mut self, place: usize, random: &mut Random, silently: bool) -> bool {
        let Some(held) = &self.coordinators[place] else {
            return false;
        };
        let open = held.channels.iter();
        let open: Vec<((ChannelId, u64), ChannelNo)> = open
            .filter_map(|(key, own)| Some((*key, own.no?)))
            .collect();
        if open.is_empty() {
            return false;
        }
        let (key, no) = random.pick(&open);
        if silently {
            self.note(Happening::ChannelSilent);
            self.say(|| format!("{:?} of coordinator {place} falls silent", key.0));
            self.broker.silence(no);
        } else {
            self.note(Happening::ChannelClosed);
            self.say(|| format!("{:?} of coordinator {place} is closed", key.0));
            self.broker.close_channel(no);
            self.channel_over(place, key);
        }
        true
    }

    /// The connection on which a coordinator consumes is lost, or the one on which it publishes.
    fn lose_connection(&mut self, place: usize, random: &mut Random) -> bool {
        if !self.is_alive(place) {
            return false;
        }
        self.note(Happening::ConnectionClosed);
        if random.percent(50) {
            self.say(|| format!("coordinator {place} loses the connection that publishes"));
            let publisher = self.coordinator(place).publisher;
            self.broker.close_connection(publisher);
            let changed = Input::PublisherChanged { is_up: false };
            self.coordinator(place).mailbox.push_back(changed);
            self.lose_publications(place, random, true);
        } else {
            self.say(|| format!("coordinator {place} loses the connection that consumes"));
            self.close_consuming(place);
        }
        true
    }

    fn close_consuming(&mut self, place: usize) {
        let held = self.coordinator(place);
        let consuming = held.consuming;
        let open = held.channels.iter().filter(|(_, own)| own.no.is_some());
        let keys: Vec<(ChannelId, u64)> = open.map(|(key, _)| *key).collect();
        self.broker.close_connection(consuming);
        for key in keys {
            self.channel_over(place, key);
        }
    }

    /// Closes the channels that have fallen silent, if there are any.
    pub fn close_silent(&mut self) -> bool {
        let mut is_any = false;
        for place in 0..self.coordinators.len() {
            let Some(held) = &self.coordinators[place] else {
                continue;
            };
            let channels = held.channels.iter();
            let silent = channels.filter_map(|(key, own)| {
                let no = own.no.filter(|no| self.broker.is_silent(*no))?;
                Some((*key, no))
            });
            for (key, no) in silent.collect::<Vec<_>>() {
                is_any = true;
                self.broker.close_channel(no);
                self.channel_over(place, key);
            }
        }
        is_any
    }

    fn pause_worker(&mut self, no: usize, random: &mut Random) -> bool {
        if self.workers[no].is_paused {
            self.say(|| format!("worker {no} goes on"));
            self.workers[no].is_paused = false;
            return true;
        }
        self.note(Happening::WorkerPaused);
        self.say(|| format!("worker {no} stands still"));
        self.workers[no].is_paused = true;
        if random.percent(60) {
            // The broker misses its heartbeats.
            let connection = self.workers[no].connection;
            self.broker.close_connection(connection);
            self.workers[no].session_lost();
        }
        true
    }

    fn toggle_alarm(&mut self) -> bool {
        let on = !self.broker.has_alarm();
        self.say(|| format!("publishers are blocked: {on}"));
        self.broker.set_alarm(on);
        true
    }

    /// The queue of a pool is purged, or deleted with all that is in it.
    fn lose_pool(&mut self, random: &mut Random) -> bool {
        let queue = self.queues.pool;
        if !self.broker.is_declared(queue) {
            return false;
        }
        let is_purge = random.percent(50);
        let ready = self.broker.ready(queue).iter();
        let taken = self.broker.unacknowledged(queue).filter(|_| !is_purge);
        let lost = ready
            .chain(taken)
            .filter_map(|stored| match &stored.message {
                Body::Job(job) | Body::Bundle(job) => Some(job.key()),
                Body::Start(_)
                | Body::Inbox(..)
                | Body::Control(_)
                | Body::Reply(_)
                | Body::Refused(_) => None,
            });
        let lost: Vec<AttemptKey> = lost.collect();
        if !lost.is_empty() {
            self.note(Happening::JobsPurged);
        }
        self.checks.lost.extend(lost);
        if is_purge {
            self.say(|| "the queue of the pool is purged".to_owned());
            self.broker.purge(queue);
            return true;
        }
        self.note(Happening::QueueDeleted);
        self.say(|| "the queue of the pool is deleted".to_owned());
        let cancelled = self.broker.delete(queue);
        for worker in &mut self.workers {
            if worker
                .channel
                .is_some_and(|channel| cancelled.contains(&channel))
            {
                worker.session_lost();
            }
        }
        true
    }

    /// An inbox is deleted while it is empty: what is sent to it comes back, until its owner declares
    /// it again.
    fn lose_inbox(&mut self, random: &mut Random) -> bool {
        let queue = random.pick(&self.queues.inboxes);
        if !self.broker.is_declared(queue) || self.broker.messages(queue).next().is_some() {
            return false;
        }
        self.note(Happening::InboxDeleted);
        let name = self.broker.name(queue).to_owned();
        self.say(|| format!("{name} is deleted"));
        let cancelled = self.broker.delete(queue);
        for place in 0..self.coordinators.len() {
            let Some(held) = &self.coordinators[place] else {
                continue;
            };
            let channels = held.channels.iter();
            let own = channels.filter(|(_, own)| own.no.is_some_and(|no| cancelled.contains(&no)));
            for key in own.map(|(key, _)| *key).collect::<Vec<_>>() {
                self.channel_over(place, key);
            }
        }
        true
    }

    /// The fleet is given one more partition.
    fn add_partition(&mut self) -> bool {
        if self.queues.inboxes.len() >= MAX_PARTITIONS {
            return false;
        }
        self.note(Happening::PartitionAdded);
        let no = self.store.add_partition();
        self.say(|| format!("partition {no} is added"));
        self.declare_inbox(no);
        true
    }
}
