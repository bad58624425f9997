//! The pack of orders against its shop: every order ends as it must, and the shop did each thing once.

use std::process::Command;

use flotilla_tests::binary::root;
use flotilla_tests::{Fleet, LIMIT, Service, Start, foreign, wait_until};
use serde_json::{Value, json};

/// Starts the shop, and waits until it says where it is.
async fn shop(fleet: &Fleet) -> (Service, String) {
    let mut command = Command::new("python3");
    command
        .arg(root().join("examples/packs/orders/shop.py"))
        .arg("0");
    let mut shop = fleet.spawn_foreign("shop", &mut command);
    let mut url = None;
    wait_until("the shop is open", LIMIT, async || {
        assert!(shop.is_running(), "{}", shop.log());
        let said = shop.said();
        url = said.lines().next().map(str::to_owned);
        said.ends_with('\n')
    })
    .await;
    (shop, url.expect("it has said where it is"))
}

/// What the shop answers at a path.
fn ask(url: &str, path: &str) -> Value {
    let script = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1]).read().decode())";
    let output = Command::new("python3")
        .args(["-c", script, &format!("{url}/{path}")])
        .output();
    serde_json::from_slice(&output.expect("python3 can be run").stdout).expect("JSON")
}

#[tokio::test]
async fn every_order_ends_and_the_shop_does_everything_once() {
    if !foreign::has_python3() {
        return;
    }
    let fleet = Fleet::new().await;
    fleet.register_pack("orders");
    let coordinator = fleet.coordinator().await;
    let worker = fleet.worker().await;
    let (shop, url) = shop(&fleet).await;
    let mut client = fleet.client().await;
    let order = |id: u32| {
        let parameters = json!({"order_id": id, "shop": url});
        Start::of("orders.fulfil").parameters(&parameters)
    };
    let ended = |state: &str, total: u32, receipt: Option<&str>, tracking: Option<&str>| json!({"state": state, "total": total, "receipt": receipt, "tracking": tracking});
    let cases = [
        (1, ended("shipped", 2_100, Some("R-1-2100"), Some("T-1"))),
        (2, ended("shipped", 3_900, Some("R-2-3900"), Some("T-2"))),
        (3, ended("cancelled", 3_600, None, None)),
        (4, ended("backordered", 195_000, None, None)),
    ];
    for (id, expected) in cases {
        let finished = client.run(&order(id)).await;
        assert_eq!(finished["status"], "succeeded", "{id}: {finished}");
        assert_eq!(finished["output"], expected, "{id}");
    }
    // The bank that did not answer twice was asked three times, not sooner than it wanted.
    let charges: Vec<(String, i32, Option<String>, bool)> = fleet
        .database
        .rows(
            "SELECT status::text, attempt, error_kind, finished_at - created_at >= interval '2 s'
             FROM workflow_task_detail WHERE task = 'charge' ORDER BY created_at",
        )
        .await;
    let paid = |attempt, is_late| ("succeeded".to_owned(), attempt, None, is_late);
    let declined = (
        "failed".to_owned(),
        1,
        Some("http_status".to_owned()),
        false,
    );
    assert_eq!(charges, [paid(1, false), paid(3, true), declined]);

    let finished = client.run(&order(99)).await;
    assert_eq!(finished["status"], "failed", "{finished}");
    assert_eq!(finished["errors"][0]["kind"], "http_status", "{finished}");

    let done = [
        "reservations 1",
        "payments 1",
        "shipments 1",
        "reservations 2",
        "payments 2",
        "shipments 2",
        "reservations 3",
        "release 3",
        "backorders 4",
    ];
    assert_eq!(ask(&url, "journal"), json!(done));
    assert_eq!(ask(&url, "stock"), json!({"tea": 8, "cup": 9, "pot": 4}));
    shop.kill();
    fleet.rest([worker, coordinator]).await;
}
