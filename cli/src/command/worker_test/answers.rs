//! Checks of what a worker answers: to jobs of every kind, and to messages that are no jobs.

use std::collections::BTreeSet;
use std::time::Duration;

use flotilla_protocol::RawJson;
use flotilla_protocol::amqp::{Consumer, Outgoing, copies_of};
use flotilla_protocol::message::{CompletionStatus, TaskCompleted, TaskError};
use flotilla_protocol::names;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::bench::Bench;
use super::verdict::{Clause, Stop, Verdict};
use crate::broker;

/// Jobs that are published at once.
const SEQUENCE: usize = 20;
/// An attempt that no worker guesses.
const ATTEMPT: u32 = 3;
/// Bodies that are no jobs.
const GARBAGE: [(&str, &str); 3] = [
    ("not JSON", "{\"execution_id\": "),
    ("a list", "[]"),
    ("an object without ids", "{\"action\": \"core.noop\"}"),
];

/// A job that succeeds.
pub async fn reply(bench: &mut Bench) -> Result<Verdict, Stop> {
    let mut job = bench.job();
    job.attempt = ATTEMPT;
    let asked_at = Instant::now();
    bench.publish(&job).await?;
    let completed = bench.completion(&job).await?;
    bench.typical = asked_at.elapsed();
    if completed.status != CompletionStatus::Succeeded {
        return Clause::Answer.broken(format!(
            "the input that is to succeed was answered as {}; give another --action or --input",
            told(&completed)
        ));
    }
    if let (Some(started), Some(finished)) = (completed.started_at, completed.finished_at)
        && finished < started
    {
        return Clause::Answer.broken(format!(
            "finished_at {finished} is before started_at {started}"
        ));
    }
    let left_out: Vec<&str> = [
        ("started_at", completed.started_at.is_none()),
        ("finished_at", completed.finished_at.is_none()),
        ("worker", completed.worker.is_none()),
    ]
    .iter()
    .filter_map(|(field, is_missing)| is_missing.then_some(*field))
    .collect();
    let seen = format!("succeeded in {:.3} s", bench.typical.as_secs_f64());
    Ok(Verdict::Passed(if left_out.is_empty() {
        seen
    } else {
        format!("{seen}; left out, as is allowed: {}", left_out.join(", "))
    }))
}

/// Several jobs at once, each answered once.
pub async fn sequence(bench: &mut Bench) -> Result<Verdict, Stop> {
    let jobs: Vec<_> = (0..SEQUENCE).map(|_| bench.job()).collect();
    for job in &jobs {
        bench.publish(job).await?;
    }
    for job in &jobs {
        bench.completion(job).await?;
    }
    bench.settle().await?;
    for job in &jobs {
        let count = bench.completions(job).count();
        if count != 1 {
            return Clause::Answer.broken(format!(
                "a job that was delivered once was answered {count} times"
            ));
        }
    }
    Ok(Verdict::Passed(format!(
        "{SEQUENCE} jobs answered, each once"
    )))
}

/// A job that fails.
pub async fn failure(bench: &mut Bench, input: RawJson) -> Result<Verdict, Stop> {
    let job = bench.job_with(input);
    bench.publish(&job).await?;
    let completed = bench.completion(&job).await?;
    let error = failed(&completed, Clause::Failure)?;
    let retryable = match error.retryable {
        Some(true) => "retryable",
        Some(false) => "not retryable",
        None => "retryable, since it does not say",
    };
    let seen = format!("failed as {}, {retryable}", error.kind);
    Ok(Verdict::Passed(seen))
}

/// A job for an action that nobody knows.
pub async fn unknown_action(bench: &mut Bench) -> Result<Verdict, Stop> {
    let mut job = bench.job();
    "worker-test.no_such_action".clone_into(&mut job.action);
    bench.publish(&job).await?;
    let completed = bench.completion(&job).await?;
    let error = failed(&completed, Clause::UnknownAction)?;
    if error.retryable != Some(false) {
        let seen = format!("it failed as {}, without retryable false", error.kind);
        return Clause::UnknownAction.broken(seen);
    }
    Ok(Verdict::Passed(format!("failed as {}", error.kind)))
}

fn failed(completed: &TaskCompleted, clause: Clause) -> Result<&TaskError, Stop> {
    match (completed.status, &completed.error) {
        (CompletionStatus::Failed, Some(error))
            if !error.kind.is_empty() && !error.message.is_empty() =>
        {
            Ok(error)
        }
        (CompletionStatus::Failed, _) => clause.broken("it failed without a kind and a message"),
        (
            CompletionStatus::Succeeded | CompletionStatus::TimedOut | CompletionStatus::Cancelled,
            _,
        ) => clause.broken(format!("it was answered as {}", told(completed))),
    }
}

/// A status with its error, for people.
pub fn told(completed: &TaskCompleted) -> String {
    let status = format!("{:?}", completed.status).to_lowercase();
    match &completed.error {
        Some(error) => format!("{status} ({}: {})", error.kind, error.message),
        None => status,
    }
}

/// The same job twice.
pub async fn duplicate(bench: &mut Bench) -> Result<Verdict, Stop> {
    let job = bench.job();
    bench.publish(&job).await?;
    bench.publish(&job).await?;
    bench.completion(&job).await?;
    bench.taken().await?;
    bench.settle().await?;
    let results: BTreeSet<&str> = bench
        .completions(&job)
        .map(|completed| completed.result.as_ref().map_or("", |result| result.get()))
        .collect();
    let count = bench.completions(&job).count();
    let differ = if results.len() > 1 {
        ", with results that differ: the coordinator takes the first"
    } else {
        ""
    };
    Ok(Verdict::Passed(format!(
        "the same job twice was answered {count} times{differ}"
    )))
}

/// Messages that are no jobs, and then one that is.
pub async fn garbage(bench: &mut Bench) -> Result<Verdict, Stop> {
    let mut dead = dead_letters(bench).await?;
    let mut sent = Vec::new();
    for (what, body) in GARBAGE {
        let job = bench.job();
        let id = format!("worker-test/{}", Uuid::now_v7());
        let message = Outgoing {
            message_id: Some(id.clone()),
            body: body.as_bytes().to_vec(),
            ..bench.message(&job, bench.reply_to())
        };
        bench.send(message).await?;
        sent.push((what, id));
    }
    let job = bench.job();
    bench.publish(&job).await?;
    let until = Instant::now() + bench.subject.patience;
    bench.hear_until(until, &job).await?;
    if bench.completions(&job).next().is_none() {
        let state = bench.state().await?;
        return Clause::Garbage.broken(format!(
            "after three messages that are no jobs a good one is not answered within {} s; {} jobs wait, {} consume",
            bench.subject.patience.as_secs_f64(),
            state.messages,
            state.consumers
        ));
    }
    let until = Instant::now() + bench.subject.patience;
    while !sent.is_empty() {
        let Ok(Some(delivery)) = timeout_at(until, dead.next()).await else {
            let missing: Vec<&str> = sent.iter().map(|(what, _)| *what).collect();
            let missing = missing.join(", ");
            return Clause::Garbage.broken(format!("not among the dead letters: {missing}"));
        };
        let id = delivery.envelope.message_id;
        sent.retain(|(_, sent)| Some(sent) != id.as_ref());
    }
    dead.close().await;
    let count = GARBAGE.len();
    Ok(Verdict::Passed(format!(
        "{count} messages went to the dead letters (`flotilla dead list`), the next job was answered"
    )))
}

/// A job of a later version of the contract.
pub async fn newer_version(bench: &mut Bench) -> Result<Verdict, Stop> {
    let mut dead = dead_letters(bench).await?;
    let job = bench.job();
    let id = format!("worker-test/{}", Uuid::now_v7());
    let mut message = bench.message(&job, bench.reply_to());
    message.message_id = Some(id.clone());
    let version = (names::VERSION + 1).to_string();
    message
        .headers
        .push((names::VERSION_HEADER.to_owned(), version));
    bench.send(message).await?;
    bench.taken().await?;
    let until = Instant::now() + bench.subject.patience;
    let is_dead = tokio::select! {
        is_dead = comes(&mut dead, &id, bench.subject.patience) => is_dead,
        heard = bench.hear_until(until, &job) => {
            heard?;
            false
        }
    };
    dead.close().await;
    Ok(if is_dead {
        Verdict::Passed("went to the dead letters, for after the upgrade".to_owned())
    } else {
        let seen = "a job of a later version of the contract is run as if it were one of this";
        Verdict::Absent(seen.to_owned())
    })
}

async fn dead_letters(bench: &Bench) -> Result<Consumer, Stop> {
    let could_not = |error| broker::failed("could not look at the dead letters", error);
    let queue = copies_of(&bench.connection, names::DEAD).await;
    let queue = queue.map_err(could_not)?;
    let consumer = bench.connection.consume(&queue, 0).await;
    Ok(consumer.map_err(could_not)?)
}

/// Whether a dead letter of this message id comes.
async fn comes(dead: &mut Consumer, id: &str, patience: Duration) -> bool {
    let until = Instant::now() + patience;
    while let Ok(Some(delivery)) = timeout_at(until, dead.next()).await {
        if delivery.envelope.message_id.as_deref() == Some(id) {
            return true;
        }
    }
    false
}
