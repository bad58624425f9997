//! `dev`: servers, coordinator and worker in the foreground, in one process.
//!
//! The servers are those of `deploy/servers.sh`, which travels in the binary. What `dev` has started
//! it stops again; servers that ran before go on.

use std::process::Stdio;

use flotilla_coordinator::CoordinatorConfig;
use flotilla_coordinator::private_servers::{Server, env_file, given, home};
use flotilla_worker::{Worker, WorkerConfig};
use tokio::process::Command;
use tokio::sync::watch;

use super::migrate::{self, MigrateArguments};
use super::{coordinator, worker};
use crate::arguments::Global;
use crate::failure::{Exit, Failure};
use crate::output::{explain, print};
use crate::servers::without_password;
use crate::shutdown::Shutdown;

/// Starts and stops private servers.
const SERVERS: &str = include_str!("../../../deploy/servers.sh");

/// The two servers.
struct Urls {
    database: String,
    amqp: String,
    /// Whether they were started now.
    are_ours: bool,
}

/// Runs until it is told to stop.
pub async fn run(global: &Global) -> Result<Exit, Failure> {
    let shutdown = Shutdown::listen()?;
    let urls = bring_up(global).await?;
    let served = if shutdown.is_asked() {
        Ok(())
    } else {
        Box::pin(serve(&urls, &shutdown)).await
    };
    if urls.are_ours {
        script("down", None).await?;
    }
    served.map(|()| Exit::Done)
}

async fn serve(urls: &Urls, shutdown: &Shutdown) -> Result<(), Failure> {
    let nothing_asked = MigrateArguments::default();
    migrate::migrate(&urls.database, &urls.amqp, &nothing_asked).await?;
    let (stop, stopped) = watch::channel(false);
    let (coordinates, coordinator_is_ready) = watch::channel(false);
    let (works, worker_is_ready) = watch::channel(false);
    let config = coordinator::local_config(&urls.database, &urls.amqp);
    let coordinating = coordinate(config, stopped.clone(), coordinates);
    let working = work(&urls.amqp, stopped, works);
    let both_ready = async {
        if is_true(coordinator_is_ready).await && is_true(worker_is_ready).await {
            print("ready");
        }
        std::future::pending::<()>().await;
    };
    let supervise = async {
        tokio::select! {
            () = shutdown.clone().asked() => {}
            () = both_ready => {}
        }
        stop.send_replace(true);
        std::future::pending::<()>().await;
    };
    // A failure of one ends the other.
    let both = async { tokio::try_join!(Box::pin(coordinating), Box::pin(working)).map(|_| ()) };
    tokio::select! {
        ended = both => ended,
        () = supervise => Ok(()),
    }
}

async fn coordinate(
    config: CoordinatorConfig,
    stopped: watch::Receiver<bool>,
    ready: watch::Sender<bool>,
) -> Result<(), Failure> {
    let stop = async move {
        is_true(stopped).await;
    };
    let url = config.database_url.clone();
    flotilla_coordinator::run(config, stop, move || {
        ready.send_replace(true);
    })
    .await
    .map_err(|error| coordinator::failed(&url, error))
}

async fn work(
    amqp_url: &str,
    stopped: watch::Receiver<bool>,
    ready: watch::Sender<bool>,
) -> Result<(), Failure> {
    let mut config = WorkerConfig::new(amqp_url);
    // Whoever runs `dev` is at their own machine, with workflows of their own.
    config.allow_shell = true;
    let stop = async move {
        is_true(stopped).await;
    };
    let is_ready = move || {
        ready.send_replace(true);
    };
    Worker::new(config)
        .built_in()
        .run_with_ready(stop, is_ready)
        .await
        .map_err(|error| worker::failed(amqp_url, error))
}

/// Waits until the value is true; false if that cannot happen any more.
async fn is_true(mut value: watch::Receiver<bool>) -> bool {
    value.wait_for(|value| *value).await.is_ok()
}

/// Brings up private servers, unless others are given, and writes `.flotilla/env`.
async fn bring_up(global: &Global) -> Result<Urls, Failure> {
    let urls = match (
        given(global.database_url.as_deref()),
        given(global.amqp_url.as_deref()),
    ) {
        (Some(database), Some(amqp)) => Some((database, amqp)),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => {
            return Err(Failure::refused("`dev` takes both servers or none").hint(
                "give --database-url and --amqp-url (DATABASE_URL and AMQP_URL), or neither",
            ));
        }
    };
    let ran_before = script("status", None).await.is_ok();
    script("up", urls.as_ref()).await?;
    // The URLs may be those of the private servers, which a shell has from their file.
    let run_now = script("status", None).await.is_ok();
    let read = |server: Server| {
        let (file, name) = (env_file(), server.variable());
        let unnamed = || Failure::refused(format!("{} does not name {name}", file.display()));
        server.url_in_file().ok_or_else(unnamed)
    };
    let urls = Urls {
        database: read(Server::Postgres)?,
        amqp: read(Server::RabbitMq)?,
        are_ours: run_now && !ran_before,
    };
    explain(&format!(
        "servers: {} and {}, written to {}",
        without_password(&urls.database),
        without_password(&urls.amqp),
        env_file().display()
    ));
    Ok(urls)
}

/// Runs a command of the script; what it has to say goes to stderr.
async fn script(command: &str, urls: Option<&(String, String)>) -> Result<(), Failure> {
    let mut bash = Command::new("bash");
    bash.args(["-c", SERVERS, "servers.sh", command])
        .env("FLOTILLA_HOME", home())
        .env_remove("DATABASE_URL")
        .env_remove("AMQP_URL")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    if command == "status" {
        bash.stderr(Stdio::null());
    }
    if let Some((database, amqp)) = urls {
        bash.env("DATABASE_URL", database).env("AMQP_URL", amqp);
    }
    let status = bash.status().await;
    let status = status.map_err(|error| Failure::refused("could not run bash").because(error))?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::unreachable(format!(
        "`servers.sh {command}` failed ({status}); its messages stand above"
    )))
}
