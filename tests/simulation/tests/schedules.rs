//! Schedules, as many as the time allows: `SIM_SECONDS` (20), beginning with a seed that is always the
//! same; `SIM_SEED` runs one alone.

use std::time::{Duration, Instant};

use flotilla_simulation::{Coverage, run_seed, shrink};

#[test]
fn no_schedule_breaks_a_rule() {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let only = number("SIM_SEED");
    let seconds = Duration::from_secs(number("SIM_SECONDS").unwrap_or(20));
    let begun = Instant::now();
    let mut coverage = Coverage::default();
    let mut seed = only.unwrap_or(0);
    while begun.elapsed() < seconds {
        let outcome = run_seed(seed, None);
        coverage.add(&outcome.coverage);
        if let Some(failure) = outcome.failure {
            panic!("{}", shrink(&failure, None).show());
        }
        if only.is_some() {
            return;
        }
        seed += 1;
    }
    println!("seeds 0 to {seed}: {}", coverage.show());
    // What is rare needs some thousand schedules.
    if seed >= 20_000 {
        assert_eq!(coverage.missing(), [""; 0], "these never happened");
    }
}
