//! The rules of tasks with `needs`, as the language describes them.

/// How a needed task has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    Succeeded,
    Failed,
    Skipped,
    Omitted,
}

pub const RULES: [&str; 9] = [
    "all_success",
    "all_done",
    "one_success",
    "one_failed",
    "all_failed",
    "none_failed",
    "none_failed_min_one_success",
    "none_skipped",
    "all_skipped",
];

const NEEDS: [Need; 4] = [Need::Succeeded, Need::Failed, Need::Skipped, Need::Omitted];

pub fn accepts_failure(rule: &str) -> bool {
    ["all_done", "one_failed", "all_failed", "none_skipped"].contains(&rule)
}

/// What a rule says of `missing` ends that are not known yet: by trying all of them.
pub fn decide(rule: &str, ends: &[Need], missing: usize) -> Option<bool> {
    if missing == 0 {
        return Some(holds(rule, ends));
    }
    if rule == "all_done" {
        return None;
    }
    let verdicts = NEEDS.map(|next| {
        let mut ends = ends.to_vec();
        ends.push(next);
        decide(rule, &ends, missing - 1)
    });
    verdicts
        .into_iter()
        .reduce(|one, other| if one == other { one } else { None })?
}

fn holds(rule: &str, ends: &[Need]) -> bool {
    let all = |need: Need| ends.iter().all(|end| *end == need);
    let some = |need: Need| ends.contains(&need);
    match rule {
        "all_success" => !some(Need::Failed) && !some(Need::Omitted),
        "all_done" => true,
        "one_success" => some(Need::Succeeded),
        "one_failed" => some(Need::Failed),
        "all_failed" => all(Need::Failed),
        "none_failed" => !some(Need::Failed),
        "none_failed_min_one_success" => !some(Need::Failed) && some(Need::Succeeded),
        "none_skipped" => !some(Need::Skipped),
        "all_skipped" => all(Need::Skipped),
        other => panic!("no rule {other}"),
    }
}
