//! Each rule finds a planted violation, and leaves alone what only looks like one.

use crate::check_all;
use crate::source::File;

/// Findings in one planted file, without its path.
fn findings(path: &str, text: &str) -> Vec<String> {
    let found = check_all(&[File::new(path, text)]);
    found
        .iter()
        .map(|finding| {
            finding
                .strip_prefix(&format!("{path}:"))
                .unwrap_or(finding)
                .to_owned()
        })
        .collect()
}

fn assert_only(path: &str, text: &str, expected: &str) {
    let found = findings(path, text);
    assert!(
        found.len() == 1 && found[0].starts_with(expected),
        "expected only {expected:?}, found {found:?}"
    );
}

fn assert_clean(path: &str, text: &str) {
    assert_eq!(findings(path, text), Vec::<String>::new());
}

fn lines(count: usize) -> String {
    "//! Lines.\n".repeat(count)
}

#[test]
fn long_files_are_found() {
    assert_clean("worker/src/a.rs", &lines(400));
    assert_only(
        "worker/src/a.rs",
        &lines(401),
        "401: the file has 401 lines",
    );
    assert_clean("worker/tests/a.rs", &lines(600));
    assert_only(
        "worker/src/tests.rs",
        &lines(601),
        "601: the file has 601 lines",
    );
    assert_clean("docs/a.md", &lines(1000));
}

#[test]
fn files_without_an_opening_comment_are_found() {
    assert_only(
        "worker/src/a.rs",
        "use std::fs;\n",
        "1: the file does not open",
    );
}

#[test]
fn long_functions_are_found() {
    let function = |body: usize| {
        format!(
            "//! A.\n\nfn long<T>(a: [u8; 2])\nwhere\n{{\n{}}}\n",
            "    a();\n".repeat(body)
        )
    };
    assert_clean("worker/src/a.rs", &function(66));
    assert_only(
        "worker/src/a.rs",
        &function(67),
        "3: function `long` has 71 lines",
    );
    let declared = format!(
        "//! A.\ntrait A {{\n    fn a(&self);\n{}}}\n",
        "    const A: u8;\n".repeat(90)
    );
    assert_clean("worker/src/a.rs", &declared);
}

#[test]
fn braces_in_literals_and_comments_do_not_count() {
    let literals = r####"let a = ("{", '{', '\'', b'{', r#"{"{"#, "\"{"); /* { /* { */ */ // {"####;
    let text = format!(
        "//! A.\nfn a<'a>() {{\n    {literals}\n}}\n{}",
        "// b\n".repeat(90)
    );
    assert_clean("worker/src/a.rs", &text);
}

#[test]
fn unfinished_code_is_found() {
    for name in ["todo", "unimplemented", "dbg"] {
        assert_only(
            "worker/tests/a.rs",
            &format!("//! A.\nfn a() {{ {name}!(); }}\n"),
            &format!("2: `{name}!`"),
        );
    }
    assert_clean(
        "worker/src/a.rs",
        "//! A todo!().\nfn a() { b(\"todo!()\") }\n",
    );
}

#[test]
fn unwraps_are_found_outside_of_tests() {
    assert_only(
        "worker/src/a.rs",
        "//! A.\nfn a() { b().unwrap(); }\n",
        "2: `.unwrap()`",
    );
    let in_test = "//! A.\n\n#[cfg(test)]\nmod tests {\n    fn a() { b().unwrap(); }\n}\n";
    assert_clean("worker/src/a.rs", in_test);
    assert_only(
        "worker/src/a.rs",
        &format!("{in_test}fn c() {{ d().unwrap(); }}\n"),
        "7: `.unwrap()`",
    );
    assert_clean("worker/tests/a.rs", "//! A.\nfn a() { b().unwrap(); }\n");
}

#[test]
fn sql_outside_of_storage_is_found() {
    let text = "//! A.\nfn a() { sqlx::query_as(B); }\n";
    assert_only("cli/src/a.rs", text, "2: SQL is written only");
    assert_only("coordinator/src/driver.rs", text, "2: SQL is written only");
    for path in [
        "coordinator/src/storage/a.rs",
        "tests/src/a.rs",
        "loadtest/src/a.rs",
        "worker/tests/a.rs",
    ] {
        assert_clean(path, text);
    }
}

#[test]
fn lapin_outside_of_the_protocol_is_found() {
    assert_only(
        "worker/src/a.rs",
        "//! A.\nuse lapin::Channel;\n",
        "2: lapin is named",
    );
    assert_only(
        "worker/Cargo.toml",
        "[dependencies]\nlapin.workspace = true\n",
        "2: lapin is named",
    );
    assert_clean("protocol/src/a.rs", "//! A.\nuse lapin::Channel;\n");
    assert_clean(
        "worker/src/a.rs",
        "//! lapin.\nconst FILTER: &str = \"lapin=warn\";\n",
    );
}

#[test]
fn dependencies_of_pure_crates_are_found() {
    for name in [
        "tokio",
        "tokio-util",
        "rand",
        "rand_core",
        "futures",
        "async-trait",
        "sqlx",
    ] {
        let text = format!("[dependencies]\nserde = \"1\"\n{name}.workspace = true # why\n");
        assert_only(
            "coordinator/turn/Cargo.toml",
            &text,
            "3: a pure crate does not depend",
        );
        assert_clean("worker/Cargo.toml", &text);
    }
    let protocol =
        "[dependencies]\nflotilla-protocol = { workspace = true, features = [\"amqp\"] }\n";
    assert_only(
        "coordinator/engine/Cargo.toml",
        protocol,
        "2: a pure crate does not depend on `amqp`",
    );
}

#[test]
fn a_second_module_with_backoff_is_found() {
    let manifest = File::new(
        "protocol/Cargo.toml",
        "[dependencies]\nbackoff.workspace = true\n",
    );
    let user = |path: &str, text: &str| File::new(path, &format!("//! A.\n{text}\n"));
    let first = user("protocol/src/a.rs", "use backoff::ExponentialBackoff;");
    let other = user("coordinator/src/b.rs", "use backoff::Delay;");
    let ours = user("protocol/src/c.rs", "use crate::backoff::Delay;");
    let second = user("protocol/src/d.rs", "use backoff::future::retry;");
    let files = [manifest, first, other, ours, second];
    assert_eq!(check_all(&files[..4]), Vec::<String>::new());
    assert_eq!(
        check_all(&files),
        ["protocol/src/d.rs:2: backoff is used in one module only (protocol/src/a.rs)"]
    );
    let twice = [
        File::new("a/Cargo.toml", "backoff = \"1\"\n"),
        File::new("b/Cargo.toml", "backoff = \"1\"\n"),
    ];
    assert_eq!(
        check_all(&twice),
        ["b/Cargo.toml:1: a second crate depends on backoff (a/Cargo.toml)"]
    );
}

#[test]
fn untidy_text_is_found() {
    assert_only("docs/a.md", "a \nb\n", "1: trailing whitespace");
    assert_only("worker/src/a.rs", "//! A\tb.\n", "1: a tab");
    assert_clean("Makefile", "a:\n\tb\n");
    assert_only("docs/a.md", "a\nb", "2: no newline");
    for folder in ["work", "root", "home"] {
        assert_only(
            "docs/a.md",
            &format!("in `/{folder}/a`\n"),
            "1: a path of one machine",
        );
        assert_clean(
            "docs/a.md",
            &format!("https://example.com/{folder}/a, src/{folder}/a, $HOME/{folder}/\n"),
        );
    }
}
