//! How quick the machine is while a run is measured: the CPU time of a piece of work that is always
//! the same. A virtual machine's cores are shared with others, and differ from hour to hour by more
//! than most changes of a program; two results say something of the program only where this agrees.

use std::hint::black_box;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

/// From one piece to the next: less than a thousandth of a core goes to them.
const EVERY: Duration = Duration::from_secs(1);
/// Objects of the text that a piece of work reads and writes.
const OBJECTS: usize = 64;
/// How often a piece does so: about half a millisecond in all (optimised), much more than the clock
/// needs to be read.
const ROUNDS: usize = 8;

/// Measures on a thread of its own, so that nobody waits for it. Dropped, it ends by itself.
pub struct Yardstick {
    stop: Sender<()>,
    thread: JoinHandle<Option<f64>>,
}

impl Yardstick {
    /// Begins with a first piece, so that the shortest run has one.
    pub fn begin() -> Self {
        let (stop, stopped) = channel();
        let thread = thread::spawn(move || measure(&stopped));
        Self { stop, thread }
    }

    /// The mean CPU time of a piece, in milliseconds; none if the clock cannot be read. Waits for the
    /// piece that is under way, if one is.
    pub fn end(self) -> Option<f64> {
        drop(self.stop);
        self.thread.join().ok().flatten()
    }
}

fn measure(stopped: &Receiver<()>) -> Option<f64> {
    let text = text();
    let (mut sum, mut pieces) = (Duration::ZERO, 0_u32);
    loop {
        // What the first round finds in no cache is another's doing.
        work(&text, 1);
        let before = thread_time()?;
        work(&text, ROUNDS);
        sum += thread_time()?.saturating_sub(before);
        pieces += 1;
        if stopped.recv_timeout(EVERY) != Err(RecvTimeoutError::Timeout) {
            return Some(sum.as_secs_f64() * 1000.0 / f64::from(pieces));
        }
    }
}

/// What most of the CPU goes to in the processes that are measured: reading, allocating, writing.
fn work(text: &str, rounds: usize) {
    for _ in 0..rounds {
        let value: Value = serde_json::from_str(black_box(text)).expect("a text of ours is JSON");
        black_box(value.to_string());
    }
}

fn text() -> String {
    let object =
        |number: usize| json!({"number": number, "name": "a name", "list": [1.5, true, null]});
    Value::from_iter((0..OBJECTS).map(object)).to_string()
}

fn thread_time() -> Option<Duration> {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .ok()
        .map(Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_run_has_a_piece() {
        assert!(Yardstick::begin().end().unwrap() > 0.0);
    }

    #[test]
    fn a_piece_reads_and_writes_all_of_its_text() {
        let value: Value = serde_json::from_str(&text()).unwrap();
        assert_eq!(value.as_array().unwrap().len(), OBJECTS);
        assert_eq!(value.to_string(), text());
    }
}
