//! The load harness on a whole fleet: what it reports is what happened, and what is lost it finds.

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use flotilla_tests::binary::{flotilla, loadtest};
use flotilla_tests::{Fleet, invariants};
use serde_json::{Value, json};

/// Runs the harness with processes of its own.
fn run(fleet: &Fleet, arguments: &[&str]) -> Output {
    Command::new(loadtest())
        .args(["run", "-o", "json", "--warm-up", "1"])
        .args(arguments)
        .env("FLOTILLA_BIN", flotilla())
        .env("DATABASE_URL", &fleet.database.url)
        .env("AMQP_URL", &fleet.amqp_url)
        .output()
        .expect("the harness can be run")
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        let said = String::from_utf8_lossy(&output.stderr);
        panic!("no report: {error}\n{said}")
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn each_shape_is_run_and_measured() {
    let fleet = Fleet::new().await;
    for (shape, tasks, ends) in [
        ("single", 1, "rows"),
        ("chain", 4, "answers"),
        ("fanout", 8, "rows"),
        ("items", 6, "rows"),
    ] {
        let sizes = ["--length", "4", "--width", "6", "--in-flight", "10"];
        let amount = ["--shape", shape, "--count", "200", "--ends", ends];
        let output = run(&fleet, &[&amount[..], &sizes].concat());
        let report = report(&output);
        assert_eq!(output.status.code(), Some(0), "{report}");
        assert_eq!(report["shape"], shape);
        let executions = report["executions"].as_u64().expect("a number");
        assert!(executions >= 200, "{report}");
        assert_eq!(report["tasks"], executions * tasks);
        assert_eq!(
            (&report["lost"], &report["doubled"]),
            (&json!(0), &json!(0))
        );
        // The clock of a process ticks every 10 ms, and the load test itself may use less.
        for (kind, least) in [("coordinator", 0.001), ("worker", 0.001), ("loadtest", 0.0)] {
            assert!(
                report["cpu_by_process"][kind].as_f64() >= Some(least),
                "{report}"
            );
        }
        // A start, the two answers to it if it asks for them, and for each task a job, or a share of a
        // bundle, and at most one completion.
        let messages = report["costs"]["messages_per_task"]
            .as_f64()
            .expect("all are known");
        let starts = if ends == "rows" { 1.0 } else { 3.0 };
        let starts = starts / f64::from(u32::try_from(tasks).expect("few"));
        assert!(
            (0.12 + starts..=2.2 + starts).contains(&messages),
            "{report}"
        );
        assert!(
            report["costs"]["wal_bytes_per_task"].as_f64() > Some(100.0),
            "{report}"
        );
        // Not every version counts them; none at all is never true.
        assert_ne!(
            report["costs"]["wal_flushes_per_task"].as_f64(),
            Some(0.0),
            "{report}"
        );
    }
    invariants::check_at_rest(&fleet.database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mix_runs_all_shapes() {
    let fleet = Fleet::new().await;
    let sizes = ["--length", "3", "--width", "4", "--in-flight", "20"];
    let output = run(
        &fleet,
        &[&["--shape", "mixed", "--count", "40"][..], &sizes].concat(),
    );
    let report = report(&output);
    assert_eq!(output.status.code(), Some(0), "{report}");
    let query = "SELECT count(DISTINCT workflow) FROM workflow_execution_summary";
    assert_eq!(fleet.database.number(query).await, 4);
    assert!(
        report["tasks"].as_u64() > report["executions"].as_u64(),
        "{report}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_loop_measures_every_start_and_writes_a_page() {
    let fleet = Fleet::new().await;
    let (page, file) = (
        fleet.folder.join("page.html"),
        fleet.folder.join("report.json"),
    );
    let (page, file) = (page.to_string_lossy(), file.to_string_lossy());
    let load = ["--shape", "single", "--seconds", "2", "--rate", "50"];
    let files = ["--html", page.as_ref(), "--json", file.as_ref()];
    let output = run(&fleet, &[&load[..], &files].concat());
    let report = report(&output);
    assert_eq!(output.status.code(), Some(0), "{report}");
    // Whatever has ended when the two seconds are over: all that had to start in them counts.
    let buckets = report["distribution"].as_array().expect("a list");
    let counted: u64 = buckets
        .iter()
        .filter_map(|bucket| bucket["executions"].as_u64())
        .sum();
    assert!((99..=101).contains(&counted), "{report}");
    let latency = &report["latency_ms"];
    assert!(latency["p50"].as_f64() > Some(0.0), "{report}");
    assert!(
        latency["p50"].as_f64() <= latency["max"].as_f64(),
        "{report}"
    );
    assert!(
        report["timeline"].as_array().expect("a list").len() >= 2,
        "{report}"
    );
    let kept = std::fs::read_to_string(&*file).expect("a file was written");
    assert_eq!(serde_json::from_str::<Value>(&kept).expect("JSON"), report);
    let page = std::fs::read_to_string(&*page).expect("a page was written");
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    assert!(page.matches("<svg").count() >= 4, "{page}");
    assert!(
        page.contains("open loop, 50 starts/s") && !page.contains("NaN"),
        "{page}"
    );
}

/// Takes away the row of one execution when it ends.
const LOSE_ONE: [&str; 3] = [
    "CREATE TABLE taken (execution_id uuid)",
    "CREATE FUNCTION take_one() RETURNS trigger LANGUAGE plpgsql AS $$
     BEGIN
         IF new.finished_at IS NOT NULL AND NOT EXISTS (SELECT FROM taken) THEN
             INSERT INTO taken VALUES (new.execution_id);
             DELETE FROM workflow_execution WHERE execution_id = new.execution_id;
         END IF;
         RETURN NULL;
     END $$",
    "CREATE TRIGGER take_one AFTER UPDATE ON workflow_execution
         FOR EACH ROW EXECUTE FUNCTION take_one()",
];

#[tokio::test(flavor = "multi_thread")]
async fn what_is_lost_is_found_and_ends_with_1() {
    let fleet = Fleet::new().await;
    for statement in LOSE_ONE {
        fleet.database.run(statement).await;
    }
    let services = (fleet.coordinator().await, fleet.worker().await);
    let none = ["--coordinators", "0", "--workers", "0"];
    // By its row it would never end; its answers come.
    let none = [&none[..], &["--ends", "answers"]].concat();
    let load = ["--shape", "single", "--count", "20", "--in-flight", "5"];
    let output = run(&fleet, &[&load[..], &none].concat());
    let report = report(&output);
    assert_eq!(output.status.code(), Some(1), "{report}");
    assert_eq!(
        (&report["lost"], &report["doubled"]),
        (&json!(1), &json!(0))
    );
    assert!(report["findings"].as_u64() > Some(0), "{report}");
    // Who was not started here cannot be looked at.
    assert_eq!(report["cpu_by_process"]["coordinator"], Value::Null);
    assert_eq!(report["costs"]["messages_per_task"], Value::Null);
    services.1.stop().await;
    services.0.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_take_part_of_is_not_known() {
    let fleet = Fleet::new().await;
    let services = (fleet.coordinator().await, fleet.worker().await);
    let load = ["--shape", "single", "--count", "20", "--in-flight", "5"];
    let output = run(&fleet, &load);
    let report = report(&output);
    assert_eq!(output.status.code(), Some(0), "{report}");
    let unknown = [
        "/cpu_by_process/coordinator",
        "/cpu_by_process/worker",
        "/cpu_ms_per_task",
        "/rss_mb_by_process/worker",
        "/costs/messages/coordinator",
        "/costs/messages_per_task",
    ];
    for place in unknown {
        assert_eq!(report.pointer(place), Some(&Value::Null), "{place}");
    }
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("not started here"), "{said}");
    assert!(said.contains("(1 and 1)"), "{said}");
    services.1.stop().await;
    services.0.stop().await;
}

/// Runs `flotilla`, whose workers drain when they are told to and end with 7 then.
const FAILING_WORKERS: &str = "#!/usr/bin/env bash
[ \"$1\" = worker ] || exec \"$FLOTILLA\" \"$@\"
trap 'kill -TERM $!' TERM
\"$FLOTILLA\" \"$@\" &
wait $!
wait $!
exit 7
";

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_does_not_end_well_is_named_and_ends_the_run_with_1() {
    let fleet = Fleet::new().await;
    let program = fleet.folder.join("flotilla");
    std::fs::write(&program, FAILING_WORKERS).expect("it can be written");
    let is_executable = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(&program, is_executable).expect("it is ours");
    let output = Command::new(loadtest())
        .args(["run", "-o", "json", "--warm-up", "0", "--shape", "single"])
        .args(["--count", "20", "--in-flight", "5"])
        .env("FLOTILLA_BIN", &program)
        .env("FLOTILLA", flotilla())
        .env("DATABASE_URL", &fleet.database.url)
        .env("AMQP_URL", &fleet.amqp_url)
        .output()
        .expect("the harness can be run");
    let report = report(&output);
    assert_eq!(output.status.code(), Some(1), "{report}");
    assert_eq!(
        (&report["lost"], &report["failed_processes"]),
        (&json!(0), &json!(1))
    );
    let said = String::from_utf8_lossy(&output.stderr);
    let named = "loadtest-worker-0 did not end well when it was told to (exit status: 7)";
    assert!(said.contains(named), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_there_ends_with_3() {
    let fleet = Fleet::new().await;
    let output = Command::new(loadtest())
        .args(["run", "--shape", "single", "--count", "1"])
        .args(["--database-url", "postgres://nobody@127.0.0.1:1/none"])
        .env("FLOTILLA_BIN", flotilla())
        .env("AMQP_URL", &fleet.amqp_url)
        .output()
        .expect("the harness can be run");
    assert_eq!(output.status.code(), Some(3));
    assert!(!output.stderr.is_empty());
}
