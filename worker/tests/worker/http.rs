//! `core.http` against a real server.

use flotilla_protocol::message::TaskCompleted;
use flotilla_worker::Worker;
use serde_json::{Value, json};

use crate::fleet::{Fleet, job, kind, result, retryable, with_fleet};
use crate::gate::quiet;
use crate::http_server::{Server, answer};

const JSON: &str = "content-type: application/json\r\n";

async fn run(fleet: &mut Fleet, input: Value) -> TaskCompleted {
    fleet.run(&job("core.http", input)).await
}

fn message(completed: &TaskCompleted) -> &str {
    &completed.error.as_ref().unwrap().message
}

fn details(completed: &TaskCompleted) -> Value {
    let details = completed.error.as_ref().unwrap().details.as_ref().unwrap();
    serde_json::from_str(details.get()).unwrap()
}

#[tokio::test]
async fn a_request_is_sent_as_described_and_its_answer_is_the_result() {
    with_fleet(async |mut fleet| {
        fleet.open_inbox().await;
        let worker = fleet.start(Worker::new(quiet(&fleet)).built_in()).await;
        let server = Server::start(|line| match line {
            "GET /text" => answer(200, "x-many: a\r\nx-many: b\r\n", "hello"),
            _ => answer(201, JSON, "{\"id\": 7}"),
        })
        .await;
        let url = |path: &str| format!("{}{path}", server.url);

        let completed = run(&mut fleet, json!({"url": url("/text")})).await;
        assert_eq!(
            result(&completed),
            json!({"status": 200, "headers": {"x-many": "a, b", "content-length": "5"}, "body": "hello"})
        );
        let plain = &server.requests()[0];
        assert!(plain.headers["user-agent"].starts_with("flotilla-worker/"));
        assert!(!plain.headers.contains_key("idempotency-key"));

        let mut order = job(
            "core.http",
            json!({
                "url": url("/orders?x=1"), "method": "POST", "query": {"y": [2, "ä"]},
                "headers": {"Authorization": "Bearer t", "x-none": null}, "json": {"a": [1, null]},
            }),
        );
        order.idempotency_key = "order-7".to_owned();
        assert_eq!(result(&fleet.run(&order).await)["body"], json!({"id": 7}));
        let request = &server.requests()[0];
        assert_eq!(request.line, "POST /orders?x=1&y=2&y=%C3%A4");
        assert_eq!(request.body, "{\"a\":[1,null]}");
        assert_eq!(request.headers["content-type"], "application/json");
        assert_eq!(request.headers["authorization"], "Bearer t");
        assert_eq!(request.headers["idempotency-key"], "order-7");
        assert!(!request.headers.contains_key("x-none"));

        let form = json!({"url": url("/"), "method": "put", "form": {"a": "1 2", "b": true}});
        run(&mut fleet, form).await;
        let request = &server.requests()[0];
        assert_eq!((request.line.as_str(), request.body.as_str()), ("PUT /", "a=1+2&b=true"));
        assert_eq!(request.headers["content-type"], "application/x-www-form-urlencoded");

        run(&mut fleet, json!({"url": url("/"), "method": "PATCH", "body": "as it is"})).await;
        assert_eq!(server.requests()[0].body, "as it is");
        worker.drain().await;
        fleet
    })
    .await;
}

#[tokio::test]
async fn a_status_that_is_not_expected_is_a_failure_that_says_whether_to_retry() {
    with_fleet(async |mut fleet| {
        fleet.open_inbox().await;
        let worker = fleet.start(Worker::new(quiet(&fleet)).built_in()).await;
        let server = Server::start(|line| {
            let path = line.split('?').next().unwrap();
            let status = path.rsplit('/').next().unwrap().parse().unwrap();
            let patience = if matches!(status, 429 | 503) {
                "retry-after: 17\r\n"
            } else {
                ""
            };
            answer(
                status,
                &format!("{JSON}{patience}"),
                &json!({"why": "x".repeat(20)}).to_string(),
            )
        })
        .await;
        let url = |status: u16| format!("{}/{status}", server.url);
        for (status, may_retry) in [
            (400, false),
            (404, false),
            (429, true),
            (500, true),
            (503, true),
        ] {
            let completed = run(
                &mut fleet,
                json!({"url": format!("{}?key=secret", url(status))}),
            )
            .await;
            assert_eq!(
                (kind(&completed), retryable(&completed)),
                ("http_status", may_retry)
            );
            assert_eq!(
                message(&completed),
                format!("{status} from {}", url(status))
            );
            let details = details(&completed);
            assert_eq!(details["status"], status);
            assert_eq!(details["body"], json!({"why": "x".repeat(20)}));
            assert_eq!(details["headers"]["content-type"], "application/json");
            let patience = if matches!(status, 429 | 503) {
                json!(17)
            } else {
                Value::Null
            };
            assert_eq!(details["retry_after"], patience);
        }
        let completed = run(&mut fleet, json!({"url": url(404), "expect": [200, 404]})).await;
        assert_eq!(result(&completed)["status"], 404);
        let completed = run(&mut fleet, json!({"url": url(200), "expect": [204]})).await;
        assert_eq!(kind(&completed), "http_status");
        worker.drain().await;
        fleet
    })
    .await;
}

#[tokio::test]
async fn a_response_is_bounded() {
    with_fleet(async |mut fleet| {
        fleet.open_inbox().await;
        let worker = fleet.start(Worker::new(quiet(&fleet)).built_in()).await;
        let server = Server::start(|line| {
            let body = "x".repeat(1024 * 1024 + 1);
            match line {
                "GET /large" => answer(200, "", &body),
                // Its length is not known before its end.
                "GET /endless" => format!("HTTP/1.1 200 OK\r\n\r\n{body}").into_bytes(),
                _ => answer(500, "", &body),
            }
        })
        .await;
        for path in ["large", "endless"] {
            let completed = run(&mut fleet, json!({"url": format!("{}/{path}", server.url)})).await;
            assert_eq!(
                (kind(&completed), retryable(&completed)),
                ("limit_exceeded", false)
            );
            assert!(message(&completed).contains("more than 1048576 bytes"));
        }
        let completed = run(&mut fleet, json!({"url": format!("{}/broken", server.url)})).await;
        assert_eq!(details(&completed)["body"].as_str().unwrap().len(), 4096);
        worker.drain().await;
        fleet
    })
    .await;
}

#[tokio::test]
async fn redirects_are_followed_unless_one_is_expected() {
    with_fleet(async |mut fleet| {
        fleet.open_inbox().await;
        let worker = fleet.start(Worker::new(quiet(&fleet)).built_in()).await;
        let server = Server::start(|line| match line {
            "GET /old" => answer(302, "location: /new\r\n", ""),
            "GET /circle" => answer(302, "location: /circle\r\n", ""),
            _ => answer(200, "", "here"),
        })
        .await;
        let url = |path: &str| format!("{}{path}", server.url);
        let completed = run(&mut fleet, json!({"url": url("/old")})).await;
        assert_eq!(result(&completed)["body"], "here");
        let completed = run(&mut fleet, json!({"url": url("/old"), "expect": [302]})).await;
        assert_eq!(result(&completed)["headers"]["location"], "/new");
        let completed = run(&mut fleet, json!({"url": url("/circle")})).await;
        assert_eq!(
            (kind(&completed), retryable(&completed)),
            ("http_redirect", false)
        );
        worker.drain().await;
        fleet
    })
    .await;
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_asked_again_later() {
    with_fleet(async |mut fleet| {
        fleet.open_inbox().await;
        let worker = fleet.start(Worker::new(quiet(&fleet)).built_in()).await;
        let server = Server::start(|line| match line {
            "GET /silent" => Vec::new(),
            // It breaks off before its end.
            _ => b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf".to_vec(),
        })
        .await;
        let closed = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            format!("http://{}/x", listener.local_addr().unwrap())
        };
        let silent = json!({"url": format!("{}/silent", server.url), "timeout": 0.2});
        for (input, expected) in [
            (silent, "http_timeout"),
            (
                json!({"url": format!("{}/half", server.url)}),
                "http_connection",
            ),
            (json!({"url": closed}), "http_connection"),
            (
                json!({"url": closed.replace("http", "https")}),
                "http_connection",
            ),
        ] {
            let completed = run(&mut fleet, input).await;
            assert_eq!((kind(&completed), retryable(&completed)), (expected, true));
            assert!(
                message(&completed).starts_with("GET http"),
                "{}",
                message(&completed)
            );
        }
        worker.drain().await;
        fleet
    })
    .await;
}
