//! The rules of tasks that run by how others have ended (`needs`, `rule`).

use crate::scope::EndStatus;

/// When a task runs, by how the tasks that it needs have ended.
///
/// A skipped task counts as a success where all must have succeeded, since the flow goes on behind
/// it; it is no success where one must have. An omitted one is neither success nor failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// All have succeeded or were skipped.
    AllSuccess,
    /// All have ended.
    AllDone,
    /// One has succeeded.
    OneSuccess,
    /// One has failed.
    OneFailed,
    /// All have failed.
    AllFailed,
    /// None has failed.
    NoneFailed,
    /// None has failed, and one has succeeded.
    NoneFailedMinOneSuccess,
    /// None was skipped.
    NoneSkipped,
    /// All were skipped.
    AllSkipped,
}

/// How a needed task counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// It has succeeded, or its failure is ignored.
    Succeeded,
    /// It has failed, timed out or was cancelled.
    Failed,
    /// Its guard was false.
    Skipped,
    /// It will not run.
    Omitted,
}

/// What a rule says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It depends on tasks that have not ended.
    Open,
    /// The task runs.
    Runs,
    /// It does not.
    Omitted,
}

/// The words of the rules.
pub const RULES: [(&str, Rule); 9] = [
    ("all_success", Rule::AllSuccess),
    ("all_done", Rule::AllDone),
    ("one_success", Rule::OneSuccess),
    ("one_failed", Rule::OneFailed),
    ("all_failed", Rule::AllFailed),
    ("none_failed", Rule::NoneFailed),
    ("none_failed_min_one_success", Rule::NoneFailedMinOneSuccess),
    ("none_skipped", Rule::NoneSkipped),
    ("all_skipped", Rule::AllSkipped),
];

impl Need {
    /// How an end counts.
    #[must_use]
    pub fn of(status: EndStatus, ignores_failure: bool) -> Self {
        match status {
            EndStatus::Succeeded => Self::Succeeded,
            EndStatus::Failed | EndStatus::TimedOut | EndStatus::Cancelled if ignores_failure => {
                Self::Succeeded
            }
            EndStatus::Failed | EndStatus::TimedOut | EndStatus::Cancelled => Self::Failed,
            EndStatus::Skipped => Self::Skipped,
            EndStatus::Omitted => Self::Omitted,
        }
    }

    /// The word that rows use.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
            Self::Omitted => "omitted",
        }
    }

    /// Reads such a word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "succeeded" => Self::Succeeded,
            "failed" => Self::Failed,
            "skipped" => Self::Skipped,
            "omitted" => Self::Omitted,
            _ => return None,
        })
    }
}

impl Rule {
    /// The word of the language.
    #[must_use]
    pub fn word(self) -> &'static str {
        RULES
            .iter()
            .find(|(_, rule)| *rule == self)
            .map_or("all_success", |(word, _)| word)
    }

    /// Whether a failure of a needed task is what the rule provides for.
    #[must_use]
    pub fn accepts_failure(self) -> bool {
        match self {
            Self::AllDone | Self::OneFailed | Self::AllFailed | Self::NoneSkipped => true,
            Self::AllSuccess
            | Self::OneSuccess
            | Self::NoneFailed
            | Self::NoneFailedMinOneSuccess
            | Self::AllSkipped => false,
        }
    }

    /// What the rule says of `count` needed tasks of which those that `ended` have ended for good.
    #[must_use]
    pub fn decide(self, count: usize, ended: &[Need]) -> Verdict {
        let any = |need: Need| ended.contains(&need);
        let all_ended = ended.len() >= count;
        match self {
            Self::AllSuccess => unless(any(Need::Failed) || any(Need::Omitted), all_ended),
            Self::AllDone => unless(false, all_ended),
            Self::OneSuccess => once(any(Need::Succeeded), all_ended),
            Self::OneFailed => once(any(Need::Failed), all_ended),
            Self::AllFailed => unless(ended.iter().any(|need| *need != Need::Failed), all_ended),
            Self::NoneFailed => unless(any(Need::Failed), all_ended),
            Self::NoneFailedMinOneSuccess => {
                let none_succeeded = all_ended && !any(Need::Succeeded);
                unless(any(Need::Failed) || none_succeeded, all_ended)
            }
            Self::NoneSkipped => unless(any(Need::Skipped), all_ended),
            Self::AllSkipped => unless(ended.iter().any(|need| *need != Need::Skipped), all_ended),
        }
    }
}

/// A rule that one end can break, and that holds where none has.
fn unless(is_broken: bool, all_ended: bool) -> Verdict {
    match (is_broken, all_ended) {
        (true, _) => Verdict::Omitted,
        (false, true) => Verdict::Runs,
        (false, false) => Verdict::Open,
    }
}

/// A rule that one end is enough for.
fn once(is_met: bool, all_ended: bool) -> Verdict {
    match (is_met, all_ended) {
        (true, _) => Verdict::Runs,
        (false, true) => Verdict::Omitted,
        (false, false) => Verdict::Open,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDS: [Need; 4] = [Need::Succeeded, Need::Failed, Need::Skipped, Need::Omitted];

    /// What the rules mean, of two tasks that have both ended.
    fn holds(rule: Rule, ends: [Need; 2]) -> bool {
        let is = |need: Need| move |end: &Need| *end == need;
        let all = |need: Need| ends.iter().all(is(need));
        let any = |need: Need| ends.iter().any(is(need));
        match rule {
            Rule::AllSuccess => !any(Need::Failed) && !any(Need::Omitted),
            Rule::AllDone => true,
            Rule::OneSuccess => any(Need::Succeeded),
            Rule::OneFailed => any(Need::Failed),
            Rule::AllFailed => all(Need::Failed),
            Rule::NoneFailed => !any(Need::Failed),
            Rule::NoneFailedMinOneSuccess => !any(Need::Failed) && any(Need::Succeeded),
            Rule::NoneSkipped => !any(Need::Skipped),
            Rule::AllSkipped => all(Need::Skipped),
        }
    }

    #[test]
    fn what_a_rule_says_at_the_end_is_what_it_means() {
        for (_, rule) in RULES {
            for one in NEEDS {
                for other in NEEDS {
                    let expected = if holds(rule, [one, other]) {
                        Verdict::Runs
                    } else {
                        Verdict::Omitted
                    };
                    let said = rule.decide(2, &[one, other]);
                    assert_eq!(said, expected, "{rule:?} {one:?} {other:?}");
                }
            }
        }
    }

    #[test]
    fn a_rule_is_decided_as_soon_as_no_end_can_change_it() {
        for (_, rule) in RULES {
            for one in NEEDS {
                let verdicts: Vec<bool> = NEEDS.map(|other| holds(rule, [one, other])).into();
                let expected = match (verdicts.contains(&true), verdicts.contains(&false)) {
                    (true, false) => Verdict::Runs,
                    (false, true) => Verdict::Omitted,
                    (true, true) | (false, false) => Verdict::Open,
                };
                let said = rule.decide(2, &[one]);
                let early = rule == Rule::AllDone && said == Verdict::Open;
                assert!(said == expected || early, "{rule:?} {one:?}: {said:?}");
            }
            assert_eq!(rule.decide(2, &[]), Verdict::Open, "{rule:?}");
        }
    }

    #[test]
    fn words_are_read_as_they_are_written() {
        for (word, rule) in RULES {
            assert_eq!(rule.word(), word);
        }
        for need in NEEDS {
            assert_eq!(Need::from_word(need.word()), Some(need));
        }
        assert_eq!(Need::from_word("done"), None);
    }

    #[test]
    fn an_ignored_failure_counts_as_a_success() {
        assert_eq!(Need::of(EndStatus::TimedOut, true), Need::Succeeded);
        assert_eq!(Need::of(EndStatus::TimedOut, false), Need::Failed);
        assert_eq!(Need::of(EndStatus::Omitted, true), Need::Omitted);
    }
}
