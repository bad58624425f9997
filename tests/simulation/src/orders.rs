//! What the turn logic asks for beside commits, loads and publications: short orders, each a task of
//! its own, so that none waits for another.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use flotilla_protocol::decode::InboxMessage;
use flotilla_protocol::message::{CoordinatorProbe, TaskCancel, TaskDead};
use flotilla_turn::Input;
use flotilla_turn::message::{ChannelId, ControlRequest, DeadLetter, DeliveryId, Forward};
use flotilla_turn::rows::{Epoch, PartitionNo, TakenPartition, TimerRow};

use crate::broker::Published;
use crate::checks::key_of;
use crate::coordinator::{LEASE_S, RESEND_AFTER_S};
use crate::coverage::Happening;
use crate::message::{Body, Refused, show_attempt};
use crate::planted::ShellMutant;
use crate::random::Random;
use crate::store::Share;
use crate::world::{Queues, World};

/// How far a look for partitions is: each of its statements is a step.
#[derive(Debug)]
pub(crate) enum TakeStage {
    Begin,
    /// Who lives is counted.
    Counted(Share),
    /// The epochs are raised.
    Raised(Share, Vec<TakenPartition>),
    /// What is owed is read.
    Outbox(Share, Vec<TakenPartition>),
}

#[derive(Debug)]
pub(crate) enum Order {
    Take(TakeStage),
    LoadTimers {
        partition: PartitionNo,
        epoch: Epoch,
        from: DateTime<Utc>,
        until: DateTime<Utc>,
    },
    Declare(Arc<str>),
    Cancel(TaskCancel),
    Inspect {
        channel: ChannelId,
        generation: u64,
    },
    FindLostJobs(Vec<PartitionNo>),
    Forward {
        delivery: DeliveryId,
        forward: Box<Forward>,
    },
    Mark {
        delivery: DeliveryId,
        key: String,
    },
    Clear(String),
    Renew(Vec<(PartitionNo, Epoch)>),
    Probe(CoordinatorProbe),
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
            Order::Take(stage) => self.take_order(place, stage, random),
            Order::LoadTimers {
                partition,
                epoch,
                from,
                until,
            } => {
                let timers = self.timers_between(partition, from, until, random);
                let loaded = Input::TimersLoaded {
                    partition,
                    epoch,
                    until,
                    timers,
                };
                self.answer(place, loaded, random);
            }
            Order::Declare(pool) => {
                let options = Queues::of_pool(self.queues.dead, &self.setup);
                if !self.goes_astray(random) {
                    self.broker.declare("flotilla.jobs.default", options);
                }
                self.answer(place, Input::PoolDeclared(pool), random);
            }
            Order::Cancel(cancel) => self.cancel_order(&cancel, random),
            Order::Inspect {
                channel,
                generation,
            } => {
                let depth = self.broker.ready(self.queue_of(channel)).len();
                let depth = u32::try_from(depth).expect("a few");
                let messages = (!self.goes_astray(random)).then_some(depth);
                let inspected = Input::QueueInspected {
                    channel,
                    generation,
                    messages,
                };
                self.answer(place, inspected, random);
            }
            Order::FindLostJobs(partitions) => self.lost_jobs_order(place, &partitions, random),
            Order::Forward { delivery, forward } => {
                self.forward_order(place, delivery, forward, random);
            }
            Order::Mark { delivery, key } => self.mark_order(place, delivery, key, random),
            Order::Clear(key) => {
                let owner = self.coordinator(place).owner;
                self.store.clear_suspect(&key, owner);
            }
            Order::Renew(held) => {
                let owner = self.coordinator(place).owner;
                self.store.renew(owner, &held, LEASE_S);
            }
            Order::Probe(probe) => self.probe_order(place, probe, random),
        }
        true
    }

    fn timers_between(
        &mut self,
        partition: PartitionNo,
        from: DateTime<Utc>,
        until: DateTime<Utc>,
        random: &mut Random,
    ) -> Option<Vec<TimerRow>> {
        if self.goes_astray(random) {
            self.note(Happening::TimersNotLoaded);
            return None;
        }
        Some(self.store.timers(partition, from, until))
    }

    fn mark_order(&mut self, place: usize, delivery: DeliveryId, key: String, random: &mut Random) {
        self.note(Happening::SuspectMarked);
        let owner = self.coordinator(place).owner;
        let mark = self.store.mark_suspect(&key, owner, LEASE_S);
        self.say(|| format!("coordinator {place} marks {key}: {mark:?}"));
        let marked = Input::SuspectMarked {
            delivery,
            key,
            mark,
        };
        self.answer(place, marked, random);
    }

    fn probe_order(&mut self, place: usize, probe: CoordinatorProbe, random: &mut Random) {
        let partition = probe.partition;
        self.say(|| format!("coordinator {place} sends a probe to inbox {partition}"));
        let probe = Body::inbox(InboxMessage::Probe(probe));
        let (queue, body) = (self.queues.inbox(partition), probe);
        let is_sent = !self.broker.has_alarm()
            && !self.goes_astray(random)
            && self.arrive(queue, body) == Published::Confirmed;
        let answer = if is_sent {
            Input::ProbeSent { partition }
        } else {
            Input::ProbeFailed { partition }
        };
        self.answer(place, answer, random);
    }

    /// Tells all workers; whether they hear it is another matter.
    fn cancel_order(&mut self, cancel: &TaskCancel, random: &mut Random) {
        let key = key_of(cancel.execution_id, cancel.task_id, cancel.attempt);
        self.note(Happening::CancelSent);
        self.say(|| format!("the workers are told to stop {}", show_attempt(key)));
        for no in 0..self.workers.len() {
            if !self.goes_astray(random) {
                self.hear_cancel(no, key);
            }
        }
    }

    fn lost_jobs_order(&mut self, place: usize, partitions: &[PartitionNo], random: &mut Random) {
        let silent = self.store.silent_jobs(partitions, RESEND_AFTER_S);
        let depth = self.broker.ready(self.queues.pool).len();
        if silent.is_empty() || depth > 0 || self.goes_astray(random) {
            return;
        }
        if self.is_planted(ShellMutant::LostJobsNotFound) {
            return;
        }
        self.note(Happening::JobsFoundLost);
        self.say(|| format!("coordinator {place} finds {} jobs lost", silent.len()));
        let lost = silent.into_iter().map(|(job, _)| job).collect();
        self.answer(place, Input::JobsLost(lost), random);
    }

    /// The next statement of a take-over.
    fn take_order(&mut self, place: usize, stage: TakeStage, random: &mut Random) {
        let owner = self.coordinator(place).owner;
        let is_early = self.is_planted(ShellMutant::StateReadBeforeEpoch);
        if self.goes_astray(random) {
            self.note(Happening::TakeFailed);
            self.say(|| format!("the take-over of coordinator {place} fails"));
            return self.taken(place, Vec::new(), None, random);
        }
        let next = match stage {
            TakeStage::Begin => TakeStage::Counted(self.store.even_share(owner, LEASE_S)),
            TakeStage::Counted(share) => {
                let limit = share.partitions.saturating_sub(share.held);
                let taken = self.raise_epochs(place, limit);
                if taken.is_empty() {
                    return self.taken(place, taken, Some(share), random);
                }
                TakeStage::Raised(share, taken)
            }
            TakeStage::Raised(share, mut taken) => {
                if !is_early {
                    self.store.add_outbox(&mut taken);
                }
                TakeStage::Outbox(share, taken)
            }
            TakeStage::Outbox(share, mut taken) => {
                self.store.add_timers(&mut taken);
                self.check_take_over(&taken);
                return self.taken(place, taken, Some(share), random);
            }
        };
        self.coordinator(place).orders.push(Order::Take(next));
    }

    fn taken(
        &mut self,
        place: usize,
        taken: Vec<TakenPartition>,
        share: Option<Share>,
        random: &mut Random,
    ) {
        let share = share.map(|share| share.partitions);
        self.answer(place, Input::PartitionsTaken { taken, share }, random);
    }

    fn raise_epochs(&mut self, place: usize, limit: usize) -> Vec<TakenPartition> {
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
            return self.coordinator(place).later.push(order);
        }
        if is_early && self.goes_astray(random) {
            return self.answer(place, Input::Forwarded(delivery), random);
        }
        let mut is_taken = Published::Confirmed;
        match *forward {
            Forward::Refused(ref refused) => {
                if refused.reason == "poison" {
                    self.note(Happening::Poison);
                }
                let key = format!("{delivery:?}");
                self.say(|| format!("coordinator {place} passes {key} on: {}", refused.reason));
                self.refused(refused);
                let dead = Refused {
                    reason: refused.reason,
                };
                self.arrive(self.queues.dead, Body::Refused(dead));
            }
            Forward::Dead(ref letter) => is_taken = self.dead_letter(letter),
            // Best effort, and nothing else depends on it.
            Forward::Log(_) => {}
            Forward::Returned(ref jobs) => is_taken = self.returned(jobs),
            Forward::Control { ref request, .. } => is_taken = self.forward_command(place, request),
            Forward::Start {
                partition,
                ref original,
            } => {
                self.note(Happening::StartPassedOn);
                self.say(|| format!("coordinator {place} passes a start to inbox {partition}"));
                let request = self.clients.request(original);
                is_taken = self.arrive(self.queues.inbox(partition), Body::Start(request));
            }
        }
        if is_taken == Published::Confirmed {
            self.answer(place, Input::Forwarded(delivery), random);
        } else {
            // It is tried again in a moment.
            let order = Order::Forward { delivery, forward };
            self.coordinator(place).later.push(order);
        }
    }

    /// Hands a command to the inbox of its execution.
    fn forward_command(&mut self, place: usize, request: &ControlRequest) -> Published {
        let id = request.control.execution_id;
        let Some(partition) = self.store.partition_of(id) else {
            // Its sender is told so.
            self.checks.excused.extend(request.message_id.clone());
            return Published::Confirmed;
        };
        self.say(|| format!("coordinator {place} passes a command to inbox {partition}"));
        let body = Body::Control(Arc::new(request.clone()));
        self.arrive(self.queues.inbox(partition), body)
    }

    fn returned(&mut self, jobs: &[(String, TaskDead)]) -> Published {
        if self.is_planted(ShellMutant::ReturnNotTold) {
            return Published::Confirmed;
        }
        for (queue, dead) in jobs {
            let Some(queue) = self.broker.queue(queue) else {
                return Published::Returned;
            };
            self.say(|| "the return of a job is told to its owner".to_owned());
            let told = self.arrive(queue, Body::inbox(InboxMessage::Dead(dead.clone())));
            if told != Published::Confirmed {
                return told;
            }
        }
        Published::Confirmed
    }

    fn dead_letter(&mut self, letter: &DeadLetter) -> Published {
        self.store.insert_dead_letter(&letter.key, &letter.reason);
        let Some((queue, dead)) = &letter.dead_job else {
            return Published::Confirmed;
        };
        let Some(queue) = self.broker.queue(queue) else {
            return Published::Returned;
        };
        self.say(|| "the death of a job is told to its owner".to_owned());
        self.arrive(queue, Body::inbox(InboxMessage::Dead(dead.clone())))
    }
}
