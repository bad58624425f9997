//! What is around every load: a folder, processes, the state of the servers before it, and what they
//! say afterwards.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::arguments::FleetArguments;
use crate::audit::{Audit, audit};
use crate::costs::{Costs, Counters, Messages, messages_of};
use crate::failure::Failure;
use crate::load::Load;
use crate::machine::Machine;
use crate::measure::Measured;
use crate::others::Others;
use crate::processes::{Processes, prepare};
use crate::shape::Mix;
use crate::stages::{self, Stages};

/// By how much the first execution may seem to be created before the load began.
const CLOCK_MARGIN: Duration = Duration::from_secs(1);
/// Findings that are printed; their number is in the report.
const SHOWN_FINDINGS: usize = 20;

/// A fleet that is ready for a load.
pub struct Session<'a> {
    fleet: &'a FleetArguments,
    /// Where processes leave files; it goes away with the session.
    pub folder: Folder,
    processes: Processes,
    others: Others,
    counters: Counters,
    began: Instant,
}

/// What is known after a load.
pub struct After {
    /// What was lost or doubled.
    pub audit: Audit,
    /// How many of the processes did not drain and end well when they were told to.
    pub failed_processes: usize,
    /// What a task costs the servers.
    pub costs: Costs,
    /// Where the time goes.
    pub stages: Stages,
    /// What it ran on.
    pub machine: Machine,
    /// Where processes left files.
    pub folder: Folder,
}

impl<'a> Session<'a> {
    /// Prepares the database, registers the workflows, and starts the processes.
    pub async fn begin(
        fleet: &'a FleetArguments,
        mix: &Mix,
        callgrind: bool,
    ) -> Result<Self, Failure> {
        let folder = Folder::create()?;
        prepare(fleet, &folder.0, &mix.workflows).await?;
        let processes = Processes::start(fleet, &folder.0, callgrind).await?;
        let others = Others::look(fleet).await?;
        let counters = Counters::read(&fleet.database.url).await?;
        Ok(Self {
            fleet,
            folder,
            processes,
            others,
            counters,
            began: Instant::now(),
        })
    }

    /// The processes and servers that can be looked at.
    pub fn measured(&self) -> Measured {
        let fleet = self.fleet;
        let urls = (fleet.database.url.as_str(), fleet.amqp_url.as_str());
        Measured::new(&self.processes, self.others, urls)
    }

    /// Stops the processes; how many of them did not drain and end well.
    pub async fn stop(self) -> usize {
        self.processes.stop().await.failed
    }

    /// Stops the processes and looks at what the load has left.
    pub async fn end(self, load: &Load) -> Result<After, Failure> {
        let url = &self.fleet.database.url;
        load.close().await;
        let stopped = self.processes.stop().await;
        // Before the audit, whose transactions are not the fleet's.
        let after = Counters::read(url).await?;
        let workflows = &load.mix.workflows;
        let audit = audit(
            url,
            workflows,
            load.starts.id_range(),
            &load.starts.by_workflow(workflows.len()),
            self.began.elapsed() + CLOCK_MARGIN,
        )
        .await?;
        print_findings(&audit);
        let messages = BTreeMap::from([
            (
                "coordinator",
                messages_of(&stopped.coordinators, self.others.coordinators),
            ),
            ("worker", messages_of(&stopped.workers, self.others.workers)),
            (
                "loadtest",
                Some(Messages::of_this_process(load.messages_before)),
            ),
        ]);
        let tasks = load.tasks();
        let started = (load.starts.len() as u64).max(1);
        Ok(After {
            audit,
            failed_processes: stopped.failed,
            costs: after.costs_since(&self.counters, &messages, tasks),
            stages: stages::look(url, &load.starts, &load.samples, tasks / started).await?,
            machine: Machine::look(url).await?,
            folder: self.folder,
        })
    }
}

fn print_findings(audit: &Audit) {
    for finding in audit.findings.iter().take(SHOWN_FINDINGS) {
        let execution = finding.execution_id.map(|id| id.to_string());
        eprintln!(
            "flotilla-loadtest: {}: {}: {}",
            finding.invariant,
            execution.unwrap_or_default(),
            finding.detail
        );
    }
}

/// A folder for logs that goes away with the run.
#[derive(Debug)]
pub struct Folder(pub PathBuf);

impl Folder {
    /// In the system's folder for such files.
    pub fn create() -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("flotilla-loadtest-{}", Uuid::now_v7()));
        std::fs::create_dir(&path).map_err(|source| Failure::File {
            path: path.clone(),
            source,
        })?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let path: &Path = &self.0;
        // Logs in a temporary folder do no harm.
        let _ = std::fs::remove_dir_all(path);
    }
}
