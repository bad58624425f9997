//! `watch` and `show` on a whole fleet: what happens as it happens, and why something does not.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use flotilla_tests::{Fleet, LIMIT, Start, wait_until};
use serde_json::Value;

const WAITING: &str = "
ref: watch.waiting
tasks:
  - {name: begin, on_success: [quick, slow, failing]}
  - {name: quick, action: core.noop, on_success: merge}
  - {name: slow, action: core.noop, pool: gpu, on_success: merge}
  - {name: failing, action: core.fail, input: {times: 1}, retry: {count: 1, delay: 500}}
  - {name: merge, join: all}
";
const SHORT: &str = "
ref: watch.short
parameters: {fails: {type: boolean, default: false}}
tasks:
  - {name: rest, action: core.sleep, input: {seconds: 1}, on_success: end}
  - {name: end, action: core.fail, input: {times: \"{{ 9 if parameters.fails else 0 }}\"}}
output_map: {done: true}
";

fn register(fleet: &Fleet, name: &str, text: &str) {
    let file = fleet.folder.join(name);
    std::fs::write(&file, text).expect("it can be written");
    fleet.command_ok(&["register", &file.to_string_lossy()]);
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// Runs a command in a terminal of its own. Once it has drawn `after`, `keys` are typed.
fn in_terminal(command: &Command, after: &str, keys: &str) -> (Option<i32>, String) {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let line: Vec<String> = words
        .map(|word| format!("'{}'", word.to_string_lossy()))
        .collect();
    let mut script = Command::new("script");
    script
        .args([
            "--quiet",
            "--return",
            "--command",
            &line.join(" "),
            "/dev/null",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .env("TERM", "xterm-256color");
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => script.env(name, value),
            None => script.env_remove(name),
        };
    }
    let mut child = script.spawn().expect("script(1) is there");
    let mut stdin = child.stdin.take().expect("it was asked for");
    let mut stdout = child.stdout.take().expect("it was asked for");
    let (mut drawn, mut typed) = (Vec::new(), false);
    let mut buffer = [0; 4096];
    loop {
        let read = stdout.read(&mut buffer).expect("it can be read");
        if read == 0 {
            break;
        }
        drawn.extend_from_slice(&buffer[..read]);
        if !typed && String::from_utf8_lossy(&drawn).contains(after) {
            stdin.write_all(keys.as_bytes()).expect("it reads");
            typed = true;
        }
    }
    // The input stayed open until now: its end would have ended the terminal.
    drop(stdin);
    let status = child.wait().expect("it ends");
    (status.code(), text(&drawn))
}

#[tokio::test]
async fn a_task_that_does_not_run_says_why() {
    let fleet = Fleet::new().await;
    let coordinator = fleet.coordinator().await;
    let worker = fleet.worker().await;
    register(&fleet, "waiting.yaml", WAITING);
    let start = Start::of("watch.waiting");
    fleet.client().await.start(&start.clone().silent()).await;
    let execution = start.execution_id();
    let id = execution.to_string();
    let show = || fleet.command_ok(&["show", &id]);
    let reason = |shown: &Value, name: &str| -> Option<String> {
        let tasks = shown["tasks"].as_array().expect("a list");
        let task = tasks.iter().find(|task| task["task"] == name)?;
        task["waits_for"].as_str().map(str::to_owned)
    };
    wait_until("all wait", LIMIT, async || {
        fleet.database.status(execution).await.is_some() && {
            let shown = show();
            reason(&shown, "failing").is_some_and(|text| text.starts_with("retry in"))
                && reason(&shown, "merge").is_some()
        }
    })
    .await;
    let shown = show();
    let is = |name: &str| reason(&shown, name);
    assert_eq!(is("slow").as_deref(), Some("no consumer on pool gpu"));
    assert_eq!(is("merge").as_deref(), Some("join merge still needs slow"));
    assert_eq!(is("quick"), None);
    let sheet = fleet.command(&["show", &id]).output().expect("it runs");
    let sheet = text(&sheet.stdout);
    assert!(sheet.contains("WAITS FOR"), "{sheet}");
    assert!(sheet.contains("no consumer on pool gpu"), "{sheet}");

    fleet.command_ok(&["pause", &id]);
    fleet.database.has_status(execution, "pausing").await;
    let gpu = fleet.worker_with(&["--pool", "gpu"]).await;
    fleet.database.has_status(execution, "paused").await;
    let sheet = fleet.command(&["show", &id]).output().expect("it runs");
    let sheet = text(&sheet.stdout);
    let paused = format!("waits for   paused: resume with flotilla resume {id}");
    assert!(sheet.contains(&paused), "{sheet}");

    worker.stop().await;
    gpu.stop().await;
    coordinator.stop().await;
    let shown = show();
    let failing = reason(&shown, "failing").expect("nobody is there to retry it");
    assert!(
        failing.starts_with("no coordinator owns partition "),
        "{failing}"
    );
}

#[tokio::test]
async fn every_transition_is_a_line() {
    let fleet = Fleet::new().await;
    let coordinator = fleet.coordinator().await;
    let worker = fleet.worker().await;
    register(&fleet, "short.yaml", SHORT);
    let start = Start::of("watch.short");
    fleet.client().await.start(&start.clone().silent()).await;
    let id = start.execution_id().to_string();
    wait_until("it is there", LIMIT, async || {
        fleet.database.status(start.execution_id()).await.is_some()
    })
    .await;
    let output = fleet.output(&["watch", &id]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let lines: Vec<Value> = text(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let numbers: Vec<i64> = lines
        .iter()
        .filter_map(|line| line["seq"].as_i64())
        .collect();
    let count = i64::try_from(lines.len()).expect("few");
    assert_eq!(numbers, (1..=count).collect::<Vec<_>>());
    let shown = fleet.command_ok(&["show", &id, "--transitions"]);
    let stored = shown["transitions"].as_array().expect("a list");
    assert_eq!(stored.len(), lines.len());
    assert_eq!(lines.last().expect("some")["to_status"], "succeeded");
    assert!(lines.iter().any(|line| line["task"] == "rest"));

    let output = fleet.command(&["watch", &id]).output().expect("it runs");
    assert_eq!(output.status.code(), Some(0));
    let plain = text(&output.stdout);
    assert_eq!(plain.lines().count(), lines.len() + 1, "{plain}");
    assert!(!plain.contains('\u{1b}'), "{plain}");
    let last = format!("execution {id} succeeded\n");
    assert!(plain.ends_with(&last), "{plain}");

    let nobody = "0190b6a4-0000-7000-8000-000000000001";
    let output = fleet.output(&["watch", nobody]);
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(said.contains("there is no execution"), "{said}");
    fleet.rest([worker, coordinator]).await;
}

#[tokio::test]
async fn a_terminal_gets_a_table_and_is_left_as_it_was() {
    let fleet = Fleet::new().await;
    let coordinator = fleet.coordinator().await;
    let worker = fleet.worker().await;
    register(&fleet, "short.yaml", SHORT);
    let client = fleet.client().await;
    let parameters = serde_json::json!({"fails": true});
    let start = Start::of("watch.short").parameters(&parameters);
    client.start(&start.clone().silent()).await;
    let id = start.execution_id();
    wait_until("it is there", LIMIT, async || {
        fleet.database.status(id).await.is_some()
    })
    .await;
    let watch = fleet.command(&["watch", &id.to_string()]);
    let (code, drawn) = in_terminal(&watch, "TASK", "");
    assert_eq!(code, Some(1), "{drawn}");
    for part in [
        "WAITS FOR / ERROR",
        "rest",
        "\u{1b}[?25l",
        "2 tasks, 0 of them open",
    ] {
        assert!(drawn.contains(part), "{part:?} is missing in {drawn:?}");
    }
    let shown = drawn
        .rfind("\u{1b}[?25h")
        .expect("the cursor is shown again");
    assert!(Some(shown) > drawn.rfind("\u{1b}[?25l"), "{drawn:?}");
    assert!(drawn.contains(&format!("execution {id} failed")), "{drawn}");
    assert!(drawn.contains("next: flotilla show"), "{drawn}");
    worker.stop().await;

    let start = Start::of("watch.short");
    client.start(&start.clone().silent()).await;
    let id = start.execution_id();
    fleet.database.has_status(id, "running").await;
    let watch = fleet.command(&["watch", &id.to_string()]);
    let (code, drawn) = in_terminal(&watch, "no consumer on pool default", "\u{3}");
    assert_eq!(code, Some(130), "{drawn}");
    assert!(
        drawn.contains(&format!("execution {id} goes on")),
        "{drawn}"
    );
    let hidden = drawn.rfind("\u{1b}[?25l");
    assert!(drawn.rfind("\u{1b}[?25h") >= hidden, "{drawn:?}");
    assert_eq!(fleet.database.status(id).await.as_deref(), Some("running"));
    coordinator.stop().await;
}

#[tokio::test]
async fn a_workflow_that_is_not_known_may_be_one_that_is() {
    let fleet = Fleet::new().await;
    let coordinator = fleet.coordinator().await;
    for (name, hint) in [
        ("examples.oder", "did you mean examples.order?"),
        ("nothing.like.it", "registered are "),
    ] {
        let output = fleet.output(&["start", name]);
        assert_eq!(output.status.code(), Some(2));
        let said = text(&output.stderr);
        assert!(said.contains(hint), "{said}");
    }
    let output = fleet.command(&["start", "examples.single"]).output();
    let said = text(&output.expect("it runs").stderr);
    assert!(said.contains("next: flotilla watch "), "{said}");
    coordinator.stop().await;
}
