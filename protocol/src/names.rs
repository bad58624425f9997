//! The names of exchanges, queues, message types and headers, as the wire contract fixes them.

use crate::TaskId;

/// The version of the contract that this code writes, in the header [`VERSION_HEADER`].
pub const VERSION: i64 = 1;
/// Header with the version of the contract; absent means [`VERSION`].
pub const VERSION_HEADER: &str = "flotilla-version";
/// Header that says why a message was published to [`DEAD`].
pub const REASON_HEADER: &str = "flotilla-reason";
/// Header with the queue in which a message was found unusable.
pub const QUEUE_HEADER: &str = "flotilla-queue";
/// Header with the trace that a message belongs to.
pub const TRACEPARENT_HEADER: &str = "traceparent";
/// The longest trace that is passed on, in bytes; one of today's W3C format has 55.
pub const MAX_TRACEPARENT_BYTES: usize = 512;
/// Header of the broker that lists where a dead letter has been.
pub const DEATH_HEADER: &str = "x-death";
/// Header of the broker that counts how often a message was delivered before.
pub const DELIVERY_COUNT_HEADER: &str = "x-delivery-count";

/// The topic exchange that users and coordinators publish to.
pub const EXCHANGE: &str = "flotilla";
/// Exchange (fanout) and queue of dead letters.
pub const DEAD: &str = "flotilla.dead";
/// Fanout exchange that carries `task.cancel` to all workers.
pub const CANCEL_EXCHANGE: &str = "flotilla.cancel";
/// Topic exchange of lifecycle events.
pub const EVENTS_EXCHANGE: &str = "flotilla.events";
/// Queue of start messages.
pub const START_QUEUE: &str = "flotilla.start";
/// Queue of control messages.
pub const CONTROL_QUEUE: &str = "flotilla.control";
/// The pool that always exists.
pub const DEFAULT_POOL: &str = "default";

/// Routing key and type of a start message.
pub const WORKFLOW_START: &str = "workflow.start";
/// Routing key and type of a control message.
pub const WORKFLOW_CONTROL: &str = "workflow.control";
/// Type of the reply to a start that was accepted.
pub const WORKFLOW_STARTED: &str = "workflow.started";
/// Type of the reply to a start that was refused.
pub const WORKFLOW_REJECTED: &str = "workflow.rejected";
/// Type of the reply when an execution has ended.
pub const WORKFLOW_FINISHED: &str = "workflow.finished";
/// Type of the reply to a control message.
pub const WORKFLOW_CONTROL_REPLY: &str = "workflow.control.reply";
/// Type of a job.
pub const TASK_JOB: &str = "task.job";
/// Type of several jobs of a pool in one message, for workers that consume them.
pub const TASK_BUNDLE: &str = "task.bundle";
/// Type of a completion; what a missing type means in an inbox.
pub const TASK_COMPLETED: &str = "task.completed";
/// Type of the message that a task has started.
pub const TASK_STARTED: &str = "task.started";
/// Type of a heartbeat.
pub const TASK_HEARTBEAT: &str = "task.heartbeat";
/// Type of the message that a job became a dead letter.
pub const TASK_DEAD: &str = "task.dead";
/// Type of task log lines.
pub const TASK_LOG: &str = "task.log";
/// Type of a request to cancel an attempt.
pub const TASK_CANCEL: &str = "task.cancel";
/// Type of the message that a coordinator sends to its own inbox.
pub const COORDINATOR_PROBE: &str = "coordinator.probe";

/// Largest body in bytes that is read; a larger message is refused as `too_large`.
pub const MAX_MESSAGE_BYTES: usize = 1024 * 1024;
/// Largest body of a list of completions; each result in it is still bounded by [`MAX_MESSAGE_BYTES`].
pub const MAX_BATCH_BYTES: usize = 16 * 1024 * 1024;
/// Room around a result of [`MAX_MESSAGE_BYTES`] for the other fields of its completion.
pub const MAX_COMPLETION_OVERHEAD_BYTES: usize = 64 * 1024;
/// Most jobs of a bundle.
pub const MAX_BUNDLED_JOBS: usize = 8;
/// Largest body in bytes of a job that travels in a bundle; larger ones have a message of their own.
pub const MAX_BUNDLED_BYTES: usize = 16 * 1024;
/// Deepest nesting of objects and lists in a body; a deeper one is refused as `too_deep`.
pub const MAX_DEPTH: usize = 100;

/// Name and routing key prefix of the job queues.
pub const JOBS_QUEUE_PREFIX: &str = "flotilla.jobs.";

/// The inbox of a partition.
#[must_use]
pub fn inbox_queue(partition: i32) -> String {
    format!("flotilla.inbox.{partition}")
}

/// The job queue of a pool.
#[must_use]
pub fn jobs_queue(pool: &str) -> String {
    format!("flotilla.jobs.{pool}")
}

/// The routing key of a pool's jobs.
#[must_use]
pub fn job_routing_key(pool: &str) -> String {
    format!("task.job.{pool}")
}

/// The `message_id` of a job's message, which every attempt has its own of.
#[must_use]
pub fn job_message_id(task_id: TaskId, attempt: u32) -> String {
    format!("{task_id}/{attempt}")
}

/// The queue of a pool's bundles of jobs. It is there as soon as a worker wants them.
#[must_use]
pub fn bundles_queue(pool: &str) -> String {
    format!("flotilla.bundles.{pool}")
}

/// The routing key of a pool's bundles.
#[must_use]
pub fn bundle_routing_key(pool: &str) -> String {
    format!("task.bundle.{pool}")
}

/// Whether `pool` can be the name of a worker pool: 1 to 100 letters, digits, `_`, `-` or `.`.
#[must_use]
pub fn is_pool_name(pool: &str) -> bool {
    !pool.is_empty()
        && pool.len() <= 100
        && pool
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}
