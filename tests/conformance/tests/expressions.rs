//! What expressions of the neutral form give on our engine, and what is an error.

use conformance::{Status, case};
use serde_json::{Value, json};

/// A workflow whose one output is the expression.
fn with(expression: &str, expect: &Value) -> conformance::Case {
    let source = format!(
        "
workflow:
  input: [number, {{text: abc}}]
  vars: [{{n: 3}}, {{s: ab}}, {{t: cd}}, {{l: [1, 2]}}, {{o: {{k: {{d-e: 5}}}}}}, {{nothing: null}}, {{no: false}}]
  tasks:
    t: {{}}
  output: [{{o: {expression}}}]
inputs: {{number: 7}}
expect: {expect}
"
    );
    case("case", &source)
}

#[test]
fn each_form_has_its_value() {
    for (expression, value) in [
        ("{$var: o.k.d-e}", json!(5)),
        ("{$var: l.1}", json!(2)),
        ("{$input: number}", json!(7)),
        ("{$input: null}", json!({"number": 7, "text": "abc"})),
        ("{$task: t.status}", json!("succeeded")),
        ("{$workflow_status: null}", json!("succeeded")),
        ("{$eq: [1, '1']}", json!(false)),
        ("{$eq: [{$var: n}, 3]}", json!(true)),
        ("{$ne: [{$var: n}, 3]}", json!(false)),
        ("{$lt: [{$var: n}, 4]}", json!(true)),
        ("{$le: [{$var: n}, 3]}", json!(true)),
        ("{$gt: [{$var: n}, 3]}", json!(false)),
        ("{$ge: [{$var: n}, 3]}", json!(true)),
        ("{$and: [true, {$var: no}]}", json!(false)),
        ("{$or: [{$var: no}, {$eq: [1, 1]}]}", json!(true)),
        ("{$not: {$var: no}}", json!(true)),
        ("{$not: [{$var: no}]}", json!(true)),
        ("{$in: [2, {$var: l}]}", json!(true)),
        ("{$in: [{$var: s}, [ab, x]]}", json!(true)),
        ("{$add: [{$var: n}, 1, {$var: n}]}", json!(7)),
        ("{$add: [{$var: n}, {$var: n}]}", json!(6)),
        ("{$add: [{$var: n}, 0.5]}", json!(3.5)),
        ("{$sub: [{$var: n}, {$sub: [3, 1]}]}", json!(1)),
        ("{$mul: [{$var: n}, {$var: n}, 2]}", json!(18)),
        ("{$mul: [{$add: [1, 1]}, {$var: n}]}", json!(6)),
        ("{$concat: [{$var: s}, '-', 1, true]}", json!("ab-1true")),
        ("{$concat: [{$var: n}]}", json!("3")),
        ("{$len: {$var: l}}", json!(2)),
        ("{$len: [{$var: s}]}", json!(2)),
        ("{$range: 3}", json!([0, 1, 2])),
        ("{$range: [1, 3]}", json!([1, 2])),
        ("{$zip: [{$var: l}, [a, b]]}", json!([[1, "a"], [2, "b"]])),
        ("{$append: [{$var: l}, [3]]}", json!([1, 2, [3]])),
        ("{$if: [{$var: no}, 1, {$var: s}]}", json!("ab")),
        ("{$default: [{$var: n}, 1]}", json!(3)),
        ("{$default: [{$var: no}, 1]}", json!(false)),
        ("{$default: [{$var: nothing}, 1]}", json!(1)),
        ("{$default: [{$var: o.x.y.z}, {$var: s}]}", json!("ab")),
        ("{$default: [{$var: s.x}, 1]}", json!(1)),
        ("{$default: [{$var: l.9}, none]}", json!("none")),
        ("{$default: [{$add: [{$var: o.gone}, 1]}, 0]}", json!(0)),
        ("{$default: [{$add: [{$var: n}, 1]}, 0]}", json!(4)),
        (
            "{a: [{$var: n}, {b: {$var: s}}], c: null}",
            json!({"a": [3, {"b": "ab"}], "c": null}),
        ),
        (
            "'{{ vars.n }} {% if %} {#'",
            json!("{{ vars.n }} {% if %} {#"),
        ),
        ("{$concat: ['}}', {$var: n}, '\"']}", json!("}}3\"")),
        ("{$eq: [{a: [{$var: n}]}, {a: [3]}]}", json!(true)),
    ] {
        let expect = json!({"status": "succeeded", "runs": {"t": 1}, "output": {"o": value}});
        let played = with(expression, &expect);
        assert_eq!(
            played.status,
            Status::Pass,
            "{expression}: {}\n{}",
            played.detail,
            played.workflows[0]
        );
    }
}

#[test]
fn what_makes_no_sense_is_an_expression_error() {
    for expression in [
        "{$var: o.gone}",
        "{$var: o.gone.deeper}",
        "{$var: s.inner}",
        "{$var: n.inner}",
        "{$var: nothing.inner}",
        "{$var: l.2}",
        "{$input: number.x}",
        "{$task: t.result.x}",
        "{$eq: [{$var: o.gone}, 1]}",
        "{$not: {$var: o.gone}}",
        "{$and: [true, {$var: o.gone}]}",
        "{$in: [1, {$var: o.gone}]}",
        "{$add: [{$var: s}, 1]}",
        "{$add: [{$var: s}, {$var: t}]}",
        "{$add: [{$var: l}, {$var: l}]}",
        "{$add: [{$var: nothing}, 1]}",
        "{$sub: [{$var: s}, 1]}",
        "{$mul: [{$var: s}, 3]}",
        "{$mul: [{$var: l}, 3]}",
        "{$len: {$var: n}}",
        "{$range: {$var: s}}",
        "{$append: [{$var: s}, 1]}",
        "{$concat: [a, {$var: o.gone}]}",
        "{$if: [true, {$var: o.gone}, 1]}",
        "{a: {b: [{$var: o.gone}]}}",
    ] {
        let errors = json!([{"category": "expression_error", "where": "output"}]);
        let expect = json!({"status": "failed", "runs": {"t": 1}, "errors": errors});
        let played = with(expression, &expect);
        assert_eq!(
            played.status,
            Status::Pass,
            "{expression}: {}\n{}",
            played.detail,
            played.workflows[0]
        );
    }
}

#[test]
fn an_expression_that_does_not_exist_is_said() {
    for expression in ["{$pow: [1, 2]}", "{$eq: [1]}", "{$if: [true]}"] {
        let played = with(expression, &json!({"status": "succeeded"}));
        assert_eq!(played.status, Status::Fail);
        assert!(
            played.detail.contains("no such expression"),
            "{}",
            played.detail
        );
    }
}
