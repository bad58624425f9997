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
use crate::source::{self, Source};

/// How many digits of a hash people see.
const SHOWN_HASH: usize = 12;

/// What `register` takes.
#[derive(Debug, Args)]
pub struct RegisterArguments {
    /// Workflow files; a folder means all *.yaml and *.yml below it
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
    let sources = source::check(&arguments.paths)?;
    let workflows = valid(&sources)?;
    let (database_url, amqp_url) = (global.database_url()?, global.amqp_url()?);
    let database = Database::connect(&database_url).await?;
    declare_pools(&amqp_url, &workflows).await?;
    let mut registered = Vec::with_capacity(workflows.len());
    for (text, workflow) in workflows {
        registered.push(Registered {
            created: database.register(workflow, text).await?,
            workflow: workflow.reference.to_string(),
            version: workflow.version.to_string(),
            hash: workflow.hash.to_string(),
        });
    }
    show(global, &registered);
    Ok(Exit::Done)
}

fn valid(sources: &[Source]) -> Result<Vec<(&str, &Workflow)>, Failure> {
    let mut workflows = Vec::with_capacity(sources.len());
    for source in sources {
        if let Some(workflow) = &source.workflow {
            workflows.push((source.text.as_str(), &**workflow));
        }
    }
    let pictures = validate::pictures(sources, false);
    if !pictures.is_empty() {
        explain(&pictures.join("\n\n"));
    }
    if workflows.len() == sources.len() {
        return Ok(workflows);
    }
    Err(Failure::refused(format!(
        "nothing is registered: {}",
        validate::count(sources)
    ))
    .of_kind("invalid_definition"))
}

/// Queues come first: a workflow that can be started finds them.
async fn declare_pools(url: &str, workflows: &[(&str, &Workflow)]) -> Result<(), Failure> {
    let connection = broker::connect(url).await?;
    let pools: BTreeSet<&str> = workflows
        .iter()
        .flat_map(|(_, workflow)| workflow.tasks.iter())
        .map(|task| &*task.pool)
        .collect();
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
