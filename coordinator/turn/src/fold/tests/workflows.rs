//! The workflows that the random test runs: each construct of the language, and several together.

pub(super) const WORKFLOWS: [&str; 16] = [
    "
ref: t.diamond
parameters: {n: {type: integer, default: 3}, s: {type: string, default: \"{{ system.workflow }}\"}}
vars: {x: 0, l: \"{{ parameters.n }}\"}
tasks:
  - {name: a, action: core.noop, publish: [{x: \"{{ result() }}\"}], on_success: [b, c], on_failure: c}
  - {name: b, action: core.noop, timeout: 20, when: \"{{ vars.x != 4 }}\", publish: [{l: \"{{ result() }}\"}], on_complete: d}
  - {name: c, join: 1, action: core.noop, retry: {count: 1}, next: [{when: \"{{ succeeded() }}\", publish: [{r: \"{{ result() }}\"}], do: d}]}
  - {name: d, join: all, action: core.noop, input: {x: \"{{ vars.x }}\", b: \"{{ task.b.status }}\"}}
output_map: {x: \"{{ vars.x }}\", d: \"{{ task.d.result }}\"}
",
    "
ref: t.loop
vars: {rounds: 0}
tasks:
  - {name: begin, on_success: a}
  - {name: a, action: core.noop, timeout: 5, retry: {count: 2, delay: 1, jitter: 0.5}, publish: [{rounds: \"{{ vars.rounds + 1 }}\"}], on_success: b, on_timeout: b}
  - {name: b, action: core.noop, retry: {count: 1, delay: 200}, next: [{when: \"{{ vars.rounds < 4 }}\", do: a}]}
",
    "
ref: t.failing
tasks:
  - {name: a, action: core.noop, timeout: 5, retry: {count: 2, delay: 3}}
  - {name: b, action: core.noop, timeout: 5, on_success: d}
  - {name: c, action: core.noop, timeout: 5, on_success: d}
  - {name: d, join: all, action: core.noop}
",
    "
ref: t.errors
vars: {y: 1}
tasks:
  - {name: a, action: core.noop, publish: [{y: \"{{ 6 // result() }}\"}], next: [{when: \"{{ result() + 0 < 7 }}\", do: [b, e]}, {when: \"{{ failed() }}\", publish: [{why: \"{{ error().kind }}\"}], do: c}]}
  - {name: b, action: core.noop, retry: {count: 2, when: \"{{ result() > 3 }}\", delay: \"{{ 4 - vars.y }}\"}, on_complete: c}
  - {name: c, action: core.noop, input: {x: \"{{ 1 // (3 - system.visit) }}\"}, retry: {count: 2}, on_failure: [noop]}
  - {name: e, action: core.noop, retry: {count: 3, delay: 2}, input: {x: \"{{ 1 // (2 - system.attempt) }}\"}}
output_map: {y: \"{{ vars.y }}\", z: \"{{ 1 // vars.y }}\"}
",
    "
ref: t.decision
tasks:
  - {name: a, action: core.noop, decision: [{when: \"{{ result() == 1 }}\", next: [b, fail]}, {when: \"{{ result() == 2 }}\", next: c}, {when: \"{{ result() in [3, 4, 5] }}\", next: d}], on_failure: d}
  - {name: b, action: core.noop, on_success: c}
  - {name: c, on_success: d}
  - {name: d, action: core.noop, max_redeliveries: 1}
",
    "
ref: t.joins
vars: {n: 0}
tasks:
  - {name: s, action: core.noop, on_success: [l, r]}
  - {name: l, action: core.noop, publish: [{n: \"{{ vars.n + 1 }}\"}], on_success: j}
  - {name: r, action: core.noop, on_complete: j}
  - {name: j, join: all, publish: [{m: \"{{ vars.n }}\"}], on_success: k}
  - {name: k, action: core.noop, next: [{when: \"{{ vars.n < 3 and succeeded() }}\", do: [l, r]}]}
",
    "
ref: t.items
vars: {left: 3}
tasks:
  - {name: a, action: core.noop, timeout: 5, with_items: \"{{ range(vars.left, 9) }}\", concurrency: 2, tolerate: \"20%\", retry: {count: 1, delay: \"{{ item }}\"}, input: {x: \"{{ 12 // (8 - item) }}\"}, publish: [{r: \"{{ result() }}\"}], next: [{when: \"{{ succeeded() }}\", do: b}, {when: \"{{ failed() }}\", publish: [{why: \"{{ error().items }}\"}], do: [b, c]}]}
  - {name: b, action: core.noop, timeout: 5, with_items: [[1, 2], {k: v}, null, 7], batch_size: 3, on_item_failure: cancel, input: {part: \"{{ index }}\", rows: \"{{ batch }}\"}, on_complete: d}
  - {name: c, action: core.noop, with_items: \"{{ task.a.result }}\", concurrency: 1, on_item_failure: drain}
  - {name: d, action: core.noop, with_items: \"{{ vars.left }}\", on_failure: noop}
output_map: {r: \"{{ vars.r | default(null) }}\"}
",
    "
ref: t.many
tasks:
  - {name: a, action: core.noop, with_items: \"{{ range(300) }}\", tolerate: \"90%\"}
",
    "
ref: t.times
vars: {gap: 2}
timeout: 120
tasks:
  - {name: a, action: core.noop, delay: \"{{ vars.gap }}\", timeout: 20, total_timeout: 31, heartbeat: 9, retry: {count: 5, delay: 8}, on_success: [w, b], on_timeout: w, on_failure: b}
  - {name: w, delay: 3, on_success: b}
  - {name: b, action: core.noop, with_items: [1, 2, 3], concurrency: 2, timeout: 9, delay: 1, total_timeout: 25, heartbeat: 4, retry: {count: 2, delay: 4}, on_timeout: [c, noop], on_failure: c, publish: [{r: \"{{ result() }}\"}]}
  - {name: c, action: core.noop, delay: \"{{ vars.r | default('none') }}\", on_failure: [noop]}
output: {gap: {type: integer, enum: [3]}}
output_map: {gap: \"{{ vars.gap }}\"}
",
    "
ref: t.timed_items
tasks:
  - {name: a, action: core.noop, with_items: \"{{ range(280) }}\", delay: 1, total_timeout: 20, tolerate: \"90%\", on_complete: b}
  - {name: b, action: core.noop, total_timeout: 3, retry: {count: 9, delay: 1}, on_failure: b2}
  - {name: b2, delay: 100}
",
    "
ref: t.times_and_policies
timeout: 40
cancellation_policy: allow_finish
fail_policy: continue
finally: [z]
tasks:
  - {name: a, action: core.noop, delay: 1, timeout: 9, total_timeout: 14, heartbeat: 6, retry: {count: 2, delay: 3}, on_complete: j}
  - {name: b, action: core.noop, total_timeout: 20, with_items: [1, 2, 3], concurrency: 2, on_complete: j}
  - {name: c, delay: 3, on_complete: j}
  - {name: j, join: active, action: core.noop, delay: 2, total_timeout: 30}
  - {name: n, needs: [a, b], rule: one_success, action: core.noop, delay: 1, timeout: 8}
  - {name: z, action: core.noop, delay: 1, timeout: 9, total_timeout: 8, heartbeat: 5}
",
    "
ref: t.routes
vars: {rounds: 0}
fail_policy: continue
cancellation_policy: allow_finish
tasks:
  - {name: s, on_success: [a, b]}
  - {name: a, action: core.noop, timeout: 5, publish: [{a: 1}], on_complete: mid}
  - {name: b, action: core.noop, timeout: 5, retry: {count: 1, delay: 2}, on_complete: mid}
  - {name: mid, on_success: [x, y, z]}
  - {name: x, action: core.noop, timeout: 5, next: [{when: \"{{ succeeded() }}\", do: two}, {when: \"{{ failed() }}\", do: [late, fail]}]}
  - {name: y, action: core.noop, timeout: 5, publish: [{a: 2}], on_success: [two, any], on_failure: noop}
  - {name: z, action: core.noop, timeout: 5, on_success: [two, any], on_failure: any}
  - {name: two, join: 2, action: core.noop, timeout: 5, input: {a: \"{{ vars.a | default(0) }}\"}}
  - {name: any, join: active, publish: [{rounds: \"{{ vars.rounds + 1 }}\"}], next: [{when: \"{{ vars.rounds < 2 }}\", do: z}]}
  - {name: late, action: core.noop, on_complete: later}
  - {name: later, action: core.noop}
",
    "
ref: t.needs
fail_policy: cancel
cancel_grace: 2
finally: [cleanup, report]
tasks:
  - {name: a, action: core.noop, timeout: 5, publish: [{a: 1}]}
  - {name: b, action: core.noop, timeout: 5, ignore_failure: true, on_success: b2}
  - {name: b2, action: core.noop, next: [{when: \"{{ result() == 1 }}\", do: b2}]}
  - {name: c, needs: [a, b], rule: all_done, action: core.noop, timeout: 5, retry: {count: 1, delay: 1}, publish: [{a: \"{{ vars.a | default(3) }}\"}]}
  - {name: d, needs: [a], rule: one_failed, action: core.noop, timeout: 5}
  - {name: e, needs: [c, d, b2], rule: none_failed, action: core.noop, with_items: [1, 2]}
  - {name: cleanup, action: core.noop, timeout: 5, retry: {count: 1, delay: 1}, input: {s: \"{{ system.status }}\"}, publish: [{s: \"{{ result() }}\"}]}
  - {name: report, action: core.noop, timeout: 5, with_items: [1, 2, 3], concurrency: 2, ignore_failure: true}
output_map: {s: \"{{ system.status }}\", a: \"{{ vars.a | default(0) }}\"}
",
    "
ref: t.rules
fail_policy: continue
max_runs_per_task: 3
start: [a, b, spin]
finally: [z]
tasks:
  - {name: a, action: core.noop, when: \"{{ system.visit > 1 }}\"}
  - {name: b, action: core.noop, timeout: 5}
  - {name: spin, action: core.noop, timeout: 5, next: [{when: \"{{ result() == 1 or failed() }}\", do: spin}]}
  - {name: c, needs: [a, b], rule: all_failed, action: core.noop}
  - {name: d, needs: [b, spin], rule: none_skipped, action: core.noop, on_success: j}
  - {name: e, needs: [c, spin], rule: one_success, action: core.noop, on_success: j, on_failure: noop}
  - {name: f, needs: [a, c], rule: none_failed_min_one_success, action: core.noop}
  - {name: j, join: active, action: core.noop}
  - {name: z, action: core.noop, when: \"{{ system.status == 'failed' }}\"}
",
    "
ref: t.circle
vars: {n: 0}
tasks:
  - {name: s, action: core.noop, on_success: [a, b]}
  - {name: a, action: core.noop, on_success: left, on_failure: noop}
  - {name: b, action: core.noop, on_complete: right}
  - {name: left, action: core.noop, join: active, publish: [{n: \"{{ vars.n + 1 }}\"}], next: [{when: \"{{ vars.n < 3 }}\", do: right}]}
  - {name: right, action: core.noop, join: active, next: [{when: \"{{ vars.n < 2 }}\", do: left}]}
",
    "
ref: t.bad_default
parameters: {n: {type: integer, default: \"{{ 1 // 0 }}\"}}
tasks:
  - {name: a, action: core.noop}
",
];
