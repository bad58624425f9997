//! What a run has measured, as JSON and as a table.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

/// The result of a run; the names are a promise to scripts.
#[derive(Debug, Serialize)]
pub struct Report {
    /// What an execution looks like.
    pub shape: &'static str,
    /// Executions that ended while it was measured.
    pub executions: u64,
    /// Tasks of these.
    pub tasks: u64,
    /// How long it was measured.
    pub seconds: f64,
    /// Executions a second.
    pub executions_per_s: f64,
    /// Tasks a second.
    pub tasks_per_s: f64,
    /// From publishing the start to the reply that tells the end.
    pub latency_ms: Latency,
    /// CPU time of all processes together; null if one of them cannot be seen.
    pub cpu_ms_per_task: Option<f64>,
    /// The same for each kind of process.
    pub cpu_by_process: BTreeMap<&'static str, Option<f64>>,
    /// Memory of their own at the end, in MB.
    pub rss_mb_by_process: BTreeMap<&'static str, Option<f64>>,
    /// Executions that were started and never ended.
    pub lost: i64,
    /// Executions, runs and ends that there should be one of.
    pub doubled: i64,
    /// Contradictions in the rows, as `flotilla check` finds them.
    pub findings: usize,
    /// Executions that ended other than succeeded.
    pub not_succeeded: u64,
}

/// How long an execution takes.
#[derive(Debug, Serialize)]
pub struct Latency {
    /// Half of them are faster.
    pub p50: f64,
    /// One in a hundred is slower.
    pub p99: f64,
}

impl Report {
    /// Whether each execution ended once and well.
    pub fn is_clean(&self) -> bool {
        self.lost == 0 && self.doubled == 0 && self.findings == 0 && self.not_succeeded == 0
    }

    /// For people.
    pub fn table(&self) -> String {
        let mut text = format!(
            "{:<18}{}\n{:<18}{}\n{:<18}{}\n{:<18}{:.1}\n{:<18}{:.0}\n{:<18}{:.0}\n{:<18}p50 {:.1}, p99 {:.1}\n",
            "shape",
            self.shape,
            "executions",
            self.executions,
            "tasks",
            self.tasks,
            "seconds",
            self.seconds,
            "executions/s",
            self.executions_per_s,
            "tasks/s",
            self.tasks_per_s,
            "latency ms",
            self.latency_ms.p50,
            self.latency_ms.p99,
        );
        // Writing into a text cannot fail.
        let _ = writeln!(
            text,
            "{:<18}{}",
            "CPU ms/task",
            shown(self.cpu_ms_per_task, 3)
        );
        for (name, cpu) in &self.cpu_by_process {
            let rss = self.rss_mb_by_process.get(name).copied().flatten();
            let _ = writeln!(
                text,
                "  {name:<16}{:<10} {} MB",
                shown(*cpu, 3),
                shown(rss, 0)
            );
        }
        let _ = write!(
            text,
            "{:<18}{}\n{:<18}{}",
            "lost", self.lost, "doubled", self.doubled
        );
        if self.findings > 0 {
            let _ = write!(text, "\n{:<18}{}", "findings", self.findings);
        }
        if self.not_succeeded > 0 {
            let _ = write!(text, "\n{:<18}{}", "not succeeded", self.not_succeeded);
        }
        text
    }
}

fn shown(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "unknown".to_owned(), |value| format!("{value:.digits$}"))
}
