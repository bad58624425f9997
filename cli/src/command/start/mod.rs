//! `start`: publishes `workflow.start`, waits for the answer and, if asked, for the end.

mod replies;
mod request;
mod wait;

use std::time::Duration;

use clap::Args;
use flotilla_engine::yaml::closest;
use flotilla_protocol::ExecutionId;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::arguments::Global;
use crate::database::Database;
use crate::failure::{Exit, Failure};
use crate::output::{explain, print, print_json};
use crate::progress;
pub use request::{object_of, pair, seconds};

use replies::StartReplies;
use request::Request;
use wait::Ended;

/// How long a coordinator has to answer before the start counts as queued.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

const AFTER_HELP: &str = "\
Exit codes with --wait: 0 the execution succeeded; 1 it ended otherwise; 4 --wait-timeout ran out.

Example: flotilla start examples.order -p order_id=7 -p amount=1200 --wait";

/// What `start` takes.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct StartArguments {
    /// The workflow, pack.name
    #[arg(value_name = "REF")]
    workflow: String,
    /// A parameter; the value is JSON if it parses as JSON, else text (-p 'id="7"' is a text)
    #[arg(short = 'p', long = "param", value_name = "key=value", value_parser = request::pair)]
    parameters: Vec<(String, String)>,
    /// Parameters as one JSON object; -p wins over what it sets
    #[arg(long, value_name = "J", value_parser = request::object)]
    params_json: Option<serde_json::Map<String, Value>>,
    /// Version of the workflow [default: the newest that is registered]
    #[arg(long, value_name = "V")]
    version: Option<String>,
    /// Id of the execution; the same id twice is one execution [default: a new one]
    #[arg(long, value_name = "UUID")]
    id: Option<ExecutionId>,
    /// Idempotency key; the same key twice is one execution
    #[arg(long, value_name = "K")]
    key: Option<String>,
    /// A label, shown and searched in SQL
    #[arg(long = "tag", value_name = "k=v", value_parser = request::pair)]
    tags: Vec<(String, String)>,
    /// Wait for the end: exit 0 if the execution succeeded, else 1
    #[arg(long)]
    wait: bool,
    /// Wait so many seconds at most; then exit 4, and the execution goes on
    #[arg(long, value_name = "S", requires = "wait", value_parser = request::seconds)]
    wait_timeout: Option<Duration>,
}

/// What is known of the start.
#[derive(Debug, Default)]
struct Started {
    /// Unknown only while a start by key is not answered.
    id: Option<ExecutionId>,
    /// Unknown while no coordinator has answered.
    created: Option<bool>,
}

/// Starts the execution, and shows what became of it.
pub async fn run(global: &Global, arguments: &StartArguments) -> Result<Exit, Failure> {
    let request = Request::new(arguments)?;
    let deadline = arguments.wait_timeout.map(|limit| Instant::now() + limit);
    // The database only tells more, so a start does without it.
    let database = match global.known_database_url() {
        Some(url) => Database::connect(&url).await.ok(),
        None => None,
    };
    let mut replies = request.publish(&global.amqp_url()?).await?;
    let mut started = Started {
        id: request.id(),
        created: None,
    };
    if let Err(failure) = answer(&mut replies, &mut started, deadline).await {
        return Err(suggest(failure, database.as_ref(), &arguments.workflow).await);
    }
    if !arguments.wait {
        return Ok(show_started(global, &started, database.as_ref()).await);
    }
    if started.created.is_none() {
        explain(&format!("{NOT_ANSWERED}; still waiting"));
    }
    let line = progress::spinner(global.output, format!("execution {}", name(&started)));
    let ended = wait::end(
        &mut replies,
        &mut started,
        database.as_ref(),
        deadline,
        &line,
    )
    .await;
    line.finish_and_clear();
    let ended = ended?;
    replies.close().await;
    match ended {
        Some(ended) => Ok(show_ended(global, &started, &ended)),
        None => Ok(show_timeout(global, &started, database.as_ref()).await),
    }
}

/// An unknown workflow may be one that is written a little differently.
async fn suggest(failure: Failure, database: Option<&Database>, workflow: &str) -> Failure {
    let Some(database) = database.filter(|_| failure.is_of_kind("unknown_workflow")) else {
        return failure;
    };
    let names = database.workflow_names().await.unwrap_or_default();
    match closest(workflow, names.iter().map(String::as_str)) {
        Some(name) => failure.hint(format!("did you mean {name}?")),
        None if names.is_empty() => failure,
        None => failure.hint(format!(
            "registered are {}; `flotilla register FILE` makes another known",
            some(&names)
        )),
    }
}

/// A list of names that is not too long.
fn some(names: &[String]) -> String {
    let shown: Vec<&str> = names.iter().take(8).map(String::as_str).collect();
    let rest = names.len() - shown.len();
    let list = shown.join(", ");
    if rest == 0 {
        return list;
    }
    format!("{list} and {rest} more")
}

const NOT_ANSWERED: &str =
    "the start message is stored in the queue flotilla.start, but no coordinator has answered";

/// Waits for `workflow.started`, for a while.
async fn answer(
    replies: &mut StartReplies,
    started: &mut Started,
    deadline: Option<Instant>,
) -> Result<(), Failure> {
    let limit = Instant::now() + ANSWER_LIMIT;
    let limit = deadline.map_or(limit, |deadline| limit.min(deadline));
    while started.created.is_none() {
        match tokio::time::timeout_at(limit, replies.next()).await {
            Ok(Some(reply)) => {
                let finished = reply.note(started)?;
                replies.keep(finished);
            }
            Ok(None) | Err(_) => break,
        }
    }
    Ok(())
}

/// Shows a start that nobody waits for.
async fn show_started(global: &Global, started: &Started, database: Option<&Database>) -> Exit {
    let stored = wait::status(started.id, database).await;
    let status = match (stored, started.created) {
        (Some(status), _) => status,
        (None, Some(_)) => "running".to_owned(),
        (None, None) => "queued".to_owned(),
    };
    if status == "queued" {
        explain(&format!(
            "{NOT_ANSWERED} within {} s\n  hint: `flotilla coordinator` runs one; the start is not lost",
            ANSWER_LIMIT.as_secs()
        ));
    }
    if global.output.is_json() {
        print_json(&document(started, &status));
        return Exit::Done;
    }
    let known = if started.created == Some(false) {
        " (it was started before)"
    } else {
        ""
    };
    print(&format!("execution {} {status}{known}", name(started)));
    if let Some(id) = started.id {
        explain(&format!("  next: flotilla watch {id}"));
    }
    Exit::Done
}

/// Shows an execution that has ended.
fn show_ended(global: &Global, started: &Started, ended: &Ended) -> Exit {
    if global.output.is_json() {
        let mut document = document(started, &ended.status);
        document["output"] = ended.output.clone();
        document["errors"] = ended.errors.clone();
        print_json(&document);
    } else {
        if !ended.output.is_null() {
            print_json(&ended.output);
        }
        show_errors(&ended.errors);
        print(&format!("execution {} {}", name(started), ended.status));
    }
    if ended.status == "succeeded" {
        return Exit::Done;
    }
    if let Some(id) = started.id {
        say_why(id);
    }
    Exit::NotSucceeded
}

/// The errors of an execution, a line each.
pub fn show_errors(errors: &Value) {
    for error in errors.as_array().into_iter().flatten() {
        print(&format!("error: {}", super::show::error_text(error)));
    }
}

/// Where to look after an execution that did not succeed.
pub fn say_why(id: ExecutionId) {
    explain(&format!("  next: flotilla show {id}"));
}

/// Shows an execution that has not ended in time.
async fn show_timeout(global: &Global, started: &Started, database: Option<&Database>) -> Exit {
    let stored = wait::status(started.id, database).await;
    let status = stored.unwrap_or_else(|| {
        let word = match started.created {
            Some(_) => "running",
            None => "queued",
        };
        word.to_owned()
    });
    explain("--wait-timeout ran out; the execution goes on");
    if global.output.is_json() {
        let mut document = document(started, &status);
        document["output"] = Value::Null;
        document["errors"] = json!([]);
        print_json(&document);
    } else {
        print(&format!("execution {} {status}", name(started)));
    }
    Exit::TimedOut
}

fn document(started: &Started, status: &str) -> Value {
    json!({"execution_id": started.id, "created": started.created, "status": status})
}

fn name(started: &Started) -> String {
    match started.id {
        Some(id) => id.to_string(),
        None => "(its id is not known yet)".to_owned(),
    }
}
