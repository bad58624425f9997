//! An expression hits a limit, not the memory or the stack of the coordinator.

mod scope;

use std::time::{Duration, Instant};

use scope::World;

#[track_caller]
fn limited(world: &World, template: &str) {
    let begin = Instant::now();
    match world.render(template) {
        Ok(json) => panic!("{template} gives {} bytes", json.text().len()),
        Err(error) => assert!(error.limit, "{template}: {error}"),
    }
    // Generous: the build is not optimised, and the machine may be busy.
    assert!(
        begin.elapsed() < Duration::from_secs(20),
        "{template}: {:?}",
        begin.elapsed()
    );
}

#[test]
fn bounds_what_grows() {
    let mut world = World::new();
    world.var("n", "1000000000");
    world.var("s", &format!("\"{}\"", "x".repeat(500_000)));
    world.var("l", &format!("[{}1]", "1,".repeat(100_000)));
    for template in [
        "{{ 'x' * vars.n }}",
        "{{ 'x' * 10**9 }}",
        "{{ vars.n * 'x' }}",
        "{{ [1] * 10**9 }}",
        "{{ range(10**9) }}",
        "{{ range(0, 10**9, 2) | list }}",
        "{{ 'x' * 2000000 }}",
        "{{ vars.s ~ vars.s ~ vars.s }}",
        "{{ vars.s + vars.s + vars.s }}",
        "x{{ vars.s }}{{ vars.s }}{{ vars.s }}",
        "{{ [vars.s, vars.s, vars.s] }}",
        "{{ range(99999) | join(vars.s) }}",
        "{{ vars.s.join(range(99999)) }}",
        "{{ vars.s | replace('x', vars.s) }}",
        "{{ vars.s.replace('x', vars.s) }}",
        "{{ range(99999) | map('replace', '', vars.s) | list }}",
        "{{ 'a\nb' | indent(10**9) }}",
        "{{ [1] | batch(10**9, 'x') }}",
        "{{ [1] | slice(10**9) }}",
        "{{ '%999999999d' | format(1) }}",
        "{{ '{:999999999}'.format(1) }}",
        "{% for i in range(100000) %}{{ vars.s }}{% endfor %}",
        "{% for i in range(100000) %}raw text{% endfor %}",
        "{% for i in range(1000) %}{% for j in range(1000) %}{% endfor %}{% endfor %}",
        "{{ vars.l * 100 }}",
        "{{ [vars.l, vars.l, vars.l, vars.l, vars.l, vars.l] + [vars.l, vars.l, vars.l, vars.l, vars.l, vars.l, vars.l] }}",
    ] {
        limited(&world, template);
    }
}

#[test]
fn bounds_what_shares() {
    let world = World::new();
    let mut template = "{% set a = ['x', 'x'] %}".to_owned();
    for _ in 0..60 {
        template.push_str("{% set a = [a, a] %}");
    }
    limited(&world, &format!("{template}{{{{ a == a }}}}"));
    let mut deep = "{% set a = [] %}".to_owned();
    for _ in 0..20_000 {
        deep.push_str("{% set a = [a] %}");
    }
    limited(&world, &format!("{deep}{{{{ a }}}}"));
    let mut loops = "{{ a0 }}".to_owned();
    for level in 0..40 {
        let from = level + 1;
        loops = format!("{{% for a{level} in [[a{from}, a{from}]] %}}{loops}{{% endfor %}}");
    }
    limited(&world, &format!("{{% set a40 = ['x'] %}}{loops}"));
}

#[test]
fn bounds_the_steps() {
    let mut world = World::new();
    world.var("l", &format!("[{}1]", "1,".repeat(5_000)));
    limited(
        &world,
        "{% for i in range(50000) %}{{ i + 1 }}{% if i > 3 %}{% endif %}{% endfor %}",
    );
    limited(
        &world,
        "{% for i in range(20000) %}{% if i in vars.l and vars.l == vars.l %}{% endif %}{% endfor %}",
    );
}

#[test]
fn bounds_the_text_of_an_expression() {
    for (expression, what) in [
        (
            "(".repeat(100) + "1" + &")".repeat(100),
            "nested too deeply",
        ),
        ("[".repeat(5000) + &"]".repeat(5000), "nested too deeply"),
        ("-".repeat(5000) + "1", "nested too deeply"),
        ("not ".repeat(5000) + "1", ""),
        ("1 + ".repeat(5000) + "1", "too long"),
        ("1 ~ ".repeat(5000) + "1", "too long"),
        ("1 and ".repeat(5000) + "1", "too long"),
        ("1".to_owned() + &" if 1 else 2".repeat(5000), ""),
        ("vars".to_owned() + &".x".repeat(5000), "too long"),
        ("1".to_owned() + &" | string".repeat(5000), "too long"),
        ("1 < ".repeat(5000) + "1", "too long"),
    ] {
        let quoted = serde_json::to_string(&format!("{{{{ {expression} }}}}")).expect("JSON");
        let source = format!("ref: a.b\ntasks:\n- name: a\n  input: {{v: {quoted}}}\n");
        match flotilla_engine::compile(&source) {
            Ok(_) => assert_eq!(what, "", "{}", &expression[..40]),
            Err(found) => assert!(
                found[0].message.contains(what),
                "{}: {:?}",
                &expression[..40],
                found[0]
            ),
        }
    }
}

#[test]
fn long_but_sound_expressions_compile() {
    let world = World::new();
    let sum = "1 + ".repeat(300) + "1";
    assert_eq!(
        world
            .render(&format!("{{{{ {sum} }}}}"))
            .expect("a sum")
            .text(),
        "301"
    );
    let cat = "'a' ~ ".repeat(300) + "'b'";
    assert_eq!(
        world
            .render(&format!("{{{{ {cat} }}}}"))
            .expect("a text")
            .text()
            .len(),
        303
    );
    let both = "true and ".repeat(300) + "false";
    assert_eq!(
        world
            .render(&format!("{{{{ {both} }}}}"))
            .expect("a boolean")
            .text(),
        "false"
    );
}
