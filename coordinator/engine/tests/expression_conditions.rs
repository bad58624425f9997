//! Conditions: what holds, and what it costs to ask.

mod scope;

use std::time::Instant;

use flotilla_engine::Json;
use flotilla_engine::workflow::Routes;
use scope::World;

#[test]
fn hold_as_in_jinja() {
    let mut world = World::new();
    world.var("zero", "0");
    world.var("list", "[1]");
    world.ended("{\"ok\": true}");
    for (condition, holds) in [
        ("{{ true }}", true),
        ("{{ false }}", false),
        ("{{ vars.zero }}", false),
        ("{{ vars.list }}", true),
        ("{{ none }}", false),
        ("{{ '' }}", false),
        ("{{ 'false' }}", true),
        (" {{ vars.zero == 0 }}\n", true),
        ("{{ result().ok and succeeded() }}", true),
        ("{{ failed() }}", false),
        ("{{ status() in ['succeeded', 'skipped'] }}", true),
    ] {
        assert_eq!(world.holds(condition), Ok(holds), "{condition}");
    }
    world.forget("zero");
    let error = world.holds("{{ vars.zero > 1 }}").expect_err("missing");
    assert_eq!(error.message, "`vars.zero` does not exist");
}

#[test]
#[ignore = "measures; run it with --release --ignored --nocapture"]
fn cost() {
    let mut world = World::new();
    world.var("total", "2000");
    world.var("order", "{\"lines\": [1, 2, 3], \"kind\": \"web\"}");
    world.parameters("{\"n\": 1, \"s\": \"x\"}");
    world.ended("{\"ok\": true}");
    for condition in [
        "{{ vars.total > 1000 or parameters.n }}",
        "{{ vars.order.kind == 'web' }}",
        "{{ result().ok }}",
        "{{ succeeded() }}",
        "{{ vars.total == parameters.n }}",
    ] {
        let workflow = world.workflow(condition);
        let Routes::All(_) = &workflow.tasks[0].routes else {
            panic!("no decision")
        };
        let value = workflow.tasks[0].publish[0]
            .value
            .as_ref()
            .expect("a value");
        world.with_scope(|scope| {
            let begin = Instant::now();
            for _ in 0..100_000 {
                std::hint::black_box(value.evaluate(scope).expect("a value"));
            }
            println!("{condition}: {:?}", begin.elapsed() / 100_000);
        });
    }
    for rows in [1, 5_000] {
        let row = r#"{"sku":"abc-123","quantity":3,"price":12.5,"tags":["a","b"]}"#;
        let text = format!("[{}]", vec![row; rows].join(","));
        let rounds = 2_000 / rows.min(1_000);
        let fresh: Vec<_> = (0..rounds)
            .map(|_| Json::parse(text.clone()).expect("JSON"))
            .collect();
        let begin = Instant::now();
        fresh
            .iter()
            .for_each(|json| drop(std::hint::black_box(json.value().clone())));
        println!(
            "Json::value of {} bytes: {:?}",
            text.len(),
            begin.elapsed() / u32::try_from(rounds).expect("fits")
        );
        let begin = Instant::now();
        fresh
            .iter()
            .for_each(|json| drop(serde_json::from_str::<minijinja::Value>(json.text())));
        println!(
            "  by serde_json: {:?}",
            begin.elapsed() / u32::try_from(rounds).expect("fits")
        );
    }
}
