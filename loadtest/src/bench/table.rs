//! The table that people read.

use std::fmt::Write;

use super::goals::{GOALS, Goal};
use super::plan::Kind;
use super::{Results, median};
use crate::arguments::BenchArguments;
use crate::report::{Report, shown};

/// Goals with values, runs, and what they ran on, as Markdown.
pub fn markdown(results: &Results, arguments: &BenchArguments) -> String {
    let mut text =
        String::from("| goal | wanted | floor | measured | |\n| --- | --- | --- | --- | --- |\n");
    for goal in GOALS.iter().filter(|goal| goal.is_among(&arguments.only)) {
        goal_row(&mut text, goal, results);
    }
    text.push_str(
        "\n| runs, medians | executions/s | tasks/s | p50 / p99 ms | CPU ms/task | runs' tasks/s |\n\
         | --- | --- | --- | --- | --- | --- |\n",
    );
    for kind in Kind::ALL {
        run_row(&mut text, kind, results);
    }
    if let Some(machine) = results.runs.values().flatten().next() {
        let machine = &machine.machine;
        let version = machine.postgres.get("server_version");
        // Writing into a text cannot fail.
        let _ = writeln!(
            text,
            "\n{} runs of {} s each; {} cores ({}), {} MB, Linux {}, PostgreSQL {}.",
            arguments.runs,
            arguments.seconds,
            machine.cores,
            machine.processor,
            machine.memory_mb,
            machine.kernel,
            version.map_or("unknown", String::as_str)
        );
    }
    yardstick(&mut text, results);
    text.truncate(text.trim_end().len());
    text
}

/// How slow the machine was: what decides about most figures beside the program.
fn yardstick(text: &mut String, results: &Results) {
    let runs = results.runs.values().flatten();
    let pieces: Vec<f64> = runs.filter_map(|run| run.yardstick_ms).collect();
    let least = pieces.iter().copied().reduce(f64::min);
    let most = pieces.iter().copied().reduce(f64::max);
    if let (Some(least), Some(median), Some(most)) = (least, median(pieces), most) {
        // Writing into a text cannot fail.
        let _ = writeln!(
            text,
            "Yardstick, a piece of work that is always the same: {} ms of CPU in the median run, {} to {} in all.",
            number(median),
            number(least),
            number(most)
        );
    }
}

fn goal_row(text: &mut String, goal: &Goal, results: &Results) {
    let sign = if goal.more_is_better { "≥" } else { "≤" };
    let with_unit = |value: f64| {
        let text = format!("{} {}", number(value), goal.unit);
        text.trim_end().to_owned()
    };
    let floor = goal.floor.map(with_unit);
    let floor = floor.map_or_else(String::new, |floor| format!("{sign} {floor}"));
    let value = goal.value(results).map(with_unit);
    let value = value.unwrap_or_else(|| "–".to_owned());
    let verdict = goal.verdict(results).words();
    // Writing into a text cannot fail.
    let _ = writeln!(
        text,
        "| {} | {sign} {} | {floor} | {value} | {verdict} |",
        goal.name,
        with_unit(goal.goal)
    );
}

fn run_row(text: &mut String, kind: Kind, results: &Results) {
    let Some(runs) = results.runs.get(&kind) else {
        return;
    };
    let median = |figure: fn(&Report) -> f64| {
        let value = results.median(kind, |run| Some(figure(run)));
        value.map_or_else(String::new, number)
    };
    let each: Vec<String> = runs.iter().map(|run| number(run.tasks_per_s)).collect();
    let cpu = results.median(kind, |run| run.cpu_ms_per_task);
    // Writing into a text cannot fail.
    let _ = writeln!(
        text,
        "| {} | {} | {} | {} / {} | {} | {} |",
        kind.title(),
        median(|run| run.executions_per_s),
        median(|run| run.tasks_per_s),
        median(|run| run.latency_ms.p50),
        median(|run| run.latency_ms.p99),
        shown(cpu, 3),
        each.join(", ")
    );
}

/// A number with as many digits as say something, and thousands apart.
fn number(value: f64) -> String {
    if value < 10.0 {
        let text = format!("{value:.3}");
        return text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let shown = [0.15, 3.0, 0.912_34, 99.6, 8000.0, 1_234_567.8].map(number);
        assert_eq!(shown, ["0.15", "3", "0.912", "100", "8,000", "1,234,568"]);
    }
}
