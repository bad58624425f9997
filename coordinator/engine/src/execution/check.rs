//! What must hold of an execution after each step.

use super::run::RunStatus;
use super::{Execution, ExecutionStatus};

impl Execution {
    /// What must hold after each step; checked in debug builds and tests.
    ///
    /// # Errors
    /// Says which rule is broken.
    pub fn check(&self) -> Result<(), String> {
        self.check_counts()?;
        self.check_live()?;
        let word = self.status.word();
        let errors = self.errors.len();
        let fits = match self.status {
            ExecutionStatus::Failing | ExecutionStatus::Failed => errors > 0,
            ExecutionStatus::Running
            | ExecutionStatus::Pausing
            | ExecutionStatus::Paused
            | ExecutionStatus::Succeeded => errors == 0,
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

    /// Whether something will happen to it again, and what is held back may be.
    fn check_live(&self) -> Result<(), String> {
        let live = || self.live.values();
        let with_workers = live().filter(|run| run.is_with_a_worker()).count();
        let waiting = live()
            .filter(|run| run.status == RunStatus::Waiting)
            .count();
        let held = live().filter(|run| run.held).count();
        let fits = match self.status {
            ExecutionStatus::Running => waiting < self.live.len() && held == 0,
            ExecutionStatus::Failing => waiting < self.live.len(),
            ExecutionStatus::Pausing => with_workers > 0,
            ExecutionStatus::Paused => with_workers == 0,
            ExecutionStatus::Cancelling => with_workers > 0 && with_workers == self.live.len(),
            ExecutionStatus::Succeeded | ExecutionStatus::Failed | ExecutionStatus::Cancelled => {
                self.live.is_empty()
            }
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
