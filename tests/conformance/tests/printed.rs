//! Every workflow that a case is translated into is printed and read again without loss.

use std::path::Path;

use conformance::run;
use flotilla_engine::definition::print;
use flotilla_engine::yaml::{Node, literal, parse};
use flotilla_engine::{Workflow, compile};

fn tree(source: &str) -> Node {
    parse(source).unwrap_or_else(|found| panic!("{found:?}\n{source}"))
}

/// All parts but the hash, which is that of the text.
fn parts(workflow: &Workflow) -> String {
    let text = format!("{workflow:?}");
    text.replace(&format!("{:?}", workflow.hash), "")
}

#[test]
fn every_translated_workflow_survives() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let report = run(&folder).expect("the cases can be read");
    let workflows = report.cases.iter().flat_map(|case| &case.workflows);
    let mut accepted = 0;
    for source in workflows {
        let printed = print(&tree(source));
        let again = tree(&printed);
        let before = literal(&tree(source).value);
        assert_eq!(literal(&again.value).text(), before.text(), "{printed}");
        if let Ok(compiled) = compile(source) {
            let again = compile(&printed).unwrap_or_else(|found| panic!("{found:#?}\n{printed}"));
            assert_eq!(parts(&again.workflow), parts(&compiled.workflow));
            accepted += 1;
        }
    }
    assert!(accepted >= 50, "{accepted}");
}
