//! `show`: one execution with its tasks and, if asked, its transitions.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use clap::Args;
use flotilla_coordinator::storage::Shown;
use flotilla_coordinator::waits::Waits;
use flotilla_protocol::{ExecutionId, TaskId};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::arguments::Global;
use crate::database::Database;
use crate::failure::{Exit, Failure};
use crate::output::{paint, print, print_json, printable, shade_of, table};
use crate::waits::Looker;

/// The most characters of a value or message that people see in a table.
const SHOWN_CHARS: usize = 120;
/// The most characters of the parameters, the output or the tags of an execution that people see.
const SHOWN_VALUE: usize = 1_000;

const AFTER_HELP: &str = "\
It also says why something is not running. What the broker knows of it (`no consumer on pool gpu`) is said if the \
broker can be reached.

Example: flotilla show 0190b6a4-0000-7000-8000-000000000001 --transitions";

/// What `show` takes.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct ShowArguments {
    /// The execution
    #[arg(value_name = "ID")]
    id: ExecutionId,
    /// Show every transition, too
    #[arg(long)]
    transitions: bool,
}

/// Shows the execution.
pub async fn run(global: &Global, arguments: &ShowArguments) -> Result<Exit, Failure> {
    let database = Database::connect(&global.database_url()?).await?;
    let found = database.show(arguments.id).await?;
    let Some(shown) = found else {
        return Err(unknown(arguments.id));
    };
    let waits = waits(global, &database, &shown, arguments.id).await?;
    if global.output.is_json() {
        let transitions = if arguments.transitions {
            shown.transitions
        } else {
            Vec::new()
        };
        let tasks: Vec<Value> = shown
            .tasks
            .into_iter()
            .map(|task| with_waits(&waits, task))
            .collect();
        print_json(&json!({
            "execution": shown.execution, "tasks": tasks, "transitions": transitions
        }));
    } else {
        print(&sheet(&shown, &waits));
        if arguments.transitions {
            print(&format!("\n{}", transitions(&shown)));
        }
        print(&format!("\n{}", psql_line(global, arguments.id)));
    }
    Ok(Exit::Done)
}

/// There is no such execution.
pub fn unknown(id: ExecutionId) -> Failure {
    Failure::refused(format!("there is no execution {id}"))
        .hint("`flotilla list` shows those that there are")
        .of_kind("unknown_execution")
}

/// What is waited for; nothing, once the execution has ended.
async fn waits(
    global: &Global,
    database: &Database,
    shown: &Shown,
    id: ExecutionId,
) -> Result<Waits, Failure> {
    if !shown.execution["finished_at"].is_null() {
        return Ok(Waits::default());
    }
    let mut looker = Looker::new(global);
    let waits = looker.look(database, id).await;
    looker.close().await;
    waits
}

/// What a task waits for.
pub fn waits_for<'a>(waits: &'a Waits, task: &Value) -> Option<&'a str> {
    let id = Uuid::parse_str(task["task_id"].as_str()?).ok()?;
    waits.tasks.get(&TaskId(id)).map(String::as_str)
}

fn with_waits(waits: &Waits, mut task: Value) -> Value {
    task["waits_for"] = json!(waits_for(waits, &task));
    task
}

/// The psql command that shows the same.
fn psql_line(global: &Global, id: ExecutionId) -> String {
    let psql = format!(
        "psql \"$DATABASE_URL\" -xc \"SELECT * FROM workflow_execution_summary WHERE execution_id = '{id}'\" \
         -c \"SELECT * FROM workflow_task_detail WHERE execution_id = '{id}'\""
    );
    match global.env_file() {
        Some(file) => format!("(. {file}; {psql})"),
        None => psql,
    }
}

fn sheet(shown: &Shown, waits: &Waits) -> String {
    let execution = &shown.execution;
    let status = text(&execution["status"]);
    let mut lines = vec![
        format!("execution   {}", text(&execution["execution_id"])),
        format!(
            "workflow    {} {}",
            text(&execution["workflow"]),
            text(&execution["version"])
        ),
        format!("status      {}", paint(&status, shade_of(&status))),
        format!("created     {}", time(&execution["created_at"])),
        format!("finished    {}", time(&execution["finished_at"])),
        format!(
            "duration    {}",
            duration(&execution["started_at"], &execution["finished_at"])
        ),
    ];
    if let Some(parent) = execution["parent_execution_id"].as_str() {
        lines.push(format!("child of    {parent}"));
    }
    for name in ["tags", "parameters", "output"] {
        let value = &execution[name];
        if !is_empty(value) {
            lines.push(format!("{name:<11} {}", bounded(name, &text(value))));
        }
    }
    if let Some(reason) = &waits.execution {
        lines.push(format!("waits for   {reason}"));
    }
    for error in execution["errors"].as_array().into_iter().flatten() {
        lines.push(format!("error       {}", error_text(error)));
    }
    let mut header = vec!["task", "status", "attempt", "duration", "worker", "error"];
    if !waits.tasks.is_empty() {
        header.push("waits for");
    }
    let rows = shown.tasks.iter().map(|task| {
        let mut row = task_row(task);
        if !waits.tasks.is_empty() {
            row.push(waits_for(waits, task).unwrap_or_default().to_owned());
        }
        row
    });
    lines.push(String::new());
    lines.push(table(&header, rows));
    lines.join("\n")
}

/// The value of an execution as far as it leaves its tasks in sight.
fn bounded(name: &str, text: &str) -> String {
    let count = text.chars().count();
    if count <= SHOWN_VALUE {
        return text.to_owned();
    }
    let kept: String = text.chars().take(SHOWN_VALUE).collect();
    format!("{kept}… ({count} characters; the psql line below shows all of `{name}`)")
}

/// The name with the visit, if it is not the first, and the item.
pub fn task_name(task: &Value) -> String {
    let visit = task["visit"].as_i64().unwrap_or(1);
    let mut name = text(&task["task"]);
    if visit > 1 {
        name = format!("{name}#{visit}");
    }
    if let Some(index) = task["item_index"].as_i64() {
        name = format!("{name}[{index}]");
    }
    name
}

fn task_row(task: &Value) -> Vec<String> {
    let mut row = task_cells(task);
    row.push(error_cell(task));
    row
}

/// What is shown of a task wherever tasks are listed: name, status, attempt, duration, worker.
pub fn task_cells(task: &Value) -> Vec<String> {
    let begun = if task["started_at"].is_null() {
        &task["dispatched_at"]
    } else {
        &task["started_at"]
    };
    vec![
        task_name(task),
        text(&task["status"]),
        format!("{}/{}", text(&task["attempt"]), text(&task["max_attempts"])),
        duration(begun, &task["finished_at"]),
        text(&task["worker"]),
    ]
}

/// The error of the last attempt, short.
pub fn error_cell(task: &Value) -> String {
    match task["error_kind"].as_str() {
        Some(kind) => short(&printable(&format!(
            "{kind}: {}",
            text(&task["error_message"])
        ))),
        None => String::new(),
    }
}

/// The table of transitions; each line begins with its number.
fn transitions(shown: &Shown) -> String {
    let named: BTreeMap<&str, String> = shown
        .tasks
        .iter()
        .filter_map(|task| Some((task["task_id"].as_str()?, task_name(task))))
        .collect();
    let header = [
        "seq", "at", "task", "kind", "attempt", "from", "to", "detail",
    ];
    let rows = shown.transitions.iter().map(|transition| {
        let task = transition["task_id"].as_str();
        vec![
            text(&transition["seq"]),
            time(&transition["at"]),
            task.and_then(|id| named.get(id).cloned())
                .unwrap_or_default(),
            text(&transition["kind"]),
            text(&transition["attempt"]),
            text(&transition["from_status"]),
            text(&transition["to_status"]),
            short(&text(&transition["detail"])),
        ]
    });
    table(&header, rows)
}

/// An error of an execution in one line.
pub fn error_text(error: &Value) -> String {
    let kind = error["kind"].as_str();
    let message = error["message"].as_str();
    match (error["task"].as_str(), kind, message) {
        (Some(task), Some(kind), Some(message)) => {
            printable(&format!("task {task}: {kind}: {message}"))
        }
        (None, Some(kind), Some(message)) => printable(&format!("{kind}: {message}")),
        (_, _, _) => printable(&error.to_string()),
    }
}

/// A value in a table: texts as they are, null as nothing, the rest as JSON.
pub fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => printable(text),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            printable(&value.to_string())
        }
    }
}

/// A text of bounded length.
pub fn short(text: &str) -> String {
    if text.chars().count() <= SHOWN_CHARS {
        return text.to_owned();
    }
    let kept: String = text.chars().take(SHOWN_CHARS - 1).collect();
    format!("{kept}…")
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// A time to the millisecond, in UTC.
pub fn time(value: &Value) -> String {
    match parsed(value) {
        Some(at) => at.format("%Y-%m-%d %H:%M:%S%.3fZ").to_string(),
        None => text(value),
    }
}

/// Seconds between two times; until now where the second is missing.
pub fn duration(from: &Value, to: &Value) -> String {
    let Some(from) = parsed(from) else {
        return String::new();
    };
    let passed = match parsed(to) {
        Some(to) => to - from,
        None => Utc::now() - from,
    };
    let ms = passed.num_milliseconds().max(0);
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{:02} s", ms / 1_000, ms % 1_000 / 10),
        _ => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1_000),
    }
}

fn parsed(value: &Value) -> Option<DateTime<Utc>> {
    let at = DateTime::parse_from_rfc3339(value.as_str()?).ok()?;
    Some(at.to_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_at_a_glance() {
        let at = |text: &str| Value::from(text);
        let from = at("2026-01-01T00:00:00Z");
        assert_eq!(duration(&from, &at("2026-01-01T00:00:00.5Z")), "500 ms");
        assert_eq!(duration(&from, &at("2026-01-01T00:00:01.234Z")), "1.23 s");
        assert_eq!(duration(&from, &at("2026-01-01T00:01:05Z")), "1 min 5 s");
        assert_eq!(duration(&Value::Null, &from), "");
    }

    #[test]
    fn a_long_value_is_cut_and_says_how_long_it_is() {
        assert_eq!(bounded("output", &"é".repeat(1_000)), "é".repeat(1_000));
        let cut = bounded("output", &"é".repeat(1_001));
        assert!(cut.starts_with(&format!("{}… (1001 characters", "é".repeat(1_000))));
        assert!(cut.ends_with("shows all of `output`)"), "{cut}");
    }

    #[test]
    fn a_task_is_one_row() {
        let task = json!({
            "task": "pack", "visit": 2, "item_index": null, "status": "failed", "attempt": 1,
            "max_attempts": 3, "worker": "w", "error_kind": "exit_code", "error_message": "2\nx",
            "started_at": "2026-01-01T00:00:00Z", "finished_at": "2026-01-01T00:00:01Z"
        });
        assert_eq!(
            task_row(&task),
            ["pack#2", "failed", "1/3", "1.00 s", "w", "exit_code: 2 x"]
        );
    }
}
