//! `watch`: an execution as it goes on, a table that is drawn anew or a line for each transition.

mod lines;
mod screen;

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use clap::Args;
use flotilla_coordinator::storage::News;
use flotilla_coordinator::waits::Waits;
use flotilla_protocol::ExecutionId;
use serde_json::Value;

use crate::arguments::Global;
use crate::database::Database;
use crate::failure::{Exit, Failure};
use crate::output::{explain, print, print_json};
use crate::shutdown::Shutdown;
use crate::waits::Looker;

use screen::Screen;

/// How often the database is asked for news.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often it and the broker are asked why something waits.
const ASK_EVERY: Duration = Duration::from_secs(2);
/// How long a database may be away that was there.
const AWAY_LIMIT: Duration = Duration::from_secs(30);

/// What `watch` takes.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct WatchArguments {
    /// The execution
    #[arg(value_name = "ID")]
    id: ExecutionId,
}

const AFTER_HELP: &str = "\
On a terminal it draws a table of the tasks until the execution ends; elsewhere it prints a line for each \
transition, from the first one on, and with -o json a JSON document on each line. Ctrl-C stops watching, and the \
execution goes on.

Exit codes: 0 the execution succeeded; 1 it ended otherwise; 2 there is no such execution; 3 the database cannot be \
reached.

Example: flotilla watch 0190b6a4-0000-7000-8000-000000000001";

/// What is known of the execution.
#[derive(Debug, Default)]
pub struct Known {
    /// Its row.
    execution: Value,
    /// Its tasks, by their ids, which ascend in the order of creation.
    tasks: BTreeMap<String, Value>,
    /// The items that the last news were about; there may be many more.
    items: BTreeMap<String, Value>,
    waits: Waits,
    last_seq: i64,
}

/// How it is shown.
enum View {
    Json,
    Lines,
    Table(Box<Screen>),
}

/// Watches until the execution has ended.
pub async fn run(global: &Global, arguments: &WatchArguments) -> Result<Exit, Failure> {
    let database = Database::connect(&global.database_url()?).await?;
    let shutdown = Shutdown::listen()?;
    let view = if global.output.is_json() {
        View::Json
    } else if std::io::stdout().is_terminal() {
        View::Table(Box::new(Screen::open()))
    } else {
        View::Lines
    };
    let mut watch = Watch {
        id: arguments.id,
        database: &database,
        looker: Looker::new(global),
        asked_at: None,
        known: Known::default(),
        view,
    };
    // What is on the screen stays, and the terminal is as it was before.
    let ended = tokio::select! {
        ended = watch.follow() => ended,
        () = shutdown.asked() => Ok(false),
    };
    if let View::Table(screen) = &watch.view {
        screen.close();
    }
    if !ended? {
        explain(&format!("execution {} goes on", arguments.id));
        return Ok(Exit::Interrupted);
    }
    let exit = watch.end().await?;
    watch.looker.close().await;
    Ok(exit)
}

struct Watch<'a> {
    id: ExecutionId,
    database: &'a Database,
    looker: Looker,
    asked_at: Option<Instant>,
    known: Known,
    view: View,
}

impl Watch<'_> {
    /// Follows the log to the end of the execution; true.
    async fn follow(&mut self) -> Result<bool, Failure> {
        let mut away_since = None;
        loop {
            match self.look().await {
                Ok(Some(is_complete)) => {
                    away_since = None;
                    if !is_complete {
                        continue;
                    }
                    if !self.known.execution["finished_at"].is_null() {
                        return Ok(true);
                    }
                }
                Ok(None) => return Err(super::show::unknown(self.id)),
                Err(failure) => {
                    let since = *away_since.get_or_insert_with(Instant::now);
                    let was_there = self.known.last_seq > 0;
                    if !was_there || since.elapsed() > AWAY_LIMIT {
                        return Err(failure);
                    }
                    tracing::debug!(%failure, "could not look; trying again");
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Takes what is new, and shows it; whether that is all that there is. `None` without an execution.
    async fn look(&mut self) -> Result<Option<bool>, Failure> {
        let news = self.database.news(self.id, self.known.last_seq).await?;
        let Some(news) = news else {
            return Ok(None);
        };
        let transitions = self.known.take(news);
        match &self.view {
            View::Json => lines::json(&self.known, transitions),
            View::Lines => lines::plain(&self.known, &transitions),
            View::Table(_) => {}
        }
        let is_complete = self.known.execution["last_seq"].as_i64() <= Some(self.known.last_seq);
        if is_complete && matches!(self.view, View::Table(_)) {
            self.ask().await?;
            if let View::Table(screen) = &mut self.view {
                screen.draw(&self.known);
            }
        }
        Ok(Some(is_complete))
    }

    async fn ask(&mut self) -> Result<(), Failure> {
        if self.asked_at.is_some_and(|at| at.elapsed() < ASK_EVERY) {
            return Ok(());
        }
        self.known.waits = self.looker.look(self.database, self.id).await?;
        self.asked_at = Some(Instant::now());
        Ok(())
    }

    /// Shows how it ended.
    async fn end(&self) -> Result<Exit, Failure> {
        let Some(summary) = self.database.summary(self.id).await? else {
            return Err(super::show::unknown(self.id));
        };
        let status = summary["status"].as_str().unwrap_or_default();
        if !matches!(self.view, View::Json) {
            if matches!(self.view, View::Table(_)) && !summary["output"].is_null() {
                print_json(&summary["output"]);
            }
            super::start::show_errors(&summary["errors"]);
            print(&format!("execution {} {status}", self.id));
        }
        if status == "succeeded" {
            return Ok(Exit::Done);
        }
        super::start::say_why(self.id);
        Ok(Exit::NotSucceeded)
    }
}

impl Known {
    /// Takes over what is new; gives the new transitions.
    fn take(&mut self, news: News) -> Vec<Value> {
        self.execution = news.execution;
        self.items.clear();
        for task in news.tasks {
            if let Some(id) = task["task_id"].as_str() {
                let id = id.to_owned();
                if !task["item_index"].is_null() {
                    self.items.insert(id, task);
                    continue;
                }
                if !task["finished_at"].is_null() {
                    self.forget(&id);
                }
                self.tasks.insert(id, task);
            }
        }
        let last = news.transitions.last();
        let last = last.and_then(|transition| transition["seq"].as_i64());
        self.last_seq = last.unwrap_or(self.last_seq);
        news.transitions
    }

    /// What has ended waits for nothing, whatever was said a moment ago.
    fn forget(&mut self, task_id: &str) {
        let waits = &mut self.waits.tasks;
        waits.retain(|id, _| id.0.to_string() != task_id);
    }

    /// The task of a transition, if it is about one.
    fn task_of(&self, transition: &Value) -> Option<&Value> {
        let id = transition["task_id"].as_str()?;
        self.tasks.get(id).or_else(|| self.items.get(id))
    }

    /// What a task waits for.
    fn waits_for(&self, task: &Value) -> Option<&str> {
        super::show::waits_for(&self.waits, task)
    }
}
