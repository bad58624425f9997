//! One run: prepare, warm up, measure, drain, audit.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::arguments::{Output, RunArguments};
use crate::audit::{Audit, audit};
use crate::failure::Failure;
use crate::load::{Load, Until};
use crate::measure::{Measured, Usage};
use crate::processes::{Processes, prepare};
use crate::report::{Latency, Report};
use crate::shape::Workflow;

/// Executions that run before the measurement begins: so many times those in flight.
const WARM_UP_ROUNDS: usize = 5;
/// By how much the first execution may seem to be created before the load began.
const CLOCK_MARGIN: Duration = Duration::from_secs(1);
/// Findings that are printed; their number is in the report.
const SHOWN_FINDINGS: usize = 20;

/// What was measured, before anything is asked of Postgres.
struct Window {
    executions: usize,
    seconds: f64,
    before: Usage,
    after: Usage,
}

/// Runs, and shows the result.
pub async fn run(arguments: &RunArguments) -> Result<Report, Failure> {
    let workflow = arguments.shape.workflow(arguments.length);
    let folder = Folder::create()?;
    prepare(arguments, &folder.0, &workflow).await?;
    let processes = Processes::start(arguments, &folder.0).await?;
    let measured = Measured::new(&processes, &arguments.database_url, &arguments.amqp_url);
    let began = Instant::now();
    let mut load = Load::connect(&arguments.amqp_url, workflow.clone()).await?;
    let in_flight = usize::try_from(arguments.in_flight).unwrap_or(usize::MAX);
    load.run(in_flight, Until::Ended(in_flight * WARM_UP_ROUNDS))
        .await?;
    let window = measure(&mut load, &measured, arguments, in_flight).await?;
    // What does not end now is found by the audit.
    if let Err(failure) = load.run(in_flight, Until::Drained).await {
        eprintln!("flotilla-loadtest: {}", failure.chain());
    }
    processes.stop().await;
    let audit = audit(
        &arguments.database_url,
        &workflow,
        load.id_range(),
        load.started(),
        began.elapsed() + CLOCK_MARGIN,
    )
    .await?;
    for finding in audit.findings.iter().take(SHOWN_FINDINGS) {
        let execution = finding.execution_id.map(|id| id.to_string());
        eprintln!(
            "flotilla-loadtest: {}: {}: {}",
            finding.invariant,
            execution.unwrap_or_default(),
            finding.detail
        );
    }
    let report = report(arguments, &workflow, &load, &window, &audit);
    show(arguments, &report)?;
    Ok(report)
}

async fn measure(
    load: &mut Load,
    measured: &Measured,
    arguments: &RunArguments,
    in_flight: usize,
) -> Result<Window, Failure> {
    let ended_before = load.ended;
    let before = measured.usage();
    let began = Instant::now();
    let until = match (arguments.count, arguments.seconds) {
        (Some(count), _) => {
            Until::Ended(ended_before + usize::try_from(count).unwrap_or(usize::MAX))
        }
        (None, Some(seconds)) => Until::Time(began + Duration::from_secs(seconds)),
        (None, None) => Until::Drained,
    };
    load.record(true);
    load.run(in_flight, until).await?;
    load.record(false);
    let seconds = began.elapsed().as_secs_f64();
    Ok(Window {
        executions: load.ended - ended_before,
        seconds,
        before,
        after: measured.usage(),
    })
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn report(
    arguments: &RunArguments,
    workflow: &Workflow,
    load: &Load,
    window: &Window,
    audit: &Audit,
) -> Report {
    let executions = window.executions as u64;
    let tasks = executions * u64::from(workflow.tasks);
    let per_task = |ms: f64| ms / (tasks.max(1) as f64);
    let cpu = window.after.cpu_since(&window.before);
    let milliseconds = |quantile: f64| load.latencies.value_at_quantile(quantile) as f64 / 1000.0;
    Report {
        shape: arguments.shape.name(),
        executions,
        tasks,
        seconds: window.seconds,
        executions_per_s: executions as f64 / window.seconds,
        tasks_per_s: tasks as f64 / window.seconds,
        latency_ms: Latency {
            p50: milliseconds(0.5),
            p99: milliseconds(0.99),
        },
        cpu_ms_per_task: cpu.values().copied().sum::<Option<f64>>().map(per_task),
        cpu_by_process: cpu
            .into_iter()
            .map(|(name, ms)| (name, ms.map(per_task)))
            .collect(),
        rss_mb_by_process: window
            .after
            .0
            .iter()
            .map(|(name, used)| (*name, used.map(|used| used.rss_mb)))
            .collect(),
        lost: audit.lost,
        doubled: audit.doubled,
        findings: audit.findings.len(),
        not_succeeded: load.not_succeeded,
    }
}

fn show(arguments: &RunArguments, report: &Report) -> Result<(), Failure> {
    let json = serde_json::to_string(report).expect("a report has text keys");
    if let Some(path) = &arguments.json {
        let written = std::fs::write(path, format!("{json}\n"));
        written.map_err(|source| Failure::File {
            path: path.clone(),
            source,
        })?;
    }
    match arguments.output {
        Output::Json => println!("{json}"),
        Output::Table => println!("{}", report.table()),
    }
    Ok(())
}

/// A folder for logs that goes away with the run.
struct Folder(PathBuf);

impl Folder {
    fn create() -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("flotilla-loadtest-{}", Uuid::now_v7()));
        std::fs::create_dir(&path).map_err(|source| Failure::File {
            path: path.clone(),
            source,
        })?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let path: &Path = &self.0;
        // Logs in a temporary folder do no harm.
        let _ = std::fs::remove_dir_all(path);
    }
}
