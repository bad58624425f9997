//! Planted bugs: those of the turn logic, and those of what surrounds it.

use flotilla_turn::Mutant;

use crate::store::Fence;

/// A bug of the driver, the store or a worker that somebody could really write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ShellMutant {
    /// A take-over reads what is owed before it raises the epoch.
    StateReadBeforeEpoch,
    /// A connection is used again after a commit's time limit: the answer that comes late is taken for
    /// that of the next commit.
    LateAnswerTaken,
    /// The fence commits what it can, though it misses partitions.
    FenceCommitsTheRest,
    /// The fence asks for the epoch alone.
    FenceWithoutTurn,
    /// An acknowledgement reaches every channel of the coordinator.
    OneAckOverAllChannels,
    /// A worker acknowledges a job before its completion is confirmed.
    WorkerAcksFirst,
    /// A worker takes a completion for safe once it is sent.
    WorkerTrustsUnconfirmed,
    /// A publication counts as confirmed once it is sent.
    SentCountsAsConfirmed,
    /// A message is counted as passed on before it is.
    ForwardNotAwaited,
    /// Nobody looks for lost jobs.
    LostJobsNotFound,
    /// Nobody tells the owners of jobs that their bundle came back.
    ReturnNotTold,
    /// A process that stood still believes what an old answer says about the time.
    OldAnswerSetsClockBack,
}

impl ShellMutant {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::StateReadBeforeEpoch,
        Self::LateAnswerTaken,
        Self::FenceCommitsTheRest,
        Self::FenceWithoutTurn,
        Self::OneAckOverAllChannels,
        Self::WorkerAcksFirst,
        Self::WorkerTrustsUnconfirmed,
        Self::SentCountsAsConfirmed,
        Self::ForwardNotAwaited,
        Self::LostJobsNotFound,
        Self::ReturnNotTold,
        Self::OldAnswerSetsClockBack,
    ];

    pub(crate) fn fence(self) -> Fence {
        match self {
            Self::FenceCommitsTheRest => Fence::CommitsTheRest,
            Self::FenceWithoutTurn => Fence::WithoutTurn,
            Self::StateReadBeforeEpoch
            | Self::LateAnswerTaken
            | Self::OneAckOverAllChannels
            | Self::WorkerAcksFirst
            | Self::WorkerTrustsUnconfirmed
            | Self::SentCountsAsConfirmed
            | Self::ForwardNotAwaited
            | Self::LostJobsNotFound
            | Self::ReturnNotTold
            | Self::OldAnswerSetsClockBack => Fence::Sound,
        }
    }
}

/// A planted bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Planted {
    /// In the turn logic.
    Turn(Mutant),
    /// Around it.
    Shell(ShellMutant),
}

impl Planted {
    /// Every one.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let turn = Mutant::ALL.into_iter().map(Self::Turn);
        turn.chain(ShellMutant::ALL.into_iter().map(Self::Shell))
            .collect()
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Turn(mutant) => format!("{mutant:?}"),
            Self::Shell(mutant) => format!("{mutant:?}"),
        }
    }
}
