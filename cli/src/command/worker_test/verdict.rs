//! What a check can say, and the clauses of the contract that it says it about.

use crate::failure::Failure;

/// How a check ended.
#[derive(Debug)]
pub enum Verdict {
    /// The worker does as the contract says; what was seen.
    Passed(String),
    /// The worker breaks a clause.
    Failed(Finding),
    /// The worker does without something optional.
    Absent(String),
    /// The check could not be made; what it needs.
    Skipped(String),
}

/// A clause that is broken.
#[derive(Debug)]
pub struct Finding {
    /// The clause.
    pub clause: Clause,
    /// What was seen.
    pub seen: String,
}

/// Why a check ends before its end.
#[derive(Debug)]
pub enum Stop {
    /// The worker breaks a clause.
    Found(Finding),
    /// The check cannot go on, through no fault of the worker.
    Broken(Failure),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Broken(failure)
    }
}

/// A clause of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clause {
    /// Every job is answered, and as the message format says.
    Answer,
    /// An answer names its job.
    Ids,
    /// What fails is said to have failed, and why.
    Failure,
    /// What a worker cannot do it refuses.
    UnknownAction,
    /// A job is acknowledged after the confirm of its answer, and then at once.
    Acknowledge,
    /// An answer that the broker refuses or returns is sent again.
    SendAgain,
    /// The start of a job that was delivered before is told first.
    Started,
    /// A message that is no job harms nobody.
    Garbage,
    /// A cancelled attempt ends as cancelled.
    Cancel,
    /// A job is told to be alive as often as was promised.
    Heartbeat,
    /// The time limit of a job ends it.
    TimeLimit,
    /// A job that is acknowledged early says so.
    Early,
}

impl Clause {
    /// All of them.
    #[cfg(test)]
    pub const ALL: [Self; 12] = [
        Self::Answer,
        Self::Ids,
        Self::Failure,
        Self::UnknownAction,
        Self::Acknowledge,
        Self::SendAgain,
        Self::Started,
        Self::Garbage,
        Self::Cancel,
        Self::Heartbeat,
        Self::TimeLimit,
        Self::Early,
    ];

    /// What the contract says.
    pub fn rule(self) -> &'static str {
        match self {
            Self::Answer => {
                "every job is answered with a `task.completed` that a coordinator can read"
            }
            Self::Ids => "the answer has the execution_id, task_id and attempt of its job",
            Self::Failure => {
                "what fails is answered as `failed`, with error.kind and error.message"
            }
            Self::UnknownAction => {
                "an action that the worker does not know is answered as `failed` with retryable false"
            }
            Self::Acknowledge => {
                "a job is acknowledged once the broker has confirmed its answer, and not before"
            }
            Self::SendAgain => {
                "answers are published with confirms and `mandatory`; one that is refused or returned is published again until it is confirmed"
            }
            Self::Started => {
                "a job with an x-delivery-count above 0 runs only after its `task.started` is confirmed"
            }
            Self::Garbage => {
                "a message that cannot be read as a job goes to the dead letters, and the worker goes on"
            }
            Self::Cancel => "a cancelled attempt is answered as `cancelled`",
            Self::Heartbeat => {
                "a heartbeat comes within the interval that was promised or asked for"
            }
            Self::TimeLimit => {
                "an attempt that runs into its time limit is answered as `timed_out`"
            }
            Self::Early => {
                "a job that is acknowledged early is told so, with the interval of its heartbeats"
            }
        }
    }

    /// The heading in docs/workers.md under which it stands.
    pub fn anchor(self) -> &'static str {
        match self {
            Self::Answer | Self::Ids => "the-answer",
            Self::Failure | Self::UnknownAction => "failures",
            Self::Acknowledge | Self::SendAgain => "acknowledge-after-the-confirm",
            Self::Started => "jobs-that-come-again",
            Self::Garbage => "messages-that-are-no-jobs",
            Self::Cancel => "cancels",
            Self::Heartbeat | Self::Early => "long-jobs",
            Self::TimeLimit => "time-limits",
        }
    }

    /// Ends a check, since this clause is broken.
    pub fn broken<T>(self, seen: impl Into<String>) -> Result<T, Stop> {
        Err(Stop::Found(Finding {
            clause: self,
            seen: seen.into(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_clause_stands_in_the_documentation() {
        let page = include_str!("../../../../docs/workers.md");
        let anchors: Vec<String> = page
            .lines()
            .filter_map(|line| line.strip_prefix("## "))
            .map(|heading| heading.to_lowercase().replace(' ', "-"))
            .collect();
        for clause in Clause::ALL {
            let anchor = clause.anchor();
            assert!(anchors.iter().any(|there| there == anchor), "{anchor}");
        }
    }
}
