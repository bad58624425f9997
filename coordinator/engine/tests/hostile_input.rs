//! Whatever an expression or a message holds: no panic, bounded time and memory, and a value is never
//! evaluated again, nor does it change the structure around it. Definitions: `definition_garbage`.

mod scope;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use flotilla_engine::compile;
use flotilla_protocol::decode::decode_cancel;
use flotilla_protocol::names::MAX_MESSAGE_BYTES;
use flotilla_protocol::{Envelope, decode_control, decode_inbox, decode_job, decode_start};
use scope::World;

const SEED: u64 = 0x5eed_f107_222b;
const ROUNDS: usize = 20_000;
/// Far more than any input of these takes; the machine may be busy.
const LONGEST: Duration = Duration::from_secs(20);
/// The largest value that an expression may give, and room for how JSON writes it.
const LARGEST: usize = 16 * 1024 * 1024;

/// A small generator; the same numbers for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % bound.max(1) as u64).expect("fits")
    }

    fn of<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }

    /// One of the corpus with a few pieces cut out, doubled or put in.
    fn mutated(&mut self, corpus: &[&str], pieces: &[&str]) -> String {
        let mut text: Vec<char> = self.of(corpus).chars().collect();
        for _ in 0..1 + self.below(5) {
            let at = self.below(text.len() + 1);
            let end = (at + self.below(12)).min(text.len());
            match self.below(5) {
                0 => drop(text.drain(at..end)),
                1 => {
                    let copy = text[at..end].to_vec();
                    text.splice(at..at, copy);
                }
                _ => drop(text.splice(at..at, self.of(pieces).chars())),
            }
        }
        text.into_iter().collect()
    }
}

const EXPRESSIONS: [&str; 14] = [
    "{{ vars.n + 1 }}",
    "{{ vars.l | map('upper') | join(', ') }}",
    "a {{ vars.s }} b {{ vars.o.k[0] }}",
    "{% for i in range(vars.n) %}{{ i }},{% endfor %}",
    "{{ vars.missing | default('x') ~ vars.s[1:3] }}",
    "{% if vars.n > 2 and not vars.l %}yes{% else %}no{% endif %}",
    "{{ {'a': vars.n, 'b': [1, 2]} | tojson }}",
    "{{ vars.l | sort | first if vars.l is defined else none }}",
    "{% set x = vars.s * 3 %}{{ x | replace('e', 'ee') | length }}",
    "{{ range(10) | select('odd') | sum }}",
    "{% macro m(a) %}{{ a }}{{ a }}{% endmacro %}{{ m(vars.s) }}",
    "{{ vars.o.items() | list }}",
    "{{ parameters }} {{ system.visit }} {{ task.other.result }}",
    "{# nothing #}{% raw %}{{ x }}{% endraw %}",
];

const PIECES: [&str; 38] = [
    "{{",
    "}}",
    "{%",
    "%}",
    "{#",
    "#}",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "|",
    ".",
    ",",
    "'",
    "\"",
    "\\",
    "**",
    "//",
    "%",
    "~",
    "*",
    "-",
    " not ",
    " in ",
    " is ",
    " if ",
    " else ",
    "range(99999)",
    "10**9",
    "vars.s",
    "self",
    "loop",
    "caller()",
    "\u{0}",
    "🦀",
    "| list",
];

fn world() -> World {
    let mut world = World::new();
    world.var("n", "7");
    world.var("s", "\"hello {{ vars.n }}\"");
    world.var("l", "[\"b\", \"a\"]");
    world.var("o", "{\"k\": [1, {\"z\": null}]}");
    world.var("missing", "null");
    world
}

#[test]
fn no_expression_panics_or_runs_on() {
    let (world, mut random) = (world(), Random(SEED));
    let (mut refused, mut failed, mut given) = (0, 0, 0);
    for round in 0..ROUNDS {
        let template = random.mutated(&EXPRESSIONS, &PIECES);
        let told = || format!("seed {SEED:#x}, round {round}: {template:?}");
        let quoted = serde_json::to_string(&template).expect("JSON");
        let source = format!(
            "ref: a.b\nvars: {{n: 1, s: a, l: [], o: {{}}, missing: null}}\ntasks:\n\
             - {{name: last, publish: [{{out_of_it: {quoted}}}]}}\n- {{name: other}}\n"
        );
        let begin = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let compiled = compile(&source).ok()?;
            let publish = &compiled.workflow.tasks[0].publish[0];
            let template = publish.value.as_ref().expect("a value");
            Some(world.with_scope(|scope| template.render(scope)))
        }));
        assert!(
            begin.elapsed() < LONGEST,
            "{:?}, {}",
            begin.elapsed(),
            told()
        );
        match outcome {
            Err(_) => panic!("panic, {}", told()),
            Ok(None) => refused += 1,
            Ok(Some(Err(error))) => {
                failed += 1;
                assert!(!error.message.is_empty(), "{}", told());
            }
            Ok(Some(Ok(value))) => {
                given += 1;
                assert!(value.text().len() <= LARGEST, "{}", told());
                let is_json = serde_json::from_str::<serde_json::Value>(value.text()).is_ok();
                assert!(is_json, "{}", told());
            }
        }
    }
    assert!(
        refused > 0 && failed > 0 && given > 0,
        "{refused}, {failed}, {given}"
    );
}

/// Texts that would do something if they were evaluated, quoted or split once more.
const INJECTIONS: [&str; 20] = [
    "{{ 7 * 7 }}",
    "{{ vars.s }}",
    "{% for i in range(9) %}x{% endfor %}",
    "{# gone #}",
    "}} {{ 1",
    "{{ secret('key') }}",
    "\"",
    "'",
    "\\\"",
    "\", \"admin\": true, \"x\": \"",
    "'}}{{ 7*7 }}{{'",
    "$HOME",
    "$(reboot)",
    "`reboot`",
    "; rm -rf / #",
    "a\nb: c\n- d",
    "*alias &anchor !!tag",
    "null",
    "[1, 2]",
    "\u{202e}\u{1b}[2J",
];

#[test]
fn a_value_is_a_value_wherever_it_comes_to_stand() {
    for text in INJECTIONS {
        let json = serde_json::to_string(text).expect("JSON");
        let mut world = World::new();
        world.var("s", &json);
        let cases = [
            ("{{ vars.s }}", text.to_owned()),
            ("<{{ vars.s }}>", format!("<{text}>")),
            ("{{ vars.s ~ vars.s }}", format!("{text}{text}")),
            ("{{ '%s' | format(vars.s) }}", text.to_owned()),
            ("{% set t = vars.s %}{{ t }}", text.to_owned()),
        ];
        for (template, expected) in cases {
            let value = world.render(template).expect("it can be rendered");
            let value: serde_json::Value = serde_json::from_str(value.text()).expect("JSON");
            assert_eq!(value, serde_json::json!(expected), "{template} of {text:?}");
        }
        let object = world
            .render("{{ {'a': vars.s, 'b': [vars.s]} }}")
            .expect("an object");
        let object: serde_json::Value = serde_json::from_str(object.text()).expect("JSON");
        assert_eq!(
            object,
            serde_json::json!({"a": text, "b": [text]}),
            "{text:?}"
        );
    }
}

const MESSAGES: [&str; 5] = [
    r#"{"execution_id":"0190f3c0-1b2a-7c3d-8e4f-5a6b7c8d9e0f","task_id":"0190f3c0-1b2a-7abc-9def-000000000007","attempt":1,"status":"succeeded","result":{"a":[1,2]}}"#,
    r#"{"workflow":"shop.order","parameters":{"order_id":7},"start_key":"k"}"#,
    r#"{"execution_id":"0190f3c0-1b2a-7c3d-8e4f-5a6b7c8d9e0f","command":"cancel","reason":"why"}"#,
    r#"[{"status":"failed","error":{"kind":"x","message":"y","retryable":true}}]"#,
    r#"{"task_id":"0190f3c0-1b2a-7abc-9def-000000000007","attempt":2,"action":"core.noop","input":{},"timeout":1e3}"#,
];

const BITS: [&str; 24] = [
    "{",
    "}",
    "[",
    "]",
    "\"",
    ":",
    ",",
    "null",
    "true",
    "-",
    "1e999",
    "99999999999999999999",
    "\\u0000",
    "\\ud800",
    "\u{0}",
    "🦀",
    "[[[[[[[[",
    "{\"a\":{\"a\":",
    "\"attempt\":0,",
    "\"status\":\"skipped\",",
    "\"task_id\":1,",
    "\"version\":9,",
    " ",
    "\t",
];

#[test]
fn no_message_panics() {
    let mut random = Random(SEED);
    let types = [
        "task.completed",
        "task.job",
        "workflow.start",
        "workflow.control",
        "task.cancel",
        "?",
    ];
    let (mut taken, mut refused) = (0, 0);
    for round in 0..ROUNDS {
        let body = random.mutated(&MESSAGES, &BITS);
        let envelope = Envelope::of_type(random.of(&types));
        let bytes = body.as_bytes();
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            [
                decode_inbox(&envelope, bytes).is_ok(),
                decode_start(&envelope, bytes).is_ok(),
                decode_control(&envelope, bytes).is_ok(),
                decode_job(&envelope, bytes).is_ok(),
                decode_cancel(&envelope, bytes).is_ok(),
            ]
        }));
        let Ok(found) = outcome else {
            panic!("panic, seed {SEED:#x}, round {round}: {body:?}")
        };
        taken += usize::from(found.contains(&true));
        refused += usize::from(found.contains(&false));
    }
    assert!(taken > 0 && refused > 0, "{taken}, {refused}");
    let deep = "[".repeat(MAX_MESSAGE_BYTES / 64);
    assert!(decode_start(&Envelope::default(), deep.as_bytes()).is_err());
}
