//! All executions that were started: when, which workflow, and whether they have ended.

use std::collections::BTreeMap;
use std::time::Instant;

use uuid::Uuid;

/// One of them.
#[derive(Debug, Clone, Copy)]
pub struct Started {
    /// Its id.
    pub id: Uuid,
    /// When it was started, or had to be.
    pub at: Instant,
    /// The index of its workflow.
    pub workflow: usize,
    /// When its end was seen.
    pub ended_at: Option<Instant>,
}

/// All of them, by number.
#[derive(Debug, Default)]
pub struct Starts {
    all: Vec<Started>,
    /// Numbers of those that have not ended, the oldest first, since ids ascend.
    under_way: BTreeMap<Uuid, usize>,
}

impl Starts {
    /// Adds one.
    pub fn add(&mut self, at: Instant, workflow: usize) {
        let id = Uuid::now_v7();
        self.under_way.insert(id, self.all.len());
        self.all.push(Started {
            id,
            at,
            workflow,
            ended_at: None,
        });
    }

    /// One by its number, which exists.
    pub fn get(&self, number: usize) -> &Started {
        &self.all[number]
    }

    /// One has ended; `None` if it is none of these, or had ended before.
    pub fn end(&mut self, number: usize, now: Instant) -> Option<Started> {
        let started = self.all.get_mut(number)?;
        if started.ended_at.is_some() {
            return None;
        }
        started.ended_at = Some(now);
        self.under_way.remove(&started.id);
        Some(*started)
    }

    /// All of them, in the order of their numbers.
    pub fn all(&self) -> &[Started] {
        &self.all
    }

    /// The ids of those under way that were started until then, at most so many, the oldest first.
    pub fn oldest(&self, count: usize, until: Instant) -> Vec<Uuid> {
        let under_way = self.under_way.iter().take(count);
        let old = under_way.take_while(|(_, number)| self.all[**number].at <= until);
        old.map(|(id, _)| *id).collect()
    }

    /// When the oldest of those under way was started.
    pub fn oldest_at(&self) -> Option<Instant> {
        let (_, number) = self.under_way.first_key_value()?;
        Some(self.all[*number].at)
    }

    /// The number of one that is under way.
    pub fn number_of(&self, id: Uuid) -> Option<usize> {
        self.under_way.get(&id).copied()
    }

    /// How many were started.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// How many have ended.
    pub fn ended(&self) -> usize {
        self.all.len() - self.under_way.len()
    }

    /// How many have not.
    pub fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// How many of each workflow were started; `workflows` is their number.
    pub fn by_workflow(&self, workflows: usize) -> Vec<usize> {
        let mut counts = vec![0; workflows];
        for started in &self.all {
            counts[started.workflow] += 1;
        }
        counts
    }

    /// The lowest and the highest id.
    pub fn id_range(&self) -> (Uuid, Uuid) {
        let ids = || self.all.iter().map(|start| start.id);
        (
            ids().min().unwrap_or_default(),
            ids().max().unwrap_or_default(),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_end_counts_once_and_only_for_what_was_started() {
        let mut starts = Starts::default();
        let (early, late) = (Instant::now(), Instant::now() + Duration::from_secs(1));
        starts.add(early, 0);
        starts.add(late, 1);
        let ids = starts.oldest(9, late);
        assert_eq!(ids, [starts.get(0).id, starts.get(1).id]);
        assert_eq!(starts.oldest(9, early), ids[..1]);
        assert_eq!(starts.oldest(1, late), ids[..1]);
        assert_eq!(
            starts
                .end(1, Instant::now())
                .map(|started| started.workflow),
            Some(1)
        );
        assert_eq!(starts.oldest(9, late), ids[..1]);
        assert_eq!(
            (starts.number_of(ids[0]), starts.number_of(ids[1])),
            (Some(0), None)
        );
        assert!(starts.end(1, Instant::now()).is_none());
        assert!(starts.end(2, Instant::now()).is_none());
        assert_eq!((starts.ended(), starts.under_way()), (1, 1));
        assert_eq!(starts.by_workflow(2), [1, 1]);
        let (first, last) = starts.id_range();
        assert!(first < last);
    }
}
