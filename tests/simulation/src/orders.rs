//! What the turn logic asks for beside commits, loads and publications: short orders, each a task of
//! its own, so that none waits for another.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use flotilla_protocol::decode::InboxMessage;
use flotilla_protocol::message::CoordinatorProbe;
use flotilla_turn::message::{DeadLetter, DeliveryId, Forward};
use flotilla_turn::rows::{Epoch, PartitionNo, TakenPartition};
use flotilla_turn::{Input, Publication};

use crate::broker::Published;
use crate::coordinator::LEASE_S;
use crate::coverage::Happening;
use crate::message::{Body, Refused};
use crate::planted::ShellMutant;
use crate::random::Random;
use crate::world::{Queues, World};

/// How far a take-over is: each of its statements is a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TakeStage {
    Begin,
    /// The epochs are raised.
    Raised,
    /// What is owed is read.
    Outbox,
}

#[derive(Debug)]
pub(crate) enum Order {
    Take {
        stage: TakeStage,
        taken: Vec<TakenPartition>,
    },
    LoadTimers {
        partition: PartitionNo,
        epoch: Epoch,
        from: DateTime<Utc>,
        until: DateTime<Utc>,
    },
    Declare(Arc<Publication>),
    Forward {
        delivery: DeliveryId,
        forward: Box<Forward>,
    },
    Mark {
        delivery: DeliveryId,
        key: String,
    },
    Clear(String),
    Probe {
        partition: PartitionNo,
        epoch: Epoch,
    },
}

impl World {
    /// Carries out one of the orders of a coordinator.
    pub fn order_step(&mut self, place: usize, random: &mut Random) -> bool {
        let held = self.coordinator(place);
        if held.orders.is_empty() {
            return false;
        }
        let at = random.below(held.orders.len());
        let order = held.orders.remove(at);
        match order {
            Order::Take { stage, taken } => self.take_order(place, stage, taken, random),
            Order::LoadTimers {
                partition,
                epoch,
                from,
                until,
            } => {
                let timers = if self.goes_astray(random) {
                    self.note(Happening::TimersNotLoaded);
                    None
                } else {
                    Some(self.store.timers(partition, from, until))
                };
                let loaded = Input::TimersLoaded {
                    partition,
                    epoch,
                    until,
                    timers,
                };
                self.answer(place, loaded, random);
            }
            Order::Declare(publication) => {
                let options = Queues::of_pool(self.queues.dead, &self.setup);
                self.broker.declare("flotilla.jobs.default", options);
                self.answer(place, Input::PublishFailed(publication.id), random);
            }
            Order::Forward { delivery, forward } => {
                self.forward_order(place, delivery, forward, random);
            }
            Order::Mark { delivery, key } => {
                self.note(Happening::SuspectMarked);
                let already = self.store.mark_suspect(&key);
                self.say(|| format!("coordinator {place} marks {key}, already: {already}"));
                self.answer(place, Input::SuspectMarked { delivery, already }, random);
            }
            Order::Clear(key) => self.store.clear_suspect(&key),
            Order::Probe { partition, epoch } => self.probe_order(place, partition, epoch, random),
        }
        true
    }

    fn probe_order(
        &mut self,
        place: usize,
        partition: PartitionNo,
        epoch: Epoch,
        random: &mut Random,
    ) {
        self.say(|| format!("coordinator {place} sends a probe to inbox {partition}"));
        let probe = InboxMessage::Probe(CoordinatorProbe { partition, epoch });
        let (queue, body) = (self.queues.inbox(partition), Body::inbox(probe));
        let is_sent = !self.broker.has_alarm()
            && !self.goes_astray(random)
            && self.arrive(queue, body) == Published::Confirmed;
        if !is_sent {
            self.answer(place, Input::ProbeFailed { partition }, random);
        }
    }

    /// The next statement of a take-over.
    fn take_order(
        &mut self,
        place: usize,
        stage: TakeStage,
        mut taken: Vec<TakenPartition>,
        random: &mut Random,
    ) {
        if stage != TakeStage::Begin && self.goes_astray(random) {
            self.note(Happening::TakeFailed);
            self.say(|| format!("the take-over of coordinator {place} fails"));
            return self.answer(place, Input::PartitionsTaken(Vec::new()), random);
        }
        let next = match stage {
            TakeStage::Begin => {
                // However many partitions one looks for at a time must not matter.
                let limit = (self.has_faults && random.percent(50)).then_some(1);
                taken = self.raise_epochs(place, limit);
                TakeStage::Raised
            }
            TakeStage::Raised => {
                let is_early = self.is_planted(ShellMutant::StateReadBeforeEpoch);
                if !is_early {
                    self.store.add_outbox(&mut taken);
                }
                TakeStage::Outbox
            }
            TakeStage::Outbox => {
                self.store.add_timers(&mut taken);
                self.check_take_over(&taken);
                return self.answer(place, Input::PartitionsTaken(taken), random);
            }
        };
        if taken.is_empty() && !self.is_planted(ShellMutant::StateReadBeforeEpoch) {
            return self.answer(place, Input::PartitionsTaken(Vec::new()), random);
        }
        let order = Order::Take { stage: next, taken };
        self.coordinator(place).orders.push(order);
    }

    fn raise_epochs(&mut self, place: usize, limit: Option<usize>) -> Vec<TakenPartition> {
        let owner = self.coordinator(place).owner;
        let before = self.store.partitions.clone();
        let mut taken = self.store.raise_epochs(owner, LEASE_S, limit);
        for taken in &taken {
            let no = taken.partition;
            self.say(|| {
                format!(
                    "coordinator {place} takes partition {no}: epoch {}",
                    taken.epoch
                )
            });
            let former = before[&no].owner;
            if let Some(former) = former.filter(|former| self.lives(*former)) {
                self.note(Happening::TakenFromLiving);
                self.check_lease(no, former);
            }
        }
        if self.is_planted(ShellMutant::StateReadBeforeEpoch) {
            let early = &self.checks.early_outbox;
            for taken in &mut taken {
                taken.jobs = early.jobs_of(taken.partition);
                taken.replies = early.replies_of(taken.partition);
            }
        }
        taken
    }

    fn forward_order(
        &mut self,
        place: usize,
        delivery: DeliveryId,
        forward: Box<Forward>,
        random: &mut Random,
    ) {
        // It is tried until it succeeds.
        let is_early = self.is_planted(ShellMutant::ForwardNotAwaited);
        if self.goes_astray(random) && !is_early {
            let order = Order::Forward { delivery, forward };
            return self.coordinator(place).orders.push(order);
        }
        if is_early && self.goes_astray(random) {
            return self.answer(place, Input::Forwarded(delivery), random);
        }
        match *forward {
            Forward::Refused(refused) => {
                if refused.reason == "poison" {
                    self.note(Happening::Poison);
                }
                let key = format!("{delivery:?}");
                self.say(|| format!("coordinator {place} passes {key} on: {}", refused.reason));
                self.refused(&refused);
                let dead = Refused {
                    reason: refused.reason,
                };
                self.arrive(self.queues.dead, Body::Refused(dead));
            }
            Forward::Dead(letter) => self.dead_letter(&letter),
            Forward::Control { .. } => {}
        }
        self.answer(place, Input::Forwarded(delivery), random);
    }

    fn dead_letter(&mut self, letter: &DeadLetter) {
        self.store.insert_dead_letter(&letter.key, &letter.reason);
        if let Some((queue, dead)) = &letter.dead_job {
            self.say(|| format!("the death of a job is told to {queue}"));
            let queue = self.broker.queue(queue).expect("inboxes are there");
            self.arrive(queue, Body::inbox(InboxMessage::Dead(dead.clone())));
        }
    }
}
