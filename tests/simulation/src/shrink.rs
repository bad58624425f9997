//! A failing schedule is made small: chunks of its steps are taken away while it still fails with the
//! same message.

use crate::planted::Planted;
use crate::schedule::{Failure, run_steps, steps_of};

/// Lines of what happened that are shown, the last ones.
const MAX_LINES: usize = 400;

/// What is left of a schedule.
#[derive(Debug, Clone)]
pub struct Shrunk {
    /// The steps that are needed.
    pub steps: Vec<u64>,
    /// How many there were.
    pub before: usize,
    /// The failure, with what happened in words.
    pub failure: Failure,
}

/// Shrinks the schedule of a seed that fails.
#[must_use]
pub fn shrink(failure: &Failure, planted: Option<Planted>) -> Shrunk {
    let seed = failure.seed;
    let all = steps_of(seed);
    let fails = |steps: &[u64]| {
        let outcome = run_steps(seed, steps, planted, false);
        outcome
            .failure
            .is_some_and(|again| is_same(&again.message, &failure.message))
    };
    let mut steps = all.clone();
    let mut chunk = steps.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        let before = steps.len();
        while at < steps.len() {
            let end = (at + chunk).min(steps.len());
            let mut fewer = steps[..at].to_vec();
            fewer.extend_from_slice(&steps[end..]);
            if fails(&fewer) {
                steps = fewer;
            } else {
                at = end;
            }
        }
        if chunk > 1 {
            chunk = chunk.div_ceil(2);
        } else if steps.len() == before {
            break;
        }
    }
    let outcome = run_steps(seed, &steps, planted, true);
    Shrunk {
        before: all.len(),
        failure: outcome.failure.unwrap_or_else(|| failure.clone()),
        steps,
    }
}

/// Numbers and names in a message may differ from schedule to schedule.
fn is_same(one: &str, other: &str) -> bool {
    let words = |text: &str| {
        let text = text.lines().next().unwrap_or_default();
        let plain = text.chars().filter(|c| !c.is_ascii_digit());
        plain.take(60).collect::<String>()
    };
    words(one) == words(other)
}

impl Shrunk {
    /// What a person needs to see.
    #[must_use]
    pub fn show(&self) -> String {
        let trace = &self.failure.trace;
        let left_out = trace.len().saturating_sub(MAX_LINES);
        let numbers: Vec<String> = self.steps.iter().map(|step| format!("{step:#x}")).collect();
        format!(
            "seed {}: {}\n{} of {} steps are left: [{}]\n{}\nrerun: make sim SIM_SEED={}",
            self.failure.seed,
            self.failure.message,
            self.steps.len(),
            self.before,
            numbers.join(", "),
            trace[left_out..].join("\n"),
            self.failure.seed,
        )
    }
}
