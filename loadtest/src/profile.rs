//! Where the processes spend their time: perf looks at all of them while the load is measured; where
//! it may not, our own services run under callgrind from the beginning.
//!
//! ```text
//! perf record ─► perf report ─► FILE.PROCESS.txt       the hottest functions
//!            └─► perf script ─► FILE.PROCESS.folded    stacks, as flame graphs are made of
//! callgrind ───► callgrind_annotate ─► FILE.PROCESS.txt
//! ```

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use crate::failure::Failure;
use crate::measure::Measured;

/// Samples a second of each core.
const FREQUENCY: &str = "499";
/// Lines of a report that are kept.
const LINES: usize = 80;

/// How it is looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// From outside, at all processes.
    Perf,
    /// At our own services, which are slow then.
    Callgrind,
}

/// What is under way.
#[derive(Debug)]
pub struct Profiler {
    recordings: BTreeMap<&'static str, (Child, PathBuf)>,
}

/// Which tool works here.
pub async fn tool() -> Result<Tool, Failure> {
    let perf = ["record", "-q", "-F", FREQUENCY, "-o", "-", "--", "true"];
    if runs("perf", &perf).await {
        return Ok(Tool::Perf);
    }
    if runs("valgrind", &["--version"]).await {
        return Ok(Tool::Callgrind);
    }
    Err(Failure::NoProfiler)
}

async fn runs(program: &str, words: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().await.is_ok_and(|status| status.success())
}

impl Profiler {
    /// Begins to look at all processes that can be seen.
    pub fn begin(measured: &Measured, folder: &Path) -> Result<Self, Failure> {
        let mut recordings = BTreeMap::new();
        for (name, pids) in measured.pids() {
            let data = folder.join(format!("{name}.perf"));
            let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
            let mut perf = Command::new("perf");
            perf.args(["record", "-q", "-g", "-F", FREQUENCY, "-o"]);
            perf.arg(&data).args(["-p", &pids.join(",")]);
            perf.stdin(Stdio::null()).stdout(Stdio::null());
            perf.stderr(Stdio::null()).kill_on_drop(true);
            let child = perf.spawn().map_err(|source| Failure::File {
                path: PathBuf::from("perf"),
                source,
            })?;
            recordings.insert(name, (child, data));
        }
        Ok(Self { recordings })
    }

    /// Stops looking; what was seen is in files.
    pub async fn end(self) -> BTreeMap<&'static str, PathBuf> {
        let mut files = BTreeMap::new();
        for (name, (mut child, data)) in self.recordings {
            if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
                // It may have ended by itself, which the wait tells.
                let _ = kill(Pid::from_raw(pid), Signal::SIGINT);
            }
            // A recording that failed has no data, and is left out.
            if child.wait().await.is_ok() && data.exists() {
                files.insert(name, data);
            }
        }
        files
    }
}

/// Writes what perf has recorded beside `json`.
pub async fn write_recorded(
    files: &BTreeMap<&'static str, PathBuf>,
    json: &Path,
) -> Result<(), Failure> {
    for (name, data) in files {
        let report = ["report", "--stdio", "--no-children", "-g", "none", "-i"];
        let report = output("perf", &report, data).await?;
        let script = ["script", "-F", "comm,ip,sym", "-i"];
        let script = output("perf", &script, data).await?;
        write(&beside(json, name, "txt"), &hottest(&report))?;
        write(&beside(json, name, "folded"), &folded(&script))?;
    }
    Ok(())
}

/// Writes what callgrind has counted of services that left their files in `folder`.
pub async fn write_counted(folder: &Path, json: &Path) -> Result<(), Failure> {
    let entries = std::fs::read_dir(folder).map_err(|source| Failure::File {
        path: folder.to_owned(),
        source,
    })?;
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        if path
            .extension()
            .is_some_and(|extension| extension == "callgrind")
        {
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            let report = output("callgrind_annotate", &["--auto=no"], &path).await?;
            write(&beside(json, &name, "txt"), &hottest(&report))?;
        }
    }
    Ok(())
}

async fn output(program: &str, words: &[&str], file: &Path) -> Result<String, Failure> {
    let mut command = Command::new(program);
    command.args(words).arg(file).stdin(Stdio::null());
    let output = command.output().await.map_err(|source| Failure::File {
        path: PathBuf::from(program),
        source,
    })?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn beside(json: &Path, process: &str, extension: &str) -> PathBuf {
    let stem = json.file_stem().unwrap_or_default().to_string_lossy();
    json.with_file_name(format!("{stem}.{process}.{extension}"))
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|source| Failure::File {
        path: path.to_owned(),
        source,
    })
}

/// The lines of a report that say something, the hottest first, as the tool gives them.
fn hottest(report: &str) -> String {
    let lines = report.lines().map(str::trim_end);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with(['#', '-']));
    let mut text = lines.take(LINES).collect::<Vec<_>>().join("\n");
    text.push('\n');
    text
}

/// Stacks of samples, outermost first, with how often each was seen; the most frequent first.
fn folded(script: &str) -> String {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for sample in script.split("\n\n") {
        let mut lines = sample.lines().filter(|line| !line.trim().is_empty());
        let Some(process) = lines.next() else {
            continue;
        };
        // An address, then the function.
        let frame = |line: &str| {
            let name = line.trim().split_once(' ').map_or("?", |(_, name)| name);
            name.replace(';', ":")
        };
        let mut stack: Vec<String> = lines.map(frame).collect();
        stack.push(process.trim().replace(';', ":"));
        stack.reverse();
        *counts.entry(stack.join(";")).or_default() += 1;
    }
    let mut counts: Vec<(String, u64)> = counts.into_iter().collect();
    counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let mut text = String::new();
    for (stack, count) in counts {
        // Writing into a text cannot fail.
        let _ = writeln!(text, "{stack} {count}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_become_stacks_with_counts() {
        let script = "flotilla \n\t  1f inner::<A>\n\t  2f outer\n\nflotilla \n\t  1f inner::<A>\n\t  2f outer\n\n\
                      flotilla \n\t  2f outer\n\n";
        assert_eq!(
            folded(script),
            "flotilla;outer;inner::<A> 2\nflotilla;outer 1\n"
        );
        assert_eq!(folded(""), "");
    }

    #[test]
    fn files_lie_beside_the_result() {
        let path = beside(Path::new("a/b.json"), "worker", "txt");
        assert_eq!(path, Path::new("a/b.worker.txt"));
    }

    #[test]
    fn a_report_is_cut_to_what_says_something() {
        let report = "# head\n\n  50.0%  a\n  10.0%  b   \n";
        assert_eq!(hottest(report), "  50.0%  a\n  10.0%  b\n");
    }
}
