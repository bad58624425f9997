//! The binary under test, run in the folder of this crate's tests.

use std::path::Path;
use std::process::{Command, Output};

/// Runs `flotilla`.
pub fn flotilla(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_flotilla"))
        .args(arguments)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests"))
        .output()
        .expect("the binary runs")
}

/// What it printed.
pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}
