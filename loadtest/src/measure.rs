//! What processes use: CPU time and memory, from `/proc`.

use std::collections::BTreeMap;
use std::fs;

use crate::others::Others;
use crate::processes::Processes;
use crate::servers::{listener, pids};

/// Bytes of a page, as this kernel counts resident memory.
const PAGE_BYTES: u64 = 4096;
/// Clock ticks a second in `/proc`, the same on every Linux that we run on.
const TICKS_PER_SECOND: f64 = 100.0;

/// The processes that are measured, by the names in the report; `None`: not to be seen from here.
#[derive(Debug, Clone)]
pub struct Measured(BTreeMap<&'static str, Option<Vec<u32>>>);

/// What each of them has used.
#[derive(Debug, Clone)]
pub struct Usage(pub BTreeMap<&'static str, Option<Used>>);

/// What a group of processes has used.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Used {
    /// CPU time since their start, in milliseconds.
    pub cpu_ms: f64,
    /// Resident memory now, in MB.
    pub rss_mb: f64,
}

impl Measured {
    /// The run's own processes and the servers. Of a kind of which others take part of the work nothing
    /// is measured: what is seen of it would be too little.
    pub fn new(
        processes: &Processes,
        others: Others,
        (database_url, amqp_url): (&str, &str),
    ) -> Self {
        let all = |ids: Vec<u32>, others: u32| (!ids.is_empty() && others == 0).then_some(ids);
        let coordinators = all(processes.coordinators(), others.coordinators);
        Self(BTreeMap::from([
            ("coordinator", coordinators),
            ("worker", all(processes.workers(), others.workers)),
            ("loadtest", Some(vec![std::process::id()])),
            (
                "postgres",
                listener(database_url, 5432).map(|pid| vec![pid]),
            ),
            ("rabbitmq", listener(amqp_url, 5672).map(|pid| vec![pid])),
        ]))
    }

    /// All of these that can be seen, each with the processes that it has started.
    pub fn pids(&self) -> BTreeMap<&'static str, Vec<u32>> {
        let stats = stats();
        let seen = self.0.iter();
        let seen = seen.filter_map(|(name, roots)| Some((*name, roots.as_ref()?)));
        seen.map(|(name, roots)| (name, descendants(&stats, roots)))
            .collect()
    }

    /// What they have used until now.
    pub fn usage(&self) -> Usage {
        let stats = stats();
        let used = |roots: &Vec<u32>| tree(&stats, roots);
        Usage(
            self.0
                .iter()
                .map(|(name, roots)| (*name, roots.as_ref().map(used)))
                .collect(),
        )
    }
}

impl Usage {
    /// Memory of their own now, in MB.
    pub fn rss_mb(&self) -> BTreeMap<&'static str, Option<f64>> {
        let memory = |used: &Option<Used>| used.map(|used| used.rss_mb);
        let all = self.0.iter();
        all.map(|(name, used)| (*name, memory(used))).collect()
    }

    /// CPU time since `before`, in milliseconds.
    pub fn cpu_since(&self, before: &Self) -> BTreeMap<&'static str, Option<f64>> {
        let since = |name: &str, now: &Option<Used>| {
            let then = before.0.get(name).copied().flatten()?;
            Some((now.as_ref()?.cpu_ms - then.cpu_ms).max(0.0))
        };
        self.0
            .iter()
            .map(|(name, now)| (*name, since(name, now)))
            .collect()
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Stat {
    parent: u32,
    used: Used,
}

fn stats() -> BTreeMap<u32, Stat> {
    let read = |pid| Some((pid, read(pid)?));
    pids().into_iter().filter_map(read).collect()
}

/// What the processes and all that they have started have used.
fn tree(stats: &BTreeMap<u32, Stat>, roots: &[u32]) -> Used {
    let mut total = Used::default();
    for pid in descendants(stats, roots) {
        if let Some(stat) = stats.get(&pid) {
            total.cpu_ms += stat.used.cpu_ms;
            total.rss_mb += stat.used.rss_mb;
        }
    }
    total
}

/// The processes and all that they have started; of this one, only itself.
fn descendants(stats: &BTreeMap<u32, Stat>, roots: &[u32]) -> Vec<u32> {
    let own = std::process::id();
    let (mut found, mut rest) = (Vec::new(), roots.to_vec());
    while let Some(pid) = rest.pop() {
        let children = stats
            .iter()
            .filter(|(_, stat)| stat.parent == pid && pid != own);
        rest.extend(children.map(|(child, _)| *child));
        found.push(pid);
    }
    found
}

fn read(pid: u32) -> Option<Stat> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let pages = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let mut parsed = parse(&stat)?;
    // Shared pages count once for each process that has touched them, unless they are left out.
    let mut pages = pages
        .split(' ')
        .skip(1)
        .map(|field| field.trim().parse::<u64>().unwrap_or(0));
    let (resident, shared) = (pages.next()?, pages.next()?);
    parsed.used.rss_mb = megabytes(resident.saturating_sub(shared) * PAGE_BYTES);
    Some(parsed)
}

/// Reads the line of a process. Children that have ended count with their parent.
fn parse(stat: &str) -> Option<Stat> {
    // The name may hold anything, also brackets and blanks.
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let number = |field: usize| fields.get(field).and_then(|text| text.parse::<f64>().ok());
    let ticks = number(11)? + number(12)? + number(13)? + number(14)?;
    let parent = fields.get(1)?.parse().ok()?;
    Some(Stat {
        parent,
        used: Used {
            cpu_ms: ticks * 1000.0 / TICKS_PER_SECOND,
            rss_mb: 0.0,
        },
    })
}

#[expect(
    clippy::cast_precision_loss,
    reason = "nobody reads the last byte of a size in MB"
)]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "42 (a) b (c) S 7 42 42 0 -1 4194304 1 2 3 4 50 30 15 5 20 0 1 0 100 1 1";

    #[test]
    fn a_line_of_proc_gives_parent_and_time() {
        let stat = parse(LINE).unwrap();
        assert_eq!(stat.parent, 7);
        assert!((stat.used.cpu_ms - 1000.0).abs() < 1e-9);
    }

    #[test]
    fn a_tree_counts_all_descendants() {
        let stat = |parent| Stat {
            parent,
            used: Used {
                cpu_ms: 1.0,
                rss_mb: 2.0,
            },
        };
        let stats = BTreeMap::from([(2, stat(1)), (3, stat(2)), (4, stat(3)), (5, stat(1))]);
        assert_eq!(
            tree(&stats, &[2]),
            Used {
                cpu_ms: 3.0,
                rss_mb: 6.0
            }
        );
    }
}
