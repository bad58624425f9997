//! Whether executions are kept in memory or loaded each time makes no difference. Schedules with every
//! fault are the business of the simulation.

use flotilla_simulation::Random;
use serde_json::json;

use crate::broker::Queue;
use crate::messages::{failed, succeeded};
use crate::world::World;

pub const CHAIN: &str = "
ref: t.chain
vars: {n: 0}
tasks:
  - {name: a, action: core.noop, timeout: 5, publish: [{n: \"{{ result() }}\"}], on_success: b}
  - {name: b, action: core.noop, timeout: 5, input: {n: \"{{ vars.n }}\"}, publish: [{n: \"{{ vars.n + result() }}\"}], on_success: c}
  - {name: c, action: core.noop, timeout: 5, input: {seen: \"{{ task.a.result }}\"}}
output_map: {n: \"{{ vars.n }}\"}
";
pub const DIAMOND: &str = "
ref: t.diamond
vars: {left: 0, right: 0}
tasks:
  - {name: a, action: core.noop, timeout: 5, on_success: [b, c]}
  - {name: b, action: core.noop, timeout: 5, retry: {count: 3}, publish: [{left: \"{{ result() }}\"}], on_success: d, on_failure: d}
  - {name: c, action: core.noop, timeout: 5, publish: [{right: \"{{ result() }}\"}], on_complete: d}
  - {name: d, join: all, action: core.noop, timeout: 5, input: {l: \"{{ vars.left }}\", r: \"{{ vars.right }}\"}}
output_map: {l: \"{{ vars.left }}\", r: \"{{ vars.right }}\"}
";
pub const RETRIES: &str = "
ref: t.retries
vars: {rounds: 0}
tasks:
  - {name: begin, on_success: a}
  - {name: a, action: core.noop, timeout: 5, retry: {count: 2, delay: 1, jitter: 0.5}, publish: [{rounds: \"{{ vars.rounds + 1 }}\"}], on_success: b, on_timeout: b}
  - {name: b, action: core.noop, timeout: 5, retry: {count: 1, delay: 200}, next: [{when: \"{{ vars.rounds < 3 }}\", do: a}]}
";
pub const FAILING: &str = "
ref: t.failing
tasks:
  - {name: a, action: core.noop, timeout: 5, retry: {count: 2, delay: 3}}
  - {name: b, action: core.noop, timeout: 5, on_success: d}
  - {name: c, action: core.noop, timeout: 5, on_success: d}
  - {name: d, join: all, action: core.noop, timeout: 5}
";

/// What is in memory and what is loaded again make no difference.
#[test]
fn the_size_of_the_cache_changes_nothing() {
    for seed in 0..60 {
        let logs = |cached| {
            let mut random = Random::new(seed);
            let mut world = World::new(2, &[CHAIN, DIAMOND, RETRIES, FAILING]);
            world.config.cached_executions = cached;
            world.join();
            let workflows = ["t.chain", "t.diamond", "t.retries", "t.failing"];
            for id in 1..=4 {
                world.put_start(workflows[random.below(4)], id);
            }
            for _ in 0..300 {
                world.calm(0);
                let jobs = world.broker.ready(&Queue::Pool("default".to_owned()));
                let count = jobs.len();
                if count == 0 {
                    world.pass(1.0);
                    world.tick(0);
                    continue;
                }
                jobs.rotate_left(random.below(count));
                let job = world.take_job().expect("a job");
                let result = json!(random.below(10));
                let completed = if random.percent(30) {
                    failed(&job)
                } else {
                    succeeded(&job, &result)
                };
                world.complete(completed);
            }
            (1..=4).map(|id| world.log(id)).collect::<Vec<_>>()
        };
        assert_eq!(logs(0), logs(100), "seed {seed}");
    }
}
