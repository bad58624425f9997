//! Jobs that travel in bundles: who takes them gets them, and none is lost or done twice when a bundle
//! comes back, or when nobody takes bundles any more.

use std::collections::BTreeSet;

use flotilla_protocol::amqp::{Consumer, Delivery, Outgoing, declare_bundles, queue_depth};
use flotilla_protocol::message::{CompletionStatus, TaskCompleted, TaskJob};
use flotilla_protocol::names::{self, MAX_BUNDLED_JOBS};
use flotilla_protocol::{TaskId, decode_job};
use flotilla_tests::{Client, Fleet, LIMIT, Start, wait_until, within};
use serde_json::json;

const POOL: &str = names::DEFAULT_POOL;
/// Jobs that an execution has at once. They need not be published at once, nor all be in bundles.
const ITEMS: usize = 40;

/// Executions, or faults, until what they are to show must have been seen: the coordinators look each
/// second.
const MOST_ROUNDS: usize = 100;

/// A worker by hand that takes jobs and bundles.
struct Taker {
    client: Client,
    jobs: Consumer,
    bundles: Option<Consumer>,
}

/// A job that has come.
struct Taken {
    job: TaskJob,
    reply_to: String,
}

impl Taker {
    /// Takes all jobs there are, and so many bundles at a time (0: all).
    async fn start(fleet: &Fleet, bundles: u16) -> Self {
        let client = fleet.client().await;
        let declared = declare_bundles(&client.connection, POOL).await;
        declared.expect("the broker answers");
        let consume = async |queue: String, prefetch| {
            let consuming = client.connection.consume(&queue, prefetch).await;
            consuming.expect("the queue is there")
        };
        Self {
            jobs: consume(names::jobs_queue(POOL), 0).await,
            bundles: Some(consume(names::bundles_queue(POOL), bundles).await),
            client,
        }
    }

    /// The first bundle, and how many jobs of its execution are still to come. What comes alone until
    /// then is done.
    async fn first_bundle(&mut self, fleet: &Fleet) -> (Delivery, usize) {
        for _ in 0..MOST_ROUNDS {
            self.client.start(&items()).await;
            for left in (0..ITEMS).rev() {
                let delivery = self.next().await;
                if delivery.is_bundle() {
                    let others = jobs_of(&delivery).len() - 1;
                    return (delivery, left - others);
                }
                self.do_all(&delivery).await;
            }
            nothing_runs(fleet).await;
        }
        panic!("no job comes in a bundle");
    }

    /// The next job or bundle.
    async fn next(&mut self) -> Delivery {
        let bundles = self.bundles.as_mut().expect("it takes bundles");
        let coming = within("job or bundle", async {
            tokio::select! {
                job = self.jobs.next() => job,
                bundle = bundles.next() => bundle,
            }
        });
        coming.await.expect("the queues are there")
    }

    /// Does a job, or all of a bundle, and acknowledges it; how many jobs that were.
    async fn do_all(&self, delivery: &Delivery) -> usize {
        let (jobs, consumer) = if delivery.is_bundle() {
            let bundles = self.bundles.as_ref().expect("it takes bundles");
            (jobs_of(delivery), bundles)
        } else {
            (vec![taken(delivery)], &self.jobs)
        };
        for job in &jobs {
            self.complete(job).await;
        }
        acknowledge(consumer, delivery).await;
        jobs.len()
    }

    /// Takes no more bundles, and gives back those that it has.
    async fn take_jobs_only(&mut self) {
        let bundles = self.bundles.take().expect("it takes bundles");
        bundles.close().await;
    }

    /// Tells that a job has succeeded, with its input as result.
    async fn complete(&self, Taken { job, reply_to }: &Taken) {
        let now = chrono::Utc::now();
        let completed = TaskCompleted {
            execution_id: job.execution_id,
            task_id: job.task_id,
            attempt: job.attempt,
            status: CompletionStatus::Succeeded,
            result: Some(job.input.clone()),
            error: None,
            started_at: Some(now),
            finished_at: Some(now),
            worker: Some("by-hand".to_owned()),
        };
        let message = Outgoing::completed(reply_to, &[completed]);
        self.client.publish(message).await;
    }

    /// Takes and does `count` jobs that come alone.
    async fn do_alone(&mut self, count: usize) -> BTreeSet<TaskId> {
        let mut done = BTreeSet::new();
        for _ in 0..count {
            let delivery = within("job", self.jobs.next()).await.expect("it is there");
            let taken = taken(&delivery);
            assert!(done.insert(taken.job.task_id), "a job came twice");
            self.complete(&taken).await;
            acknowledge(&self.jobs, &delivery).await;
        }
        done
    }
}

fn items() -> Start {
    let parameters = json!({"count": ITEMS, "concurrency": ITEMS});
    Start::of("tests.items").parameters(&parameters).silent()
}

fn taken(delivery: &Delivery) -> Taken {
    Taken {
        job: decode_job(&delivery.envelope, &delivery.body).expect("a sound job"),
        reply_to: delivery.envelope.reply_to.clone().expect("it has one"),
    }
}

fn jobs_of(bundle: &Delivery) -> Vec<Taken> {
    let jobs = bundle.unbundle().expect("a bundle");
    assert!((2..=MAX_BUNDLED_JOBS).contains(&jobs.len()));
    jobs.iter().map(taken).collect()
}

async fn acknowledge(consumer: &Consumer, delivery: &Delivery) {
    let acknowledged = consumer.acker().ack(delivery.tag, false).await;
    assert!(acknowledged.expect("the connection is open"), "too late");
}

/// Waits until no execution runs that was begun.
async fn nothing_runs(fleet: &Fleet) {
    let running = "SELECT count(*) FROM workflow_execution_summary WHERE finished_at IS NULL";
    wait_until("all executions end", LIMIT, async || {
        fleet.database.number(running).await == 0
    })
    .await;
}

/// Everything has ended well, and no table tells of trouble.
async fn all_is_well(fleet: &Fleet) {
    nothing_runs(fleet).await;
    assert_eq!(fleet.database.executions("failed").await, 0);
    for table in ["workflow_dead_letter", "workflow_ignored_message"] {
        let query = format!("SELECT count(*) FROM {table}");
        assert_eq!(fleet.database.number(&query).await, 0, "{table}");
    }
}

#[tokio::test]
async fn of_a_bundle_that_comes_back_only_what_was_not_done_is_published_again() {
    let fleet = Fleet::new().await;
    let coordinator = fleet.coordinator().await;
    let mut taker = Taker::start(&fleet, 0).await;
    let (first, mut to_come) = taker.first_bundle(&fleet).await;
    while to_come > 0 {
        let next = taker.next().await;
        to_come -= taker.do_all(&next).await;
    }
    let jobs = jobs_of(&first);
    let (done, left) = jobs.split_at(1);
    for job in done {
        taker.complete(job).await;
    }
    // As if the worker died: it has answered one of them.
    taker.take_jobs_only().await;
    let alone = taker.do_alone(left.len()).await;
    let left: BTreeSet<TaskId> = left.iter().map(|taken| taken.job.task_id).collect();
    assert_eq!(alone, left);
    all_is_well(&fleet).await;
    let resent = fleet.database.transitions("job_resent").await;
    assert_eq!(resent, i64::try_from(left.len()).expect("they are few"));
    fleet.rest([coordinator]).await;
}

#[tokio::test]
async fn bundles_that_nobody_takes_any_more_are_taken_apart() {
    let fleet = Fleet::new().await;
    let coordinator = fleet.coordinator().await;
    let mut taker = Taker::start(&fleet, 1).await;
    let (first, to_come) = taker.first_bundle(&fleet).await;
    let taken = jobs_of(&first).len();
    let queue = names::bundles_queue(POOL);
    wait_until("others wait", LIMIT, async || {
        let depth = queue_depth(&taker.client.connection, &queue).await;
        depth.expect("the broker answers") > Some(0)
    })
    .await;
    taker.take_jobs_only().await;
    taker.do_alone(taken + to_come).await;
    fleet
        .has_logged("bundles wait that not all workers take")
        .await;
    all_is_well(&fleet).await;
    // Nobody had seen the others.
    let resent = fleet.database.transitions("job_resent").await;
    assert_eq!(resent, i64::try_from(taken).expect("they are few"));
    fleet.rest([coordinator]).await;
}

#[tokio::test]
async fn who_takes_no_bundles_gets_jobs_beside_who_does() {
    let fleet = Fleet::new().await;
    let coordinator = fleet.coordinator().await;
    let mut taker = Taker::start(&fleet, 0).await;
    taker.first_bundle(&fleet).await;
    // It gives its bundle back, and stays beside a worker that takes them.
    taker.take_jobs_only().await;
    let worker = fleet.worker().await;
    // Until the coordinator has looked, all may go to the worker; from then on each execution has jobs
    // for both.
    let (mut shared, mut rounds) = (0, 0);
    while shared < 5 {
        let start = items();
        taker.client.start(&start).await;
        let id = start.execution_id();
        let mut done = 0;
        let ending = fleet.database.has_status(id, "succeeded");
        let mut ending = std::pin::pin!(ending);
        loop {
            tokio::select! {
                job = taker.jobs.next() => {
                    done += taker.do_all(&job.expect("the queue is there")).await;
                }
                () = &mut ending => break,
            }
        }
        shared = if done > 0 { shared + 1 } else { 0 };
        rounds += 1;
        assert!(rounds < MOST_ROUNDS, "it gets no jobs");
    }
    taker.jobs.close().await;
    all_is_well(&fleet).await;
    fleet.rest([worker, coordinator]).await;
}

#[tokio::test]
async fn the_bundles_of_a_worker_that_is_killed_are_finished_by_another() {
    let fleet = Fleet::new().await;
    let coordinator = fleet.coordinator().await;
    let client = fleet.client().await;
    let mut worker = fleet.worker().await;
    let mut executions = 0;
    // Until the coordinator has looked who takes bundles, jobs come back without it.
    wait_until("bundles come back", LIMIT, async || {
        worker.freeze();
        client.start(&items()).await;
        executions += 1;
        let dispatched = i64::try_from(ITEMS).expect("they are few");
        fleet.database.tasks("dispatched", dispatched).await;
        wait_until("the worker has them all", LIMIT, async || {
            let mut waiting = 0;
            for queue in [names::jobs_queue(POOL), names::bundles_queue(POOL)] {
                let depth = queue_depth(&client.connection, &queue).await;
                waiting += depth.expect("the broker answers").unwrap_or(0);
            }
            waiting == 0
        })
        .await;
        let killed = std::mem::replace(&mut worker, fleet.worker().await);
        killed.kill();
        fleet.database.succeeded(executions).await;
        returned(&fleet).await > 0
    })
    .await;
    all_is_well(&fleet).await;
    fleet.has_logged("a bundle of jobs came back").await;
    fleet.rest([worker, coordinator]).await;
}

/// What happens to one of two members.
#[derive(Debug, Clone, Copy)]
enum Fault {
    KillWorker,
    StopWorker,
    FreezeWorker,
    KillCoordinator,
}

const FAULTS: [Fault; 4] = [
    Fault::KillWorker,
    Fault::StopWorker,
    Fault::KillCoordinator,
    Fault::FreezeWorker,
];
/// Executions that begin before each fault, of so many items each.
const EXECUTIONS: usize = 5;
const MANY_ITEMS: usize = 120;

#[tokio::test]
async fn members_die_amid_bundles_and_nothing_is_lost() {
    let fleet = Fleet::new().await;
    let client = fleet.client().await;
    let mut coordinators = vec![fleet.coordinator().await, fleet.coordinator().await];
    let url = fleet.beating_url();
    let worker = async || fleet.worker_with(&["--amqp-url", &url]).await;
    let mut workers = vec![worker().await, worker().await];
    let mut starts = 0;
    // Until the coordinators have looked who takes bundles, none come back.
    for (round, fault) in FAULTS.iter().cycle().enumerate() {
        if round >= FAULTS.len() && returned(&fleet).await > 0 {
            break;
        }
        assert!(round < MOST_ROUNDS, "no bundle has come back");
        let parameters = json!({"count": MANY_ITEMS, "concurrency": MANY_ITEMS});
        let start = || Start::of("tests.items").parameters(&parameters).silent();
        let batch: Vec<Start> = std::iter::repeat_with(start).take(EXECUTIONS).collect();
        let done = "SELECT count(*) FROM workflow_task_detail WHERE status = 'succeeded'";
        let before = fleet.database.number(done).await;
        client.start_all(&batch).await;
        starts += EXECUTIONS;
        wait_until("jobs are done", LIMIT, async || {
            fleet.database.number(done).await > before
        })
        .await;
        match fault {
            Fault::KillWorker => {
                workers.remove(0).kill();
                workers.push(worker().await);
            }
            Fault::StopWorker => {
                workers.remove(0).stop().await;
                workers.push(worker().await);
            }
            Fault::FreezeWorker => {
                fleet.freeze_worker(&client.connection, &workers[0]).await;
                workers.rotate_left(1);
            }
            Fault::KillCoordinator => {
                coordinators.remove(0).kill();
                coordinators.push(fleet.coordinator().await);
            }
        }
        fleet
            .database
            .succeeded(i64::try_from(starts).expect("they are few"))
            .await;
    }
    let sum: usize = (0..MANY_ITEMS).sum();
    let wrong = format!(
        "SELECT count(*) FROM workflow_execution_summary
         WHERE output ->> 'sum' IS DISTINCT FROM '{sum}'"
    );
    assert_eq!(fleet.database.number(&wrong).await, 0);
    println!(
        "{} jobs came back in bundles, of {}",
        returned(&fleet).await,
        starts * MANY_ITEMS
    );
    fleet.rest(workers.into_iter().chain(coordinators)).await;
}

/// Jobs that were published again since their bundle came back.
async fn returned(fleet: &Fleet) -> i64 {
    let query = "SELECT count(*) FROM workflow_transition
                 WHERE kind = 'job_resent' AND detail ->> 'reason' = 'returned'";
    fleet.database.number(query).await
}
