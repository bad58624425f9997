//! The workflows of the simulation: small, and together they have every way to wait. Compiled once.

use std::sync::{Arc, OnceLock};

use flotilla_engine::Workflow;

const ONE: &str = "
ref: t.one
tasks:
  - {name: a, action: core.noop, timeout: 3}
";
const CHAIN: &str = "
ref: t.chain
vars: {n: 0}
tasks:
  - {name: a, action: core.noop, timeout: 5, publish: [{n: \"{{ result() }}\"}], on_success: b}
  - {name: b, action: core.noop, timeout: 5, input: {n: \"{{ vars.n }}\"}, publish: [{n: \"{{ vars.n + result() }}\"}]}
output_map: {n: \"{{ vars.n }}\"}
";
const DIAMOND: &str = "
ref: t.diamond
vars: {left: 0, right: 0}
tasks:
  - {name: a, on_success: [b, c]}
  - {name: b, action: core.noop, timeout: 5, retry: {count: 3}, publish: [{left: \"{{ result() }}\"}], on_success: d, on_failure: d}
  - {name: c, action: core.noop, timeout: 5, publish: [{right: \"{{ result() }}\"}], on_complete: d}
  - {name: d, join: all, action: core.noop, timeout: 5, input: {l: \"{{ vars.left }}\", r: \"{{ vars.right }}\"}}
output_map: {l: \"{{ vars.left }}\", r: \"{{ vars.right }}\"}
";
const RETRIES: &str = "
ref: t.retries
tasks:
  - {name: a, action: core.noop, timeout: 2, retry: {count: 3, delay: 1, jitter: 0.5}}
";
const LOOP: &str = "
ref: t.loop
vars: {rounds: 0}
tasks:
  - {name: begin, on_success: a}
  - {name: a, action: core.noop, timeout: 5, retry: {count: 1, delay: 2}, publish: [{rounds: \"{{ vars.rounds + 1 }}\"}], on_success: b, on_timeout: b}
  - {name: b, next: [{when: \"{{ vars.rounds < 2 }}\", do: a}]}
";
const FAILING: &str = "
ref: t.failing
tasks:
  - {name: a, action: core.noop, timeout: 5, retry: {count: 1, delay: 3}}
  - {name: b, action: core.noop, timeout: 5, on_success: d}
  - {name: c, on_success: d}
  - {name: d, join: all, action: core.noop, timeout: 5}
";
const ITEMS: &str = "
ref: t.items
tasks:
  - {name: a, action: core.noop, timeout: 5, retry: {count: 1, delay: 1}, with_items: \"{{ range(5) }}\", concurrency: 2, tolerate: 1, publish: [{r: \"{{ result() }}\"}], on_complete: b}
  - {name: b, action: core.noop, timeout: 5, with_items: [1, 2, 3, 4], batch_size: 2, on_item_failure: cancel}
output_map: {r: \"{{ vars.r | default(null) }}\"}
";
const SLOW: &str = "
ref: t.slow
tasks:
  - {name: a, action: core.noop, timeout: 5, retry: {count: 1, delay: 320}}
";

/// Names of the workflows that are quick; the slow one is started now and then.
pub(crate) const NAMES: [&str; 7] = [
    "t.one",
    "t.chain",
    "t.diamond",
    "t.retries",
    "t.loop",
    "t.failing",
    "t.items",
];
/// A workflow whose retry lies beyond the timers that are kept in memory.
pub(crate) const SLOW_NAME: &str = "t.slow";

/// All of them.
#[must_use]
pub fn workflows() -> &'static [Arc<Workflow>] {
    static COMPILED: OnceLock<Vec<Arc<Workflow>>> = OnceLock::new();
    COMPILED.get_or_init(|| {
        let sources = [ONE, CHAIN, DIAMOND, RETRIES, LOOP, FAILING, ITEMS, SLOW];
        let compile = |source: &&str| {
            flotilla_engine::compile(source)
                .expect("a sound workflow")
                .workflow
        };
        sources.iter().map(compile).collect()
    })
}
