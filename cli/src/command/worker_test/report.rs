//! What was found, a line per check, and as one document for scripts.

use std::time::Duration;

use clap::ValueEnum;
use serde_json::{Value, json};

use super::check::Check;
use super::verdict::Verdict;
use crate::failure::Exit;
use crate::output::{print, print_json, printable};

/// Where the contract is explained.
const PAGE: &str = "docs/workers.md";

/// One check that was made.
#[derive(Debug)]
pub struct Line {
    /// Which.
    pub check: Check,
    /// How it ended.
    pub verdict: Verdict,
    /// How long it took.
    pub took: Duration,
}

/// All checks that were made.
#[derive(Debug)]
pub struct Report {
    pool: String,
    is_json: bool,
    lines: Vec<Line>,
}

impl Report {
    /// A report without checks yet.
    pub fn new(pool: String, is_json: bool) -> Self {
        Self {
            pool,
            is_json,
            lines: Vec::new(),
        }
    }

    /// Adds a check, and shows it to people at once.
    pub fn add(&mut self, line: Line) {
        if !self.is_json {
            print(&line.text());
        }
        self.lines.push(line);
    }

    /// Shows all of it to scripts, or the sum to people.
    pub fn end(&self) -> Exit {
        let count = |word: &str| self.lines.iter().filter(|line| line.word() == word).count();
        let failed = count("fail");
        if self.is_json {
            print_json(&json!({
                "pool": self.pool,
                "ok": failed == 0,
                "checks": self.lines.iter().map(Line::json).collect::<Vec<Value>>()
            }));
        } else {
            print(&format!(
                "\n{} passed, {failed} failed, {} skipped, {} optional not there",
                count("pass"),
                count("skipped"),
                count("absent")
            ));
        }
        if failed == 0 {
            Exit::Done
        } else {
            Exit::NotSucceeded
        }
    }
}

impl Line {
    fn name(&self) -> String {
        let value = self.check.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }

    fn word(&self) -> &'static str {
        match self.verdict {
            Verdict::Passed(_) => "pass",
            Verdict::Failed(_) => "fail",
            Verdict::Absent(_) => "absent",
            Verdict::Skipped(_) => "skipped",
        }
    }

    fn text(&self) -> String {
        let said = match &self.verdict {
            Verdict::Passed(seen) => seen.clone(),
            Verdict::Failed(finding) => format!(
                "{}; the contract: {} ({PAGE}#{})",
                finding.seen,
                finding.clause.rule(),
                finding.clause.anchor()
            ),
            Verdict::Absent(seen) => format!("optional: {seen}"),
            Verdict::Skipped(needs) => format!("needs {needs}"),
        };
        let line = format!("{:<8}{:<16}{said}", self.word(), self.name());
        printable(&line)
    }

    fn json(&self) -> Value {
        let (seen, contract, place) = match &self.verdict {
            Verdict::Passed(seen) | Verdict::Absent(seen) | Verdict::Skipped(seen) => {
                (seen, None, None)
            }
            Verdict::Failed(finding) => {
                let place = format!("{PAGE}#{}", finding.clause.anchor());
                (&finding.seen, Some(finding.clause.rule()), Some(place))
            }
        };
        json!({
            "check": self.name(),
            "outcome": self.word(),
            "required": self.check.is_required(),
            "seen": seen,
            "contract": contract,
            "place": place,
            "seconds": self.took.as_secs_f64()
        })
    }
}
