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
const JOINS: &str = "
ref: t.joins
vars: {rounds: 0}
fail_policy: continue
cancellation_policy: allow_finish
tasks:
  - {name: s, on_success: [a, b]}
  - {name: a, action: core.noop, timeout: 5, on_complete: mid}
  - {name: b, action: core.noop, timeout: 5, on_complete: mid}
  - {name: mid, on_success: [x, y, z]}
  - {name: x, action: core.noop, timeout: 5, on_success: two, on_failure: noop}
  - {name: y, action: core.noop, timeout: 5, on_success: [two, any], on_failure: noop}
  - {name: z, action: core.noop, timeout: 5, on_success: [two, any], on_failure: any}
  - {name: two, join: 2, action: core.noop, timeout: 5}
  - {name: any, join: active, publish: [{rounds: \"{{ vars.rounds + 1 }}\"}], next: [{when: \"{{ vars.rounds < 2 }}\", do: z}]}
";
const NEEDS: &str = "
ref: t.needs
fail_policy: cancel
cancel_grace: 2
finally: [cleanup, report]
tasks:
  - {name: a, action: core.noop, timeout: 5, publish: [{a: 1}]}
  - {name: b, action: core.noop, timeout: 5, ignore_failure: true}
  - {name: c, needs: [a, b], rule: all_done, action: core.noop, timeout: 5, retry: {count: 1, delay: 1}}
  - {name: d, needs: [a], rule: one_failed, action: core.noop, timeout: 5}
  - {name: e, needs: [c, d], rule: none_failed, action: core.noop, timeout: 5}
  - {name: cleanup, action: core.noop, timeout: 5, retry: {count: 1, delay: 1}, input: {s: \"{{ system.status }}\"}}
  - {name: report, action: core.noop, timeout: 5, with_items: [1, 2, 3], concurrency: 2, ignore_failure: true}
output_map: {s: \"{{ system.status }}\"}
";
const TIMES: &str = "
ref: t.times
timeout: 60
cancellation_policy: allow_finish
finally: [z]
tasks:
  - {name: a, action: core.noop, delay: 1, timeout: 5, total_timeout: 12, retry: {count: 3, delay: 2}, on_success: b, on_timeout: w}
  - {name: w, delay: 2, on_success: b}
  - {name: b, action: core.noop, timeout: 5, heartbeat: 4, with_items: [1, 2, 3], concurrency: 2, delay: 1, total_timeout: 15, retry: {count: 1}}
  - {name: z, action: core.noop, timeout: 5, delay: 1, heartbeat: 4}
";
const FAMILY: &str = "
ref: t.family
tasks:
  - {name: a, type: workflow, action: t.child, timeout: 20, retry: {count: 1, delay: 1}, publish: [{r: \"{{ result() }}\"}], on_complete: b}
  - {name: b, type: workflow, action: \"t.{{ 'child' }}\", with_items: [1, 2, 3], concurrency: 2, input: {n: \"{{ item }}\"}, tolerate: 1, total_timeout: 40, on_complete: c}
  - {name: c, action: core.noop, timeout: 5}
output_map: {r: \"{{ vars.r | default(null) }}\"}
";
const CHILD: &str = "
ref: t.child
parameters: {n: {default: 0}}
finally: [z]
cancel_grace: 3
tasks:
  - {name: x, action: core.noop, timeout: 5, on_success: y}
  - {name: y, type: workflow, action: t.grandchild, on_complete: noop}
  - {name: z, action: core.noop, timeout: 5, ignore_failure: true}
output_map: {n: \"{{ parameters.n }}\"}
";
const GRANDCHILD: &str = "
ref: t.grandchild
timeout: 30
tasks:
  - {name: g, action: core.noop, timeout: 3, on_success: h}
  - {name: h}
";
const SLOW: &str = "
ref: t.slow
tasks:
  - {name: a, action: core.noop, timeout: 5, retry: {count: 1, delay: 320}}
";

/// Names of the workflows that are quick; the slow one is started now and then.
pub(crate) const NAMES: [&str; 11] = [
    "t.one",
    "t.chain",
    "t.diamond",
    "t.retries",
    "t.loop",
    "t.failing",
    "t.items",
    "t.joins",
    "t.needs",
    "t.times",
    "t.family",
];
/// A workflow whose retry lies beyond the timers that are kept in memory.
pub(crate) const SLOW_NAME: &str = "t.slow";

/// All of them.
#[must_use]
pub fn workflows() -> &'static [Arc<Workflow>] {
    static COMPILED: OnceLock<Vec<Arc<Workflow>>> = OnceLock::new();
    COMPILED.get_or_init(|| {
        let sources = [
            ONE, CHAIN, DIAMOND, RETRIES, LOOP, FAILING, ITEMS, JOINS, NEEDS, TIMES, FAMILY, CHILD,
            GRANDCHILD, SLOW,
        ];
        let compile = |source: &&str| {
            flotilla_engine::compile(source)
                .expect("a sound workflow")
                .workflow
        };
        sources.iter().map(compile).collect()
    })
}
