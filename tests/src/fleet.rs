//! A fleet of its own for one test: a database, a vhost, a folder for logs, and the processes that
//! the test starts.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use flotilla_protocol::amqp::{Connection, queue_state};
use flotilla_protocol::names;
use serde_json::Value;
use uuid::Uuid;

use crate::binary::{flotilla, root};
use crate::client::Client;
use crate::database::Database;
use crate::invariants;
use crate::servers::{Servers, Turn};
use crate::service::Service;
use crate::wait::{LIMIT, wait_until};

/// How a fleet is made.
#[derive(Debug, Clone)]
pub struct Options {
    /// Number of partitions; few are faster to make.
    pub partitions: u32,
    /// Whether no other fleet may run meanwhile, since servers are stopped.
    pub alone: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            partitions: 4,
            alone: false,
        }
    }
}

/// A fleet without processes yet; removed when dropped. Services that are declared after it end
/// before it.
#[derive(Debug)]
pub struct Fleet {
    /// The servers that it uses.
    pub servers: Servers,
    /// Its database.
    pub database: Database,
    /// How to reach its vhost.
    pub amqp_url: String,
    /// What its processes wrote.
    pub folder: PathBuf,
    name: String,
    services: AtomicU32,
    _turn: Turn,
}

impl Fleet {
    /// A fleet with the usual options and all workflows registered.
    pub async fn new() -> Self {
        Self::with(Options::default()).await
    }

    /// A migrated fleet with the examples and the workflows of the tests registered.
    pub async fn with(options: Options) -> Self {
        let servers = Servers::from_environment();
        let turn = servers.turn(options.alone).await;
        let name = format!(
            "flotilla_test_{:012x}",
            Uuid::now_v7().as_u128() & 0xffff_ffff_ffff
        );
        let folder = std::env::temp_dir().join(&name);
        std::fs::create_dir_all(&folder).expect("there is room for logs");
        let amqp_url = servers.make_vhost(&name).await;
        let database = Database::create(&servers.database_url, &name).await;
        let services = AtomicU32::new(0);
        let fleet = Self {
            servers,
            database,
            amqp_url,
            folder,
            name,
            services,
            _turn: turn,
        };
        fleet.command_ok(&["migrate", "--partitions", &options.partitions.to_string()]);
        fleet.command_ok(&[
            "register",
            &path_text(&root().join("examples/workflows")),
            &path_text(&root().join("tests/workflows")),
        ]);
        fleet
    }

    /// The name of its vhost on private servers.
    #[must_use]
    pub fn vhost(&self) -> &str {
        &self.name
    }

    /// Connects to the broker as a user.
    pub async fn client(&self) -> Client {
        Client::connect(&self.amqp_url).await
    }

    /// Starts a coordinator and waits until it consumes.
    pub async fn coordinator(&self) -> Service {
        self.coordinator_with(&[]).await
    }

    /// Starts a coordinator with more arguments and waits until it consumes.
    pub async fn coordinator_with(&self, arguments: &[&str]) -> Service {
        let all = [&["coordinator", "--lease", "1"], arguments].concat();
        self.spawn(&all, &[]).ready().await
    }

    /// Starts a coordinator that crashes as `failpoints` says; it may be dead before it is ready.
    #[must_use]
    pub fn crashing_coordinator(&self, failpoints: &str) -> Service {
        self.spawn(
            &["coordinator", "--lease", "1"],
            &[("FAILPOINTS", failpoints)],
        )
    }

    /// Starts a worker and waits until it consumes.
    pub async fn worker(&self) -> Service {
        self.worker_with(&[]).await
    }

    /// Starts a worker with more arguments and waits until it consumes.
    pub async fn worker_with(&self, arguments: &[&str]) -> Service {
        let all = [&["worker"], arguments].concat();
        self.spawn(&all, &[]).ready().await
    }

    /// The broker, for a connection that it gives up within some seconds of silence.
    #[must_use]
    pub fn beating_url(&self) -> String {
        format!("{}?heartbeat=2", self.amqp_url)
    }

    /// Freezes a worker of the default pool until the broker has given its jobs back.
    ///
    /// # Panics
    /// When the broker does not answer, or keeps its connection.
    pub async fn freeze_worker(&self, connection: &Connection, worker: &Service) {
        let queue = names::jobs_queue("default");
        let consumers = async || {
            let state = queue_state(connection, &queue).await;
            let state = state.expect("the broker answers");
            state.expect("the pool has a queue").consumers
        };
        let before = consumers().await;
        worker.freeze();
        wait_until("the broker has given it up", LIMIT, async || {
            consumers().await < before
        })
        .await;
        worker.thaw();
    }

    /// Stops services cleanly, in this order, and checks that nothing is left to do.
    pub async fn rest(&self, services: impl IntoIterator<Item = Service>) {
        for service in services {
            service.stop().await;
        }
        invariants::check_at_rest(&self.database).await;
    }

    /// Starts any service of the binary, without waiting for it.
    #[must_use]
    pub fn spawn(&self, arguments: &[&str], environment: &[(&str, &str)]) -> Service {
        let number = self.services.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{number}", arguments[0]);
        let mut command = self.command(arguments);
        command.envs(environment.iter().copied());
        Service::spawn(&name, &self.folder, &mut command)
    }

    /// Registers a pack of the examples.
    pub fn register_pack(&self, pack: &str) {
        let folder = root().join("examples/packs").join(pack);
        self.command_ok(&["register", &path_text(&folder)]);
    }

    /// Starts a worker that is not the binary's, without waiting for it. It learns where the broker is
    /// from `AMQP_URL`, unless the command says otherwise.
    #[must_use]
    pub fn spawn_foreign(&self, name: &str, command: &mut Command) -> Service {
        let number = self.services.fetch_add(1, Ordering::Relaxed);
        if !command.get_envs().any(|(name, _)| name == "AMQP_URL") {
            command.env("AMQP_URL", &self.amqp_url);
        }
        Service::spawn(&format!("{name}-{number}"), &self.folder, command)
    }

    /// Runs a command of the binary that has to succeed, and reads its JSON.
    ///
    /// # Panics
    /// When it fails.
    pub fn command_ok(&self, arguments: &[&str]) -> Value {
        let output = self.output(arguments);
        assert!(
            output.status.success(),
            "flotilla {arguments:?}: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).expect("one JSON document on stdout")
    }

    /// Runs a command of the binary with `-o json`.
    ///
    /// # Panics
    /// When it cannot be run.
    #[must_use]
    pub fn output(&self, arguments: &[&str]) -> Output {
        let mut command = self.command(arguments);
        command
            .args(["-o", "json"])
            .output()
            .expect("the binary can be run")
    }

    /// Waits until one of its processes has logged a line with this text.
    ///
    /// # Panics
    /// When none does within the usual limit.
    pub async fn has_logged(&self, text: &str) {
        let is_logged = async || {
            let files = std::fs::read_dir(&self.folder).expect("the folder is ours");
            files.flatten().any(|file| {
                let content = std::fs::read_to_string(file.path());
                content.is_ok_and(|content| content.contains(text))
            })
        };
        wait_until(&format!("{text:?} is logged"), LIMIT, is_logged).await;
    }

    /// A command of the binary, to be run in whatever way.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(flotilla());
        command
            .args(arguments)
            .env("DATABASE_URL", &self.database.url)
            .env("AMQP_URL", &self.amqp_url)
            .env_remove("FAILPOINTS");
        command
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.database.remove();
        self.servers.remove_vhost(&self.name);
        if std::thread::panicking() {
            eprintln!("the logs are in {}", self.folder.display());
        } else if let Err(error) = std::fs::remove_dir_all(&self.folder) {
            eprintln!("{} was not removed: {error}", self.folder.display());
        }
    }
}

fn path_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
