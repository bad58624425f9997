//! What is measured, by name.

use std::sync::Arc;

use flotilla_engine::Workflow;

use crate::meter::Meter;
use crate::{definition, engine, turn};

/// A case.
pub struct Case {
    /// Its name, in the baseline and on the command line.
    pub name: &'static str,
    /// What a unit of it is.
    pub unit: &'static str,
    /// Whether the guard counts its instructions; the others take too long under valgrind.
    pub is_guarded: bool,
    run: fn(&mut Meter, u64),
}

/// The execution that a chain is restored from has come so far.
const RESTORED_AFTER: usize = 50;

/// All of them.
pub const CASES: [Case; 12] = [
    Case {
        name: "chain",
        unit: "completion",
        is_guarded: true,
        run: |meter, scale| engine::completions(meter, &definition::chain(100), 4 * scale),
    },
    Case {
        name: "single",
        unit: "completion",
        is_guarded: true,
        run: |meter, scale| engine::completions(meter, &definition::chain(1), 200 * scale),
    },
    Case {
        name: "fanout_10",
        unit: "completion",
        is_guarded: true,
        run: |meter, scale| engine::completions(meter, &definition::fanout(10), 30 * scale),
    },
    Case {
        name: "fanout_100",
        unit: "completion",
        is_guarded: true,
        run: |meter, scale| engine::completions(meter, &definition::fanout(100), 4 * scale),
    },
    Case {
        name: "fanout_900",
        unit: "completion",
        is_guarded: false,
        run: |meter, scale| engine::completions(meter, &definition::fanout(900), scale),
    },
    Case {
        name: "items_10",
        unit: "completion",
        is_guarded: true,
        run: |meter, scale| items(meter, 10, 40 * scale),
    },
    Case {
        name: "items_1000",
        unit: "completion",
        is_guarded: true,
        run: |meter, scale| items(meter, 1_000, scale),
    },
    Case {
        name: "items_100000",
        unit: "completion",
        is_guarded: false,
        run: |meter, scale| items(meter, 100_000, scale.div_ceil(50)),
    },
    Case {
        name: "compile",
        unit: "task",
        is_guarded: true,
        run: |meter, scale| engine::compilations(meter, 20, 4 * scale),
    },
    Case {
        name: "restore",
        unit: "execution",
        is_guarded: true,
        run: |meter, scale| {
            engine::restores(meter, &definition::chain(100), RESTORED_AFTER, 20 * scale);
        },
    },
    Case {
        name: "turn_chain",
        unit: "completion",
        is_guarded: true,
        run: |meter, scale| turn_of(meter, &definition::chain(10), 50 * scale),
    },
    Case {
        name: "turn_fanout",
        unit: "completion",
        is_guarded: true,
        run: |meter, scale| turn_of(meter, &definition::fanout(100), 4 * scale),
    },
];

impl Case {
    /// The case of a name.
    pub fn named(name: &str) -> Option<&'static Self> {
        CASES.iter().find(|case| case.name == name)
    }

    /// Runs it; `scale` says how much of it there is, at least 1.
    pub fn run(&self, scale: u64) -> Meter {
        let mut meter = Meter::default();
        (self.run)(&mut meter, scale);
        meter
    }
}

/// As many in flight at a time as an item task has by default at most in a small fleet.
fn items(meter: &mut Meter, count: u32, executions: u64) {
    engine::completions(meter, &definition::items(count, 200), executions);
}

fn turn_of(meter: &mut Meter, workflow: &Arc<Workflow>, executions: u64) {
    turn::completions(meter, workflow, executions);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_case_runs_and_does_what_it_says() {
        let units: Vec<(&str, u64)> = CASES
            .iter()
            .map(|case| (case.name, case.run(1).units))
            .collect();
        assert_eq!(
            units,
            [
                ("chain", 400),
                ("single", 200),
                ("fanout_10", 360),
                ("fanout_100", 408),
                ("fanout_900", 902),
                ("items_10", 400),
                ("items_1000", 1000),
                ("items_100000", 100_000),
                ("compile", 88),
                ("restore", 20),
                ("turn_chain", 500),
                ("turn_fanout", 408),
            ]
        );
    }

    #[test]
    fn names_are_unique() {
        for case in &CASES {
            assert_eq!(
                CASES.iter().filter(|other| other.name == case.name).count(),
                1
            );
        }
    }
}
