//! The only part of these tests that knows how the engine is called.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use flotilla_engine::execution::{
    AttemptId, Changes, Command, Event, Execution, Job, JobCancel, Outcome, Past, Report, Rerun,
    RerunOrder, Run, Start, TimerChange, TimerKind, start,
};
use flotilla_engine::{Json, compile};
use flotilla_protocol::ExecutionId;
use flotilla_protocol::message::{CompletionStatus, TaskError};
use serde_json::value::to_raw_value;
use serde_json::{Value, json};
use uuid::Uuid;

/// An execution under test, its clock, and everything that it has asked for so far.
pub struct Scene {
    pub execution: Execution,
    pub now: DateTime<Utc>,
    /// Jobs that no worker has answered, oldest first.
    pub jobs: Vec<Job>,
    /// Timers that are set.
    pub timers: BTreeMap<u32, (TimerKind, DateTime<Utc>)>,
    /// Runs that have ended, in order.
    pub ended: Vec<Run>,
    /// The same, with the writes, for reruns.
    pub past: Past,
    /// What workers were told to stop, in order.
    pub cancels: Vec<JobCancel>,
    /// The log.
    pub log: Vec<String>,
    /// What its entries say beside that, null where they say nothing.
    pub details: Vec<Value>,
}

/// Starts a workflow that must be sound.
pub fn begin(yaml: &str, parameters: &Value) -> Scene {
    try_begin(yaml, parameters).expect("the start is accepted")
}

/// Starts a workflow; `Err` is why the start was refused.
pub fn try_begin(yaml: &str, parameters: &Value) -> Result<Scene, String> {
    let compiled =
        compile(yaml).unwrap_or_else(|errors| panic!("the workflow is sound: {errors:#?}"));
    let now = DateTime::from_timestamp(1_700_000_000, 0).expect("a valid time");
    let given = to_raw_value(parameters).expect("JSON");
    let mut changes = Changes::default();
    let request = Start {
        id: ExecutionId(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001)),
        workflow: Arc::clone(&compiled.workflow),
        parameters: Some(&given),
        parent: None,
        timeout: None,
    };
    let execution = start(request, now, &mut changes).map_err(|rejection| rejection.message)?;
    let mut scene = Scene {
        execution,
        now,
        jobs: Vec::new(),
        timers: BTreeMap::new(),
        ended: Vec::new(),
        past: Past::default(),
        cancels: Vec::new(),
        log: Vec::new(),
        details: Vec::new(),
    };
    scene.take(changes);
    Ok(scene)
}

impl Scene {
    fn take(&mut self, mut changes: Changes) {
        self.execution.check().expect("the invariants hold");
        self.jobs.append(&mut changes.jobs);
        for change in std::mem::take(&mut changes.timers) {
            match change {
                TimerChange::Set { run, kind, due } => drop(self.timers.insert(run, (kind, due))),
                TimerChange::Clear { run } => drop(self.timers.remove(&run)),
            }
        }
        for transition in &changes.transitions {
            let expected = i64::try_from(self.log.len()).expect("a short log") + 1;
            assert_eq!(transition.seq, expected, "the log has no gap");
            let (from, to) = (transition.from.unwrap_or("-"), transition.to.unwrap_or("-"));
            let detail = transition.detail.as_ref().map(Json::text);
            self.details
                .push(serde_json::from_str(detail.unwrap_or("null")).expect("JSON"));
            self.log
                .push(format!("{} {from}>{to}", transition.kind.word()));
        }
        self.past.add(&changes);
        self.ended.extend(changes.ended);
        self.cancels.extend(changes.cancels);
    }

    pub fn apply(&mut self, event: &Event) -> Outcome {
        let mut changes = Changes::default();
        let outcome = self.execution.apply(event, self.now, &mut changes);
        self.take(changes);
        outcome
    }

    /// Names of the tasks whose jobs wait for an answer.
    pub fn waiting(&self) -> Vec<&str> {
        self.jobs.iter().map(|job| &*job.task).collect()
    }

    /// The oldest job of a task.
    pub fn job(&mut self, task: &str) -> Job {
        let at = self.jobs.iter().position(|job| &*job.task == task);
        self.jobs
            .remove(at.unwrap_or_else(|| panic!("{task} waits for a worker: {:?}", self.waiting())))
    }

    pub fn input(&self, task: &str) -> Value {
        let job = self.jobs.iter().find(|job| &*job.task == task);
        let job = job.unwrap_or_else(|| panic!("{task} waits for a worker: {:?}", self.waiting()));
        serde_json::from_str(job.input.text()).expect("JSON")
    }

    pub fn succeed(&mut self, task: &str, result: &Value) -> Outcome {
        let job = self.job(task);
        self.answer(&job, CompletionStatus::Succeeded, Some(result), None)
    }

    pub fn fail(&mut self, task: &str, kind: &str) -> Outcome {
        let job = self.job(task);
        let error = TaskError {
            kind: kind.to_owned(),
            message: "no".to_owned(),
            retryable: None,
            details: None,
        };
        self.answer(&job, CompletionStatus::Failed, None, Some(error))
    }

    /// The worker says that it stopped.
    pub fn stop(&mut self, task: &str) -> Outcome {
        let job = self.job(task);
        self.answer(&job, CompletionStatus::Cancelled, None, None)
    }

    pub fn pause(&mut self) -> Outcome {
        self.control(Command::Pause)
    }

    pub fn resume(&mut self) -> Outcome {
        self.control(Command::Resume)
    }

    pub fn cancel(&mut self) -> Outcome {
        self.control(Command::Cancel { reason: None })
    }

    /// Runs again what has failed, or the named tasks.
    pub fn rerun(&mut self, from: &[&str]) -> Outcome {
        self.rerun_with(RerunOrder {
            from: from.iter().map(ToString::to_string).collect(),
            ..RerunOrder::default()
        })
    }

    pub fn rerun_with(&mut self, order: RerunOrder) -> Outcome {
        self.apply(&Event::RerunOrdered(Box::new(Rerun {
            order,
            past: self.past.clone(),
            message_id: None,
        })))
    }

    fn control(&mut self, command: Command) -> Outcome {
        self.apply(&Event::Controlled {
            command,
            message_id: None,
        })
    }

    pub fn fail_for_good(&mut self, task: &str) -> Outcome {
        let job = self.job(task);
        let error = TaskError {
            kind: "bad".to_owned(),
            message: "no".to_owned(),
            retryable: Some(false),
            details: None,
        };
        self.answer(&job, CompletionStatus::Failed, None, Some(error))
    }

    pub fn time_out(&mut self, task: &str) -> Outcome {
        let job = self.job(task);
        self.answer(&job, CompletionStatus::TimedOut, None, None)
    }

    pub fn answer(
        &mut self,
        job: &Job,
        status: CompletionStatus,
        result: Option<&Value>,
        error: Option<TaskError>,
    ) -> Outcome {
        let report = Report {
            status,
            result: result.map(Json::of),
            error,
            started_at: None,
            finished_at: None,
            worker: None,
        };
        self.apply(&Event::AttemptEnded {
            attempt: id(job),
            report: Box::new(report),
        })
    }

    /// A worker says that it runs the oldest job of a task; the job stays unanswered.
    pub fn started(&mut self, task: &str) -> Outcome {
        let job = self
            .jobs
            .iter()
            .find(|job| &*job.task == task)
            .expect("the job waits");
        let event = Event::AttemptStarted {
            attempt: id(job),
            worker: None,
            started_at: None,
        };
        self.apply(&event)
    }

    /// Lets time pass until the next timer, and fires it. Gives the seconds that passed.
    pub fn wait(&mut self) -> f64 {
        let (run, (kind, due)) = self
            .timers
            .iter()
            .min_by_key(|(_, (_, due))| *due)
            .map(|(run, timer)| (*run, *timer))
            .expect("a timer is set");
        let passed = due - self.now;
        self.now = due.max(self.now);
        self.apply(&Event::TimerFired { run, kind });
        seconds(passed)
    }

    pub fn status(&self) -> &'static str {
        self.execution.status.word()
    }

    pub fn output(&self) -> Value {
        let output = self
            .execution
            .output
            .as_ref()
            .map(|output| serde_json::from_str(output.text()));
        output.transpose().expect("JSON").unwrap_or(Value::Null)
    }

    /// Kind and task of each error.
    pub fn errors(&self) -> Vec<(String, String)> {
        let errors = self.execution.errors.iter();
        errors
            .map(|error| {
                (
                    error.kind.clone(),
                    error.task.as_deref().unwrap_or_default().to_owned(),
                )
            })
            .collect()
    }

    /// The final variables.
    pub fn variables(&self) -> Value {
        let vars = self.execution.ends.vars.iter();
        let vars = vars.map(|write| {
            let value: Value = serde_json::from_str(write.value.text()).expect("JSON");
            (write.name.to_string(), value)
        });
        Value::Object(vars.collect())
    }

    /// Task and status of each run that has ended.
    pub fn ends(&self) -> Vec<(String, &'static str)> {
        let name = |run: &Run| self.execution.workflow.tasks[run.task.0].name.to_string();
        self.ended
            .iter()
            .map(|run| (name(run), run.status.word()))
            .collect()
    }
}

/// Answers the jobs that wait, whatever comes after them included, with success.
pub fn succeed_all(scene: &mut Scene) {
    while let Some(task) = scene.waiting().first().map(ToString::to_string) {
        scene.succeed(&task, &json!("ok"));
    }
}

pub fn id(job: &Job) -> AttemptId {
    AttemptId {
        task_id: job.task_id,
        attempt: job.attempt,
    }
}

pub fn none() -> Value {
    json!({})
}

fn seconds(delta: TimeDelta) -> f64 {
    delta.num_microseconds().map_or(f64::MAX, |micros| {
        let micros = i32::try_from(micros).expect("a short wait");
        f64::from(micros) / 1e6
    })
}
