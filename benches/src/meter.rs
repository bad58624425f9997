//! Measures parts of a program: their time here, their instructions under valgrind, which counts
//! while [`measured`] runs and not otherwise.

use std::time::{Duration, Instant};

/// What was measured of a case.
#[derive(Debug, Default)]
pub struct Meter {
    /// The time of the parts that were measured.
    pub spent: Duration,
    /// How many units of work were done in them.
    pub units: u64,
}

impl Meter {
    /// Does a part that does `units` of work. Parts do not nest.
    pub fn measure<T>(&mut self, units: u64, part: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let result = measured(part);
        self.spent += began.elapsed();
        self.units += units;
        result
    }
}

/// The function at which valgrind begins and ends to count; its name is the contract.
#[inline(never)]
fn measured<T>(part: impl FnOnce() -> T) -> T {
    std::hint::black_box(part())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up() {
        let mut meter = Meter::default();
        assert_eq!(meter.measure(2, || 7), 7);
        meter.measure(3, || ());
        assert_eq!(meter.units, 5);
        assert!(meter.spent > Duration::ZERO);
    }
}
