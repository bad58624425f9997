//! `list`: executions, the newest first, a page at a time.

use clap::Args;
use clap::builder::PossibleValuesParser;
use flotilla_coordinator::storage::ListFilter;
use serde_json::{Value, json};

use super::show::{duration, text, time};
use crate::arguments::Global;
use crate::database::Database;
use crate::failure::{Exit, Failure};
use crate::output::{print, print_json, table};

/// The words of the SQL type `execution_status`.
const STATUSES: [&str; 9] = [
    "running",
    "pausing",
    "paused",
    "cancelling",
    "failing",
    "succeeded",
    "failed",
    "cancelled",
    "timed_out",
];

/// What `list` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: flotilla list --status failed --workflow examples.order --limit 10"
)]
pub struct ListArguments {
    /// Only those of this status
    #[arg(long, value_name = "S", value_parser = PossibleValuesParser::new(STATUSES))]
    status: Option<String>,
    /// Only those of this workflow
    #[arg(long, value_name = "REF")]
    workflow: Option<String>,
    /// How many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Where the last page ended (`next`)
    #[arg(long, value_name = "C")]
    cursor: Option<String>,
}

/// Shows a page.
pub async fn run(global: &Global, arguments: &ListArguments) -> Result<Exit, Failure> {
    let database = Database::connect(&global.database_url()?).await?;
    let filter = ListFilter {
        status: arguments.status.clone(),
        workflow: arguments.workflow.clone(),
        limit: arguments.limit,
        cursor: arguments.cursor.clone(),
    };
    let (executions, next) = database.list(&filter).await?;
    if global.output.is_json() {
        print_json(&json!({"executions": executions, "next": next}));
        return Ok(Exit::Done);
    }
    let header = [
        "execution",
        "workflow",
        "version",
        "status",
        "created",
        "duration",
        "tasks",
        "failed",
    ];
    print(&table(&header, executions.iter().map(row)));
    if let Some(next) = next {
        print(&format!("more: --cursor {next}"));
    }
    Ok(Exit::Done)
}

fn row(execution: &Value) -> Vec<String> {
    vec![
        text(&execution["execution_id"]),
        text(&execution["workflow"]),
        text(&execution["version"]),
        text(&execution["status"]),
        time(&execution["created_at"]),
        duration(&execution["started_at"], &execution["finished_at"]),
        text(&execution["tasks_total"]),
        text(&execution["tasks_failed"]),
    ]
}
