//! The worker of a script: what it makes of a job, and when it says so.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use flotilla_engine::Json;
use flotilla_engine::execution::{AttemptId, Event, Job, JobCancel, Outcome, Report};
use flotilla_protocol::message::CompletionStatus;
use flotilla_protocol::{ExecutionId, RunNo};

use super::{Due, InHand, Place, Player, Rank};
use crate::read::{time, value as json};
use crate::script::{Answer, AnswerStatus};
use crate::seen::{Delivery, Step};

impl Player<'_> {
    /// A worker gets a job, says that it starts, and what becomes of it is planned. One that is told
    /// not to run it leaves it.
    pub(super) fn deliver(&mut self, id: ExecutionId, job: Job) {
        let event = Event::AttemptStarted {
            attempt: attempt_of(&job),
            worker: None,
            started_at: None,
        };
        let started = self.apply(id, &event);
        let Some(member) = self.members.get(&id) else {
            return;
        };
        let run = member.held.execution.live.get(&job.run);
        let is_wanted = run.is_some_and(|run| run.is_with_a_worker() && run.attempt == job.attempt);
        if started != Outcome::Applied || !is_wanted {
            return;
        }
        let (task, run) = (member.shown(&job.task), member.number(job.run));
        let answer = self.answer_to(&job);
        let delivery = self.seen.deliveries.len();
        self.seen.deliveries.push(Delivery {
            task,
            run,
            item: item_of(&job),
            attempt: job.attempt,
            action: Arc::clone(&job.action),
            input: json(&job.input),
            from_s: self.elapsed_s(self.now),
            to_s: None,
        });
        self.seen.steps.push(Step::Delivered(delivery));
        let key = (id, job.run, job.attempt);
        let stops_after = answer.stops_after;
        let given_up_at = self.given_up_at(&job, &answer);
        let due = self.plan_answer(id, job, &answer);
        let in_hand = InHand {
            delivery,
            due,
            stops_after,
            given_up_at,
        };
        self.in_hand.insert(key, in_hand);
    }

    /// When nothing has been heard for as long as the task allows, if its worker falls silent.
    fn given_up_at(&self, job: &Job, answer: &Answer) -> Option<DateTime<Utc>> {
        let last = self.now.checked_add_signed(answer.silent_after?)?;
        last.checked_add_signed(time(job.heartbeat?))
    }

    /// What a worker has of a run, of its current attempt.
    pub(super) fn in_hand_of(&self, id: ExecutionId, run: RunNo) -> Option<&InHand> {
        let execution = &self.members.get(&id)?.held.execution;
        let attempt = execution.live.get(&run)?.attempt;
        self.in_hand.get(&(id, run, attempt))
    }

    fn answer_to(&mut self, job: &Job) -> Answer {
        let count = self.of_task.entry(Arc::clone(&job.task)).or_insert(0);
        let of_task = *count;
        *count += 1;
        let item = item_of(job);
        let of_item = match item {
            Some(index) => {
                let count = self
                    .of_item
                    .entry((Arc::clone(&job.task), index))
                    .or_insert(0);
                *count += 1;
                *count - 1
            }
            None => of_task,
        };
        let answers = self.script.answers.get(&*job.task);
        answers.map_or_else(Answer::default, |answers| {
            answers.answer(item, of_task, of_item)
        })
    }

    /// Plans what becomes of a delivery. Workers keep time limits themselves; an answer that takes
    /// longer than that comes all the same, too late.
    fn plan_answer(&mut self, id: ExecutionId, job: Job, answer: &Answer) -> Vec<Place> {
        let attempt = attempt_of(&job);
        let limit = job.timeout.map(time);
        let is_silent = answer.status == AnswerStatus::Never;
        let mut due = Vec::new();
        if let Some(limit) = limit.filter(|limit| is_silent || answer.takes > *limit) {
            let report = report(CompletionStatus::TimedOut, None, &Answer::default());
            due.push(self.plan(limit, Rank::Worker, Due::Answered(id, attempt, report)));
        }
        let status = match answer.status {
            AnswerStatus::Never => return due,
            AnswerStatus::Lost => {
                // Once the worker has given the attempt up, its death concerns nobody.
                if due.is_empty() {
                    due.push(self.plan(answer.takes, Rank::Worker, Due::Lost(id, job)));
                }
                return due;
            }
            AnswerStatus::Succeeded => CompletionStatus::Succeeded,
            AnswerStatus::Failed => CompletionStatus::Failed,
            AnswerStatus::TimedOut => CompletionStatus::TimedOut,
        };
        let result = if answer.echo {
            Some(job.input)
        } else {
            answer.result.clone()
        };
        let mut after = answer.takes;
        for _ in 0..=answer.duplicates {
            let report = report(status, result.clone(), answer);
            due.push(self.plan(after, Rank::Worker, Due::Answered(id, attempt, report)));
            after += answer.duplicate_gap;
        }
        due
    }

    pub(super) fn answered(&mut self, id: ExecutionId, attempt: AttemptId, report: Box<Report>) {
        let key = (id, attempt.task_id.run(), attempt.attempt);
        let delivery = self.delivery_of(key);
        let step = delivery.map(|delivery| Step::Answered(delivery, report.status));
        self.seen.steps.extend(step);
        self.end_delivery(key);
        let outcome = self.apply(id, &Event::AttemptEnded { attempt, report });
        if matches!(outcome, Outcome::Ignored(_)) {
            self.seen.ignored_answers += 1;
        }
    }

    pub(super) fn put_down(&mut self, id: ExecutionId, job: &Job) {
        let key = (id, job.run, job.attempt);
        let delivery = self.delivery_of(key);
        self.seen.steps.extend(delivery.map(Step::Lost));
        self.end_delivery(key);
    }

    /// The newest delivery of an attempt, also where the worker is done with it.
    fn delivery_of(&self, (id, run, attempt): (ExecutionId, RunNo, u32)) -> Option<usize> {
        let run = self.members.get(&id)?.number(run);
        let mut deliveries = self.seen.deliveries.iter();
        deliveries.rposition(|one| one.run == run && one.attempt == attempt)
    }

    fn end_delivery(&mut self, key: (ExecutionId, RunNo, u32)) {
        if let Some(in_hand) = self.in_hand.remove(&key) {
            let now = self.elapsed_s(self.now);
            self.seen.deliveries[in_hand.delivery].to_s = Some(now);
        }
    }

    /// A worker that listens leaves what it was about to answer, and says that it stopped.
    pub(super) fn tell_to_stop(&mut self, id: ExecutionId, cancel: &JobCancel) {
        let attempt = AttemptId {
            task_id: cancel.task_id,
            attempt: cancel.attempt,
        };
        let key = (id, attempt.task_id.run(), attempt.attempt);
        let Some(in_hand) = self.in_hand.get_mut(&key) else {
            return;
        };
        let Some(stops_after) = in_hand.stops_after.take() else {
            return;
        };
        for place in std::mem::take(&mut in_hand.due) {
            self.agenda.remove(&place);
        }
        let report = report(CompletionStatus::Cancelled, None, &Answer::default());
        self.plan(
            stops_after,
            Rank::Worker,
            Due::Answered(id, attempt, report),
        );
    }
}

fn attempt_of(job: &Job) -> AttemptId {
    AttemptId {
        task_id: job.task_id,
        attempt: job.attempt,
    }
}

/// The item that a job is for.
fn item_of(job: &Job) -> Option<u32> {
    job.item.map(|(index, _)| index)
}

fn report(status: CompletionStatus, result: Option<Json>, answer: &Answer) -> Box<Report> {
    Box::new(Report {
        status,
        result,
        error: answer.error.clone(),
        started_at: None,
        finished_at: None,
        worker: None,
    })
}
