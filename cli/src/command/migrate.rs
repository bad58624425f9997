//! `migrate`: the schema of the database, then the exchanges and queues of the broker.

use clap::Args;
use flotilla_coordinator::storage::Migrated;
use flotilla_protocol::amqp;
use serde_json::json;

use crate::arguments::Global;
use crate::broker;
use crate::database::Database;
use crate::failure::{Exit, Failure};
use crate::output::{print, print_json};

/// What `migrate` takes.
#[derive(Debug, Default, Args)]
#[command(
    after_help = "Twice, or twice at once, does no harm.\n\nExample: flotilla migrate --partitions 32"
)]
pub struct MigrateArguments {
    /// Number of partitions; never fewer than there are [default: 16 for a new database, else as it is]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=1024))]
    partitions: Option<i32>,
}

/// Migrates, and shows what was done.
pub async fn run(global: &Global, arguments: &MigrateArguments) -> Result<Exit, Failure> {
    let (database_url, amqp_url) = (global.database_url()?, global.amqp_url()?);
    let migrated = migrate(&database_url, &amqp_url, arguments).await?;
    if global.output.is_json() {
        print_json(&json!({
            "version": migrated.version,
            "applied": migrated.applied,
            "partitions": migrated.partitions,
        }));
    } else {
        let applied = migrated.applied.len();
        print(&format!(
            "schema version {} ({applied} applied now), {} partitions, queues declared",
            migrated.version, migrated.partitions
        ));
    }
    Ok(Exit::Done)
}

/// Migrates; twice, or twice at once, does no harm.
pub async fn migrate(
    database_url: &str,
    amqp_url: &str,
    arguments: &MigrateArguments,
) -> Result<Migrated, Failure> {
    // Both are reached before either is changed.
    let connection = broker::connect(amqp_url).await?;
    let database = Database::connect(database_url).await?;
    let migrated = database.migrate(arguments.partitions).await?;
    amqp::declare(&connection, migrated.partitions)
        .await
        .map_err(|error| {
            broker::failed("could not declare the queues", error).hint(
                "a queue of that name exists with other arguments: \
                 use a vhost of its own for each fleet",
            )
        })?;
    connection.close().await;
    Ok(migrated)
}
