//! What the measurement is made of: the latencies of its window, and of each second those that ended
//! in it.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// What is counted.
#[derive(Debug)]
pub struct Samples {
    /// Latencies of the executions that count, in microseconds.
    pub latencies: Histogram<u64>,
    /// Executions that ended within the window.
    pub executions: u64,
    /// Tasks of those.
    pub tasks: u64,
    from: Option<Instant>,
    until: Option<Instant>,
    second: Second,
}

/// What ended within a second.
#[derive(Debug)]
pub struct Second {
    /// Executions.
    pub executions: u64,
    /// Tasks of those.
    pub tasks: u64,
    /// Their latencies, in microseconds.
    pub latencies: Histogram<u64>,
}

impl Default for Samples {
    fn default() -> Self {
        Self {
            latencies: histogram(3),
            executions: 0,
            tasks: 0,
            from: None,
            until: None,
            second: Second::default(),
        }
    }
}

impl Default for Second {
    fn default() -> Self {
        Self {
            executions: 0,
            tasks: 0,
            latencies: histogram(2),
        }
    }
}

impl Samples {
    /// The window begins.
    pub fn begin(&mut self, now: Instant) {
        self.from = Some(now);
    }

    /// The window is over. What counts by the time of its start may still end.
    pub fn end(&mut self, now: Instant) {
        self.until = Some(now);
    }

    /// An execution has ended at `now`; its latency counts if `counted_at` is within the window.
    pub fn add(&mut self, now: Instant, counted_at: Instant, latency: Duration, tasks: u32) {
        let latency = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        // Histograms grow with their values, so that no value is too large.
        let _ = self.second.latencies.record(latency);
        self.second.executions += 1;
        self.second.tasks += u64::from(tasks);
        if self.is_within(now) {
            self.executions += 1;
            self.tasks += u64::from(tasks);
        }
        if self.is_within(counted_at) {
            let _ = self.latencies.record(latency);
        }
    }

    /// What ended since this was last asked.
    pub fn take_second(&mut self) -> Second {
        std::mem::take(&mut self.second)
    }

    /// Whether this moment is within the window.
    pub fn is_within(&self, at: Instant) -> bool {
        self.from.is_some_and(|from| from <= at) && self.until.is_none_or(|until| at < until)
    }
}

fn histogram(digits: u8) -> Histogram<u64> {
    Histogram::new(digits).expect("up to five digits are a valid precision")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_counts_ends_by_their_time_and_latencies_by_what_is_asked() {
        let mut samples = Samples::default();
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        let second = Duration::from_secs(1);
        samples.add(at(0), at(0), second, 1);
        samples.begin(at(10));
        samples.add(at(20), at(20), second, 3);
        // Started within the window, and ended after it.
        samples.end(at(30));
        samples.add(at(40), at(25), 2 * second, 5);
        assert_eq!((samples.executions, samples.tasks), (1, 3));
        assert_eq!(samples.latencies.len(), 2);
        assert!(samples.latencies.max() >= 2_000_000);
        let second = samples.take_second();
        assert_eq!((second.executions, second.tasks), (3, 9));
        assert_eq!(samples.take_second().executions, 0);
    }
}
