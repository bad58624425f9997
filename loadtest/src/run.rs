//! One run: prepare, warm up, measure, drain, audit.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::arguments::{Output, RunArguments};
use crate::audit::{Audit, audit};
use crate::costs::{Costs, Counters, Messages};
use crate::failure::Failure;
use crate::load::{Load, Until};
use crate::machine::Machine;
use crate::measure::{Measured, Usage};
use crate::page::page;
use crate::processes::{Processes, prepare};
use crate::progress::Progress;
use crate::report::{Latency, Report, Settings, distribution};
use crate::timeline::{Timeline, count};

/// How long a point of the timeline is.
const SLICE: Duration = Duration::from_secs(1);
/// By how much the first execution may seem to be created before the load began.
const CLOCK_MARGIN: Duration = Duration::from_secs(1);
/// Findings that are printed; their number is in the report.
const SHOWN_FINDINGS: usize = 20;

/// A load with what is noted of it meanwhile.
struct Running<'a> {
    load: Load,
    timeline: Timeline<'a>,
    progress: &'a Progress,
}

/// What was measured, before anything is asked of Postgres.
struct Window {
    seconds: f64,
    from_to_s: (f64, f64),
    before: Usage,
    after: Usage,
}

/// Runs, and shows the result.
pub async fn run(arguments: &RunArguments) -> Result<Report, Failure> {
    let mix = arguments.shape.mix(arguments.length, arguments.width);
    let folder = Folder::create()?;
    prepare(arguments, &folder.0, &mix.workflows).await?;
    let processes = Processes::start(arguments, &folder.0).await?;
    let measured = Measured::new(&processes, &arguments.database_url, &arguments.amqp_url);
    let counters = Counters::read(&arguments.database_url).await?;
    let progress = Progress::new(arguments.output);
    let began = Instant::now();
    let in_flight = usize::try_from(arguments.in_flight).unwrap_or(usize::MAX);
    let load = Load::connect(arguments, mix).await?;
    let mut running = Running {
        load,
        timeline: Timeline::begin(&measured),
        progress: &progress,
    };
    running.warm_up(arguments, in_flight).await?;
    let window = running.measure(arguments).await?;
    running.drain().await;
    let logs = processes.stop().await;
    progress.begin("checking", 0);
    let load = &running.load;
    let audit = audit(
        &arguments.database_url,
        &load.mix.workflows,
        load.starts.id_range(),
        &load.starts.by_workflow(load.mix.workflows.len()),
        began.elapsed() + CLOCK_MARGIN,
    )
    .await?;
    let messages = BTreeMap::from([
        ("coordinator", crate::costs::messages_of(&logs.coordinators)),
        ("worker", crate::costs::messages_of(&logs.workers)),
        ("loadtest", Some(Messages::own())),
    ]);
    let after = Counters::read(&arguments.database_url).await?;
    let costs = after.costs_since(&counters, &messages, load.tasks());
    let machine = Machine::look(&arguments.database_url).await?;
    progress.end();
    print_findings(&audit);
    let report = report(arguments, running, &window, &audit, costs, machine);
    show(arguments, &report)?;
    Ok(report)
}

impl Running<'_> {
    /// So many seconds; in a closed loop at least until every place has been taken once.
    async fn warm_up(&mut self, arguments: &RunArguments, in_flight: usize) -> Result<(), Failure> {
        let until = Until::Time(Instant::now() + Duration::from_secs(arguments.warm_up));
        self.until("warm-up", until).await?;
        match arguments.rate {
            None if arguments.warm_up > 0 => self.until("warm-up", Until::Ended(in_flight)).await,
            None | Some(_) => Ok(()),
        }
    }

    async fn measure(&mut self, arguments: &RunArguments) -> Result<Window, Failure> {
        let before = self.timeline.usage.clone();
        let from_s = self.timeline.now_s();
        let began = Instant::now();
        let after = |seconds: f64| Until::Time(began + Duration::from_secs_f64(seconds));
        let until = match (arguments.count, arguments.seconds, arguments.rate) {
            (Some(executions), _, Some(rate)) => after(count(executions) / rate),
            (Some(executions), _, None) => {
                let executions = usize::try_from(executions).unwrap_or(usize::MAX);
                Until::Ended(self.load.starts.ended().saturating_add(executions))
            }
            (None, seconds, _) => after(count(seconds.unwrap_or(0))),
        };
        self.load.samples.begin(began);
        self.until("measuring", until).await?;
        self.load.samples.end(Instant::now());
        Ok(Window {
            seconds: began.elapsed().as_secs_f64(),
            from_to_s: (from_s, self.timeline.now_s()),
            before,
            after: self.timeline.usage.clone(),
        })
    }

    /// What does not end now is found by the audit.
    async fn drain(&mut self) {
        if let Err(failure) = self.until("draining", Until::Drained).await {
            eprintln!("flotilla-loadtest: {}", failure.chain());
        }
    }

    /// Carries the load on, and notes each second of it.
    async fn until(&mut self, what: &'static str, until: Until) -> Result<(), Failure> {
        let begun = (Instant::now(), self.load.starts.ended());
        let total = match until {
            Until::Ended(total) => total.saturating_sub(begun.1),
            Until::Time(time) => milliseconds(time - begun.0),
            Until::Drained => self.load.starts.under_way(),
        };
        self.progress.begin(what, total as u64);
        while !self.load.is_over(until) {
            self.load.run(until, SLICE).await?;
            let second = self.load.samples.take_second();
            self.timeline.add(&second, self.load.starts.under_way());
            let position = match until {
                Until::Time(_) => milliseconds(begun.0.elapsed()),
                Until::Ended(_) | Until::Drained => self.load.starts.ended() - begun.1,
            };
            let message = self.timeline.points.last().map(|point| {
                format!(
                    "{:.0} executions/s, {:.0} tasks/s",
                    point.executions_per_s, point.tasks_per_s
                )
            });
            self.progress
                .at(position as u64, message.unwrap_or_default());
        }
        Ok(())
    }
}

fn milliseconds(time: Duration) -> usize {
    usize::try_from(time.as_millis()).unwrap_or(usize::MAX)
}

fn print_findings(audit: &Audit) {
    for finding in audit.findings.iter().take(SHOWN_FINDINGS) {
        let execution = finding.execution_id.map(|id| id.to_string());
        eprintln!(
            "flotilla-loadtest: {}: {}: {}",
            finding.invariant,
            execution.unwrap_or_default(),
            finding.detail
        );
    }
}

fn report(
    arguments: &RunArguments,
    running: Running<'_>,
    window: &Window,
    audit: &Audit,
    costs: Costs,
    machine: Machine,
) -> Report {
    let samples = &running.load.samples;
    let (executions, tasks) = (samples.executions, samples.tasks);
    let per_task = |ms: f64| ms / count(tasks.max(1));
    let cpu = window.after.cpu_since(&window.before);
    let memory = |name: &&'static str, used: &Option<crate::measure::Used>| {
        (*name, used.map(|used| used.rss_mb))
    };
    Report {
        shape: arguments.shape.name(),
        executions,
        tasks,
        seconds: window.seconds,
        executions_per_s: count(executions) / window.seconds,
        tasks_per_s: count(tasks) / window.seconds,
        latency_ms: Latency::of(&samples.latencies),
        cpu_ms_per_task: cpu.values().copied().sum::<Option<f64>>().map(per_task),
        cpu_by_process: cpu
            .into_iter()
            .map(|(name, ms)| (name, ms.map(per_task)))
            .collect(),
        rss_mb_by_process: window.after.0.iter().map(|(n, u)| memory(n, u)).collect(),
        lost: audit.lost,
        doubled: audit.doubled,
        findings: audit.findings.len(),
        not_succeeded: running.load.not_succeeded,
        costs,
        settings: settings(arguments),
        machine,
        distribution: distribution(&samples.latencies),
        timeline: running.timeline.points,
        window_s: window.from_to_s,
    }
}

fn settings(arguments: &RunArguments) -> Settings {
    let closed = arguments.rate.is_none();
    Settings {
        count: arguments.count,
        seconds: arguments.seconds,
        length: arguments.length,
        width: arguments.width,
        in_flight: closed.then_some(arguments.in_flight),
        rate: arguments.rate,
        ends: arguments.ends,
        warm_up: arguments.warm_up,
        coordinators: arguments.coordinators,
        workers: arguments.workers,
        version: env!("CARGO_PKG_VERSION"),
    }
}

fn show(arguments: &RunArguments, report: &Report) -> Result<(), Failure> {
    let json = serde_json::to_string(report).expect("a report has text keys");
    if let Some(path) = &arguments.json {
        write(path, &format!("{json}\n"))?;
    }
    if let Some(path) = &arguments.html {
        write(path, &page(report))?;
    }
    match arguments.output {
        Output::Json => println!("{json}"),
        Output::Table => println!("{}", report.table()),
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|source| Failure::File {
        path: path.to_owned(),
        source,
    })
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
