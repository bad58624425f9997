//! What the engine and a turn cost, without any server: in instructions, which are the same on every
//! run and are guarded, and in time, which is what people ask for.
//!
//! ```text
//! cases ──► definition, engine, turn ──► meter ──► rates: units a second
//!                                          └─────► guard: valgrind counts, against a baseline
//! ```

mod baseline;
mod cases;
mod definition;
mod engine;
mod guard;
mod meter;
mod rates;
mod turn;

use std::path::Path;
use std::process::ExitCode;

use cases::{CASES, Case};

const USAGE: &str = "\
usage: flotilla-bench list                        names all cases
       flotilla-bench run CASE [SCALE]            runs one, so that a profiler can look at it
       flotilla-bench rates [SECONDS [CASE...]]   units a second of each case on one core, as JSON
       flotilla-bench guard BASELINE              counts instructions, and fails above the baseline
       flotilla-bench renew BASELINE              counts instructions, and writes the baseline";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = match *words {
        ["list"] => {
            CASES.iter().for_each(|case| println!("{}", case.name));
            Ok(true)
        }
        ["run", name] => run(name, "1"),
        ["run", name, scale] => run(name, scale),
        ["rates"] => rates::print("1", &[]),
        ["rates", seconds, ref names @ ..] => rates::print(seconds, names),
        ["guard", path] => guard::compare(Path::new(path)),
        ["renew", path] => guard::renew(Path::new(path)),
        _ => Err(USAGE.to_owned()),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(what) => {
            eprintln!("{what}");
            ExitCode::from(2)
        }
    }
}

fn run(name: &str, scale: &str) -> Result<bool, String> {
    let case = Case::named(name).ok_or_else(|| format!("no case is called {name}"))?;
    let scale: u64 = scale.parse().map_err(|_| "SCALE is a number from 1")?;
    println!("{}", case.run(scale.max(1)).units);
    Ok(true)
}
