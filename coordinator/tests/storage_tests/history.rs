//! A small history that is really run: the turn logic on a real database, with the test as broker
//! and worker.

use std::collections::VecDeque;

use chrono::Utc;
use flotilla_coordinator::storage;
use flotilla_engine::compile;
use flotilla_protocol::ExecutionId;
use flotilla_protocol::decode::InboxMessage;
use flotilla_protocol::message::{CompletionStatus, TaskCompleted, TaskError, TaskJob};
use flotilla_turn::message::{ChannelId, Delivered, DeliveryId, Message, StartRequest};
use flotilla_turn::{Config, Destination, Effect, Input, LoadRequest, Loaded, Turns};
use serde_json::json;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::support::{definition, id};

const OWNER: Uuid = Uuid::from_u128(1);
const LEASE_S: f64 = 60.0;

/// Branches, a guard, a join, retries at once and later, time limits of an attempt, of all of them and
/// of the whole, variables, a task that others read.
pub const WORKFLOW: &str = "
ref: demo.history
version: '1.0.0'
timeout: 86400
vars:
  seen: 0
tasks:
  - {name: start, action: core.noop, publish: [{seen: 1}], on_success: [a, b, c, d]}
  - {name: a, action: core.echo, input: {seen: '{{ vars.seen }}'}, retry: {count: 2, delay: 0}, publish: [{a: 7}], on_success: both}
  - {name: b, action: core.echo, timeout: 60, on_success: both}
  - {name: c, action: core.echo, total_timeout: 90000, retry: {count: 3, delay: 3600}}
  - {name: d, when: '{{ false }}', action: core.noop}
  - {name: both, join: all, action: core.echo, input: {was: '{{ task.start.status }}'}}
";

/// A workflow that runs another as its child.
const FAMILY: &str = "
ref: demo.family
tasks: [{name: call, type: workflow, action: demo.child, input: {n: 1}}]
";
const CHILD: &str = "
ref: demo.child
parameters: {n: {type: integer}}
tasks: [{name: work, action: core.echo, input: {n: '{{ parameters.n }}'}}]
";

/// An execution that has succeeded, with a key, after a retry and a start that was seen.
pub const SUCCEEDED: u128 = 1;
/// One that goes on: a run that runs under a time limit, one that waits for its next attempt, a join.
pub const RUNNING: u128 = 2;
/// One that has failed while a run waited for its next attempt.
pub const FAILED: u128 = 3;
/// One that has been dispatched, by a turn that is not confirmed yet, with a key.
pub const DISPATCHED: u128 = 4;

/// One that waits for its child, which has been dispatched.
pub const PARENT: u128 = 5;

/// Runs the history.
pub async fn run(pool: &PgPool) {
    let mut history = History::begin(pool).await;
    for number in [SUCCEEDED, RUNNING, FAILED] {
        let key = (number == SUCCEEDED).then_some("key-1");
        history.start(number, key).await;
        history.succeed(number, "start").await;
    }
    history.fail(SUCCEEDED, "a").await;
    history.started(SUCCEEDED, "b").await;
    for task in ["a", "b", "c", "both"] {
        history.succeed(SUCCEEDED, task).await;
    }
    history.started(RUNNING, "b").await;
    history.fail(RUNNING, "c").await;
    history.succeed(RUNNING, "a").await;
    history.fail(FAILED, "c").await;
    for _ in 0..3 {
        history.fail(FAILED, "a").await;
    }
    history.succeed(FAILED, "b").await;
    history.start(PARENT, None).await;
    history.confirms = false;
    history.start(DISPATCHED, Some("key-4")).await;
    assert_eq!(history.jobs.len(), 3, "{:?}", history.jobs);
}

struct History {
    pool: PgPool,
    conn: PgConnection,
    turns: Turns,
    inputs: VecDeque<Input>,
    jobs: Vec<TaskJob>,
    /// Which opening of each channel is the last one.
    open: Vec<(ChannelId, u64)>,
    tag: u64,
    /// Whether the broker confirms what is published.
    confirms: bool,
}

impl History {
    async fn begin(pool: &PgPool) -> Self {
        storage::migrate(pool, Some(1)).await.expect("it migrates");
        storage::register_coordinator(pool, OWNER, "history")
            .await
            .expect("it registers");
        for source in [WORKFLOW, FAMILY, CHILD] {
            let workflow = compile(source).expect("a sound workflow").workflow;
            let stored = definition(workflow.hash, source);
            storage::register_definition(pool, &stored, &workflow.reference, &workflow.version)
                .await
                .expect("it registers");
        }
        let config = Config {
            owner: OWNER,
            lease_s: LEASE_S,
            cached_executions: 100,
            max_unconfirmed: 100,
            lost_jobs_interval_s: 300.0,
        };
        let mut history = Self {
            pool: pool.clone(),
            conn: pool.acquire().await.expect("a connection").detach(),
            turns: Turns::new(config, Utc::now()),
            inputs: VecDeque::from([Input::Tick]),
            jobs: Vec::new(),
            open: Vec::new(),
            tag: 0,
            confirms: true,
        };
        history.settle().await;
        history
    }

    async fn start(&mut self, number: u128, key: Option<&str>) {
        let workflow = match number {
            PARENT => "demo.family",
            _ => "demo.history",
        };
        let start = json!({
            "workflow": workflow, "execution_id": id(number), "idempotency_key": key
        });
        let request = StartRequest {
            start: serde_json::from_value(start).expect("a start"),
            fresh_id: id(number + 100),
            reply_to: None,
            traceparent: None,
            original: flotilla_turn::message::RefusedMessage::default(),
        };
        self.deliver(ChannelId::Start, Message::Start(Box::new(request)))
            .await;
    }

    async fn succeed(&mut self, number: u128, task: &str) {
        let job = self.take(number, task);
        self.complete(&job, CompletionStatus::Succeeded).await;
    }

    async fn fail(&mut self, number: u128, task: &str) {
        let job = self.take(number, task);
        self.complete(&job, CompletionStatus::Failed).await;
    }

    async fn complete(&mut self, job: &TaskJob, status: CompletionStatus) {
        let error = (status != CompletionStatus::Succeeded).then(|| TaskError {
            kind: "broken".to_owned(),
            message: "it broke".to_owned(),
            retryable: None,
            details: None,
        });
        let completed = TaskCompleted {
            execution_id: job.execution_id,
            task_id: job.task_id,
            attempt: job.attempt,
            status,
            result: None,
            error,
            started_at: None,
            finished_at: None,
            worker: Some("worker-1".to_owned()),
        };
        self.inbox(InboxMessage::Completed(vec![completed])).await;
    }

    async fn started(&mut self, number: u128, task: &str) {
        let of = |job: &&TaskJob| job.execution_id == id(number) && job.task == task;
        let job = self.jobs.iter().find(of).expect("the job is published");
        let body = json!({
            "execution_id": job.execution_id, "task_id": job.task_id, "attempt": job.attempt
        });
        let started = serde_json::from_value(body).expect("a message");
        self.inbox(InboxMessage::Started(started)).await;
    }

    fn take(&mut self, number: u128, task: &str) -> TaskJob {
        let of = |job: &TaskJob| job.execution_id == id(number) && job.task == task;
        let place = self.jobs.iter().position(of);
        self.jobs.remove(place.expect("the job is published"))
    }

    async fn inbox(&mut self, message: InboxMessage) {
        self.deliver(ChannelId::Inbox(0), Message::Inbox(message))
            .await;
    }

    async fn deliver(&mut self, channel: ChannelId, message: Message) {
        let (_, generation) = *self
            .open
            .iter()
            .rfind(|(open, _)| *open == channel)
            .expect("the channel is open");
        self.tag += 1;
        let tag = self.tag;
        self.inputs.push_back(Input::Delivered(Delivered {
            id: DeliveryId {
                channel,
                generation,
                tag,
            },
            bytes: 100,
            suspect_key: None,
            message,
        }));
        self.settle().await;
    }

    /// Takes turns until nothing is left to do.
    async fn settle(&mut self) {
        loop {
            let mut effects = Vec::new();
            while let Some(input) = self.inputs.pop_front() {
                self.turns.handle(Utc::now(), input, &mut effects);
            }
            self.turns.advance(Utc::now(), &mut effects);
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                self.carry_out(effect).await;
            }
        }
    }

    /// What belongs to a broker that never fails needs nothing done.
    async fn carry_out(&mut self, effect: Effect) {
        if let Effect::TakePartitions = effect {
            let taken = storage::take_partitions(&self.pool, OWNER, LEASE_S).await;
            let (taken, _) = taken.expect("partitions are taken");
            let share = None;
            self.inputs
                .push_back(Input::PartitionsTaken { taken, share });
        } else if let Effect::OpenChannel {
            channel,
            generation,
        } = effect
        {
            self.open.push((channel, generation));
            self.inputs.push_back(Input::ChannelOpened {
                channel,
                generation,
            });
        } else if let Effect::Load(request) = effect {
            let loaded = self.load(&request).await;
            self.inputs.push_back(Input::Loaded(loaded));
        } else if let Effect::Commit { commit, .. } = effect {
            let answer = storage::commit(&mut self.conn, &commit).await;
            self.inputs.push_back(Input::CommitAnswered(answer));
        } else if let Effect::Publish(publications) = effect {
            for publication in publications {
                if matches!(publication.to, Destination::Pool { .. }) {
                    let job = serde_json::from_slice(&publication.body).expect("a job");
                    self.jobs.push(job);
                }
                if self.confirms {
                    let confirmed = Input::PublishConfirmed(vec![publication.id]);
                    self.inputs.push_back(confirmed);
                }
            }
        }
    }

    async fn load(&mut self, request: &LoadRequest) -> Loaded {
        let compiled = [WORKFLOW, FAMILY, CHILD].map(|source| compile(source).expect("sound"));
        Loaded {
            children: storage::find_definitions(&mut self.conn, &request.children)
                .await
                .expect("workflows are looked up"),
            starts: storage::load_starts(&mut self.conn, &request.starts)
                .await
                .expect("starts are looked up"),
            executions: storage::load_executions(&mut self.conn, &request.executions)
                .await
                .expect("executions are loaded"),
            pasts: storage::load_pasts(&mut self.conn, &request.pasts)
                .await
                .expect("pasts are loaded"),
            controls: storage::load_controls(&mut self.conn, &request.controls)
                .await
                .expect("commands are looked up"),
            workflows: compiled.map(|compiled| Ok(compiled.workflow)).into(),
        }
    }
}

/// The id of an execution of the history, as SQL.
pub fn sql_id(number: u128) -> String {
    let ExecutionId(id) = id(number);
    format!("'{id}'")
}
