//! The outbox: how a turn's jobs and replies become one row for each partition, and back.

use flotilla_protocol::ExecutionId;
use flotilla_turn::rows::{Commit, OutboxJob, OutboxReply, PartitionNo, ReplyMessage, TurnNo};
use serde::{Deserialize, Serialize};

/// One row of the outbox, whose jobs are a range of all jobs of the turn.
pub(super) struct OutboxRow {
    pub(super) partition: PartitionNo,
    pub(super) turn: TurnNo,
    /// Position of its first job, from 1.
    pub(super) first: i32,
    /// Position of its last job; one less than `first` if it has none.
    pub(super) last: i32,
    /// Its replies as JSON, if it has any.
    pub(super) replies: Option<String>,
}

/// A reply as the outbox keeps it. The body is kept as text: `jsonb` would reorder its keys.
#[derive(Serialize, Deserialize)]
pub(super) struct KeptReply {
    reply_to: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    correlation_id: Option<String>,
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    message_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    finished: Option<ExecutionId>,
}

/// The rows that a turn owes, and its jobs in their order.
pub(super) fn outbox_rows(commit: &Commit) -> (Vec<OutboxRow>, Vec<&OutboxJob>) {
    let mut jobs: Vec<&OutboxJob> = commit.jobs.iter().collect();
    jobs.sort_by_key(|job| (job.partition, job.turn));
    let mut replies: Vec<&OutboxReply> = commit.replies.iter().collect();
    replies.sort_by_key(|reply| (reply.partition, reply.turn));

    let mut rows: Vec<OutboxRow> = Vec::new();
    let mut jobs_done = 0;
    let mut replies_done = 0;
    loop {
        let next_job = jobs.get(jobs_done).map(|job| (job.partition, job.turn));
        let next_reply = replies
            .get(replies_done)
            .map(|reply| (reply.partition, reply.turn));
        let Some(key) = next_job.into_iter().chain(next_reply).min() else {
            break;
        };
        let job_count = count_while(&jobs[jobs_done..], |job| (job.partition, job.turn) == key);
        let reply_count = count_while(&replies[replies_done..], |reply| {
            (reply.partition, reply.turn) == key
        });
        rows.push(OutboxRow {
            partition: key.0,
            turn: key.1,
            first: position(jobs_done) + 1,
            last: position(jobs_done + job_count),
            replies: keep_replies(&replies[replies_done..replies_done + reply_count]),
        });
        jobs_done += job_count;
        replies_done += reply_count;
    }
    (rows, jobs)
}

fn count_while<T>(items: &[T], belongs: impl Fn(&T) -> bool) -> usize {
    items.iter().take_while(|item| belongs(item)).count()
}

fn position(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

fn keep_replies(replies: &[&OutboxReply]) -> Option<String> {
    if replies.is_empty() {
        return None;
    }
    let kept: Vec<KeptReply> = replies.iter().map(|reply| KeptReply::of(reply)).collect();
    Some(serde_json::to_string(&kept).expect("texts and ids are JSON"))
}

impl KeptReply {
    fn of(reply: &OutboxReply) -> Self {
        let (message_type, body, finished) = match &reply.message {
            ReplyMessage::Stored { message_type, body } => {
                (Some(message_type.clone()), Some(body.clone()), None)
            }
            ReplyMessage::Finished { execution_id } => (None, None, Some(*execution_id)),
        };
        Self {
            reply_to: reply.reply_to.clone(),
            correlation_id: reply.correlation_id.clone(),
            message_type,
            body,
            finished,
        }
    }

    /// The reply again; `None` if a later version kept it in a way that this one cannot read.
    pub(super) fn into_reply(self, partition: PartitionNo, turn: TurnNo) -> Option<OutboxReply> {
        let message = match (self.finished, self.message_type, self.body) {
            (Some(execution_id), _, _) => ReplyMessage::Finished { execution_id },
            (None, Some(message_type), Some(body)) => ReplyMessage::Stored { message_type, body },
            (None, _, _) => return None,
        };
        Some(OutboxReply {
            partition,
            turn,
            reply_to: self.reply_to,
            correlation_id: self.correlation_id,
            message,
        })
    }
}
