//! Units a second of each case, on one core.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cases::{CASES, Case};

/// Runs each case for so many seconds, and prints what it did as one document: the rate of all of
/// it, and of its fastest run, which is the one that others on the machine disturbed least.
pub fn print(seconds: &str, names: &[&str]) -> Result<bool, String> {
    let seconds: f64 = seconds.parse().map_err(|_| "SECONDS is a number")?;
    let limit = Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
    if let Some(unknown) = names.iter().find(|name| Case::named(name).is_none()) {
        return Err(format!("no case is called {unknown}"));
    }
    let wanted = |case: &&Case| names.is_empty() || names.contains(&case.name);
    let rates: serde_json::Map<String, Value> = CASES
        .iter()
        .filter(wanted)
        .map(|case| (case.name.to_owned(), rate(case, limit)))
        .collect();
    println!("{}", Value::Object(rates));
    Ok(true)
}

fn rate(case: &Case, limit: Duration) -> Value {
    // The first run brings code and memory into place.
    case.run(1);
    let until = Instant::now() + limit;
    let (mut units, mut spent, mut fastest) = (0, Duration::ZERO, 0.0_f64);
    loop {
        let meter = case.run(1);
        units += meter.units;
        spent += meter.spent;
        fastest = fastest.max(per_second(meter.units, meter.spent));
        if Instant::now() >= until {
            break;
        }
    }
    json!({
        "unit": case.unit,
        "units": units,
        "units_per_s": per_second(units, spent),
        "fastest_run_units_per_s": fastest,
    })
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn per_second(units: u64, spent: Duration) -> f64 {
    units as f64 / spent.as_secs_f64().max(1e-9)
}
