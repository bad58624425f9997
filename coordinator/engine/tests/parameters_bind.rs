//! Parameters: what a start must bring, and what it becomes.

mod scope;

use flotilla_engine::compile;
use flotilla_engine::parameters::BindError;
use scope::World;
use serde_json::value::RawValue;

fn bind(parameters: &str, given: &str) -> Result<String, BindError> {
    let source = format!("ref: a.b\nparameters: {parameters}\ntasks: [{{name: a}}]");
    let workflow = compile(&source)
        .unwrap_or_else(|found| panic!("{found:#?}"))
        .workflow;
    let given = RawValue::from_string(given.to_owned()).expect("JSON");
    World::new().with_scope(|scope| {
        workflow
            .parameters
            .bind(Some(&given), scope.system)
            .map(|json| json.text().to_owned())
    })
}

#[track_caller]
fn problems(parameters: &str, given: &str, expected: &[(&str, &str)]) {
    match bind(parameters, given) {
        Err(BindError::Invalid(found)) => {
            let found: Vec<_> = found
                .iter()
                .map(|p| (p.name.as_str(), p.message.as_str()))
                .collect();
            assert_eq!(found, expected, "{given}");
        }
        other => panic!("{given}: {other:?}"),
    }
}

const FLAT: &str = "{id: {type: integer, required: true}, name: {type: string, default: none given}, \
     url: {default: 'https://x/{{ parameters.id }}/{{ system.workflow }}'}, mode: {enum: [fast, slow]}}";

#[test]
fn fills_in_defaults_in_order() {
    let bound = bind(FLAT, "{\"id\": 7}").expect("bound");
    assert_eq!(
        bound,
        r#"{"id":7,"name":"none given","url":"https://x/7/a.b"}"#
    );
    let bound = bind(
        FLAT,
        r#"{"mode": "fast", "id": 123456789012345678901234567890, "url": null}"#,
    );
    assert_eq!(
        bound.expect("bound"),
        r#"{"id":123456789012345678901234567890,"name":"none given","url":null,"mode":"fast"}"#
    );
}

#[test]
fn lists_all_problems() {
    problems(
        FLAT,
        r#"{"nmae": 1, "name": null, "mode": "x"}"#,
        &[
            ("nmae", "is not a parameter of this workflow"),
            ("id", "is missing"),
            ("mode", r#"value is not one of "fast" or "slow""#),
            ("name", r#"value is not of type "string""#),
        ],
    );
    problems(
        FLAT,
        r#"{"id": "7"}"#,
        &[("id", r#"value is not of type "integer""#)],
    );
    problems(FLAT, "[1]", &[("", "the parameters are an object")]);
    problems(
        "{}",
        r#"{"x": 1}"#,
        &[("x", "is not a parameter of this workflow")],
    );
}

#[test]
fn takes_a_json_schema() {
    let schema = "{type: object, required: [id], properties: {id: {type: [integer, 'null']}, \
                  tags: {type: array, items: {type: string, pattern: '^a'}, default: []}}}";
    assert_eq!(
        bind(schema, "{\"id\": null}").expect("bound"),
        r#"{"id":null,"tags":[]}"#
    );
    problems(
        schema,
        r#"{"tags": ["a", "b"], "x": 1}"#,
        &[
            ("x", "is not a parameter of this workflow"),
            ("id", "is missing"),
            ("tags", r#"value does not match "^a" at 1"#),
        ],
    );
    let open = "{type: object, properties: {}, additionalProperties: {type: integer}}";
    assert_eq!(bind(open, "{\"x\": 1}").expect("bound"), r#"{"x":1}"#);
}

#[test]
fn a_default_that_fails_is_no_refusal() {
    let parameters = "{a: {type: object}, b: {default: '{{ parameters.a.x }}', type: integer}}";
    match bind(parameters, "{\"a\": {}}") {
        Err(BindError::Default(error)) => {
            assert_eq!(error.message, "`parameters.a.x` does not exist");
        }
        other => panic!("{other:?}"),
    }
    match bind(parameters, "{\"a\": {\"x\": \"no number\"}}") {
        Err(BindError::Default(error)) => assert!(error.message.contains("not valid"), "{error}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn refuses_wrong_schemas() {
    for (parameters, expected) in [
        (
            "{a: string}",
            "wrong_type parameters.a Some(\"write {type: string}\")",
        ),
        (
            "{a: {type: strnig}}",
            "invalid_value parameters.a.type Some(\"did you mean string?\")",
        ),
        (
            "{a: {typ: string}}",
            "unknown_key parameters.a.typ Some(\"did you mean type?\")",
        ),
        (
            "{a: {required: 1}}",
            "wrong_type parameters.a.required None",
        ),
        (
            "{a: {type: integer, default: x}}",
            "wrong_type parameters.a.default None",
        ),
        (
            "{a: {default: '{{ parameters.b }}'}, b: {}}",
            "unknown_parameter parameters.a.default None",
        ),
        (
            "{a: {default: '{{ vars.b }}'}}",
            "unknown_variable parameters.a.default None",
        ),
        (
            "{type: object, properties: {a: {type: 5}}}",
            "invalid_schema parameters None",
        ),
        (
            "{type: object, properties: {a: {$ref: 'https://example.com/x'}}}",
            "invalid_schema parameters None",
        ),
        ("[a]", "wrong_type parameters None"),
    ] {
        let source = format!("ref: a.b\nparameters: {parameters}\ntasks: [{{name: a}}]");
        let found = compile(&source).expect_err(parameters);
        let found: Vec<_> = found
            .iter()
            .map(|found| format!("{} {} {:?}", found.code, found.path, found.hint))
            .collect();
        assert_eq!(found, [expected], "{parameters}");
    }
}
