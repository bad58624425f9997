//! Messages that have been delivered often: they may have killed who took them. Each is marked in the
//! database before it is taken alone. One at a time: whoever is killed by one of them leaves no mark
//! on the others.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use crate::Turns;
use crate::channels::Stage;
use crate::effect::Effect;
use crate::gather::Item;
use crate::message::DeliveryId;

/// The suspects among the deliveries.
#[derive(Debug, Default)]
pub(crate) struct Suspects {
    waiting: VecDeque<(DeliveryId, String)>,
    /// The one that is marked, or about to be.
    current: Option<(DeliveryId, String)>,
    /// Marks of this process: as long as it lives, they have killed nobody.
    ours: BTreeSet<String>,
}

impl Suspects {
    pub fn wait(&mut self, id: DeliveryId, key: String) {
        self.waiting.push_back((id, key));
    }

    /// The message did no harm, or is out of the way.
    pub fn done(&mut self, key: &str) {
        self.ours.remove(key);
        self.current.take_if(|(_, current)| current == key);
    }
}

impl Turns {
    /// Has the next suspect marked, if none is under way. Called between two turns.
    pub(crate) fn mark_next_suspect(&mut self, out: &mut Vec<Effect>) {
        if let Some((id, key)) = self.suspects.current.take() {
            match self.channels.delivery(id).map(|delivery| delivery.stage) {
                // Its channel has closed before it was taken: its next taker must not be misled.
                None => out.push(Effect::ClearSuspect { key }),
                Some(
                    Stage::Pending
                    | Stage::Suspect
                    | Stage::Marking
                    | Stage::Marked
                    | Stage::Taken
                    | Stage::Forwarding
                    | Stage::Done,
                ) => {
                    self.suspects.current = Some((id, key));
                    return;
                }
            }
        }
        while let Some((id, key)) = self.suspects.waiting.pop_front() {
            if let Some(delivery) = self.channels.delivery(id) {
                delivery.stage = Stage::Marking;
                self.suspects.current = Some((id, key.clone()));
                out.push(Effect::MarkSuspect { delivery: id, key });
                return;
            }
        }
    }

    pub(crate) fn suspect_marked(&mut self, id: DeliveryId, already: bool, out: &mut Vec<Effect>) {
        let Some((_, key)) = self.suspects.current.clone().filter(|(of, _)| *of == id) else {
            return;
        };
        let is_killer = already && !self.suspects.ours.contains(&key);
        if !is_killer {
            self.suspects.ours.insert(key.clone());
        }
        let Some(delivery) = self.channels.delivery(id) else {
            return;
        };
        delivery.stage = Stage::Marked;
        if is_killer {
            let message = Arc::clone(&delivery.message);
            self.suspects.done(&key);
            self.poison(id, &message, "its taker died of it, more than once", out);
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
