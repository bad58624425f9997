//! Looks for the highest rate that is sustained: an open loop whose rate grows until latency or backlog
//! says that it is too much, then the place between is halved.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::arguments::{Output, RampArguments};
use crate::failure::Failure;
use crate::load::{Load, Pace, Samples, Until};
use crate::machine::Machine;
use crate::progress::Progress;
use crate::report::Latency;
use crate::run::{Running, write};
use crate::session::Session;
use crate::shape::Sizes;
use crate::timeline::{Timeline, count};

/// By how much the rate grows.
const GROWTH: f64 = 1.5;
/// The highest rate that was sustained and the lowest that was not are so close in the end.
const CLOSE: f64 = 1.05;
/// Rates that are tried at most.
const MAX_STEPS: usize = 40;

/// What a ramp found.
#[derive(Debug, Serialize)]
struct Ramp {
    shape: &'static str,
    /// The highest rate that was sustained; null if not even the first was.
    max_executions_per_s: Option<f64>,
    max_tasks_per_s: Option<f64>,
    /// Milliseconds that the p99 latency had to stay below.
    bound_ms: f64,
    step_s: u64,
    steps: Vec<Step>,
    lost: i64,
    doubled: i64,
    findings: usize,
    not_succeeded: u64,
    failed_processes: usize,
    sizes: Sizes,
    machine: Machine,
}

/// One rate.
#[derive(Debug, Serialize)]
struct Step {
    /// Starts a second.
    rate: f64,
    /// Ends a second.
    executions_per_s: f64,
    latency_ms: Latency,
    /// Executions under way at the end.
    under_way: usize,
    sustained: bool,
    /// Whether it was tried again, since one bad moment of the machine is not the system's limit.
    repeated: bool,
}

/// Ramps, and shows the result.
pub async fn ramp(arguments: &RampArguments) -> Result<bool, Failure> {
    let sizes = arguments.load.sizes();
    let mix = arguments.load.shape.mix(&sizes);
    let session = Session::begin(&arguments.fleet, &mix, false).await?;
    let results = arguments.results();
    let progress = Progress::new(results.output);
    let pace = Pace::Closed { in_flight: 0 };
    let load = Load::connect(&arguments.load, &arguments.fleet, mix, pace).await?;
    let mut running = Running {
        load,
        timeline: Timeline::begin(session.measured()),
        progress: &progress,
    };
    let steps = match running.climb(arguments).await {
        Ok(steps) => steps,
        Err(failure) => {
            // Where a process has died it is to blame, and is named.
            session.stop().await;
            return Err(failure);
        }
    };
    let after = session.end(&running.load).await?;
    progress.end();
    let max = highest(&steps);
    let tasks = running.load.tasks();
    let tasks_each = count(tasks) / count((running.load.starts.len() as u64).max(1));
    let ramp = Ramp {
        shape: arguments.load.shape.name(),
        max_executions_per_s: max,
        max_tasks_per_s: max.map(|rate| rate * tasks_each),
        bound_ms: arguments.bound,
        step_s: arguments.step,
        steps,
        lost: after.audit.lost,
        doubled: after.audit.doubled,
        findings: after.audit.findings.len(),
        not_succeeded: running.load.not_succeeded,
        failed_processes: after.failed_processes,
        sizes,
        machine: after.machine,
    };
    let json = serde_json::to_string(&ramp).expect("a result has text keys");
    if let Some(path) = &results.json {
        write(path, &format!("{json}\n"))?;
    }
    match results.output {
        Output::Json => println!("{json}"),
        Output::Table => print!("{}", ramp.table()),
        Output::Nothing => {}
    }
    Ok(ramp.is_clean() && max.is_some())
}

impl Running<'_> {
    /// Tries rates until the highest that is sustained is known.
    async fn climb(&mut self, arguments: &RampArguments) -> Result<Vec<Step>, Failure> {
        // Connections and caches are cold before the first step.
        self.step(arguments.from, arguments).await?;
        let mut steps: Vec<Step> = Vec::new();
        while let Some(rate) = next_rate(&steps, arguments.from) {
            let mut step = self.step(rate, arguments).await?;
            if !step.sustained {
                step.repeated = true;
                steps.push(step);
                step = self.step(rate, arguments).await?;
            }
            steps.push(step);
            if steps.len() >= MAX_STEPS {
                break;
            }
        }
        Ok(steps)
    }

    /// One rate, until all that it has started has ended.
    async fn step(&mut self, rate: f64, arguments: &RampArguments) -> Result<Step, Failure> {
        let length = Duration::from_secs(arguments.step);
        let began = Instant::now();
        self.load.samples = Samples::default();
        self.load.samples.begin(began);
        self.load.set_rate(rate);
        self.until("ramping", Until::Time(began + length)).await?;
        self.load.samples.end(Instant::now());
        let under_way = self.load.starts.under_way();
        self.until("draining", Until::Drained).await?;
        let samples = &self.load.samples;
        let latency_ms = Latency::of(&samples.latencies);
        let most_under_way = rate * arguments.bound / 1000.0;
        Ok(Step {
            rate,
            executions_per_s: count(samples.executions) / length.as_secs_f64(),
            sustained: latency_ms.p99 <= arguments.bound
                && count(under_way as u64) <= most_under_way.max(1.0),
            latency_ms,
            under_way,
            repeated: false,
        })
    }
}

fn highest(steps: &[Step]) -> Option<f64> {
    let sustained = steps.iter().filter(|step| step.sustained);
    sustained.map(|step| step.rate).max_by(f64::total_cmp)
}

/// The next rate to try; none if the highest that is sustained is known well enough, or none is.
fn next_rate(steps: &[Step], first: f64) -> Option<f64> {
    let counts = |step: &&Step| !step.sustained && !step.repeated;
    let too_much = steps.iter().filter(counts);
    let too_much = too_much.map(|step| step.rate).min_by(f64::total_cmp);
    match (highest(steps), too_much) {
        (None, None) => Some(first),
        (None, Some(_)) => None,
        (Some(sustained), None) => Some(sustained * GROWTH),
        // What was sustained once above a rate that once was not: both are at the limit.
        (Some(sustained), Some(too_much)) => {
            (too_much / sustained > CLOSE).then(|| f64::midpoint(sustained, too_much))
        }
    }
}

impl Ramp {
    fn is_clean(&self) -> bool {
        let is_done = self.lost == 0 && self.doubled == 0 && self.not_succeeded == 0;
        is_done && self.findings == 0 && self.failed_processes == 0
    }

    fn table(&self) -> String {
        use std::fmt::Write;
        let mut text = String::from("starts/s   ends/s  p50 ms  p99 ms  under way at the end\n");
        for step in &self.steps {
            let verdict = match (step.sustained, step.repeated) {
                (true, _) => "",
                (false, true) => "  too much: again",
                (false, false) => "  too much",
            };
            let latency = &step.latency_ms;
            // Writing into a text cannot fail.
            let _ = writeln!(
                text,
                "{:8.1} {:8.1} {:7.1} {:7.1} {:10}{verdict}",
                step.rate, step.executions_per_s, latency.p50, latency.p99, step.under_way
            );
        }
        let max = match (self.max_executions_per_s, self.max_tasks_per_s) {
            (Some(executions), Some(tasks)) => {
                format!("{executions:.0} executions/s, {tasks:.0} tasks/s")
            }
            (None, _) | (_, None) => "none of these rates".to_owned(),
        };
        let _ = writeln!(text, "sustained  {max}");
        let _ = writeln!(text, "lost {}, doubled {}", self.lost, self.doubled);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::Histogram;

    fn step(rate: f64, sustained: bool) -> Step {
        Step {
            rate,
            executions_per_s: rate,
            latency_ms: Latency::of(&Histogram::new(3).unwrap()),
            under_way: 0,
            sustained,
            repeated: false,
        }
    }

    #[test]
    fn the_rate_grows_until_it_is_too_much_and_then_is_halved_in() {
        let limit = 700.0;
        let mut steps = Vec::new();
        while let Some(rate) = next_rate(&steps, 100.0) {
            steps.push(step(rate, rate <= limit));
            assert!(steps.len() < MAX_STEPS, "{steps:?}");
        }
        let max = highest(&steps).unwrap();
        assert!(max <= limit && max > limit / CLOSE, "{max}");
    }

    #[test]
    fn what_was_tried_again_does_not_count() {
        let mut bad = step(100.0, false);
        bad.repeated = true;
        assert_eq!(next_rate(&[bad, step(100.0, true)], 100.0), Some(150.0));
    }

    #[test]
    fn where_the_first_rate_is_too_much_none_is_sustained() {
        let steps = [step(100.0, false)];
        assert_eq!(next_rate(&steps, 100.0), None);
        assert_eq!(highest(&steps), None);
    }
}
