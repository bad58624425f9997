//! `check`: looks for rows that contradict each other.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::DateTime;
use clap::Args;
use flotilla_coordinator::storage::check::{Checked, Since, invariants};
use serde_json::json;

use crate::arguments::Global;
use crate::database;
use crate::failure::{Exit, Failure};
use crate::output::{explain, print, print_json, table};
use crate::progress;

/// What `check` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "It only reads, a statement at a time, and may run beside a fleet that works. With --since \
it looks at the executions created since then, and at the small tables that belong to none.\n\n\
Exit codes: 0 all is as it must be; 1 something is not; 2 the database is not set up; 3 it cannot be reached.\n\n\
Example: flotilla check --since 2h"
)]
pub struct CheckArguments {
    /// Only executions created since: a time (2026-01-31T12:00:00Z) or how long ago (2h, 30m, 1d12h)
    #[arg(long, value_name = "T", value_parser = since)]
    since: Option<Since>,
}

/// Checks, and shows what was found.
pub async fn run(global: &Global, arguments: &CheckArguments) -> Result<Exit, Failure> {
    let since = arguments.since.unwrap_or(Since::Ever);
    let url = global.database_url()?;
    let line = progress::spinner(global.output, "looking at all invariants");
    let checked = database::check(&url, since).await;
    line.finish_and_clear();
    let checked = checked?;
    for note in &checked.notes {
        explain(&format!("note: {note}"));
    }
    let ok = checked.findings.is_empty();
    if global.output.is_json() {
        print_json(&json!({
            "ok": ok, "findings": checked.findings,
            "invariants": invariants().count(), "executions": checked.executions
        }));
    } else {
        print(&sheet(&checked));
    }
    Ok(if ok { Exit::Done } else { Exit::NotSucceeded })
}

fn sheet(checked: &Checked) -> String {
    let looked_at = format!(
        "{} invariants, {} executions",
        invariants().count(),
        grouped(checked.executions)
    );
    if checked.findings.is_empty() {
        return format!("ok: {looked_at}");
    }
    let rows = checked.findings.iter().map(|finding| {
        vec![
            finding.invariant.to_owned(),
            finding
                .execution_id
                .map(|id| id.to_string())
                .unwrap_or_default(),
            finding.detail.clone(),
        ]
    });
    let rules: BTreeMap<&str, &str> = invariants()
        .filter(|invariant| {
            let mut findings = checked.findings.iter();
            findings.any(|finding| finding.invariant == invariant.name)
        })
        .map(|invariant| (invariant.name, invariant.rule))
        .collect();
    let mut lines = vec![
        table(&["invariant", "execution", "detail"], rows),
        String::new(),
    ];
    lines.extend(rules.iter().map(|(name, rule)| format!("{name}: {rule}")));
    lines.push(format!(
        "\n{} findings: {looked_at}",
        grouped(checked.findings.len() as u64)
    ));
    lines.join("\n")
}

/// A number with its thousands apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Reads a time, or how long ago.
fn since(text: &str) -> Result<Since, String> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(Since::Time(time.to_utc()));
    }
    match duration(text) {
        Some(ago) => Ok(Since::Ago(ago)),
        None => Err("write a time (2026-01-31T12:00:00Z) or how long ago (2h, 30m)".to_owned()),
    }
}

/// Numbers with their units, as in `1d12h`; at most ten years.
fn duration(text: &str) -> Option<Duration> {
    const LONGEST_S: u64 = 10 * 366 * 86_400;
    let mut seconds = 0_u64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, after) = rest.split_at(digits);
        let unit = after.chars().next()?;
        let unit_s = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            _ => return None,
        };
        let part = number.parse::<u64>().ok()?.checked_mul(unit_s)?;
        seconds = seconds.checked_add(part)?;
        rest = &after[unit.len_utf8()..];
    }
    (seconds > 0 && seconds <= LONGEST_S).then(|| Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use flotilla_coordinator::storage::check::Finding;

    use super::*;

    #[test]
    fn since_is_a_time_or_how_long_ago() {
        let ago = |seconds| Ok(Since::Ago(Duration::from_secs(seconds)));
        assert_eq!(since("2h"), ago(7200));
        assert_eq!(since("30m"), ago(1800));
        assert_eq!(since("1d12h"), ago(129_600));
        let time = DateTime::from_timestamp(1_767_225_600, 0).expect("a time");
        assert_eq!(since("2026-01-01T01:00:00+01:00"), Ok(Since::Time(time)));
        for wrong in [
            "",
            "2",
            "h",
            "2x",
            "0s",
            "-2h",
            "yesterday",
            "99999999999999999999d",
            "9999999d",
        ] {
            assert!(since(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_was_found_is_shown_with_its_rule() {
        let clean = Checked {
            executions: 1_234,
            ..Checked::default()
        };
        let count = invariants().count();
        assert_eq!(
            sheet(&clean),
            format!("ok: {count} invariants, 1,234 executions")
        );
        let finding = Finding {
            invariant: "log_without_gap",
            execution_id: None,
            detail: "3 entries".to_owned(),
        };
        let text = sheet(&Checked {
            findings: vec![finding],
            ..clean
        });
        for part in [
            "3 entries",
            "log_without_gap: the entries of a log are numbered",
            "1 findings",
        ] {
            assert!(text.contains(part), "{part} is missing in:\n{text}");
        }
    }
}
