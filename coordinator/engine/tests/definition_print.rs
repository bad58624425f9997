//! A definition that is printed and read again is the same definition.

use std::path::{Path, PathBuf};

use flotilla_engine::definition::print;
use flotilla_engine::yaml::{Node, Value, literal, parse};
use flotilla_engine::{Workflow, compile};

fn tree(source: &str) -> Node {
    parse(source).unwrap_or_else(|found| panic!("{found:?}\n{source}"))
}

/// Prints a source, and demands that nothing is lost.
fn printed(source: &str) -> String {
    let node = tree(source);
    let printed = print(&node);
    let again = tree(&printed);
    assert_eq!(
        literal(&again.value).text(),
        literal(&node.value).text(),
        "{printed}"
    );
    assert_eq!(print(&again), printed, "what is printed is canonical");
    printed
}

/// All parts of a workflow but the hash of its text. What has no form of its own (the schemas) comes
/// from the tree, which is compared by itself.
fn parts(workflow: &Workflow) -> String {
    let text = format!("{workflow:#?}");
    let hash = format!("{:#?}", workflow.hash);
    let first = hash.lines().nth(2).expect("the bytes").trim();
    let from = text.find("    hash: ").expect("the hash stands first");
    let to = text.find("    pack: ").expect("the pack stands behind it");
    assert!(text[from..to].contains(first));
    format!("{}{}", &text[..from], &text[to..])
}

/// Whether the source is a definition; if so, it survives.
fn survives(source: &str) -> bool {
    let Ok(compiled) = compile(source) else {
        return false;
    };
    let printed = printed(source);
    let again = compile(&printed).unwrap_or_else(|found| panic!("{found:#?}\n{printed}"));
    assert_eq!(
        parts(&again.workflow),
        parts(&compiled.workflow),
        "{printed}"
    );
    let codes = |found: &[flotilla_engine::diagnostic::Diagnostic]| {
        let found = found.iter().map(|found| (found.code, found.path.clone()));
        found.collect::<Vec<_>>()
    };
    let (mut one, mut two) = (codes(&again.warnings), codes(&compiled.warnings));
    one.sort_unstable();
    two.sort_unstable();
    assert_eq!(one, two, "{printed}");
    true
}

fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut open = vec![root.join(folder)];
    let mut found = Vec::new();
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).expect("it can be read") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).expect("it can be read")
}

#[test]
fn every_workflow_of_the_examples_survives() {
    let mut survived = 0;
    for folder in [
        "examples",
        "tests/workflows",
        "coordinator/engine/tests/definitions",
    ] {
        for file in files(folder, "yaml") {
            let source = read(&file);
            printed(&source);
            survived += usize::from(survives(&source));
        }
    }
    assert!(survived >= 15, "{survived}");
}

#[test]
fn every_tree_of_the_conformance_cases_survives() {
    let files = files("tests/conformance/cases", "yaml");
    assert!(files.len() >= 50, "{}", files.len());
    for file in files {
        printed(&read(&file));
    }
}

/// Those that stand as one literal in the tests of the engine.
#[test]
fn every_definition_of_the_tests_survives() {
    let mut survived = 0;
    for file in files("coordinator/engine/tests", "rs") {
        let text = read(&file);
        for (at, _) in text.match_indices("\"\nref: ") {
            let source = &text[at + 1..];
            let end = source.find('"').unwrap_or(source.len());
            survived += usize::from(survives(&source[..end]));
        }
    }
    assert!(survived >= 10, "{survived}");
}

#[test]
fn a_definition_is_printed_like_this() {
    let source = r#"{ref: a.b, vars: {on: "", "two words": [], l: [[1, [2]], {a: {}}]}, # gone
        tasks: [{name: first, input: {a: 'it''s', b: "x: y", c: 1.50, d: [null, ~, "null"]},
            when: "{{ true }}", on_success: [noop]}]}"#;
    let expected = r#"ref: a.b
vars:
  "on": ""
  two words: []
  l:
    - - 1
      - - 2
    - a: {}
tasks:
  - name: first
    input:
      a: "it's"
      b: "x: y"
      c: 1.50
      d:
        - null
        - null
        - "null"
    when: "{{ true }}"
    on_success:
      - noop
"#;
    assert_eq!(printed(source), expected);
}

/// Texts that YAML takes for something else where they stand without quotes, as keys and as values.
const TEXTS: &[&str] = &[
    "",
    " ",
    "a ",
    " a",
    "-",
    "- a",
    "?",
    ": a",
    "a: b",
    "a:",
    "a #b",
    "#",
    "&a",
    "*a",
    "!t",
    "|",
    ">",
    "%a",
    "@a",
    "`a",
    "[a",
    "{a",
    "}",
    ",",
    "'",
    "\"",
    "\\",
    "\\n",
    "null",
    "Null",
    "~",
    "true",
    "TRUE",
    "Yes",
    "off",
    "n",
    "Y",
    "1",
    "-1",
    "+1",
    "0x1f",
    "0o7",
    "1e5",
    ".5",
    "1_000",
    ".inf",
    "-.INF",
    ".nan",
    "nan",
    "Infinity",
    "inf",
    "2024-01-01",
    "12:30",
    "<<",
    "=",
    "---",
    "...",
    "--- a",
    "a\nb",
    "a\n",
    "\na",
    "\ta",
    "a\tb",
    "\r",
    "\u{0}",
    "\u{7f}",
    "\u{85}",
    "\u{a0}",
    "\u{2028}",
    "\u{feff}",
    "\u{fffe}",
    "\u{1f600}",
    "é",
    "e5",
    "E5",
    "_",
    "a-b",
    "a.b",
    "a/b",
    "null a",
    "true.b",
    "https://a.b/c?d=e",
    "{{ vars.x }}",
    "a - b",
];

#[test]
fn no_text_becomes_something_else() {
    let entries = TEXTS.iter().map(|text| {
        let codes = text.chars().map(|c| format!("\\U{:08X}", u32::from(c)));
        let text = format!("\"{}\"", codes.collect::<String>());
        format!("{text}: [{text}, {{{text}: {text}}}]")
    });
    let entries: Vec<String> = entries.collect();
    let source = format!("{{{}}}", entries.join(", "));
    let node = tree(&print(&tree(&source)));
    let Value::Map(found) = &node.value else {
        panic!("an object")
    };
    let keys: Vec<&str> = found.iter().map(|(key, _)| key.text.as_str()).collect();
    assert_eq!(keys, TEXTS);
    printed(&source);
}

#[test]
fn numbers_keep_their_digits() {
    for number in [
        "0",
        "-1",
        "1.50",
        "1E+3",
        "-0.0",
        "123456789012345678901234567890123456789012345",
        "0.1000000000000000055511151231257827",
    ] {
        assert_eq!(printed(&format!("a: {number}")), format!("a: {number}\n"));
    }
    assert_eq!(printed("a: 0x1f"), "a: 31\n");
}

#[test]
fn a_tree_that_is_one_value_is_one_line() {
    for (source, expected) in [
        ("~", "null\n"),
        ("[]", "[]\n"),
        ("{}", "{}\n"),
        ("'1'", "\"1\"\n"),
    ] {
        assert_eq!(printed(source), expected);
    }
}

/// Small generator of numbers, the same in every run.
struct Seed(u64);

impl Seed {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % bound
    }

    fn text(&mut self) -> String {
        let letters: Vec<char> = "ab1 -:#{}[],&*!|>'\"%@`\\\n\t~.é\u{1f600}?<=_nulltrue"
            .chars()
            .collect();
        let length = self.below(8);
        (0..length)
            .map(|_| letters[usize::try_from(self.below(letters.len() as u64)).expect("small")])
            .collect()
    }

    fn value(&mut self, depth: u64) -> serde_json::Value {
        match self.below(if depth == 0 { 4 } else { 6 }) {
            0 => serde_json::Value::Null,
            1 => serde_json::Value::Bool(self.below(2) == 0),
            2 => serde_json::Value::from(self.below(1_000_000)),
            3 => serde_json::Value::String(self.text()),
            4 => (0..self.below(4)).map(|_| self.value(depth - 1)).collect(),
            _ => {
                let entries = (0..self.below(4)).map(|_| (self.text(), self.value(depth - 1)));
                let entries: serde_json::Map<_, _> = entries.collect();
                serde_json::Value::Object(entries)
            }
        }
    }
}

#[test]
fn any_tree_survives() {
    let mut seed = Seed(7);
    for _ in 0..2_000 {
        let value = seed.value(5);
        let source = value.to_string();
        let printed = printed(&source);
        let again = literal(&tree(&printed).value);
        assert_eq!(again.text(), source, "{printed}");
    }
}
