//! Each planted bug is found, and the same seeds are fine without it. One that is not found is a hole
//! in the simulation. `SIM_MUTANT` runs one of them and prints its shrunk schedule.

use flotilla_simulation::{Planted, run_seed, shrink};

/// Schedules within which a bug must be found.
const ENOUGH: u64 = 100_000;

#[test]
fn every_mutant_is_found() {
    let only = std::env::var("SIM_MUTANT").ok();
    let mut missed = Vec::new();
    for planted in Planted::all() {
        let name = planted.name();
        if only.as_ref().is_some_and(|only| *only != name) {
            continue;
        }
        let failing = (0..ENOUGH).find_map(|seed| run_seed(seed, Some(planted)).failure);
        match failing {
            Some(failure) => {
                let first = failure.message.lines().next().unwrap_or_default();
                println!(
                    "{name}: seed {} after {} schedules: {first}",
                    failure.seed,
                    failure.seed + 1
                );
                if only.is_some() {
                    println!("{}", shrink(&failure, Some(planted)).show());
                }
                let sound = run_seed(failure.seed, None).failure;
                assert_eq!(
                    sound, None,
                    "without {name} seed {} fails too",
                    failure.seed
                );
            }
            None => missed.push(name),
        }
    }
    assert_eq!(missed, [""; 0], "not found within {ENOUGH} schedules");
}
