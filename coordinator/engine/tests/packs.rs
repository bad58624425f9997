//! What a workflow gets of its pack: configuration and the defaults of actions, fixed by the hash.

use flotilla_engine::diagnostic::Diagnostic;
use flotilla_engine::pack::{ActionDefaults, Pack};
use flotilla_engine::{Workflow, compile, compile_in, compile_stored, read_action, read_pack};
use serde_json::{Value, json};

const WORKFLOW: &str = "
ref: shop.quote
tasks:
  - {name: a, action: shop.price, input: {currency: \"{{ pack.config.currency }}\"}}
  - {name: b, action: shop.price, pool: own, timeout: 5}
  - {name: c, action: core.noop}
";

fn pack(config: Value) -> Pack {
    let Value::Object(config) = config else {
        panic!("an object");
    };
    let defaults = |pool: &str| ActionDefaults {
        pool: Some(pool.to_owned()),
        timeout: Some(20.0),
    };
    Pack {
        config: Some(config),
        actions: [
            ("shop.price".to_owned(), defaults("pricing")),
            ("shop.other".to_owned(), defaults("elsewhere")),
        ]
        .into(),
        workflows: std::collections::BTreeSet::new(),
    }
}

fn pools(workflow: &Workflow) -> Vec<&str> {
    workflow.tasks.iter().map(|task| &*task.pool).collect()
}

fn timeouts(workflow: &Workflow) -> Vec<f64> {
    let timeouts = workflow.tasks.iter().map(|task| {
        let literal = task
            .timeout
            .as_ref()
            .and_then(|timeout| timeout.as_literal());
        literal.and_then(|json| json.text().parse().ok())
    });
    timeouts
        .map(|timeout| timeout.unwrap_or(f64::NAN))
        .collect()
}

#[test]
fn an_action_gives_its_tasks_their_pool_and_time_limit() {
    let compiled = compile_in(WORKFLOW, &pack(json!({"currency": "EUR"}))).expect("it is sound");
    assert_eq!(pools(&compiled.workflow), ["pricing", "own", "default"]);
    assert_eq!(timeouts(&compiled.workflow), [20.0, 5.0, 300.0]);
}

#[test]
fn an_action_that_names_a_workflow_is_a_sub_workflow() {
    const SOURCE: &str = "
ref: shop.parent
tasks:
  - {name: a, action: shop.quote}
  - {name: b, action: shop.price}
  - {name: c, action: shop.absent}
  - {name: d, type: action, action: shop.quote}
";
    let known = Pack {
        // An action that says something of itself is one, whatever else has its name.
        workflows: ["shop.quote", "shop.price", "shop.unused"]
            .map(str::to_owned)
            .into(),
        ..pack(json!({}))
    };
    let compiled = compile_in(SOURCE, &known).expect("it is sound");
    let kinds = |workflow: &Workflow| -> Vec<bool> {
        workflow.tasks.iter().map(|task| task.is_workflow).collect()
    };
    assert_eq!(kinds(&compiled.workflow), [true, false, false, false]);
    assert!(
        compiled.workflow.tasks[0].timeout.is_none(),
        "it has no limit of its own"
    );
    let stored = compiled.pack.as_deref().expect("there is something");
    assert!(
        stored.contains("shop.quote") && !stored.contains("shop.unused"),
        "{stored}"
    );
    let again = compile_stored(SOURCE, Some(stored)).expect("it is sound");
    assert_eq!(kinds(&again.workflow), kinds(&compiled.workflow));
    assert_eq!(again.workflow.hash, compiled.workflow.hash);
}

#[test]
fn a_child_that_does_not_exist_is_named_with_its_place_and_what_is_like_it() {
    let source = "ref: shop.parent\ntasks:\n  - {name: a, type: workflow, action: shop.qoute}\n";
    let compiled = compile(source).expect("what it names is not known here");
    assert!(compiled.unknown_children(&["shop.qoute"].into()).is_empty());
    let found = compiled.unknown_children(&["shop.quote", "shop.parent"].into());
    let [unknown] = found.as_slice() else {
        panic!("{found:?}");
    };
    assert_eq!((unknown.line, unknown.column), (3, 39));
    assert_eq!(unknown.path, "tasks[0].action");
    assert_eq!(unknown.message, "there is no workflow `shop.qoute`");
    assert_eq!(unknown.hint.as_deref(), Some("did you mean shop.quote?"));
}

#[test]
fn what_was_given_is_stored_and_gives_the_same_again() {
    let compiled = compile_in(WORKFLOW, &pack(json!({"currency": "EUR"}))).expect("it is sound");
    let stored = compiled.pack.as_deref().expect("there is something");
    let value: Value = serde_json::from_str(stored).expect("JSON");
    assert_eq!(
        value,
        json!({
            "config": {"currency": "EUR"},
            "actions": {"shop.price": {"pool": "pricing", "timeout": 20.0}}
        }),
        "actions that it does not name are left out"
    );
    let again = compile_stored(WORKFLOW, Some(stored)).expect("it is sound");
    assert_eq!(again.workflow.hash, compiled.workflow.hash);
    assert_eq!(again.pack.as_deref(), Some(stored));
    assert_eq!(pools(&again.workflow), pools(&compiled.workflow));
    let unreadable = compile_stored(WORKFLOW, Some("{\"config\": 1}")).expect_err("it is no pack");
    assert_eq!(unreadable[0].code, "not_supported");
}

#[test]
fn the_hash_covers_what_the_pack_gives() {
    let hash = |pack: &Pack| {
        compile_in(WORKFLOW, pack)
            .expect("it is sound")
            .workflow
            .hash
    };
    let euro = pack(json!({"currency": "EUR"}));
    let mut other_pool = euro.clone();
    let price = other_pool
        .actions
        .get_mut("shop.price")
        .expect("it is there");
    price.pool = Some("slow".to_owned());
    let mut other_action = euro.clone();
    other_action.actions.remove("shop.other");
    assert_ne!(hash(&euro), hash(&pack(json!({"currency": "USD"}))));
    assert_ne!(hash(&euro), hash(&other_pool));
    assert_eq!(hash(&euro), hash(&other_action));
    let alone = "ref: a.b\ntasks: [{name: x, action: core.noop}]\n";
    let nothing = compile_in(alone, &Pack::default()).expect("it is sound");
    assert_eq!(nothing.pack, None);
    assert_eq!(
        nothing.workflow.hash,
        compile(alone).expect("it is sound").workflow.hash
    );
}

/// Code and hint of the only mistake.
fn mistake(errors: &[Diagnostic]) -> (&str, Option<&str>) {
    assert_eq!(errors.len(), 1, "{errors:#?}");
    (errors[0].code, errors[0].hint.as_deref())
}

#[test]
fn configuration_that_is_not_there_is_an_error() {
    let misspelt = compile_in(WORKFLOW, &pack(json!({"curency": "EUR"}))).expect_err("a mistake");
    assert_eq!(
        mistake(&misspelt),
        ("unknown_config", Some("did you mean curency?"))
    );
    let alone = compile(WORKFLOW).expect_err("it lies in no pack");
    let (code, hint) = mistake(&alone);
    assert_eq!(code, "unknown_config");
    assert!(
        hint.is_some_and(|hint| hint.contains("pack.yaml")),
        "{hint:?}"
    );
    let other = WORKFLOW.replace("pack.config.currency", "pack.ref");
    let other = compile_in(&other, &pack(json!({}))).expect_err("a mistake");
    assert_eq!(mistake(&other), ("unknown_name", Some("write pack.config")));
    let optional = WORKFLOW.replace("pack.config.currency", "pack.config.x | default('EUR')");
    assert!(compile_in(&optional, &pack(json!({}))).is_ok());
}

#[test]
fn the_files_of_a_pack_are_read_with_all_their_mistakes() {
    let read = read_pack("ref: shop\nlabel: Shop\nconfig: {a: {b: [1, \"{{ x }}\"]}}\n");
    let read = read.expect("it is sound");
    assert_eq!(read.reference, "shop");
    assert_eq!(
        Value::Object(read.config),
        json!({"a": {"b": [1, "{{ x }}"]}})
    );
    let errors =
        read_pack("ref: my shop\nconfg: {}\nconfig: {\"a b\": 1}\n").expect_err("mistakes");
    let codes: Vec<&str> = errors.iter().map(|error| error.code).collect();
    assert_eq!(codes, ["unknown_key", "invalid_name", "invalid_name"]);

    let read = read_action("ref: shop.price\ndescription: Costs\npool: p\ntimeout: 1.5\n");
    let read = read.expect("it is sound");
    assert_eq!(read.defaults.pool.as_deref(), Some("p"));
    assert_eq!(read.defaults.timeout, Some(1.5));
    assert_eq!(read.description.as_deref(), Some("Costs"));
    assert!(read.parameters.is_null());
    let errors = read_action("ref: price\npool: a b\ntimeout: 0\nparameters: {x: {type: text}}\n");
    let errors = errors.expect_err("mistakes");
    let codes: Vec<&str> = errors.iter().map(|error| error.code).collect();
    assert_eq!(codes.len(), 4, "{errors:#?}");
    assert_eq!(
        read_action("label: x\n").expect_err("no ref")[0].code,
        "missing_key"
    );
}

#[test]
fn a_pool_has_a_name_that_a_worker_can_have() {
    for (name, is_sound) in [
        ("gpu.large", true),
        (&"p".repeat(100), true),
        (&"p".repeat(101), false),
        ("a b", false),
        ("", false),
    ] {
        let task = format!("ref: a.b\ntasks: [{{name: x, action: core.noop, pool: '{name}'}}]\n");
        assert_eq!(compile(&task).is_ok(), is_sound, "of a task: {name}");
        let action = format!("ref: shop.price\npool: '{name}'\n");
        assert_eq!(
            read_action(&action).is_ok(),
            is_sound,
            "of an action: {name}"
        );
    }
}
