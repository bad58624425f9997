//! The goals, and the floors below which something is wrong.

use std::collections::BTreeSet;

use super::Results;
use super::plan::Kind;

/// What a goal is measured with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Runs of a kind.
    Run(Kind),
    /// The engine alone.
    Engine,
    /// An idle fleet.
    IdleMemory,
}

/// A goal.
pub struct Goal {
    /// What it is about; the first word names it on the command line.
    pub name: &'static str,
    /// The unit of its values.
    pub unit: &'static str,
    /// Whether more is better.
    pub more_is_better: bool,
    /// What is wanted.
    pub goal: f64,
    /// What is demanded, if anything is beside the goal.
    pub floor: Option<f64>,
    /// What it is measured with.
    pub needs: &'static [Need],
    value: fn(&Results) -> Option<f64>,
}

/// How a value stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nobody measured it.
    NotMeasured,
    /// As wanted.
    Reached,
    /// Not as wanted, and not so bad as to miss the floor.
    AboveFloor,
    /// It misses the floor.
    BelowFloor,
    /// It misses the goal, and there is no floor.
    Missed,
}

const fn goal(
    name: &'static str,
    unit: &'static str,
    (more_is_better, goal, floor): (bool, f64, Option<f64>),
    needs: &'static [Need],
    value: fn(&Results) -> Option<f64>,
) -> Goal {
    Goal {
        name,
        unit,
        more_is_better,
        goal,
        floor,
        needs,
        value,
    }
}

const fn at_least(goal: f64, floor: Option<f64>) -> (bool, f64, Option<f64>) {
    (true, goal, floor)
}

const fn at_most(goal: f64, floor: Option<f64>) -> (bool, f64, Option<f64>) {
    (false, goal, floor)
}

/// By how much the cost of a completion may grow from 1,000 items to 100,000 and count as the same.
const SAME_COST: f64 = 1.25;

/// All of them.
pub const GOALS: [Goal; 19] = [
    goal(
        "single: executions of one task",
        "1/s",
        at_least(8000.0, Some(5000.0)),
        &[Need::Run(Kind::Single)],
        |of| of.median(Kind::Single, |run| Some(run.executions_per_s)),
    ),
    goal(
        "chain: tasks in chains of 10",
        "1/s",
        at_least(12_000.0, Some(8000.0)),
        &[Need::Run(Kind::Chain)],
        |of| of.median(Kind::Chain, |run| Some(run.tasks_per_s)),
    ),
    goal(
        "fanout: tasks in fan-outs 1 → 100 → 1",
        "1/s",
        at_least(12_000.0, Some(8000.0)),
        &[Need::Run(Kind::Fanout)],
        |of| of.median(Kind::Fanout, |run| Some(run.tasks_per_s)),
    ),
    goal(
        "items: items, 1,000 a task",
        "1/s",
        at_least(12_000.0, Some(8000.0)),
        &[Need::Run(Kind::Items1000)],
        |of| of.median(Kind::Items1000, |run| Some(run.tasks_per_s)),
    ),
    goal(
        "cpu of all processes, single tasks",
        "ms/task",
        at_most(0.15, Some(0.25)),
        &[Need::Run(Kind::Single)],
        |of| cpu(of, Kind::Single),
    ),
    goal(
        "cpu of all processes, chains",
        "ms/task",
        at_most(0.15, Some(0.25)),
        &[Need::Run(Kind::Chain)],
        |of| cpu(of, Kind::Chain),
    ),
    goal(
        "cpu of all processes, fan-outs",
        "ms/task",
        at_most(0.15, Some(0.25)),
        &[Need::Run(Kind::Fanout)],
        |of| cpu(of, Kind::Fanout),
    ),
    goal(
        "cpu of all processes, 1,000 items",
        "ms/task",
        at_most(0.15, Some(0.25)),
        &[Need::Run(Kind::Items1000)],
        |of| cpu(of, Kind::Items1000),
    ),
    goal(
        "idle latency p50, start message to finished row",
        "ms",
        at_most(3.0, Some(5.0)),
        &[Need::Run(Kind::Idle)],
        |of| of.median(Kind::Idle, |run| Some(run.latency_ms.p50)),
    ),
    goal(
        "idle latency p99, likewise",
        "ms",
        at_most(9.0, None),
        &[Need::Run(Kind::Idle)],
        |of| of.median(Kind::Idle, |run| Some(run.latency_ms.p99)),
    ),
    goal(
        "half of the highest rate: latency p99",
        "ms",
        at_most(100.0, None),
        &[Need::Run(Kind::Single), Need::Run(Kind::Half)],
        |of| of.median(Kind::Half, |run| Some(run.latency_ms.p99)),
    ),
    goal(
        "engine alone: completions with a publish and a rendered input, one core",
        "1/s",
        at_least(500_000.0, None),
        &[Need::Engine],
        |of| of.engine_per_s("chain"),
    ),
    goal(
        "growth: rate of single tasks with full tables, of the rate with empty ones",
        "",
        at_least(0.9, Some(0.8)),
        &[Need::Run(Kind::Single), Need::Run(Kind::Full)],
        |of| {
            let rate = |kind| of.median(kind, |run| Some(run.executions_per_s));
            Some(rate(Kind::Full)? / rate(Kind::Single)?)
        },
    ),
    goal(
        "width: CPU of an item among 100,000, of one among 1,000",
        "",
        at_most(SAME_COST, None),
        &[Need::Run(Kind::Items1000), Need::Run(Kind::Items100000)],
        |of| Some(cpu(of, Kind::Items100000)? / cpu(of, Kind::Items1000)?),
    ),
    goal(
        "width: CPU of an item among 1,000, of one among 10",
        "",
        at_most(SAME_COST, None),
        &[Need::Run(Kind::Items10), Need::Run(Kind::Items1000)],
        |of| Some(cpu(of, Kind::Items1000)? / cpu(of, Kind::Items10)?),
    ),
    goal(
        "width: the engine alone, an item among 100,000, of one among 1,000",
        "",
        at_most(SAME_COST, None),
        &[Need::Engine],
        |of| Some(of.engine_per_s("items_1000")? / of.engine_per_s("items_100000")?),
    ),
    goal(
        "memory of an idle coordinator and worker together",
        "MB",
        at_most(50.0, None),
        &[Need::IdleMemory],
        |of| {
            let one = |name| of.idle_mb.get(name).copied().flatten();
            Some(one("coordinator")? + one("worker")?)
        },
    ),
    goal(
        "memory of the coordinator at 10,000 live executions, at most",
        "MB",
        at_most(200.0, None),
        &[Need::Run(Kind::Live)],
        |of| coordinator_mb(of, Kind::Live),
    ),
    goal(
        "memory of the coordinator at 1,000,000 items, at most",
        "MB",
        at_most(200.0, None),
        &[Need::Run(Kind::Million)],
        |of| coordinator_mb(of, Kind::Million),
    ),
];

/// The words that name goals on the command line.
pub fn goal_words() -> BTreeSet<&'static str> {
    GOALS.iter().map(Goal::first_word).collect()
}

fn cpu(results: &Results, kind: Kind) -> Option<f64> {
    results.median(kind, |run| run.cpu_ms_per_task)
}

fn coordinator_mb(results: &Results, kind: Kind) -> Option<f64> {
    let peak = |run: &crate::report::Report| {
        let peaks = &run.peak_rss_mb_by_process;
        peaks.get("coordinator").copied().flatten()
    };
    results.median(kind, peak)
}

impl Goal {
    /// Whether the first word of its name is one of these; all are where none is named.
    pub fn is_among(&self, words: &[String]) -> bool {
        words.iter().all(String::is_empty) || words.iter().any(|word| word == self.first_word())
    }

    fn first_word(&self) -> &'static str {
        self.name.split([' ', ':']).next().unwrap_or_default()
    }

    /// What was measured.
    pub fn value(&self, results: &Results) -> Option<f64> {
        (self.value)(results)
    }

    /// How that stands.
    pub fn verdict(&self, results: &Results) -> Verdict {
        let Some(value) = self.value(results) else {
            return Verdict::NotMeasured;
        };
        let reaches = |limit: f64| match self.more_is_better {
            true => value >= limit,
            false => value <= limit,
        };
        match self.floor {
            _ if reaches(self.goal) => Verdict::Reached,
            None => Verdict::Missed,
            Some(floor) if reaches(floor) => Verdict::AboveFloor,
            Some(_) => Verdict::BelowFloor,
        }
    }
}

impl Verdict {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Self::NotMeasured => "not measured",
            Self::Reached => "reached",
            Self::AboveFloor => "above the floor",
            Self::BelowFloor => "BELOW THE FLOOR",
            Self::Missed => "missed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn engine(per_s: f64) -> Results {
        Results {
            engine: json!({"chain": {"units_per_s": per_s}}),
            ..Results::default()
        }
    }

    fn verdict_of(name: &str, results: &Results) -> Verdict {
        let goal = GOALS.iter().find(|goal| goal.name.starts_with(name));
        goal.expect("it is a goal").verdict(results)
    }

    #[test]
    fn a_value_is_judged_by_goal_and_floor() {
        assert_eq!(verdict_of("engine", &engine(500_000.0)), Verdict::Reached);
        assert_eq!(verdict_of("engine", &engine(499_999.0)), Verdict::Missed);
        assert_eq!(verdict_of("single", &engine(1.0)), Verdict::NotMeasured);
        let goal = |value| Goal {
            value,
            ..goal("x", "1/s", at_least(10.0, Some(5.0)), &[], |_| None)
        };
        assert_eq!(
            goal(|_| Some(5.0)).verdict(&engine(1.0)),
            Verdict::AboveFloor
        );
        assert_eq!(
            goal(|_| Some(4.9)).verdict(&engine(1.0)),
            Verdict::BelowFloor
        );
        let least = Goal {
            value: |_| Some(6.0),
            ..goal_at_most()
        };
        assert_eq!(least.verdict(&engine(1.0)), Verdict::AboveFloor);
    }

    fn goal_at_most() -> Goal {
        goal("x", "ms", at_most(3.0, Some(6.0)), &[], |_| None)
    }

    #[test]
    fn the_first_word_chooses_goals() {
        let chosen = |word: &str| {
            let words = [word.to_owned()];
            GOALS.iter().filter(|goal| goal.is_among(&words)).count()
        };
        assert_eq!(
            (chosen("cpu"), chosen("memory"), chosen("single")),
            (4, 3, 1)
        );
        assert_eq!(chosen("nothing"), 0);
        assert_eq!(chosen(""), GOALS.len());
        assert!(GOALS.iter().all(|goal| goal.is_among(&[])));
        assert!(goal_words().into_iter().all(|word| chosen(word) > 0));
    }
}
