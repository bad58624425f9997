//! What the turn logic asks the driver to do, and what the driver answers. Plain data: no channel,
//! handle or closure.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use flotilla_engine::Workflow;
use flotilla_protocol::ExecutionId;
use flotilla_protocol::message::{CoordinatorProbe, TaskCancel};

use crate::message::{ChannelId, Delivered, DeliveryId, Forward};
use crate::rows::{
    Commit, CommitAnswer, ControlLookup, Epoch, FoundDefinition, FoundStart, LoadedExecution,
    LoadedPast, LostJob, PartitionNo, StartLookup, TakenPartition, TimerRow,
};

/// Something that has happened.
#[derive(Debug)]
pub enum Input {
    /// Some time has passed.
    Tick,
    /// Others have let go of partitions.
    PartitionsFreed,
    /// Somebody has registered a workflow.
    WorkflowRegistered,
    /// The answer to [`Effect::TakePartitions`].
    PartitionsTaken {
        /// These partitions are ours now.
        taken: Vec<TakenPartition>,
        /// How many partitions each living coordinator is to hold at most; `None` if the database
        /// did not say.
        share: Option<usize>,
    },
    /// A channel was opened, as asked for.
    ChannelOpened {
        /// The channel.
        channel: ChannelId,
        /// Which opening.
        generation: u64,
    },
    /// A channel has closed; what it delivered and was not acknowledged comes again.
    ChannelClosed {
        /// The channel.
        channel: ChannelId,
        /// Which opening.
        generation: u64,
    },
    /// The broker delivered a message.
    Delivered(Delivered),
    /// What was asked for by [`Effect::Load`].
    Loaded(Loaded),
    /// It could not be loaded.
    LoadFailed(LoadFailure),
    /// What was asked for by [`Effect::LoadTimers`].
    TimersLoaded {
        /// The partition.
        partition: PartitionNo,
        /// The epoch in which they were asked for.
        epoch: Epoch,
        /// Up to when.
        until: DateTime<Utc>,
        /// The timers; `None` if they could not be loaded.
        timers: Option<Vec<TimerRow>>,
    },
    /// The answer to [`Effect::Commit`].
    CommitAnswered(CommitAnswer),
    /// The broker has these publications.
    PublishConfirmed(Vec<u64>),
    /// The broker has no queue for this publication.
    PublishReturned(u64),
    /// Nobody knows what became of this publication.
    PublishFailed(u64),
    /// The connection that publishes is there (blocked or not), or is not.
    PublisherChanged {
        /// Whether it is there.
        is_up: bool,
    },
    /// The queue of a pool is there, as asked for by [`Effect::DeclarePool`].
    PoolDeclared(Arc<str>),
    /// The answer to [`Effect::InspectQueue`].
    QueueInspected {
        /// The channel that reads the queue.
        channel: ChannelId,
        /// Which opening.
        generation: u64,
        /// Messages that wait in the queue; `None` if it could not be looked at.
        messages: Option<u32>,
    },
    /// Jobs that were dispatched long ago, that nobody has started, and that are in no queue: the
    /// answer to [`Effect::FindLostJobs`].
    JobsLost(Vec<LostJob>),
    /// A message was passed on, as asked for by [`Effect::Forward`].
    Forwarded(DeliveryId),
    /// The answer to [`Effect::MarkSuspect`].
    SuspectMarked {
        /// The delivery.
        delivery: DeliveryId,
        /// Names the message.
        key: String,
        /// What was found.
        mark: Mark,
    },
    /// A probe is in the inbox of its partition.
    ProbeSent {
        /// The partition.
        partition: PartitionNo,
    },
    /// A probe could not be sent.
    ProbeFailed {
        /// The partition.
        partition: PartitionNo,
    },
    /// Finish what is begun, then stop.
    Stop,
}

/// What was found where a message was to be marked as a suspect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Nothing, or an older mark of ours: it is marked now.
    Ours,
    /// The mark of a coordinator that has died: the message has killed it.
    OfTheDead,
    /// The mark of another coordinator that lives, and is taking the message or has lost it.
    OfTheLiving,
}

/// What a turn needs and the process does not hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadRequest {
    /// Starts to look up.
    pub starts: Vec<StartLookup>,
    /// Executions to load.
    pub executions: Vec<ExecutionId>,
    /// Executions of which all that they have behind them is to be loaded.
    pub pasts: Vec<ExecutionId>,
    /// Commands that may have been carried out before.
    pub controls: Vec<ControlLookup>,
    /// Workflows that are to be run as children, by their names.
    pub children: Vec<String>,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Loaded {
    /// One answer for each start, in order.
    pub starts: Vec<FoundStart>,
    /// The executions that exist, with their families: all ancestors, and the children that any of them
    /// waits for.
    pub executions: Vec<LoadedExecution>,
    /// What those have behind them that were asked for, if they exist.
    pub pasts: Vec<LoadedPast>,
    /// The commands that were carried out before.
    pub controls: Vec<ControlLookup>,
    /// The newest version of each workflow that is to be run as a child.
    pub children: Vec<(String, FoundDefinition)>,
    /// The definitions of all of these, compiled; one that this version cannot read says why.
    pub workflows: Vec<Result<Arc<Workflow>, (flotilla_engine::DefinitionHash, String)>>,
}

/// Something for the driver to do.
#[derive(Debug)]
pub enum Effect {
    /// Say that this coordinator lives, and take partitions whose leases have expired, up to an even
    /// share.
    TakePartitions,
    /// Let go of partitions, and tell the others.
    ReleasePartitions {
        /// The partitions, with our epochs of them.
        held: Vec<(PartitionNo, Epoch)>,
        /// Whether this coordinator stops, and counts no more where partitions are shared.
        resigns: bool,
    },
    /// Open a channel and consume.
    OpenChannel {
        /// The channel.
        channel: ChannelId,
        /// Which opening.
        generation: u64,
    },
    /// Close a channel, with what is not acknowledged on it.
    CloseChannel {
        /// The channel.
        channel: ChannelId,
        /// Which opening.
        generation: u64,
    },
    /// Load what a turn needs.
    Load(LoadRequest),
    /// Load the timers of a partition that are due in `from..until`.
    LoadTimers {
        /// The partition.
        partition: PartitionNo,
        /// Our epoch of it.
        epoch: Epoch,
        /// From when.
        from: DateTime<Utc>,
        /// Up to when.
        until: DateTime<Utc>,
    },
    /// Commit; after `attempts` earlier tries wait a little first.
    Commit {
        /// What to write.
        commit: Arc<Commit>,
        /// How often this commit was sent before.
        attempts: u32,
    },
    /// Acknowledge everything on the channel up to this delivery.
    Acknowledge(DeliveryId),
    /// Publish, in order, each with a confirm.
    Publish(Vec<Arc<Publication>>),
    /// Create the queue of a pool: something for it has come back.
    DeclarePool(Arc<str>),
    /// Tell the workers to stop attempts; nothing waits for it.
    SendCancels(Vec<TaskCancel>),
    /// Look how many messages wait in the queue of a channel on which nothing has come for long.
    InspectQueue {
        /// The channel.
        channel: ChannelId,
        /// Which opening.
        generation: u64,
    },
    /// Look for jobs of these partitions that were dispatched long ago and are gone.
    FindLostJobs(Vec<PartitionNo>),
    /// Pass a message on.
    Forward {
        /// The delivery that is acknowledged after that.
        delivery: DeliveryId,
        /// What to pass on.
        forward: Box<Forward>,
    },
    /// Note that a message is about to be taken that has been delivered often.
    MarkSuspect {
        /// The delivery.
        delivery: DeliveryId,
        /// Names the message.
        key: String,
    },
    /// The message did no harm.
    ClearSuspect {
        /// Names the message.
        key: String,
    },
    /// Renew the leases of these partitions, since a turn is loaded for long. Nothing answers: the next
    /// commit tells whether they are ours.
    Renew(Vec<(PartitionNo, Epoch)>),
    /// Send a probe to the inbox of its partition.
    SendProbe(CoordinatorProbe),
    /// All is done after [`Input::Stop`].
    Stopped,
}

/// Why a turn could not be loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadFailure {
    /// It may be loaded later.
    Passing,
    /// It took the database too long: less at a time may do.
    TooMuch,
}

/// A message to publish.
#[derive(Debug, PartialEq, Eq)]
pub struct Publication {
    /// Names it in answers.
    pub id: u64,
    /// What kind of message it is, and where it goes.
    pub to: Destination,
    /// Its body.
    pub body: Vec<u8>,
}

/// Where a publication goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// A job for a pool.
    Pool {
        /// The pool.
        pool: Arc<str>,
        /// `<task_id>/<attempt>`
        message_id: String,
        /// The execution, as correlation id.
        execution_id: ExecutionId,
        /// The partition whose inbox takes the answer.
        partition: PartitionNo,
        /// Trace context of the start message.
        traceparent: Option<Arc<str>>,
        /// Whether it may travel in a bundle: it is not sent again, and the last attempts of its task
        /// were brief.
        may_be_bundled: bool,
    },
    /// A reply to a client.
    Client {
        /// The queue.
        reply_to: String,
        /// The request's correlation id.
        correlation_id: Option<String>,
        /// The type of the message.
        message_type: String,
    },
}
