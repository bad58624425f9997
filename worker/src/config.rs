//! What a worker is told before it starts.

use std::time::Duration;

use flotilla_protocol::names::MAX_BUNDLED_JOBS;

/// How long a job may run before `task.started` says that it does.
const STARTED_AFTER: Duration = Duration::from_millis(500);
/// How long a job may run before it is acknowledged.
const ACKNOWLEDGE_AFTER: Duration = Duration::from_secs(600);
/// How long an acknowledged job may give no sign of life.
const HEARTBEAT: Duration = Duration::from_secs(60);
/// How long an idle pool may deliver nothing before it is consumed anew.
const SILENCE_LIMIT: Duration = Duration::from_secs(10);

/// The settings of a [`Worker`](crate::Worker). [`WorkerConfig::new`] has the usual ones.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// The broker, `amqp://user:password@host:port/vhost`.
    pub amqp_url: String,
    /// The name that completions carry and that rows show, at most 255 bytes.
    pub name: String,
    /// The pools whose jobs it takes.
    pub pools: Vec<String>,
    /// How many jobs run at a time, over all pools.
    pub concurrency: u16,
    /// How many jobs are fetched from each pool, running ones included. More keeps short jobs
    /// coming while answers are being confirmed; fewer keeps jobs from waiting behind long ones
    /// here while another worker is idle. `None`: 16 times [`WorkerConfig::concurrency`]. Never
    /// fewer than can run. Of those that cannot run yet as many again may be here in bundles, where
    /// jobs come fast; with a prefetch below 9 times [`WorkerConfig::concurrency`] there are none.
    pub prefetch: Option<u16>,
    /// How long running jobs may go on after the shutdown was asked for.
    pub drain_timeout: Duration,
    /// Whether `core.shell` may run programs.
    pub allow_shell: bool,
    /// How long a job runs before `task.started` is sent; a shorter one's start travels in its completion.
    pub started_after: Duration,
    /// How long a job runs before it is acknowledged, announced and kept alive by heartbeats: well below
    /// the broker's acknowledgement timeout (30 minutes, unless it is told otherwise), after which the
    /// broker takes all jobs of a pool from this worker.
    pub acknowledge_after: Duration,
    /// How long the coordinator waits for a heartbeat of an acknowledged job before it sends the job
    /// again, at least a second; three are sent in this time.
    pub heartbeat: Duration,
    /// How long a pool that has no job here may deliver nothing before it is consumed anew, more than
    /// nothing and at most twice as long: the broker may have forgotten to whom it delivers.
    pub silence_limit: Duration,
    /// How long the first connection is tried for; `None`: until it succeeds. Later ones never give up.
    pub connect_limit: Option<Duration>,
}

impl WorkerConfig {
    /// The usual settings: the pool `default`, 16 jobs at a time, no shell.
    #[must_use]
    pub fn new(amqp_url: impl Into<String>) -> Self {
        Self {
            amqp_url: amqp_url.into(),
            name: default_name(),
            pools: vec![flotilla_protocol::names::DEFAULT_POOL.to_owned()],
            concurrency: 16,
            prefetch: None,
            drain_timeout: Duration::from_secs(30),
            allow_shell: false,
            started_after: STARTED_AFTER,
            acknowledge_after: ACKNOWLEDGE_AFTER,
            heartbeat: HEARTBEAT,
            silence_limit: SILENCE_LIMIT,
            connect_limit: Some(Duration::from_secs(10)),
        }
    }
}

/// Jobs fetched for each that can run at a time, unless the settings say otherwise.
///
/// The more short jobs are in a worker's hands, the more it answers at a time, and the larger and cheaper
/// the coordinator's turns are: with 8, chains and single tasks were a seventh slower on two cores; 32 was
/// faster than 16 for chains only, by a twentieth.
const PREFETCH_FACTOR: u16 = 16;

impl WorkerConfig {
    /// How many jobs are fetched from each pool; never fewer than can run.
    pub(crate) fn fetched(&self) -> u16 {
        let usual = self.concurrency.saturating_mul(PREFETCH_FACTOR);
        self.prefetch.unwrap_or(usual).max(self.concurrency)
    }

    /// How many bundles are fetched from each pool: as many as hold the jobs that wait here anyway, or
    /// none where that is fewer than run at a time, or than two: each may be held up by one of its jobs,
    /// and the next has to come meanwhile.
    pub(crate) fn fetched_bundles(&self) -> u16 {
        let waiting = usize::from(self.fetched() - self.concurrency);
        let bundles = u16::try_from(waiting / MAX_BUNDLED_JOBS).unwrap_or(u16::MAX);
        if bundles < self.concurrency.max(2) {
            return 0;
        }
        bundles
    }
}

/// The host's name and the process id, which tells workers apart in rows and logs.
fn default_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = match host.trim() {
        "" => "worker",
        host => host,
    };
    format!("{host}/{}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_jobs_are_fetched_for_each_that_runs_and_never_fewer_than_run() {
        let fetched = |concurrency, prefetch| {
            let mut config = WorkerConfig::new("amqp://localhost");
            (config.concurrency, config.prefetch) = (concurrency, prefetch);
            config.fetched()
        };
        assert_eq!(
            (fetched(16, None), fetched(u16::MAX, None)),
            (256, u16::MAX)
        );
        assert_eq!((fetched(4, Some(9)), fetched(4, Some(1))), (9, 4));
    }

    #[test]
    fn bundles_are_fetched_where_jobs_may_wait() {
        let fetched = |concurrency, prefetch| {
            let mut config = WorkerConfig::new("amqp://localhost");
            (config.concurrency, config.prefetch) = (concurrency, prefetch);
            config.fetched_bundles()
        };
        assert_eq!((fetched(16, None), fetched(2, None)), (30, 3));
        assert_eq!((fetched(1, None), fetched(1, Some(17))), (0, 2));
        assert_eq!((fetched(16, Some(16)), fetched(16, Some(143))), (0, 0));
        assert_eq!(fetched(16, Some(144)), 16);
    }
}
