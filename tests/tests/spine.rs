//! The whole path, as a user sees it: a start message in, replies and rows out.

use flotilla_protocol::amqp::{Delivery, Outgoing};
use flotilla_protocol::message::{CompletionStatus, TaskCompleted, TaskError, WorkflowControl};
use flotilla_protocol::{ExecutionId, decode_job, names};
use flotilla_tests::{Client, Fleet, Service, Start, invariants, within};
use serde_json::{Value, json};
use uuid::Uuid;

#[tokio::test]
async fn a_start_is_answered_and_its_end_is_told() {
    let fleet = Fleet::new().await;
    let coordinator = fleet.coordinator().await;
    let worker = fleet.worker().await;
    let mut client = fleet.client().await;

    let start = Start::of("examples.single").parameters(&json!({"name": "Ada"}));
    let id = start.execution_id();
    client.start(&start).await;
    let started = client.next().await;
    assert_eq!(started.message_type, names::WORKFLOW_STARTED);
    assert_eq!(started.correlation_id, id.to_string());
    assert_eq!(started.body, json!({"execution_id": id, "created": true}));
    let finished = client.next().await;
    assert_eq!(finished.message_type, names::WORKFLOW_FINISHED);
    assert_eq!(finished.correlation_id, id.to_string());
    assert_eq!(
        finished.body,
        json!({"execution_id": id, "status": "succeeded", "output": {"greeting": "Hello, Ada!"}, "errors": []})
    );

    let shown: Vec<(String, String, Value, Value, Value, i32, i64)> = fleet
        .database
        .rows("SELECT workflow, status::text, parameters, output, variables, tasks_succeeded, last_seq FROM workflow_execution_summary")
        .await;
    let [(workflow, status, parameters, output, variables, succeeded, last_seq)] = &shown[..]
    else {
        panic!("{shown:?}");
    };
    assert_eq!(
        (workflow.as_str(), status.as_str(), *succeeded),
        ("examples.single", "succeeded", 1)
    );
    assert_eq!(*parameters, json!({"name": "Ada"}));
    assert_eq!(*output, json!({"greeting": "Hello, Ada!"}));
    assert_eq!(*variables, json!({"greeting": "Hello, Ada!"}));
    let transitions: Vec<(i64, String)> = fleet
        .database
        .rows("SELECT seq, kind::text FROM workflow_transition ORDER BY seq")
        .await;
    let kinds: Vec<&str> = transitions.iter().map(|(_, kind)| kind.as_str()).collect();
    assert_eq!(
        kinds,
        [
            "execution_started",
            "task_dispatched",
            "task_ended",
            "execution_status_changed"
        ]
    );
    assert_eq!(*last_seq, 4);

    worker.stop().await;
    coordinator.stop().await;
    invariants::check_at_rest(&fleet.database).await;
}

/// A fleet with one coordinator and one worker, and a user.
async fn running() -> (Fleet, Service, Service, Client) {
    let fleet = Fleet::new().await;
    let (coordinator, worker) = (fleet.coordinator().await, fleet.worker().await);
    let client = fleet.client().await;
    (fleet, coordinator, worker, client)
}

/// Stops everything cleanly, and looks at what is left.
async fn at_rest(fleet: &Fleet, coordinator: Service, worker: Service) {
    worker.stop().await;
    coordinator.stop().await;
    invariants::check_at_rest(&fleet.database).await;
}

#[tokio::test]
async fn the_same_start_twenty_times_is_one_execution() {
    let (fleet, coordinator, worker, mut client) = running().await;
    let order = json!({"order_id": 1, "payment_failures": 1});
    let by_id = Start::of("examples.order").parameters(&order);
    let by_key = Start::of("examples.order")
        .parameters(&order)
        .key("order-1");
    // A message id that is a UUID names the start where nothing else does.
    let mut by_message = Start::of("examples.order").parameters(&order).id(None);
    let message_id = Uuid::now_v7();
    by_message.message_id = Some(message_id.to_string());

    let mut ids = Vec::new();
    for start in [&by_id, &by_key, &by_message] {
        for _ in 0..20 {
            client.start(start).await;
        }
        let correlation = client.message(start).correlation_id.unwrap();
        let mut created = 0;
        let mut seen = Vec::new();
        for _ in 0..20 {
            let reply = client.reply(names::WORKFLOW_STARTED, &correlation).await;
            created += i32::from(reply.body["created"] == json!(true));
            seen.push(reply.body["execution_id"].as_str().unwrap().to_owned());
        }
        seen.dedup();
        assert_eq!((created, seen.len()), (1, 1), "{seen:?}");
        ids.push(seen.remove(0));
        // Each of them is told the end; one of them is enough here.
        client.reply(names::WORKFLOW_FINISHED, &correlation).await;
    }
    assert_eq!(ids[0], by_id.execution_id().to_string());
    assert_eq!(ids[2], message_id.to_string());

    // Sent again after the end, it is told the end at once.
    client.start(&by_id).await;
    let reply = client.reply(names::WORKFLOW_STARTED, &ids[0]).await;
    assert_eq!(
        reply.body,
        json!({"execution_id": ids[0], "created": false})
    );
    fleet.database.succeeded(3).await;
    let count = fleet
        .database
        .number("SELECT count(*) FROM workflow_execution_summary")
        .await;
    assert_eq!(count, 3);
    let keys: Vec<(Option<String>,)> = fleet
        .database
        .rows("SELECT idempotency_key FROM workflow_execution_summary ORDER BY 1")
        .await;
    assert_eq!(keys, [(Some("order-1".to_owned()),), (None,), (None,)]);
    at_rest(&fleet, coordinator, worker).await;
}

#[tokio::test]
async fn a_start_that_cannot_be_is_rejected_with_its_kind() {
    let (fleet, coordinator, worker, mut client) = running().await;
    let good = Start::of("examples.single");
    client.run(&good).await;
    let keyed = Start::of("examples.single").key("taken");
    client.start(&keyed).await;
    client.reply(names::WORKFLOW_FINISHED, "taken").await;

    let cases = rejected_starts(good.execution_id());
    for (start, kind) in &cases {
        client.start(start).await;
        let correlation = client.message(start).correlation_id.unwrap();
        let rejected = client.reply(names::WORKFLOW_REJECTED, &correlation).await;
        assert_eq!(
            rejected.body["error"]["kind"],
            json!(kind),
            "{:?}: {}",
            start.body,
            rejected.body
        );
        assert!(
            !rejected.body["error"]["message"]
                .as_str()
                .unwrap()
                .is_empty()
        );
    }
    // With nobody to tell, they become dead letters.
    for (start, _) in cases {
        client.start(&start.silent()).await;
    }
    flotilla_tests::wait_until(
        "the dead letters are there",
        flotilla_tests::LIMIT,
        async || {
            fleet
                .database
                .number("SELECT count(*) FROM workflow_dead_letter")
                .await
                >= 7
        },
    )
    .await;
    let letters: Vec<(String, String, i64)> = fleet
        .database
        .rows("SELECT queue, reason, count(*) FROM workflow_dead_letter GROUP BY 1, 2")
        .await;
    assert_eq!(
        letters,
        [("flotilla.start".to_owned(), "rejected".to_owned(), 7)]
    );
    let count = fleet
        .database
        .number("SELECT count(*) FROM workflow_execution_summary")
        .await;
    assert_eq!(count, 2);
    at_rest(&fleet, coordinator, worker).await;
}

/// Starts that are rejected where an execution of examples.single has this id and another the key
/// `taken`, with the kinds of their errors.
fn rejected_starts(taken: Uuid) -> Vec<(Start, &'static str)> {
    let order = |parameters: Value| Start::of("examples.order").parameters(&parameters);
    let good = || order(json!({"order_id": 1}));
    vec![
        (Start::of("examples.nothing"), "unknown_workflow"),
        (
            Start::of("examples.single").version("7.7.7"),
            "unknown_version",
        ),
        (good().id(Some(taken)), "id_conflict"),
        (good().key("taken"), "id_conflict"),
        (Start::of("examples.order"), "invalid_input"),
        (order(json!({"order_id": "seven"})), "invalid_input"),
        (
            order(json!({"order_id": 1, "colour": "red"})),
            "invalid_input",
        ),
    ]
}

/// What is compared of a task row.
type TaskRow = (
    String,
    i32,
    String,
    i32,
    i32,
    Option<String>,
    Option<String>,
    Vec<String>,
);

/// All task rows, in the order of the names.
async fn task_rows(fleet: &Fleet) -> Vec<TaskRow> {
    let query = "SELECT t.task, t.visit, t.status::text, t.attempt, t.max_attempts, t.action, t.error_kind,
             ARRAY(SELECT c.task FROM workflow_task_detail c WHERE c.task_id = ANY (t.caused_by) ORDER BY 1)
         FROM workflow_task_detail t ORDER BY t.task";
    fleet.database.rows(query).await
}

/// The rows of an execution of tests.mixed.
fn mixed_rows() -> Vec<TaskRow> {
    // Name, status, attempts made and allowed, action, kind of error, causes.
    type Short<'a> = (
        &'a str,
        &'a str,
        (i32, i32),
        &'a str,
        &'a str,
        &'a [&'a str],
    );
    let rows: [Short; 6] = [
        ("begin", "succeeded", (1, 1), "core.echo", "", &[]),
        ("flaky", "succeeded", (2, 3), "core.fail", "", &["begin"]),
        ("large", "skipped", (0, 1), "", "", &["meet"]),
        ("late", "succeeded", (1, 1), "core.echo", "", &["slow"]),
        ("meet", "succeeded", (0, 1), "", "", &["flaky", "late"]),
        (
            "slow",
            "timed_out",
            (1, 1),
            "core.sleep",
            "task_timeout",
            &["begin"],
        ),
    ];
    let owned = |text: &&str| (*text).to_owned();
    let unless_empty = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let row = |(task, status, attempts, action, error, causes): &Short| {
        let causes = causes.iter().map(owned).collect();
        let (action, error) = (unless_empty(action), unless_empty(error));
        (
            owned(task),
            1,
            owned(status),
            attempts.0,
            attempts.1,
            action,
            error,
            causes,
        )
    };
    rows.iter().map(row).collect()
}

#[tokio::test]
async fn branches_join_decision_retry_and_timeout_leave_exactly_these_rows() {
    let (fleet, coordinator, worker, mut client) = running().await;
    let finished = client.run(&Start::of("tests.mixed")).await;
    assert_eq!(finished["status"], json!("succeeded"));
    assert_eq!(
        finished["output"],
        json!({"total": 12, "note": "timed_out"})
    );
    assert_eq!(task_rows(&fleet).await, mixed_rows());
    let kinds: Vec<(String, i64)> = fleet
        .database
        .rows("SELECT kind::text, count(*) FROM workflow_transition GROUP BY kind ORDER BY kind::text")
        .await;
    let count = |kind: &str| {
        kinds
            .iter()
            .find(|(name, _)| name == kind)
            .map_or(0, |(_, count)| *count)
    };
    assert_eq!(
        (count("task_retry_scheduled"), count("execution_started")),
        (1, 1),
        "{kinds:?}"
    );

    // The other way at the decision.
    let small = client
        .run(&Start::of("tests.mixed").parameters(&json!({"threshold": 100})))
        .await;
    assert_eq!(small["status"], json!("succeeded"));
    let taken: Vec<(String,)> = fleet
        .database
        .rows("SELECT task FROM workflow_task_detail WHERE task IN ('small', 'large') ORDER BY created_at")
        .await;
    assert_eq!(taken, [("large".to_owned(),), ("small".to_owned(),)]);
    at_rest(&fleet, coordinator, worker).await;
}

#[tokio::test]
async fn commands_that_cannot_be_carried_out_are_answered() {
    let (fleet, coordinator, worker, mut client) = running().await;
    let start = Start::of("examples.single");
    client.run(&start).await;
    let nothing = "nothing has failed that could run again; name the tasks to run again";
    for (id, command, reason, detail) in [
        (start.execution_id(), "cancel", "already_finished", None),
        (
            start.execution_id(),
            "rerun",
            "nothing_failed",
            Some(nothing),
        ),
        (Uuid::now_v7(), "pause", "unknown_execution", None),
        (start.execution_id(), "explode", "unknown_command", None),
    ] {
        let control = WorkflowControl {
            execution_id: ExecutionId(id),
            command: command.to_owned(),
            reason: None,
            from: Vec::new(),
            reset_items: false,
            parameters: None,
            vars: None,
        };
        let mut message = Outgoing::control(&control);
        message.reply_to = Some(client.reply_to.clone());
        message.correlation_id = Some(command.to_owned());
        client.publish(message).await;
        let reply = client.reply(names::WORKFLOW_CONTROL_REPLY, command).await;
        let mut expected =
            json!({"execution_id": id, "command": command, "accepted": false, "reason": reason});
        if let Some(detail) = detail {
            expected["detail"] = detail.into();
        }
        assert_eq!(reply.body, expected);
    }
    at_rest(&fleet, coordinator, worker).await;
}

/// Does the work of a job: where to answer, and what.
fn double(delivery: &Delivery) -> (String, TaskCompleted) {
    let envelope = &delivery.envelope;
    let job = decode_job(envelope, &delivery.body).expect("a sound job");
    let message_id = format!("{}/{}", job.task_id, job.attempt);
    assert_eq!(envelope.message_id, Some(message_id));
    assert_eq!(envelope.correlation_id, Some(job.execution_id.to_string()));
    let named = (job.action.as_str(), job.task.as_str(), job.timeout);
    assert_eq!(named, ("shop.double", "double", Some(30.0)));
    let input: Value = serde_json::from_str(job.input.get()).expect("JSON");
    let amount = input["amount"].as_i64().expect("a number");
    let error = (amount == 1 && job.attempt == 1).then(|| TaskError {
        kind: "busy".to_owned(),
        message: "later".to_owned(),
        retryable: Some(true),
        details: None,
    });
    let completed = TaskCompleted {
        execution_id: job.execution_id,
        task_id: job.task_id,
        attempt: job.attempt,
        status: match error {
            Some(_) => CompletionStatus::Failed,
            None => CompletionStatus::Succeeded,
        },
        result: serde_json::value::to_raw_value(&json!({"doubled": amount * 2})).ok(),
        error,
        started_at: None,
        finished_at: None,
        worker: Some("by-hand".to_owned()),
    };
    let reply_to = envelope.reply_to.clone();
    (reply_to.expect("jobs want an answer"), completed)
}

#[tokio::test]
async fn the_jobs_of_an_execution_carry_the_trace_of_its_start() {
    let fleet = Fleet::new().await;
    let coordinator = fleet.coordinator().await;
    let client = fleet.client().await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let start = Start::of("tests.plain").parameters(&json!({"amount": 2}));
    let mut message = client.message(&start.silent());
    message.traceparent = Some(trace.to_owned());
    client.publish(message).await;
    let queue = names::jobs_queue("plain");
    let consuming = client.connection.consume(&queue, 1).await;
    let mut jobs = consuming.expect("registering has made the queue of the pool");
    let delivery = within("job", jobs.next()).await.expect("there is a job");
    assert_eq!(delivery.envelope.traceparent.as_deref(), Some(trace));
    let (reply_to, completed) = double(&delivery);
    let completed = Outgoing::completed(&reply_to, std::slice::from_ref(&completed));
    client.publish(completed).await;
    assert!(jobs.acker().ack(delivery.tag, false).await.unwrap());
    fleet.database.succeeded(1).await;
    fleet.rest([coordinator]).await;
}

/// A worker that is nothing but messages.
#[tokio::test]
async fn a_worker_needs_nothing_but_the_protocol() {
    let fleet = Fleet::new().await;
    let coordinator = fleet.coordinator().await;
    let mut client = fleet.client().await;
    let amounts = [1, 2, 3];
    let starts =
        amounts.map(|amount| Start::of("tests.plain").parameters(&json!({"amount": amount})));
    for start in &starts {
        client.start(start).await;
    }
    let jobs = client
        .connection
        .consume(&names::jobs_queue("plain"), 10)
        .await;
    let mut jobs = jobs.expect("registering has made the queue of the pool");
    let mut ended = Vec::new();
    // The first attempt at the first amount fails, so that there are four.
    while ended.len() < amounts.len() + 1 {
        let delivery = within("job", jobs.next()).await.expect("there are jobs");
        let (reply_to, completed) = double(&delivery);
        // Twice, and the second time in a list: it counts once.
        let once = std::slice::from_ref(&completed);
        client.publish(Outgoing::completed(&reply_to, once)).await;
        let twice = [completed.clone(), completed];
        client.publish(Outgoing::completed(&reply_to, &twice)).await;
        assert!(jobs.acker().ack(delivery.tag, false).await.unwrap());
        ended.push(reply_to);
    }
    for (start, amount) in starts.iter().zip(amounts) {
        let finished = client
            .reply(names::WORKFLOW_FINISHED, &start.execution_id().to_string())
            .await;
        assert_eq!(finished.body["output"], json!({"doubled": amount * 2}));
    }
    flotilla_tests::wait_until(
        "the repeated completions are ignored",
        flotilla_tests::LIMIT,
        async || {
            fleet
                .database
                .number("SELECT count(*) FROM workflow_ignored_message")
                .await
                >= 8
        },
    )
    .await;
    coordinator.stop().await;
    let ignored = fleet
        .database
        .number("SELECT count(*) FROM workflow_ignored_message WHERE worker = 'by-hand'")
        .await;
    assert_eq!(ignored, 8);
    invariants::check_at_rest(&fleet.database).await;
}
