//! The conformance kit, `flotilla worker-test`: sound workers pass it, and each fault of a broken one is
//! found by the check that is there for it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Output;

use flotilla_tests::binary::{flotilla, root};
use flotilla_tests::{Fleet, foreign};
use serde_json::Value;

/// The checks of jobs that take a while, and of what else is optional.
const OPTIONAL: [&str; 7] = [
    "started",
    "heartbeat",
    "time_limit",
    "cancel",
    "cancel_ahead",
    "early",
    "newer_version",
];

/// What is asked of the action `shop.price`.
const PRICE: [&str; 8] = [
    "--action",
    "shop.price",
    "--input",
    r#"{"lines": [{"price": 3, "count": 2}]}"#,
    "--failing-input",
    r#"{"lines": 7}"#,
    "--slow-input",
    r#"{"lines": [], "seconds": 3}"#,
];

/// Runs the kit on a worker that it starts.
fn kit(fleet: &Fleet, arguments: &[&str], command: &str) -> Output {
    let worker = ["worker-test", "--pool", "kit", "--freeze", "1"];
    fleet.output(&[&worker, arguments, &["--command", command]].concat())
}

/// The outcome of each check.
fn outcomes(output: &Output) -> BTreeMap<String, String> {
    let document: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!(
            "{error}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    });
    let checks = document["checks"].as_array().expect("a list of checks");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    checks
        .iter()
        .map(|check| (text(&check["check"]), text(&check["outcome"])))
        .collect()
}

/// Demands that a worker passes every check but the optional ones that it is known to do without.
fn passes(output: &Output, without: &[&str]) {
    let outcomes = outcomes(output);
    assert_eq!(outcomes.len(), 19, "{outcomes:?}");
    for (check, outcome) in &outcomes {
        let expected = if without.contains(&check.as_str()) {
            "absent"
        } else {
            "pass"
        };
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert_eq!(outcome, expected, "{check}: {stdout}");
    }
    assert_eq!(output.status.code(), Some(0));
}

fn command(python: &Path, script: &Path) -> String {
    format!("exec '{}' '{}' kit", python.display(), script.display())
}

#[tokio::test]
async fn the_short_worker_in_python_passes() {
    let Some(python) = foreign::python() else {
        return;
    };
    let fleet = Fleet::new().await;
    let worker = command(python, &foreign::worker("price.py"));
    passes(&kit(&fleet, &PRICE, &worker), &OPTIONAL);
}

#[tokio::test]
async fn the_full_worker_in_python_does_all_of_it() {
    let Some(python) = foreign::python() else {
        return;
    };
    let fleet = Fleet::new().await;
    let worker = command(python, &foreign::worker("price_full.py"));
    passes(&kit(&fleet, &PRICE, &worker), &[]);
}

#[tokio::test]
async fn the_worker_in_javascript_passes() {
    let Some(script) = foreign::node_script() else {
        return;
    };
    let fleet = Fleet::new().await;
    let worker = format!("exec node '{}' kit", script.display());
    passes(&kit(&fleet, &PRICE, &worker), &OPTIONAL);
}

#[tokio::test]
async fn the_worker_of_the_binary_passes() {
    let fleet = Fleet::new().await;
    let worker = format!("exec '{}' worker --pool kit", flotilla().display());
    let sleep = [
        "--action",
        "core.sleep",
        "--input",
        r#"{"seconds": 0}"#,
        "--failing-input",
        r#"{"seconds": "long"}"#,
        "--slow-input",
        r#"{"seconds": 3}"#,
    ];
    passes(&kit(&fleet, &sleep, &worker), &["early"]);
}

/// A fault: its name, what is replaced in price.py by what, and the check that must find it.
type Fault = (
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static str,
);

const ACK: &str = "    channel.basic_ack(delivery.delivery_tag)\n";
const FAULTS: [Fault; 9] = [
    (
        "acknowledges first",
        &[
            (ACK, ""),
            (
                "properties, body):\n",
                "properties, body):\n    channel.basic_ack(delivery.delivery_tag)\n",
            ),
        ],
        "acknowledge",
    ),
    ("never acknowledges", &[(ACK, "")], "sequence"),
    (
        "forgets the confirm",
        &[("channel.confirm_delivery()\n", "")],
        "confirm",
    ),
    (
        "forgets mandatory",
        &[(", mandatory=True)", ")")],
        "mandatory",
    ),
    (
        "answers for another attempt",
        &[("| {\"worker\"", "| {\"attempt\": 1, \"worker\"")],
        "reply",
    ),
    (
        "dies on garbage",
        &[(
            "        return channel.basic_reject(delivery.delivery_tag, requeue=False)",
            "        raise",
        )],
        "garbage",
    ),
    (
        "swallows garbage",
        &[(
            "channel.basic_reject(delivery.delivery_tag, requeue=False)",
            "channel.basic_ack(delivery.delivery_tag)",
        )],
        "garbage",
    ),
    (
        "swallows failures",
        &[("{\"status\": \"failed\", ", "{\"status\": \"succeeded\", ")],
        "failure",
    ),
    (
        "does not tell the start",
        &[("    if count > 0:", "    if False:")],
        "redelivery",
    ),
];

#[tokio::test]
async fn each_fault_of_a_broken_worker_is_found() {
    let Some(python) = foreign::python() else {
        return;
    };
    let fleet = Fleet::new().await;
    let sound = std::fs::read_to_string(foreign::worker("price.py")).unwrap();
    for (fault, replacements, check) in FAULTS {
        let mut broken = sound.clone();
        for (from, to) in replacements {
            assert_eq!(broken.matches(from).count(), 1, "{fault}: {from}");
            broken = broken.replace(from, to);
        }
        // A worker that acknowledges nothing takes the first job alone.
        if fault == "never acknowledges" {
            broken = broken.replace("prefetch_count=1", "prefetch_count=10");
        }
        let script = fleet.folder.join("broken.py");
        std::fs::write(&script, broken).unwrap();
        let only = ["--only", check, "--patience", "6"];
        let output = kit(
            &fleet,
            &[&PRICE[..], &only].concat(),
            &command(python, &script),
        );
        let found = [(check.to_owned(), "fail".to_owned())];
        assert_eq!(outcomes(&output), found.into(), "{fault}");
        assert_eq!(output.status.code(), Some(1), "{fault}");
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        let told = &document["checks"][0];
        for field in ["seen", "contract"] {
            let text = told[field].as_str().unwrap_or_default();
            assert!(text.len() > 20, "{fault}: {told}");
        }
        let place = told["place"].as_str().unwrap_or_default();
        assert!(place.starts_with("docs/workers.md#"), "{fault}: {told}");
    }
}

#[tokio::test]
async fn a_pool_that_others_use_is_refused() {
    let fleet = Fleet::new().await;
    let refused = |arguments: &[&str], says: &str| {
        let all = [&["worker-test", "--patience", "0.5"], arguments].concat();
        let output = fleet.output(&all);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.contains(says), "{arguments:?}: {stderr}");
        assert!(stderr.contains("hint: "), "{arguments:?}: {stderr}");
    };
    let action = ["--action", "core.noop"];
    let on = |pool: &'static str| [&["--pool", pool][..], &action].concat();
    refused(&on("default"), "that of the fleet");
    refused(&on("nobody"), "no worker consumes");
    let ends = [&on("short")[..], &["--command", "exit 3"]].concat();
    refused(&ends, "ended before it consumed");
    let idle = [&on("idle")[..], &["--command", "exec sleep 60"]].concat();
    refused(&idle, "does not consume");
    let worker = fleet.worker_with(&["--pool", "busy"]).await;
    let other = [&on("busy")[..], &["--command", "exec sleep 60"]].concat();
    refused(&other, "needs the pool for itself");
    let second = fleet.worker_with(&["--pool", "busy"]).await;
    refused(&on("busy"), "needs the pool for itself");
    second.stop().await;
    // One alone is tested as it is.
    let only = [&on("busy")[..], &["--only", "reply", "--only", "killed"]].concat();
    let output = fleet.output(&[&["worker-test"], &only[..]].concat());
    let seen = outcomes(&output);
    assert_eq!(seen["reply"], "pass");
    assert_eq!(seen["killed"], "skipped");
    assert_eq!(output.status.code(), Some(0));
    worker.stop().await;
}

#[test]
fn the_page_about_workers_holds_the_very_worker() {
    let page = std::fs::read_to_string(root().join("docs/workers.md")).unwrap();
    let script = std::fs::read_to_string(foreign::worker("price.py")).unwrap();
    assert!(
        page.contains(&format!("```python\n{script}```\n")),
        "docs/workers.md does not hold examples/workers/price.py"
    );
}
