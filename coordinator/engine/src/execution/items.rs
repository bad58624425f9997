//! A task with items: its first window, and one item after another.

use std::collections::BTreeSet;

use flotilla_protocol::RunNo;

use super::changes::{TimerChange, TimerKind, TransitionKind};
use super::failure::{FieldError, kind};
use super::log::{Origin, RunEntry};
use super::retry::{Rendered, whole};
use super::run::{Run, RunStatus};
use super::sight::Sight;
use super::spread::{Item, ItemEnds, MAX_ITEMS_IN_FLIGHT, MOST_UNREAD_RESULTS, Progress, Spread};
use super::step::{Due, Step};
use super::{Execution, MAX_JOBS_PER_STEP};
use crate::json::Json;
use crate::scope::Ended;
use crate::workflow::WithItems;

/// An item that is rendered, and gets its run when the step is dispatched.
pub(super) struct Piece {
    pub index: u32,
    rendered: Rendered,
}

impl Execution {
    /// Whether the attempt of a run is told to stop, by its number.
    pub(super) fn is_told_to_stop_run(&self, no: RunNo) -> bool {
        self.live
            .get(&no)
            .is_some_and(|run| self.is_told_to_stop(run))
    }

    pub(super) fn spread(&self, no: RunNo) -> Option<&Spread> {
        self.live.get(&no)?.spread.as_deref()
    }
}

impl Step<'_> {
    /// Lets a task with items in. The first window is rendered as one: if one of its items cannot
    /// be, none starts.
    pub(super) fn enter_items(&mut self, no: RunNo, with_items: &WithItems, exempt: bool) {
        let spread = match self.spread_out(no, with_items, exempt) {
            Ok(spread) if spread.progress.count > 0 => spread,
            Ok(_) => return self.end_run(no, Ended::succeeded(Json::of(&[(); 0]))),
            Err(error) => return self.end_run(no, Ended::not_evaluated(&error)),
        };
        self.begin_items(no, spread, exempt);
    }

    /// Renders the first window.
    pub(super) fn begin_items(&mut self, no: RunNo, spread: Spread, exempt: bool) {
        let Some(run) = self.execution.live.get_mut(&no) else {
            return;
        };
        run.spread = Some(Box::new(spread));
        let mut pieces = Vec::new();
        let room = MAX_JOBS_PER_STEP.saturating_sub(self.due_jobs());
        while pieces.len() < room
            && let Some(index) = self.next_piece(no)
        {
            match self.render_piece(no, index) {
                Ok(piece) => pieces.push(piece),
                Err(error) => {
                    if let Some(run) = self.execution.live.get_mut(&no) {
                        run.spread = None;
                    }
                    return self.end_run(no, Ended::not_evaluated(&error));
                }
            }
        }
        self.due.push(Due::Spread {
            run: no,
            exempt,
            pieces,
        });
    }

    /// The items of a run, none of which has started.
    fn spread_out(
        &self,
        no: RunNo,
        with_items: &WithItems,
        exempt: bool,
    ) -> Result<Spread, FieldError> {
        let run = self.execution.live.get(&no).expect("it was let in");
        let task = &self.workflow.tasks[run.task.0];
        let sight = Sight::of_run(self.execution, run);
        let scope = sight.scope(&run.branch.vars, None);
        let field = "with_items";
        let list = with_items
            .list
            .items(&scope)
            .map_err(|error| FieldError::new(field, &error))?;
        let Some(items) = list.count() else {
            return Err(FieldError::value(field, "it is not a list".to_owned()));
        };
        if items > self.workflow.max_items {
            let most = self.workflow.max_items;
            return Err(FieldError {
                kind: kind::LIMIT_EXCEEDED,
                ..FieldError::value(
                    field,
                    format!("there are {items} items; at most {most} (max_items)"),
                )
            });
        }
        let concurrency = match &with_items.concurrency {
            None => MAX_ITEMS_IN_FLIGHT,
            Some(concurrency) => whole(concurrency, &scope, "concurrency", 1)?,
        };
        let count = items.div_ceil(with_items.batch_size.unwrap_or(1));
        let progress = Progress {
            count,
            batch_size: with_items.batch_size,
            concurrency: concurrency.min(MAX_ITEMS_IN_FLIGHT),
            tolerated: with_items.tolerate.of(count),
            next: 0,
            active: 0,
            failed: 0,
            cancelled: 0,
            keeps_results: task.reads_result || count <= MOST_UNREAD_RESULTS,
            stopped: false,
            cancelling: false,
            exempt,
            kept_of: None,
            put_off: false,
        };
        Ok(Spread {
            list,
            progress,
            ends: ItemEnds::new(progress.keeps_results),
            kept: BTreeSet::new(),
        })
    }

    /// Counts the next item as in flight; `None` if there is no room for another.
    fn next_piece(&mut self, no: RunNo) -> Option<u32> {
        let run = self.execution.live.get_mut(&no)?;
        let spread = run.spread.as_deref_mut()?;
        if !spread.progress.has_room() {
            return None;
        }
        let index = spread.progress.next;
        spread.progress.next += 1;
        spread.progress.active += 1;
        spread.pass_kept();
        self.changes.touched.insert(no);
        Some(index)
    }

    fn render_piece(&self, no: RunNo, index: u32) -> Result<Piece, FieldError> {
        let run = self.execution.live.get(&no).expect("its items are run");
        let task = &self.workflow.tasks[run.task.0];
        let item = self.item(run, index);
        let sight = Sight::of_item(self.execution, run, &item).with_attempt(1);
        let rendered = Rendered::new(task, &sight.scope(&run.branch.vars, None), None)
            .map_err(|error| error.at_item(index))?;
        Ok(Piece { index, rendered })
    }

    fn item(&self, run: &Run, index: u32) -> Item {
        let spread = run.spread.as_deref().expect("its items are run");
        let items = spread.list.count().unwrap_or(0);
        Item {
            of: run.no,
            index,
            batch_size: spread.progress.batch(index, items),
        }
    }

    /// The first window of a task with items, once the whole step is rendered: the task has started.
    pub(super) fn begin_spread(&mut self, no: RunNo) {
        let Some(run) = self.execution.live.get_mut(&no) else {
            return;
        };
        run.status = RunStatus::Spread;
        run.started_at = Some(self.now);
        run.unsaved.items = true;
        self.changes.touched.insert(no);
        let count = run.spread.as_ref().map(|spread| spread.progress.count);
        self.begin_total(no);
        self.rest_timer(no);
        self.log_run(
            TransitionKind::TaskStarted,
            no,
            RunEntry {
                to: Some("running"),
                detail: Some(Json::of(&serde_json::json!({ "items": count }))),
                ..RunEntry::default()
            },
        );
    }

    /// Gives an item its run; gives the number of that.
    pub(super) fn create_item(&mut self, of: RunNo, piece: Piece) -> Option<RunNo> {
        let run = self.execution.live.get(&of)?;
        let item = self.item(run, piece.index);
        let no = self.create_item_run(of, item)?;
        let run = self.execution.live.get_mut(&no)?;
        piece.rendered.apply(run);
        Some(no)
    }

    fn create_item_run(&mut self, of: RunNo, item: Item) -> Option<RunNo> {
        let whole = self.execution.live.get(&of)?;
        let (task, visit, branch) = (whole.task, whole.visit, whole.branch.clone());
        let no = self.add_run(task, visit, branch);
        let run = self.execution.live.get_mut(&no)?;
        run.caused_by.push(of);
        run.item = Some(item);
        Some(no)
    }

    /// Lets items start while there is room, at most as many as one step may dispatch.
    pub(super) fn open_window(&mut self, no: RunNo) {
        let room = MAX_JOBS_PER_STEP.saturating_sub(self.due_jobs());
        for _ in 0..room {
            let Some(index) = self.next_piece(no) else {
                break;
            };
            match self.render_piece(no, index) {
                Ok(piece) => self.due.push(Due::Item { of: no, piece }),
                Err(error) => self.fail_item(no, index, &error),
            }
        }
        if self
            .execution
            .spread(no)
            .is_some_and(|spread| spread.progress.is_over())
        {
            self.end_spread(no);
        } else {
            self.put_off_rest(no);
        }
    }

    /// Where there is room for more items than one step may dispatch, a timer lets them start.
    pub(super) fn put_off_rest(&mut self, no: RunNo) {
        let Some(spread) = self.spread_mut(no) else {
            return;
        };
        if spread.progress.has_room() && !spread.progress.put_off {
            spread.progress.put_off = true;
            self.changes.timers.push(TimerChange::Set {
                run: no,
                kind: TimerKind::Dispatch,
                due: self.now,
            });
        }
    }

    /// An item that cannot be rendered, once others have started: it has failed.
    fn fail_item(&mut self, of: RunNo, index: u32, error: &FieldError) {
        let Some(run) = self.execution.live.get(&of) else {
            return;
        };
        let item = self.item(run, index);
        if let Some(no) = self.create_item_run(of, item) {
            self.close_item(no, item, Ended::not_evaluated(error), &Origin::default());
        }
    }
}
