//! CPU time and memory of processes, as the kernel accounts for them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::fleet::Fleet;

/// The processes of the servers, by role; a role is absent where its processes cannot be found, as
/// for a server on another machine.
pub type Servers = BTreeMap<&'static str, u32>;

/// Finds the servers on this machine by the ports that they listen on.
pub fn servers(database_url: &str, amqp_url: &str) -> Servers {
    let mut servers = Servers::new();
    for (role, url, default_port) in [
        ("postgres", database_url, 5432),
        ("rabbitmq", amqp_url, 5672),
    ] {
        if let Some(pid) = listener(port(url).unwrap_or(default_port)) {
            servers.insert(role, pid);
        }
    }
    servers
}

/// The port of a URL, if it names one.
fn port(url: &str) -> Option<u16> {
    let rest = url.split_once("://")?.1;
    let authority = rest.split(['/', '?']).next()?;
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    host.rsplit_once(':')?.1.parse().ok()
}

/// The process that listens on a local port.
fn listener(port: u16) -> Option<u32> {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .find_map(|table| listening_inode(table, port))?;
    let wanted = format!("socket:[{inode}]");
    pids().into_iter().find(|pid| {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd"))
            .into_iter()
            .flatten()
            .flatten();
        descriptors
            .filter_map(|descriptor| fs::read_link(descriptor.path()).ok())
            .any(|target| target.to_string_lossy() == wanted)
    })
}

fn listening_inode(table: &str, port: u16) -> Option<String> {
    const LISTEN: &str = "0A";
    let text = fs::read_to_string(table).ok()?;
    let ending = format!(":{port:04X}");
    text.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_ours = fields.get(1)?.ends_with(&ending) && *fields.get(3)? == LISTEN;
        is_ours
            .then(|| fields.get(9).map(ToString::to_string))
            .flatten()
    })
}

fn pids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// What each role has used.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample {
    /// Milliseconds of CPU.
    pub cpu_ms: BTreeMap<&'static str, f64>,
    /// Megabytes of resident memory.
    pub rss_mb: BTreeMap<&'static str, f64>,
}

impl Sample {
    /// Looks at the fleet, the servers and this process.
    pub fn take(fleet: &Fleet, servers: &Servers) -> Self {
        let mut sample = Self::default();
        let own = [("loadtest", std::process::id())];
        for (role, pid) in fleet.pids().chain(own) {
            sample.add(role, pid);
        }
        let parents = parents();
        for (role, root) in servers {
            for pid in tree(*root, &parents) {
                sample.add(role, pid);
            }
        }
        sample
    }

    fn add(&mut self, role: &'static str, pid: u32) {
        if let Some((cpu_ms, rss_mb)) = process(pid) {
            *self.cpu_ms.entry(role).or_default() += cpu_ms;
            *self.rss_mb.entry(role).or_default() += rss_mb;
        }
    }

    /// What was used since `earlier`; memory as it is now.
    pub fn since(mut self, earlier: &Self) -> Self {
        for (role, used) in &mut self.cpu_ms {
            *used -= earlier.cpu_ms.get(role).copied().unwrap_or_default();
        }
        self
    }
}

/// CPU in milliseconds, with that of ended children, and memory in megabytes.
fn process(pid: u32) -> Option<(f64, f64)> {
    let fields = stat(pid)?;
    let ticks: f64 = (11..=14)
        .filter_map(|at| fields.get(at)?.parse::<f64>().ok())
        .sum();
    let pages: f64 = fields.get(21)?.parse().ok()?;
    Some((ticks * 1000.0 / TICKS_PER_SECOND, pages * PAGE_BYTES / 1e6))
}

/// What Linux has used on every machine of the last decades.
const TICKS_PER_SECOND: f64 = 100.0;
const PAGE_BYTES: f64 = 4096.0;

/// The fields of `/proc/<pid>/stat` after the name, which may itself hold blanks.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let rest = text.rsplit_once(')')?.1;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

fn parents() -> BTreeMap<u32, u32> {
    let parent = |pid: u32| stat(pid)?.get(1)?.parse().ok();
    pids()
        .into_iter()
        .filter_map(|pid| Some((pid, parent(pid)?)))
        .collect()
}

/// A process with all that descend from it.
fn tree(root: u32, parents: &BTreeMap<u32, u32>) -> BTreeSet<u32> {
    let mut members = BTreeSet::from([root]);
    loop {
        let before = members.len();
        for (pid, parent) in parents {
            if members.contains(parent) {
                members.insert(*pid);
            }
        }
        if members.len() == before {
            return members;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_of_a_url_is_found_behind_user_and_password() {
        assert_eq!(port("postgres://a:b%40@127.0.0.1:6543/db?x=1"), Some(6543));
        assert_eq!(port("amqp://host/vhost"), None);
    }

    #[test]
    fn this_process_uses_memory() {
        let (_, rss_mb) = process(std::process::id()).expect("this process is there");
        assert!(rss_mb > 1.0);
    }

    #[test]
    fn a_listener_is_found_by_its_port() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = socket.local_addr().expect("it is bound").port();
        assert_eq!(listener(port), Some(std::process::id()));
    }
}
