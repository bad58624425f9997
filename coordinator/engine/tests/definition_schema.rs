//! The JSON Schema of the language and the reader know the same keys and words, and the schema takes
//! what the reader takes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use flotilla_engine::compile;
use flotilla_engine::definition::schema;
use flotilla_engine::yaml::{literal, parse};
use jsonschema::Validator;
use serde_json::{Value, json};

fn validator() -> Validator {
    let schema = schema();
    let options = jsonschema::options().should_validate_formats(false);
    options
        .build(&schema)
        .unwrap_or_else(|error| panic!("{error}"))
}

/// What the schema finds in a definition.
fn problems(source: &str) -> Vec<String> {
    let node = parse(source).unwrap_or_else(|found| panic!("{found:?}"));
    let value = serde_json::from_str(literal(&node.value).text()).expect("it is JSON");
    let found = validator();
    let found = found.iter_errors(&value);
    found
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect()
}

/// The codes of what the reader finds.
fn found(source: &str) -> Vec<String> {
    let found = compile(source).err().unwrap_or_default();
    found
        .iter()
        .map(|found| format!("{} {}", found.code, found.path))
        .collect()
}

/// A definition with `what` at a task, as JSON.
fn with_task(what: &Value) -> String {
    let mut task = json!({"name": "a", "action": "core.noop"});
    for (key, value) in what.as_object().expect("an object") {
        task[key] = value.clone();
    }
    json!({"ref": "a.b", "tasks": [task, {"name": "b"}]}).to_string()
}

/// A definition in which `object` (of the schema) has the key.
fn with_key(object: &str, key: &str) -> String {
    let inner = json!({key: null});
    match object {
        "" => json!({"ref": "a.b", "tasks": [], key: null}).to_string(),
        "task" => with_task(&inner),
        "retry" => with_task(&json!({"retry": inner})),
        "entry" => with_task(&json!({"next": [inner]})),
        "branch" => with_task(&json!({"decision": [inner]})),
        "parameter" => json!({"ref": "a.b", "parameters": {"p": inner}, "tasks": []}).to_string(),
        "output" => json!({"ref": "a.b", "output": {"p": inner}, "tasks": []}).to_string(),
        other => panic!("{other} is no object of the schema"),
    }
}

fn is_unknown(object: &str, key: &str) -> bool {
    let found = found(&with_key(object, key));
    found.iter().any(|found| found.starts_with("unknown_key"))
}

/// The objects of the schema with their keys.
fn objects() -> Vec<(String, BTreeSet<String>)> {
    let schema = schema();
    let keys = |object: &Value| -> Option<BTreeSet<String>> {
        let keys = object["properties"].as_object()?.keys();
        Some(keys.cloned().collect())
    };
    let inner = schema["$defs"].as_object().expect("there are parts");
    let inner = inner
        .iter()
        .filter_map(|(name, object)| Some((name.clone(), keys(object)?)));
    let top = (String::new(), keys(&schema).expect("there are keys"));
    std::iter::once(top).chain(inner).collect()
}

#[test]
fn a_key_of_the_schema_is_known_to_the_reader() {
    let objects = objects();
    assert_eq!(objects.len(), 7);
    for (object, keys) in objects {
        for key in keys {
            assert!(!is_unknown(&object, &key), "`{key}` of `{object}`");
        }
        assert!(is_unknown(&object, "no_such_key"), "{object}");
    }
}

#[test]
fn every_word_of_a_closed_list_is_taken_by_the_reader() {
    let schema = schema();
    let mut seen = 0;
    for (object, keys) in objects() {
        for key in keys {
            let pointer = match object.as_str() {
                "" => format!("/properties/{key}"),
                name => format!("/$defs/{name}/properties/{key}"),
            };
            let shape = schema.pointer(&pointer).expect("it is there");
            for word in shape["enum"].as_array().into_iter().flatten() {
                seen += 1;
                let source = with_key(&object, &key).replace("null", &word.to_string());
                let found = found(&source);
                let is_refused = found.iter().any(|found| found.starts_with("invalid_value"));
                assert!(!is_refused, "{word} of `{key}` of `{object}`: {found:?}");
                let source = source.replace(&word.to_string(), "\"no_such_word\"");
                assert!(!problems(&source).is_empty(), "{source}");
            }
        }
    }
    assert!(seen >= 30, "{seen}");
}

fn yaml_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("it can be read") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.unwrap_or_default();
        if path.is_dir() {
            files.extend(yaml_files(&path));
        } else if name.ends_with(".yaml") && !name.ends_with(".test.yaml") && name != "pack.yaml" {
            files.push(path);
        }
    }
    files
}

#[test]
fn the_schema_takes_every_workflow_of_the_examples() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut files = Vec::new();
    for folder in [
        "examples",
        "tests/workflows",
        "coordinator/engine/tests/definitions",
    ] {
        files.extend(yaml_files(&root.join(folder)));
    }
    assert!(files.len() >= 15, "{files:?}");
    for file in files {
        let source = std::fs::read_to_string(&file).expect("it can be read");
        assert_eq!(
            problems(&source),
            Vec::<String>::new(),
            "{}",
            file.display()
        );
    }
}

/// What both take, and what both refuse.
#[test]
fn the_schema_and_the_reader_agree() {
    let taken = [
        json!({"input": null, "timeout": null, "total_timeout": null, "heartbeat": null}),
        json!({"input": "{{ parameters }}", "timeout": "{{ 1 + 1 }}", "delay": 0}),
        json!({"when": true, "retry": {"count": 0, "jitter": 1, "when": "{{ failed() }}"}}),
        json!({"with_items": [1], "concurrency": 1, "tolerate": "10%", "batch_size": 2}),
        json!({"publish": ["a", {"b": 1, "c": "{{ result() }}"}], "on_success": []}),
        json!({"decision": [{"when": "{{ true }}"}, {"default": true, "next": ["noop"]}]}),
        json!({"next": [{}, {"when": "{{ failed() }}", "do": "b"}]}),
    ];
    for task in taken {
        let source = with_task(&task);
        assert_eq!(found(&source), Vec::<String>::new(), "{source}");
        assert_eq!(problems(&source), Vec::<String>::new(), "{source}");
    }
    let refused = [
        json!({"name": "fail"}),
        json!({"name": "a b"}),
        json!({"action": "noop"}),
        json!({"input": [1]}),
        json!({"input": "text"}),
        json!({"when": "parameters.x"}),
        json!({"timeout": 0}),
        json!({"delay": -1}),
        json!({"delay": null}),
        json!({"heartbeat": 0.5}),
        json!({"max_redeliveries": -1}),
        json!({"retry": {"delay": 1}}),
        json!({"retry": {"count": 1, "jitter": 2}}),
        json!({"retry": {"count": 1, "factor": 0.5, "backoff": "exponential"}}),
        json!({"join": 0}),
        json!({"join": "any"}),
        json!({"rule": "all_done"}),
        json!({"needs": []}),
        json!({"batch_size": 1}),
        json!({"with_items": {"a": 1}}),
        json!({"with_items": [1], "concurrency": 0}),
        json!({"with_items": [1], "tolerate": "ten"}),
        json!({"on_success": ["b", "b"]}),
        json!({"publish": {"a": 1}}),
        json!({"publish": [{}]}),
        json!({"decision": []}),
        json!({"decision": [{"next": "b"}]}),
        json!({"decision": [{"when": "{{ true }}", "default": true}]}),
        json!({"decision": [{"default": false}]}),
        json!({"next": [], "on_success": "b"}),
        json!({"ignore_failure": 1}),
    ];
    for task in refused {
        let source = with_task(&task);
        assert!(!found(&source).is_empty(), "the reader takes {source}");
        assert!(!problems(&source).is_empty(), "the schema takes {source}");
    }
}

#[test]
fn parameters_are_taken_in_either_form() {
    let source = |parameters: Value| {
        json!({"ref": "a.b", "parameters": parameters, "tasks": [{"name": "a"}]}).to_string()
    };
    let taken = [
        json!({"a": {"type": "integer", "default": 1}, "type": {"type": "string"}}),
        json!({"type": "object", "properties": {"a": {"type": "string", "secret": true}}}),
        json!({"properties": {"a": {"minimum": 1}}, "required": ["a"]}),
    ];
    for parameters in taken {
        let source = source(parameters);
        assert_eq!(found(&source), Vec::<String>::new(), "{source}");
        assert_eq!(problems(&source), Vec::<String>::new(), "{source}");
    }
    let refused = [
        json!({"a": "string"}),
        json!({"a": {"typ": "string"}}),
        json!({"a b": {}}),
        json!({"type": "object", "properties": {"a": {"type": "text"}}}),
    ];
    for parameters in refused {
        let source = source(parameters);
        assert!(!found(&source).is_empty(), "the reader takes {source}");
        assert!(!problems(&source).is_empty(), "the schema takes {source}");
    }
}
