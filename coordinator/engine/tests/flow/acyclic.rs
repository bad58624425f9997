//! All graphs of four tasks without cycles: each pair of tasks with no edge or one of three kinds, each
//! way to join, each order of completions and each outcome.

use flotilla_engine::compile;

use crate::bench::{Bench, End};
use crate::model::Model;
use crate::spec::{Edge, Join, On, Policy, Spec, Task, To};
use crate::{Tally, compare, runs_all, tally};

/// Every so many are run; prime, so that each kind of edge and join has its turn.
const STRIDE: usize = 19;
const TASKS: usize = 4;
/// Every so many histories are played twice.
const REPLAYED: usize = 16;
pub const KINDS: [Option<On>; 4] = [
    None,
    Some(On::Success),
    Some(On::Failure),
    Some(On::Complete),
];
pub const JOINS: [Option<Join>; 4] = [
    None,
    Some(Join::Count(1)),
    Some(Join::All),
    Some(Join::Active),
];

const ALL_DRAIN: &str = "38872 definitions (refused: 4860 join_across_splits), 2782902 histories, \
                         4684304 completions, 5650202 duplicates";
const SOME_DRAIN: &str = "2046 definitions (refused: 255 join_across_splits), 144066 histories, \
                          242530 completions, 291993 duplicates";
const ALL_CONTINUE: &str = "38872 definitions (refused: 4860 join_across_splits), 4231858 histories, \
                            7227136 completions, 8857336 duplicates";
const SOME_CONTINUE: &str = "2046 definitions (refused: 255 join_across_splits), 213714 histories, \
                             364984 completions, 445972 duplicates";

/// All definitions, in a fixed order.
fn definitions(policy: Policy) -> impl Iterator<Item = Spec> {
    (0..4096_usize).flat_map(move |graph| {
        let mut tasks = vec![Task::default(); TASKS];
        let mut rest = graph;
        for (from, task) in tasks.iter_mut().enumerate() {
            for to in from + 1..TASKS {
                if let Some(on) = KINDS[rest % 4] {
                    task.edges.push(edge(on, to));
                }
                rest /= 4;
            }
        }
        with_joins(&Spec {
            start: starts(&tasks),
            tasks,
            finally: Vec::new(),
            policy,
            max_runs: 100,
        })
    })
}

pub fn edge(on: On, to: usize) -> Edge {
    Edge {
        on,
        publish: None,
        to: vec![To::Task(to)],
    }
}

fn starts(tasks: &[Task]) -> Vec<usize> {
    let is_led_to = |task: &usize| {
        let mut edges = tasks.iter().flat_map(|task| &task.edges);
        edges.any(|edge| edge.to.contains(&To::Task(*task)))
    };
    (0..tasks.len()).filter(|task| !is_led_to(task)).collect()
}

/// Each way to join where several predecessors lead to a task.
fn with_joins(spec: &Spec) -> Vec<Spec> {
    let mut found = vec![spec.clone()];
    for task in 0..spec.tasks.len() {
        if spec.predecessors(task).len() < 2 {
            continue;
        }
        let ways = found.iter().flat_map(|spec| {
            JOINS.map(|join| {
                let mut spec = spec.clone();
                spec.tasks[task].join = join;
                spec
            })
        });
        found = ways.collect();
    }
    found
}

/// All that can happen from here on: any job that waits may be answered next, in either way.
fn explore(spec: &Spec, bench: &Bench, model: &Model<'_>, tally: &mut Tally) {
    if bench.is_over() {
        tally.scripts += 1;
        if tally.scripts.is_multiple_of(REPLAYED) {
            tally.duplicates += bench.clone().repeat_all();
            bench.replay();
        }
        return;
    }
    for at in orders(spec, bench.jobs.len()) {
        for end in [End::Success, End::Failure] {
            let (mut bench, mut model) = (bench.clone(), model.clone());
            let (task, visit) = (bench.jobs[at].task.to_string(), bench.jobs[at].visit);
            bench.answer(at, end);
            model.answer(&task, visit, end);
            compare(spec, &bench, &model);
            tally.duplicates += bench.repeat_last();
            tally.completions += 1;
            explore(spec, &bench, &model, tally);
        }
    }
}

/// Which of the jobs that wait may be answered next: any; where a task is run once for each arrival, and
/// the runs are many and alike, the oldest or the newest.
fn orders(spec: &Spec, jobs: usize) -> Vec<usize> {
    let splits =
        |task: &usize| spec.tasks[*task].join.is_none() && spec.predecessors(*task).len() > 1;
    if (0..TASKS).any(|task| splits(&task)) && jobs > 2 {
        return vec![0, jobs - 1];
    }
    (0..jobs).collect()
}

fn run_all(policy: Policy, stride: usize) -> Tally {
    let mut tally = Tally::default();
    for spec in definitions(policy).step_by(stride) {
        tally.definitions += 1;
        let compiled = match compile(&spec.yaml()) {
            Ok(compiled) => compiled,
            Err(found) => {
                tally.refuse(&found);
                continue;
            }
        };
        let (bench, model) = (Bench::new(&compiled.workflow), Model::new(&spec));
        compare(&spec, &bench, &model);
        explore(&spec, &bench, &model, &mut tally);
    }
    tally
}

#[test]
fn every_graph_of_four_tasks_does_what_the_language_says_where_a_failure_drains() {
    let (stride, expected) = if runs_all() {
        (1, ALL_DRAIN)
    } else {
        (STRIDE, SOME_DRAIN)
    };
    let found = run_all(Policy::Drain, stride);
    tally(&found, expected);
}

#[test]
fn every_graph_of_four_tasks_does_what_the_language_says_where_others_continue() {
    let (stride, expected) = if runs_all() {
        (1, ALL_CONTINUE)
    } else {
        (STRIDE, SOME_CONTINUE)
    };
    let found = run_all(Policy::Continue, stride);
    tally(&found, expected);
}
