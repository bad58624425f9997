//! Whatever a file holds, it is accepted or refused: it never panics, and what is found lies
//! within the file.

use std::panic::{AssertUnwindSafe, catch_unwind};

use flotilla_engine::compile;

const SEED: u64 = 0x5eed_f107_111a;
const ROUNDS: usize = 20_000;

/// A small generator; the same numbers for the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).expect("fits")
    }
}

const SOURCE: &str = include_str!("definitions/order.yaml");
const PIECES: [&str; 44] = [
    "{{",
    "}}",
    "{%",
    "%}",
    "{#",
    "-%}",
    "[",
    "]",
    "{",
    "}",
    ":",
    ": ",
    "- ",
    "\n",
    "\n  ",
    "\"",
    "'",
    "|",
    ">",
    "&a ",
    "*a",
    "<<: ",
    "!!str ",
    "? ",
    "0x1F",
    "010",
    ".inf",
    "1e999",
    "null",
    "true",
    "ü",
    "🦀",
    "\u{0}",
    "\t",
    "\\",
    "if",
    "for x in",
    "not",
    "is",
    "vars.",
    "result()",
    "**",
    "~",
    "name: fetch",
];

fn mutated(random: &mut Random) -> String {
    let mut characters: Vec<char> = SOURCE.chars().collect();
    for _ in 0..1 + random.below(6) {
        let at = random.below(characters.len() + 1);
        match random.below(5) {
            0 => characters.truncate(at),
            1 => drop(characters.drain(at..(at + random.below(30)).min(characters.len()))),
            2 => {
                let end = (at + random.below(60)).min(characters.len());
                let copy: Vec<char> = characters[at..end].to_vec();
                let to = random.below(characters.len() + 1);
                characters.splice(to..to, copy);
            }
            _ => drop(characters.splice(at..at, PIECES[random.below(PIECES.len())].chars())),
        }
    }
    characters.into_iter().collect()
}

#[test]
fn never_panics() {
    let mut random = Random(SEED);
    let mut accepted = 0;
    for round in 0..ROUNDS {
        let source = mutated(&mut random);
        let outcome = catch_unwind(AssertUnwindSafe(|| compile(&source)));
        let context = || format!("seed {SEED:#x}, round {round}:\n{source}");
        match outcome {
            Err(_) => panic!("panic, {}", context()),
            Ok(Ok(_)) => accepted += 1,
            Ok(Err(found)) => {
                assert!(!found.is_empty(), "refused without a reason, {}", context());
                for found in &found {
                    assert!(
                        source.get(found.span.clone()).is_some(),
                        "{found:?}, {}",
                        context()
                    );
                    assert!(
                        found.line >= 1 && found.column >= 1,
                        "{found:?}, {}",
                        context()
                    );
                }
                let places: Vec<_> = found.iter().map(|found| found.span.start).collect();
                assert!(places.is_sorted(), "{found:?}, {}", context());
            }
        }
    }
    assert!(accepted > 0 && accepted < ROUNDS, "{accepted}");
}

#[test]
fn the_source_of_the_mutants_is_sound() {
    if let Err(found) = compile(SOURCE) {
        panic!("{found:#?}");
    }
}

#[test]
fn ends_a_flood_of_errors() {
    let tasks: String = (0..1000)
        .map(|n| format!("- {{name: t{n:060}, on_success: [u{n:060}, v{n:060}], input: ['{{{{ x{n} }}}}', '{{{{ ( }}}}']}}\n"))
        .collect();
    let begin = std::time::Instant::now();
    let source = format!("ref: a.b\ntasks:\n{tasks}");
    let Err(found) = compile(&source) else {
        panic!("accepted")
    };
    assert!((200..2_000).contains(&found.len()), "{}", found.len());
    assert!(
        found
            .last()
            .is_some_and(|last| last.code == "too_many_errors"),
        "{:?}",
        found.last()
    );
    assert!(begin.elapsed().as_secs() < 20, "{:?}", begin.elapsed());
}
