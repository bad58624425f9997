//! Where the time of an execution goes, as far as rows and our own clock tell: each stage is the time
//! between two moments that somebody wrote down, and no stage is guessed.
//!
//! ```text
//! sent ─start queue─► created ─commit─► written        dispatched ─job queue─► started ─run and
//!  (here)             (decided)         (statement)     (decided)               (worker)  completion─► ended ─end─► seen
//! ```
//!
//! A turn stamps its rows with the time at which it decides, so the time to decide is in the stage
//! before; its commit is in the stage after, but for the part until the first row is written. When a
//! worker is done is in no row: its run and the way of its completion are one stage.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use flotilla_coordinator::storage::connect_read_only;
use hdrhistogram::Histogram;
use serde::Serialize;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::failure::Failure;
use crate::load::{Samples, Started, Starts};
use crate::timeline::milliseconds;

/// Tasks that are looked at, at most.
const MAX_TASKS: usize = 50_000;
/// Executions likewise.
const MAX_EXECUTIONS: usize = 5000;

/// How long one stage takes.
#[derive(Debug, Serialize)]
pub struct Stage {
    /// Its name.
    pub name: &'static str,
    /// The moment at which it begins.
    pub from: &'static str,
    /// The moment at which it ends.
    pub to: &'static str,
    /// How often it was looked at.
    pub samples: u64,
    /// Half of them are shorter; null if there are none.
    pub p50_ms: Option<f64>,
    /// One in a hundred is longer.
    pub p99_ms: Option<f64>,
}

/// All stages, and how the clocks stand.
#[derive(Debug, Serialize)]
pub struct Stages {
    /// By how many milliseconds the clock of Postgres is ahead of that of the harness; the stages that
    /// begin or end here are corrected by it.
    pub clock_ahead_ms: f64,
    /// In the order of an execution.
    pub stages: Vec<Stage>,
}

/// When an execution was sent and its end was seen, in seconds since 1970 by our clock.
#[derive(Debug, Clone, Copy)]
struct Seen {
    sent_s: f64,
    ended_s: f64,
}

/// What the rows say of an execution, in seconds since 1970.
type Written = (Uuid, f64, Option<f64>, Option<f64>);

/// Looks at executions that began and ended within the measurement, `tasks` each.
pub async fn look(
    url: &str,
    starts: &Starts,
    samples: &Samples,
    tasks: u64,
) -> Result<Stages, Failure> {
    let wall = Wall::now();
    let sample = choose(starts, samples, tasks);
    let ids: Vec<Uuid> = sample.iter().map(|started| started.id).collect();
    let mut connection = connect_read_only(url).await?;
    let ahead_s = clock_ahead_s(&mut connection).await?;
    let written: Vec<Written> = sqlx::query_as(
        "SELECT e.execution_id, extract(epoch FROM e.created_at)::float8,
             extract(epoch FROM s.created_at)::float8, extract(epoch FROM e.finished_at)::float8
         FROM workflow_execution AS e
         LEFT JOIN workflow_start AS s ON s.execution_id = e.execution_id
         WHERE e.execution_id = ANY ($1) ORDER BY e.execution_id",
    )
    .bind(&ids)
    .fetch_all(&mut connection)
    .await?;
    let attempts: Vec<(f64, f64, f64)> = sqlx::query_as(
        "SELECT extract(epoch FROM dispatched_at)::float8, extract(epoch FROM started_at)::float8,
             extract(epoch FROM finished_at)::float8
         FROM workflow_task
         WHERE execution_id = ANY ($1) AND dispatched_at IS NOT NULL AND started_at IS NOT NULL
             AND finished_at IS NOT NULL
         LIMIT $2",
    )
    .bind(&ids)
    .bind(i64::try_from(MAX_TASKS).unwrap_or(i64::MAX))
    .fetch_all(&mut connection)
    .await?;
    // All that was asked has been answered.
    let _ = connection.close().await;
    let seen = |started: &Started| {
        let ended_at = started.ended_at?;
        let seen = Seen {
            sent_s: wall.seconds(started.at) + ahead_s,
            ended_s: wall.seconds(ended_at) + ahead_s,
        };
        Some((started.id, seen))
    };
    let seen = sample.iter().filter_map(|started| seen(started)).collect();
    Ok(Stages {
        clock_ahead_ms: ahead_s * 1000.0,
        stages: stages(&seen, &written, &attempts),
    })
}

fn stages(
    seen: &std::collections::BTreeMap<Uuid, Seen>,
    written: &[Written],
    attempts: &[(f64, f64, f64)],
) -> Vec<Stage> {
    let sent = written
        .iter()
        .filter_map(|(id, created, ..)| Some(created - seen.get(id)?.sent_s));
    let commit = written
        .iter()
        .filter_map(|(_, created, start, _)| Some((*start)? - created));
    let ended = written
        .iter()
        .filter_map(|(id, _, _, finished)| Some(seen.get(id)?.ended_s - (*finished)?));
    let queued = attempts
        .iter()
        .map(|(dispatched, started, _)| started - dispatched);
    let run = attempts
        .iter()
        .map(|(_, started, finished)| finished - started);
    vec![
        stage(
            "start queue",
            "the harness sends the start",
            "workflow_execution.created_at: a turn has decided it",
            sent,
        ),
        stage(
            "commit",
            "workflow_execution.created_at",
            "workflow_start.created_at: the statement writes its row; what follows of the commit, with its \
             flush, is not in it",
            commit,
        ),
        stage(
            "job queue",
            "workflow_task.dispatched_at: a turn has decided it",
            "workflow_task.started_at: by the clock of the worker; the commit of that turn is in it",
            queued,
        ),
        stage(
            "run and completion",
            "workflow_task.started_at",
            "workflow_task.finished_at: a turn has decided it",
            run,
        ),
        stage(
            "end",
            "workflow_execution.finished_at: a turn has decided it",
            "the harness sees it; the commit of that turn is in it",
            ended,
        ),
    ]
}

fn stage(
    name: &'static str,
    from: &'static str,
    to: &'static str,
    seconds: impl Iterator<Item = f64>,
) -> Stage {
    let mut histogram: Histogram<u64> =
        Histogram::new(3).expect("three digits are a valid precision");
    for seconds in seconds {
        // Clocks of different processes may disagree by more than a short stage takes.
        let duration = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default();
        let microseconds = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        // Histograms grow with their values, so that no value is too large.
        let _ = histogram.record(microseconds);
    }
    let at = |quantile| {
        (!histogram.is_empty()).then(|| milliseconds(histogram.value_at_quantile(quantile)))
    };
    Stage {
        name,
        from,
        to,
        samples: histogram.len(),
        p50_ms: at(0.5),
        p99_ms: at(0.99),
    }
}

/// Executions evenly over the measurement, so many that their tasks are not too many.
fn choose<'a>(starts: &'a Starts, samples: &Samples, tasks: u64) -> Vec<&'a Started> {
    let counts = |at: Instant| samples.is_within(at);
    let all = starts.all().iter();
    let within: Vec<&Started> = all
        .filter(|started| counts(started.at) && started.ended_at.is_some_and(counts))
        .collect();
    let tasks = usize::try_from(tasks).unwrap_or(usize::MAX).max(1);
    let wanted = (MAX_TASKS / tasks).clamp(1, MAX_EXECUTIONS);
    let step = within.len().div_ceil(wanted).max(1);
    within.into_iter().step_by(step).collect()
}

/// By how much the clock of Postgres is ahead of ours: the best of some questions, each answered
/// about half of its way after it was asked.
async fn clock_ahead_s(connection: &mut PgConnection) -> Result<f64, Failure> {
    const QUESTIONS: usize = 10;
    let mut best = (f64::INFINITY, 0.0);
    for _ in 0..QUESTIONS {
        let before = since_epoch_s(SystemTime::now());
        let there: f64 = sqlx::query_scalar("SELECT extract(epoch FROM clock_timestamp())::float8")
            .fetch_one(&mut *connection)
            .await?;
        let after = since_epoch_s(SystemTime::now());
        if after - before < best.0 {
            best = (after - before, there - f64::midpoint(before, after));
        }
    }
    Ok(best.1)
}

/// One moment by both of our clocks.
struct Wall {
    instant: Instant,
    seconds: f64,
}

impl Wall {
    fn now() -> Self {
        Self {
            instant: Instant::now(),
            seconds: since_epoch_s(SystemTime::now()),
        }
    }

    /// Seconds since 1970 of an earlier moment.
    fn seconds(&self, at: Instant) -> f64 {
        self.seconds - self.instant.saturating_duration_since(at).as_secs_f64()
    }
}

fn since_epoch_s(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_stage_is_the_time_between_its_moments() {
        let id = Uuid::from_u128(1);
        let seen = BTreeMap::from([(
            id,
            Seen {
                sent_s: 100.0,
                ended_s: 100.5,
            },
        )]);
        let written = [(id, 100.1, Some(100.102), Some(100.4))];
        let stages = stages(&seen, &written, &[(100.1, 100.15, 100.35)]);
        let p50 = |name: &str| {
            let stage = stages.iter().find(|stage| stage.name == name).unwrap();
            stage.p50_ms.unwrap().round()
        };
        assert_eq!(p50("start queue"), 100.0);
        assert_eq!(p50("commit"), 2.0);
        assert_eq!(p50("job queue"), 50.0);
        assert_eq!(p50("run and completion"), 200.0);
        assert_eq!(p50("end"), 100.0);
    }

    #[test]
    fn a_stage_that_nobody_saw_has_no_time() {
        let stages = stages(&BTreeMap::new(), &[], &[]);
        assert!(
            stages
                .iter()
                .all(|stage| stage.samples == 0 && stage.p50_ms.is_none())
        );
    }

    #[test]
    fn a_sample_is_spread_over_the_measurement() {
        let mut starts = Starts::default();
        let mut samples = Samples::default();
        samples.begin(Instant::now());
        for number in 0..100 {
            starts.add(Instant::now(), 0);
            starts.end(number, Instant::now());
        }
        assert_eq!(choose(&starts, &samples, 1).len(), 100);
        let few = choose(&starts, &samples, (MAX_TASKS / 10) as u64);
        assert_eq!(few.len(), 10);
        assert_eq!(few[1].id, starts.get(10).id);
    }
}
