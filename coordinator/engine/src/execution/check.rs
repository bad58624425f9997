//! What must hold of an execution after each step.

use std::collections::BTreeMap;

use flotilla_protocol::RunNo;

use super::run::{Run, RunStatus};
use super::{Execution, ExecutionStatus};
use crate::workflow::FailPolicy;

impl Execution {
    /// What must hold after each step; checked in debug builds and tests.
    ///
    /// # Errors
    /// Says which rule is broken.
    pub fn check(&self) -> Result<(), String> {
        self.check_counts()?;
        self.check_live()?;
        self.check_spreads()?;
        self.check_waits()?;
        let word = self.status.word();
        let errors = self.errors.len();
        let fits = match self.status {
            ExecutionStatus::Failing | ExecutionStatus::Failed | ExecutionStatus::TimedOut => {
                errors > 0
            }
            ExecutionStatus::Running | ExecutionStatus::Succeeded => errors == 0,
            ExecutionStatus::Pausing | ExecutionStatus::Paused => {
                let goes_on = self.workflow.fail_policy == FailPolicy::Continue;
                errors == 0 || goes_on || self.in_finally()
            }
            ExecutionStatus::Cancelling | ExecutionStatus::Cancelled => true,
        };
        if fits {
            Ok(())
        } else {
            Err(format!("{word} with {errors} errors"))
        }
    }

    fn check_counts(&self) -> Result<(), String> {
        let counts = &self.counts;
        let ended = counts.succeeded
            + counts.failed
            + counts.timed_out
            + counts.cancelled
            + counts.skipped
            + counts.omitted;
        if counts.total != counts.active + ended {
            return Err(format!("the counts do not add up: {counts:?}"));
        }
        if usize::try_from(counts.active) != Ok(self.live.len()) {
            return Err(format!(
                "{} live runs, {} counted",
                self.live.len(),
                counts.active
            ));
        }
        Ok(())
    }

    /// Whether each task with items counts the runs of its items, and goes on.
    fn check_spreads(&self) -> Result<(), String> {
        let mut items: BTreeMap<RunNo, u32> = BTreeMap::new();
        for item in self.live.values().filter_map(|run| run.item) {
            *items.entry(item.of).or_default() += 1;
        }
        for run in self.live.values() {
            let active = items.remove(&run.no).unwrap_or(0);
            let is_spread = run.status == RunStatus::Spread;
            let Some(spread) = run.spread.as_deref().filter(|_| is_spread) else {
                if active > 0 || is_spread || run.spread.is_some() {
                    let (no, word) = (run.no, run.status.word());
                    return Err(format!("run {no} is {word} with {active} items in flight"));
                }
                continue;
            };
            let progress = spread.progress;
            let goes_on = active > 0 || progress.put_off || run.held;
            if active != progress.active || active > progress.concurrency || !goes_on {
                let no = run.no;
                return Err(format!(
                    "run {no} has {active} items in flight: {progress:?}"
                ));
            }
        }
        match items.first_key_value() {
            Some((of, _)) => Err(format!("items of run {of} outlive it")),
            None => Ok(()),
        }
    }

    /// Whether something that is alive can still reach what waits for others.
    fn check_waits(&self) -> Result<(), String> {
        if self.is_draining() || self.status.is_paused() {
            return Ok(());
        }
        for run in self.live.values() {
            if run.status != RunStatus::Waiting || run.held {
                continue;
            }
            let leads =
                |other: &Run| other.no != run.no && self.workflow.reach.leads(other.task, run.task);
            if !self.live.values().any(leads) {
                let name = &self.workflow.tasks[run.task.0].name;
                return Err(format!(
                    "run {} of {name} waits, and nothing leads to it",
                    run.no
                ));
            }
        }
        Ok(())
    }

    /// Whether something will happen to it again, and what is held back may be.
    fn check_live(&self) -> Result<(), String> {
        let live = || self.live.values();
        let with_workers = live().filter(|run| run.is_with_a_worker()).count();
        let children = live().filter(|run| self.is_child(run)).count();
        let waiting = live()
            .filter(|run| run.status == RunStatus::Waiting)
            .count();
        let held = live().filter(|run| run.held).count();
        let spread = live().filter(|run| run.status == RunStatus::Spread).count();
        let fits = match self.status {
            ExecutionStatus::Running => waiting < self.live.len() && held == 0,
            ExecutionStatus::Failing => waiting < self.live.len(),
            ExecutionStatus::Pausing => with_workers > children,
            ExecutionStatus::Paused => with_workers == children,
            ExecutionStatus::Cancelling => {
                let delayed = live()
                    .filter(|run| run.status == RunStatus::Delayed)
                    .count();
                let put_off = if self.in_finally() { delayed } else { 0 };
                let moving = with_workers + spread + put_off;
                moving > 0 && moving == self.live.len()
            }
            ExecutionStatus::Succeeded
            | ExecutionStatus::Failed
            | ExecutionStatus::Cancelled
            | ExecutionStatus::TimedOut => self.live.is_empty(),
        };
        if fits {
            return Ok(());
        }
        Err(format!(
            "{} with {} live runs, of which {with_workers} are with workers, {waiting} wait and \
             {held} are held back",
            self.status.word(),
            self.live.len()
        ))
    }
}
