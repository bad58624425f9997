//! The run second by second: rates, latencies and what each kind of process used.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::Serialize;

use crate::load::Second;
use crate::measure::{Measured, Usage};

/// Seconds below which a slice of time makes no point.
const SLIVER_S: f64 = 0.25;

/// A second of the run.
#[derive(Debug, Serialize)]
pub struct Point {
    /// Seconds from the first start to the end of this second.
    pub at_s: f64,
    /// Executions that ended, a second.
    pub executions_per_s: f64,
    /// Their tasks, a second.
    pub tasks_per_s: f64,
    /// Half of them took at most so many milliseconds; null if none ended.
    pub p50_ms: Option<f64>,
    /// All but one in a hundred.
    pub p99_ms: Option<f64>,
    /// Executions that were under way at the end.
    pub in_flight: usize,
    /// Cores in use, by kind of process; null if it cannot be seen.
    pub cores: BTreeMap<&'static str, Option<f64>>,
    /// Memory of their own at the end, in MB, likewise.
    pub rss_mb: BTreeMap<&'static str, Option<f64>>,
}

/// All seconds.
pub struct Timeline {
    /// From the first start on.
    pub points: Vec<Point>,
    /// What has been measured until now.
    pub usage: Usage,
    measured: Measured,
    began: Instant,
    last: Instant,
}

impl Timeline {
    /// Begins now.
    pub fn begin(measured: Measured) -> Self {
        let now = Instant::now();
        Self {
            points: Vec::new(),
            usage: measured.usage(),
            measured,
            began: now,
            last: now,
        }
    }

    /// Seconds since the beginning.
    pub fn now_s(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// A second has passed, more or less, of which `second` is what ended. A sliver of one makes no
    /// point: its rates would say nothing.
    pub fn add(&mut self, second: &Second, in_flight: usize) {
        let now = Instant::now();
        let passed_s = (now - self.last).as_secs_f64().max(1e-6);
        let usage = self.measured.usage();
        let cpu = usage.cpu_since(&self.usage);
        let rss_mb = usage.rss_mb();
        self.usage = usage;
        self.last = now;
        if passed_s < SLIVER_S && !self.points.is_empty() {
            return;
        }
        let cores = |ms: f64| ms / 1000.0 / passed_s;
        let latency = |quantile| {
            (second.executions > 0)
                .then(|| milliseconds(second.latencies.value_at_quantile(quantile)))
        };
        self.points.push(Point {
            at_s: (now - self.began).as_secs_f64(),
            executions_per_s: count(second.executions) / passed_s,
            tasks_per_s: count(second.tasks) / passed_s,
            p50_ms: latency(0.5),
            p99_ms: latency(0.99),
            in_flight,
            cores: cpu
                .into_iter()
                .map(|(name, ms)| (name, ms.map(cores)))
                .collect(),
            rss_mb,
        });
    }
}

/// The most memory that each kind of process had at the end of any second.
pub fn peak_rss_mb(points: &[Point]) -> BTreeMap<&'static str, Option<f64>> {
    let mut peaks: BTreeMap<&'static str, Option<f64>> = BTreeMap::new();
    for (name, rss_mb) in points.iter().flat_map(|point| &point.rss_mb) {
        let peak = peaks.entry(name).or_default();
        *peak = match (*peak, *rss_mb) {
            (Some(one), Some(other)) => Some(one.max(other)),
            (one, other) => one.or(other),
        };
    }
    peaks
}

/// A count as a number to calculate with.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
pub fn count(count: u64) -> f64 {
    count as f64
}

/// Microseconds in milliseconds.
pub fn milliseconds(microseconds: u64) -> f64 {
    count(microseconds) / 1000.0
}
