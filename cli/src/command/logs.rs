//! `logs`: the lines that the tasks of an execution have logged, and with `-f` those to come.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use flotilla_coordinator::storage::ReadUpTo;
use flotilla_protocol::{ExecutionId, TaskId};
use serde_json::Value;
use tokio::time::Instant;

use super::show::{task_name, text, time, unknown};
use crate::arguments::Global;
use crate::database::Database;
use crate::failure::{Exit, Failure};
use crate::output::{is_colourful, print, printable};

/// How often it looks for lines to come.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long lines may come after the end of the execution: they are stored beside its state.
const LATE_LINES: Duration = Duration::from_secs(1);

/// What `logs` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: flotilla logs 0190b6a4-0000-7000-8000-000000000001 charge --follow"
)]
pub struct LogsArguments {
    /// The execution
    #[arg(value_name = "ID")]
    id: ExecutionId,
    /// Only the lines of this task, all its visits and attempts
    #[arg(value_name = "TASK")]
    task: Option<String>,
    /// Go on until the execution has ended
    #[arg(short, long)]
    follow: bool,
}

/// Prints lines: what is there, and what comes.
pub async fn run(global: &Global, arguments: &LogsArguments) -> Result<Exit, Failure> {
    let database = Database::connect(&global.database_url()?).await?;
    let mut reader = Reader {
        database,
        id: arguments.id,
        task: arguments.task.clone(),
        is_json: global.output.is_json(),
        is_colourful: is_colourful(),
        read: BTreeMap::new(),
    };
    reader.refuse_unknown_task().await?;
    let mut ended_at: Option<Instant> = None;
    loop {
        // Looked at before the lines: what is logged before the end is there soon after it.
        if reader.has_ended().await? && ended_at.is_none() {
            ended_at = Some(Instant::now());
        }
        reader.print_new().await?;
        let is_over = ended_at.is_some_and(|at| at.elapsed() >= LATE_LINES);
        if !arguments.follow || is_over {
            return Ok(Exit::Done);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Reads the log of an execution piece by piece.
struct Reader {
    database: Database,
    id: ExecutionId,
    task: Option<String>,
    is_json: bool,
    is_colourful: bool,
    /// The last line of each attempt that has been printed.
    read: BTreeMap<(TaskId, i32), i32>,
}

impl Reader {
    async fn has_ended(&self) -> Result<bool, Failure> {
        let ended = self.database.has_ended(self.id).await?;
        ended.ok_or_else(|| unknown(self.id))
    }

    /// A name that no task of the workflow has would wait for lines for ever.
    async fn refuse_unknown_task(&self) -> Result<(), Failure> {
        let Some(task) = self.task.as_deref() else {
            return Ok(());
        };
        let live = self.database.live(self.id).await?;
        let definition = live.ok_or_else(|| unknown(self.id))?.definition;
        // Of a definition that this version cannot read, the lines alone tell.
        let Some(workflow) = self.database.definition(definition).await? else {
            return Ok(());
        };
        if workflow.by_name.contains_key(task) {
            return Ok(());
        }
        let names: Vec<&str> = workflow.by_name.keys().map(|name| &**name).collect();
        Err(
            Failure::refused(format!("{} has no task {task}", workflow.reference))
                .hint(format!("its tasks are {}", names.join(", ")))
                .of_kind("unknown_task"),
        )
    }

    /// Prints what has not been printed yet.
    async fn print_new(&mut self) -> Result<(), Failure> {
        let read: Vec<ReadUpTo> = self
            .read
            .iter()
            .map(|(&(task_id, attempt), &line_no)| ReadUpTo {
                task_id,
                attempt,
                line_no,
            })
            .collect();
        let (is_json, is_colourful, printed) = (self.is_json, self.is_colourful, &mut self.read);
        let take = |line: Value| {
            if let Some((attempt, line_no)) = place(&line) {
                let last = printed.entry(attempt).or_default();
                *last = line_no.max(*last);
            }
            if is_json {
                print(&line.to_string());
            } else {
                print(&for_people(&line, is_colourful));
            }
        };
        self.database
            .log(self.id, self.task.as_deref(), &read, take)
            .await
    }
}

/// Which attempt a line is of, and its number there.
fn place(line: &Value) -> Option<((TaskId, i32), i32)> {
    let task_id = TaskId(line["task_id"].as_str()?.parse().ok()?);
    let number = |name: &str| i32::try_from(line[name].as_i64()?).ok();
    Some(((task_id, number("attempt")?), number("line_no")?))
}

/// Time, task with the attempt if it is not the first, stream, text.
fn for_people(line: &Value, is_colourful: bool) -> String {
    let mut task = task_name(line);
    if let Some(attempt) = line["attempt"].as_i64().filter(|attempt| *attempt > 1) {
        task = format!("{task}/{attempt}");
    }
    let stream = text(&line["stream"]);
    let stream = if is_colourful {
        let colour = match stream.as_str() {
            "stdout" => 32,
            "stderr" => 31,
            _ => 36,
        };
        format!("\u{1b}[{colour}m{stream:<6}\u{1b}[0m")
    } else {
        format!("{stream:<6}")
    };
    let said = printable(line["text"].as_str().unwrap_or_default());
    format!("{} {task} {stream} {said}", time(&line["at"]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_line_tells_when_who_and_where() {
        let mut line = json!({
            "task": "charge", "visit": 1, "item_index": null, "attempt": 1, "line_no": 7,
            "task_id": "0190f3c0-1b2a-7abc-9def-000000000007",
            "at": "2026-03-01T12:00:00.25Z", "stream": "log", "text": "one\ttwo\u{1b}[31m"
        });
        assert_eq!(
            for_people(&line, false),
            "2026-03-01 12:00:00.250Z charge log    one two\u{fffd}[31m"
        );
        line["visit"] = json!(2);
        line["item_index"] = json!(4);
        line["attempt"] = json!(3);
        line["stream"] = json!("stderr");
        assert!(
            for_people(&line, true).contains(" charge#2[4]/3 \u{1b}[31mstderr\u{1b}[0m one two")
        );
        let (attempt, line_no) = place(&line).unwrap();
        assert_eq!((attempt.1, line_no), (3, 7));
    }
}
