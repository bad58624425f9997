//! `conformance DIR [--json] [--print]`: plays the cases of a folder. Exits with 1 if one fails, and with
//! 2 if nothing could be played.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (flags, paths): (Vec<_>, Vec<_>) = arguments.iter().partition(|one| one.starts_with("--"));
    let [path] = paths.as_slice() else {
        return usage();
    };
    if flags
        .iter()
        .any(|flag| !["--json", "--print"].contains(&flag.as_str()))
    {
        return usage();
    }
    let has = |flag: &str| flags.iter().any(|one| *one == flag);
    match conformance::run(Path::new(path)) {
        Ok(report) => {
            let text = if has("--json") {
                report.json(has("--print"))
            } else {
                report.text(has("--print"))
            };
            println!("{text}");
            ExitCode::from(u8::from(report.fail > 0))
        }
        Err(error) => {
            eprintln!("{path}: {error}");
            ExitCode::from(2)
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("conformance DIR [--json] [--print]");
    ExitCode::from(2)
}
