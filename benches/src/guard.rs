//! Counts the instructions of each case under valgrind and compares them with the baseline.
//!
//! Time is not looked at: on a machine that others use it says little. Instructions differ from run to
//! run by one or two in a hundred, since the seeds of hash tables do, and with them where free memory
//! lies. Only what happens in [`crate::meter`] counts, and of it not the checks of debug builds, which
//! no user ever runs. So the debug build that the tests make anyhow will do: the engine and the turn are
//! optimised in it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::baseline::{Baseline, LIMIT, compare as judge};
use crate::cases::{CASES, Case};

/// Where counting begins and ends: at the meter, and there again around what debug builds check.
const TOGGLES: [&str; 2] = ["*meter::measured*", "*Execution>::check"];

/// Counts, and compares with the baseline in a file; false if a case needs more than it allows.
pub fn compare(path: &Path) -> Result<bool, String> {
    if !has_valgrind() {
        println!("guard: valgrind is not installed: instructions are not counted");
        return Ok(true);
    }
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let baseline = Baseline::read(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let judged = judge(&baseline, &count_all()?);
    print!("{}", judged.table);
    if judged.is_within {
        return Ok(true);
    }
    let here = Baseline::compiler();
    if here != baseline.compiler {
        println!(
            "guard: the baseline is of {}, this is {here}: the difference may be the compiler's and does \
             not count. `make guard-renew` writes a new one",
            baseline.compiler
        );
        return Ok(true);
    }
    println!(
        "guard: more than {LIMIT} times the instructions of {}. Where that is meant, `make guard-renew` \
         writes a new baseline: commit it with the change that needs it",
        path.display()
    );
    Ok(false)
}

/// Counts, and writes the baseline.
pub fn renew(path: &Path) -> Result<bool, String> {
    if !has_valgrind() {
        return Err("valgrind is not installed".to_owned());
    }
    let baseline = Baseline {
        compiler: Baseline::compiler(),
        instructions: count_all()?,
    };
    fs::write(path, baseline.text()).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(true)
}

fn has_valgrind() -> bool {
    let mut valgrind = Command::new("valgrind");
    valgrind.arg("--version").stdout(Stdio::null());
    valgrind.status().is_ok_and(|status| status.success())
}

/// Instructions a unit, by case.
fn count_all() -> Result<BTreeMap<String, u64>, String> {
    let guarded = CASES.iter().filter(|case| case.is_guarded);
    guarded
        .map(|case| Ok((case.name.to_owned(), count(case)?)))
        .collect()
}

fn count(case: &Case) -> Result<u64, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let file = std::env::temp_dir().join(format!(
        "flotilla-bench-{}-{}",
        std::process::id(),
        case.name
    ));
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--collect-atstart=no"]);
    valgrind.arg(format!("--callgrind-out-file={}", file.display()));
    valgrind.args(TOGGLES.map(|toggle| format!("--toggle-collect={toggle}")));
    let output = valgrind.arg(program).args(["run", case.name]).output();
    let counted = fs::read_to_string(&file);
    // It is a temporary file.
    let _ = fs::remove_file(&file);
    let output = output.map_err(|error| format!("valgrind: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let units: u64 = said.trim().parse().map_err(|_| {
        let errors = String::from_utf8_lossy(&output.stderr);
        format!("{} does not run under valgrind: {errors}", case.name)
    })?;
    let counted = counted.map_err(|error| format!("{}: {error}", file.display()))?;
    let total = total(&counted).ok_or("valgrind has counted nothing")?;
    Ok(total / units.max(1))
}

/// The sum in a file of callgrind; nothing where it is zero.
fn total(file: &str) -> Option<u64> {
    let line = file.lines().find_map(|line| line.strip_prefix("totals: "));
    line?.trim().parse().ok().filter(|total| *total > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_a_file_is_found() {
        assert_eq!(
            total("version: 1\nfn=(1) a\n1 2\ntotals: 12345\n"),
            Some(12_345)
        );
        assert_eq!(total("totals: 0\n"), None);
        assert_eq!(total("nothing"), None);
    }
}
