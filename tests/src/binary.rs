//! The binaries that the tests run: `flotilla`, with crash points compiled in, and the load harness.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The binary, built once per test program; `FLOTILLA_BIN` names another one to be taken as it is.
///
/// Built in the debug profile, next to everything else, so that the crash points never reach a
/// release binary. What runs is a copy: other builds of the same binary, without crash points, replace
/// the file of that name.
///
/// # Panics
/// When it cannot be built.
#[must_use]
pub fn flotilla() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("FLOTILLA_BIN") {
        Some(given) => PathBuf::from(given),
        None => copy(&build("flotilla")),
    })
}

/// The load harness, built once per test program, likewise in the debug profile.
///
/// # Panics
/// When it cannot be built.
#[must_use]
pub fn loadtest() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| build("flotilla-loadtest"))
}

/// The worker that leaves traces, which cargo builds with the tests, in the folder above theirs.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn effects() -> PathBuf {
    let here = std::env::current_exe().expect("a test program has a path");
    let built = here.parent().and_then(Path::parent);
    let path = built.expect("target/<profile>/deps").join("effects");
    assert!(path.exists(), "{} is not built", path.display());
    path
}

/// The root of the workspace.
#[must_use]
pub fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

fn build(name: &str) -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // What cargo tells this test about its package is no news for the build, but build scripts
    // that look at it would have everything above them built again.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    let output = command
        // The whole workspace, so that what it depends on is built with the same features as here.
        .args(["build", "--workspace", "--features", "flotilla/failpoints"])
        .args(["--bin", name, "--message-format"])
        .arg("json-render-diagnostics")
        .current_dir(root())
        .output()
        .expect("cargo can be run");
    assert!(
        output.status.success(),
        "cannot build {name}:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .next_back()
        .expect("cargo names the executable")
}

/// Copies the binary, so that no later build writes into what runs. Another process does it: this one
/// would hand a file that is open for writing to every child that it starts meanwhile, and nobody can
/// run such a file.
fn copy(built: &Path) -> PathBuf {
    let own = built.with_file_name("flotilla-with-failpoints");
    let new = built.with_file_name(format!("flotilla-with-failpoints.{}", std::process::id()));
    let status = Command::new("cp").arg("--").arg(built).arg(&new).status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "the binary can be copied"
    );
    std::fs::rename(&new, &own).expect("a file can be renamed within its folder");
    own
}
