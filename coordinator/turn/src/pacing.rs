//! In which order jobs are published, and how many of one execution are on their way to the broker.
//!
//! A broker that is handed hundreds of jobs at once works on them for milliseconds, and whatever comes
//! meanwhile waits behind them: another execution's start, its job, its completion. So where several
//! executions are active, each has a bounded number of jobs that the broker has not confirmed, and the
//! rest wait here. A confirm lets the next one go: the slower the broker, the slower they come.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use flotilla_protocol::ExecutionId;

use crate::effect::{Destination, Publication};
use crate::rows::PartitionNo;

/// Jobs of one execution that the broker may have and not have confirmed, where others are active. Amid
/// one execution with 100,000 items, a single task took 21 ms without a bound, 14 ms with 32, 12 ms with
/// 16 and 9 ms with 8; the items came at 12,000, 11,000, 9,000 and 8,500 a second meanwhile.
pub(crate) const UNCONFIRMED: usize = 16;

/// The jobs that are not confirmed, by execution.
#[derive(Debug, Default)]
pub(crate) struct Pacing {
    lanes: HashMap<ExecutionId, Lane>,
}

/// The jobs of one execution. Some wait only while others are with the broker, so that there is always
/// a confirm to come.
#[derive(Debug)]
struct Lane {
    partition: PartitionNo,
    sent: usize,
    waiting: VecDeque<Arc<Publication>>,
}

impl Pacing {
    /// What of a batch is published now; the rest waits. Replies never do.
    pub fn admit(&mut self, batch: Vec<Arc<Publication>>, limit: usize) -> Vec<Arc<Publication>> {
        let mut admitted = Vec::with_capacity(batch.len());
        for publication in batch {
            let Destination::Pool {
                execution_id,
                partition,
                ..
            } = &publication.to
            else {
                admitted.push(publication);
                continue;
            };
            let lane = self.lanes.entry(*execution_id).or_insert_with(|| Lane {
                partition: *partition,
                sent: 0,
                waiting: VecDeque::new(),
            });
            lane.waiting.push_back(publication);
            lane.release(limit, &mut admitted);
        }
        admitted
    }

    /// The broker has a job: what may follow it is added to `out`.
    pub fn confirmed(
        &mut self,
        publication: &Publication,
        limit: usize,
        out: &mut Vec<Arc<Publication>>,
    ) {
        let Destination::Pool { execution_id, .. } = &publication.to else {
            return;
        };
        let Some(lane) = self.lanes.get_mut(execution_id) else {
            return;
        };
        lane.sent = lane.sent.saturating_sub(1);
        lane.release(limit, out);
        if lane.sent == 0 {
            self.lanes.remove(execution_id);
        }
    }

    /// Forgets the jobs of a partition that belongs to another now: its owner publishes them.
    pub fn remove_partition(&mut self, partition: PartitionNo) {
        self.lanes.retain(|_, lane| lane.partition != partition);
    }
}

impl Lane {
    /// One at least is always with the broker.
    fn release(&mut self, limit: usize, out: &mut Vec<Arc<Publication>>) {
        while self.sent < limit.max(1)
            && let Some(next) = self.waiting.pop_front()
        {
            self.sent += 1;
            out.push(next);
        }
    }
}

/// Jobs of one execution that are published in a row, once each has had its first.
const JOBS_IN_A_ROW: usize = 16;

/// Puts what is published in such an order that executions take turns: the only job of a small one then
/// does not stand in its pool's queue behind hundreds of a large one. Each keeps its own order.
///
/// The first job of each comes first, then several of each in a row: those are run about together and
/// end in one turn, which then writes the rows of their execution once and not once for each.
pub(crate) fn in_turns(batch: Vec<Arc<Publication>>) -> Vec<Arc<Publication>> {
    let mut published: HashMap<ExecutionId, usize> = HashMap::new();
    let mut ranked: Vec<(usize, Arc<Publication>)> = batch
        .into_iter()
        .map(|publication| {
            let rank = match &publication.to {
                Destination::Pool { execution_id, .. } => {
                    let before = published.entry(*execution_id).or_default();
                    *before += 1;
                    1 + (*before - 1).div_ceil(JOBS_IN_A_ROW)
                }
                Destination::Client { .. } => 0,
            };
            (rank, publication)
        })
        .collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked
        .into_iter()
        .map(|(_, publication)| publication)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(id: u64, execution: u128, partition: PartitionNo) -> Arc<Publication> {
        let to = Destination::Pool {
            pool: "default".into(),
            message_id: id.to_string(),
            execution_id: ExecutionId(uuid::Uuid::from_u128(execution)),
            partition,
            traceparent: None,
            may_be_bundled: true,
        };
        let body = Vec::new();
        Arc::new(Publication { id, to, body })
    }

    fn reply(id: u64) -> Arc<Publication> {
        let to = Destination::Client {
            reply_to: "client".to_owned(),
            correlation_id: None,
            message_type: "workflow.started".into(),
        };
        let body = Vec::new();
        Arc::new(Publication { id, to, body })
    }

    fn ids(publications: &[Arc<Publication>]) -> Vec<u64> {
        publications.iter().map(|one| one.id).collect()
    }

    fn after_confirm(pacing: &mut Pacing, one: &Publication, limit: usize) -> Vec<u64> {
        let mut out = Vec::new();
        pacing.confirmed(one, limit, &mut out);
        ids(&out)
    }

    #[test]
    fn each_execution_has_its_number_and_a_confirm_lets_the_next_go() {
        let mut pacing = Pacing::default();
        let first = job(1, 1, 0);
        let batch = vec![Arc::clone(&first), job(2, 1, 0), job(3, 1, 0), job(4, 2, 0)];
        assert_eq!(ids(&pacing.admit(batch, 2)), [1, 2, 4]);
        assert_eq!(ids(&pacing.admit(vec![job(5, 1, 0)], 2)), [0; 0]);
        assert_eq!(after_confirm(&mut pacing, &first, 2), [3]);
        // The limit is gone: what waits goes at once.
        assert_eq!(ids(&pacing.admit(vec![job(6, 1, 0)], usize::MAX)), [5, 6]);
    }

    #[test]
    fn nothing_is_kept_of_what_is_confirmed() {
        let mut pacing = Pacing::default();
        let (first, second) = (job(1, 1, 0), job(2, 1, 0));
        let batch = vec![Arc::clone(&first), Arc::clone(&second)];
        assert_eq!(ids(&pacing.admit(batch, 1)), [1]);
        assert_eq!(after_confirm(&mut pacing, &first, 1), [2]);
        assert_eq!(after_confirm(&mut pacing, &second, 1), [0; 0]);
        assert!(pacing.lanes.is_empty());
        assert_eq!(after_confirm(&mut pacing, &second, 1), [0; 0]);
    }

    #[test]
    fn a_lost_partition_takes_what_waits_along() {
        let mut pacing = Pacing::default();
        let (lost, kept) = (job(1, 1, 7), job(3, 2, 8));
        let batch = vec![
            Arc::clone(&lost),
            job(2, 1, 7),
            Arc::clone(&kept),
            job(4, 2, 8),
        ];
        assert_eq!(ids(&pacing.admit(batch, 1)), [1, 3]);
        pacing.remove_partition(7);
        assert_eq!(after_confirm(&mut pacing, &lost, 1), [0; 0]);
        assert_eq!(after_confirm(&mut pacing, &kept, 1), [4]);
    }

    #[test]
    fn executions_take_turns_and_keep_their_own_order() {
        let batch = vec![
            job(1, 1, 0),
            job(2, 1, 0),
            job(3, 1, 0),
            reply(4),
            job(5, 2, 0),
            job(6, 3, 0),
        ];
        assert_eq!(ids(&in_turns(batch)), [4, 1, 5, 6, 2, 3]);
    }

    #[test]
    fn beyond_its_first_an_execution_has_several_jobs_in_a_row() {
        let of = |execution, ids: std::ops::RangeInclusive<u64>| {
            ids.map(move |id| job(id, execution, 0))
        };
        let batch: Vec<_> = of(1, 1..=40).chain(of(2, 41..=80)).collect();
        let expected: Vec<u64> = [
            1..=1,
            41..=41,
            2..=17,
            42..=57,
            18..=33,
            58..=73,
            34..=40,
            74..=80,
        ]
        .into_iter()
        .flatten()
        .collect();
        assert_eq!(ids(&in_turns(batch)), expected);
    }
}
