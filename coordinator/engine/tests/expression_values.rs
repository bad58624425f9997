//! What templates give: types are kept, text is JSON's, data is never code.

mod scope;

use flotilla_engine::Json;
use scope::World;

#[track_caller]
fn gives(world: &World, template: &str, expected: &str) {
    match world.render(template) {
        Ok(json) => assert_eq!(json.text(), expected, "{template}"),
        Err(error) => panic!("{template}: {error}"),
    }
}

#[track_caller]
fn fails(world: &World, template: &str, expected: &str) {
    match world.render(template) {
        Ok(json) => panic!("{template} gives {json:?}"),
        Err(error) => {
            assert_eq!(error.message, expected, "{template}");
            assert!(!error.limit, "{template}");
        }
    }
}

#[test]
fn keeps_types() {
    let mut world = World::new();
    for value in [
        "1",
        "-1",
        "1.0",
        "1.5",
        "true",
        "false",
        "null",
        "\"a\"",
        "[]",
        "{}",
        "\"\"",
        "0",
        "9223372036854775807",
        "-9223372036854775808",
        "18446744073709551615",
        "123456789012345678901234567890",
        "[1,2.0,null,{\"z\":1,\"a\":[true]}]",
        "1e+300",
        "\"\\u0000\\\"\\\\ü\\n\"",
    ] {
        world.var("v", value);
        gives(&world, "{{ vars.v }}", value);
        gives(&world, "{{vars['v']}}", value);
        gives(&world, "{{ [vars.v] }}", &format!("[{value}]"));
        gives(&world, "{{ {'k': vars.v} }}", &format!("{{\"k\":{value}}}"));
    }
    world.var("v", "{\"z\":1,\"a\":2}");
    gives(&world, "{{ vars }}", "{\"v\":{\"z\":1,\"a\":2}}");
}

#[test]
fn writes_text_as_json_does() {
    let mut world = World::new();
    world.var("v", "[true,null,1.0,\"a\",{\"k\":false}]");
    for (template, expected) in [
        ("x{{ true }}", "x true"),
        ("x{{ none }}", "x null"),
        ("x{{ null }}", "x null"),
        ("x{{ 1 }}", "x 1"),
        ("x{{ 1.0 }}", "x 1.0"),
        ("x{{ 'a' }}", "x a"),
        ("x{{ vars.v }}", "x [true,null,1.0,\"a\",{\"k\":false}]"),
        ("x{{ true ~ none ~ 1 ~ [true] }}", "x truenull1[true]"),
        ("x{{ [true, none, 'a'] | join(',') }}", "x true,null,a"),
        ("x{{ ','.join([true, 1]) }}", "x true,1"),
        ("x{{ true | string }}", "x true"),
        ("x{% if vars.v %}{{ none }}{% endif %}", "x null"),
    ] {
        let expected = serde_json::to_string(&expected.replace("x ", "x")).expect("JSON");
        gives(&world, template, &expected);
    }
    gives(&world, "{{ 1 }} ", "\"1 \"");
    gives(&world, "a {{- 1 -}} b", "\"a1b\"");
    gives(&world, "a{# no #}b", "\"ab\"");
    gives(&world, "{% raw %}{{ x }}{% endraw %}", "\"{{ x }}\"");
    gives(
        &world,
        "{% for i in [1, 2] if i > 1 %}<{{ i }}{{ loop.last }}>{% else %}-{% endfor %}\n",
        "\"<2true>\\n\"",
    );
    gives(
        &world,
        "{% set a = 2 %}{{ a * 3 }}{% raw %}{% x %}{% endraw %}",
        "\"6{% x %}\"",
    );
}

#[test]
fn never_evaluates_data() {
    let corpus = [
        "{{ 1 + 1 }}",
        "{% raw %}",
        "{# c #}",
        "\"",
        "'",
        "\\",
        "\\\"",
        "}}",
        "{{",
        "%}",
        "$x",
        "${x}",
        "\n",
        "\u{0}",
        "\u{2028}",
        "</script>",
        "a\": 1, \"b",
        "\"}, {\"x\": \"",
        "' or '1'='1",
        "{\"a\": 1}",
        "[1]",
        "null",
        "true",
        "1",
        "- x",
        "&a *a",
        "!!int 1",
        "🦀",
        "{{ vars.secret }}",
        "{{ secret('x') }}",
    ];
    for payload in corpus {
        let mut world = World::new();
        let json = serde_json::to_string(payload).expect("JSON");
        world.var("v", &json);
        world.var("secret", "\"hidden\"");
        gives(&world, "{{ vars.v }}", &json);
        let inside = serde_json::to_string(&format!("<{payload}>")).expect("JSON");
        gives(&world, "<{{ vars.v }}>", &inside);
        gives(&world, "{% if true %}<{{ vars.v }}>{% endif %}", &inside);
        gives(&world, "{{ '<' ~ vars.v ~ '>' }}", &inside);
        gives(
            &world,
            "{{ {'k': [vars.v]} }}",
            &format!("{{\"k\":[{json}]}}"),
        );
        let input = world.input("{a: \"{{ vars.v }}\", b: [\"x{{ vars.v }}\"], c: 1}");
        let expected = format!(
            "{{\"a\":{json},\"b\":[{}],\"c\":1}}",
            serde_json::to_string(&format!("x{payload}")).expect("JSON")
        );
        assert_eq!(input.text(), expected);
    }
}

#[test]
fn is_strict_about_names() {
    let mut world = World::new();
    world.var("v", "{\"a\":[1],\"n\":null}");
    world.var("gone", "1");
    world.forget("gone");
    fails(&world, "{{ vars.gone }}", "`vars.gone` does not exist");
    fails(&world, "{{ vars.v.b }}", "`vars.v.b` does not exist");
    fails(&world, "x{{ vars.v.b }}", "`vars.v.b` does not exist");
    fails(&world, "{{ vars.v.b.c }}", "`vars.v.b` does not exist");
    fails(&world, "{{ vars.v.a[1] }}", "`vars.v.a.1` does not exist");
    fails(&world, "{{ [vars.v.b] }}", "`vars.v.b` does not exist");
    fails(&world, "{{ {'k': vars.v.b} }}", "`vars.v.b` does not exist");
    fails(&world, "{{ vars.v.b + 1 }}", "`vars.v.b` does not exist");
    fails(&world, "{{ vars.v.b ~ 'x' }}", "`vars.v.b` does not exist");
    fails(&world, "{{ vars.v.b == 1 }}", "`vars.v.b` does not exist");
    fails(&world, "{{ not vars.v.b }}", "`vars.v.b` does not exist");
    fails(
        &world,
        "{{ 1 if vars.v.b else 2 }}",
        "`vars.v.b` does not exist",
    );
    fails(
        &world,
        "{% if vars.v.b %}{% endif %}",
        "`vars.v.b` does not exist",
    );
    fails(
        &world,
        "{{ 1 if false }}",
        "a value that is not defined is used",
    );
    gives(&world, "{{ vars.v.b | default(7) }}", "7");
    gives(&world, "{{ vars.gone | default([]) }}", "[]");
    gives(&world, "{{ vars.v.b is defined }}", "false");
    gives(
        &world,
        "{{ vars.v.a is defined and vars.v.n is none }}",
        "true",
    );
    gives(&world, "{{ vars.get('gone', 3) }}", "3");
    gives(&world, "{{ vars.v.n }}", "null");
}

/// Expressions and what they give.
const COMPUTED: [(&str, &str); 59] = [
    ("1 + 2 * 3", "7"),
    ("(1 + 2) * 3", "9"),
    ("7 - 2 - 1", "4"),
    ("2 ** 3 ** 2", "64"),
    ("-2 ** 2", "4"),
    ("7 // 2", "3"),
    ("7 / 2", "3.5"),
    ("4 / 2", "2.0"),
    ("-7 % 3", "2"),
    ("1.5 + 1", "2.5"),
    ("parameters.n * parameters.n", "25"),
    ("parameters.n + parameters.n + parameters.n", "15"),
    ("parameters.n - 1 + parameters.n", "9"),
    ("'a' ~ 'b' ~ 1 + 2 | string", "\"ab12\""),
    ("parameters.s + 'c'", "\"Abc\""),
    ("parameters.s * 3", "\"AbAbAb\""),
    ("[0] * 3 + [1]", "[0,0,0,1]"),
    ("vars.a + vars.a", "[3,1,2,3,1,2]"),
    ("1 < 2 < 3 and not 3 < 2", "true"),
    ("1 in vars.a and 9 not in vars.a", "true"),
    ("'b' in parameters.s", "true"),
    ("'x' in vars.o", "true"),
    ("vars.a == [3, 1, 2]", "true"),
    ("'1' == 1", "false"),
    ("vars.a | sort | first", "1"),
    ("vars.a | sum", "6"),
    ("vars.a | map('string') | join('-')", "\"3-1-2\""),
    ("vars.a[1:] | list", "[1,2]"),
    ("vars.a[-1]", "2"),
    ("vars.a | length if vars.a else 0", "3"),
    ("vars.o.y.z", "2"),
    ("vars.o['y']['z']", "2"),
    ("merge(vars.o, {'x': 9})", "{\"x\":9,\"y\":{\"z\":2}}"),
    (
        "vars.o | merge({'w': 0})",
        "{\"x\":1,\"y\":{\"z\":2},\"w\":0}",
    ),
    ("'[1, {\"a\": null}]' | from_json", "[1,{\"a\":null}]"),
    (
        "vars.o | to_json",
        "\"{\\\"x\\\":1,\\\"y\\\":{\\\"z\\\":2}}\"",
    ),
    ("range(3)", "[0,1,2]"),
    ("range(5, 0, -2) | list", "[5,3,1]"),
    ("parameters.s.upper() ~ parameters.s | lower", "\"ABab\""),
    ("' x '.strip()", "\"x\""),
    ("'a-b'.split('-')", "[\"a\",\"b\"]"),
    ("'%05.2f' | format(3.14159)", "\"03.14\""),
    ("vars.o.items() | list", "[[\"x\",1],[\"y\",{\"z\":2}]]"),
    ("'abc' | replace('b', 'x')", "\"axc\""),
    (
        "[1, 2, 3, 4, 5] | batch(2, 0) | list",
        "[[1,2],[3,4],[5,0]]",
    ),
    ("[1, 2, 3, 4, 5] | slice(2) | list", "[[1,2,3],[4,5]]"),
    ("'a\\nb' | indent(2)", "\"a\\n  b\""),
    ("not not 1", "true"),
    ("not not not 1", "false"),
    ("4 is divisibleby 2", "true"),
    (
        "parameters.n is not none and parameters.n is number",
        "true",
    ),
    ("{'a': {'b': 1}}['a']", "{\"b\":1}"),
    ("(1, 2)", "[1,2]"),
    ("'it''s'", "\"its\""),
    ("\"a\\\"b\"", "\"a\\\"b\""),
    ("{1: 'x'}", "{\"1\":\"x\"}"),
    ("[{'a': 1}, {'a': 2}] | map(attribute='a') | list", "[1,2]"),
    ("[1, 2, 3] | select('odd') | list", "[1,3]"),
    ("vars.a | max - vars.a | min", "2"),
];

#[test]
fn computes() {
    let mut world = World::new();
    world.var("a", "[3,1,2]");
    world.var("o", "{\"x\":1,\"y\":{\"z\":2}}");
    world.parameters("{\"n\":5,\"s\":\"Ab\"}");
    for (expression, expected) in COMPUTED {
        gives(&world, &format!("{{{{ {expression} }}}}"), expected);
    }
}

#[test]
fn says_what_went_wrong() {
    let mut world = World::new();
    world.var("v", "{\"a\":1}");
    fails(
        &world,
        "{{ vars.v + 1 }}",
        "tried to use + operator on unsupported types map and number",
    );
    fails(&world, "{{ vars.v + vars.v }}", "map + map is not defined");
    fails(&world, "{{ 'x' * vars.v }}", "string * map is not defined");
    fails(&world, "{{ 1e308 * 10 }}", "the number inf is not JSON");
    fails(
        &world,
        "{{ 9223372036854775807 * 9223372036854775807 * 9223372036854775807 }}",
        "85070591730234615847396907784232501249 * 9223372036854775807 is too large",
    );
    fails(
        &world,
        "{{ 'x' | from_json }}",
        "the text is not JSON: expected value at line 1 column 1",
    );
    fails(
        &world,
        "{{ vars.v.a() }}",
        "value of type number is not callable",
    );
    fails(
        &world,
        "{{ vars.v | int }}",
        "cannot convert map to integer",
    );
    let error = world.render("a {{ vars.v.b }} c").expect_err("missing");
    assert_eq!(error.expression, "vars.v.b");
}

#[test]
fn sees_the_scope() {
    let mut world = World::new();
    world.ran("fetch-it", "{\"body\":[1]}");
    gives(&world, "{{ task['fetch-it'].result.body[0] }}", "1");
    gives(
        &world,
        "{{ task['fetch-it'].status ~ task['fetch-it'].visits }}",
        "\"succeeded1\"",
    );
    gives(&world, "{{ task['fetch-it'].error }}", "null");
    fails(
        &world,
        "{{ task['other'].result }}",
        "`task.other` does not exist",
    );
    gives(&world, "{{ system.workflow ~ system.visit }}", "\"a.b1\"");
    gives(&world, "{{ system.parent_id }}", "null");
    fails(
        &world,
        "{{ system.attempt }}",
        "`system.attempt` does not exist",
    );
    fails(
        &world,
        "{{ result() }}",
        "result(), error(), status() and their kin exist only where a task has ended",
    );
    world.ended("{\"body\":2}");
    gives(&world, "{{ result().body + 1 }}", "3");
    gives(
        &world,
        "{{ [status(), succeeded(), failed(), timed_out(), error()] }}",
        "[\"succeeded\",true,false,false,null]",
    );
}

#[test]
fn json_is_cheap_to_share() {
    let json = Json::parse("{\"a\": [1, 2]}".to_owned()).expect("JSON");
    let copy = json.clone();
    assert_eq!(json.value().to_string(), copy.value().to_string());
}

/// A path alone is looked up, one within another expression is read by the engine.
#[test]
fn a_path_alone_is_what_it_is_in_an_expression() {
    let mut world = World::new();
    let deep =
        "{\"a\":{\"b\":[1,{\"c\":null}],\"items\":2,\"0\":3},\"s\":\"x\",\"n\":1.0,\"none\":null}";
    world.var("v", deep);
    world.var("status", "\"mine\"");
    world.parameters("{\"n\":[5],\"s\":{\"vars\":7}}");
    world.ran("other", deep);
    let mut found = found_alike(&world);
    world.ended(deep);
    found += found_alike(&world);
    assert!(found > 40, "{found}");
}

const ROOTS: &str = "vars parameters task system item index batch pack result() error() status() \
    succeeded() failed() result __end 'x'";
const STEPS: &str =
    "v n s a b c 0 none items keys vars other result status workflow visit attempt gone";

/// Compares all paths of one and two steps; how many lead to something.
fn found_alike(world: &World) -> usize {
    let mut found = 0;
    for root in ROOTS.split_whitespace() {
        for first in STEPS.split(' ') {
            found += usize::from(is_found_alike(world, &format!("{root}.{first}")));
            for second in STEPS.split(' ') {
                found += usize::from(is_found_alike(world, &format!("{root}.{first}.{second}")));
            }
        }
    }
    found
}

fn is_found_alike(world: &World, path: &str) -> bool {
    let gives = |template: String| {
        let json = world.render_accepted(&template)?;
        Some(json.map_err(|error| error.message))
    };
    let alone = gives(format!("{{{{ {path} }}}}"));
    let within = gives(format!("{{{{ {path} if true else 0 }}}}"));
    assert_eq!(alone, within, "{path}");
    matches!(alone, Some(Ok(_)))
}
