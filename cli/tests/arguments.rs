//! The command line without servers: what is refused, with which exit code and what advice.

use std::process::{Command, Output};

/// Runs `flotilla` in an empty folder and without the variables that could help it.
fn flotilla(arguments: &[&str]) -> Output {
    let folder = std::env::temp_dir().join(format!("flotilla-arguments-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a temporary folder");
    Command::new(env!("CARGO_BIN_EXE_flotilla"))
        .args(arguments)
        .current_dir(folder)
        .env_remove("DATABASE_URL")
        .env_remove("AMQP_URL")
        .env_remove("FLOTILLA_HOME")
        .output()
        .expect("the binary runs")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

/// A port of this machine on which nobody listens.
const NOBODY: &str = "127.0.0.1:1";

#[test]
fn wrong_usage_exits_with_2() {
    for arguments in [
        &[][..],
        &["no-such-command"],
        &["start"],
        &["start", "examples.order", "-p", "order_id"],
        &["start", "examples.order", "--params-json", "[1]"],
        &["start", "examples.order", "--wait-timeout", "5"],
        &[
            "start",
            "examples.order",
            "--wait",
            "--wait-timeout",
            "soon",
        ],
        &["start", "examples.order", "--id", "7"],
        &["show", "not-an-id"],
        &["list", "--limit", "0"],
        &["migrate", "--partitions", "0"],
        &["coordinator", "--lease", "0"],
        &["worker", "--concurrency", "0"],
        &["validate"],
        &["watch"],
        &["watch", "not-an-id"],
        &["test"],
        &["completions"],
        &["completions", "powershell"],
        &["cancel"],
        &["cancel", "not-an-id"],
        &["pause", "7"],
        &["resume"],
        &["check", "--since", "yesterday"],
        &["check", "--since", "2"],
        &["dead"],
        &["dead", "list", "--limit", "0"],
        &["dead", "show", "x"],
        &["dead", "retry"],
        &["dead", "discard", "one"],
        &["list", "-o", "xml"],
        &["list", "-o", "github"],
    ] {
        let output = flotilla(arguments);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{arguments:?}: {}",
            stderr(&output)
        );
        assert_eq!(stdout(&output), "", "{arguments:?}");
    }
}

#[test]
fn a_worker_test_of_nothing_exits_with_2() {
    let pool = ["worker-test", "--pool", "p"];
    for (wrong, says) in [
        (&[][..], "--action"),
        (&["--action", "a", "--input", "{"], "--input"),
        (&["--action", "a", "--only", "x"], "--only"),
        (&["--action", "a", "--patience", "soon"], "--patience"),
    ] {
        let output = flotilla(&[&pool, wrong].concat());
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {text}");
        assert!(text.contains(says), "{wrong:?}: {text}");
    }
    let named = ["worker-test", "--action", "a", "--amqp-url", "amqp://h"];
    for (pool, says) in [("p/q", "letters"), ("default", "that of the fleet")] {
        let output = flotilla(&[&named[..], &["--pool", pool]].concat());
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{pool}: {text}");
        assert!(text.contains(says), "{pool}: {text}");
    }
}

#[test]
fn help_says_where_servers_come_from() {
    let output = flotilla(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let text = stdout(&output);
    for part in [".flotilla/env", "DATABASE_URL", "Exit codes:", "validate"] {
        assert!(text.contains(part), "{part} is missing in:\n{text}");
    }
}

#[test]
fn unknown_servers_are_a_matter_of_usage_and_say_what_to_do() {
    for arguments in [
        &["migrate"][..],
        &["list"],
        &["show", "0190b6a4-0000-7000-8000-000000000001"],
        &["watch", "0190b6a4-0000-7000-8000-000000000001"],
        &["start", "examples.order"],
        &["cancel", "0190b6a4-0000-7000-8000-000000000001"],
        &["check", "--since", "1d12h"],
        &["dead", "list"],
        &["dead", "retry", "1", "2"],
        &["coordinator"],
        &["worker"],
    ] {
        let output = flotilla(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let text = stderr(&output);
        for part in ["make up", "flotilla dev", ".flotilla/env"] {
            assert!(text.contains(part), "{arguments:?}: {text}");
        }
    }
}

#[test]
fn servers_that_do_not_answer_exit_with_3() {
    let database = format!("--database-url=postgres://somebody:secret@{NOBODY}/none");
    let amqp = format!("--amqp-url=amqp://somebody:secret@{NOBODY}/%2f");
    for arguments in [
        &["migrate"][..],
        &["list"],
        &["watch", "0190b6a4-0000-7000-8000-000000000001"],
        &["start", "examples.order"],
        &["pause", "0190b6a4-0000-7000-8000-000000000001"],
        &["check", "--since", "2026-01-31T12:00:00Z"],
        &["dead", "discard", "1"],
        &["coordinator"],
    ] {
        let all = [arguments, &[&database, &amqp]].concat();
        let output = flotilla(&all);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(3), "{arguments:?}: {text}");
        assert!(text.contains(NOBODY), "{arguments:?}: {text}");
        assert!(!text.contains("secret"), "{arguments:?}: {text}");
    }
}

#[test]
fn an_error_is_one_json_document_where_json_was_asked_for() {
    let output = flotilla(&["list", "-o", "json"]);
    assert_eq!(output.status.code(), Some(2));
    let document: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(document["error"]["kind"], "no_server_given");
}

#[test]
fn shells_can_complete_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let output = flotilla(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0), "{shell}");
        let script = stdout(&output);
        for word in ["watch", "register", "wait-timeout", "database-url"] {
            assert!(script.contains(word), "{shell} does not know {word}");
        }
    }
}

#[test]
fn a_word_that_is_misspelt_has_a_suggestion() {
    for (arguments, suggestion) in [
        (&["regsiter"][..], "register"),
        (&["start", "a.b", "--wiat"], "--wait"),
    ] {
        let output = flotilla(arguments);
        assert_eq!(output.status.code(), Some(2));
        let text = stderr(&output);
        assert!(text.contains(suggestion), "{text}");
    }
}

#[test]
fn dev_takes_both_servers_or_none() {
    let output = flotilla(&["dev", "--database-url", "postgres://localhost/x"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("--amqp-url"),
        "{}",
        stderr(&output)
    );
}
