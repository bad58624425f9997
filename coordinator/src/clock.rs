//! The database's clock, as well as this process knows it between two answers.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};

/// An answer that was longer under way says too little about the time now.
const FRESH: Duration = Duration::from_secs(1);

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

    /// Takes in what the database said in answer to something that was sent at `sent`.
    ///
    /// A process that stood still finds an old answer waiting. Believed, it would set the clock back,
    /// and until that has caught up the time would stand still for whoever may not see it run
    /// backwards.
    pub fn learn(&mut self, said: DateTime<Utc>, sent: Instant) {
        if said > self.now() || sent.elapsed() < FRESH {
            *self = Self::new(said);
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

    #[test]
    fn an_old_answer_does_not_set_the_clock_back() {
        let said = DateTime::from_timestamp(1_700_000_000, 0).expect("a valid time");
        let Some(long_ago) = Instant::now().checked_sub(Duration::from_secs(60)) else {
            return; // The machine has only just started.
        };
        let mut clock = DatabaseClock::new(said);
        clock.learn(said - TimeDelta::seconds(50), long_ago);
        assert!(clock.now() >= said, "it was under way for a minute");
        clock.learn(said - TimeDelta::seconds(50), Instant::now());
        assert!(
            clock.now() < said,
            "it is fresh: the database's clock was set back"
        );
        clock.learn(said + TimeDelta::seconds(50), long_ago);
        assert!(
            clock.now() > said,
            "however old it is, it is later than we knew"
        );
    }
}
