//! The checked definition, as the state machine uses it: tasks by index, routes in one general
//! form, expressions compiled. Made by [`crate::definition`], immutable and shared from then on.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use petgraph::graph::DiGraph;

use crate::expression::{Condition, ValueTemplate};
use crate::json::Json;
use crate::output::OutputSchema;
use crate::parameters::ParameterSchema;
use crate::reach::Reach;
use crate::rule::Rule;

/// Identifies a definition: the SHA-256 of its bytes, and of what it gets of its pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DefinitionHash(pub [u8; 32]);

impl fmt::Display for DefinitionHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Position of a task in its definition, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskIndex(pub usize);

/// A definition that has passed every check.
#[derive(Debug)]
pub struct Workflow {
    /// Identifies it.
    pub hash: DefinitionHash,
    /// What `pack` is in expressions, an object; `None` for a workflow that belongs to no pack.
    pub pack: Option<Json>,
    /// `pack.name`.
    pub reference: Arc<str>,
    /// Its version; `"0.0.0"` where the file gives none.
    pub version: Arc<str>,
    /// What a start must bring.
    pub parameters: ParameterSchema,
    /// Initial variables, evaluated top to bottom; later ones see earlier ones.
    pub vars: Vec<(Arc<str>, ValueTemplate)>,
    /// Seconds that the whole execution may take, more than 0; `None`: no limit.
    pub timeout: Option<f64>,
    /// The tasks, in the order of the file.
    pub tasks: Vec<Task>,
    /// An edge for each pair of tasks of which one can lead to the other, or is needed by it; node `i`
    /// is task `i`.
    pub graph: DiGraph<TaskIndex, ()>,
    /// What leads where in that graph.
    pub reach: Reach,
    /// Where an execution begins: the tasks of `start`, else those that nothing leads to, in the order
    /// of the file.
    pub starts: Vec<TaskIndex>,
    /// Tasks that run by how others have ended, in the order of the file.
    pub needing: Vec<TaskIndex>,
    /// Tasks that run once everything else has ended, in the order written.
    pub finally: Vec<TaskIndex>,
    /// What happens to the rest once a failure was not handled.
    pub fail_policy: FailPolicy,
    /// What a cancel does to what runs.
    pub cancellation_policy: CancellationPolicy,
    /// Seconds that an attempt has to stop once it was told to; `None`: its own time limit.
    pub cancel_grace: Option<f64>,
    /// Visits of one task within one execution, from 1 to [`MOST_RUNS_PER_TASK`].
    pub max_runs_per_task: u32,
    /// `output_map`, evaluated top to bottom; `None` where the file has none.
    pub output: Option<Vec<(Arc<str>, ValueTemplate)>>,
    /// What `output_map` is to give; `None`: anything.
    pub output_schema: Option<OutputSchema>,
    /// Tasks that some expression reads as `task.<name>`: only their ends are kept in memory.
    pub watched: BTreeSet<TaskIndex>,
    /// Task by name.
    pub by_name: BTreeMap<Arc<str>, TaskIndex>,
    /// Items that one `with_items` may have, from 1 to [`MOST_ITEMS`].
    pub max_items: u32,
}

/// Items that one `with_items` may have where the file sets no `max_items`.
pub const DEFAULT_MAX_ITEMS: u32 = 100_000;
/// The largest `max_items` that a file may set.
pub const MOST_ITEMS: u32 = 10_000_000;

/// Visits of one task where the file sets no `max_runs_per_task`.
pub const DEFAULT_RUNS_PER_TASK: u32 = 10_000;
/// The largest `max_runs_per_task` that a file may set.
pub const MOST_RUNS_PER_TASK: u32 = 1_000_000;

/// What happens to the rest once a failure was not handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailPolicy {
    /// Nothing new is dispatched, what runs finishes.
    Drain,
    /// The other branches run to their end.
    Continue,
    /// As `Drain`, and what runs is told to stop.
    Cancel,
}

/// What a cancel does to what runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancellationPolicy {
    /// It is told to stop.
    CancelRunning,
    /// It may finish.
    AllowFinish,
}

/// One task of a definition.
#[derive(Debug)]
pub struct Task {
    /// Its position.
    pub index: TaskIndex,
    /// Its name.
    pub name: Arc<str>,
    /// What a worker runs, or the workflow that is run as a child, a text; `None`: nothing, the task
    /// succeeds at once.
    pub action: Option<ValueTemplate>,
    /// Whether the action is a workflow: each attempt is an execution of its own.
    pub is_workflow: bool,
    /// Input of the action, an object.
    pub input: ValueTemplate,
    /// Whether there are secrets in the input, which the worker fills in.
    pub has_secrets: bool,
    /// `with_items`: the action runs once for each item; `None`: once.
    pub items: Option<WithItems>,
    /// Guard: where it is false, the task is skipped.
    pub when: Option<Condition>,
    /// Seconds before the first attempt; `None`: none.
    pub delay: Option<ValueTemplate>,
    /// How failures are retried.
    pub retry: Option<Retry>,
    /// Seconds that one attempt may run; `None`: no limit. The default is written out here.
    pub timeout: Option<ValueTemplate>,
    /// Seconds over all attempts and the waits between them, more than 0, from the first dispatch;
    /// of a task with items over the whole; `None`: no limit.
    pub total_timeout: Option<f64>,
    /// Seconds of silence after which an attempt is given up, 1 or more; `None`: it may be silent.
    pub heartbeat: Option<f64>,
    /// The worker pool.
    pub pool: Arc<str>,
    /// Redeliveries after which a job whose workers die is given up.
    pub max_redeliveries: u32,
    /// Which arrivals the task waits for before it runs; `None`: each arrival is a run.
    pub join: Option<Join>,
    /// The tasks by whose ends it runs, if it is of that style.
    pub needs: Option<Needs>,
    /// Tasks that need this one, ascending.
    pub needed_by: Vec<TaskIndex>,
    /// Whether its failure counts as success for what follows.
    pub ignore_failure: bool,
    /// Whether it runs once everything else has ended.
    pub is_finally: bool,
    /// Published when the task succeeds, before its routes are looked at.
    pub publish: Vec<Publish>,
    /// What follows the end of the task.
    pub routes: Routes,
    /// Tasks that can lead here, each once, ascending.
    pub predecessors: Vec<TaskIndex>,
    /// Whether the task has a route for timeouts alone; then a timeout is no failure to `on_failure`.
    pub handles_timeout: bool,
    /// Whether the task lies on a cycle.
    pub in_cycle: bool,
    /// Whether each entry opens a route: several transitions lead here, the task is on no cycle, and
    /// neither `join` nor `needs` brings them together.
    pub is_split: bool,
    /// Whether a split leads here, so that the task may be run on several routes.
    pub behind_split: bool,
    /// Whether the task may be visited more than once.
    pub may_repeat: bool,
    /// Whether some expression reads the result of the task as a whole.
    pub reads_result: bool,
    /// What it is the end of, if it is `parallel`.
    pub parallel: Option<Parallel>,
    /// Whether it is a part of a task that is `parallel`: its fork, or one of its children.
    pub is_part: bool,
}

impl Workflow {
    /// The parallel task of which a task is a child, else itself: what a failure of it is handled at.
    #[must_use]
    pub fn whole<'a>(&'a self, task: &'a Task) -> &'a Task {
        let has = |parallel: &Parallel| {
            parallel
                .children
                .iter()
                .any(|(_, child)| *child == task.index)
        };
        let mut tasks = self.tasks.iter();
        let whole = tasks.find(|whole| whole.parallel.as_ref().is_some_and(has));
        whole.unwrap_or(task)
    }
}

impl Task {
    /// Whether it is `parallel`, and the other task its fork.
    #[must_use]
    pub fn is_fork(&self, other: TaskIndex) -> bool {
        let parallel = self.parallel.as_ref();
        parallel.is_some_and(|parallel| parallel.fork == other)
    }
}

/// The parts of a task that is `parallel`. The task itself joins them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parallel {
    /// It is entered in place of the task, and leads to the children; where a guard or a delay keeps
    /// it from that, to the task itself.
    pub fork: TaskIndex,
    /// The children by the names that the file gives them, in its order.
    pub children: Vec<(Arc<str>, TaskIndex)>,
}

impl Parallel {
    /// Whether so much has arrived that the task has its end.
    #[must_use]
    pub fn is_complete(&self, arrived: &BTreeSet<TaskIndex>) -> bool {
        arrived.contains(&self.fork) || arrived.len() >= self.children.len()
    }
}

/// `with_items`, and what says how the items are run.
#[derive(Debug)]
pub struct WithItems {
    /// The items, a list.
    pub list: ValueTemplate,
    /// Items that one run takes as a list, 1 or more; `None`: one item, not in a list.
    pub batch_size: Option<u32>,
    /// Items (or batches) that may be in flight at once, 1 or more; `None`: as many as the server
    /// lets.
    pub concurrency: Option<ValueTemplate>,
    /// How many may fail while the task still succeeds.
    pub tolerate: Tolerance,
    /// What happens to the others once more have failed than are tolerated.
    pub on_item_failure: OnItemFailure,
}

/// How many items (or batches) may fail while their task still succeeds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Tolerance {
    /// So many.
    Count(u32),
    /// A share of all, 0 to 100; what is not whole is cut off.
    Percent(f64),
}

impl Tolerance {
    /// How many of `count` may fail.
    #[must_use]
    pub fn of(self, count: u32) -> u32 {
        match self {
            Self::Count(tolerated) => tolerated.min(count),
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a share of a u32, cut off on purpose"
            )]
            Self::Percent(share) => (f64::from(count) * share / 100.0) as u32,
        }
    }
}

/// What happens to the other items once more have failed than are tolerated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnItemFailure {
    /// They all run.
    Continue,
    /// Those that are in flight end, no others start.
    Drain,
    /// Those that are in flight are told to stop, no others start.
    Cancel,
}

/// Which arrivals a task waits for. Several transitions from one task are one arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Join {
    /// One from every predecessor.
    All,
    /// So many, from 1 to the number of predecessors.
    Count(u32),
    /// All that nothing alive can add to any more, at least one.
    Active,
}

/// By whose ends a task runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needs {
    /// The tasks, each once, ascending.
    pub tasks: Vec<TaskIndex>,
    /// What must hold of their ends.
    pub rule: Rule,
}

/// What follows the end of a task.
#[derive(Debug)]
pub enum Routes {
    /// All that hold are taken, in order (`next` and `on_*`).
    All(Vec<Route>),
    /// The first that holds is taken when the task succeeds (`decision`); the routes for other
    /// ends (`on_failure`, `on_timeout`, `on_complete`) stand beside it.
    First {
        /// The branches, in order; the default has no condition.
        branches: Vec<Branch>,
        /// Routes of the general form.
        others: Vec<Route>,
    },
}

/// One transition of the general form.
#[derive(Debug)]
pub struct Route {
    /// When it is taken.
    pub on: On,
    /// Published along this route only.
    pub publish: Vec<Publish>,
    /// Where it leads.
    pub targets: Targets,
}

/// One branch of a decision.
#[derive(Debug)]
pub struct Branch {
    /// When it is taken; `None` for the default.
    pub when: Option<Condition>,
    /// Published along this branch only.
    pub publish: Vec<Publish>,
    /// Where it leads.
    pub targets: Targets,
}

/// When a route is taken.
#[derive(Debug)]
pub enum On {
    /// After success, or a skip.
    Success,
    /// After a failure; also after a timeout if the task has no route for timeouts.
    Failure,
    /// After a timeout.
    Timeout,
    /// Always.
    Complete,
    /// Where the condition holds.
    When(Condition),
}

/// Where a route leads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Targets {
    /// The tasks, in the order written.
    pub tasks: Vec<TaskIndex>,
    /// Whether `fail` is among the targets: the execution fails.
    pub fail: bool,
    /// Whether `noop` is among the targets: nothing happens, and a failure counts as handled.
    pub noop: bool,
}

/// One entry of a publish list.
#[derive(Debug)]
pub struct Publish {
    /// The variable.
    pub name: Arc<str>,
    /// Its value; `None` for the whole result (a bare name).
    pub value: Option<ValueTemplate>,
}

/// How failed attempts are retried.
#[derive(Debug)]
pub struct Retry {
    /// Attempts after the first, a number of 0 or more.
    pub count: ValueTemplate,
    /// Seconds before the first retry.
    pub delay: Option<ValueTemplate>,
    /// How the delay grows.
    pub backoff: Backoff,
    /// Largest delay in seconds.
    pub max_delay: Option<f64>,
    /// Share of the delay, 0 to 1, that is spread at random.
    pub jitter: f64,
    /// Only where it holds is there another attempt; it is looked at after success, too.
    pub when: Option<Condition>,
}

/// How the delay between attempts grows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Backoff {
    /// The same each time.
    Constant,
    /// The delay times the number of the retry.
    Linear,
    /// The delay times `factor` for each retry after the first.
    Exponential {
        /// More than or equal to 1; 2 by default.
        factor: f64,
    },
}
