//! When executions start: in a closed loop as soon as another has ended, in an open one at fixed
//! times, whatever has become of those before. Only the second sees how long users wait when a
//! system falls behind.

use std::time::{Duration, Instant};

use super::starts::Starts;

/// How late a timer may be: it counts in whole milliseconds, and rounds up.
const TIMER_IS_LATE: Duration = Duration::from_millis(2);
/// Starts a second up to which the load is awake before each.
const SPARSE: f64 = 50.0;

/// When executions start.
#[derive(Debug, Clone, Copy)]
pub enum Pace {
    /// So many are under way at a time.
    Closed {
        /// How many.
        in_flight: usize,
    },
    /// At a rate.
    Open {
        /// Executions a second.
        rate: f64,
        /// When the first starts.
        from: Instant,
        /// The number of that one: others may have been started before at another pace.
        first: usize,
    },
}

impl Pace {
    /// How many have to be started now.
    pub fn due(&self, now: Instant, starts: &Starts) -> usize {
        match *self {
            Self::Closed { in_flight } => in_flight.saturating_sub(starts.under_way()),
            Self::Open { rate, from, first } => {
                let passed = now.saturating_duration_since(from).as_secs_f64();
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "not negative, and far below 2^53"
                )]
                let due = (passed * rate).floor() as usize + usize::from(now >= from);
                (first + due).saturating_sub(starts.len())
            }
        }
    }

    /// When the start of this number is due, if that is a matter of time.
    pub fn scheduled(&self, number: usize) -> Option<Instant> {
        match *self {
            Self::Closed { .. } => None,
            #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
            Self::Open { rate, from, first } => {
                let number = number.saturating_sub(first) as f64;
                Some(from + Duration::from_secs_f64(number / rate))
            }
        }
    }

    /// How long before a start the load is to wait awake. A start counts from the time at which it is
    /// due, so a late timer would count as latency, and be a good part of that of an idle system. Where
    /// starts are many that would keep a core busy, and they are late by little beside their latency.
    pub fn awake_before(&self) -> Duration {
        match *self {
            Self::Open { rate, .. } if rate <= SPARSE => TIMER_IS_LATE,
            Self::Open { .. } | Self::Closed { .. } => Duration::ZERO,
        }
    }

    /// Whether starts do not wait for ends.
    pub fn is_open(&self) -> bool {
        match self {
            Self::Closed { .. } => false,
            Self::Open { .. } => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(count: usize, ended: usize) -> Starts {
        let mut starts = Starts::default();
        (0..count).for_each(|_| starts.add(Instant::now(), 0));
        (0..ended).for_each(|number| assert!(starts.end(number, Instant::now()).is_some()));
        starts
    }

    #[test]
    fn only_sparse_starts_are_waited_for_awake() {
        let from = Instant::now();
        let open = |rate| Pace::Open {
            rate,
            from,
            first: 0,
        };
        assert_eq!(open(20.0).awake_before(), TIMER_IS_LATE);
        assert_eq!(open(1000.0).awake_before(), Duration::ZERO);
        assert_eq!(Pace::Closed { in_flight: 1 }.awake_before(), Duration::ZERO);
    }

    #[test]
    fn a_closed_loop_starts_what_has_ended() {
        let pace = Pace::Closed { in_flight: 3 };
        let now = Instant::now();
        assert_eq!(pace.due(now, &started(0, 0)), 3);
        assert_eq!(pace.due(now, &started(5, 2)), 0);
        assert_eq!(pace.due(now, &started(5, 4)), 2);
        assert_eq!(pace.scheduled(7), None);
    }

    #[test]
    fn an_open_loop_starts_at_its_times_whatever_has_ended() {
        let from = Instant::now();
        let pace = Pace::Open {
            rate: 10.0,
            from,
            first: 0,
        };
        let at = |ms| from + Duration::from_millis(ms);
        assert_eq!(pace.due(from, &started(0, 0)), 1);
        assert_eq!(pace.due(at(99), &started(1, 0)), 0);
        assert_eq!(pace.due(at(101), &started(1, 0)), 1);
        // It fell behind for a second: all that was due then is due now, with its own times.
        assert_eq!(pace.due(at(1101), &started(2, 0)), 10);
        assert_eq!(pace.scheduled(2), Some(at(200)));
    }

    #[test]
    fn a_pace_that_begins_later_counts_from_there() {
        let from = Instant::now();
        let pace = Pace::Open {
            rate: 10.0,
            from,
            first: 5,
        };
        let later = from + Duration::from_millis(201);
        assert_eq!(pace.due(later, &started(6, 0)), 2);
        assert_eq!(pace.scheduled(7), Some(from + Duration::from_millis(200)));
    }

    #[test]
    fn nothing_is_due_before_the_first_time() {
        let from = Instant::now() + Duration::from_secs(1);
        let pace = Pace::Open {
            rate: 10.0,
            from,
            first: 0,
        };
        assert_eq!(pace.due(Instant::now(), &started(0, 0)), 0);
    }
}
