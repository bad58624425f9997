//! Random workflows of up to eight tasks with everything that steers the flow, and random outcomes.

use std::cell::Cell;
use std::fmt;

use flotilla_engine::compile;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

use crate::bench::{Bench, End};
use crate::model::Model;
use crate::rules::RULES;
use crate::spec::{Edge, Guard, Join, On, Policy, Publish, Spec, Task, To};
use crate::{compare, script};

const SEED: u64 = 0x5eed_0f10;
const CASES: u32 = 3_000;
/// Visits of one task.
const MAX_RUNS: u32 = 4;

/// A workflow and what happens to it: which of the waiting jobs is answered next, and how.
struct Case {
    spec: Spec,
    answers: Vec<(usize, End)>,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}answers (which job, its end): {:?}",
            self.spec.yaml(),
            self.answers
        )
    }
}

fn number(variable: &str, default: u64) -> u64 {
    let given = std::env::var(variable).ok();
    given.map_or(default, |text| text.parse().expect("a decimal number"))
}

fn one_of<T: Copy + fmt::Debug + 'static>(values: &[T]) -> impl Strategy<Value = T> + use<T> {
    proptest::sample::select(values.to_vec())
}

fn publishes() -> impl Strategy<Value = Option<Publish>> {
    let publish = (one_of(&["x", "y"]), 0..500_i64);
    proptest::option::weighted(0.3, publish.prop_map(|(name, plus)| Publish { name, plus }))
}

/// A target is how far it lies ahead, or now and then behind; the graph makes it a task.
fn edges(own: usize, count: usize) -> impl Strategy<Value = Vec<Edge>> {
    let ahead = own + 1..count.max(own + 2);
    let target = prop_oneof![
        12 => ahead.prop_map(To::Task),
        1 => (0..count).prop_map(To::Task),
        2 => Just(To::Noop),
        1 => Just(To::Fail),
    ];
    let on = prop_oneof![
        4 => Just(On::Success),
        2 => Just(On::Failure),
        1 => Just(On::Timeout),
        2 => Just(On::Complete),
    ];
    let edge = (on, publishes(), vec(target, 1..3));
    let edge = edge.prop_map(|(on, publish, to)| Edge { on, publish, to });
    vec(edge, 0..3)
}

fn task(own: usize, count: usize) -> impl Strategy<Value = Task> {
    let join = prop_oneof![
        Just(None),
        Just(Some(Join::Active)),
        Just(Some(Join::All)),
        (1..4_usize).prop_map(|count| Some(Join::Count(count))),
    ];
    let needs = (vec(0..own.max(1), 1..4), one_of(&RULES));
    let needs = match own {
        0 => Just(None).boxed(),
        _ => proptest::option::weighted(0.2, needs).boxed(),
    };
    let guard = (one_of(&["x", "y"]), 0..2_i64).prop_map(|(name, parity)| Guard { name, parity });
    let guard = proptest::option::weighted(0.2, guard);
    let retries = prop_oneof![4 => Just(0_u32), 1 => 1..3_u32];
    let ignores = proptest::bool::weighted(0.15);
    (
        edges(own, count),
        join,
        needs,
        guard,
        retries,
        publishes(),
        ignores,
    )
        .prop_map(
            |(edges, join, needs, guard, retries, publish, ignore_failure)| Task {
                edges,
                join,
                needs,
                guard,
                retries,
                publish,
                ignore_failure,
            },
        )
}

fn cases() -> impl Strategy<Value = Case> {
    let tasks = (1..9_usize).prop_flat_map(|count| {
        let tasks: Vec<_> = (0..count).map(|own| task(own, count).boxed()).collect();
        tasks
    });
    let policy = one_of(&[
        Policy::Drain,
        Policy::Continue,
        Policy::Continue,
        Policy::Cancel,
    ]);
    let finally = prop_oneof![3 => Just(0_usize), 1 => 1..3_usize];
    let end =
        prop_oneof![5 => Just(End::Success), 3 => Just(End::Failure), 1 => Just(End::Timeout)];
    let answers = vec((0..8_usize, end), 0..24);
    (tasks, policy, finally, answers).prop_map(|(tasks, policy, finally, answers)| Case {
        spec: sound(tasks, policy, finally),
        answers,
    })
}

/// Mends what the validator would refuse, so that most of what is generated can be run.
fn sound(mut tasks: Vec<Task>, policy: Policy, finally: usize) -> Spec {
    let count = tasks.len();
    let graph = count - finally.min(count - 1);
    for index in 0..count {
        let is_finally = index >= graph;
        let needing: Vec<bool> = tasks.iter().map(|task| task.needs.is_some()).collect();
        let task = &mut tasks[index];
        if is_finally {
            (task.needs, task.join) = (None, None);
            task.edges.clear();
        }
        for edge in &mut task.edges {
            edge.to.retain(|to| match to {
                To::Task(to) => *to < graph && !needing[*to],
                To::Noop | To::Fail => true,
            });
            let mut seen = Vec::new();
            edge.to.retain(|to| {
                let is_new = !seen.contains(to);
                seen.push(*to);
                is_new
            });
        }
        task.edges.retain(|edge| !edge.to.is_empty());
        if let Some((needs, _)) = &mut task.needs {
            needs.sort_unstable();
            needs.dedup();
            task.join = None;
        }
    }
    let mut spec = Spec {
        tasks,
        start: Vec::new(),
        finally: (graph..count).collect(),
        policy,
        max_runs: MAX_RUNS,
    };
    for task in 0..graph {
        let before = spec.predecessors(task);
        if spec.tasks[task].needs.is_none() && !before.iter().any(|from| *from < task) {
            spec.start.push(task);
        }
        spec.tasks[task].join = match spec.tasks[task].join {
            Some(_) if before.is_empty() => None,
            Some(Join::Count(count)) => Some(Join::Count(count.min(before.len()))),
            join => join,
        };
    }
    spec
}

/// What became of a case.
enum Played {
    ToTheEnd,
    Refused,
    Unclear,
}

/// Plays a case to its end, if the validator takes the workflow and the language says what it does.
fn play(case: &Case) -> Played {
    let spec = &case.spec;
    let Ok(compiled) = compile(&spec.yaml()) else {
        return Played::Refused;
    };
    let (mut bench, mut model) = (Bench::new(&compiled.workflow), Model::new(spec));
    if model.is_unclear() {
        return Played::Unclear;
    }
    compare(spec, &bench, &model);
    let mut answers = case.answers.iter().copied();
    while !bench.is_over() {
        let (which, end) = answers.next().unwrap_or((0, End::Success));
        let at = which % bench.jobs.len();
        let (task, visit) = (bench.jobs[at].task.to_string(), bench.jobs[at].visit);
        bench.answer(at, end);
        model.answer(&task, visit, end);
        if model.is_unclear() {
            return Played::Unclear;
        }
        compare(spec, &bench, &model);
        assert!(bench.history.len() < 200, "it ends: {:?}", script(&bench));
    }
    bench.repeat_all();
    bench.replay();
    Played::ToTheEnd
}

#[test]
fn random_workflows_do_what_the_language_says() {
    let (seed, cases_to_run) = (
        number("FLOW_SEED", SEED),
        number("FLOW_CASES", u64::from(CASES)),
    );
    let config = Config {
        cases: u32::try_from(cases_to_run).expect("a number of cases"),
        failure_persistence: None,
        ..Config::default()
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut runner =
        TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let counters = [const { Cell::new(0_u64) }; 3];
    let [played, refused, unclear] = &counters;
    let outcome = runner.run(&cases(), |case| {
        let counter = match play(&case) {
            Played::ToTheEnd => played,
            Played::Refused => refused,
            Played::Unclear => unclear,
        };
        counter.set(counter.get() + 1);
        Ok(())
    });
    if let Err(TestError::Fail(reason, case)) = outcome {
        panic!(
            "{reason}\n{case:?}\nrerun: FLOW_SEED={seed} FLOW_CASES={cases_to_run} \
             cargo test -p flotilla-engine --test flow random"
        );
    }
    let counts = counters.map(|counter| counter.get());
    assert_eq!(counts.iter().sum::<u64>(), cases_to_run);
    assert!(
        counts[0] * 3 > cases_to_run * 2,
        "played, refused, unclear: {counts:?}"
    );
}
