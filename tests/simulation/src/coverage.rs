//! What has happened how often. A kind of fault that never happened was not tested.

/// Something that the schedules must contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Happening {
    /// A commit was not executed, and its sender does not know.
    CommitLost,
    /// A commit was executed, and its sender does not know.
    CommitAnswerLost,
    /// A commit is executed after its sender has given it up.
    CommitLate,
    /// A late commit changed something.
    CommitLateExecuted,
    /// A commit of a former owner came between the statements of a take-over.
    CommitInTakeOver,
    /// A commit was refused by the fence.
    Fenced,
    /// Two coordinators have met with the same start.
    StartExists,
    /// A turn could not be loaded.
    LoadFailed,
    /// Timers could not be loaded.
    TimersNotLoaded,
    /// A take-over failed after it had raised the epochs.
    TakeFailed,
    /// A partition was taken from a coordinator that lives.
    TakenFromLiving,
    /// A publication was lost.
    PublicationLost,
    /// A publication was stored, and its confirm was lost.
    ConfirmLost,
    /// A publication arrives after its sender has given it up.
    PublicationLate,
    /// A publication came back.
    Returned,
    /// A publisher was blocked.
    PublisherBlocked,
    /// A channel closed.
    ChannelClosed,
    /// A channel fell silent.
    ChannelSilent,
    /// A connection of a coordinator closed.
    ConnectionClosed,
    /// A coordinator died.
    CoordinatorCrashed,
    /// A coordinator stood still.
    CoordinatorPaused,
    /// A coordinator was asked to stop.
    CoordinatorStopped,
    /// A coordinator joined the others.
    CoordinatorStarted,
    /// A worker died.
    WorkerCrashed,
    /// A worker stood still.
    WorkerPaused,
    /// A worker never answers a job.
    WorkerHung,
    /// A completion came for an attempt that was no longer current.
    ZombieCompletion,
    /// A completion was sent twice.
    CompletionTwice,
    /// Several completions were one message.
    CompletionArray,
    /// A job was delivered again.
    JobRedelivered,
    /// A job became a dead letter.
    JobDied,
    /// The queue of a pool was deleted while it was empty.
    QueueDeleted,
    /// A client had gone.
    ClientGone,
    /// A start came twice.
    StartTwice,
    /// A deadline ended an attempt.
    DeadlineFired,
    /// A suspect was marked.
    SuspectMarked,
    /// A message was taken for poison.
    Poison,
    /// Partitions were given back.
    HandedOver,
    /// A bundle came back.
    BundleReturned,
    /// Jobs were found lost.
    JobsFoundLost,
    /// The queue of a pool lost what was in it.
    JobsPurged,
    /// Workers were told to stop an attempt.
    CancelSent,
    /// A start went on to the owner of its execution.
    StartPassedOn,
    /// A client sent a command.
    Commanded,
    /// A client ordered a rerun.
    RerunOrdered,
    /// An execution ran again.
    RanAgain,
    /// An execution was paused at the end.
    Paused,
    /// An inbox was deleted.
    InboxDeleted,
    /// A partition was added.
    PartitionAdded,
    /// A job killed its worker.
    WorkerKilled,
    /// A task was given up since its workers died.
    WorkerLost,
    /// A job was acknowledged while it ran.
    AcknowledgedEarly,
    /// A heartbeat was sent.
    Heartbeat,
    /// A worker fell silent, and its job was sent again.
    WorkerSilent,
    /// An execution had children.
    Children,
}

impl Happening {
    const NAMES: [(Self, &'static str); 55] = [
        (Self::CommitLost, "commits lost"),
        (Self::CommitAnswerLost, "commit answers lost"),
        (Self::CommitLate, "commits late"),
        (Self::CommitLateExecuted, "commits executed late"),
        (Self::CommitInTakeOver, "commits amid a take-over"),
        (Self::Fenced, "commits fenced"),
        (Self::StartExists, "starts met"),
        (Self::LoadFailed, "loads failed"),
        (Self::TimersNotLoaded, "timers not loaded"),
        (Self::TakeFailed, "take-overs failed"),
        (Self::TakenFromLiving, "taken from the living"),
        (Self::PublicationLost, "publications lost"),
        (Self::ConfirmLost, "confirms lost"),
        (Self::PublicationLate, "publications late"),
        (Self::Returned, "publications returned"),
        (Self::PublisherBlocked, "publishers blocked"),
        (Self::ChannelClosed, "channels closed"),
        (Self::ChannelSilent, "channels silent"),
        (Self::ConnectionClosed, "connections closed"),
        (Self::CoordinatorCrashed, "coordinators crashed"),
        (Self::CoordinatorPaused, "coordinators paused"),
        (Self::CoordinatorStopped, "coordinators stopped"),
        (Self::CoordinatorStarted, "coordinators started"),
        (Self::WorkerCrashed, "workers crashed"),
        (Self::WorkerPaused, "workers paused"),
        (Self::WorkerHung, "jobs hung"),
        (Self::ZombieCompletion, "zombie completions"),
        (Self::CompletionTwice, "completions twice"),
        (Self::CompletionArray, "completions in arrays"),
        (Self::JobRedelivered, "jobs redelivered"),
        (Self::JobDied, "jobs died"),
        (Self::QueueDeleted, "queues deleted"),
        (Self::ClientGone, "clients gone"),
        (Self::StartTwice, "starts twice"),
        (Self::DeadlineFired, "deadlines fired"),
        (Self::SuspectMarked, "suspects marked"),
        (Self::Poison, "poison"),
        (Self::HandedOver, "partitions given back"),
        (Self::BundleReturned, "bundles returned"),
        (Self::JobsFoundLost, "jobs found lost"),
        (Self::JobsPurged, "queues purged"),
        (Self::CancelSent, "cancels sent"),
        (Self::StartPassedOn, "starts passed on"),
        (Self::Commanded, "commands"),
        (Self::RerunOrdered, "reruns ordered"),
        (Self::RanAgain, "executions that ran again"),
        (Self::Paused, "executions left paused"),
        (Self::InboxDeleted, "inboxes deleted"),
        (Self::PartitionAdded, "partitions added"),
        (Self::WorkerKilled, "workers killed"),
        (Self::WorkerLost, "tasks given up"),
        (Self::AcknowledgedEarly, "jobs acknowledged early"),
        (Self::Heartbeat, "heartbeats sent"),
        (Self::WorkerSilent, "workers silent"),
        (Self::Children, "families"),
    ];
}

/// How often each has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coverage {
    counts: [u64; Happening::NAMES.len()],
    /// Steps that were taken.
    pub steps: u64,
}

impl Default for Coverage {
    fn default() -> Self {
        Self {
            counts: [0; Happening::NAMES.len()],
            steps: 0,
        }
    }
}

impl Coverage {
    pub(crate) fn note(&mut self, happening: Happening) {
        self.counts[happening as usize] += 1;
    }

    /// How often it has happened.
    #[must_use]
    pub fn count(&self, happening: Happening) -> u64 {
        self.counts[happening as usize]
    }

    /// Adds what happened in another schedule.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        self.steps += other.steps;
    }

    /// What never happened.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        let never = Happening::NAMES
            .iter()
            .filter(|(happening, _)| self.count(*happening) == 0);
        never.map(|(_, name)| *name).collect()
    }

    /// All counts in words.
    #[must_use]
    pub fn show(&self) -> String {
        let counts = Happening::NAMES
            .iter()
            .map(|(happening, name)| format!("{name} {}", self.count(*happening)));
        counts.collect::<Vec<_>>().join(", ")
    }
}
