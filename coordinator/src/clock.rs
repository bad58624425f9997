//! The database's clock, as well as this process knows it between two answers.

use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};

/// The database's time at an instant of ours. Only one clock decides about leases and timers; what
/// the clock of this machine says does not matter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DatabaseClock {
    at: DateTime<Utc>,
    read: Instant,
}

impl DatabaseClock {
    pub fn new(at: DateTime<Utc>) -> Self {
        Self {
            at,
            read: Instant::now(),
        }
    }

    /// The time now, to the microsecond, which is what Postgres keeps.
    pub fn now(&self) -> DateTime<Utc> {
        let passed = i64::try_from(self.read.elapsed().as_micros()).unwrap_or(i64::MAX);
        let micros = self.at.timestamp_micros().saturating_add(passed);
        DateTime::from_timestamp_micros(micros).unwrap_or(self.at)
    }

    /// How long from now until `due`; nothing if it has passed.
    pub fn until(&self, due: DateTime<Utc>) -> std::time::Duration {
        (due - self.now())
            .max(TimeDelta::zero())
            .to_std()
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_from_what_the_database_said() {
        let said = DateTime::from_timestamp(1_700_000_000, 123_456_000).expect("a valid time");
        let clock = DatabaseClock::new(said);
        assert!(clock.now() >= said);
        assert!(clock.now() < said + TimeDelta::seconds(60));
        assert_eq!(clock.until(said), std::time::Duration::ZERO);
    }
}
