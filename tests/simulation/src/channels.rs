//! What a coordinator does on its channels, and publishes.

use std::sync::Arc;

use flotilla_protocol::decode::InboxMessage;
use flotilla_turn::message::ChannelId;
use flotilla_turn::{Destination, Input, Publication};

use crate::broker::{ChannelError, Published, QueueNo};
use crate::checks::key_of;
use crate::coordinator::ChannelOrder;
use crate::coverage::Happening;
use crate::message::{Body, Job, Reply};
use crate::planted::ShellMutant;
use crate::random::Random;
use crate::world::World;

impl World {
    /// Carries out the next order on a channel.
    pub fn channel_step(&mut self, place: usize, key: (ChannelId, u64)) -> bool {
        let held = self.coordinator(place);
        // As the driver does: what an earlier opening has not given back would come behind a probe.
        let is_first = held.channels.range((key.0, 0)..key).next().is_none();
        let Some(own) = held.channels.get_mut(&key) else {
            return false;
        };
        if !is_first && matches!(own.orders.front(), Some(ChannelOrder::Open)) {
            return false;
        }
        let Some(order) = own.orders.pop_front() else {
            return false;
        };
        let no = own.no;
        match (order, no) {
            (ChannelOrder::Open, _) => self.open_channel(place, key),
            (ChannelOrder::Acknowledge(tag), Some(no)) => {
                self.say(|| format!("coordinator {place} acknowledges {:?} {tag}", key.0));
                if self.is_planted(ShellMutant::OneAckOverAllChannels) {
                    self.acknowledge_everywhere(place, key, tag);
                }
                match self.broker.acknowledge(no, tag, true) {
                    Ok(gone) => self.check_spent(&gone),
                    // What was not acknowledged comes again.
                    Err(ChannelError::Closed) => {}
                    Err(ChannelError::PreconditionFailed | ChannelError::NotFound) => {
                        self.violate(|| format!("{:?} {tag} is acknowledged twice", key.0));
                    }
                }
            }
            (ChannelOrder::Acknowledge(_), None) => {}
            (ChannelOrder::Close, no) => {
                self.say(|| format!("coordinator {place} closes {:?}", key.0));
                if let Some(no) = no {
                    self.broker.close_channel(no);
                }
                self.channel_over(place, key);
            }
        }
        true
    }

    /// A channel has ended, for whatever reason.
    pub fn channel_over(&mut self, place: usize, key: (ChannelId, u64)) {
        let held = self.coordinator(place);
        held.channels.remove(&key);
        held.mailbox.push_back(Input::ChannelClosed {
            channel: key.0,
            generation: key.1,
        });
    }

    fn acknowledge_everywhere(&mut self, place: usize, key: (ChannelId, u64), tag: u64) {
        let channels = &self.coordinators[place]
            .as_ref()
            .expect("it lives")
            .channels;
        let others = channels.iter().filter(|(other, _)| **other != key);
        for no in others.filter_map(|(_, own)| own.no).collect::<Vec<_>>() {
            if self.broker.waits_for(no, tag)
                && let Ok(gone) = self.broker.acknowledge(no, tag, true)
            {
                self.check_spent(&gone);
            }
        }
    }

    /// Publishes the next message of a coordinator.
    pub fn publish_step(&mut self, place: usize, random: &mut Random) -> bool {
        let held = self.coordinators[place].as_mut().expect("it lives");
        if !self.broker.is_connected(held.publisher) {
            held.publisher = self.broker.connect();
            let changed = Input::PublisherChanged { is_up: true };
            held.mailbox.push_back(changed);
            return true;
        }
        if self.broker.has_alarm() {
            let is_blocked = !self.coordinator(place).publishing.is_empty();
            if is_blocked {
                self.note(Happening::PublisherBlocked);
            }
            return false;
        }
        let held = self.coordinators[place].as_mut().expect("it lives");
        let Some(publication) = held.publishing.pop_front() else {
            return false;
        };
        let id = publication.id;
        let (queue, body) = self.destination(&publication);
        if self.goes_astray(random) {
            let how = random.below(3);
            match how {
                0 => self.note(Happening::PublicationLost),
                1 => {
                    self.note(Happening::ConfirmLost);
                    self.arrive(queue, body);
                }
                _ => self.late.publications.push((queue, body)),
            }
            self.say(|| {
                let what = ["is lost", "arrives, its confirm is lost", "will be late"][how];
                format!("a publication of coordinator {place} {what}")
            });
            let failed = if self.is_planted(ShellMutant::SentCountsAsConfirmed) {
                Input::PublishConfirmed(vec![id])
            } else {
                Input::PublishFailed(id)
            };
            self.answer(place, failed, random);
            return true;
        }
        let answer = match self.arrive(queue, body) {
            Published::Returned => {
                self.note(Happening::Returned);
                Input::PublishReturned(id)
            }
            Published::Confirmed | Published::Dropped => Input::PublishConfirmed(vec![id]),
            Published::Refused | Published::Blocked | Published::Closed => Input::PublishFailed(id),
        };
        self.answer(place, answer, random);
        true
    }

    /// A message arrives at the broker.
    pub fn arrive(&mut self, queue: QueueNo, mut body: Body) -> Published {
        match &mut body {
            Body::Job(job) | Body::Bundle(job) => self.job_arrives(queue, *job),
            Body::Reply(reply) => self.clients.answered(queue, reply),
            Body::Inbox(message, sent_at) => {
                *sent_at = self.store.now;
                if let InboxMessage::Completed(list) = &**message {
                    let keys = list
                        .iter()
                        .map(|ended| key_of(ended.execution_id, ended.task_id, ended.attempt));
                    self.checks.completed.extend(keys);
                }
            }
            Body::Start(_) | Body::Control(_) | Body::Refused(_) => {}
        }
        match body {
            Body::Bundle(_) => self.broker.arrive_once(queue, body, true),
            Body::Start(_)
            | Body::Inbox(..)
            | Body::Control(_)
            | Body::Job(_)
            | Body::Reply(_)
            | Body::Refused(_) => self.broker.arrive(queue, body, true),
        }
    }

    fn job_arrives(&mut self, queue: QueueNo, job: Job) {
        self.say(|| format!("job {} is published", job.show()));
        if self.broker.is_declared(queue) {
            self.checks.published.insert(job.key());
        }
        let (id, run, attempt) = job.key();
        let is_known = self
            .store
            .tasks
            .get(&(id, run))
            .is_some_and(|row| row.attempt >= attempt);
        if !is_known {
            self.violate(|| format!("job {} is published and not committed", job.show()));
        }
    }

    /// Where a publication goes, and what it says.
    pub fn destination(&mut self, publication: &Arc<Publication>) -> (QueueNo, Body) {
        match &publication.to {
            Destination::Pool {
                message_id,
                execution_id,
                partition,
                may_be_bundled,
                ..
            } => {
                let (task_id, attempt) = message_id.split_once('/').expect("id and attempt");
                let job = Job {
                    execution_id: *execution_id,
                    task_id: task_id.parse().expect("an id"),
                    attempt: attempt.parse().expect("a number"),
                    partition: *partition,
                };
                let is_bundled = *may_be_bundled && publication.id.is_multiple_of(2);
                let body = if is_bundled {
                    Body::Bundle(job)
                } else {
                    Body::Job(job)
                };
                (self.queues.pool, body)
            }
            Destination::Client {
                reply_to,
                message_type,
                ..
            } => {
                let reply = Reply {
                    message_type: message_type.clone(),
                    text: String::from_utf8_lossy(&publication.body).into_owned(),
                };
                (self.clients.queue(reply_to), Body::Reply(reply))
            }
        }
    }
}
