//! Commands for executions, while they run, while they wait, and while their owner changes; and
//! starts that come twenty times.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_protocol::amqp::queue_depth;
use flotilla_protocol::names;
use flotilla_tests::{Client, Fleet, LIMIT, Options, Service, Start, wait_until};
use serde_json::{Value, json};
use uuid::Uuid;

/// Executions that are commanded while their owners change.
const COMMANDED: usize = 5;
/// Commands to each of them.
const COMMANDS: usize = 10;
/// How often a sender sends the same.
const TIMES: usize = 20;

/// A fleet with two coordinators that share the partitions, and a user.
async fn pair() -> (Fleet, [Service; 2], Client) {
    let fleet = Fleet::new().await;
    let coordinators = [fleet.coordinator().await, fleet.coordinator().await];
    let client = fleet.client().await;
    (fleet, coordinators, client)
}

/// A start of `tests.sleep`.
fn sleep(seconds: u32, timeout: f64) -> Start {
    Start::of("tests.sleep").parameters(&json!({"seconds": seconds, "timeout": timeout}))
}

/// The end that a start's sender is told.
async fn end_of(client: &mut Client, start: &Start) -> Value {
    let id = start.execution_id().to_string();
    let finished = client.reply(names::WORKFLOW_FINISHED, &id).await;
    finished.body["status"].clone()
}

#[tokio::test]
async fn a_cancel_reaches_a_job_that_runs() {
    let (fleet, coordinators, mut client) = pair().await;
    // A job that went on would not let it stop cleanly.
    let worker = fleet.worker_with(&["--drain-timeout", "1"]).await;
    let start = sleep(300, 600.0);
    client.start(&start).await;
    fleet.database.tasks("running", 1).await;
    let begin = std::time::Instant::now();
    assert_eq!(client.refusal(start.execution_id(), "cancel").await, None);
    assert_eq!(end_of(&mut client, &start).await, "cancelled");
    println!("cancelled after {:.2?}", begin.elapsed());
    let tasks: Vec<(String, String)> = fleet
        .database
        .rows("SELECT status::text, error_kind FROM workflow_task_detail")
        .await;
    assert_eq!(tasks, [("cancelled".to_owned(), "cancelled".to_owned())]);
    let [first, second] = coordinators;
    fleet.rest([worker, first, second]).await;
}

#[tokio::test]
async fn a_cancel_waits_for_nobody_longer_than_the_time_limit() {
    let (fleet, coordinators, mut client) = pair().await;
    let (short, long) = (sleep(300, 2.0), sleep(300, 600.0));
    for start in [&short, &long] {
        client.start(start).await;
        fleet
            .database
            .has_status(start.execution_id(), "running")
            .await;
        assert_eq!(client.refusal(start.execution_id(), "cancel").await, None);
    }
    // No worker has the jobs.
    assert_eq!(end_of(&mut client, &short).await, "cancelled");
    assert_eq!(
        fleet.database.status(long.execution_id()).await.as_deref(),
        Some("cancelling")
    );
    // A worker that comes later gets both, and is told that it need not run the one that is left.
    let worker = fleet.worker_with(&["--drain-timeout", "1"]).await;
    assert_eq!(end_of(&mut client, &long).await, "cancelled");
    let [first, second] = coordinators;
    fleet.rest([worker, first, second]).await;
}

#[tokio::test]
async fn a_pause_lets_nothing_begin_until_the_resume() {
    let (fleet, coordinators, mut client) = pair().await;
    let worker = fleet.worker().await;
    let start = Start::of("tests.steps").parameters(&json!({"seconds": 5}));
    let id = start.execution_id();
    client.start(&start).await;
    fleet.database.tasks("running", 1).await;
    assert_eq!(client.refusal(id, "pause").await, None);
    fleet.database.has_status(id, "paused").await;
    let pausing = "SELECT count(*) FROM workflow_transition WHERE to_status = 'pausing'";
    assert_eq!(
        fleet.database.number(pausing).await,
        1,
        "until its job ended"
    );
    assert_eq!(fleet.database.transitions("task_dispatched").await, 1);
    assert_eq!(client.refusal(id, "resume").await, None);
    assert_eq!(end_of(&mut client, &start).await, "succeeded");
    assert_eq!(fleet.database.transitions("task_dispatched").await, 2);
    let [first, second] = coordinators;
    fleet.rest([worker, first, second]).await;
}

/// Starts executions that wait for their second attempt, longer than any test takes.
async fn waiting(fleet: &Fleet, client: &Client, count: usize) -> Vec<Uuid> {
    let later = || Start::of("tests.later").parameters(&json!({"delay": 3600}));
    let starts: Vec<Start> = (0..count).map(|_| later().silent()).collect();
    for start in &starts {
        client.start(start).await;
    }
    let count = i64::try_from(count).expect("few");
    fleet.database.tasks("retrying", count).await;
    starts.iter().map(Start::execution_id).collect()
}

#[tokio::test]
async fn a_command_that_comes_twenty_times_acts_once() {
    let (fleet, coordinators, mut client) = pair().await;
    let worker = fleet.worker().await;
    let id = waiting(&fleet, &client, 1).await[0];
    for (command, status) in [("pause", "paused"), ("resume", "running")] {
        for _ in 0..TIMES {
            client.command(id, command, command).await;
        }
        for _ in 0..TIMES {
            assert_eq!(client.answer(command).await["accepted"], json!(true));
        }
        fleet.database.has_status(id, status).await;
    }
    // A pause that comes again after the resume has acted already.
    client.command(id, "pause", "pause").await;
    assert_eq!(client.answer("pause").await["accepted"], json!(true));
    assert_eq!(fleet.database.status(id).await.as_deref(), Some("running"));
    assert_eq!(fleet.database.transitions("control_applied").await, 2);
    assert_eq!(client.refusal(id, "cancel").await, None);
    let [first, second] = coordinators;
    fleet.rest([worker, first, second]).await;
}

#[tokio::test]
async fn a_command_that_cannot_be_is_refused_with_its_reason() {
    let (fleet, coordinators, mut client) = pair().await;
    let worker = fleet.worker().await;
    let ended = Start::of("examples.single");
    client.run(&ended).await;
    let id = waiting(&fleet, &client, 1).await[0];
    let cases = [
        (Uuid::now_v7(), "pause", "unknown_execution"),
        (ended.execution_id(), "pause", "already_finished"),
        (ended.execution_id(), "resume", "already_finished"),
        (ended.execution_id(), "cancel", "already_finished"),
        (id, "resume", "not_paused"),
        (id, "rerun", "still_running"),
        (id, "explode", "unknown_command"),
    ];
    for (id, command, reason) in cases {
        let refusal = client.refusal(id, command).await;
        assert_eq!(refusal.as_deref(), Some(reason), "{command}");
    }
    assert_eq!(fleet.database.transitions("control_applied").await, 0);
    assert_eq!(client.refusal(id, "cancel").await, None);
    let [first, second] = coordinators;
    fleet.rest([worker, first, second]).await;
}

#[tokio::test]
async fn commands_find_the_owner_while_it_changes() {
    let fleet = Fleet::with(Options {
        partitions: 16,
        ..Options::default()
    })
    .await;
    let mut coordinators = vec![fleet.coordinator().await, fleet.coordinator().await];
    let worker = fleet.worker().await;
    let mut client = fleet.client().await;
    let ids = waiting(&fleet, &client, COMMANDED).await;
    let mut sent = BTreeMap::new();
    for number in 0..COMMANDS {
        for (at, id) in ids.iter().enumerate() {
            let command = match (number % 2, at % 2) {
                (1, 1) if number + 1 == COMMANDS => "cancel",
                (0, _) => "pause",
                (_, _) => "resume",
            };
            let message_id = format!("{at}/{number}");
            client.command(*id, command, &message_id).await;
            sent.insert(message_id, (*id, command));
        }
        if number % 3 == 0 {
            coordinators.remove(0).kill();
            coordinators.push(fleet.coordinator().await);
        }
    }
    let mut accepted = BTreeSet::new();
    for message_id in sent.keys() {
        if client.answer(message_id).await["accepted"] == json!(true) {
            accepted.insert(message_id.clone());
        }
    }
    // An answer may have been sent twice, and the first to a command that was taken twice may be no.
    wait_until("all commands have been taken", LIMIT, async || {
        queue_depth(&client.connection, names::CONTROL_QUEUE)
            .await
            .unwrap()
            == Some(0)
    })
    .await;
    let logged = logged_commands(&fleet).await;
    let acted: BTreeSet<String> = logged.iter().map(|(_, id, _)| id.clone()).collect();
    assert_eq!(acted.len(), logged.len(), "each acted once: {logged:?}");
    let unheard: Vec<_> = accepted.difference(&acted).collect();
    assert!(unheard.is_empty(), "accepted without effect: {unheard:?}");
    assert!(accepted.len() >= ids.len(), "{accepted:?}");
    for (id, message_id, command) in &logged {
        assert_eq!(sent[message_id], (*id, command.as_str()));
    }
    for id in ids {
        let last = logged.iter().rfind(|(execution, _, _)| *execution == id);
        let (_, _, command) = last.expect("at least the first pause was carried out");
        let status = match command.as_str() {
            "pause" => "paused",
            "resume" => "running",
            _ => "cancelled",
        };
        fleet.database.has_status(id, status).await;
        if status != "cancelled" {
            assert_eq!(client.refusal(id, "cancel").await, None);
        }
    }
    coordinators.insert(0, worker);
    fleet.rest(coordinators).await;
}

/// The commands that were carried out, in their order: execution, message id, command.
async fn logged_commands(fleet: &Fleet) -> Vec<(Uuid, String, String)> {
    let query = "SELECT execution_id, detail ->> 'message_id', detail ->> 'command'
        FROM workflow_transition WHERE kind = 'control_applied' ORDER BY execution_id, seq";
    fleet.database.rows(query).await
}

#[tokio::test]
async fn the_same_start_from_twenty_senders_is_one_execution() {
    let (fleet, coordinators, mut client) = pair().await;
    let worker = fleet.worker().await;
    let start = Start::of("tests.steps");
    for sender in 0..TIMES {
        let mut message = client.message(&start);
        message.correlation_id = Some(sender.to_string());
        client.publish(message).await;
    }
    let mut created = 0;
    for sender in 0..TIMES {
        let sender = sender.to_string();
        let started = client.reply(names::WORKFLOW_STARTED, &sender).await.body;
        assert_eq!(started["execution_id"], start.execution_id().to_string());
        created += u32::from(started["created"] == json!(true));
        let finished = client.reply(names::WORKFLOW_FINISHED, &sender).await.body;
        assert_eq!(finished["status"], "succeeded");
    }
    assert_eq!(created, 1);
    assert!(client.unread().is_empty(), "{:?}", client.unread());
    let count = "SELECT count(*) FROM workflow_execution_summary";
    assert_eq!(fleet.database.number(count).await, 1);
    let [first, second] = coordinators;
    fleet.rest([worker, first, second]).await;
}
