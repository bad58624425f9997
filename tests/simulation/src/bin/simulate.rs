//! Runs schedules for some time and says what happened; a schedule that fails is shrunk and printed.
//!
//! `SIM_SECONDS` (20), `SIM_SEED` (one seed alone), `SIM_FIRST_SEED` (0).

use std::time::{Duration, Instant};

use flotilla_simulation::{Coverage, run_seed, shrink};

fn main() -> std::process::ExitCode {
    if let Some(seed) = number("SIM_SEED") {
        return run_one(seed);
    }
    let seconds = number("SIM_SECONDS").unwrap_or(20);
    let first = number("SIM_FIRST_SEED").unwrap_or(0);
    println!("first seed {first}, {seconds} s");
    let begun = Instant::now();
    let mut coverage = Coverage::default();
    let mut schedules = 0;
    while begun.elapsed() < Duration::from_secs(seconds) {
        for _ in 0..100 {
            let outcome = run_seed(first + schedules, None);
            schedules += 1;
            coverage.add(&outcome.coverage);
            if let Some(failure) = outcome.failure {
                println!("{}", shrink(&failure, None).show());
                return std::process::ExitCode::FAILURE;
            }
        }
    }
    let rate = schedules as f64 / begun.elapsed().as_secs_f64();
    println!(
        "{schedules} schedules, {} steps, {rate:.0} schedules/s",
        coverage.steps
    );
    println!("{}", coverage.show());
    let missing = coverage.missing();
    if missing.is_empty() {
        return std::process::ExitCode::SUCCESS;
    }
    println!("never happened: {}", missing.join(", "));
    std::process::ExitCode::FAILURE
}

fn run_one(seed: u64) -> std::process::ExitCode {
    match run_seed(seed, None).failure {
        Some(failure) => {
            println!("{}", shrink(&failure, None).show());
            std::process::ExitCode::FAILURE
        }
        None => {
            println!("seed {seed} is fine");
            std::process::ExitCode::SUCCESS
        }
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
