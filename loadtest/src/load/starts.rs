//! All executions that were started: when, which workflow, and whether they have ended.

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
    has_ended: bool,
}

/// All of them, by number.
#[derive(Debug, Default)]
pub struct Starts {
    all: Vec<Started>,
    ended: usize,
}

impl Starts {
    /// Adds one.
    pub fn add(&mut self, at: Instant, workflow: usize) {
        self.all.push(Started {
            id: Uuid::now_v7(),
            at,
            workflow,
            has_ended: false,
        });
    }

    /// One by its number, which exists.
    pub fn get(&self, number: usize) -> &Started {
        &self.all[number]
    }

    /// One has ended; `None` if it is none of these, or had ended before.
    pub fn end(&mut self, number: usize) -> Option<Started> {
        let started = self.all.get_mut(number)?;
        if std::mem::replace(&mut started.has_ended, true) {
            return None;
        }
        self.ended += 1;
        Some(*started)
    }

    /// How many were started.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// How many have ended.
    pub fn ended(&self) -> usize {
        self.ended
    }

    /// How many have not.
    pub fn under_way(&self) -> usize {
        self.all.len() - self.ended
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
    use super::*;

    #[test]
    fn an_end_counts_once_and_only_for_what_was_started() {
        let mut starts = Starts::default();
        starts.add(Instant::now(), 0);
        starts.add(Instant::now(), 1);
        assert_eq!(starts.end(1).map(|started| started.workflow), Some(1));
        assert!(starts.end(1).is_none());
        assert!(starts.end(2).is_none());
        assert_eq!((starts.ended(), starts.under_way()), (1, 1));
        assert_eq!(starts.by_workflow(2), [1, 1]);
        let (first, last) = starts.id_range();
        assert!(first < last);
    }
}
