//! Jobs that outlast the broker's acknowledgement timeout, which is lowered to seconds here.

use flotilla_tests::{Fleet, LIMIT, Options, Start, wait_until};
use serde_json::json;
use uuid::Uuid;

/// Seconds that the broker waits for an acknowledgement.
const TIMEOUT_S: u32 = 3;

/// The broker's timeout as it is in this test, and as it was when this is dropped.
struct ShortTimeout<'a>(&'a Fleet);

impl<'a> ShortTimeout<'a> {
    fn new(fleet: &'a Fleet) -> Self {
        let set = format!(
            "application:set_env(rabbit, consumer_timeout, {}), \
             application:set_env(rabbit, channel_tick_interval, 500).",
            TIMEOUT_S * 1000
        );
        fleet.servers.run(&["ctl", "eval", &set]);
        Self(fleet)
    }
}

impl Drop for ShortTimeout<'_> {
    fn drop(&mut self) {
        let reset = "application:set_env(rabbit, consumer_timeout, 1800000), \
             application:set_env(rabbit, channel_tick_interval, 60000).";
        if self.0.servers.try_run(&["ctl", "eval", reset]).is_none() {
            eprintln!("the broker's acknowledgement timeout stays short");
        }
    }
}

async fn lonely() -> Fleet {
    let options = Options {
        alone: true,
        ..Options::default()
    };
    Fleet::with(options).await
}

fn sleep(seconds: f64) -> Start {
    let parameters = json!({"seconds": seconds, "timeout": 600});
    Start::of("tests.sleep").parameters(&parameters).silent()
}

/// Waits until so many acknowledgements of running jobs stand in the log of an execution.
async fn acknowledged(fleet: &Fleet, id: Uuid, times: i64) {
    let query = format!(
        "SELECT count(*) FROM workflow_transition WHERE execution_id = '{id}'
             AND kind = 'task_started' AND (detail ->> 'acknowledged')::boolean"
    );
    wait_until("the job is acknowledged", LIMIT, async || {
        fleet.database.number(&query).await == times
    })
    .await;
}

async fn attempts(fleet: &Fleet, id: Uuid) -> i64 {
    let query =
        format!("SELECT attempt::bigint FROM workflow_task_detail WHERE execution_id = '{id}'");
    fleet.database.number(&query).await
}

#[tokio::test]
async fn a_job_longer_than_the_broker_waits_ends_once_while_coordinators_change() {
    let fleet = lonely().await;
    if !fleet
        .servers
        .may_be_stopped("a_job_longer_than_the_broker_waits")
    {
        return;
    }
    let _short = ShortTimeout::new(&fleet);
    let first = fleet.coordinator().await;
    let early = ["--acknowledge-after", "1", "--heartbeat", "3"];
    let worker = fleet.worker_with(&early).await;
    let client = fleet.client().await;
    let start = sleep(12.0);
    client.start(&start).await;
    let id = start.execution_id();
    acknowledged(&fleet, id, 1).await;
    first.kill();
    let second = fleet.coordinator().await;
    fleet.database.has_status(id, "succeeded").await;
    assert_eq!(attempts(&fleet, id).await, 1);
    assert_eq!(fleet.database.transitions("task_started").await, 2);
    assert_eq!(fleet.database.transitions("job_resent").await, 0);
    assert!(!worker.log().contains("connection was lost"));
    let ignored = "SELECT count(*) FROM workflow_ignored_message";
    assert_eq!(fleet.database.number(ignored).await, 0);

    // Without the early acknowledgement the broker does take the channel away.
    worker.stop().await;
    let late = fleet.worker_with(&["--acknowledge-after", "600"]).await;
    let start = sleep(6.0);
    client.start(&start).await;
    wait_until("the broker has had enough", LIMIT, async || {
        late.log().contains("connection was lost")
    })
    .await;
    fleet
        .database
        .has_status(start.execution_id(), "succeeded")
        .await;
    fleet.rest([late, second]).await;
}

#[tokio::test]
async fn the_job_of_a_worker_that_dies_after_the_acknowledgement_is_sent_again() {
    let fleet = lonely().await;
    if !fleet
        .servers
        .may_be_stopped("the_job_of_a_worker_that_dies")
    {
        return;
    }
    let _short = ShortTimeout::new(&fleet);
    let coordinator = fleet.coordinator().await;
    let early = ["--acknowledge-after", "1", "--heartbeat", "2"];
    let worker = fleet.worker_with(&early).await;
    let start = sleep(5.0);
    fleet.client().await.start(&start).await;
    let id = start.execution_id();
    acknowledged(&fleet, id, 1).await;
    worker.kill();
    let other = fleet.worker_with(&early).await;
    fleet.database.has_status(id, "succeeded").await;
    assert_eq!(attempts(&fleet, id).await, 1, "it is no retry");
    let resent = format!(
        "SELECT count(*) FROM workflow_transition WHERE execution_id = '{id}'
             AND kind = 'job_resent' AND detail ->> 'reason' = 'silent'"
    );
    assert_eq!(fleet.database.number(&resent).await, 1);
    let starts = format!("SELECT starts::bigint FROM workflow_task WHERE execution_id = '{id}'");
    assert_eq!(fleet.database.number(&starts).await, 2);
    fleet.rest([other, coordinator]).await;
}
