//! `with_items` on a whole fleet: the window, the results, failures, and the death of a coordinator
//! amid it.

use flotilla_tests::{Fleet, LIMIT, Options, Start, invariants, wait_until};
use serde_json::{Value, json};
use uuid::Uuid;

/// Items of the execution whose coordinators die.
const ITEMS: i64 = 3_000;
const CONCURRENCY: i64 = 64;

/// The most items of an execution that were in flight at once, by its log.
async fn most_in_flight(fleet: &Fleet, id: Uuid) -> i64 {
    let query = format!(
        "SELECT max(in_flight)::bigint FROM (
             SELECT sum(CASE l.kind WHEN 'task_dispatched' THEN 1 ELSE -1 END)
                 OVER (ORDER BY l.seq) AS in_flight
             FROM workflow_transition AS l
             JOIN workflow_task_detail AS t USING (execution_id, task_id)
             WHERE l.execution_id = '{id}' AND t.item_index IS NOT NULL
                 AND l.kind IN ('task_dispatched', 'task_ended', 'task_retry_scheduled')
         ) AS log"
    );
    fleet.database.number(&query).await
}

#[tokio::test]
async fn every_item_runs_once_though_coordinators_die() {
    let fleet = Fleet::with(Options {
        partitions: 1,
        ..Options::default()
    })
    .await;
    let first = fleet.coordinator().await;
    let worker = fleet.worker().await;
    let mut client = fleet.client().await;
    let parameters = json!({"count": ITEMS, "concurrency": CONCURRENCY});
    let start = Start::of("tests.items").parameters(&parameters);
    let id = start.execution_id();
    client.start(&start).await;
    client.reply("workflow.started", &id.to_string()).await;
    let ended = format!(
        "SELECT tasks_succeeded::bigint FROM workflow_execution_summary WHERE execution_id = '{id}'"
    );
    for (victim, passed) in [(first, ITEMS / 4), (fleet.coordinator().await, ITEMS / 2)] {
        wait_until("some items have ended", LIMIT, async || {
            fleet.database.number(&ended).await >= passed
        })
        .await;
        victim.kill();
    }
    let last = fleet.coordinator().await;
    let finished = client.reply("workflow.finished", &id.to_string()).await;
    assert_eq!(
        finished.body["output"],
        json!({"last": {"square": (ITEMS - 1) * (ITEMS - 1), "index": ITEMS - 1},
               "sum": ITEMS * (ITEMS - 1) / 2})
    );
    let items: (i64, i64, i64) = fleet
        .database
        .rows(&format!(
            "SELECT count(*), count(DISTINCT item_index), max(item_index)::bigint
             FROM workflow_task_detail
             WHERE execution_id = '{id}' AND item_index IS NOT NULL AND status = 'succeeded'"
        ))
        .await[0];
    assert_eq!(items, (ITEMS, ITEMS, ITEMS - 1));
    assert_eq!(most_in_flight(&fleet, id).await, CONCURRENCY);
    worker.stop().await;
    last.stop().await;
    invariants::check_at_rest(&fleet.database).await;
}

#[tokio::test]
async fn batches_fail_alone_and_a_failure_stops_the_others_where_it_is_to() {
    let fleet = Fleet::new().await;
    let coordinator = fleet.coordinator().await;
    let worker = fleet.worker().await;
    let mut client = fleet.client().await;
    let start = Start::of("tests.batches");
    let id = start.execution_id();
    let finished = client.run(&start).await;
    assert_eq!(finished["status"], "succeeded", "{finished}");
    let failure = json!({"kind": "broken", "message": "no", "retryable": false});
    let output = &finished["output"];
    assert_eq!(output["results"], json!([["a", "b"], null, ["e"]]));
    assert_eq!(output["failures"][0]["index"], 0);
    let error: Value = output["failures"][0]["error"].clone();
    for (key, value) in failure.as_object().expect("an object") {
        assert_eq!(&error[key], value);
    }
    let rows: Vec<(String, Option<i32>, Option<i32>, String)> = fleet
        .database
        .rows(&format!(
            "SELECT task, item_index, batch_size, status::text FROM workflow_task_detail
             WHERE execution_id = '{id}' ORDER BY task DESC, item_index NULLS FIRST"
        ))
        .await;
    let row =
        |task: &str, index, size, status: &str| (task.to_owned(), index, size, status.to_owned());
    assert_eq!(
        rows,
        [
            row("tolerant", None, None, "succeeded"),
            row("tolerant", Some(0), Some(2), "succeeded"),
            row("tolerant", Some(1), Some(2), "failed"),
            row("tolerant", Some(2), Some(1), "succeeded"),
            row("strict", None, None, "failed"),
            row("strict", Some(0), None, "failed"),
            row("strict", Some(1), None, "cancelled"),
            row("strict", Some(2), None, "cancelled"),
        ]
    );
    worker.stop().await;
    coordinator.stop().await;
    invariants::check_at_rest(&fleet.database).await;
}
