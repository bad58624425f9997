//! `dead`: the messages that could not be used. People look at them, and say what becomes of each.

mod retry;

use clap::{Args, Subcommand};
use flotilla_coordinator::storage::{DeadLetter, Resolution};
use serde_json::{Value, json};

use super::show::{text, time};
use crate::arguments::Global;
use crate::database::Database;
use crate::failure::{Exit, Failure};
use crate::output::{explain, print, print_json, printable, table};

use retry::Retrying;

/// What to do with dead letters.
#[derive(Debug, Subcommand)]
pub enum DeadCommand {
    /// List those that nobody has dealt with, the newest first
    List(ListArguments),
    /// Show one with its properties and its body
    Show(ShowArguments),
    /// Publish messages again to the queues that they came from
    #[command(after_help = RETRY_HELP)]
    Retry(IdArguments),
    /// Say that nobody wants them any more; the rows stay
    #[command(after_help = "Example: flotilla dead discard 9")]
    Discard(IdArguments),
}

const RETRY_HELP: &str = "\
A message is published as it was, with a confirm, and marked after that. Should the command end between the two, \
the message is not marked, and a second retry publishes it a second time: what is sent has to be safe to be sent \
twice, as all messages of Flotilla with an id or a key are. One that dies again is open again.

Exit codes: 0 all are done; 2 some are not, each with its reason: an unknown number, one that is resolved, a queue \
that does not exist; 3 a server cannot be reached.

Example: flotilla dead retry 7 8";

/// What `dead list` takes.
#[derive(Debug, Args)]
#[command(after_help = "Example: flotilla dead list --all")]
pub struct ListArguments {
    /// Also those that were retried or discarded
    #[arg(long)]
    all: bool,
    /// How many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
}

/// What `dead show` takes.
#[derive(Debug, Args)]
#[command(after_help = "Example: flotilla dead show 7")]
pub struct ShowArguments {
    /// The number of the dead letter, as `dead list` shows it
    #[arg(value_name = "ID")]
    id: i64,
}

/// What `dead retry` and `dead discard` take.
#[derive(Debug, Args)]
pub struct IdArguments {
    /// Numbers of dead letters, as `dead list` shows them
    #[arg(value_name = "ID", required = true)]
    ids: Vec<i64>,
}

/// Does it.
pub async fn run(global: &Global, command: &DeadCommand) -> Result<Exit, Failure> {
    match command {
        DeadCommand::List(arguments) => list(global, arguments).await,
        DeadCommand::Show(arguments) => show(global, arguments).await,
        DeadCommand::Retry(arguments) => Box::pin(retry(global, arguments)).await,
        DeadCommand::Discard(arguments) => discard(global, arguments).await,
    }
}

async fn list(global: &Global, arguments: &ListArguments) -> Result<Exit, Failure> {
    let database = Database::connect(&global.database_url()?).await?;
    let letters = database
        .dead_letters(arguments.all, arguments.limit)
        .await?;
    show_rows(global, &letters);
    Ok(Exit::Done)
}

async fn show(global: &Global, arguments: &ShowArguments) -> Result<Exit, Failure> {
    let database = Database::connect(&global.database_url()?).await?;
    let letter = known(&database, arguments.id).await?;
    let body = String::from_utf8_lossy(&letter.body);
    if global.output.is_json() {
        let mut row = letter.row.clone();
        row["properties"] = letter.properties.clone();
        row["body"] = Value::from(body.as_ref());
        print_json(&json!([row]));
        return Ok(Exit::Done);
    }
    let mut lines: Vec<String> = FIELDS
        .iter()
        .filter(|field| !letter.row[**field].is_null())
        .map(|field| format!("{field:<13} {}", shown(&letter.row, field)))
        .collect();
    let properties = serde_json::to_string_pretty(&letter.properties);
    lines.push(format!("\n{}", properties.expect("JSON is JSON")));
    lines.push(format!("\n{}", lines_of(&body)));
    print(&lines.join("\n"));
    Ok(Exit::Done)
}

async fn retry(global: &Global, arguments: &IdArguments) -> Result<Exit, Failure> {
    let database = Database::connect(&global.database_url()?).await?;
    let retrying = Retrying::begin(&global.amqp_url()?).await?;
    let mut outcomes = Vec::new();
    for id in &arguments.ids {
        outcomes.push(retrying.retry(&database, *id).await);
    }
    retrying.end().await;
    Ok(show_outcomes(global, outcomes))
}

async fn discard(global: &Global, arguments: &IdArguments) -> Result<Exit, Failure> {
    let database = Database::connect(&global.database_url()?).await?;
    let mut outcomes = Vec::new();
    for id in &arguments.ids {
        outcomes.push(discard_one(&database, *id).await);
    }
    Ok(show_outcomes(global, outcomes))
}

async fn discard_one(database: &Database, id: i64) -> Result<Value, Failure> {
    let mut letter = open(database, id).await?;
    if database.resolve(&letter, Resolution::Discarded).await? {
        letter.row["resolution"] = Resolution::Discarded.word().into();
        return Ok(letter.row);
    }
    Err(Failure::refused(format!(
        "dead letter {id} was changed by somebody else at this moment, and is left as it is"
    ))
    .hint("`flotilla dead show ID` shows it"))
}

/// A dead letter that exists.
async fn known(database: &Database, id: i64) -> Result<DeadLetter, Failure> {
    let letter = database.dead_letter(id).await?;
    letter.ok_or_else(|| {
        Failure::refused(format!("there is no dead letter {id}"))
            .hint("`flotilla dead list --all` shows those that there are")
            .of_kind("unknown_dead_letter")
    })
}

/// One that nobody has dealt with.
async fn open(database: &Database, id: i64) -> Result<DeadLetter, Failure> {
    let letter = known(database, id).await?;
    match &letter.resolution {
        None => Ok(letter),
        Some(resolution) => Err(Failure::refused(format!(
            "dead letter {id} was {resolution} before"
        ))
        .hint("it opens again if the message comes again")
        .of_kind("already_resolved")),
    }
}

/// Shows the letters that something was done with, and says why it was not for the others.
fn show_outcomes(global: &Global, outcomes: Vec<Result<Value, Failure>>) -> Exit {
    let mut done = Vec::new();
    let mut exit = Exit::Done;
    for outcome in outcomes {
        match outcome {
            Ok(row) => done.push(row),
            Err(failure) => {
                explain(&failure.text());
                if failure.exit().code() > exit.code() {
                    exit = failure.exit();
                }
            }
        }
    }
    show_rows(global, &done);
    exit
}

const FIELDS: [&str; 9] = [
    "id",
    "received_at",
    "queue",
    "reason",
    "message_id",
    "execution_id",
    "task_id",
    "resolved_at",
    "resolution",
];

fn show_rows(global: &Global, rows: &[Value]) {
    if global.output.is_json() {
        print_json(rows);
        return;
    }
    let header = [
        "id",
        "received",
        "queue",
        "reason",
        "message",
        "execution",
        "resolution",
    ];
    let fields = [
        "id",
        "received_at",
        "queue",
        "reason",
        "message_id",
        "execution_id",
        "resolution",
    ];
    let rows = rows
        .iter()
        .map(|row| fields.iter().map(|field| shown(row, field)).collect());
    print(&table(&header, rows));
}

fn shown(row: &Value, field: &str) -> String {
    if field.ends_with("_at") {
        time(&row[field])
    } else {
        text(&row[field])
    }
}

/// The text with its lines, without characters that a terminal would obey.
fn lines_of(text: &str) -> String {
    text.lines().map(printable).collect::<Vec<_>>().join("\n")
}
