//! The result of a run, for people and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::check::Findings;
use crate::drive::Outcome;
use crate::options::{RunOptions, Shape};
use crate::shape;
use crate::usage::Sample;

/// The result of a run.
pub struct Report {
    /// Executions that did not succeed, by the replies or by Postgres, whichever says more.
    pub lost: i64,
    /// Attempts that have ended more than once.
    pub doubled: i64,
    shape: Shape,
    executions: usize,
    tasks: usize,
    seconds: f64,
    p50_ms: f64,
    p99_ms: f64,
    used: Sample,
}

impl Report {
    /// Puts together what was seen.
    pub fn new(options: &RunOptions, outcome: &Outcome, used: Sample, findings: Findings) -> Self {
        let quantile_ms = |quantile: f64| {
            let micros =
                u32::try_from(outcome.latency_us.value_at_quantile(quantile)).unwrap_or(u32::MAX);
            f64::from(micros) / 1000.0
        };
        let unheard = i64::try_from(outcome.missing + outcome.failed).unwrap_or(i64::MAX);
        let per_execution = shape::tasks(options.shape, options.length) as usize;
        Self {
            lost: findings.lost.max(unheard),
            doubled: findings.doubled,
            shape: options.shape,
            executions: outcome.executions,
            tasks: outcome.executions * per_execution,
            seconds: outcome.elapsed.as_secs_f64(),
            p50_ms: quantile_ms(0.5),
            p99_ms: quantile_ms(0.99),
            used,
        }
    }

    /// Whether nothing was lost and nothing doubled.
    pub fn is_clean(&self) -> bool {
        self.lost == 0 && self.doubled == 0
    }

    fn name(&self) -> &'static str {
        match self.shape {
            Shape::Single => "single",
            Shape::Chain => "chain",
        }
    }

    fn per_second(&self, count: usize) -> f64 {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        f64::from(count) / self.seconds.max(1e-9)
    }

    fn cpu_ms_per_task(&self) -> f64 {
        let tasks = u32::try_from(self.tasks).unwrap_or(u32::MAX).max(1);
        self.used.cpu_ms.values().sum::<f64>() / f64::from(tasks)
    }

    /// The document for scripts.
    pub fn json(&self) -> Value {
        json!({
            "shape": self.name(),
            "executions": self.executions,
            "tasks": self.tasks,
            "seconds": rounded(self.seconds),
            "executions_per_s": rounded(self.per_second(self.executions)),
            "tasks_per_s": rounded(self.per_second(self.tasks)),
            "latency_ms": {"p50": rounded(self.p50_ms), "p99": rounded(self.p99_ms)},
            "cpu_ms_per_task": rounded(self.cpu_ms_per_task()),
            "cpu_by_process": self.used.cpu_ms,
            "rss_mb_by_process": self.used.rss_mb,
            "lost": self.lost,
            "doubled": self.doubled,
        })
    }

    /// The table for people.
    pub fn table(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            writeln!(text, "{name:<18}{value}").expect("a text takes all");
        };
        line("shape", self.name().to_owned());
        line(
            "executions",
            format!("{} in {:.1} s", self.executions, self.seconds),
        );
        line(
            "executions/s",
            format!("{:.0}", self.per_second(self.executions)),
        );
        line("tasks/s", format!("{:.0}", self.per_second(self.tasks)));
        line(
            "latency",
            format!("p50 {:.1} ms, p99 {:.1} ms", self.p50_ms, self.p99_ms),
        );
        line("CPU per task", format!("{:.3} ms", self.cpu_ms_per_task()));
        for (role, cpu_ms) in &self.used.cpu_ms {
            let rss_mb = self.used.rss_mb.get(role).copied().unwrap_or_default();
            line(
                &format!("  {role}"),
                format!("{cpu_ms:.0} ms, {rss_mb:.0} MB"),
            );
        }
        line("lost, doubled", format!("{}, {}", self.lost, self.doubled));
        text.truncate(text.trim_end().len());
        text
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
