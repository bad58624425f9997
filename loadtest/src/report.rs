//! What a run found, for machines and for people.

use std::collections::BTreeMap;
use std::fmt::Write;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::arguments::EndsBy;
use crate::costs::Costs;
use crate::machine::Machine;
use crate::shape::Sizes;
use crate::stages::Stages;
use crate::timeline::{Point, milliseconds};

/// The result of a run. Numbers of processes are `None` where these cannot be seen from here, or others
/// take part of their work.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The shape.
    pub shape: &'static str,
    /// Executions that ended within the measurement.
    pub executions: u64,
    /// Their tasks.
    pub tasks: u64,
    /// How long the measurement took.
    pub seconds: f64,
    /// Executions a second.
    pub executions_per_s: f64,
    /// Tasks a second.
    pub tasks_per_s: f64,
    /// From the start of an execution to its end, as the harness sees it, in milliseconds; where the
    /// rate is given, from the time at which it had to start.
    pub latency_ms: Latency,
    /// CPU time a task of all processes together; null if one of them cannot be seen.
    pub cpu_ms_per_task: Option<f64>,
    /// The same for each kind of process.
    pub cpu_by_process: BTreeMap<&'static str, Option<f64>>,
    /// CPU time of a piece of work that is always the same, on the average of the measurement: how
    /// slow the machine was. Of a program that was built alike; null if it could not be measured.
    pub yardstick_ms: Option<f64>,
    /// Memory of their own at the end, in MB.
    pub rss_mb_by_process: BTreeMap<&'static str, Option<f64>>,
    /// The most that they had at the end of any second, likewise.
    pub peak_rss_mb_by_process: BTreeMap<&'static str, Option<f64>>,
    /// Executions that were started and never ended.
    pub lost: i64,
    /// Executions, runs and ends that there should be one of.
    pub doubled: i64,
    /// Contradictions in the rows, as `flotilla check` finds them.
    pub findings: usize,
    /// Executions that ended other than succeeded.
    pub not_succeeded: u64,
    /// Coordinators and workers of the harness that were gone before they were told to stop, did not end
    /// well, or had to be killed.
    pub failed_processes: usize,
    /// Attempts of a task: more than 1 where some fail and are tried again.
    pub attempts_per_task: f64,
    /// Where the time of an execution goes.
    pub stages: Stages,
    /// What a task costs the servers, on the average of the whole run.
    pub costs: Costs,
    /// What was asked for.
    pub settings: Settings,
    /// What it ran on.
    pub machine: Machine,
    /// The seconds from the first start on, with the warm-up.
    pub timeline: Vec<Point>,
    /// From which second to which the measurement lasted.
    pub window_s: (f64, f64),
    /// How many executions took how long.
    pub distribution: Vec<Bucket>,
}

/// How long an execution takes.
#[derive(Debug, Serialize)]
pub struct Latency {
    /// Half of them are faster.
    pub p50: f64,
    /// One in ten is slower.
    pub p90: f64,
    /// One in a hundred is slower.
    pub p99: f64,
    /// One in a thousand is slower.
    pub p99_9: f64,
    /// The slowest.
    pub max: f64,
}

/// Executions of about the same latency.
#[derive(Debug, Serialize)]
pub struct Bucket {
    /// Up to so many milliseconds, and more than the bucket before.
    pub up_to_ms: f64,
    /// How many.
    pub executions: u64,
}

/// What was asked for.
#[derive(Debug, Serialize)]
pub struct Settings {
    /// Executions to measure, if given.
    pub count: Option<u64>,
    /// Seconds to measure, if given.
    pub seconds: Option<u64>,
    /// How large what was started is.
    #[serde(flatten)]
    pub sizes: Sizes,
    /// Executions under way at a time; null in an open loop.
    pub in_flight: Option<u32>,
    /// Starts a second; null in a closed loop.
    pub rate: Option<f64>,
    /// How ends were seen.
    pub ends: EndsBy,
    /// Seconds of load before the measurement.
    pub warm_up: u64,
    /// Coordinators that were started; 0: those that ran already.
    pub coordinators: u16,
    /// Workers that were started.
    pub workers: u16,
    /// Whether a profiler looked on, which costs time.
    pub profiled: bool,
    /// The version of this program.
    pub version: &'static str,
}

impl Latency {
    /// From what was recorded.
    pub fn of(latencies: &Histogram<u64>) -> Self {
        let at = |quantile| milliseconds(latencies.value_at_quantile(quantile));
        Self {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            max: milliseconds(latencies.max()),
        }
    }
}

/// The distribution, in buckets of which each is a quarter longer than the one before.
pub fn distribution(latencies: &Histogram<u64>) -> Vec<Bucket> {
    const FIRST_BUCKET_MICROSECONDS: u64 = 100;
    const GROWTH: f64 = 1.25;
    latencies
        .iter_log(FIRST_BUCKET_MICROSECONDS, GROWTH)
        .map(|bucket| Bucket {
            up_to_ms: milliseconds(bucket.value_iterated_to()),
            executions: bucket.count_since_last_iteration(),
        })
        .skip_while(|bucket| bucket.executions == 0)
        .collect()
}

impl Report {
    /// Whether each execution ended once and well, and each process of the harness when it was told to.
    pub fn is_clean(&self) -> bool {
        let is_done = self.lost == 0 && self.doubled == 0 && self.not_succeeded == 0;
        is_done && self.findings == 0 && self.failed_processes == 0
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut text = String::new();
        for (name, value) in self.rows() {
            // Writing into a text cannot fail.
            let _ = writeln!(text, "{name:<22}{value}");
        }
        text.truncate(text.trim_end().len());
        text
    }

    /// Names and values, in the order in which people read them.
    pub fn rows(&self) -> Vec<(String, String)> {
        let row = |name: &str, value: String| (name.to_owned(), value);
        let latency = &self.latency_ms;
        let mut rows = vec![
            row("shape", self.shape.to_owned()),
            row("executions", self.executions.to_string()),
            row("tasks", self.tasks.to_string()),
            row("seconds", format!("{:.1}", self.seconds)),
            row("executions/s", format!("{:.0}", self.executions_per_s)),
            row("tasks/s", format!("{:.0}", self.tasks_per_s)),
            row(
                "latency ms",
                format!(
                    "p50 {:.1}, p90 {:.1}, p99 {:.1}, p99.9 {:.1}, max {:.1}",
                    latency.p50, latency.p90, latency.p99, latency.p99_9, latency.max
                ),
            ),
            row("CPU ms/task", shown(self.cpu_ms_per_task, 3)),
        ];
        for (name, cpu) in &self.cpu_by_process {
            let rss = self.rss_mb_by_process.get(name).copied().flatten();
            let value = format!("{:<10} {} MB", shown(*cpu, 3), shown(rss, 0));
            rows.push((format!("  {name}"), value));
        }
        rows.push(row("yardstick ms", shown(self.yardstick_ms, 3)));
        for stage in &self.stages.stages {
            let (p50, p99) = (shown(stage.p50_ms, 1), shown(stage.p99_ms, 1));
            rows.push((
                format!("  {}", stage.name),
                format!("p50 {p50}, p99 {p99} ms"),
            ));
        }
        rows.extend(self.costs.table());
        if self.attempts_per_task > 1.0 {
            let attempts = format!("{:.3}", self.attempts_per_task);
            rows.push(row("attempts/task", attempts));
        }
        if self.shape == "random" {
            rows.push(row("seed", self.settings.sizes.seed.to_string()));
        }
        rows.push(row("lost", self.lost.to_string()));
        rows.push(row("doubled", self.doubled.to_string()));
        if self.findings > 0 {
            rows.push(row("findings", self.findings.to_string()));
        }
        if self.not_succeeded > 0 {
            rows.push(row("not succeeded", self.not_succeeded.to_string()));
        }
        if self.failed_processes > 0 {
            rows.push(row("failed processes", self.failed_processes.to_string()));
        }
        rows
    }
}

impl Costs {
    fn table(&self) -> [(String, String); 5] {
        [
            ("messages/task".to_owned(), shown(self.messages_per_task, 2)),
            ("rows/task".to_owned(), shown(Some(self.rows_per_task), 2)),
            (
                "commits/task".to_owned(),
                shown(Some(self.transactions_per_task), 4),
            ),
            (
                "WAL bytes/task".to_owned(),
                shown(self.wal_bytes_per_task, 0),
            ),
            (
                "WAL flushes/task".to_owned(),
                shown(self.wal_flushes_per_task, 4),
            ),
        ]
    }
}

/// A number, or that nobody knows it.
pub fn shown(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "unknown".to_owned(), |value| format!("{value:.digits$}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_latency_is_in_one_bucket() {
        let mut latencies = Histogram::new(3).unwrap();
        for value in [900, 1000, 1000, 50_000, 1_000_000] {
            latencies.record(value).unwrap();
        }
        let buckets = distribution(&latencies);
        let total: u64 = buckets.iter().map(|bucket| bucket.executions).sum();
        assert_eq!(total, 5);
        assert!(buckets[0].executions > 0);
        assert!(buckets.is_sorted_by(|a, b| a.up_to_ms < b.up_to_ms));
        let latency = Latency::of(&latencies);
        assert!((latency.p50 - 1.0).abs() < 0.01, "{latency:?}");
        assert!((latency.max - 1000.0).abs() < 1.0, "{latency:?}");
    }

    #[test]
    fn a_table_shows_all_that_a_task_costs() {
        let costs = Costs {
            messages: BTreeMap::new(),
            messages_per_task: None,
            rows_per_task: 11.0,
            rows_by_table: BTreeMap::new(),
            transactions_per_task: 0.017,
            wal_bytes_per_task: Some(3430.0),
            wal_flushes_per_task: Some(0.012),
        };
        let rows = costs.table();
        let rows = rows.each_ref().map(|(name, value)| (&**name, &**value));
        assert_eq!(
            rows,
            [
                ("messages/task", "unknown"),
                ("rows/task", "11.00"),
                ("commits/task", "0.0170"),
                ("WAL bytes/task", "3430"),
                ("WAL flushes/task", "0.0120"),
            ]
        );
    }

    #[test]
    fn nothing_recorded_is_an_empty_distribution() {
        assert!(distribution(&Histogram::new(3).unwrap()).is_empty());
    }
}
