//! Messages that have been delivered often: they may have killed who took them. Each is marked in the
//! database before it is taken alone. One at a time: whoever is killed by one of them leaves no mark
//! on the others.

use std::collections::VecDeque;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use crate::Turns;
use crate::channels::Stage;
use crate::effect::{Effect, Mark};
use crate::gather::Item;
use crate::machine::RETRY_AFTER_MS;
use crate::message::DeliveryId;

/// The suspects among the deliveries.
#[derive(Debug, Default)]
pub(crate) struct Suspects {
    waiting: VecDeque<(DeliveryId, String)>,
    /// The one that is marked, or about to be.
    current: Option<(DeliveryId, String)>,
    /// When to look again at a mark that belongs to somebody who lives.
    not_before: Option<DateTime<Utc>>,
}

impl Suspects {
    pub fn wait(&mut self, id: DeliveryId, key: String) {
        self.waiting.push_back((id, key));
    }

    /// The message did no harm, or is out of the way.
    pub fn done(&mut self, key: &str) {
        self.current.take_if(|(_, current)| current == key);
    }
}

impl Turns {
    /// Has the next suspect marked, if none is under way. Called between two turns.
    pub(crate) fn mark_next_suspect(&mut self, out: &mut Vec<Effect>) {
        if let Some((id, key)) = self.suspects.current.take() {
            match self.channels.delivery(id).map(|delivery| delivery.stage) {
                // Its channel has closed before it was taken: its next taker must not be misled. Or it
                // is done with: what came before it on the channel may be waiting for its turn.
                None | Some(Stage::Done) => out.push(Effect::ClearSuspect { key }),
                Some(
                    Stage::Pending
                    | Stage::Suspect
                    | Stage::Marking
                    | Stage::Marked
                    | Stage::Taken
                    | Stage::Forwarding,
                ) => {
                    self.suspects.current = Some((id, key));
                    return;
                }
            }
        }
        if self.suspects.not_before.is_some_and(|at| self.now < at) {
            return;
        }
        self.suspects.not_before = None;
        while let Some((id, key)) = self.suspects.waiting.pop_front() {
            if let Some(delivery) = self.channels.delivery(id) {
                delivery.stage = Stage::Marking;
                self.suspects.current = Some((id, key.clone()));
                out.push(Effect::MarkSuspect { delivery: id, key });
                return;
            }
        }
    }

    pub(crate) fn suspect_marked(
        &mut self,
        id: DeliveryId,
        key: String,
        mark: Mark,
        out: &mut Vec<Effect>,
    ) {
        let is_current = self
            .suspects
            .current
            .as_ref()
            .is_some_and(|(of, _)| *of == id);
        let delivery = self.channels.delivery(id).filter(|_| is_current);
        let Some(delivery) = delivery else {
            // Its channel has closed meanwhile: its next taker must not be misled.
            out.push(Effect::ClearSuspect { key });
            return;
        };
        match mark {
            Mark::Ours => delivery.stage = Stage::Marked,
            Mark::OfTheDead => {
                delivery.stage = Stage::Marked;
                let message = Arc::clone(&delivery.message);
                self.suspects.done(&key);
                self.poison(id, &message, "its taker died of it, more than once", out);
                // Should it come again before it is passed on, nobody must wait for this process.
                out.push(Effect::ClearSuspect { key });
            }
            // Whoever marked it has lost its channel and is about to take its mark back, or to die.
            Mark::OfTheLiving => {
                self.suspects.done(&key);
                self.suspects.wait(id, key);
                self.suspects.not_before = Some(self.now + TimeDelta::milliseconds(RETRY_AFTER_MS));
            }
        }
    }

    /// A marked suspect is taken alone, so that it harms no other message.
    pub(crate) fn take_suspect(&mut self) -> Option<Item> {
        let (id, key) = self.suspects.current.clone()?;
        let delivery = self.channels.delivery(id)?;
        if delivery.stage != Stage::Marked {
            return None;
        }
        delivery.stage = Stage::Taken;
        Some(Item::Delivery {
            id,
            suspect_key: Some(key),
            message: Arc::clone(&delivery.message),
        })
    }
}
