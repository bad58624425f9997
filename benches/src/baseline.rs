//! What each case needed when somebody last said that it may need that much.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::process::Command;

use serde_json::{Value, json};

/// By how much a case may exceed its baseline. It is a ratio, so that large and small ones are
/// guarded alike.
pub const LIMIT: f64 = 1.05;

/// What a file says.
#[derive(Debug, PartialEq, Eq)]
pub struct Baseline {
    /// The compiler that it was counted with: another one makes other instructions.
    pub compiler: String,
    /// Instructions a unit, by case.
    pub instructions: BTreeMap<String, u64>,
}

/// What a comparison found.
#[derive(Debug)]
pub struct Judged {
    /// A line for each case.
    pub table: String,
    /// Whether no case exceeds its baseline by more than [`LIMIT`], and all are known.
    pub is_within: bool,
}

impl Baseline {
    /// Reads a file.
    pub fn read(text: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let compiler = value["compiler"].as_str().ok_or("it has no `compiler`")?;
        let cases = value["instructions"].as_object();
        let cases = cases.ok_or("it has no `instructions`")?.iter();
        let number = |(name, value): (&String, &Value)| {
            let number = value.as_u64().filter(|number| *number > 0);
            let number = number.ok_or_else(|| format!("`{name}` is not a number from 1"))?;
            Ok((name.clone(), number))
        };
        Ok(Self {
            compiler: compiler.to_owned(),
            instructions: cases.map(number).collect::<Result<_, String>>()?,
        })
    }

    /// The text of its file.
    pub fn text(&self) -> String {
        let value = json!({"compiler": self.compiler, "instructions": self.instructions});
        let text = serde_json::to_string_pretty(&value).expect("names are texts");
        text + "\n"
    }

    /// The compiler of this machine; what it says may differ from the one that made this program
    /// only where somebody has changed it in between.
    pub fn compiler() -> String {
        let output = Command::new("rustc").arg("--version").output();
        let said = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        said.unwrap_or_else(|_| "unknown".to_owned())
    }
}

/// Compares what was counted with the baseline.
pub fn compare(baseline: &Baseline, counted: &BTreeMap<String, u64>) -> Judged {
    let mut judged = Judged {
        table: String::new(),
        is_within: true,
    };
    for (name, now) in counted {
        let before = baseline.instructions.get(name).copied();
        let (verdict, is_within) = verdict(before, *now);
        judged.is_within &= is_within;
        let before = before.map_or_else(|| "-".to_owned(), |before| before.to_string());
        // Writing into a text cannot fail.
        let _ = writeln!(judged.table, "{name:<14} {before:>10} {now:>10}  {verdict}");
    }
    judged
}

fn verdict(before: Option<u64>, now: u64) -> (String, bool) {
    let Some(before) = before else {
        return ("is not in the baseline".to_owned(), false);
    };
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
    let ratio = now as f64 / before as f64;
    let percent = (ratio - 1.0) * 100.0;
    if ratio > LIMIT {
        (format!("{percent:+.1} %: TOO MANY"), false)
    } else if ratio < 1.0 / LIMIT {
        (format!("{percent:+.1} %: renew the baseline"), true)
    } else {
        (format!("{percent:+.1} %"), true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(of: &[(&str, u64)]) -> BTreeMap<String, u64> {
        of.iter()
            .map(|(name, n)| ((*name).to_owned(), *n))
            .collect()
    }

    fn baseline() -> Baseline {
        Baseline {
            compiler: "rustc 1".to_owned(),
            instructions: counts(&[("a", 1000), ("b", 1000)]),
        }
    }

    #[test]
    fn a_file_says_what_was_written() {
        assert_eq!(Baseline::read(&baseline().text()), Ok(baseline()));
    }

    #[test]
    fn what_is_no_baseline_is_refused() {
        for text in [
            "x",
            "{}",
            r#"{"compiler": "c"}"#,
            r#"{"compiler": "c", "instructions": {"a": 0}}"#,
            r#"{"compiler": "c", "instructions": {"a": "1"}}"#,
        ] {
            assert!(Baseline::read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn more_than_a_twentieth_is_too_many() {
        let judge = |a, b| compare(&baseline(), &counts(&[("a", a), ("b", b)]));
        assert!(judge(1050, 1).is_within);
        let judged = judge(1000, 1051);
        assert!(!judged.is_within);
        assert!(
            judged.table.contains("+5.1 %: TOO MANY"),
            "{}",
            judged.table
        );
        assert!(judge(900, 1000).table.contains("renew the baseline"));
    }

    #[test]
    fn a_case_without_a_baseline_fails() {
        assert!(!compare(&baseline(), &counts(&[("c", 1)])).is_within);
    }
}
