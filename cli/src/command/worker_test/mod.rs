//! `worker-test`: checks any worker against the contract, from outside, with nothing but AMQP.
//!
//! ```text
//! check ──► answers, delivery, long ──► bench ── task.job ──► the worker under test
//!   └──► verdict ──► one line, exit code   └──◄── what it says ──┘
//! ```
//!
//! The test is the worker's coordinator: no coordinator of a fleet hears of it, but for the dead letters
//! that messages make which are no jobs.

mod answers;
mod bench;
mod check;
mod delivery;
mod long;
mod process;
mod report;
mod verdict;

use std::time::Duration;

use clap::{Args, ValueEnum};
use flotilla_protocol::RawJson;
use flotilla_protocol::amqp::{declare_pool, delete_queue, queue_state};
use flotilla_protocol::names;
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout};

use self::bench::{Bench, Subject};
use self::check::{Check, Inputs};
use self::process::Process;
use self::report::{Line, Report};
use self::verdict::{Clause, Stop, Verdict};
use super::start::seconds;
use crate::arguments::Global;
use crate::broker;
use crate::failure::{Exit, Failure};
use crate::output::explain;
use crate::shutdown::Shutdown;

/// How long jobs that a check left behind are looked for.
const CLEARING: Duration = Duration::from_millis(300);

/// What `worker-test` takes.
#[derive(Debug, Args)]
#[command(
    after_help = "The test plays the coordinator for a worker of a pool of its own. With --command it starts the \
worker itself (AMQP_URL tells it where the broker is), so that it can kill and freeze it; without, one \
worker must consume the pool already. docs/workers.md explains each check.\n\n\
Exit codes: 0 every required check has passed or was skipped; 1 a check has failed; 2 the test cannot be \
made as asked; 3 the broker cannot be reached.\n\n\
Example: flotilla worker-test --pool check --action demo.work --command 'python3 worker.py check'"
)]
pub struct WorkerTestArguments {
    /// The pool of the worker under test; no other worker and no workflow may use it
    #[arg(long, value_name = "P")]
    pool: String,
    /// The action that is asked for
    #[arg(long, value_name = "NAME")]
    action: String,
    /// An input with which it succeeds
    #[arg(long, value_name = "JSON", default_value = "{}", value_parser = json)]
    input: RawJson,
    /// An input with which it fails
    #[arg(long, value_name = "JSON", value_parser = json)]
    failing_input: Option<RawJson>,
    /// An input with which it takes between 2 s and half of --patience
    #[arg(long, value_name = "JSON", value_parser = json)]
    slow_input: Option<RawJson>,
    /// Starts the worker, as a shell reads it
    #[arg(long, value_name = "CMD")]
    command: Option<String>,
    /// Only this check; may be repeated
    #[arg(long, value_name = "CHECK", value_enum)]
    only: Vec<Check>,
    /// Seconds that an answer may take
    #[arg(long, value_name = "S", default_value = "30", value_parser = seconds)]
    patience: Duration,
    /// Seconds that a worker stands still in the check `frozen`
    #[arg(long, value_name = "S", default_value = "5", value_parser = seconds)]
    freeze: Duration,
}

/// Makes the checks, and shows each as it ends.
pub async fn run(global: &Global, arguments: WorkerTestArguments) -> Result<Exit, Failure> {
    let shutdown = Shutdown::listen()?;
    let tested = Box::pin(test(global, arguments));
    tokio::select! {
        tested = tested => tested,
        // The worker is killed with what is dropped here.
        () = shutdown.asked() => Err(Failure::refused("interrupted").of_kind("interrupted")),
    }
}

async fn test(global: &Global, arguments: WorkerTestArguments) -> Result<Exit, Failure> {
    let url = global.amqp_url()?;
    let pool = arguments.pool;
    check_pool(&pool)?;
    let subject = Subject {
        pool: pool.clone(),
        action: arguments.action,
        input: arguments.input,
        patience: arguments.patience,
        freeze: arguments.freeze,
    };
    let inputs = Inputs {
        failing: arguments.failing_input,
        slow: arguments.slow_input,
    };
    let mut bench = Bench::open(&url, subject).await?;
    let is_new_pool = prepare(&mut bench, arguments.command.as_deref(), &url).await?;
    let mut report = Report::new(pool, global.output.is_json());
    for &check in Check::value_variants() {
        if arguments.only.is_empty() || arguments.only.contains(&check) {
            report.add(make(check, &mut bench, &inputs).await?);
        }
    }
    if let Some(worker) = &mut bench.worker {
        worker.stop().await;
    }
    if is_new_pool && bench.worker.is_some() {
        delete(&bench).await?;
    }
    bench.connection.close().await;
    Ok(report.end())
}

/// One check, from the state in which it may begin to that in which the next may.
async fn make(check: Check, bench: &mut Bench, inputs: &Inputs) -> Result<Line, Failure> {
    let began_at = Instant::now();
    let made = match is_ready(bench).await {
        Ok(()) => check.run(bench, inputs).await,
        Err(stop) => Err(stop),
    };
    let verdict = match made {
        Ok(verdict) => verdict,
        Err(Stop::Found(finding)) => Verdict::Failed(finding),
        Err(Stop::Broken(failure)) => return Err(failure),
    };
    if let Verdict::Failed(_) = verdict {
        clear(bench).await?;
    }
    Ok(Line {
        check,
        verdict,
        took: began_at.elapsed(),
    })
}

fn check_pool(pool: &str) -> Result<(), Failure> {
    if !names::is_pool_name(pool) {
        return Err(Failure::refused(format!(
            "the pool `{pool}` may hold letters, digits, `_`, `-` and `.` only"
        )));
    }
    if pool == names::DEFAULT_POOL {
        return Err(Failure::refused(
            "the pool `default` is that of the fleet, whose jobs would be mixed with those of the test",
        )
        .hint("give the worker a pool of its own, as in --pool worker-test"));
    }
    Ok(())
}

/// Makes sure that nobody else uses the pool, and starts the worker if that is asked; whether the
/// queue was made for the test.
async fn prepare(bench: &mut Bench, command: Option<&str>, url: &str) -> Result<bool, Failure> {
    let could_not = |error| broker::failed("could not prepare the queue of the pool", error);
    let before = queue_state(&bench.connection, &bench.queue()).await;
    let before = before.map_err(could_not)?;
    declare_pool(&bench.connection, &bench.subject.pool)
        .await
        .map_err(could_not)?;
    let (messages, consumers) = before.map_or((0, 0), |state| (state.messages, state.consumers));
    let queue = bench.queue();
    if messages > 0 {
        return Err(Failure::refused(format!(
            "{messages} jobs wait in {queue}: somebody uses this pool"
        ))
        .hint("give the worker a pool of its own for the test"));
    }
    let wanted = u32::from(command.is_none());
    if consumers > wanted {
        return Err(Failure::refused(format!(
            "{consumers} consume {queue}, and the test needs the pool for itself"
        ))
        .hint("stop them, or give the worker under test another pool"));
    }
    if let Some(command) = command {
        bench.worker = Some(Process::new(command, url));
        delivery::start(bench).await?;
    } else if consumers == 0 {
        explain(&format!("waiting for a worker on {queue}"));
        if !bench.queue_is(|state| state.consumers > 0).await? {
            return Err(Failure::refused(format!("no worker consumes {queue}"))
                .hint("start the worker, or let --command start it"));
        }
    }
    Ok(before.is_none())
}

/// Makes sure that the worker consumes; one that has ended is started again if the test can.
async fn is_ready(bench: &mut Bench) -> Result<(), Stop> {
    if let Some(worker) = &mut bench.worker {
        if !worker.is_running() {
            worker.kill().await;
            delivery::start(bench).await?;
        }
        return Ok(());
    }
    if bench.state().await?.consumers == 0 {
        return Clause::Answer.broken("the worker does not consume any more: it has ended");
    }
    Ok(())
}

/// Takes away what a failed check has left behind. A worker that hangs with it is ended.
async fn clear(bench: &mut Bench) -> Result<(), Failure> {
    if let Some(worker) = &mut bench.worker {
        worker.kill().await;
        bench.queue_is(|state| state.consumers == 0).await?;
    }
    let could_not = |error| broker::failed("could not clear the queue of the pool", error);
    let queue = bench.queue();
    let consuming = bench.connection.consume_first(&queue, 100).await;
    let mut leftovers = consuming.map_err(could_not)?;
    while let Ok(Some(job)) = timeout(CLEARING, leftovers.next()).await {
        let taken = leftovers.acker().ack(job.tag, false).await;
        taken.map_err(could_not)?;
    }
    leftovers.close().await;
    Ok(())
}

async fn delete(bench: &Bench) -> Result<(), Failure> {
    // A worker of ours asks for bundles, too.
    for queue in [bench.queue(), names::bundles_queue(&bench.subject.pool)] {
        delete_queue(&bench.connection, &queue)
            .await
            .map_err(|error| broker::failed("could not remove a queue of the pool", error))?;
    }
    Ok(())
}

/// Reads an argument that is JSON.
fn json(text: &str) -> Result<RawJson, String> {
    RawValue::from_string(text.to_owned()).map_err(|error| error.to_string())
}
