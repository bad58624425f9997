//! All that this project has goals for, measured in one go: runs of each kind in turn, so that a slow
//! minute of the machine hits all of them alike, and the median of each.
//!
//! ```text
//! plan: which runs ──► database: one for each ──► run ──► Results ──► goals: values, verdicts, table
//! flotilla-bench rates (the engine alone) ─────────────────┘
//! ```

mod database;
mod goals;
mod plan;
mod table;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;

use crate::arguments::{BenchArguments, FillArguments, FleetArguments, Output, ResultArguments};
use crate::failure::Failure;
use crate::fill::fill;
use crate::report::Report;
use crate::run::{run, write};
use crate::session::Session;
use crate::shape::{Shape, Sizes};
use database::Database;
pub use goals::goal_words;
use goals::{GOALS, Need, Verdict};
use plan::{Kind, arguments};

/// What an idle fleet has to settle before its memory is looked at.
const SETTLED: Duration = Duration::from_secs(3);
/// Executions that a full database is filled from.
const TEMPLATES: u64 = 200;
/// Seconds that a case of the engine is measured, as a part of those of a run.
const ENGINE_SHARE: u64 = 4;

/// What was measured.
#[derive(Debug, Default)]
pub struct Results {
    /// The runs of each kind.
    pub runs: BTreeMap<Kind, Vec<Report>>,
    /// Memory of an idle fleet, by kind of process.
    pub idle_mb: BTreeMap<&'static str, Option<f64>>,
    /// Processes of that fleet that did not end well.
    pub failed_processes: usize,
    /// What `flotilla-bench rates` says, by case; null if it was not asked.
    pub engine: Value,
}

/// Measures, and prints the table; false if a value misses its floor, a run was not clean, or nothing was
/// measured.
pub async fn bench(arguments: &BenchArguments) -> Result<bool, Failure> {
    if let Some(folder) = &arguments.folder {
        std::fs::create_dir_all(folder).map_err(|source| Failure::File {
            path: folder.clone(),
            source,
        })?;
    }
    let wanted: Vec<Need> = GOALS
        .iter()
        .filter(|goal| goal.is_among(&arguments.only))
        .flat_map(|goal| goal.needs.iter().copied())
        .collect();
    let mut results = Results::default();
    if wanted.contains(&Need::Engine) {
        results.engine = engine(arguments).await?;
    }
    if wanted.contains(&Need::IdleMemory) {
        let database = Database::create(&arguments.fleet).await?;
        let idle = idle_memory(&database.fleet).await;
        database.drop().await?;
        (results.idle_mb, results.failed_processes) = idle?;
    }
    let is_wanted = |kind: &Kind| wanted.contains(&Need::Run(*kind));
    let full = if is_wanted(&Kind::Full) {
        Some(filled(arguments).await?)
    } else {
        None
    };
    let measured = rounds(arguments, &is_wanted, full.as_ref(), &mut results).await;
    if let Some(full) = full {
        full.drop().await?;
    }
    measured?;
    let text = table::markdown(&results, arguments);
    println!("{text}");
    if let Some(folder) = &arguments.folder {
        write(&folder.join("bench.md"), &format!("{text}\n"))?;
    }
    Ok(is_well(&results, &arguments.only))
}

/// Whether something was measured, and all of it as it has to be.
fn is_well(results: &Results, only: &[String]) -> bool {
    let chosen = GOALS.iter().filter(|goal| goal.is_among(only));
    let verdicts: Vec<Verdict> = chosen.map(|goal| goal.verdict(results)).collect();
    let are_clean = results.runs.values().flatten().all(Report::is_clean);
    if verdicts
        .iter()
        .all(|verdict| *verdict == Verdict::NotMeasured)
    {
        eprintln!("flotilla-loadtest: nothing was measured");
        return false;
    }
    are_clean && results.failed_processes == 0 && !verdicts.contains(&Verdict::BelowFloor)
}

/// All kinds of runs in turn, as often as asked; those that need only one run are made once.
async fn rounds(
    arguments: &BenchArguments,
    is_wanted: &impl Fn(&Kind) -> bool,
    full: Option<&Database>,
    results: &mut Results,
) -> Result<(), Failure> {
    for round in 0..arguments.runs {
        let kinds = Kind::ALL.into_iter();
        for kind in kinds.filter(|kind| is_wanted(kind) && (round == 0 || kind.is_repeated())) {
            let of_single = results.median(Kind::Single, |report| Some(report.executions_per_s));
            let report = match (kind, full) {
                (Kind::Full, Some(full)) => {
                    one_run(arguments, kind, &full.fleet, (round, of_single)).await?
                }
                (_, _) => {
                    let database = Database::create(&arguments.fleet).await?;
                    let run = one_run(arguments, kind, &database.fleet, (round, of_single)).await;
                    database.drop().await?;
                    run?
                }
            };
            results.runs.entry(kind).or_default().push(report);
        }
    }
    Ok(())
}

async fn one_run(
    bench: &BenchArguments,
    kind: Kind,
    fleet: &FleetArguments,
    (round, single_per_s): (u32, Option<f64>),
) -> Result<Report, Failure> {
    let mut arguments = arguments(kind, bench.seconds, single_per_s, fleet);
    arguments.results = ResultArguments {
        json: json_file(bench.folder.as_deref(), kind, round),
        html: None,
        output: Output::Nothing,
    };
    let report = Box::pin(run(&arguments)).await?;
    eprintln!(
        "{:<12} run {}: {:.0} executions/s, {:.0} tasks/s, p50 {:.1} ms, p99 {:.1} ms{}",
        kind.name(),
        round + 1,
        report.executions_per_s,
        report.tasks_per_s,
        report.latency_ms.p50,
        report.latency_ms.p99,
        if report.is_clean() { "" } else { ", NOT CLEAN" }
    );
    Ok(report)
}

fn json_file(folder: Option<&Path>, kind: Kind, round: u32) -> Option<PathBuf> {
    Some(folder?.join(format!("bench-{}-{}.json", kind.name(), round + 1)))
}

/// A database with as many finished executions as asked for.
async fn filled(arguments: &BenchArguments) -> Result<Database, Failure> {
    let database = Database::create(&arguments.fleet).await?;
    let mut templates = arguments_of_templates(&database.fleet);
    templates.results.output = Output::Nothing;
    let filled = async {
        Box::pin(run(&templates)).await?;
        fill(&FillArguments {
            executions: arguments.fill,
            database: database.fleet.database.clone(),
        })
        .await
    };
    if let Err(failure) = filled.await {
        database.drop().await?;
        return Err(failure);
    }
    Ok(database)
}

fn arguments_of_templates(fleet: &FleetArguments) -> crate::arguments::RunArguments {
    let mut arguments = arguments(Kind::Single, 1, None, fleet);
    (arguments.count, arguments.seconds, arguments.warm_up) = (Some(TEMPLATES), None, 0);
    arguments
}

/// Memory of an idle fleet, by kind of process, and how many of its processes did not end well.
async fn idle_memory(
    fleet: &FleetArguments,
) -> Result<(BTreeMap<&'static str, Option<f64>>, usize), Failure> {
    let sizes = Sizes {
        length: 1,
        width: 1,
        concurrency: None,
        payload: 0,
        failures: 0.0,
        seed: 0,
    };
    let session = Session::begin(fleet, &Shape::Single.mix(&sizes), false).await?;
    tokio::time::sleep(SETTLED).await;
    let memory = session.measured().usage().rss_mb();
    Ok((memory, session.stop().await))
}

/// Asks the program beside this one what the engine does alone.
async fn engine(arguments: &BenchArguments) -> Result<Value, Failure> {
    let path = match &arguments.engine {
        Some(path) => path.clone(),
        None => std::env::current_exe()
            .map_err(|source| Failure::File {
                path: PathBuf::from("flotilla-loadtest"),
                source,
            })?
            .with_file_name("flotilla-bench"),
    };
    let seconds = arguments.seconds.div_ceil(ENGINE_SHARE).to_string();
    let words = [
        "rates",
        &seconds,
        "chain",
        "items_10",
        "items_1000",
        "items_100000",
    ];
    let output = Command::new(&path).args(words).output().await;
    let output = output.map_err(|source| Failure::File {
        path: path.clone(),
        source,
    })?;
    serde_json::from_slice(&output.stdout).map_err(|error| Failure::NoResult {
        path,
        reason: error.to_string(),
    })
}

impl Results {
    /// The median of a figure over all runs of a kind; of an even number, the lower of the two.
    pub fn median(&self, kind: Kind, figure: impl Fn(&Report) -> Option<f64>) -> Option<f64> {
        let runs = self.runs.get(&kind)?;
        median(runs.iter().map(figure).collect::<Option<_>>()?)
    }

    /// Completions a second of a case of the engine.
    pub fn engine_per_s(&self, case: &str) -> Option<f64> {
        self.engine.get(case)?.get("units_per_s")?.as_f64()
    }
}

/// The median; of an even number, the lower of the two. None of nothing.
fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len().checked_sub(1)? / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_bench_that_measured_nothing_is_not_well() {
        let only = ["engine".to_owned()];
        let mut results = Results::default();
        assert!(!is_well(&results, &only));
        results.engine = json!({"chain": {"units_per_s": 500_000.0}});
        assert!(is_well(&results, &only));
        results.failed_processes = 1;
        assert!(!is_well(&results, &only));
        results.failed_processes = 0;
        assert!(!is_well(&results, &["single".to_owned()]));
    }
}
