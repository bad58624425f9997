//! Where the outcome of a publish goes: to who waits for this one, or with others into one channel.

use tokio::sync::{mpsc, oneshot};

use super::publisher::PublishOutcome;

/// Outcomes of many publishes, each with the number that it was given.
pub type Outcomes = mpsc::UnboundedSender<(u64, PublishOutcome)>;

/// Where the outcome of a publish goes. Dropping it says `Unknown`.
#[derive(Debug)]
pub(super) struct Reply(Option<To>);

#[derive(Debug)]
enum To {
    One(oneshot::Sender<PublishOutcome>),
    Many(u64, Outcomes),
}

impl Reply {
    pub(super) fn one(sender: oneshot::Sender<PublishOutcome>) -> Self {
        Self(Some(To::One(sender)))
    }

    pub(super) fn many(number: u64, outcomes: Outcomes) -> Self {
        Self(Some(To::Many(number, outcomes)))
    }

    /// Whether nobody waits any more.
    pub(super) fn is_closed(&self) -> bool {
        match &self.0 {
            Some(To::One(sender)) => sender.is_closed(),
            Some(To::Many(_, outcomes)) => outcomes.is_closed(),
            None => true,
        }
    }

    /// Answers; that nobody waits any more is no fault.
    pub(super) fn send(mut self, outcome: PublishOutcome) {
        self.answer(outcome);
    }

    fn answer(&mut self, outcome: PublishOutcome) {
        match self.0.take() {
            Some(To::One(sender)) => drop(sender.send(outcome)),
            Some(To::Many(number, outcomes)) => drop(outcomes.send((number, outcome))),
            None => {}
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.answer(PublishOutcome::Unknown);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_goes_to_who_waits_and_a_dropped_reply_says_unknown() {
        let (one, mut waiting) = oneshot::channel();
        Reply::one(one).send(PublishOutcome::Confirmed);
        assert_eq!(waiting.try_recv(), Ok(PublishOutcome::Confirmed));
        let (many, mut waiting) = mpsc::unbounded_channel();
        Reply::many(7, many.clone()).send(PublishOutcome::Returned);
        drop(Reply::many(8, many));
        assert_eq!(waiting.try_recv(), Ok((7, PublishOutcome::Returned)));
        assert_eq!(waiting.try_recv(), Ok((8, PublishOutcome::Unknown)));
        assert!(waiting.try_recv().is_err());
    }

    #[test]
    fn a_reply_knows_when_nobody_waits() {
        let (many, waiting) = mpsc::unbounded_channel();
        let reply = Reply::many(1, many);
        assert!(!reply.is_closed());
        drop(waiting);
        assert!(reply.is_closed());
    }
}
