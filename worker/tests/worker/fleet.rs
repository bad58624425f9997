//! What stands around a worker in these tests: a pool of its own, an inbox of its own, and the test
//! in the place of a coordinator.

use std::collections::VecDeque;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use flotilla_protocol::amqp::{
    ConnectOptions, Connection, Consumer, Outgoing, PublishOutcome, Publisher, PublisherOptions,
    declare, declare_inbox, declare_pool, delete_queue, queue_depth, queue_state, reply_queue,
};
use flotilla_protocol::message::{
    CompletionStatus, TaskCancel, TaskCompleted, TaskJob, TaskLog, TaskStarted,
};
use flotilla_protocol::{ExecutionId, InboxMessage, TaskId, decode_inbox, names};
use flotilla_worker::{Worker, WorkerConfig, WorkerError};
use futures::FutureExt;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use uuid::Uuid;

/// How long anything may take before a test fails.
const LIMIT: Duration = Duration::from_secs(20);

/// A pool and an inbox for one test.
pub struct Fleet {
    pub url: String,
    pub connection: Connection,
    pub publisher: Publisher,
    pub pool: String,
    pub partition: i32,
    inbox: Option<Consumer>,
    /// Messages of the inbox that were read and not asked for yet.
    pending: VecDeque<InboxMessage>,
    /// The number of completions in each message, in order.
    pub sizes: Vec<usize>,
    /// Messages with lines of logs, in order.
    pub logs: Vec<TaskLog>,
}

/// A worker in the same process.
pub struct Running {
    shutdown: Option<oneshot::Sender<()>>,
    worker: JoinHandle<Result<(), WorkerError>>,
}

/// Runs a test and removes its queues, whatever its end.
pub async fn with_fleet<Fut: Future<Output = Fleet>>(test: impl FnOnce(Fleet) -> Fut) {
    let fleet = Fleet::new().await;
    let (url, jobs, inbox) = (fleet.url.clone(), fleet.jobs_queue(), fleet.inbox_queue());
    let bundles = names::bundles_queue(&fleet.pool);
    let ended = AssertUnwindSafe(test(fleet)).catch_unwind().await;
    let connection = Connection::open(&url, "clean up").await.unwrap();
    for queue in [jobs, bundles, inbox] {
        delete_queue(&connection, &queue).await.unwrap();
    }
    if let Err(panic) = ended {
        std::panic::resume_unwind(panic);
    }
}

/// A job of an action, with nothing special about it.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the callers build it in place"
)]
pub fn job(action: &str, input: Value) -> TaskJob {
    let id = Uuid::now_v7();
    TaskJob {
        execution_id: ExecutionId(id),
        task_id: TaskId(id),
        attempt: 1,
        workflow: "examples.test".to_owned(),
        task: "work".to_owned(),
        visit: 1,
        action: action.to_owned(),
        input: serde_json::value::to_raw_value(&input).unwrap(),
        timeout: None,
        heartbeat: None,
        idempotency_key: format!("key-{id}"),
        item: None,
        secrets: Vec::new(),
        starts: 0,
        resent: false,
    }
}

impl Fleet {
    async fn new() -> Self {
        let url = std::env::var("AMQP_URL").expect("these tests need a broker: set AMQP_URL");
        let connection = Connection::open(&url, "test").await.unwrap();
        declare(&connection, 0).await.unwrap();
        let pool = format!("test-{}", Uuid::now_v7());
        declare_pool(&connection, &pool).await.unwrap();
        let [a, b, c, d] = *Uuid::now_v7().as_bytes().last_chunk::<4>().unwrap();
        let partition = i32::from_be_bytes([(a & 0x3f) | 0x40, b, c, d]);
        let publisher = Publisher::start(PublisherOptions::new(ConnectOptions::new(&url, "test")));
        Self {
            url,
            connection,
            publisher,
            pool,
            partition,
            inbox: None,
            pending: VecDeque::new(),
            sizes: Vec::new(),
            logs: Vec::new(),
        }
    }

    pub fn jobs_queue(&self) -> String {
        names::jobs_queue(&self.pool)
    }

    pub fn inbox_queue(&self) -> String {
        names::inbox_queue(self.partition)
    }

    pub fn config(&self) -> WorkerConfig {
        WorkerConfig {
            name: "test-worker".to_owned(),
            pools: vec![self.pool.clone()],
            drain_timeout: LIMIT,
            // A job that waits for the machine does not announce itself where nobody expects it.
            started_after: Duration::from_secs(60),
            allow_shell: true,
            ..WorkerConfig::new(&self.url)
        }
    }

    /// Starts a worker and waits until it consumes.
    pub async fn start(&self, worker: Worker) -> Running {
        let (shutdown, asked) = oneshot::channel::<()>();
        let (ready, is_ready) = oneshot::channel();
        let worker = tokio::spawn(worker.run_with_ready(
            async { asked.await.unwrap_or_default() },
            || {
                ready.send(()).unwrap();
            },
        ));
        within(is_ready).await.expect("the worker did not start");
        Running {
            shutdown: Some(shutdown),
            worker,
        }
    }

    /// Starts a worker with the built-in actions.
    pub async fn start_built_in(&self) -> Running {
        self.start(Worker::new(self.config()).built_in()).await
    }

    /// Creates the inbox.
    pub async fn open_inbox(&mut self) {
        declare_inbox(&self.connection, self.partition)
            .await
            .unwrap();
        let consumer = self
            .connection
            .consume(&self.inbox_queue(), 0)
            .await
            .unwrap();
        self.inbox = Some(consumer);
    }

    pub async fn publish(&self, message: Outgoing) {
        let outcome = within(self.publisher.publish(message)).await;
        assert_eq!(outcome, PublishOutcome::Confirmed);
    }

    pub async fn submit(&self, job: &TaskJob) {
        self.publish(Outgoing::job(&self.pool, self.partition, job))
            .await;
    }

    /// Asks all workers to cancel an attempt of a job.
    pub async fn cancel(&self, job: &TaskJob, attempt: u32, reason: &str) {
        let cancel = TaskCancel {
            execution_id: job.execution_id,
            task_id: job.task_id,
            attempt,
            reason: Some(reason.to_owned()),
        };
        self.publish(Outgoing::cancel(&cancel)).await;
    }

    /// Submits a job whose answer goes elsewhere than to the inbox, and gives the place.
    pub async fn submit_apart(&self, job: &TaskJob) -> Consumer {
        let queue = reply_queue(&self.connection).await.unwrap();
        let consumer = self.connection.consume(&queue, 0).await.unwrap();
        let mut message = Outgoing::job(&self.pool, self.partition, job);
        message.reply_to = Some(queue);
        self.publish(message).await;
        consumer
    }

    /// Waits until the broker has answered all that the worker has published so far: what is
    /// published later, on the same channel, has arrived. The place where it arrived is to be kept
    /// while the worker may still send it again.
    pub async fn worker_has_published(&self) -> Consumer {
        let mut answer = self.submit_apart(&job("core.noop", json!(null))).await;
        assert!(within(answer.next()).await.is_some());
        answer
    }

    /// Waits until a job has come back to its queue, and leaves it there.
    pub async fn job_is_back(&self, job: &TaskJob) {
        let message_id = names::job_message_id(job.task_id, job.attempt);
        let queue = self.jobs_queue();
        let mut consumer = self.connection.consume(&queue, 0).await.unwrap();
        while let Some(delivery) = within(consumer.next()).await {
            if delivery.envelope.message_id.as_ref() == Some(&message_id) {
                return consumer.close().await;
            }
        }
        panic!("the consumer ended");
    }

    /// Waits until the worker has seen all cancels so far: it has seen a later one.
    pub async fn worker_has_seen_cancels(&self) {
        let marker = job("core.sleep", json!({"seconds": 1000}));
        let mut answer = self.submit_apart(&marker).await;
        self.cancel(&marker, 1, "seen").await;
        assert!(within(answer.next()).await.is_some());
    }

    /// Submits a job if its queue is there.
    pub async fn try_submit(&self, job: &TaskJob) -> bool {
        let message = Outgoing::job(&self.pool, self.partition, job);
        within(self.publisher.publish(message)).await == PublishOutcome::Confirmed
    }

    /// The lines that a job has logged so far, as stream and text; their numbers ascend from 1.
    pub fn lines(&self, job: &TaskJob) -> Vec<(String, String)> {
        let of_job = self.logs.iter().filter(|log| log.task_id == job.task_id);
        let lines: Vec<_> = of_job.flat_map(|log| &log.lines).collect();
        assert!(lines.iter().map(|line| line.no).eq((1..).take(lines.len())));
        let pairs = lines
            .iter()
            .map(|line| (line.stream.clone(), line.text.clone()));
        pairs.collect()
    }

    /// The next message that a job has logged.
    pub async fn log(&mut self) -> TaskLog {
        let seen = self.logs.len();
        while self.logs.len() == seen {
            self.take_message().await;
        }
        self.logs[seen].clone()
    }

    /// The next message of the inbox, completions one by one; what is logged is put aside.
    pub async fn next(&mut self) -> InboxMessage {
        while self.pending.is_empty() {
            self.take_message().await;
        }
        self.pending.pop_front().unwrap()
    }

    async fn take_message(&mut self) {
        let consumer = self.inbox.as_mut().expect("the inbox is open");
        let delivery = within(consumer.next()).await.expect("the inbox ended");
        consumer.acker().ack(delivery.tag, false).await.unwrap();
        let message = decode_inbox(&delivery.envelope, &delivery.body).unwrap();
        if let InboxMessage::Log(log) = message {
            self.logs.push(log);
        } else if let InboxMessage::Completed(all) = message {
            self.sizes.push(all.len());
            let each = all
                .into_iter()
                .map(|one| InboxMessage::Completed(vec![one]));
            self.pending.extend(each);
        } else {
            self.pending.push_back(message);
        }
    }

    /// The next message, which has to be a start or (as the error) a completion.
    pub async fn start_or_completion(&mut self) -> Result<TaskStarted, TaskCompleted> {
        let message = self.next().await;
        if let InboxMessage::Started(started) = message {
            return Ok(started);
        }
        let InboxMessage::Completed(mut all) = message else {
            panic!("neither a start nor a completion: {message:?}");
        };
        Err(all.pop().unwrap())
    }

    /// The next message, which has to be a completion.
    pub async fn completion(&mut self) -> TaskCompleted {
        let message = self.start_or_completion().await;
        message.expect_err("the next message is a completion")
    }

    /// The next message, which has to be a start.
    pub async fn started(&mut self) -> TaskStarted {
        let message = self.start_or_completion().await;
        message.expect("the next message is a start")
    }

    /// Submits a job and waits for its completion, which has to be the next message.
    pub async fn run(&mut self, job: &TaskJob) -> TaskCompleted {
        self.submit(job).await;
        let completed = self.completion().await;
        assert_eq!(completed.task_id, job.task_id);
        assert_eq!(completed.worker.as_deref(), Some("test-worker"));
        completed
    }

    /// Waits until the queue has no consumer any more, and looks that no job is left. What a consumer
    /// has not acknowledged is back in the queue once the broker counts it no more.
    pub async fn jobs_are_gone(&self) {
        let queue = self.jobs_queue();
        let state = async || {
            let state = queue_state(&self.connection, &queue).await.unwrap();
            state.expect("the queue is there")
        };
        eventually(async || state().await.consumers == 0).await;
        assert_eq!(state().await.messages, 0);
    }

    /// Waits until that many jobs wait in the queue.
    pub async fn jobs_wait(&self, count: u32) {
        let queue = self.jobs_queue();
        eventually(async || queue_depth(&self.connection, &queue).await.unwrap() == Some(count))
            .await;
    }
}

impl Running {
    /// Asks the worker to end.
    pub fn shut_down(&mut self) {
        self.shutdown.take().unwrap().send(()).unwrap();
    }

    /// Waits for the end.
    pub async fn ended(self) -> Result<(), WorkerError> {
        within(self.worker).await.unwrap()
    }

    /// Asks for the end and waits for a clean one.
    pub async fn drain(mut self) {
        self.shut_down();
        self.ended().await.unwrap();
    }

    /// Ends the worker as a crash would, as far as that can be had within a process.
    pub async fn kill(self) {
        self.worker.abort();
        assert!(self.worker.await.unwrap_err().is_cancelled());
    }
}

/// Waits for something, but not for ever.
pub async fn within<F: IntoFuture>(future: F) -> F::Output {
    let waiting = tokio::time::timeout(LIMIT, future.into_future());
    waiting.await.expect("it took too long")
}

/// Waits until a condition holds of which nobody tells.
pub async fn eventually(mut condition: impl AsyncFnMut() -> bool) {
    within(async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// Checks that a job was cancelled for a reason.
pub fn assert_cancelled(completed: &TaskCompleted, job: &TaskJob, reason: &str) {
    assert_eq!(completed.task_id, job.task_id);
    assert_eq!(completed.attempt, job.attempt);
    assert_eq!(completed.status, CompletionStatus::Cancelled);
    let error = completed.error.as_ref().unwrap();
    assert_eq!(
        (error.kind.as_str(), error.message.as_str(), error.retryable),
        ("cancelled", reason, Some(false))
    );
}

/// The kind of a failure.
pub fn kind(completed: &TaskCompleted) -> &str {
    assert_eq!(completed.status, CompletionStatus::Failed);
    &completed.error.as_ref().unwrap().kind
}

pub fn retryable(completed: &TaskCompleted) -> bool {
    completed.error.as_ref().unwrap().retryable.unwrap()
}

/// The result of any completion; null if it has none.
pub fn result(completed: &TaskCompleted) -> Value {
    let result = completed.result.as_ref();
    result.map_or(json!(null), |result| {
        serde_json::from_str(result.get()).unwrap()
    })
}
