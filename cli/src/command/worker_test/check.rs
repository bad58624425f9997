//! The list of checks: what each needs, whether a worker must pass it, and what it runs.

use flotilla_protocol::RawJson;
use flotilla_protocol::message::TaskJob;

use super::bench::Bench;
use super::verdict::{Stop, Verdict};
use super::{answers, delivery, long};

/// What a check needs besides an input that succeeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Nothing.
    Nothing,
    /// `--failing-input`.
    FailingInput,
    /// `--slow-input`.
    SlowInput,
    /// `--command`.
    Command,
}

/// A check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Check {
    /// A job is answered as it must be
    Reply,
    /// Several jobs at once are answered, each once
    Sequence,
    /// A job that fails is said to have failed
    Failure,
    /// An action that the worker does not know is refused
    UnknownAction,
    /// An answer that the broker refuses is sent again
    Confirm,
    /// An answer that the broker returns is sent again
    Mandatory,
    /// A job that comes again has its start told first
    Redelivery,
    /// The same job twice
    Duplicate,
    /// Messages that are no jobs
    Garbage,
    /// A job is acknowledged after the confirm of its answer
    Acknowledge,
    /// `kill -9` amid a job
    Killed,
    /// SIGSTOP amid a job, and SIGCONT
    Frozen,
    /// The start of a long job is told
    Started,
    /// A long job is told to be alive
    Heartbeat,
    /// A job runs into its time limit
    TimeLimit,
    /// A running job is cancelled
    Cancel,
    /// A job is cancelled before it comes
    CancelAhead,
    /// A job that may outlast the broker's patience is acknowledged early
    Early,
    /// A job of a later version of the contract
    NewerVersion,
}

/// The inputs that some checks need.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// One with which the action fails.
    pub failing: Option<RawJson>,
    /// One with which it takes a few seconds.
    pub slow: Option<RawJson>,
}

impl Check {
    /// Whether every worker must pass it.
    pub fn is_required(self) -> bool {
        match self {
            Self::Reply
            | Self::Sequence
            | Self::Failure
            | Self::UnknownAction
            | Self::Confirm
            | Self::Mandatory
            | Self::Redelivery
            | Self::Duplicate
            | Self::Garbage
            | Self::Acknowledge
            | Self::Killed
            | Self::Frozen => true,
            Self::Started
            | Self::Heartbeat
            | Self::TimeLimit
            | Self::Cancel
            | Self::CancelAhead
            | Self::Early
            | Self::NewerVersion => false,
        }
    }

    /// What it needs.
    pub fn needs(self) -> Needs {
        match self {
            Self::Failure => Needs::FailingInput,
            Self::Acknowledge | Self::Killed | Self::Frozen => Needs::Command,
            Self::Started | Self::Heartbeat | Self::TimeLimit | Self::Cancel | Self::Early => {
                Needs::SlowInput
            }
            Self::Reply
            | Self::Sequence
            | Self::UnknownAction
            | Self::Confirm
            | Self::Mandatory
            | Self::Redelivery
            | Self::Duplicate
            | Self::Garbage
            | Self::CancelAhead
            | Self::NewerVersion => Needs::Nothing,
        }
    }

    /// Makes the check, or says what it needs.
    pub async fn run(self, bench: &mut Bench, inputs: &Inputs) -> Result<Verdict, Stop> {
        if self.needs() == Needs::Command && bench.worker.is_none() {
            let needs = "--command, so that the test can start and kill the worker";
            return Ok(Verdict::Skipped(needs.to_owned()));
        }
        let slow = inputs.slow.clone().map(|input| bench.job_with(input));
        match self {
            Self::Reply => answers::reply(bench).await,
            Self::Sequence => answers::sequence(bench).await,
            Self::Failure => match inputs.failing.clone() {
                Some(input) => answers::failure(bench, input).await,
                None => skipped("--failing-input, with which the action fails"),
            },
            Self::UnknownAction => answers::unknown_action(bench).await,
            Self::Confirm => delivery::confirm(bench).await,
            Self::Mandatory => delivery::mandatory(bench).await,
            Self::Redelivery => delivery::redelivery(bench).await,
            Self::Duplicate => answers::duplicate(bench).await,
            Self::Garbage => answers::garbage(bench).await,
            Self::Acknowledge => delivery::acknowledge(bench).await,
            Self::Killed => delivery::killed(bench, slow.as_ref()).await,
            Self::Frozen => delivery::frozen(bench, slow.as_ref()).await,
            Self::CancelAhead => long::cancel_ahead(bench).await,
            Self::NewerVersion => answers::newer_version(bench).await,
            Self::Started | Self::Heartbeat | Self::TimeLimit | Self::Cancel | Self::Early => {
                match slow {
                    Some(job) => self.run_long(bench, job).await,
                    None => skipped("--slow-input, with which the action takes some seconds"),
                }
            }
        }
    }

    async fn run_long(self, bench: &mut Bench, job: TaskJob) -> Result<Verdict, Stop> {
        match self {
            Self::Started => long::started(bench, job).await,
            Self::Heartbeat => long::heartbeat(bench, job).await,
            Self::TimeLimit => long::time_limit(bench, job).await,
            Self::Cancel => long::cancel(bench, job).await,
            Self::Early => long::early(bench, job).await,
            Self::Reply
            | Self::Sequence
            | Self::Failure
            | Self::UnknownAction
            | Self::Confirm
            | Self::Mandatory
            | Self::Redelivery
            | Self::Duplicate
            | Self::Garbage
            | Self::Acknowledge
            | Self::Killed
            | Self::Frozen
            | Self::CancelAhead
            | Self::NewerVersion => skipped("a check of long jobs"),
        }
    }
}

fn skipped(needs: &str) -> Result<Verdict, Stop> {
    Ok(Verdict::Skipped(needs.to_owned()))
}
