//! The load harness as an instrument: shapes, failures and payloads are what was asked for, a ramp finds a
//! limit, copies are as good as what a fleet writes, and the bench measures what it names.

use std::process::{Command, Output};

use flotilla_tests::binary::{flotilla, loadtest};
use flotilla_tests::{Fleet, invariants};
use serde_json::Value;

/// Runs a command of the harness.
fn harness(fleet: &Fleet, words: &[&str]) -> Output {
    Command::new(loadtest())
        .args(words)
        .env("FLOTILLA_BIN", flotilla())
        .env("DATABASE_URL", &fleet.database.url)
        .env("AMQP_URL", &fleet.amqp_url)
        .output()
        .expect("the harness can be run")
}

fn said(output: &Output) -> String {
    let (stdout, stderr) = (&output.stdout, &output.stderr);
    format!(
        "{}\n{}",
        String::from_utf8_lossy(stdout),
        String::from_utf8_lossy(stderr)
    )
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("no report: {error}\n{}", said(output)))
}

#[tokio::test(flavor = "multi_thread")]
async fn random_graphs_with_failures_and_payloads_do_what_was_asked_for() {
    let fleet = Fleet::new().await;
    let load = ["run", "-o", "json", "--shape", "random", "--seed", "11"];
    let sizes = ["--length", "6", "--failures", "0.2", "--payload", "300"];
    let amount = ["--count", "200", "--warm-up", "0", "--in-flight", "40"];
    let output = harness(&fleet, &[&load[..], &sizes, &amount].concat());
    let report = report(&output);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(report["settings"]["seed"], 11);
    assert!(report["yardstick_ms"].as_f64() > Some(0.0), "{report}");
    // Of five attempts one fails.
    let attempts = report["attempts_per_task"].as_f64().expect("a number");
    assert!((1.2..1.3).contains(&attempts), "{report}");
    let graphs = "SELECT count(DISTINCT workflow) FROM workflow_execution_summary";
    assert_eq!(fleet.database.number(graphs).await, 8);
    let carried = "SELECT count(*) FROM workflow_task
         WHERE length(result ->> 'payload') IS DISTINCT FROM 300";
    assert_eq!(fleet.database.number(carried).await, 0);
    let stages = report["stages"]["stages"].as_array().expect("a list");
    for stage in stages {
        assert!(stage["samples"].as_u64() > Some(0), "{stage}");
        assert!(
            stage["p50_ms"].as_f64() <= stage["p99_ms"].as_f64(),
            "{stage}"
        );
    }
    invariants::check_at_rest(&fleet.database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ramp_finds_a_rate_that_is_sustained_and_one_that_is_not() {
    let fleet = Fleet::new().await;
    let ramp = ["ramp", "-o", "json", "--shape", "fanout", "--width", "20"];
    let output = harness(
        &fleet,
        &[&ramp[..], &["--from", "5", "--step", "1", "--bound", "300"]].concat(),
    );
    let report = report(&output);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let max = report["max_executions_per_s"].as_f64().expect("a rate");
    let steps = report["steps"].as_array().expect("a list");
    let rate = |step: &Value| step["rate"].as_f64().expect("a rate");
    let is_too_much = |step: &Value| step["sustained"] == false && step["repeated"] == false;
    let too_much = steps.iter().filter(|step| is_too_much(step)).map(rate);
    let too_much = too_much.fold(f64::INFINITY, f64::min);
    assert!(
        max >= 5.0 && max < too_much && too_much.is_finite(),
        "{report}"
    );
    assert_eq!(
        (&report["lost"], &report["doubled"]),
        (&0.into(), &0.into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_of_executions_stand_up_to_the_check() {
    let fleet = Fleet::new().await;
    let empty = harness(&fleet, &["fill", "--executions", "10"]);
    assert_ne!(empty.status.code(), Some(0), "nothing is there to copy");
    let load = ["run", "--shape", "mixed", "--width", "5", "--length", "3"];
    let amount = ["--count", "40", "--warm-up", "0", "--in-flight", "40"];
    let output = harness(&fleet, &[&load[..], &amount].concat());
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let output = harness(&fleet, &["fill", "--executions", "500"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let finished = "SELECT count(*) FROM workflow_execution WHERE finished_at IS NOT NULL";
    assert_eq!(fleet.database.number(finished).await, 500);
    invariants::check_at_rest(&fleet.database).await;
    let check = Command::new(flotilla())
        .arg("check")
        .env("DATABASE_URL", &fleet.database.url)
        .output()
        .expect("it can be run");
    assert_eq!(check.status.code(), Some(0), "{}", said(&check));
    // A fleet goes on beside them.
    let output = harness(&fleet, &[&load[..], &amount].concat());
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bench_measures_what_it_is_asked_for_and_leaves_no_database() {
    let fleet = Fleet::new().await;
    let folder = fleet.folder.join("bench");
    let folder = folder.to_string_lossy();
    let short = ["--seconds", "1", "--runs", "1", "--fill", "1500"];
    let words = ["bench", "--only", "growth", "--folder", &folder];
    let output = harness(&fleet, &[&words[..], &short].concat());
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    let row = |name: &str| {
        let line = table.lines().find(|line| line.starts_with(name));
        line.unwrap_or_else(|| panic!("no {name}: {}", said(&output)))
            .to_owned()
    };
    assert!(!row("| growth").contains("not measured"), "{table}");
    row("| single task, 1,000 in flight, full tables");
    row("Yardstick, ");
    assert!(!table.contains("| chain: "), "{table}");
    for file in ["bench.md", "bench-single-1.json", "bench-full-1.json"] {
        assert!(fleet.folder.join("bench").join(file).exists(), "{file}");
    }
    let left = "SELECT count(*) FROM pg_database
         WHERE datname LIKE left(current_database(), 24) || '\\_bench\\_%'";
    assert_eq!(fleet.database.number(left).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn results_are_compared() {
    let fleet = Fleet::new().await;
    let file = |name: &str| fleet.folder.join(name).to_string_lossy().into_owned();
    let (one, other) = (file("one.json"), file("other.json"));
    for (json, in_flight) in [(&one, "10"), (&other, "11")] {
        let load = [
            "run",
            "--shape",
            "single",
            "--count",
            "100",
            "--warm-up",
            "0",
        ];
        let more = ["--in-flight", in_flight, "--json", json];
        let output = harness(&fleet, &[&load[..], &more].concat());
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    }
    let same = harness(&fleet, &["compare", &one, &one]);
    assert_eq!(same.status.code(), Some(0), "{}", said(&same));
    assert!(!said(&same).contains("WARNING"), "{}", said(&same));
    let differ = harness(&fleet, &["compare", &one, &other, "--limit", "100000"]);
    assert_eq!(differ.status.code(), Some(0), "{}", said(&differ));
    let warning = "WARNING: settings in_flight differs: 10 and 11";
    assert!(said(&differ).contains(warning), "{}", said(&differ));
    let nothing = harness(&fleet, &["compare", &one, "nowhere.json"]);
    assert_eq!(nothing.status.code(), Some(2));
}

/// A command of the harness that is given no server, in a folder in which private ones may be named.
fn without_servers(fleet: &Fleet, words: &[&str]) -> Output {
    Command::new(loadtest())
        .args(words)
        .current_dir(&fleet.folder)
        .env("FLOTILLA_BIN", flotilla())
        .env("AMQP_URL", "")
        .env_remove("DATABASE_URL")
        .env_remove("FLOTILLA_HOME")
        .output()
        .expect("the harness can be run")
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_are_not_given_are_those_of_the_private_file() {
    let fleet = Fleet::new().await;
    let amount = ["--count", "10", "--warm-up", "0", "--in-flight", "5"];
    let run = [&["run", "--shape", "single"][..], &amount].concat();
    for words in [&run[..], &["fill", "--executions", "1"]] {
        let output = without_servers(&fleet, words);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        let said = said(&output);
        assert!(said.contains("where is Postgres?"), "{said}");
        assert!(said.contains("`flotilla dev`"), "{said}");
    }
    let home = fleet.folder.join(".flotilla");
    std::fs::create_dir(&home).expect("nothing is there");
    let (database, amqp) = (&fleet.database.url, &fleet.amqp_url);
    let text = format!("DATABASE_URL='{database}'\nAMQP_URL='{amqp}'\n");
    std::fs::write(home.join("env"), text).expect("it can be written");
    let output = without_servers(&fleet, &run);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let output = without_servers(&fleet, &["fill", "--executions", "1"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
}
