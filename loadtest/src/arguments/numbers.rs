//! Numbers with bounds, as texts of the command line.

/// The highest rate that is not refused as a mistake.
const HIGHEST_RATE: f64 = 1e6;
/// Above this, most attempts would be retries.
const HIGHEST_SHARE: f64 = 0.5;

/// Executions a second.
pub fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if rate > 0.0 && rate <= HIGHEST_RATE {
        return Ok(rate);
    }
    Err(format!(
        "a rate is above 0 and at most {HIGHEST_RATE} executions a second"
    ))
}

/// A share of attempts.
pub fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..=HIGHEST_SHARE).contains(&share) {
        return Ok(share);
    }
    Err(format!("a share of failures is from 0 to {HIGHEST_SHARE}"))
}

/// A number above 0: milliseconds, percent.
pub fn positive(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if number > 0.0 && number.is_finite() {
        return Ok(number);
    }
    Err("it is a number above 0".to_owned())
}
