//! Two results side by side: ratios, what is worse by more than it may be, and whether they can be
//! compared at all.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use crate::arguments::{CompareArguments, Output};
use crate::failure::Failure;

/// Which of two values of a figure is better.
#[derive(Debug, Clone, Copy)]
enum Better {
    More,
    Less,
    /// It is the machine's: where it differs, the others say less.
    Neither,
}

/// A figure of a result: where it stands, and what is better.
const FIGURES: [(&str, &str, Better); 18] = [
    ("tasks/s", "/tasks_per_s", Better::More),
    ("executions/s", "/executions_per_s", Better::More),
    ("latency p50 ms", "/latency_ms/p50", Better::Less),
    ("latency p99 ms", "/latency_ms/p99", Better::Less),
    ("CPU ms/task", "/cpu_ms_per_task", Better::Less),
    ("  coordinator", "/cpu_by_process/coordinator", Better::Less),
    ("  worker", "/cpu_by_process/worker", Better::Less),
    ("  postgres", "/cpu_by_process/postgres", Better::Less),
    ("  rabbitmq", "/cpu_by_process/rabbitmq", Better::Less),
    ("  loadtest", "/cpu_by_process/loadtest", Better::Less),
    (
        "MB coordinator",
        "/peak_rss_mb_by_process/coordinator",
        Better::Less,
    ),
    ("MB worker", "/peak_rss_mb_by_process/worker", Better::Less),
    ("messages/task", "/costs/messages_per_task", Better::Less),
    ("rows/task", "/costs/rows_per_task", Better::Less),
    ("commits/task", "/costs/transactions_per_task", Better::Less),
    ("WAL bytes/task", "/costs/wal_bytes_per_task", Better::Less),
    (
        "WAL flushes/task",
        "/costs/wal_flushes_per_task",
        Better::Less,
    ),
    ("yardstick ms", "/yardstick_ms", Better::Neither),
];

/// Numbers above zero that make a result no measurement, whatever its figures: where they stand.
const FAULTS: [(&str, &str); 5] = [
    ("lost", "/lost"),
    ("doubled", "/doubled"),
    ("findings", "/findings"),
    ("not succeeded", "/not_succeeded"),
    ("failed processes", "/failed_processes"),
];

/// What must be the same, else figures say little.
const CONDITIONS: [&str; 3] = ["shape", "settings", "machine"];
/// Parts of these that say how long or when, and not what.
const INCIDENTAL: [&str; 4] = [
    "/settings/seconds",
    "/settings/count",
    "/settings/warm_up",
    "/settings/version",
];

/// What a comparison found.
#[derive(Debug, Serialize)]
struct Comparison {
    figures: Vec<Figure>,
    /// What makes the result after no measurement, so that it is worse whatever its figures.
    faults: Vec<Fault>,
    /// Where shapes, settings or machines differ, or one was slower: place, before, after.
    differences: Vec<(String, Value, Value)>,
}

/// One figure of both.
#[derive(Debug, Serialize)]
struct Figure {
    name: &'static str,
    before: f64,
    after: f64,
    ratio: f64,
    /// Whether it is worse by more than it may be.
    worse: bool,
}

/// Work that was not done once and well.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Fault {
    name: &'static str,
    count: u64,
}

/// Compares, and shows it; false if something is worse.
pub fn compare(arguments: &CompareArguments) -> Result<bool, Failure> {
    let (before, after) = (read(&arguments.before)?, read(&arguments.after)?);
    refuse_faults(&arguments.before, &before)?;
    let comparison = compared(&before, &after, arguments.limit);
    match arguments.output {
        Output::Json => {
            let json = serde_json::to_string(&comparison).expect("a comparison has text keys");
            println!("{json}");
        }
        Output::Table => print!("{}", comparison.table()),
        Output::Nothing => {}
    }
    Ok(!comparison.is_worse())
}

/// Nothing can be compared with what is no measurement itself.
fn refuse_faults(path: &Path, result: &Value) -> Result<(), Failure> {
    let faults: Vec<String> = faults(result)
        .iter()
        .map(|fault| format!("{} {}", fault.name, fault.count))
        .collect();
    if faults.is_empty() {
        return Ok(());
    }
    Err(Failure::NoMeasurement {
        path: path.to_owned(),
        faults: faults.join(", "),
    })
}

fn faults(result: &Value) -> Vec<Fault> {
    let count = |place| result.pointer(place).and_then(Value::as_u64);
    FAULTS
        .iter()
        .filter_map(|(name, place)| {
            let count = count(place).filter(|count| *count > 0)?;
            Some(Fault { name, count })
        })
        .collect()
}

fn read(path: &Path) -> Result<Value, Failure> {
    let text = std::fs::read_to_string(path).map_err(|source| Failure::File {
        path: path.to_owned(),
        source,
    })?;
    let refused = |reason: String| Failure::NoResult {
        path: path.to_owned(),
        reason,
    };
    let value: Value = serde_json::from_str(&text).map_err(|error| refused(error.to_string()))?;
    if value
        .pointer("/tasks_per_s")
        .and_then(Value::as_f64)
        .is_none()
    {
        return Err(refused("it has no `tasks_per_s`".to_owned()));
    }
    Ok(value)
}

fn compared(before: &Value, after: &Value, limit_percent: f64) -> Comparison {
    let mut differences = Vec::new();
    for condition in CONDITIONS {
        differ(&mut differences, &format!("/{condition}"), before, after);
    }
    let mut figures = Vec::new();
    let limit = 1.0 + limit_percent / 100.0;
    for (name, place, better) in FIGURES {
        let number = |of: &Value| of.pointer(place).and_then(Value::as_f64);
        let (Some(before), Some(after)) = (number(before), number(after)) else {
            continue;
        };
        let ratio = if before == 0.0 { 1.0 } else { after / before };
        let (is_less, is_more) = (ratio < 1.0 / limit, ratio > limit);
        let worse = match better {
            Better::More => is_less,
            Better::Less => is_more,
            Better::Neither => false,
        };
        if matches!(better, Better::Neither) && (is_less || is_more) {
            differences.push((place.to_owned(), rounded(before), rounded(after)));
        }
        figures.push(Figure {
            name,
            before,
            after,
            ratio,
            worse,
        });
    }
    Comparison {
        figures,
        faults: faults(after),
        differences,
    }
}

/// As many digits as a table shows.
fn rounded(value: f64) -> Value {
    Value::from((value * 1000.0).round() / 1000.0)
}

/// Adds the places below `place` at which the two differ.
fn differ(found: &mut Vec<(String, Value, Value)>, place: &str, before: &Value, after: &Value) {
    let at = |of: &Value| of.pointer(place).cloned().unwrap_or(Value::Null);
    let (one, other) = (at(before), at(after));
    if let (Value::Object(one), Value::Object(other)) = (&one, &other) {
        let names: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
        for name in names {
            differ(found, &format!("{place}/{name}"), before, after);
        }
    } else if one != other && !INCIDENTAL.contains(&place) {
        found.push((place.to_owned(), one, other));
    }
}

impl Comparison {
    fn is_worse(&self) -> bool {
        !self.faults.is_empty() || self.figures.iter().any(|figure| figure.worse)
    }

    fn table(&self) -> String {
        use std::fmt::Write;
        let mut text = String::from("                       A            B      B/A\n");
        for figure in &self.figures {
            let Figure {
                name,
                before,
                after,
                ratio,
                worse,
            } = figure;
            let verdict = if *worse { "  WORSE" } else { "" };
            // Writing into a text cannot fail.
            let _ = writeln!(
                text,
                "{name:<17}{before:>12.3} {after:>12.3} {ratio:>8.3}{verdict}"
            );
        }
        for Fault { name, count } in &self.faults {
            let _ = writeln!(
                text,
                "{name:<17}{:>12} {count:>12}          WORSE: B is no measurement",
                0
            );
        }
        for (place, before, after) in &self.differences {
            let _ = writeln!(
                text,
                "WARNING: {} differs: {before} and {after}; the figures say less",
                place.trim_start_matches('/').replace('/', " ")
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn result(tasks_per_s: f64, p99: f64, cores: u32) -> Value {
        json!({
            "shape": "single", "tasks_per_s": tasks_per_s, "latency_ms": {"p99": p99},
            "cpu_ms_per_task": null,
            "settings": {"in_flight": 200, "seconds": cores}, "machine": {"cores": cores}
        })
    }

    fn worse(before: &Value, after: &Value) -> Vec<&'static str> {
        let figures = compared(before, after, 10.0).figures;
        let worse = figures.into_iter().filter(|figure| figure.worse);
        worse.map(|figure| figure.name).collect()
    }

    #[test]
    fn what_is_worse_by_more_than_the_limit_is_named() {
        let before = result(1000.0, 50.0, 2);
        assert!(worse(&before, &result(920.0, 54.0, 2)).is_empty());
        assert_eq!(worse(&before, &result(900.0, 54.0, 2)), ["tasks/s"]);
        assert_eq!(worse(&before, &result(2000.0, 56.0, 2)), ["latency p99 ms"]);
    }

    #[test]
    fn a_result_after_that_is_no_measurement_is_worse_however_good_its_figures() {
        let (before, mut after) = (result(1000.0, 50.0, 2), result(2000.0, 20.0, 2));
        for (_, place) in FAULTS {
            after[&place[1..]] = json!(0);
        }
        assert!(!compared(&before, &after, 10.0).is_worse());
        for (name, place) in FAULTS {
            after[&place[1..]] = json!(3);
            let found = compared(&before, &after, 10.0);
            assert_eq!(found.faults, [Fault { name, count: 3 }]);
            assert!(found.is_worse(), "{name}");
            let line = found.table();
            let line = line.lines().find(|line| line.starts_with(name));
            assert!(line.is_some_and(|line| line.contains("3          WORSE")));
            after[&place[1..]] = json!(0);
        }
    }

    #[test]
    fn a_result_before_that_is_no_measurement_is_refused() {
        let mut before = result(1000.0, 50.0, 2);
        assert!(refuse_faults(Path::new("a.json"), &before).is_ok());
        (before["lost"], before["not_succeeded"]) = (json!(2), json!(1));
        let refused = refuse_faults(Path::new("a.json"), &before);
        let said = refused.expect_err("work was lost");
        assert_eq!(said.exit_code(), 2);
        assert!(
            said.to_string()
                .starts_with("a.json is no measurement: lost 2, not succeeded 1"),
            "{said}"
        );
    }

    #[test]
    fn other_machines_and_settings_are_told_but_not_how_long_it_took() {
        let found = compared(&result(1.0, 1.0, 2), &result(1.0, 1.0, 4), 10.0);
        assert_eq!(
            found.differences,
            [("/machine/cores".to_owned(), json!(2), json!(4))]
        );
        assert!(
            found
                .table()
                .contains("WARNING: machine cores differs: 2 and 4")
        );
    }

    #[test]
    fn a_slower_machine_is_told_and_is_not_worse() {
        let on = |yardstick_ms: f64| {
            let mut result = result(1.0, 1.0, 2);
            result["yardstick_ms"] = json!(yardstick_ms);
            result
        };
        assert_eq!(compared(&on(0.5), &on(0.54), 10.0).differences, []);
        for (before, after, told) in [
            (0.5, 0.61234, "0.5 and 0.612"),
            (0.61234, 0.5, "0.612 and 0.5"),
        ] {
            let found = compared(&on(before), &on(after), 10.0);
            assert!(found.figures.iter().all(|figure| !figure.worse));
            let table = found.table();
            let told = format!("WARNING: yardstick_ms differs: {told};");
            assert!(table.contains(&told), "{table}");
        }
    }

    #[test]
    fn a_figure_that_one_does_not_know_is_left_out() {
        let found = compared(&result(1.0, 1.0, 2), &result(1.0, 1.0, 2), 10.0);
        let names: Vec<_> = found.figures.iter().map(|figure| figure.name).collect();
        assert_eq!(names, ["tasks/s", "latency p99 ms"]);
    }

    #[test]
    fn what_is_no_result_is_refused() {
        let folder = crate::session::Folder::create().unwrap();
        let file = folder.0.join("a.json");
        assert!(matches!(read(&file), Err(Failure::File { .. })));
        for text in ["{", "{}"] {
            std::fs::write(&file, text).unwrap();
            assert!(
                matches!(read(&file), Err(Failure::NoResult { .. })),
                "{text}"
            );
        }
    }
}
