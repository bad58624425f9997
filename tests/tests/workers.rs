//! Workers that freeze or die, and jobs and completions that are lost on their way: every task ends,
//! and once.

use flotilla_protocol::amqp::{Delivery, Outgoing, delete_queue, queue_depth};
use flotilla_protocol::message::TaskStarted;
use flotilla_protocol::{decode_job, names};
use flotilla_tests::{Client, Fleet, LIMIT, Options, Service, Start, wait_until, within};
use serde_json::json;
use uuid::Uuid;

/// Makes coordinators look for lost jobs soon.
const RESEND_SOON: [&str; 2] = ["--resend-after", "2"];
/// Jobs that the worker fetches which freezes.
const FETCHED: usize = 8;
const INNOCENTS: i64 = 50;
/// Jobs that are lost.
const LOST: u32 = 10;
/// Deliveries after which the broker gives a job up (`x-delivery-limit` of the job queues, and the
/// first).
const DELIVERIES: usize = 21;

/// A start of `tests.sleep`, with nobody to tell.
fn sleep(seconds: f64, timeout: f64) -> Start {
    let parameters = json!({"seconds": seconds, "timeout": timeout});
    Start::of("tests.sleep").parameters(&parameters).silent()
}

fn jobs_queue() -> String {
    names::jobs_queue(names::DEFAULT_POOL)
}

/// Waits until so many messages wait in a queue.
async fn depth(client: &Client, queue: &str, count: u32) {
    wait_until(&format!("{count} wait in {queue}"), LIMIT, async || {
        let depth = queue_depth(&client.connection, queue).await;
        depth.expect("the broker answers") == Some(count)
    })
    .await;
}

/// The attempts of the tasks of an execution, with their ends, as the log tells them.
async fn attempts(fleet: &Fleet, id: Uuid) -> Vec<(i32, String, Option<String>)> {
    let query = format!(
        "SELECT attempt, kind::text, to_status::text FROM workflow_transition
         WHERE execution_id = '{id}' AND kind IN ('task_ended', 'task_retry_scheduled') ORDER BY seq"
    );
    fleet.database.rows(&query).await
}

#[tokio::test]
async fn the_late_completion_of_a_frozen_worker_is_ignored() {
    let fleet = Fleet::new().await;
    let coordinator = fleet.coordinator().await;
    let frozen = fleet
        .worker_with(&[
            "--name",
            "frozen",
            "--concurrency",
            "1",
            "--prefetch",
            &FETCHED.to_string(),
        ])
        .await;
    let client = fleet.client().await;
    // Long enough that it is frozen amid it on a busy machine, too.
    let start = sleep(3.0, 4.0);
    let id = start.execution_id();
    client.start(&start).await;
    fleet.database.tasks("running", 1).await;
    // It holds as many jobs as it fetches, so that the retry cannot come to it.
    for _ in 1..FETCHED {
        client.start(&Start::of("examples.single").silent()).await;
    }
    fleet
        .database
        .tasks("dispatched", i64::try_from(FETCHED - 1).unwrap())
        .await;
    depth(&client, &jobs_queue(), 0).await;
    frozen.freeze();

    let other = fleet.worker_with(&["--name", "other"]).await;
    let retried = format!(
        "SELECT count(*) FROM workflow_task_detail WHERE execution_id = '{id}'
             AND status = 'running' AND attempt = 2 AND worker = 'other'"
    );
    wait_until(
        "another worker runs the second attempt",
        LIMIT,
        async || fleet.database.number(&retried).await == 1,
    )
    .await;
    frozen.thaw();
    let ignored = "SELECT reason::text, worker FROM workflow_ignored_message";
    wait_until("the late completion is ignored", LIMIT, async || {
        let rows: Vec<(String, String)> = fleet.database.rows(ignored).await;
        rows == [("stale_attempt".to_owned(), "frozen".to_owned())]
    })
    .await;
    fleet
        .database
        .succeeded(i64::try_from(FETCHED).unwrap())
        .await;
    let ends = [
        (
            1,
            "task_retry_scheduled".to_owned(),
            Some("retrying".to_owned()),
        ),
        (2, "task_ended".to_owned(), Some("succeeded".to_owned())),
    ];
    assert_eq!(attempts(&fleet, id).await, ends);
    fleet.rest([frozen, other, coordinator]).await;
}

#[tokio::test]
async fn a_job_that_kills_workers_takes_no_innocents_with_it() {
    let fleet = Fleet::new().await;
    let coordinator = fleet.coordinator().await;
    let client = fleet.client().await;
    let killer = Start::of("tests.killer").silent();
    client.start(&killer).await;
    depth(&client, &jobs_queue(), 1).await;
    for _ in 0..INNOCENTS {
        client.start(&sleep(0.1, 60.0)).await;
    }
    depth(&client, &jobs_queue(), 51).await;

    // All of them are fetched at once.
    let start_worker = || fleet.spawn(&["worker", "--allow-shell", "--concurrency", "8"], &[]);
    let mut worker = start_worker();
    let mut deaths = 0;
    let finished = "SELECT count(*) FROM workflow_execution_summary WHERE finished_at IS NOT NULL";
    wait_until("all jobs have ended", LIMIT, async || {
        if !worker.is_running() {
            deaths += 1;
            worker = start_worker();
        }
        fleet.database.number(finished).await == INNOCENTS + 1
    })
    .await;
    println!("{deaths} workers were killed");
    // The first start need not have been told, and the last may have come just before it counted.
    assert!((6..=8).contains(&deaths), "{deaths} workers were killed");
    assert_eq!(fleet.database.executions("succeeded").await, INNOCENTS);
    let ended: Vec<(String, i32, String)> = fleet
        .database
        .rows("SELECT status::text, attempt, error_kind FROM workflow_task_detail WHERE task = 'kill'")
        .await;
    assert_eq!(ended, [("failed".to_owned(), 1, "worker_lost".to_owned())]);
    let worker = worker.ready().await;
    fleet.rest([worker, coordinator]).await;
}

#[tokio::test]
async fn jobs_of_a_purged_queue_are_published_again() {
    jobs_survive(async |client, queue| {
        // What a purge does, without the rights that it needs.
        let mut jobs = client.connection.consume(queue, 0).await.unwrap();
        for _ in 0..LOST {
            let job = within("job", jobs.next()).await.expect("there are jobs");
            assert!(jobs.acker().ack(job.tag, false).await.unwrap());
        }
        jobs.close().await;
    })
    .await;
}

#[tokio::test]
async fn jobs_of_a_deleted_queue_are_published_again() {
    jobs_survive(async |client, queue| {
        delete_queue(&client.connection, queue).await.unwrap();
    })
    .await;
}

/// Loses jobs that wait in their queue; a worker that comes later must get them all.
async fn jobs_survive(lose: impl AsyncFnOnce(&Client, &str)) {
    let fleet = Fleet::new().await;
    let coordinators = [
        fleet.coordinator_with(&RESEND_SOON).await,
        fleet.coordinator_with(&RESEND_SOON).await,
    ];
    let client = fleet.client().await;
    for _ in 0..LOST {
        client.start(&Start::of("examples.single").silent()).await;
    }
    depth(&client, &jobs_queue(), LOST).await;
    lose(&client, &jobs_queue()).await;
    let worker = fleet.worker().await;
    fleet.database.succeeded(i64::from(LOST)).await;
    let resent = fleet.database.transitions("job_resent").await;
    assert_eq!(resent, i64::from(LOST), "each job was lost once");
    let [first, second] = coordinators;
    fleet.rest([worker, first, second]).await;
}

#[tokio::test]
async fn a_completion_finds_its_way_though_its_inbox_was_deleted() {
    let (fleet, coordinator, client) = with_one_inbox().await;
    let worker = fleet.worker().await;
    for _ in 0..LOST {
        client.start(&sleep(1.5, 60.0)).await;
    }
    fleet.database.tasks("running", i64::from(LOST)).await;
    delete_queue(&client.connection, &names::inbox_queue(0))
        .await
        .unwrap();
    fleet.database.succeeded(i64::from(LOST)).await;
    fleet.rest([worker, coordinator]).await;
}

/// The worker has its confirm, and the completion goes down with the queue.
#[tokio::test]
async fn a_completion_that_is_lost_with_its_inbox_is_made_again() {
    let (fleet, coordinator, client) = with_one_inbox().await;
    for _ in 0..LOST {
        client.start(&Start::of("examples.single").silent()).await;
    }
    depth(&client, &jobs_queue(), LOST).await;
    // The next owner would publish the jobs once more by itself while they are owed.
    let owed = "SELECT count(*) FROM workflow_outbox";
    wait_until("nothing is owed", LIMIT, async || {
        fleet.database.number(owed).await == 0
    })
    .await;
    coordinator.kill();
    let worker = fleet.worker().await;
    see_completions(&client, LOST).await;
    worker.stop().await;
    delete_queue(&client.connection, &names::inbox_queue(0))
        .await
        .unwrap();
    let coordinator = fleet.coordinator_with(&RESEND_SOON).await;
    let worker = fleet.worker().await;
    fleet.database.succeeded(i64::from(LOST)).await;
    let resent = fleet.database.transitions("job_resent").await;
    assert_eq!(resent, i64::from(LOST), "each completion was lost once");
    fleet.rest([worker, coordinator]).await;
}

/// Waits until so many completions are in the inbox. They are not taken.
async fn see_completions(client: &Client, count: u32) {
    let consuming = client.connection.consume(&names::inbox_queue(0), 0).await;
    let mut inbox = consuming.expect("the inbox is there");
    let mut seen = 0;
    while seen < count as usize {
        let delivery = within("completion", inbox.next()).await;
        let body = delivery.expect("the inbox is there").body;
        let message: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        seen += message.as_array().map_or(1, Vec::len);
    }
    inbox.close().await;
}

/// A fleet of one partition, whose coordinator looks for lost jobs soon.
async fn with_one_inbox() -> (Fleet, Service, Client) {
    let options = Options {
        partitions: 1,
        ..Options::default()
    };
    let fleet = Fleet::with(options).await;
    let coordinator = fleet.coordinator_with(&RESEND_SOON).await;
    let client = fleet.client().await;
    (fleet, coordinator, client)
}

#[tokio::test]
async fn a_job_that_the_broker_gives_up_is_published_again() {
    let (fleet, coordinator, client, start) = with_a_job().await;
    give_back(&client, async |_| {}).await;
    dead_letter(&fleet).await;
    let worker = fleet.worker().await;
    fleet.database.succeeded(1).await;
    assert_eq!(fleet.database.transitions("job_resent").await, 1);
    let ends = [(1, "task_ended".to_owned(), Some("succeeded".to_owned()))];
    assert_eq!(attempts(&fleet, start.execution_id()).await, ends);
    fleet.rest([worker, coordinator]).await;
}

#[tokio::test]
async fn a_job_whose_workers_died_too_often_is_not_published_again() {
    let (fleet, coordinator, client, start) = with_a_job().await;
    // As workers tell it that die right after.
    let mut starts = 0;
    give_back(&client, async |delivery| {
        starts += 1;
        if starts <= 5 {
            client.publish(started(delivery)).await;
        }
    })
    .await;
    dead_letter(&fleet).await;
    fleet
        .database
        .has_status(start.execution_id(), "failed")
        .await;
    let kinds: Vec<(String,)> = fleet
        .database
        .rows("SELECT error_kind FROM workflow_task_detail")
        .await;
    assert_eq!(kinds, [("worker_lost".to_owned(),)]);
    assert_eq!(fleet.database.transitions("job_resent").await, 0);
    fleet.rest([coordinator]).await;
}

/// A job in its queue, that would be tried again should it fail.
async fn with_a_job() -> (Fleet, Service, Client, Start) {
    let fleet = Fleet::new().await;
    let coordinator = fleet.coordinator().await;
    let client = fleet.client().await;
    let start = sleep(0.0, 60.0);
    client.start(&start).await;
    depth(&client, &jobs_queue(), 1).await;
    (fleet, coordinator, client, start)
}

/// Takes the job and gives it back until the broker has had enough.
async fn give_back(client: &Client, mut each: impl AsyncFnMut(&Delivery)) {
    let consuming = client.connection.consume(&jobs_queue(), 1).await;
    let mut jobs = consuming.expect("the queue is there");
    for _ in 0..DELIVERIES {
        let job = within("job", jobs.next()).await.expect("the job is there");
        each(&job).await;
        let given_back = jobs.acker().nack_requeue(job.tag).await;
        assert!(given_back.expect("the connection is open"), "too late");
    }
    jobs.close().await;
}

fn started(delivery: &Delivery) -> Outgoing {
    let job = decode_job(&delivery.envelope, &delivery.body).expect("a sound job");
    let reply_to = delivery.envelope.reply_to.as_deref();
    let started = TaskStarted {
        execution_id: job.execution_id,
        task_id: job.task_id,
        attempt: job.attempt,
        worker: Some("by-hand".to_owned()),
        started_at: None,
        acknowledged: false,
        heartbeat: None,
        progress: None,
        detail: None,
    };
    Outgoing::task_started(reply_to.expect("jobs want an answer"), &started)
}

/// Waits until the job is recorded as a dead letter.
async fn dead_letter(fleet: &Fleet) {
    let query = "SELECT queue, reason, task_id IS NOT NULL FROM workflow_dead_letter";
    wait_until("the dead letter is recorded", LIMIT, async || {
        let rows: Vec<(String, String, bool)> = fleet.database.rows(query).await;
        rows == [(jobs_queue(), "delivery_limit".to_owned(), true)]
    })
    .await;
}
