//! Checks with a job that takes a while: its start, heartbeats, time limit, cancels, early
//! acknowledgement. All of it is optional for a worker of short jobs.

use std::time::Duration;

use flotilla_protocol::amqp::Outgoing;
use flotilla_protocol::message::{CompletionStatus, TaskCancel, TaskJob};
use tokio::time::Instant;

use super::answers::told;
use super::bench::{Bench, Said};
use super::verdict::{Clause, Stop, Verdict};

/// What a job that takes a while must take at least.
const LONG: Duration = Duration::from_secs(2);
/// How often a job asks to be told to be alive.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// What a heartbeat may be late on a busy machine.
const LATE: Duration = Duration::from_millis(500);
/// How long a cancel takes to every worker.
const CANCEL_TRAVELS: Duration = Duration::from_millis(300);
/// The time limit of the job that runs into it, in seconds.
const SHORT_LIMIT_S: f64 = 1.0;

/// The start of a long job is told while it runs.
pub async fn started(bench: &mut Bench, job: TaskJob) -> Result<Verdict, Stop> {
    let took = run(bench, &job).await?;
    let told = bench.said(&job).next();
    if let Some((_, Said::Started(started))) = told {
        if started.attempt != job.attempt {
            return Clause::Ids.broken("the start was told of another attempt");
        }
        return Ok(Verdict::Passed("told while the job ran".to_owned()));
    }
    Ok(too_short(took).unwrap_or_else(|| {
        let seen = "the start is told with the answer; until then nobody sees that the job runs";
        Verdict::Absent(seen.to_owned())
    }))
}

/// A job that asks for heartbeats.
pub async fn heartbeat(bench: &mut Bench, mut job: TaskJob) -> Result<Verdict, Stop> {
    job.heartbeat = Some(HEARTBEAT.as_secs_f64());
    let asked_at = Instant::now();
    let took = run(bench, &job).await?;
    let alive = bench.said(&job).filter(|(_, said)| match said {
        Said::Started(_) | Said::Heartbeat => true,
        Said::Completed(_) => false,
    });
    let moments: Vec<Instant> = alive.map(|(at, _)| at).collect();
    let beats = bench.said(&job);
    let beats = beats.filter(|(_, said)| matches!(said, Said::Heartbeat));
    let count = beats.count();
    if count == 0 {
        let seen = "none came: a task with `heartbeat` would end as timed_out";
        return Ok(too_short(took).unwrap_or_else(|| Verdict::Absent(seen.to_owned())));
    }
    let silence = longest(asked_at, &moments, asked_at + took);
    if silence > HEARTBEAT + LATE {
        return Clause::Heartbeat.broken(format!(
            "{:.1} s of silence, though the job asked for a heartbeat every second",
            silence.as_secs_f64()
        ));
    }
    Ok(Verdict::Passed(format!(
        "{count} in {:.1} s, at most {:.1} s apart",
        took.as_secs_f64(),
        silence.as_secs_f64()
    )))
}

/// A job that runs into its time limit.
pub async fn time_limit(bench: &mut Bench, mut job: TaskJob) -> Result<Verdict, Stop> {
    job.timeout = Some(SHORT_LIMIT_S);
    let took = run(bench, &job).await?;
    let completed = bench.completion(&job).await?;
    match completed.status {
        CompletionStatus::TimedOut => {
            let took = took.as_secs_f64();
            Ok(Verdict::Passed(format!("timed_out after {took:.1} s")))
        }
        CompletionStatus::Succeeded => Ok(too_short(took).unwrap_or_else(|| {
            let seen = "the job ran to its end; coordinators give up such an attempt by themselves";
            Verdict::Absent(seen.to_owned())
        })),
        CompletionStatus::Failed | CompletionStatus::Cancelled => {
            Clause::TimeLimit.broken(format!("it was answered as {}", told(&completed)))
        }
    }
}

/// A cancel reaches a job that runs.
pub async fn cancel(bench: &mut Bench, job: TaskJob) -> Result<Verdict, Stop> {
    bench.publish(&job).await?;
    bench.taken().await?;
    let until = Instant::now() + HEARTBEAT;
    bench.hear_until(until, &job).await?;
    bench.send(Outgoing::cancel(&request(&job))).await?;
    let asked_at = Instant::now();
    let completed = bench.completion(&job).await?;
    let took = asked_at.elapsed();
    match completed.status {
        CompletionStatus::Cancelled => {
            let took = took.as_secs_f64();
            Ok(Verdict::Passed(format!("cancelled after {took:.1} s")))
        }
        CompletionStatus::Succeeded => Ok(Verdict::Absent(
            "the job ran to its end; its answer will be of no use".to_owned(),
        )),
        CompletionStatus::Failed | CompletionStatus::TimedOut => {
            Clause::Cancel.broken(format!("it was answered as {}", told(&completed)))
        }
    }
}

/// A cancel comes before its job.
pub async fn cancel_ahead(bench: &mut Bench) -> Result<Verdict, Stop> {
    let job = bench.job();
    bench.send(Outgoing::cancel(&request(&job))).await?;
    bench.hear_for(CANCEL_TRAVELS).await?;
    bench.publish(&job).await?;
    let completed = bench.completion(&job).await?;
    match completed.status {
        CompletionStatus::Cancelled => {
            Ok(Verdict::Passed("cancelled without having run".to_owned()))
        }
        CompletionStatus::Succeeded => Ok(Verdict::Absent(
            "the job ran, though its cancel had come before it".to_owned(),
        )),
        CompletionStatus::Failed | CompletionStatus::TimedOut => {
            Clause::Cancel.broken(format!("it was answered as {}", told(&completed)))
        }
    }
}

/// A job without a time limit, which may outlast the broker's patience.
pub async fn early(bench: &mut Bench, mut job: TaskJob) -> Result<Verdict, Stop> {
    job.timeout = None;
    let asked_at = Instant::now();
    let took = run(bench, &job).await?;
    let started = bench.said(&job).find_map(|(at, said)| match said {
        Said::Started(started) if started.acknowledged => Some((at, started.heartbeat)),
        Said::Started(_) | Said::Heartbeat | Said::Completed(_) => None,
    });
    let Some((at, interval)) = started else {
        return Ok(too_short(took).unwrap_or_else(|| {
            let seen = "a job must end before the broker's acknowledgement timeout (30 min)";
            Verdict::Absent(seen.to_owned())
        }));
    };
    let Some(interval) = interval.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
    else {
        return Clause::Early.broken("`acknowledged` is told without `heartbeat`");
    };
    let moments: Vec<Instant> = bench.said(&job).map(|(at, _)| at).collect();
    let silence = longest(at, &moments, asked_at + took);
    if silence > interval + LATE {
        return Clause::Heartbeat.broken(format!(
            "{:.1} s of silence after it promised a heartbeat every {:.1} s",
            silence.as_secs_f64(),
            interval.as_secs_f64()
        ));
    }
    let seconds = interval.as_secs_f64();
    Ok(Verdict::Passed(format!(
        "acknowledged early, with a heartbeat every {seconds:.1} s"
    )))
}

/// Runs a job to its end; how long that took.
async fn run(bench: &mut Bench, job: &TaskJob) -> Result<Duration, Stop> {
    let asked_at = Instant::now();
    bench.publish(job).await?;
    bench.completion(job).await?;
    Ok(asked_at.elapsed())
}

/// The longest time between two moments of a stretch.
fn longest(from: Instant, moments: &[Instant], to: Instant) -> Duration {
    let mut last = from;
    let mut longest = Duration::ZERO;
    for at in moments.iter().copied().chain([to]) {
        longest = longest.max(at.saturating_duration_since(last));
        last = last.max(at);
    }
    longest
}

fn too_short(took: Duration) -> Option<Verdict> {
    let need = LONG.as_secs();
    let took_s = took.as_secs_f64();
    (took < LONG).then(|| {
        Verdict::Skipped(format!(
            "a --slow-input that takes at least {need} s; this one took {took_s:.1} s"
        ))
    })
}

fn request(job: &TaskJob) -> TaskCancel {
    TaskCancel {
        execution_id: job.execution_id,
        task_id: job.task_id,
        attempt: job.attempt,
        reason: Some("worker-test".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_silence_may_be_at_either_end() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let seconds = |moments: &[Instant]| longest(start, moments, at(10)).as_secs();
        assert_eq!(seconds(&[]), 10);
        assert_eq!(seconds(&[at(6), at(8)]), 6);
        assert_eq!(seconds(&[at(1), at(3), at(4)]), 6);
        assert_eq!(seconds(&[at(2), at(7), at(9), at(12)]), 5);
    }
}
