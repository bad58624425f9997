//! Garbage on every queue amid good starts: the good ones succeed, and each piece of garbage leaves
//! exactly the row that says what it was.

use std::collections::BTreeMap;

use flotilla_protocol::amqp::Outgoing;
use flotilla_protocol::names;
use flotilla_tests::{Client, Fleet, LIMIT, Options, Start, invariants, wait_until};
use serde_json::{Value, json};
use uuid::Uuid;

const GOOD_STARTS: usize = 100;
/// Larger than anything that is read, a list of completions included.
const HUGE_BYTES: usize = 20 * 1024 * 1024;
const DEEP: usize = 100_000;

/// Rows by queue and reason.
type Counts = BTreeMap<(String, String), i64>;

/// Where garbage goes: the queue, how to address it, the type that belongs there and one that does not.
struct Target {
    queue: String,
    exchange: &'static str,
    routing_key: String,
    right_type: &'static str,
    wrong_type: &'static str,
}

#[tokio::test]
async fn garbage_on_every_queue_harms_nobody() {
    let fleet = Fleet::with(Options {
        partitions: 16,
        ..Options::default()
    })
    .await;
    // To read and store the huge messages may hold up a slow machine for longer than the usual lease of
    // tests. A coordinator that has lost its partitions meanwhile gets completions twice, and says so.
    let coordinator = fleet
        .spawn(&["coordinator", "--lease", "60"], &[])
        .ready()
        .await;
    let worker = fleet.worker().await;
    let client = fleet.client().await;
    let (mut dead, mut ignored) = (Counts::new(), Counts::new());
    let targets = targets();
    for (round, target) in targets.iter().enumerate() {
        good_starts(&client, round, targets.len()).await;
        for (body, message_type, reason) in garbage(target) {
            let mut message = message(target, message_type, body);
            if reason == "newer_version" {
                let version = (names::VERSION + 1).to_string();
                message
                    .headers
                    .push((names::VERSION_HEADER.to_owned(), version));
            }
            client.publish(message).await;
            // What somebody publishes straight to the dead letters carries no reason.
            let reason = if target.queue == names::DEAD {
                "unknown"
            } else {
                reason
            };
            *dead
                .entry((target.queue.clone(), reason.to_owned()))
                .or_default() += 1;
        }
    }
    unknown_executions(&client, &mut dead, &mut ignored).await;

    fleet
        .database
        .succeeded(i64::try_from(GOOD_STARTS).unwrap())
        .await;
    let total = dead.values().sum::<i64>();
    let wanted = ignored.values().sum::<i64>();
    wait_until("all garbage has its rows", LIMIT, async || {
        total_rows(&fleet, "workflow_dead_letter").await >= total
            && total_rows(&fleet, "workflow_ignored_message").await >= wanted
    })
    .await;
    worker.stop().await;
    coordinator.stop().await;
    assert_eq!(counts(&fleet, "workflow_dead_letter").await, dead);
    assert_eq!(counts(&fleet, "workflow_ignored_message").await, ignored);
    let executions = fleet
        .database
        .number("SELECT count(*) FROM workflow_execution_summary")
        .await;
    assert_eq!(executions, i64::try_from(GOOD_STARTS).unwrap());
    invariants::check_at_rest(&fleet.database).await;
}

fn targets() -> Vec<Target> {
    let inbox = names::inbox_queue(3);
    let jobs = names::jobs_queue(names::DEFAULT_POOL);
    let target = |queue: &str, exchange, routing_key: &str, right_type, wrong_type| Target {
        queue: queue.to_owned(),
        exchange,
        routing_key: routing_key.to_owned(),
        right_type,
        wrong_type,
    };
    let exchange = names::EXCHANGE;
    let (start, control) = (names::WORKFLOW_START, names::WORKFLOW_CONTROL);
    vec![
        target(names::START_QUEUE, exchange, start, start, names::TASK_JOB),
        target(names::CONTROL_QUEUE, exchange, control, control, start),
        target(&inbox, "", &inbox, names::TASK_COMPLETED, names::TASK_JOB),
        target(
            &jobs,
            exchange,
            "task.job.default",
            names::TASK_JOB,
            names::TASK_COMPLETED,
        ),
        target(
            names::DEAD,
            names::DEAD,
            "",
            names::TASK_COMPLETED,
            "anything",
        ),
    ]
}

/// Bodies, with their types and the reasons for which they are refused.
fn garbage(target: &Target) -> Vec<(Vec<u8>, &'static str, &'static str)> {
    let right = target.right_type;
    let deep = [b"[".repeat(DEEP), b"]".repeat(DEEP)].concat();
    let deep_inside = [
        br#"{"workflow":"examples.single","parameters":{"a":"#.to_vec(),
        deep.clone(),
        b"}}".to_vec(),
    ]
    .concat();
    let huge = format!("{{\"filler\":\"{}\"}}", "x".repeat(HUGE_BYTES)).into_bytes();
    vec![
        (b"this is not JSON".to_vec(), right, "not_json"),
        (Vec::new(), right, "not_json"),
        (
            b"{\"workflow\":\"examples.single\",".to_vec(),
            right,
            "not_json",
        ),
        (vec![0xff, 0xfe, 0x00, 0x22], right, "not_json"),
        (
            br#"{"workflow":"examples.single"}"#.to_vec(),
            target.wrong_type,
            "wrong_type",
        ),
        (
            br#"{"execution_id":7,"task_id":true,"workflow":[]}"#.to_vec(),
            right,
            "wrong_type",
        ),
        (b"\"a text\"".to_vec(), right, "wrong_type"),
        (huge, right, "too_large"),
        (deep, right, "too_deep"),
        (deep_inside, right, "too_deep"),
        (
            br#"{"workflow":"examples.single","future":1}"#.to_vec(),
            right,
            "newer_version",
        ),
    ]
}

fn message(target: &Target, message_type: &'static str, body: Vec<u8>) -> Outgoing {
    Outgoing::new(
        target.exchange,
        target.routing_key.clone(),
        message_type,
        body,
    )
}

/// A share of the good starts.
async fn good_starts(client: &Client, round: usize, rounds: usize) {
    for _ in (0..GOOD_STARTS).filter(|number| number % rounds == round) {
        let start = Start::of("examples.order").parameters(&json!({"order_id": 1}));
        client.start(&start.silent()).await;
    }
}

/// Messages that are sound and name what does not exist.
async fn unknown_executions(client: &Client, dead: &mut Counts, ignored: &mut Counts) {
    let inbox = names::inbox_queue(3);
    let completion = attempt(&[("status", json!("succeeded")), ("result", json!(1))]);
    let completed = Outgoing::to_queue(&inbox, names::TASK_COMPLETED, completion.clone());
    client.publish(completed).await;
    // A missing type means a completion in an inbox.
    client
        .publish(Outgoing::to_queue(&inbox, "", completion))
        .await;
    let started = Outgoing::to_queue(&inbox, names::TASK_STARTED, attempt(&[]));
    client.publish(started).await;
    // A job that nobody has ordered is run, and its completion is ignored.
    let text = |text: &str| json!(text);
    let body = attempt(&[
        ("workflow", text("examples.order")),
        ("task", text("charge")),
        ("visit", json!(1)),
        ("action", text("core.noop")),
        ("input", json!({})),
        ("timeout", Value::Null),
        ("heartbeat", Value::Null),
        ("idempotency_key", text("none")),
        ("item", Value::Null),
    ]);
    let job = Outgoing::new(names::EXCHANGE, "task.job.default", names::TASK_JOB, body);
    let reply_to = Some(inbox.clone());
    client.publish(Outgoing { reply_to, ..job }).await;
    add(ignored, &inbox, "unknown_execution", 4);

    // Starts that are rejected, with nobody to tell.
    let other_version = Start::of("examples.single").version("9.9.9");
    for start in [Start::of("examples.unknown"), other_version] {
        client.start(&start.silent()).await;
    }
    add(dead, names::START_QUEUE, "rejected", 2);
    let command = json!({"execution_id": Uuid::now_v7(), "command": "explode"});
    let key = names::WORKFLOW_CONTROL;
    let control = Outgoing::new(names::EXCHANGE, key, key, command.to_string().into_bytes());
    client.publish(control).await;
    add(dead, names::CONTROL_QUEUE, "unknown_command", 1);
}

/// A body that names an attempt of which nobody knows, and has more fields.
fn attempt(more: &[(&str, Value)]) -> Vec<u8> {
    let mut body = json!({
        "execution_id": Uuid::now_v7(), "task_id": Uuid::now_v7(), "attempt": 1
    });
    for (name, value) in more {
        body[*name] = value.clone();
    }
    body.to_string().into_bytes()
}

fn add(counts: &mut Counts, queue: &str, reason: &str, count: i64) {
    *counts
        .entry((queue.to_owned(), reason.to_owned()))
        .or_default() += count;
}

async fn counts(fleet: &Fleet, table: &str) -> Counts {
    let query = format!("SELECT queue, reason::text, count(*) FROM {table} GROUP BY 1, 2");
    let rows: Vec<(String, String, i64)> = fleet.database.rows(&query).await;
    rows.into_iter()
        .map(|(queue, reason, count)| ((queue, reason), count))
        .collect()
}

async fn total_rows(fleet: &Fleet, table: &str) -> i64 {
    fleet
        .database
        .number(&format!("SELECT count(*) FROM {table}"))
        .await
}
