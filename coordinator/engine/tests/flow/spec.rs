//! Workflows as these tests think of them, and the YAML that says the same. The engine sees only the
//! YAML, the interpreter only this.

use std::fmt::Write;

/// When a transition is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On {
    Success,
    Failure,
    Timeout,
    Complete,
}

/// Where it leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    Task(usize),
    Noop,
    Fail,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Join {
    Count(usize),
    All,
    Active,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    Drain,
    Continue,
    Cancel,
}

/// `name: (vars.name * 3 + plus) % 1000`, so that the order of writes can be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publish {
    pub name: &'static str,
    pub plus: i64,
}

#[derive(Debug, Clone)]
pub struct Edge {
    pub on: On,
    pub publish: Option<Publish>,
    pub to: Vec<To>,
}

/// The task runs where `vars.name % 2` is `parity`.
#[derive(Debug, Clone, Copy)]
pub struct Guard {
    pub name: &'static str,
    pub parity: i64,
}

#[derive(Debug, Clone, Default)]
pub struct Task {
    pub edges: Vec<Edge>,
    pub join: Option<Join>,
    /// Needed tasks and the word of the rule.
    pub needs: Option<(Vec<usize>, &'static str)>,
    pub guard: Option<Guard>,
    /// Attempts after the first.
    pub retries: u32,
    pub publish: Option<Publish>,
    pub ignore_failure: bool,
}

#[derive(Debug, Clone)]
pub struct Spec {
    pub tasks: Vec<Task>,
    pub start: Vec<usize>,
    pub finally: Vec<usize>,
    pub policy: Policy,
    pub max_runs: u32,
}

/// The first values of the variables.
pub const VARIABLES: [(&str, i64); 2] = [("x", 1), ("y", 2)];

pub fn name(task: usize) -> String {
    format!("t{task}")
}

fn names(tasks: &[usize]) -> String {
    let names: Vec<String> = tasks.iter().map(|task| name(*task)).collect();
    format!("[{}]", names.join(", "))
}

impl Publish {
    pub fn value(&self, old: i64) -> i64 {
        (old * 3 + self.plus) % 1000
    }

    fn yaml(&self) -> String {
        let Self { name, plus } = self;
        format!("[{{{name}: \"{{{{ (vars.{name} * 3 + {plus}) % 1000 }}}}\"}}]")
    }
}

impl Spec {
    pub fn yaml(&self) -> String {
        let mut text = String::from("ref: t.flow\nvars: {x: 1, y: 2}\n");
        let policy = match self.policy {
            Policy::Drain => "drain",
            Policy::Continue => "continue",
            Policy::Cancel => "cancel",
        };
        writeln!(text, "fail_policy: {policy}").expect("a string grows");
        writeln!(text, "max_runs_per_task: {}", self.max_runs).expect("a string grows");
        writeln!(text, "start: {}", names(&self.start)).expect("a string grows");
        if !self.finally.is_empty() {
            writeln!(text, "finally: {}", names(&self.finally)).expect("a string grows");
        }
        text.push_str("tasks:\n");
        for (index, task) in self.tasks.iter().enumerate() {
            writeln!(text, "  - name: {}\n    action: core.noop", name(index))
                .expect("a string grows");
            for field in task.fields() {
                writeln!(text, "    {field}").expect("a string grows");
            }
        }
        text
    }

    /// Whether a transition, or a need, leads from one task straight to another.
    pub fn leads(&self, from: usize, to: usize) -> bool {
        self.transitions(from, to) > 0 || self.needs(to).contains(&from)
    }

    pub fn transitions(&self, from: usize, to: usize) -> usize {
        let edges = self.tasks[from].edges.iter();
        edges.filter(|edge| edge.to.contains(&To::Task(to))).count()
    }

    pub fn needs(&self, task: usize) -> &[usize] {
        let needs = self.tasks[task].needs.as_ref();
        needs.map_or(&[], |(needs, _)| needs)
    }

    /// The tasks with a transition to this one.
    pub fn predecessors(&self, task: usize) -> Vec<usize> {
        let all = 0..self.tasks.len();
        all.filter(|from| self.transitions(*from, task) > 0)
            .collect()
    }

    /// Whether some path of at least one step leads from one task to another.
    pub fn reaches(&self, from: usize, to: usize) -> bool {
        let mut seen = vec![false; self.tasks.len()];
        let mut open = vec![from];
        while let Some(at) = open.pop() {
            for (next, seen) in seen.iter_mut().enumerate() {
                if self.leads(at, next) {
                    if next == to {
                        return true;
                    }
                    if !std::mem::replace(seen, true) {
                        open.push(next);
                    }
                }
            }
        }
        false
    }
}

impl Task {
    fn fields(&self) -> Vec<String> {
        let mut fields = Vec::new();
        match self.join {
            Some(Join::All) => fields.push("join: all".to_owned()),
            Some(Join::Active) => fields.push("join: active".to_owned()),
            Some(Join::Count(count)) => fields.push(format!("join: {count}")),
            None => {}
        }
        if let Some((needs, rule)) = &self.needs {
            fields.push(format!("needs: {}", names(needs)));
            fields.push(format!("rule: {rule}"));
        }
        if let Some(Guard { name, parity }) = self.guard {
            fields.push(format!("when: \"{{{{ vars.{name} % 2 == {parity} }}}}\""));
        }
        if self.retries > 0 {
            fields.push(format!("retry: {{count: {}}}", self.retries));
        }
        if let Some(publish) = &self.publish {
            fields.push(format!("publish: {}", publish.yaml()));
        }
        if self.ignore_failure {
            fields.push("ignore_failure: true".to_owned());
        }
        if !self.edges.is_empty() {
            fields.push("next:".to_owned());
            fields.extend(self.edges.iter().map(Edge::yaml));
        }
        fields
    }
}

impl Edge {
    fn yaml(&self) -> String {
        let when = match self.on {
            On::Success => "when: \"{{ succeeded() }}\", ",
            On::Failure => "when: \"{{ failed() }}\", ",
            On::Timeout => "when: \"{{ timed_out() }}\", ",
            On::Complete => "",
        };
        let publish = self.publish.as_ref().map_or(String::new(), |publish| {
            format!("publish: {}, ", publish.yaml())
        });
        let to: Vec<String> = self
            .to
            .iter()
            .map(|to| match to {
                To::Task(task) => name(*task),
                To::Noop => "noop".to_owned(),
                To::Fail => "fail".to_owned(),
            })
            .collect();
        format!("  - {{{when}{publish}do: [{}]}}", to.join(", "))
    }
}
