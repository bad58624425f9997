//! A naive interpreter of the language: what should happen, written from its description, without
//! indexes and without the engine's code. It keeps every run for ever and searches all of them.

mod view;
mod waits;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::bench::End;
use crate::rules::{self, Need};
use crate::spec::{Join, On, Policy, Publish, Spec, To, VARIABLES, name};

/// What a run hands on. Of a variable: its value, and all writes that led to it.
#[derive(Debug, Clone)]
struct Branch {
    vars: BTreeMap<&'static str, (i64, Vec<u64>)>,
    passed: BTreeMap<usize, u32>,
    route: usize,
    cut: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Join,
    Needs,
    /// Let in, or about to be.
    Due,
    Out,
    Ended(&'static str),
}

#[derive(Debug, Clone)]
struct Run {
    task: usize,
    visit: u32,
    state: State,
    attempt: u32,
    branch: Branch,
    arrived: BTreeSet<usize>,
    needed: BTreeMap<usize, Need>,
}

#[derive(Debug, Clone)]
enum Next {
    Arrive(Option<usize>, usize, Branch, bool),
    Ended(usize, Need, Option<Branch>, bool),
    Decided(usize),
}

/// Something that waits until nothing alive can reach it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goal {
    Join(usize),
    Needed(usize),
}

/// An execution as it should be.
#[derive(Clone)]
pub struct Model<'a> {
    spec: &'a Spec,
    runs: Vec<Run>,
    queue: VecDeque<Next>,
    due: Vec<(usize, bool)>,
    /// What a branch sees that has written nothing.
    first: Branch,
    ends: Branch,
    fired: BTreeSet<(usize, usize, u32)>,
    /// Failed tasks that a rule may accept yet.
    held: Vec<usize>,
    writes: u64,
    errors: usize,
    /// Whether nothing new is let in: it was failing before this step, or this step led to `fail`.
    closed: bool,
    in_finally: bool,
    is_over: bool,
    /// Whether a task with `needs` runs though all that it needs was omitted: nothing says what it sees.
    is_unclear: bool,
}

impl<'a> Model<'a> {
    pub fn new(spec: &'a Spec) -> Self {
        let first = VARIABLES.iter().zip(1..);
        let vars = first.map(|((name, value), no)| (*name, (*value, vec![no])));
        let ends = Branch {
            vars: vars.collect(),
            passed: BTreeMap::new(),
            route: 0,
            cut: false,
        };
        let mut model = Self {
            spec,
            runs: Vec::new(),
            queue: VecDeque::new(),
            due: Vec::new(),
            first: ends.clone(),
            ends: ends.clone(),
            fired: BTreeSet::new(),
            held: Vec::new(),
            writes: VARIABLES.len() as u64,
            errors: 0,
            closed: false,
            in_finally: false,
            is_over: false,
            is_unclear: false,
        };
        for start in &spec.start {
            let arrival = Next::Arrive(None, *start, ends.clone(), false);
            model.queue.push_back(arrival);
        }
        model.rest();
        model
    }

    /// The attempt of a run that is out has ended.
    pub fn answer(&mut self, task: &str, visit: u32, end: End) {
        let is_it =
            |run: &Run| run.state == State::Out && name(run.task) == task && run.visit == visit;
        let no = self.runs.iter().position(is_it).expect("it is out");
        let stops = self.is_draining() && self.spec.policy == Policy::Cancel;
        let stops = stops && !self.runs[no].branch.cut;
        self.closed = self.is_draining();
        let run = &self.runs[no];
        let may_retry = run.attempt <= self.spec.tasks[run.task].retries;
        if end != End::Success && may_retry && !self.is_draining() {
            self.due.push((no, false));
        } else {
            let status = match end {
                End::Success => "succeeded",
                End::Failure => "failed",
                End::Timeout => "timed_out",
            };
            self.end(no, status, stops);
        }
        self.rest();
    }

    fn is_draining(&self) -> bool {
        self.errors > 0 && self.spec.policy != Policy::Continue && !self.in_finally
    }

    /// Carries on until only workers can.
    fn rest(&mut self) {
        loop {
            while let Some(next) = self.queue.pop_front() {
                match next {
                    Next::Arrive(from, to, branch, exempt) => self.arrive(from, to, branch, exempt),
                    Next::Ended(task, need, branch, is_end) => {
                        self.note(task, need, branch, is_end);
                    }
                    Next::Decided(no) => self.let_in(no, false),
                }
            }
            if !self.is_draining() && !self.in_finally && self.settle() {
                continue;
            }
            let holds = self.is_draining();
            for (no, exempt) in std::mem::take(&mut self.due) {
                if !holds || exempt {
                    self.runs[no].state = State::Out;
                    self.runs[no].attempt += 1;
                }
            }
            if self.runs.iter().any(|run| run.state == State::Out) {
                return;
            }
            let open = (0..self.runs.len()).filter(|no| self.is_open(*no));
            for no in open.collect::<Vec<_>>() {
                self.omit(no);
            }
            self.queue.clear();
            self.errors += std::mem::take(&mut self.held).len();
            if self.in_finally || self.spec.finally.is_empty() {
                self.is_over = true;
                return;
            }
            (self.in_finally, self.closed) = (true, false);
            for task in &self.spec.finally {
                let arrival = Next::Arrive(None, *task, self.ends.clone(), false);
                self.queue.push_back(arrival);
            }
        }
    }

    fn is_open(&self, no: usize) -> bool {
        !matches!(self.runs[no].state, State::Ended(_))
    }

    fn create(&mut self, task: usize, state: State, mut branch: Branch) -> Option<usize> {
        let visits = self.runs.iter().filter(|run| run.task == task).count();
        let visit = u32::try_from(visits).expect("few visits") + 1;
        if visit > self.spec.max_runs {
            self.ends.merge(&branch);
            self.errors += 1;
            return None;
        }
        if self.is_split(task) {
            branch.route = self.runs.len() + 1;
        }
        self.runs.push(Run {
            task,
            visit,
            state,
            attempt: 0,
            branch,
            arrived: BTreeSet::new(),
            needed: BTreeMap::new(),
        });
        Some(self.runs.len() - 1)
    }

    fn is_split(&self, task: usize) -> bool {
        let spec = self.spec;
        let entries: usize = (0..spec.tasks.len())
            .map(|from| spec.transitions(from, task))
            .sum();
        let plain = spec.tasks[task].join.is_none() && spec.tasks[task].needs.is_none();
        let starts = usize::from(spec.start.contains(&task));
        plain && entries + starts > 1 && !spec.reaches(task, task)
    }

    fn arrive(&mut self, from: Option<usize>, to: usize, branch: Branch, exempt: bool) {
        if branch.cut && !exempt && !self.closed {
            return self.ends.merge(&branch);
        }
        let Some(join) = self.spec.tasks[to].join else {
            if let Some(no) = self.create(to, State::Due, branch) {
                self.let_in(no, exempt);
            }
            return;
        };
        let key = (to, branch.route, branch.passes(to));
        if self.fired.contains(&key) {
            return self.ends.merge(&branch);
        }
        let open = (0..self.runs.len())
            .find(|no| self.runs[*no].state == State::Join && self.key(*no) == key);
        let no = match open {
            Some(no) => {
                self.runs[no].branch.merge(&branch);
                no
            }
            None => match self.create(to, State::Join, branch) {
                Some(no) => no,
                None => return,
            },
        };
        self.runs[no].arrived.extend(from);
        let arrived = self.runs[no].arrived.len();
        let complete = match join {
            Join::All => arrived == self.spec.predecessors(to).len(),
            Join::Count(count) => arrived >= count,
            Join::Active => false,
        };
        if complete {
            self.fire(no);
            self.let_in(no, exempt);
        }
    }

    fn key(&self, no: usize) -> (usize, usize, u32) {
        let run = &self.runs[no];
        (run.task, run.branch.route, run.branch.passes(run.task))
    }

    fn fire(&mut self, no: usize) {
        self.fired.insert(self.key(no));
        let run = &mut self.runs[no];
        *run.branch.passed.entry(run.task).or_default() += 1;
        run.state = State::Due;
    }

    fn let_in(&mut self, no: usize, exempt: bool) {
        let task = &self.spec.tasks[self.runs[no].task];
        if self.closed && !exempt {
            return;
        }
        self.runs[no].branch.cut |= exempt;
        if let Some((needs, rule)) = &task.needs
            && rules::accepts_failure(rule)
        {
            self.held.retain(|failed| !needs.contains(failed));
        }
        let holds = task
            .guard
            .is_none_or(|guard| self.runs[no].branch.vars[guard.name].0 % 2 == guard.parity);
        if holds {
            self.due.push((no, exempt));
        } else {
            self.end(no, "skipped", false);
        }
    }

    /// A run has ended: it publishes, and its transitions are taken.
    fn end(&mut self, no: usize, status: &'static str, stops: bool) {
        self.runs[no].state = State::Ended(status);
        let (index, mut branch) = (self.runs[no].task, self.runs[no].branch.clone());
        let task = &self.spec.tasks[index];
        if status == "succeeded" {
            self.publish(&mut branch, task.publish);
        }
        let has_failed = (status == "failed" || status == "timed_out") && !task.ignore_failure;
        let timeouts = task.edges.iter().any(|edge| edge.on == On::Timeout);
        let edges = task.edges.iter().filter(|edge| match edge.on {
            On::Success => !has_failed,
            On::Failure => has_failed && (status == "failed" || !timeouts),
            On::Timeout => has_failed && status == "timed_out",
            On::Complete => true,
        });
        let taken: Vec<_> = edges.filter(|_| !stops).collect();
        let fails = taken.iter().any(|edge| edge.to.contains(&To::Fail));
        let exempt = fails && !branch.cut;
        for edge in &taken {
            let mut along = branch.clone();
            self.publish(&mut along, edge.publish);
            if !edge.to.iter().any(|to| matches!(to, To::Task(_))) {
                self.ends.merge(&along);
            }
            for to in &edge.to {
                if let To::Task(to) = to {
                    let arrival = Next::Arrive(Some(index), *to, along.clone(), exempt);
                    self.queue.push_back(arrival);
                }
            }
        }
        let is_needed = !self.needing(index).is_empty() && !branch.cut && !stops;
        if is_needed {
            let need = match status {
                "skipped" => Need::Skipped,
                _ if has_failed => Need::Failed,
                _ => Need::Succeeded,
            };
            let ended = Next::Ended(index, need, Some(branch), taken.is_empty());
            self.queue.push_back(ended);
        } else if taken.is_empty() {
            self.ends.merge(&branch);
        }
        if has_failed && taken.is_empty() && !stops {
            self.held.push(index);
            self.review();
        } else if fails {
            self.closed |= self.spec.policy != Policy::Continue;
            self.errors += 1;
        }
    }

    fn publish(&mut self, branch: &mut Branch, publish: Option<Publish>) {
        if let Some(publish) = publish {
            self.writes += 1;
            let variable = branch.vars.get_mut(publish.name).expect("it has a value");
            variable.0 = publish.value(variable.0);
            variable.1.push(self.writes);
        }
    }

    /// Failures that nothing can handle any more count.
    fn review(&mut self) {
        let held = std::mem::take(&mut self.held);
        for failed in held {
            let accepts = |task: &usize| {
                let needs = self.spec.tasks[*task].needs.as_ref();
                needs.is_some_and(|(_, rule)| rules::accepts_failure(rule))
            };
            let run_of = |task: usize| self.runs.iter().find(|run| run.task == task);
            let needing = self.needing(failed);
            let mut states = needing
                .iter()
                .filter(|task| accepts(task))
                .map(|task| run_of(*task));
            let is_let_in = |run: &Run| match run.state {
                State::Out => true,
                State::Ended(status) => status != "omitted",
                State::Due => self
                    .due
                    .iter()
                    .any(|(no, _)| self.runs[*no].task == run.task),
                State::Join | State::Needs => false,
            };
            let is_open = |run: &Run| run.state != State::Ended("omitted");
            if states.clone().flatten().any(is_let_in) {
                continue;
            }
            if states.any(|run| run.is_none_or(is_open)) {
                self.held.push(failed);
            } else {
                self.errors += 1;
            }
        }
    }

    fn needing(&self, task: usize) -> Vec<usize> {
        let all = 0..self.spec.tasks.len();
        all.filter(|other| self.spec.needs(*other).contains(&task))
            .collect()
    }
}
