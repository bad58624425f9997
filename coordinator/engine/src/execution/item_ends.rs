//! The ends of items, and of the task that they belong to: what a failure means for the others, and
//! what stops them.

use flotilla_protocol::RunNo;

use super::ExecutionStatus;
use super::changes::TimerChange;
use super::failure::kind;
use super::log::{Origin, origin_detail};
use super::run::RunStatus;
use super::spread::{Item, Spread};
use super::step::{Due, Step};
use crate::json::Json;
use crate::scope::{EndStatus, Ended};
use crate::workflow::OnItemFailure;

impl Step<'_> {
    /// The run of an item has ended: the next may start, or the task has ended.
    pub(super) fn end_item(&mut self, no: RunNo, item: Item, ended: Ended, origin: &Origin) {
        self.close_item(no, item, ended, origin);
        self.advance(item.of);
    }

    pub(super) fn close_item(&mut self, no: RunNo, item: Item, ended: Ended, origin: &Origin) {
        let Some(mut run) = self.execution.live.remove(&no) else {
            return;
        };
        let is_old = run.attempt > 0 || self.execution.is_cancelling(&run);
        self.close(&mut run, ended.status, is_old, origin_detail(origin));
        if let Some(spread) = self.spread_mut(item.of) {
            spread.note_end(item.index, &ended);
        }
        self.bury(run, ended);
        self.react_to_failures(item.of);
    }

    pub(super) fn spread_mut(&mut self, no: RunNo) -> Option<&mut Spread> {
        let spread = self.execution.live.get_mut(&no)?.spread.as_deref_mut()?;
        self.changes.touched.insert(no);
        Some(spread)
    }

    /// More have failed than are tolerated: what the task says of the others.
    fn react_to_failures(&mut self, no: RunNo) {
        let Some(run) = self.execution.live.get(&no) else {
            return;
        };
        let Some(with_items) = &self.workflow.tasks[run.task.0].items else {
            return;
        };
        let on_item_failure = with_items.on_item_failure;
        let Some(progress) = run.spread.as_ref().map(|spread| spread.progress) else {
            return;
        };
        if progress.stopped || !progress.has_failed() {
            return;
        }
        match on_item_failure {
            OnItemFailure::Continue => {}
            OnItemFailure::Drain => self.stop_spread(no),
            OnItemFailure::Cancel => {
                self.stop_spread(no);
                if let Some(spread) = self.spread_mut(no) {
                    spread.progress.cancelling = true;
                }
                self.stop_items(no);
            }
        }
    }

    /// Lets no other item start, also none that was rendered in this step.
    pub(super) fn stop_spread(&mut self, no: RunNo) {
        let rendered = |due: &Due| matches!(due, Due::Item { of, .. } if *of == no);
        let given_up: Vec<u32> = self
            .due
            .iter()
            .filter(|due| rendered(due))
            .filter_map(Due::item_index)
            .collect();
        self.due.retain(|due| !rendered(due));
        self.clear_timer(no);
        if let Some(spread) = self.spread_mut(no) {
            let progress = &mut spread.progress;
            progress.stopped = true;
            for index in given_up {
                progress.next = progress.next.min(index);
                progress.active -= 1;
            }
        }
        self.rest_timer(no);
    }

    /// The items of a task that have started and not ended, and whether a worker has them.
    fn live_items(&self, of: RunNo) -> Vec<(RunNo, bool)> {
        self.execution
            .live
            .range(of..)
            .filter(|(_, run)| run.item.is_some_and(|item| item.of == of))
            .map(|(no, run)| (*no, run.is_with_a_worker()))
            .collect()
    }

    /// A task is about to end before its items: counts those in flight as cancelled, tells their
    /// workers to stop, and gives their runs.
    pub(super) fn cut_off_items(&mut self, of: RunNo) -> Vec<RunNo> {
        if self.execution.spread(of).is_none() {
            return Vec::new();
        }
        let items = self.live_items(of);
        for (no, is_with_a_worker) in &items {
            if *is_with_a_worker {
                self.order_stop(*no, "the task has taken too long");
            }
        }
        if let Some(spread) = self.spread_mut(of) {
            let progress = &mut spread.progress;
            progress.stopped = true;
            progress.cancelled += progress.active;
            progress.active = 0;
        }
        items.into_iter().map(|(no, _)| no).collect()
    }

    /// Ends items whose task has ended.
    pub(super) fn close_cut_off(&mut self, items: Vec<RunNo>) {
        for no in items {
            let Some(mut run) = self.execution.live.remove(&no) else {
                continue;
            };
            self.changes.timers.push(TimerChange::Clear { run: no });
            let is_old = run.attempt > 0;
            self.close(&mut run, EndStatus::Cancelled, is_old, None);
            self.bury(run, Ended::cancelled("its task has taken too long"));
        }
    }

    /// Tells the items in flight to stop.
    fn stop_items(&mut self, of: RunNo) {
        let items = self.live_items(of);
        let reason = "another item has failed".to_owned();
        for (no, is_with_a_worker) in items {
            if is_with_a_worker {
                self.tell_to_stop(no, Some(&reason));
            } else {
                self.end_wait(no);
            }
        }
    }

    /// An item has ended, or its task may go on.
    pub(super) fn advance(&mut self, no: RunNo) {
        let Some(run) = self.execution.live.get(&no) else {
            return;
        };
        let Some(progress) = run.spread.as_ref().map(|spread| spread.progress) else {
            return;
        };
        if progress.is_over() {
            self.end_spread(no);
        } else if progress.put_off {
            // What starts next is the business of the timer, so that it always finds room.
        } else if self.execution.status.is_paused() {
            if progress.has_room() {
                self.hold_back(no);
            }
        } else if self.execution.starts_new() || progress.exempt {
            self.open_window(no);
        }
    }

    /// All items that will run have ended: so has the task.
    pub(super) fn end_spread(&mut self, no: RunNo) {
        let Some(run) = self.execution.live.get(&no) else {
            return;
        };
        let Some(spread) = run.spread.as_deref() else {
            return;
        };
        let progress = spread.progress;
        let is_read = self.workflow.tasks[run.task.0].reads_result;
        let result = spread.ends.results(progress.count);
        let is_cancelled = self.execution.status == ExecutionStatus::Cancelling;
        let ended = if progress.has_failed() && !(is_cancelled && progress.is_cut_off()) {
            Ended::items_failed(progress.failed, progress.count, &spread.ends.failures())
        } else if progress.is_cut_off() {
            Ended::cancelled("not all of its items were run")
        } else if result.is_none() && is_read {
            let message = "the results of its items take more than 8 MiB together; publish less, \
                           or read them from the rows";
            Ended::failed(kind::LIMIT_EXCEEDED, message)
        } else {
            Ended::succeeded(Json::null())
        };
        let ended = Ended {
            result: result.unwrap_or_else(Json::null),
            ..ended
        };
        if ended.status == EndStatus::Cancelled
            && self.execution.status != ExecutionStatus::Cancelling
        {
            self.end_cut_off(no, ended);
        } else {
            self.end_run(no, ended);
        }
    }

    /// Ends a task whose items a failure elsewhere has kept from starting. That is no failure of
    /// its own, and nothing follows.
    fn end_cut_off(&mut self, no: RunNo, ended: Ended) {
        self.clear_timer(no);
        let Some(mut run) = self.execution.live.remove(&no) else {
            return;
        };
        self.execution
            .ends
            .merge(&run.branch, &self.execution.links);
        self.close(&mut run, EndStatus::Cancelled, true, None);
        self.bury(run, ended);
    }

    /// The execution has failed: of tasks with items, no others start.
    pub(super) fn stop_spreads(&mut self) {
        let spreads: Vec<RunNo> = self
            .execution
            .live
            .values()
            .filter(|run| run.status == RunStatus::Spread)
            .filter(|run| {
                let progress = run.spread.as_ref().map(|spread| spread.progress);
                progress.is_some_and(|progress| !progress.stopped && !progress.exempt)
            })
            .map(|run| run.no)
            .collect();
        for no in spreads {
            self.stop_spread(no);
            self.advance(no);
        }
    }
}
