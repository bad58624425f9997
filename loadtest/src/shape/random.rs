//! Graphs without cycles, made of a seed. Each task but the first follows one to three of those before
//! it, and waits for all of them; so each runs once, and what an execution does is known before.

use super::source::{Task, Text, version};
use super::{Sizes, Workflow};

/// At most so many tasks lead to one.
const MOST_BEFORE: u64 = 3;

/// One of the graphs of a seed, by its number.
pub fn graph(number: u64, sizes: &Sizes) -> Workflow {
    let length = sizes.length as usize;
    let mut random = Random(sizes.seed.wrapping_mul(1_000_003).wrapping_add(number));
    let mut next: Vec<Vec<String>> = vec![Vec::new(); length];
    let mut joins = vec![false; length];
    for (task, joins) in joins.iter_mut().enumerate().skip(1) {
        let before = random.some_below(task as u64);
        *joins = before.len() > 1;
        for one in before {
            next[one].push(name(task));
        }
    }
    let version = format!("{}+{}", version(sizes, sizes.length), sizes.seed);
    let mut text = Text::begin(&format!("random_{number}"), version, sizes);
    for (task, (next, joins)) in next.iter().zip(joins).enumerate() {
        text.task(&Task {
            name: &name(task),
            number: u32::try_from(task + 1).unwrap_or(u32::MAX),
            next,
            joins,
        });
    }
    text.end(sizes.length, sizes.length)
}

fn name(task: usize) -> String {
    format!("task_{}", task + 1)
}

/// Numbers from a seed (`SplitMix64`).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One to three different numbers below `bound`, ascending.
    fn some_below(&mut self, bound: u64) -> Vec<usize> {
        let count = 1 + self.next() % MOST_BEFORE;
        let mut some: Vec<usize> = (0..count)
            .map(|_| usize::try_from(self.next() % bound).unwrap_or(0))
            .collect();
        some.sort_unstable();
        some.dedup();
        some
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(seed: u64, number: u64) -> String {
        let sizes = Sizes {
            length: 12,
            seed,
            ..Sizes::small()
        };
        graph(number, &sizes).source
    }

    #[test]
    fn a_seed_gives_the_same_graphs_and_another_one_others() {
        assert_eq!(source(1, 0), source(1, 0));
        let edges = |text: &str| {
            let lines = text.lines().filter(|line| line.contains("on_success"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_ne!(edges(&source(1, 0)), edges(&source(2, 0)));
        assert_ne!(edges(&source(1, 0)), edges(&source(1, 1)));
    }

    #[test]
    fn graphs_branch_and_join() {
        let text = source(3, 0);
        assert!(
            text.contains("join: all") && text.contains("on_success: ["),
            "{text}"
        );
    }
}
