//! One run: prepare, warm up, measure, drain, audit.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::arguments::{Output, ResultArguments, RunArguments};
use crate::failure::Failure;
use crate::load::{Load, Pace, Until};
use crate::measure::{Measured, Usage};
use crate::page::page;
use crate::profile::{self, Profiler, Tool};
use crate::progress::Progress;
use crate::report::{Latency, Report, Settings, distribution};
use crate::session::{After, Session};
use crate::shape::Sizes;
use crate::timeline::{Timeline, count, peak_rss_mb};
use crate::yardstick::Yardstick;

/// How long a point of the timeline is.
const SLICE: Duration = Duration::from_secs(1);

/// What perf has recorded, by process.
type Recorded = BTreeMap<&'static str, PathBuf>;

/// A load with what is noted of it meanwhile.
pub struct Running<'a> {
    /// The load.
    pub load: Load,
    /// Its seconds.
    pub timeline: Timeline,
    /// Who watches.
    pub progress: &'a Progress,
}

/// What was measured, before anything is asked of Postgres.
struct Window {
    seconds: f64,
    from_to_s: (f64, f64),
    before: Usage,
    after: Usage,
    yardstick_ms: Option<f64>,
}

/// Runs, and shows the result.
pub async fn run(arguments: &RunArguments) -> Result<Report, Failure> {
    let sizes = arguments.load.sizes();
    let mix = arguments.load.shape.mix(&sizes);
    let tool = match arguments.profile {
        true => Some(profile::tool().await?),
        false => None,
    };
    let callgrind = tool == Some(Tool::Callgrind);
    let session = Session::begin(&arguments.fleet, &mix, callgrind).await?;
    let measured = session.measured();
    let progress = Progress::new(arguments.results.output);
    let in_flight = usize::try_from(arguments.in_flight).unwrap_or(usize::MAX);
    let pace = pace(arguments, in_flight);
    let load = Load::connect(&arguments.load, &arguments.fleet, mix, pace).await?;
    let mut running = Running {
        load,
        timeline: Timeline::begin(measured.clone()),
        progress: &progress,
    };
    let perf = (tool == Some(Tool::Perf)).then_some((&measured, session.folder.0.as_path()));
    let (window, recorded) = match running
        .warm_up_and_measure(arguments, in_flight, perf)
        .await
    {
        Ok(measured) => measured,
        Err(failure) => {
            // Where a process has died it is to blame, and is named.
            session.stop().await;
            return Err(failure);
        }
    };
    running.drain().await;
    progress.begin("checking", 0);
    let after = session.end(&running.load).await?;
    if let Some(json) = &arguments.results.json {
        match (&recorded, callgrind) {
            (Some(files), _) => profile::write_recorded(files, json).await?,
            (None, true) => profile::write_counted(&after.folder.0, json).await?,
            (None, false) => {}
        }
    }
    progress.end();
    let report = report(arguments, &sizes, running, &window, after);
    show(&arguments.results, &report)?;
    Ok(report)
}

fn pace(arguments: &RunArguments, in_flight: usize) -> Pace {
    let from = Instant::now();
    let closed = Pace::Closed { in_flight };
    let open = |rate| Pace::Open {
        rate,
        from,
        first: 0,
    };
    arguments.rate.map_or(closed, open)
}

impl Running<'_> {
    /// Perf, if asked for, looks at these processes while the load is measured, and leaves its files there.
    async fn warm_up_and_measure(
        &mut self,
        arguments: &RunArguments,
        in_flight: usize,
        perf: Option<(&Measured, &Path)>,
    ) -> Result<(Window, Option<Recorded>), Failure> {
        self.warm_up(arguments, in_flight).await?;
        let profiler = match perf {
            Some((measured, folder)) => Some(Profiler::begin(measured, folder)?),
            None => None,
        };
        let window = self.measure(arguments).await?;
        let recorded = match profiler {
            Some(profiler) => Some(profiler.end().await),
            None => None,
        };
        Ok((window, recorded))
    }

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
        let yardstick = Yardstick::begin();
        self.load.samples.begin(began);
        self.until("measuring", until).await?;
        self.load.samples.end(Instant::now());
        Ok(Window {
            seconds: began.elapsed().as_secs_f64(),
            from_to_s: (from_s, self.timeline.now_s()),
            before,
            after: self.timeline.usage.clone(),
            yardstick_ms: yardstick.end(),
        })
    }

    /// What does not end now is found by the audit.
    pub async fn drain(&mut self) {
        if let Err(failure) = self.until("draining", Until::Drained).await {
            eprintln!("flotilla-loadtest: {}", failure.chain());
        }
    }

    /// Carries the load on, and notes each second of it.
    pub async fn until(&mut self, what: &'static str, until: Until) -> Result<(), Failure> {
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

fn report(
    arguments: &RunArguments,
    sizes: &Sizes,
    running: Running<'_>,
    window: &Window,
    after: After,
) -> Report {
    let samples = &running.load.samples;
    let (executions, tasks) = (samples.executions, samples.tasks);
    // What cost time without an end in the window has no cost of its own.
    let per_task = |ms: f64| (tasks > 0).then(|| ms / count(tasks));
    let cpu = window.after.cpu_since(&window.before);
    let all_tasks = count(running.load.tasks().max(1));
    Report {
        shape: arguments.load.shape.name(),
        executions,
        tasks,
        seconds: window.seconds,
        executions_per_s: count(executions) / window.seconds,
        tasks_per_s: count(tasks) / window.seconds,
        latency_ms: Latency::of(&samples.latencies),
        cpu_ms_per_task: cpu
            .values()
            .copied()
            .sum::<Option<f64>>()
            .and_then(per_task),
        cpu_by_process: cpu
            .into_iter()
            .map(|(name, ms)| (name, ms.and_then(per_task)))
            .collect(),
        yardstick_ms: window.yardstick_ms,
        rss_mb_by_process: window.after.rss_mb(),
        peak_rss_mb_by_process: peak_rss_mb(&running.timeline.points),
        lost: after.audit.lost,
        doubled: after.audit.doubled,
        findings: after.audit.findings.len(),
        not_succeeded: running.load.not_succeeded,
        failed_processes: after.failed_processes,
        attempts_per_task: count(after.audit.attempts) / all_tasks,
        stages: after.stages,
        costs: after.costs,
        settings: settings(arguments, sizes),
        machine: after.machine,
        distribution: distribution(&samples.latencies),
        timeline: running.timeline.points,
        window_s: window.from_to_s,
    }
}

fn settings(arguments: &RunArguments, sizes: &Sizes) -> Settings {
    let closed = arguments.rate.is_none();
    Settings {
        count: arguments.count,
        seconds: arguments.seconds,
        sizes: *sizes,
        in_flight: closed.then_some(arguments.in_flight),
        rate: arguments.rate,
        ends: arguments.load.ends,
        warm_up: arguments.warm_up,
        coordinators: arguments.fleet.coordinators,
        workers: arguments.fleet.workers,
        profiled: arguments.profile,
        version: env!("CARGO_PKG_VERSION"),
    }
}

fn show(results: &ResultArguments, report: &Report) -> Result<(), Failure> {
    let json = serde_json::to_string(report).expect("a report has text keys");
    if let Some(path) = &results.json {
        write(path, &format!("{json}\n"))?;
    }
    if let Some(path) = &results.html {
        write(path, &page(report))?;
    }
    match results.output {
        Output::Json => println!("{json}"),
        Output::Table => println!("{}", report.table()),
        Output::Nothing => {}
    }
    Ok(())
}

/// Writes a file.
pub fn write(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|source| Failure::File {
        path: path.to_owned(),
        source,
    })
}
