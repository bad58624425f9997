//! Which event an entry of the log stands for, where it is the first entry of a step.

use std::borrow::Cow;

use flotilla_engine::Json;
use flotilla_engine::execution::{
    AttemptId, Command, Event, NO_RUN, Report, Rerun, RerunOrder, RunStatus, TimerKind,
    TransitionKind, kind,
};
use flotilla_protocol::RunNo;
use flotilla_protocol::message::{CompletionStatus, TaskError};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Fold;
use crate::rows::{LoadedTask, LoadedTransition};

/// What the engine puts before the reason of a job that was refused.
const REFUSED: &str = "the job was refused: ";

#[derive(Deserialize)]
struct EndDetail<'a> {
    #[serde(borrow)]
    reported: Option<Reported<'a>>,
    #[serde(default)]
    given_up: bool,
}

#[derive(Deserialize)]
struct Reported<'a> {
    status: CompletionStatus,
    #[serde(borrow)]
    error: &'a RawValue,
}

#[derive(Deserialize)]
struct RetryDetail<'a> {
    ended: CompletionStatus,
    #[serde(borrow)]
    error: &'a RawValue,
    result: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct ControlDetail {
    command: String,
    reason: Option<String>,
    message_id: Option<String>,
    #[serde(default)]
    from: Vec<String>,
    #[serde(default)]
    reset_items: bool,
    parameters: Option<Box<RawValue>>,
    vars: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct StartDetail {
    #[serde(default)]
    acknowledged: bool,
    heartbeat: f64,
}

#[derive(Deserialize)]
struct ResentDetail<'a> {
    #[serde(borrow)]
    reason: Cow<'a, str>,
}

impl Fold<'_> {
    /// The event that led to an entry; `None` where none of them can have.
    pub(super) fn event(&self, entry: &LoadedTransition) -> Option<Event> {
        match entry.kind {
            // Of a task with items, whose delay is over.
            TransitionKind::TaskStarted if entry.attempt.is_none() => self.timer_fired(entry),
            TransitionKind::TaskStarted => {
                let attempt = attempt_id(entry)?;
                let started = self.attempt_started(attempt);
                match &entry.detail {
                    Some(detail) => acknowledged(started, detail),
                    None => Some(started),
                }
            }
            TransitionKind::TaskEnded
            | TransitionKind::TaskRetryScheduled
            | TransitionKind::TaskDispatched => self.run_changed(entry),
            TransitionKind::ControlApplied if entry.task_id.is_some() => self.timer_fired(entry),
            TransitionKind::ControlApplied => self.controlled(entry),
            TransitionKind::JobResent => resent(entry),
            TransitionKind::ExecutionStatusChanged => timed_out(entry),
            TransitionKind::ExecutionStarted | TransitionKind::JoinArrived => None,
        }
    }

    /// The run of an entry has moved on: its worker answered, or its timer fired.
    fn run_changed(&self, entry: &LoadedTransition) -> Option<Event> {
        let no = entry.task_id?.run();
        let Some(run) = self.execution.live.get(&no) else {
            return self.item_let_in(no, entry);
        };
        match run.status {
            RunStatus::Dispatched | RunStatus::Running => match entry.kind {
                TransitionKind::TaskEnded => self.ended(entry),
                TransitionKind::TaskRetryScheduled => self.retried(entry),
                TransitionKind::ExecutionStarted
                | TransitionKind::TaskDispatched
                | TransitionKind::TaskStarted
                | TransitionKind::JoinArrived
                | TransitionKind::ControlApplied
                | TransitionKind::JobResent
                | TransitionKind::ExecutionStatusChanged => None,
            },
            RunStatus::Retrying | RunStatus::Delayed | RunStatus::Spread => self.timer_fired(entry),
            RunStatus::Waiting | RunStatus::Ended(_) => None,
        }
    }

    /// The first entry about a run: it is that of an item, and the timer of its task has let it in.
    fn item_let_in(&self, no: RunNo, entry: &LoadedTransition) -> Option<Event> {
        let whole = self.stored_run(no)?.item_of?;
        self.timer_of(whole, entry)
    }

    fn timer_fired(&self, entry: &LoadedTransition) -> Option<Event> {
        self.timer_of(entry.task_id?.run(), entry)
    }

    fn timer_of(&self, no: RunNo, entry: &LoadedTransition) -> Option<Event> {
        let run = self.execution.live.get(&no)?;
        let timer = self.timers.get(&run.no)?;
        let kind = timer.kind;
        let fits = match run.status {
            RunStatus::Retrying => matches!(kind, TimerKind::Retry | TimerKind::TotalTimeout),
            RunStatus::Delayed | RunStatus::Spread => matches!(
                kind,
                TimerKind::Delay | TimerKind::Dispatch | TimerKind::TotalTimeout
            ),
            RunStatus::Waiting
            | RunStatus::Dispatched
            | RunStatus::Running
            | RunStatus::Ended(_) => return None,
        };
        let is_due = fits && timer.due_at <= entry.at;
        is_due.then_some(Event::TimerFired { run: run.no, kind })
    }

    /// A deadline or a cancel that was not answered looks like the report of a worker, and does the
    /// same.
    fn ended(&self, entry: &LoadedTransition) -> Option<Event> {
        let attempt = attempt_id(entry)?;
        let row = self.stored_run(attempt.task_id.run());
        let detail: Option<EndDetail<'_>> = match &entry.detail {
            Some(detail) => Some(parse(detail.raw())?),
            None => None,
        };
        let reported = detail.as_ref().and_then(|detail| detail.reported.as_ref());
        let (status, error) = match reported {
            Some(reported) => (reported.status, Some(reported.error)),
            None => (
                completion_status(entry.to_status.as_deref()?)?,
                row.and_then(|row| row.error.as_ref()).map(Json::raw),
            ),
        };
        let error: Option<TaskError> = match error {
            Some(error) => parse(error)?,
            None => None,
        };
        if detail.is_some_and(|detail| detail.given_up) {
            return self.given_up(attempt, error?);
        }
        let result = row.and_then(|row| row.result.clone());
        Some(self.report(attempt, status, result, error))
    }

    fn retried(&self, entry: &LoadedTransition) -> Option<Event> {
        let detail: RetryDetail<'_> = parse(entry.detail.as_ref()?.raw())?;
        let error = parse(detail.error)?;
        let result = detail.result.map(Json::new);
        Some(self.report(attempt_id(entry)?, detail.ended, result, error))
    }

    fn report(
        &self,
        attempt: AttemptId,
        status: CompletionStatus,
        result: Option<Json>,
        error: Option<TaskError>,
    ) -> Event {
        let row = self.stored_attempt(attempt);
        let worker = self
            .stored_run(attempt.task_id.run())
            .and_then(|row| row.worker.clone());
        let report = Box::new(Report {
            status,
            result,
            error,
            started_at: row.and_then(|row| row.started_at),
            finished_at: None,
            worker,
        });
        let run = self.execution.live.get(&attempt.task_id.run());
        if run.and_then(|run| self.execution.child(run)).is_some() {
            return Event::ChildEnded { attempt, report };
        }
        Event::AttemptEnded { attempt, report }
    }

    fn attempt_started(&self, attempt: AttemptId) -> Event {
        Event::AttemptStarted {
            attempt,
            worker: self
                .stored_run(attempt.task_id.run())
                .and_then(|row| row.worker.clone()),
            started_at: self.stored_attempt(attempt).and_then(|row| row.started_at),
        }
    }

    /// An attempt that was ended without a look at the retry rule: why, its error says.
    fn given_up(&self, attempt: AttemptId, error: TaskError) -> Option<Event> {
        match error.kind.as_str() {
            kind::WORKER_LOST => {
                let no = attempt.task_id.run();
                let starts = self.execution.live.get(&no)?.starts;
                // One more start than were logged: the one that was too much.
                if self.stored_run(no).is_some_and(|row| row.starts > starts) {
                    return Some(self.attempt_started(attempt));
                }
                Some(Event::JobDied {
                    attempt,
                    reason: "delivery_limit".to_owned(),
                })
            }
            kind::CONTRACT_VIOLATION => Some(Event::JobDied {
                attempt,
                reason: error.message.strip_prefix(REFUSED)?.to_owned(),
            }),
            kind::TASK_TIMEOUT => Some(Event::TimerFired {
                run: attempt.task_id.run(),
                kind: TimerKind::TotalTimeout,
            }),
            kind::INVALID_RESULT => Some(Event::CompletionPoisoned {
                attempt,
                reason: error.message,
            }),
            _ => None,
        }
    }

    fn controlled(&self, entry: &LoadedTransition) -> Option<Event> {
        let detail: ControlDetail = parse(entry.detail.as_ref()?.raw())?;
        let command = match detail.command.as_str() {
            "cancel" => Command::Cancel {
                reason: detail.reason,
            },
            "pause" => Command::Pause,
            "resume" => Command::Resume,
            "rerun" => {
                let order = RerunOrder {
                    from: detail.from,
                    reset_items: detail.reset_items,
                    parameters: detail.parameters.map(Json::new),
                    vars: detail.vars.map(Json::new),
                };
                return Some(Event::RerunOrdered(Box::new(Rerun {
                    order,
                    past: self.past.clone(),
                    message_id: detail.message_id,
                })));
            }
            _ => return None,
        };
        Some(Event::Controlled {
            command,
            message_id: detail.message_id,
        })
    }

    pub(super) fn stored_run(&self, no: RunNo) -> Option<&LoadedTask> {
        let tasks = &self.history.tasks;
        let at = tasks.binary_search_by_key(&no, |row| row.run).ok()?;
        tasks.get(at)
    }

    /// The row of a run, if it is about this attempt and not about a later one.
    fn stored_attempt(&self, attempt: AttemptId) -> Option<&LoadedTask> {
        self.stored_run(attempt.task_id.run())
            .filter(|row| row.attempt == attempt.attempt)
    }
}

fn attempt_id(entry: &LoadedTransition) -> Option<AttemptId> {
    Some(AttemptId {
        task_id: entry.task_id?,
        attempt: entry.attempt?,
    })
}

/// The execution as a whole has another status, and nothing else before: its time was up.
fn timed_out(entry: &LoadedTransition) -> Option<Event> {
    entry.detail.as_ref()?;
    Some(Event::TimerFired {
        run: NO_RUN,
        kind: TimerKind::ExecutionTimeout,
    })
}

/// A start after which silence counts, by its entry: it may say that the job was acknowledged.
fn acknowledged(started: Event, detail: &Json) -> Option<Event> {
    let detail: StartDetail = parse(detail.raw())?;
    if !detail.acknowledged {
        return Some(started);
    }
    let Event::AttemptStarted {
        attempt,
        worker,
        started_at,
    } = started
    else {
        return None;
    };
    Some(Event::AttemptAcknowledged {
        attempt,
        worker,
        started_at,
        heartbeat_s: detail.heartbeat,
    })
}

fn resent(entry: &LoadedTransition) -> Option<Event> {
    let attempt = attempt_id(entry)?;
    let detail: ResentDetail<'_> = parse(entry.detail.as_ref()?.raw())?;
    Some(match &*detail.reason {
        "lost" => Event::JobLost { attempt },
        "returned" => Event::JobReturned { attempt },
        "silent" => Event::TimerFired {
            run: attempt.task_id.run(),
            kind: TimerKind::Heartbeat,
        },
        reason => Event::JobDied {
            attempt,
            reason: reason.to_owned(),
        },
    })
}

fn completion_status(word: &str) -> Option<CompletionStatus> {
    Some(match word {
        "succeeded" => CompletionStatus::Succeeded,
        "failed" => CompletionStatus::Failed,
        "timed_out" => CompletionStatus::TimedOut,
        "cancelled" => CompletionStatus::Cancelled,
        _ => return None,
    })
}

fn parse<'a, T: Deserialize<'a>>(json: &'a RawValue) -> Option<T> {
    serde_json::from_str(json.get()).ok()
}
