//! `register`: stores checked workflow files, after the queues of the pools that they name exist.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use flotilla_engine::Workflow;
use flotilla_protocol::amqp::declare_pool;
use serde::Serialize;

use super::validate;
use crate::arguments::Global;
use crate::broker;
use crate::database::Database;
use crate::failure::{Exit, Failure};
use crate::output::{explain, print, print_json, table};
use crate::progress;
use crate::source::{self, Content, Known, Source};

/// How many digits of a hash people see.
const SHOWN_HASH: usize = 12;
/// Of more workflows than so many nobody wants to read how they are started.
const SHOWN_STARTS: usize = 5;

const AFTER_HELP: &str = "\
All files are checked before the first is stored. What is stored never changes: a file that was changed is another \
definition, and a start takes the one that was registered last.

Example: flotilla register examples/workflows";

/// What `register` takes.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct RegisterArguments {
    /// Workflow files, or pack folders (pack.yaml beside workflows/ and actions/); any other folder
    /// means all *.yaml and *.yml below it
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Registered {
    workflow: String,
    version: String,
    hash: String,
    created: bool,
}

/// Checks all files, and registers them if all are valid.
pub async fn run(global: &Global, arguments: &RegisterArguments) -> Result<Exit, Failure> {
    demand_valid(&source::check(&arguments.paths, &Known::default())?)?;
    let (database_url, amqp_url) = (global.database_url()?, global.amqp_url()?);
    let database = Database::connect(&database_url).await?;
    // Once more, with what is known of actions and workflows that no file here describes.
    let sources = source::check(&arguments.paths, &database.known().await?)?;
    demand_valid(&sources)?;
    declare_pools(&amqp_url, &sources).await?;
    let line = progress::bar(global.output, sources.len(), "registering");
    let mut registered = Vec::with_capacity(sources.len());
    let mut starts = Vec::new();
    for source in &sources {
        line.inc(1);
        let (workflow, pack) = match &source.content {
            Content::Workflow(workflow, pack) => (workflow, pack.as_deref()),
            Content::Action(action) => {
                database.register_action(action, &source.text).await?;
                continue;
            }
            Content::Pack | Content::Nothing => continue,
        };
        starts.push(how_to_start(workflow));
        registered.push(Registered {
            created: database.register(workflow, &source.text, pack).await?,
            workflow: workflow.reference.to_string(),
            version: workflow.version.to_string(),
            hash: workflow.hash.to_string(),
        });
    }
    line.finish_and_clear();
    warn(&sources);
    show(global, &registered);
    if !global.output.is_json() && starts.len() <= SHOWN_STARTS {
        explain(&format!("  next: {}", starts.join("\n        ")));
    }
    Ok(Exit::Done)
}

/// The command that starts a workflow, with what it cannot do without.
fn how_to_start(workflow: &Workflow) -> String {
    let mut command = format!("flotilla start {}", workflow.reference);
    let parameters = workflow.parameters.parameters().iter();
    for parameter in parameters.filter(|parameter| parameter.required) {
        command.push_str(&format!(" -p {}=…", parameter.name));
    }
    command
}

/// Shows what is wrong, and refuses if something is.
fn demand_valid(sources: &[Source]) -> Result<(), Failure> {
    if sources.iter().all(Source::is_valid) {
        return Ok(());
    }
    explain(&validate::pictures(sources, false).join("\n\n"));
    Err(Failure::refused(format!(
        "nothing is registered: {}",
        validate::count(sources)
    ))
    .of_kind("invalid_definition"))
}

/// Shows what may not mean what was meant.
fn warn(sources: &[Source]) {
    let pictures = validate::pictures(sources, false);
    if !pictures.is_empty() {
        explain(&pictures.join("\n\n"));
    }
}

/// Queues come first: a workflow that can be started finds them.
async fn declare_pools(url: &str, sources: &[Source]) -> Result<(), Failure> {
    let connection = broker::connect(url).await?;
    let mut pools: BTreeSet<&str> = BTreeSet::new();
    for source in sources {
        match &source.content {
            Content::Workflow(workflow, _) => {
                let jobs = workflow.tasks.iter().filter(|task| !task.is_workflow);
                pools.extend(jobs.map(|task| &*task.pool));
            }
            Content::Action(action) => pools.extend(action.defaults.pool.as_deref()),
            Content::Pack | Content::Nothing => {}
        }
    }
    for pool in pools {
        declare_pool(&connection, pool).await.map_err(|error| {
            broker::failed(
                &format!("could not create the queue of the pool `{pool}`"),
                error,
            )
            .hint("`flotilla migrate` creates what every fleet needs")
        })?;
    }
    connection.close().await;
    Ok(())
}

fn show(global: &Global, registered: &[Registered]) {
    if global.output.is_json() {
        return print_json(registered);
    }
    let rows = registered.iter().map(|one| {
        let state = if one.created { "new" } else { "known" };
        let hash = one.hash.chars().take(SHOWN_HASH).collect();
        vec![
            one.workflow.clone(),
            one.version.clone(),
            hash,
            state.into(),
        ]
    });
    print(&table(&["workflow", "version", "hash", "state"], rows));
}
