//! The end of a worker.

use std::time::Duration;

use flotilla_worker::{Context, Worker, WorkerConfig, WorkerError};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::fleet::{job, result, with_fleet, within};

#[tokio::test]
async fn a_drain_ends_what_runs_and_gives_back_the_rest() {
    with_fleet(async |mut fleet| {
        fleet.open_inbox().await;
        let config = WorkerConfig {
            concurrency: 2,
            ..fleet.config()
        };
        let (begin, mut begun) = mpsc::unbounded_channel();
        let worker = Worker::new(config).action("test.wait", move |_: Context, input: Value| {
            let begin = begin.clone();
            async move {
                let (end, ended) = tokio::sync::oneshot::channel::<()>();
                begin.send(end)?;
                ended.await?;
                Ok(input)
            }
        });
        let mut worker = fleet.start(worker).await;
        for number in 0..5 {
            fleet.submit(&job("test.wait", json!(number))).await;
        }
        let first = within(begun.recv()).await.unwrap();
        let second = within(begun.recv()).await.unwrap();
        worker.shut_down();
        // One that ends now makes no place for a new one.
        first.send(()).unwrap();
        fleet.completion().await;
        second.send(()).unwrap();
        let last = fleet.completion().await;
        assert!(result(&last).as_u64().unwrap() < 2);
        worker.ended().await.unwrap();
        assert!(begun.try_recv().is_err());
        fleet.jobs_wait(3).await;
        fleet
    })
    .await;
}

#[tokio::test]
async fn completions_without_an_inbox_end_the_drain_with_an_error() {
    with_fleet(async |fleet| {
        let config = WorkerConfig {
            drain_timeout: Duration::from_millis(10),
            ..fleet.config()
        };
        let mut worker = fleet.start(Worker::new(config).built_in()).await;
        fleet.submit(&job("core.noop", json!(null))).await;
        fleet.jobs_wait(0).await;
        worker.shut_down();
        let error = worker.ended().await.unwrap_err();
        assert!(
            matches!(error, WorkerError::DrainTimedOut { jobs: 1 }),
            "{error}"
        );
        fleet.jobs_wait(1).await;
        fleet
    })
    .await;
}

#[tokio::test]
async fn what_cannot_work_is_said_at_once() {
    let url = "amqp://127.0.0.1:1/%2f";
    let run = async |change: fn(&mut WorkerConfig)| {
        let mut config = WorkerConfig::new(url);
        config.connect_limit = Some(Duration::ZERO);
        change(&mut config);
        let error = within(Worker::new(config).run(std::future::pending())).await;
        error.unwrap_err()
    };
    assert!(matches!(run(|_| {}).await, WorkerError::Start(_)));
    assert!(matches!(
        run(|config| config.pools.clear()).await,
        WorkerError::NoPool
    ));
    let invalid = run(|config| config.pools = vec!["a b".to_owned()]).await;
    assert!(matches!(invalid, WorkerError::InvalidPool(_)));
    assert!(matches!(
        run(|config| config.concurrency = 0).await,
        WorkerError::NoConcurrency
    ));
    let long = run(|config| config.name = "x".repeat(256)).await;
    assert!(matches!(long, WorkerError::NameTooLong));
}
