//! The flow of executions against a naive interpreter of the language: all small graphs, and random
//! larger ones.
//!
//! ```text
//! Spec ──yaml──► engine ──┐
//!   └──────────► Model ───┴─► after each completion: the same jobs, ends, errors and variables
//! ```

mod acyclic;
mod bench;
mod cyclic;
mod model;
mod random;
mod rules;
mod spec;

use std::collections::BTreeMap;

use bench::{Bench, End};
use flotilla_engine::diagnostic::{Diagnostic, Severity};
use model::Model;
use spec::{On, Spec, To, name};

/// Whether all cases are run (`make exhaustive`), or some of them.
fn runs_all() -> bool {
    std::env::var_os("FLOW_ALL").is_some()
}

/// How often the engine and the interpreter were compared, and of how many cases.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    definitions: usize,
    /// By the code of the first error.
    refused: BTreeMap<&'static str, usize>,
    scripts: usize,
    completions: usize,
    duplicates: usize,
}

impl Tally {
    /// A definition is refused, with warnings beside the error.
    fn refuse(&mut self, found: &[Diagnostic]) {
        let mut errors = found.iter().filter(|one| one.severity == Severity::Error);
        let first = errors.next().expect("an error, since it is refused");
        *self.refused.entry(first.code).or_default() += 1;
    }
}

/// Demands that just so much was run, of which `expected` may tell the first part: a test that skips cases is no proof.
fn tally(found: &Tally, expected: &str) {
    let refused: Vec<String> = found
        .refused
        .iter()
        .map(|(code, count)| format!("{count} {code}"))
        .collect();
    let Tally {
        definitions,
        scripts,
        completions,
        duplicates,
        ..
    } = found;
    let refused = refused.join(", ");
    let told = format!(
        "{definitions} definitions (refused: {refused}), {scripts} histories, {completions} completions, \
         {duplicates} duplicates"
    );
    println!("{told}");
    assert!(told.starts_with(expected), "{told}\ninstead of\n{expected}");
}

/// Demands that both stand at the same place, and that the engine waits for somebody.
fn compare(spec: &Spec, bench: &Bench, model: &Model<'_>) {
    let mut ends = bench.ends.clone();
    ends.sort();
    let told = || format!("after {:?} of\n{}", script(bench), spec.yaml());
    assert_eq!(bench.waiting(), model.waiting(), "jobs, {}", told());
    assert_eq!(ends, model.ends(), "ends, {}", told());
    assert_eq!(bench.is_over(), model.is_over(), "the end, {}", told());
    assert_eq!(
        bench.execution.errors.len(),
        model.errors(),
        "errors, {}",
        told()
    );
    assert!(
        bench.is_over() || !bench.jobs.is_empty(),
        "stuck, {}",
        told()
    );
    if bench.is_over() {
        let expected = if model.errors() > 0 {
            "failed"
        } else {
            "succeeded"
        };
        assert_eq!(bench.execution.status.word(), expected, "{}", told());
        assert_eq!(
            bench.variables(),
            model.variables(),
            "variables, {}",
            told()
        );
        has_causes(spec, bench);
    }
}

/// Nothing has run whose predecessors did not lead to it: by the rows alone.
fn has_causes(spec: &Spec, bench: &Bench) {
    let status_of = |no: u32| bench.statuses[&no];
    for (no, (task, causes)) in &bench.causes {
        let needs = spec.needs(*task);
        let may_start = spec.start.contains(task) || spec.finally.contains(task);
        assert!(
            may_start || !causes.is_empty() || !needs.is_empty(),
            "run {no} of {} has no cause\n{}",
            name(*task),
            spec.yaml()
        );
        for cause in causes {
            let (from, _) = bench.causes[cause];
            let ignores = spec.tasks[from].ignore_failure;
            let good = ignores || ["succeeded", "skipped"].contains(&status_of(*cause));
            let mut edges = spec.tasks[from].edges.iter();
            let leads = edges.any(|edge| {
                let holds = match edge.on {
                    On::Success => good,
                    On::Failure | On::Timeout => !good,
                    On::Complete => true,
                };
                holds && edge.to.contains(&To::Task(*task))
            });
            assert!(
                leads || needs.contains(&from),
                "run {no} of {} was not led to by {}\n{}",
                name(*task),
                name(from),
                spec.yaml()
            );
        }
    }
}

/// The completions so far, as an error shows them.
fn script(bench: &Bench) -> Vec<(u32, u32, End)> {
    let history = bench.history.iter();
    history
        .map(|(attempt, end)| (attempt.task_id.run(), attempt.attempt, *end))
        .collect()
}
