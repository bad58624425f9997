//! Which servers the tests use, and what they may do to them.
//!
//! Private servers (`FLOTILLA_HOME` is set, as `make test` does) may be stopped, and each fleet gets
//! a vhost of its own. Given servers are left as they are: fleets take turns in the vhost of
//! `AMQP_URL`.

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;

use flotilla_protocol::amqp::{Connection, delete_queue};
use flotilla_protocol::names;
use sqlx::{Connection as _, PgConnection};

use crate::binary::root;

/// Names the advisory lock under which fleets share the vhost of a given server.
const VHOST_LOCK: i64 = 0x666c_6f74_696c_6c61;
/// More inboxes than any test makes.
const MAX_PARTITIONS: i32 = 64;

/// The servers.
#[derive(Debug, Clone)]
pub struct Servers {
    /// Where Postgres is; databases are made next to this one.
    pub database_url: String,
    /// Where RabbitMQ is.
    pub amqp_url: String,
    /// The state folder of private servers; `None` for given ones.
    pub home: Option<PathBuf>,
}

/// What keeps other fleets away while this one needs the servers.
#[derive(Debug)]
pub enum Turn {
    /// Private servers: shared by all, except while a test stops one of them.
    Private(File),
    /// Given servers: one fleet after another.
    Given(Box<PgConnection>),
}

impl Servers {
    /// The servers that the environment names.
    ///
    /// # Panics
    /// When it names none.
    #[must_use]
    pub fn from_environment() -> Self {
        let variable = |name: &str| {
            std::env::var(name).unwrap_or_else(|_| {
                panic!("{name} is not set; `make test` sets what the tests need")
            })
        };
        Self {
            database_url: variable("DATABASE_URL"),
            amqp_url: variable("AMQP_URL"),
            home: std::env::var_os("FLOTILLA_HOME").map(|home| root().join(home)),
        }
    }

    /// Whether a test may stop them. Says so if it may not.
    #[must_use]
    pub fn may_be_stopped(&self, test: &str) -> bool {
        if self.home.is_none() {
            eprintln!("{test}: skipped, since it stops a server, and these servers are given");
        }
        self.home.is_some()
    }

    /// Waits for a turn; `alone` if the test stops servers.
    ///
    /// # Panics
    /// When the lock cannot be had.
    pub async fn turn(&self, alone: bool) -> Turn {
        if let Some(home) = &self.home {
            let file = File::create(home.join("tests.lock")).expect("the state folder is ours");
            let locking = tokio::task::spawn_blocking(move || {
                let locked = if alone {
                    file.lock()
                } else {
                    file.lock_shared()
                };
                locked.map(|()| file)
            });
            let file = locking.await.expect("locking does not panic");
            return Turn::Private(file.expect("the file can be locked"));
        }
        let connecting = PgConnection::connect(&self.database_url).await;
        let mut connection = connecting.expect("Postgres answers");
        sqlx::query("SELECT pg_advisory_lock($1)")
            .bind(VHOST_LOCK)
            .execute(&mut connection)
            .await
            .expect("the lock can be had");
        Turn::Given(Box::new(connection))
    }

    /// Makes a vhost, or empties that of a given server, and says how to reach it.
    ///
    /// # Panics
    /// When the broker refuses.
    pub async fn make_vhost(&self, name: &str) -> String {
        if self.home.is_none() {
            self.remove_queues().await;
            return self.amqp_url.clone();
        }
        self.run(&["ctl", "add_vhost", name]);
        self.run(&[
            "ctl",
            "set_permissions",
            "-p",
            name,
            &self.user(),
            ".*",
            ".*",
            ".*",
        ]);
        self.vhost_url(name)
    }

    /// Removes a vhost that [`Servers::make_vhost`] made.
    pub fn remove_vhost(&self, name: &str) {
        if self.home.is_some() && self.try_run(&["ctl", "delete_vhost", name]).is_none() {
            eprintln!("the vhost {name} was not removed");
        }
    }

    /// Runs `deploy/servers.sh` for the private servers.
    ///
    /// # Panics
    /// When it fails.
    pub fn run(&self, arguments: &[&str]) {
        drop(self.output(arguments));
    }

    /// Runs `deploy/servers.sh` for the private servers, and gives what it prints.
    ///
    /// # Panics
    /// When it fails.
    #[must_use]
    pub fn output(&self, arguments: &[&str]) -> String {
        let output = self.try_run(arguments);
        output.unwrap_or_else(|| panic!("servers.sh {arguments:?} failed"))
    }

    /// Likewise; `None` where it fails, or where the servers are given.
    ///
    /// # Panics
    /// When the script is not there.
    #[must_use]
    pub fn try_run(&self, arguments: &[&str]) -> Option<String> {
        let home = self.home.as_ref()?;
        let output = Command::new(root().join("deploy/servers.sh"))
            .args(arguments)
            .env("FLOTILLA_HOME", home)
            .output()
            .expect("deploy/servers.sh can be run");
        if !output.status.success() {
            eprintln!("{}", String::from_utf8_lossy(&output.stderr));
            return None;
        }
        Some(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// What a fleet before this one has left.
    async fn remove_queues(&self) {
        let opened = Connection::open(&self.amqp_url, "flotilla tests").await;
        let connection = opened.expect("RabbitMQ answers");
        let fixed = [names::START_QUEUE, names::CONTROL_QUEUE, names::DEAD];
        let inboxes = (0..MAX_PARTITIONS).map(names::inbox_queue);
        let all = fixed.into_iter().map(str::to_owned).chain(inboxes);
        let jobs = ["default", "plain"].map(names::jobs_queue);
        let bundles = ["default", "plain"].map(names::bundles_queue);
        for queue in all.chain(jobs).chain(bundles) {
            delete_queue(&connection, &queue)
                .await
                .expect("queues can be deleted");
        }
        connection.close().await;
    }

    fn user(&self) -> String {
        let rest = self.amqp_url.split("://").nth(1).unwrap_or_default();
        rest.split([':', '@']).next().unwrap_or("guest").to_owned()
    }

    fn vhost_url(&self, name: &str) -> String {
        with_path(&self.amqp_url, name)
    }
}

/// A URL with its path replaced; what follows a `?` stays.
#[must_use]
pub fn with_path(url: &str, path: &str) -> String {
    let (base, query) = url
        .split_once('?')
        .map_or((url, None), |(base, query)| (base, Some(query)));
    let host = base.find("://").map_or(0, |at| at + 3);
    let end = base[host..].find('/').map_or(base.len(), |at| host + at);
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    format!("{}/{path}{query}", &base[..end])
}
