//! The machine and the server that a run was made on, for those who compare runs.

use std::collections::BTreeMap;
use std::fs;

use flotilla_coordinator::storage::connect_read_only;
use serde::Serialize;
use sqlx::Connection;

use crate::failure::Failure;

/// Settings of Postgres that decide about speed and about what is durable.
const SETTINGS: [&str; 9] = [
    "server_version",
    "shared_buffers",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_compression",
    "max_wal_size",
    "checkpoint_timeout",
    "jit",
];

/// What a run was made on.
#[derive(Debug, Serialize)]
pub struct Machine {
    /// The processor, as it calls itself; empty if it does not.
    pub processor: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Memory in MB; 0 if nobody knows.
    pub memory_mb: u64,
    /// The version of the kernel.
    pub kernel: String,
    /// Settings of Postgres by name.
    pub postgres: BTreeMap<String, String>,
}

impl Machine {
    /// Looks at this machine and at the server.
    pub async fn look(database_url: &str) -> Result<Self, Failure> {
        let mut connection = connect_read_only(database_url).await?;
        let settings: Vec<(String, String)> = sqlx::query_as(
            "SELECT name, current_setting(name) FROM unnest($1) AS wanted (name) ORDER BY name",
        )
        .bind(SETTINGS.map(str::to_owned).to_vec())
        .fetch_all(&mut connection)
        .await?;
        // All that was asked has been answered.
        let _ = connection.close().await;
        let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
        Ok(Self {
            processor: field(&read("/proc/cpuinfo"), "model name").unwrap_or_default(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_mb: memory_mb(&read("/proc/meminfo")),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            postgres: settings.into_iter().collect(),
        })
    }
}

/// The first value of a name in a table of the kernel.
fn field(text: &str, name: &str) -> Option<String> {
    let found = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == name);
    found.map(|(_, value)| value.trim().to_owned())
}

fn memory_mb(text: &str) -> u64 {
    let kilobytes = field(text, "MemTotal");
    let kilobytes = kilobytes
        .as_deref()
        .and_then(|value| value.split(' ').next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) / 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_the_kernel_are_read() {
        let text = "processor\t: 0\nmodel name\t: A CPU @ 2 GHz\nmodel name\t: other\n";
        assert_eq!(field(text, "model name").as_deref(), Some("A CPU @ 2 GHz"));
        assert_eq!(
            memory_mb("MemTotal:       2048000 kB\nMemFree: 1 kB\n"),
            2000
        );
        assert_eq!(memory_mb("nothing"), 0);
    }
}
