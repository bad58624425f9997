//! Why something is not running, in words: a function of the rows and of what the broker says.

use std::collections::BTreeMap;

use flotilla_engine::workflow::{Join, TaskIndex, Workflow};
use flotilla_protocol::TaskId;
use flotilla_protocol::amqp::QueueState;
use serde_json::Value;

use crate::storage::{LiveExecution, LiveTask};

/// What is known of the queues of pools; a pool that was not asked about is absent, and one that has
/// no queue has none.
pub type Pools = BTreeMap<String, Option<QueueState>>;

/// What an execution and its tasks wait for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Waits {
    /// The execution as a whole.
    pub execution: Option<String>,
    /// Those of its live tasks that wait, by their ids.
    pub tasks: BTreeMap<TaskId, String>,
}

/// Says what is waited for. `resume` is the command that resumes the execution; without `workflow`
/// nothing is said about joins, and without a pool in `pools` nothing about its jobs.
#[must_use]
pub fn waits(
    live: &LiveExecution,
    workflow: Option<&Workflow>,
    pools: &Pools,
    resume: &str,
) -> Waits {
    let execution = match live.status.as_str() {
        "succeeded" | "failed" | "cancelled" | "timed_out" => return Waits::default(),
        _ if !live.is_owned => Some(format!("no coordinator owns partition {}", live.partition)),
        "paused" => Some(format!("paused: resume with {resume}")),
        _ => None,
    };
    let tasks = live.tasks.iter();
    let tasks = tasks.filter_map(|task| {
        let reason = reason(live, task, workflow, pools, resume)?;
        Some((task.task_id, reason))
    });
    Waits {
        tasks: tasks.collect(),
        execution,
    }
}

fn reason(
    live: &LiveExecution,
    task: &LiveTask,
    workflow: Option<&Workflow>,
    pools: &Pools,
    resume: &str,
) -> Option<String> {
    if let Some((kind, due_in_s)) = &task.timer
        && kind == "cancel"
    {
        return Some(format!("told to stop, given up {}", in_time(*due_in_s)));
    }
    match task.status.as_str() {
        "dispatched" => at_the_broker(task.pool.as_deref()?, pools),
        "running" => match task.child {
            Some(child) => Some(format!("the sub-workflow {child} runs")),
            None => task.item_progress.as_ref().and_then(items),
        },
        _ if !live.is_owned => Some(format!("no coordinator owns partition {}", live.partition)),
        _ if task.is_held => Some(held(&live.status, resume)),
        "retrying" if is_limited(task) => Some(format!("given up {}", due(task))),
        "retrying" => Some(format!("retry {}", due(task))),
        "delayed" => Some(format!("delayed, due {}", due(task))),
        "waiting" => join(task, workflow?),
        _ => None,
    }
}

fn at_the_broker(pool: &str, pools: &Pools) -> Option<String> {
    Some(match pools.get(pool)? {
        None => format!(
            "pool {pool} has no queue: register the workflow again, or start a worker of it"
        ),
        Some(queue) if queue.consumers == 0 => format!("no consumer on pool {pool}"),
        Some(QueueState { messages: 0, .. }) => format!("taken by a worker of pool {pool}"),
        Some(QueueState { messages: 1, .. }) => {
            format!("waits for a worker of pool {pool} (1 job waits)")
        }
        Some(queue) => format!(
            "waits for a worker of pool {pool} ({} jobs wait)",
            queue.messages
        ),
    })
}

/// How far a task has come with its items: `60 of 100 items are done, 20 in flight, 1 has failed`. `None`
/// if that cannot be read.
#[must_use]
pub fn items(progress: &Value) -> Option<String> {
    let number = |name: &str| progress[name].as_u64();
    let (count, next, active) = (number("count")?, number("next")?, number("active")?);
    let mut text = format!(
        "{} of {count} items are done, {active} in flight",
        next.saturating_sub(active)
    );
    if let Some(failed) = number("failed").filter(|failed| *failed > 0) {
        text = format!("{text}, {failed} failed");
    }
    Some(text)
}

fn held(status: &str, resume: &str) -> String {
    match status {
        "pausing" | "paused" => format!("paused: resume with {resume}"),
        status => format!("held back: the execution is {status}"),
    }
}

/// Whether the time over all attempts passes before the next one.
fn is_limited(task: &LiveTask) -> bool {
    let timer = task.timer.as_ref();
    timer.is_some_and(|(kind, _)| kind == "total_timeout")
}

fn due(task: &LiveTask) -> String {
    match &task.timer {
        Some((_, due_in_s)) => in_time(*due_in_s),
        None => "now".to_owned(),
    }
}

/// `in 12 s`; `now` for what is overdue.
fn in_time(seconds: f64) -> String {
    match seconds {
        ..=0.0 => "now".to_owned(),
        ..=9.95 => format!("in {seconds:.1} s"),
        ..=599.0 => format!("in {seconds:.0} s"),
        ..=35_999.0 => format!("in {:.0} min", seconds / 60.0),
        _ => format!("in {:.1} h", seconds / 3600.0),
    }
}

fn join(task: &LiveTask, workflow: &Workflow) -> Option<String> {
    let index = workflow.by_name.get(task.task.as_str())?;
    let waiting = &workflow.tasks[index.0];
    let name = &waiting.name;
    let absent = |tasks: &[TaskIndex]| {
        let absent = tasks
            .iter()
            .filter(|other| !task.arrived.contains(&other.0) && !waiting.is_fork(**other))
            .map(|other| &*workflow.tasks[other.0].name);
        absent.collect::<Vec<&str>>().join(", ")
    };
    if let Some(needs) = &waiting.needs {
        let (rule, open) = (needs.rule.word(), absent(&needs.tasks));
        return (!open.is_empty()).then(|| format!("{name} ({rule}) waits for the end of {open}"));
    }
    let missing = absent(&waiting.predecessors);
    if missing.is_empty() && waiting.join != Some(Join::Active) {
        return None;
    }
    if waiting.parallel.is_some() {
        return Some(format!("{name} waits for the end of {missing}"));
    }
    Some(match waiting.join? {
        Join::All => format!("join {name} still needs {missing}"),
        Join::Count(count) => {
            let arrived = task.arrived.len();
            format!("join {name} has {arrived} of {count} arrivals, others may come from {missing}")
        }
        Join::Active if missing.is_empty() => {
            format!("join {name} waits for branches that may still reach it")
        }
        Join::Active => format!("join {name} waits while {missing} may still reach it"),
    })
}

#[cfg(test)]
mod tests {
    use flotilla_engine::{DefinitionHash, compile};
    use uuid::Uuid;

    use super::*;

    const RESUME: &str = "flotilla resume ID";
    const JOIN: &str = "
ref: waits.join
tasks:
  - {name: a, on_success: merge}
  - {name: b, on_success: merge}
  - {name: merge, join: all}
";

    fn task(status: &str) -> LiveTask {
        LiveTask {
            task_id: TaskId(Uuid::from_u128(1)),
            task: "merge".to_owned(),
            status: status.to_owned(),
            is_held: false,
            pool: Some("gpu".to_owned()),
            child: None,
            arrived: vec![0],
            timer: None,
            item_progress: None,
        }
    }

    fn live(status: &str, task: LiveTask) -> LiveExecution {
        LiveExecution {
            status: status.to_owned(),
            partition: 3,
            is_owned: true,
            definition: DefinitionHash([0; 32]),
            tasks: vec![task],
        }
    }

    /// What the only task of a running execution waits for.
    fn says(task: LiveTask, pools: &Pools) -> Option<String> {
        let workflow = compile(JOIN).expect("it is sound").workflow;
        let live = live("running", task);
        let waits = waits(&live, Some(&workflow), pools, RESUME);
        waits.tasks.into_values().next()
    }

    fn with_timer(status: &str, kind: &str, seconds: f64) -> LiveTask {
        LiveTask {
            timer: Some((kind.to_owned(), seconds)),
            ..task(status)
        }
    }

    #[test]
    fn a_join_names_what_is_missing() {
        let none = Pools::new();
        assert_eq!(
            says(task("waiting"), &none).as_deref(),
            Some("join merge still needs b")
        );
        let live = live("running", task("waiting"));
        let waits = waits(&live, None, &none, RESUME);
        assert_eq!(waits, Waits::default(), "without the definition");
    }

    #[test]
    fn joins_of_some_and_tasks_with_needs_say_what_may_come() {
        let says = |yaml: &str, arrived: &[usize]| {
            let workflow = compile(&format!("ref: waits.some\ntasks:\n{yaml}"));
            let workflow = workflow.expect("it is sound").workflow;
            let waiting = LiveTask {
                arrived: arrived.to_vec(),
                ..task("waiting")
            };
            let waits = waits(
                &live("running", waiting),
                Some(&workflow),
                &Pools::new(),
                RESUME,
            );
            waits.tasks.into_values().next()
        };
        let entries = "- {name: a, on_success: merge}\n- {name: b, on_success: merge}\n\
                       - {name: c, on_success: merge}\n";
        let join = |join: &str| format!("{entries}- {{name: merge, join: {join}}}");
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(
            says(&join("2"), &[1]),
            text("join merge has 1 of 2 arrivals, others may come from a, c")
        );
        assert_eq!(
            says(&join("active"), &[1]),
            text("join merge waits while a, c may still reach it")
        );
        assert_eq!(
            says(&join("active"), &[0, 1, 2]),
            text("join merge waits for branches that may still reach it")
        );
        let needs = "- {name: a}\n- {name: b}\n- {name: merge, needs: [a, b], rule: all_done}";
        assert_eq!(
            says(needs, &[0]),
            text("merge (all_done) waits for the end of b")
        );
    }

    #[test]
    fn timers_say_when() {
        let none = Pools::new();
        for (seconds, when) in [
            (12.3, "in 12 s"),
            (0.25, "in 0.2 s"),
            (-1.0, "now"),
            (1200.0, "in 20 min"),
            (36_000.0, "in 10.0 h"),
        ] {
            let retry = says(with_timer("retrying", "retry", seconds), &none);
            assert_eq!(retry, Some(format!("retry {when}")));
        }
        assert_eq!(says(task("retrying"), &none).as_deref(), Some("retry now"));
        assert_eq!(
            says(with_timer("retrying", "total_timeout", 30.0), &none).as_deref(),
            Some("given up in 30 s")
        );
        assert_eq!(
            says(with_timer("delayed", "dispatch", 30.0), &none).as_deref(),
            Some("delayed, due in 30 s")
        );
        assert_eq!(
            says(with_timer("running", "cancel", 30.0), &none).as_deref(),
            Some("told to stop, given up in 30 s")
        );
        assert_eq!(says(with_timer("running", "deadline", 30.0), &none), None);
    }

    #[test]
    fn a_task_with_items_says_how_far_it_is() {
        let with_items = |progress| LiveTask {
            item_progress: Some(progress),
            ..task("running")
        };
        let none = Pools::new();
        let progress = serde_json::json!({"count": 100, "next": 80, "active": 20, "failed": 1});
        assert_eq!(
            says(with_items(progress), &none).as_deref(),
            Some("60 of 100 items are done, 20 in flight, 1 failed")
        );
        assert_eq!(says(with_items(serde_json::json!({})), &none), None);
    }

    #[test]
    fn the_broker_tells_why_a_job_waits() {
        let state = |messages, consumers| {
            let state = QueueState {
                messages,
                consumers,
            };
            Pools::from([("gpu".to_owned(), Some(state))])
        };
        for (pools, expected) in [
            (Pools::new(), None),
            (
                Pools::from([("gpu".to_owned(), None)]),
                Some("pool gpu has no queue: register the workflow again, or start a worker of it"),
            ),
            (state(3, 0), Some("no consumer on pool gpu")),
            (state(0, 2), Some("taken by a worker of pool gpu")),
            (
                state(1, 1),
                Some("waits for a worker of pool gpu (1 job waits)"),
            ),
            (
                state(17, 2),
                Some("waits for a worker of pool gpu (17 jobs wait)"),
            ),
        ] {
            assert_eq!(says(task("dispatched"), &pools).as_deref(), expected);
        }
    }

    #[test]
    fn pauses_failures_and_orphans_are_told_apart() {
        let workflow = compile(JOIN).expect("it is sound").workflow;
        let held = || LiveTask {
            is_held: true,
            ..task("waiting")
        };
        let of = |live: &LiveExecution| {
            let waits = waits(live, Some(&workflow), &Pools::new(), RESUME);
            (waits.execution, waits.tasks.into_values().next())
        };
        let text = |text: &str| Some(text.to_owned());
        let paused = text("paused: resume with flotilla resume ID");
        assert_eq!(
            of(&live("paused", held())),
            (paused.clone(), paused.clone())
        );
        assert_eq!(of(&live("pausing", held())), (None, paused));
        assert_eq!(
            of(&live("failing", held())),
            (None, text("held back: the execution is failing"))
        );
        let orphan = LiveExecution {
            is_owned: false,
            ..live("running", with_timer("retrying", "retry", 5.0))
        };
        let nobody = text("no coordinator owns partition 3");
        assert_eq!(of(&orphan), (nobody.clone(), nobody));
        assert_eq!(
            of(&live("failed", held())),
            (None, None),
            "nothing is awaited"
        );
    }
}
