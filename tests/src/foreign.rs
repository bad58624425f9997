//! Python and Node for the workers and clients of `examples/`, with their AMQP libraries: in the state
//! folder, made once and kept for the next time.
//!
//! Where they cannot be had the tests that need them are skipped, with a word about it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::binary::root;

/// A Python with what `examples/workers/requirements.txt` names. `None`, with a word about it, where
/// there is no Python or `PyPI` cannot be reached.
#[must_use]
pub fn python() -> Option<&'static Path> {
    static PYTHON: OnceLock<Option<PathBuf>> = OnceLock::new();
    PYTHON.get_or_init(make_python).as_deref()
}

/// A copy of `examples/workers/price.mjs` in a folder that has what its `package.json` names. `None`,
/// with a word about it, where there is no Node or the registry cannot be reached.
#[must_use]
pub fn node_script() -> Option<&'static Path> {
    static SCRIPT: OnceLock<Option<PathBuf>> = OnceLock::new();
    SCRIPT.get_or_init(make_node_script).as_deref()
}

/// The command of an example worker in Python for a pool; `None` where there is no Python.
#[must_use]
pub fn python_worker(file: &str, pool: &str) -> Option<Command> {
    let mut command = Command::new(python()?);
    command.arg(worker(file)).arg(pool);
    Some(command)
}

/// The command of the example worker in JavaScript for a pool; `None` where there is no Node.
#[must_use]
pub fn node_worker(pool: &str) -> Option<Command> {
    let mut command = Command::new("node");
    command.arg(node_script()?).arg(pool);
    Some(command)
}

/// The path of an example worker.
#[must_use]
pub fn worker(file: &str) -> PathBuf {
    root().join("examples/workers").join(file)
}

fn make_python() -> Option<PathBuf> {
    let requirements = worker("requirements.txt");
    let wanted = fs::read_to_string(&requirements).expect("the file is part of the project");
    let folder = state_folder().join("python");
    let python = folder.join("bin/python3");
    let made_of = folder.join("requirements.txt");
    if fs::read_to_string(&made_of).is_ok_and(|made_of| made_of == wanted) {
        return Some(python);
    }
    let make = || {
        runs(
            Command::new("python3")
                .args(["-m", "venv", "--clear"])
                .arg(&folder),
        )
    };
    let is_made = make() || (install_clients() && make());
    if !is_made {
        eprintln!("skipped: there is no python3 that can make a virtual environment");
        return None;
    }
    let mut install = Command::new(&python);
    install.args(["-m", "pip", "install", "--quiet", "-r"]);
    if !runs(install.arg(&requirements)) {
        eprintln!("skipped: {} cannot be had from PyPI", wanted.trim());
        return None;
    }
    fs::write(made_of, wanted).expect("the folder is ours");
    Some(python)
}

fn make_node_script() -> Option<PathBuf> {
    let package = fs::read_to_string(worker("package.json")).expect("part of the project");
    let folder = state_folder().join("node");
    fs::create_dir_all(&folder).expect("the state folder is ours");
    let here = |name: &str| folder.join(name);
    fs::copy(worker("price.mjs"), here("price.mjs")).expect("the folder is ours");
    let is_here = fs::read_to_string(here("package.json")).is_ok_and(|here| here == package);
    if is_here && here("node_modules/amqplib").exists() {
        return Some(here("price.mjs"));
    }
    let has_node = || {
        let has = |program: &str| runs(Command::new(program).arg("--version"));
        has("node") && has("npm")
    };
    let is_there = has_node() || (install_clients() && has_node());
    if !is_there {
        eprintln!("skipped: there is no node with npm");
        return None;
    }
    fs::write(here("package.json"), package).expect("the folder is ours");
    let mut install = Command::new("npm");
    install.args(["install", "--no-audit", "--no-fund", "--no-package-lock"]);
    if !runs(install.current_dir(&folder)) {
        eprintln!("skipped: amqplib cannot be had from the registry of npm");
        return None;
    }
    Some(here("price.mjs"))
}

/// Installs the packages of the system that are missing.
fn install_clients() -> bool {
    let mut script = Command::new(root().join("deploy/servers.sh"));
    script.arg("install-clients");
    runs(script.env("FLOTILLA_HOME", state_folder()))
}

fn state_folder() -> PathBuf {
    std::env::var_os("FLOTILLA_HOME")
        .map_or_else(|| root().join(".flotilla"), |home| root().join(home))
}

fn runs(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

/// Whether a `python3` is there for scripts of workflows; where not, a word about it.
#[must_use]
pub fn has_python3() -> bool {
    let is_there = runs(Command::new("python3").args(["-c", "import sqlite3, zlib"]));
    if !is_there {
        eprintln!("skipped: there is no python3 for the scripts of the packs");
    }
    is_there
}
