//! Graphs with cycles: all of two tasks with each outcome and order, and all of three tasks, with edges
//! backwards and to themselves, where each task always ends in the same way. A task has three visits.

use flotilla_engine::compile;

use crate::acyclic::{JOINS, KINDS, edge};
use crate::bench::{Bench, End};
use crate::model::Model;
use crate::spec::{Join, Policy, Spec, Task};
use crate::{Tally, compare, runs_all, tally};

/// Every so many are run; prime, so that each kind of edge and join has its turn.
const STRIDE: usize = 19;
const MAX_RUNS: u32 = 3;
/// Visits of each task, and the completions that they take at most.
const MOST_COMPLETIONS: usize = 9;

const TWO: &str =
    "621 definitions (refused: ), 75609 histories, 127180 completions, 426481 duplicates";
const THREE: &str = "879309 definitions (refused: ), 14068944 histories, 63814784 completions, \
                     63814784 duplicates";
const SOME_OF_THREE: &str =
    "2445 definitions (refused: ), 39120 histories, 177108 completions, 177108 duplicates";

/// A graph by its number; the first task is the entry.
fn graph(count: usize, number: usize, policy: Policy) -> Spec {
    let mut tasks = vec![Task::default(); count];
    let mut rest = number;
    for task in &mut tasks {
        for to in 0..count {
            if let Some(on) = KINDS[rest % KINDS.len()] {
                task.edges.push(edge(on, to));
            }
            rest /= KINDS.len();
        }
    }
    Spec {
        tasks,
        start: vec![0],
        finally: Vec::new(),
        policy,
        max_runs: MAX_RUNS,
    }
}

fn has_cycle(spec: &Spec) -> bool {
    (0..spec.tasks.len()).any(|task| spec.reaches(task, task))
}

/// The same join at each task that several others lead to; a start task can have none.
fn joined(mut spec: Spec, join: Option<Join>) -> Option<Spec> {
    let several = (1..spec.tasks.len()).filter(|task| spec.predecessors(*task).len() > 1);
    let several: Vec<usize> = several.collect();
    if several.is_empty() && join.is_some() {
        return None;
    }
    for task in several {
        spec.tasks[task].join = join;
    }
    Some(spec)
}

/// Plays one definition: each task ends as `failing` says, and the oldest or newest job is next.
fn play(spec: &Spec, begun: &(Bench, Model<'_>), script: usize, tally: &mut Tally) {
    let (mut bench, mut model) = begun.clone();
    while !bench.is_over() {
        let at = if script & 1 == 0 {
            0
        } else {
            bench.jobs.len() - 1
        };
        let (task, visit) = (bench.jobs[at].task.to_string(), bench.jobs[at].visit);
        let fails = script >> (bench.execution.workflow.by_name[&*task].0 + 1) & 1 == 1;
        let end = if fails { End::Failure } else { End::Success };
        bench.answer(at, end);
        model.answer(&task, visit, end);
        compare(spec, &bench, &model);
        tally.completions += 1;
        assert!(
            bench.history.len() <= MOST_COMPLETIONS,
            "it ends\n{}",
            spec.yaml()
        );
    }
    tally.scripts += 1;
    tally.duplicates += bench.repeat_all();
    bench.replay();
}

/// All that can happen from here on.
fn explore(spec: &Spec, begun: &(Bench, Model<'_>), tally: &mut Tally) {
    if begun.0.is_over() {
        tally.scripts += 1;
        tally.duplicates += begun.0.clone().repeat_all();
        begun.0.replay();
        return;
    }
    for at in 0..begun.0.jobs.len() {
        for end in [End::Success, End::Failure] {
            let (mut bench, mut model) = begun.clone();
            let (task, visit) = (bench.jobs[at].task.to_string(), bench.jobs[at].visit);
            bench.answer(at, end);
            model.answer(&task, visit, end);
            compare(spec, &bench, &model);
            tally.completions += 1;
            explore(spec, &(bench, model), tally);
        }
    }
}

fn run_all(count: usize, stride: usize, run: fn(&Spec, &(Bench, Model<'_>), &mut Tally)) -> Tally {
    let mut tally = Tally::default();
    let graphs = KINDS
        .len()
        .pow(u32::try_from(count * count).expect("few tasks"));
    for number in (0..graphs).step_by(stride) {
        // Both policies for each graph would be twice the time for little more.
        let policies = [Policy::Continue, Policy::Drain];
        let spec = graph(count, number, policies[number / stride % 2]);
        let is_led_to = |task: usize| spec.reaches(0, task);
        if !has_cycle(&spec) || !(1..count).all(is_led_to) {
            continue;
        }
        for spec in JOINS.iter().filter_map(|join| joined(spec.clone(), *join)) {
            tally.definitions += 1;
            let compiled = match compile(&spec.yaml()) {
                Ok(compiled) => compiled,
                Err(found) => {
                    tally.refuse(&found);
                    continue;
                }
            };
            let begun = (Bench::new(&compiled.workflow), Model::new(&spec));
            compare(&spec, &begun.0, &begun.1);
            run(&spec, &begun, &mut tally);
        }
    }
    tally
}

fn play_all(spec: &Spec, begun: &(Bench, Model<'_>), tally: &mut Tally) {
    for script in 0..1 << (spec.tasks.len() + 1) {
        play(spec, begun, script, tally);
    }
}

#[test]
fn every_loop_of_two_tasks_does_what_the_language_says() {
    let found = run_all(2, 1, explore);
    tally(&found, TWO);
}

#[test]
fn every_loop_of_three_tasks_does_what_the_language_says() {
    let (stride, expected) = if runs_all() {
        (1, THREE)
    } else {
        (STRIDE * STRIDE, SOME_OF_THREE)
    };
    let found = run_all(3, stride, play_all);
    tally(&found, expected);
}
