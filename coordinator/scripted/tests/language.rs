//! The examples of `docs/language.md`: each is played, as it is and reloaded after each event, and what
//! the page says of it is seen.

use flotilla_scripted::{Reload, WorkflowSource, library, open, play_with};

/// Examples that the page has at least.
const LEAST: usize = 15;

fn examples() -> Vec<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/language.md");
    let page = std::fs::read_to_string(path).expect("the page is there");
    let blocks = page.split("```yaml\n").skip(1);
    let examples = blocks.map(|rest| rest.split("```").next().unwrap_or_default().to_owned());
    examples.collect()
}

#[test]
fn each_example_does_what_the_page_says() {
    let examples = examples();
    assert!(examples.len() >= LEAST, "{}", examples.len());
    let mut wrong = Vec::new();
    for example in &examples {
        let file = open(example).unwrap_or_else(|errors| panic!("{example}: {errors:#?}"));
        let refused = example.strip_prefix("# refused: ");
        let compiled = match (&file.workflow, refused) {
            (WorkflowSource::Inline(Ok(compiled)), None) => compiled,
            (WorkflowSource::Inline(Err(found)), Some(code)) => {
                let code = code.lines().next().unwrap_or_default();
                assert_eq!(found[0].code, code, "{example}");
                continue;
            }
            (found, _) => panic!("{example}: {found:?}"),
        };
        let all = file.children.iter().filter_map(|source| match source {
            WorkflowSource::Inline(Ok(child)) => Some(child),
            WorkflowSource::Inline(Err(_)) | WorkflowSource::File(_) => None,
        });
        let (children, unknown) = library(std::iter::once(compiled).chain(all));
        assert!(unknown.is_empty(), "{example}: {unknown:#?}");
        let cases = file.cases_with(&compiled.workflow, &children);
        let cases = cases.unwrap_or_else(|errors| panic!("{example}: {errors:#?}"));
        assert!(
            example.contains("\nexpect:") && cases.len() == 1,
            "{example}"
        );
        for reload in [Reload::AtRestarts, Reload::AfterEachEvent] {
            let seen = play_with(&compiled.workflow, &cases[0].script, reload);
            let found = cases[0].expectation.compare(&seen);
            wrong.extend(
                found
                    .iter()
                    .map(|one| format!("{}: {one}", compiled.workflow.reference)),
            );
        }
    }
    assert_eq!(wrong, [] as [String; 0]);
}

#[test]
fn each_field_of_the_language_has_an_example() {
    let schema = flotilla_engine::definition::schema();
    let examples = examples().concat();
    let mut fields: std::collections::BTreeSet<&str> = std::collections::BTreeSet::new();
    for part in [
        "/properties",
        "/$defs/task/properties",
        "/$defs/retry/properties",
    ] {
        let keys = schema.pointer(part).and_then(serde_json::Value::as_object);
        fields.extend(keys.expect(part).keys().map(String::as_str));
    }
    assert!(fields.len() > 40, "{fields:?}");
    let has_example = |field: &&&str| {
        let spellings = ["\n", " ", "{", "[", "("].map(|before| format!("{before}{field}:"));
        spellings.iter().any(|spelling| examples.contains(spelling))
    };
    let missing: Vec<_> = fields.iter().filter(|field| !has_example(field)).collect();
    assert!(missing.is_empty(), "no example has {missing:?}");
}
