//! Whole turns of a coordinator, without its servers: what it asks for is answered at once, as a
//! broker and a database do that never fail. What is measured is the turn logic with the engine in
//! it; the answers are made outside of that.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use flotilla_engine::Workflow;
use flotilla_protocol::decode::InboxMessage;
use flotilla_protocol::message::{CompletionStatus, TaskCompleted, TaskJob, WorkflowStart};
use flotilla_turn::message::{
    ChannelId, Delivered, DeliveryId, Message, RefusedMessage, StartRequest,
};
use flotilla_turn::rows::{CommitAnswer, FoundDefinition, FoundStart, PartitionNo, TakenPartition};
use flotilla_turn::{Config, Destination, Effect, Input, LoadRequest, Loaded, Publication, Turns};
use uuid::Uuid;

use crate::engine::{execution_id, now, parameters};
use crate::meter::Meter;

/// Partitions of the fleet.
const PARTITIONS: PartitionNo = 16;

/// Runs `executions` executions through turns of a coordinator that are as large as what is there:
/// all are started, then all their jobs are answered, and so on. A unit is a completion.
pub fn completions(meter: &mut Meter, workflow: &Arc<Workflow>, executions: u64) {
    let mut fleet = Fleet::new(meter, workflow);
    for number in 0..executions {
        fleet.put_start(number);
    }
    fleet.settle(meter, 0);
    while !fleet.jobs.is_empty() {
        fleet.answer_jobs(meter);
    }
    assert_eq!(fleet.finished, executions, "executions are missing an end");
}

/// A coordinator and what it has asked for.
struct Fleet<'a> {
    turns: Turns,
    workflow: &'a Arc<Workflow>,
    inputs: VecDeque<Input>,
    generations: BTreeMap<ChannelId, u64>,
    tags: BTreeMap<ChannelId, u64>,
    jobs: Vec<(PartitionNo, TaskJob)>,
    finished: u64,
}

impl<'a> Fleet<'a> {
    /// A coordinator that holds all partitions.
    fn new(meter: &mut Meter, workflow: &'a Arc<Workflow>) -> Self {
        let config = Config {
            owner: Uuid::from_u128(1),
            lease_s: 3.0,
            cached_executions: 20_000,
            max_unconfirmed: 10_000,
            lost_jobs_interval_s: 300.0,
        };
        let mut fleet = Self {
            turns: Turns::new(config, now()),
            workflow,
            inputs: VecDeque::from([Input::Tick]),
            generations: BTreeMap::new(),
            tags: BTreeMap::new(),
            jobs: Vec::new(),
            finished: 0,
        };
        fleet.settle(meter, 0);
        fleet
    }

    fn put_start(&mut self, number: u64) {
        let id = execution_id(number);
        let start = WorkflowStart {
            execution_id: Some(id),
            parameters: Some(parameters().raw().to_owned()),
            ..start_of(self.workflow)
        };
        let request = StartRequest {
            start,
            fresh_id: id,
            reply_to: None,
            traceparent: None,
            original: RefusedMessage::default(),
        };
        self.put(ChannelId::Start, Message::Start(Box::new(request)));
    }

    /// Answers all jobs that are out: a message for each, into the inbox of its partition.
    fn answer_jobs(&mut self, meter: &mut Meter) {
        let jobs = std::mem::take(&mut self.jobs);
        let answered = jobs.len() as u64;
        for (partition, job) in jobs {
            let completed = InboxMessage::Completed(vec![completion(job)]);
            self.put(ChannelId::Inbox(partition), Message::Inbox(completed));
        }
        self.settle(meter, answered);
    }

    fn put(&mut self, channel: ChannelId, message: Message) {
        let tag = self.tags.entry(channel).or_default();
        *tag += 1;
        let id = DeliveryId {
            channel,
            generation: self.generations.get(&channel).copied().unwrap_or_default(),
            tag: *tag,
        };
        self.inputs.push_back(Input::Delivered(Delivered {
            id,
            bytes: 300,
            suspect_key: None,
            message,
        }));
    }

    /// Hands over what is there and carries out what is asked for, until nothing is.
    fn settle(&mut self, meter: &mut Meter, units: u64) {
        meter.units += units;
        while !self.inputs.is_empty() {
            let (turns, inputs) = (&mut self.turns, &mut self.inputs);
            let effects = meter.measure(0, || {
                let mut effects = Vec::new();
                while let Some(input) = inputs.pop_front() {
                    turns.handle(now(), input, &mut effects);
                }
                turns.advance(now(), &mut effects);
                effects
            });
            for effect in effects {
                self.perform(effect);
            }
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::TakePartitions => {
                let taken = (0..PARTITIONS).map(taken).collect();
                self.inputs.push_back(Input::PartitionsTaken {
                    taken,
                    share: usize::try_from(PARTITIONS).ok(),
                });
            }
            Effect::OpenChannel {
                channel,
                generation,
            } => {
                self.generations.insert(channel, generation);
                self.inputs.push_back(Input::ChannelOpened {
                    channel,
                    generation,
                });
            }
            Effect::Load(request) => {
                let loaded = self.load(&request);
                self.inputs.push_back(Input::Loaded(loaded));
            }
            Effect::LoadTimers {
                partition,
                epoch,
                until,
                ..
            } => self.inputs.push_back(Input::TimersLoaded {
                partition,
                epoch,
                until,
                timers: Some(Vec::new()),
            }),
            Effect::Commit { commit, .. } => {
                let ended = commit.new_executions.iter().map(|row| &row.state);
                let ended = ended.chain(&commit.executions);
                self.finished += ended.filter(|row| row.finished_at.is_some()).count() as u64;
                let answer = CommitAnswer::Committed { now: now() };
                self.inputs.push_back(Input::CommitAnswered(answer));
            }
            Effect::Publish(publications) => self.publish(&publications),
            Effect::Acknowledge(_) => {}
            other @ (Effect::ReleasePartitions { .. }
            | Effect::CloseChannel { .. }
            | Effect::DeclarePool(_)
            | Effect::SendCancels(_)
            | Effect::InspectQueue { .. }
            | Effect::FindLostJobs(_)
            | Effect::Forward { .. }
            | Effect::MarkSuspect { .. }
            | Effect::ClearSuspect { .. }
            | Effect::Renew(_)
            | Effect::SendProbe(_)
            | Effect::Stopped) => panic!("nothing here leads to {other:?}"),
        }
    }

    /// No start is known, and no execution has left the memory.
    fn load(&self, request: &LoadRequest) -> Loaded {
        assert!(request.executions.is_empty() && request.controls.is_empty());
        let found = FoundStart {
            existing: None,
            definition: FoundDefinition::Registered(self.workflow.hash),
        };
        Loaded {
            starts: vec![found; request.starts.len()],
            workflows: vec![Ok(Arc::clone(self.workflow))],
            ..Loaded::default()
        }
    }

    fn publish(&mut self, publications: &[Arc<Publication>]) {
        for publication in publications {
            if let Destination::Pool { partition, .. } = publication.to {
                let job = serde_json::from_slice(&publication.body).expect("a job");
                self.jobs.push((partition, job));
            }
        }
        let ids = publications.iter().map(|publication| publication.id);
        self.inputs
            .push_back(Input::PublishConfirmed(ids.collect()));
    }
}

fn start_of(workflow: &Workflow) -> WorkflowStart {
    let start =
        serde_json::json!({"workflow": &*workflow.reference, "version": &*workflow.version});
    serde_json::from_value(start).expect("a start")
}

fn taken(partition: PartitionNo) -> TakenPartition {
    TakenPartition {
        partition,
        epoch: 1,
        last_turn: 0,
        dispatched_through: 0,
        jobs: Vec::new(),
        replies: Vec::new(),
        timers: Vec::new(),
        timers_until: now() + chrono::TimeDelta::days(1),
        now: now(),
    }
}

fn completion(job: TaskJob) -> TaskCompleted {
    TaskCompleted {
        execution_id: job.execution_id,
        task_id: job.task_id,
        attempt: job.attempt,
        status: CompletionStatus::Succeeded,
        // As `core.echo` does.
        result: Some(job.input),
        error: None,
        started_at: Some(now()),
        finished_at: Some(now()),
        worker: Some("bench".to_owned()),
    }
}
