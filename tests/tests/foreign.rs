//! Workers in Python and JavaScript, as real processes beside those of the binary: what happens to
//! their jobs when they work, die, stand still, or answer twice.

use std::process::Command;

use flotilla_protocol::amqp::{Outgoing, queue_state};
use flotilla_protocol::names;
use flotilla_tests::{Client, Fleet, LIMIT, Service, Start, foreign, wait_until, within};
use serde_json::{Value, json};
use uuid::Uuid;

/// Executions of the workflow that is run in three languages.
const QUOTES: usize = 20;

fn lines() -> Value {
    json!([{"price": 450, "count": 1}, {"price": 1200, "count": 1}])
}

fn price(seconds: f64, timeout: f64) -> Start {
    let parameters = json!({"lines": lines(), "seconds": seconds, "timeout": timeout});
    Start::of("tests.price").parameters(&parameters)
}

/// Workers of the pool `prices` in each language; one that cannot be had is left out.
fn workers_of_prices() -> Vec<(&'static str, Command)> {
    let all = [
        ("python", foreign::python_worker("price.py", "prices")),
        ("full", foreign::python_worker("price_full.py", "prices")),
        ("node", foreign::node_worker("prices")),
    ];
    let there = all
        .into_iter()
        .filter_map(|(name, command)| Some((name, command?)));
    there.collect()
}

/// Waits until so many consume the queue of the pool `prices`.
async fn consumers(client: &Client, count: u32) {
    let queue = names::jobs_queue("prices");
    wait_until(&format!("{count} consume {queue}"), LIMIT, async || {
        let state = queue_state(&client.connection, &queue).await;
        let state = state.expect("the broker answers");
        state.is_some_and(|state| state.consumers == count)
    })
    .await;
}

/// What the log says about the attempts of the task of an execution.
async fn log(fleet: &Fleet, id: Uuid) -> Vec<(String, Option<i32>, Option<String>)> {
    let query = format!(
        "SELECT kind::text, attempt, to_status::text FROM workflow_transition
         WHERE execution_id = '{id}' AND task_id IS NOT NULL ORDER BY seq"
    );
    fleet.database.rows(&query).await
}

/// The answer at the end of an execution.
async fn end(client: &mut Client, id: Uuid) -> Value {
    let id = id.to_string();
    client.reply(names::WORKFLOW_FINISHED, &id).await.body
}

async fn ignored(fleet: &Fleet) -> Vec<(String, i32)> {
    let query = "SELECT reason::text, attempt FROM workflow_ignored_message ORDER BY id";
    fleet.database.rows(query).await
}

#[tokio::test]
async fn one_workflow_runs_in_three_languages() {
    let (Some(mut python), Some(mut node)) = (
        foreign::python_worker("price.py", "python"),
        foreign::node_worker("node"),
    ) else {
        return;
    };
    let fleet = Fleet::new().await;
    let coordinator = fleet.coordinator().await;
    let rust = fleet.worker().await;
    let python = fleet.spawn_foreign("python", &mut python).ready().await;
    let node = fleet.spawn_foreign("node", &mut node).ready().await;
    let mut client = fleet.client().await;
    let parameters = json!({"lines": lines()});
    let starts: Vec<Start> = (0..QUOTES)
        .map(|_| Start::of("tests.quotes").parameters(&parameters))
        .collect();
    client.start_all(&starts).await;
    for start in &starts {
        let id = start.execution_id().to_string();
        let finished = client.reply(names::WORKFLOW_FINISHED, &id).await.body;
        assert_eq!(finished["status"], "succeeded", "{finished}");
        assert_eq!(finished["output"], json!({"totals": [1650, 1650, 1650]}));
    }
    let workers: Vec<(String, i64)> = fleet
        .database
        .rows(
            "SELECT pool, count(DISTINCT worker) FROM workflow_task_detail
             WHERE worker IS NOT NULL AND started_at IS NOT NULL GROUP BY pool ORDER BY pool",
        )
        .await;
    let one = |pool: &str| (pool.to_owned(), 1);
    assert_eq!(workers, [one("default"), one("node"), one("python")]);
    assert_eq!(ignored(&fleet).await, []);
    python.kill();
    node.kill();
    fleet.rest([rust, coordinator]).await;
}

const SECRET: &str = "
ref: own.secret
tasks:
  - name: price
    action: shop.price
    pool: prices
    retry: {count: 3, delay: 60}
    input: {lines: [], token: \"{{ secret('token') }}\"}
";

#[tokio::test]
async fn a_worker_that_cannot_fill_in_secrets_refuses_the_job_at_once() {
    for (name, mut command) in workers_of_prices() {
        let fleet = Fleet::new().await;
        let file = fleet.folder.join("secret.yaml");
        std::fs::write(&file, SECRET).expect("the file is written");
        fleet.command_ok(&["register", &file.to_string_lossy()]);
        let coordinator = fleet.coordinator().await;
        let worker = fleet.spawn_foreign(name, &mut command).ready().await;
        let mut client = fleet.client().await;
        let finished = client.run(&Start::of("own.secret")).await;
        assert_eq!(finished["status"], "failed", "{name}: {finished}");
        let message = finished["errors"][0]["message"].as_str();
        assert_eq!(
            message,
            Some("this worker cannot fill in secrets"),
            "{name}"
        );
        worker.kill();
        fleet.rest([coordinator]).await;
    }
}

/// `kill -9` amid a job: another worker runs the same attempt, and has said so before.
#[tokio::test]
async fn a_job_of_a_killed_worker_runs_at_the_next() {
    for (name, mut command) in workers_of_prices() {
        let (fleet, coordinator, mut client, start) = with_a_job(price(3.0, 60.0)).await;
        let first = fleet.spawn_foreign(name, &mut command).ready().await;
        taken(&client).await;
        first.kill();
        consumers(&client, 0).await;
        let Some(mut second) = foreign::python_worker("price.py", "prices") else {
            return;
        };
        let second = fleet.spawn_foreign("python", &mut second).ready().await;
        let id = start.execution_id();
        let finished = end(&mut client, id).await;
        assert_eq!(finished["status"], "succeeded", "{name}: {finished}");
        assert_eq!(finished["output"]["quote"]["total"], 1650);
        assert_eq!(last_attempt(&fleet).await, (1, second.id()), "{name}");
        let kinds = log(&fleet, id).await;
        let count = |kind: &str| kinds.iter().filter(|(is, _, _)| is == kind).count();
        assert_eq!(count("task_dispatched"), 1, "{name}: {kinds:?}");
        assert!(count("task_started") >= 1, "{name}: {kinds:?}");
        assert_eq!(count("task_ended"), 1, "{name}: {kinds:?}");
        assert_eq!(ignored(&fleet).await, [], "{name}");
        second.kill();
        fleet.rest([coordinator]).await;
    }
}

/// A worker that stands still past the time limit of its job, and goes on when nobody waits any more.
#[tokio::test]
async fn the_late_answer_of_a_frozen_worker_is_ignored() {
    let (Some(mut first), Some(mut second)) = (
        foreign::python_worker("price_full.py", "prices"),
        foreign::python_worker("price.py", "prices"),
    ) else {
        return;
    };
    let (fleet, coordinator, mut client, start) = with_a_job(price(3.0, 4.0)).await;
    // With room for one job it cannot be given the second attempt, too.
    let frozen = fleet.spawn_foreign("frozen", first.env("AT_A_TIME", "1"));
    let frozen = frozen.ready().await;
    fleet.database.tasks("running", 1).await;
    frozen.freeze();
    let other = fleet.spawn_foreign("other", &mut second).ready().await;
    let id = start.execution_id();
    let finished = end(&mut client, id).await;
    assert_eq!(finished["status"], "succeeded", "{finished}");
    assert_eq!(last_attempt(&fleet).await, (2, other.id()));
    frozen.thaw();
    wait_until("the late answer is ignored", LIMIT, async || {
        ignored(&fleet).await == [("execution_finished".to_owned(), 1)]
    })
    .await;
    let ends = [
        ("task_retry_scheduled".to_owned(), Some(1), "retrying"),
        ("task_ended".to_owned(), Some(2), "succeeded"),
    ];
    let ends = ends.map(|(kind, attempt, to)| (kind, attempt, Some(to.to_owned())));
    let mut told = log(&fleet, id).await;
    told.retain(|(kind, _, _)| kind == "task_ended" || kind == "task_retry_scheduled");
    assert_eq!(told, ends);
    // It drains, and has nothing to drain.
    frozen.stop().await;
    other.kill();
    fleet.rest([coordinator]).await;
}

/// A worker that stands still, and of which nobody knows that it has a job: the broker gives the job
/// to another once it misses heartbeats.
#[tokio::test]
async fn the_broker_takes_a_job_from_a_frozen_worker() {
    let one_at_a_time = workers_of_prices().into_iter();
    for (name, mut command) in one_at_a_time.filter(|(name, _)| *name != "full") {
        let (fleet, coordinator, mut client, start) = with_a_job(price(1.0, 60.0)).await;
        let Some(mut other) = foreign::python_worker("price.py", "prices") else {
            return;
        };
        command.env("AMQP_URL", fleet.beating_url());
        let mut frozen = fleet.spawn_foreign(name, &mut command).ready().await;
        taken(&client).await;
        frozen.freeze();
        let other = fleet.spawn_foreign("other", &mut other).ready().await;
        let finished = end(&mut client, start.execution_id()).await;
        assert_eq!(finished["status"], "succeeded", "{name}: {finished}");
        assert_eq!(last_attempt(&fleet).await, (1, other.id()), "{name}");
        let told = log(&fleet, start.execution_id()).await;
        let is = |kind: &str| told.iter().any(|(told, _, _)| told == kind);
        assert!(is("task_started"), "{name}: its start is told: {told:?}");
        // Its connection is gone, so it ends; whoever runs it starts it anew.
        frozen.thaw();
        assert!(!frozen.ended().await.success(), "{name}");
        assert_eq!(ignored(&fleet).await, [], "{name}");
        other.kill();
        fleet.rest([coordinator]).await;
    }
}

/// The attempt that the only task is at, and the process that runs it.
async fn last_attempt(fleet: &Fleet) -> (i32, u32) {
    let rows: Vec<(i32, String)> = fleet
        .database
        .rows("SELECT attempt, worker FROM workflow_task_detail")
        .await;
    let [(attempt, worker)] = &rows[..] else {
        panic!("{rows:?}");
    };
    let id = worker.rsplit('/').next().and_then(|id| id.parse().ok());
    (*attempt, id.expect("workers are called host/pid"))
}

/// The same job delivered twice is answered twice, and counts once.
#[tokio::test]
async fn a_job_that_comes_twice_succeeds_once() {
    for (name, mut command) in workers_of_prices() {
        let (fleet, coordinator, mut client, start) = with_a_job(price(0.2, 60.0)).await;
        double(&client).await;
        let worker = fleet.spawn_foreign(name, &mut command).ready().await;
        let id = start.execution_id();
        let finished = end(&mut client, id).await;
        assert_eq!(finished["status"], "succeeded", "{name}: {finished}");
        // One at a time both are run; at the same time the second is taken for the first.
        if name != "full" {
            wait_until("the second answer is ignored", LIMIT, async || {
                let all = ignored(&fleet).await;
                all.iter().any(|(_, attempt)| *attempt == 1)
            })
            .await;
        }
        let ends = log(&fleet, id).await;
        let ends = ends.iter().filter(|(kind, _, _)| kind == "task_ended");
        assert_eq!(ends.count(), 1, "{name}");
        taken(&client).await;
        worker.kill();
        fleet.rest([coordinator]).await;
    }
}

/// Puts the job that waits a second time into its queue, as a coordinator may that does not know
/// whether the first is stored.
async fn double(client: &Client) {
    let queue = names::jobs_queue("prices");
    let consuming = client.connection.consume(&queue, 1).await;
    let mut jobs = consuming.expect("the queue is there");
    let job = within("job", jobs.next()).await.expect("a job waits");
    let again = Outgoing {
        message_id: job.envelope.message_id.clone(),
        correlation_id: job.envelope.correlation_id.clone(),
        reply_to: job.envelope.reply_to.clone(),
        ..Outgoing::to_queue(&queue, names::TASK_JOB, job.body.clone())
    };
    client.publish(again.clone()).await;
    client.publish(again).await;
    let taken = jobs.acker().ack(job.tag, false).await;
    assert!(taken.expect("the connection is open"), "too late");
    jobs.close().await;
}

/// A fleet without workers, and a job in the queue of the pool `prices`.
async fn with_a_job(start: Start) -> (Fleet, Service, Client, Start) {
    let fleet = Fleet::new().await;
    let coordinator = fleet.coordinator().await;
    let client = fleet.client().await;
    client.start(&start).await;
    waiting(&client, 1).await;
    (fleet, coordinator, client, start)
}

/// Waits until a worker has taken all jobs of the pool `prices`.
async fn taken(client: &Client) {
    waiting(client, 0).await;
}

async fn waiting(client: &Client, count: u32) {
    let queue = names::jobs_queue("prices");
    wait_until(&format!("{count} wait in {queue}"), LIMIT, async || {
        let state = queue_state(&client.connection, &queue).await;
        let state = state.expect("the broker answers");
        state.is_some_and(|state| state.messages == count)
    })
    .await;
}
