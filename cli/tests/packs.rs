//! Pack folders without servers: `validate` and `test` read them as a whole.

mod binary;

use std::path::{Path, PathBuf};

use serde_json::Value;

use binary::{flotilla, stdout};

/// A pack in a folder of its own.
fn pack(name: &str, files: &[(&str, &str)]) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("flotilla-{name}-{}", std::process::id()));
    for (file, text) in files {
        let path = folder.join(file);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a temporary folder");
        std::fs::write(path, text).expect("it can be written");
    }
    folder
}

/// File and code of each error.
fn errors(folder: &Path) -> Vec<(String, String)> {
    let output = flotilla(&["validate", folder.to_str().expect("text"), "-o", "json"]);
    let document: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    let errors = document["errors"].as_array().expect("a list").iter();
    let errors: Vec<_> = errors
        .map(|error| {
            let file = Path::new(error["file"].as_str().expect("a text"));
            let name = file
                .file_name()
                .and_then(|name| name.to_str())
                .expect("a name");
            (
                name.to_owned(),
                error["code"].as_str().expect("a text").to_owned(),
            )
        })
        .collect();
    assert_eq!(
        output.status.code(),
        Some(if errors.is_empty() { 0 } else { 2 })
    );
    errors
}

#[test]
fn a_pack_is_read_as_a_whole() {
    for path in ["files/shop", "files/shop/pack.yaml"] {
        let output = flotilla(&["validate", path]);
        assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
        assert_eq!(stdout(&output), "3 files are valid\n", "{path}");
    }
    // A workflow alone finds its pack.
    let output = flotilla(&["validate", "files/shop/workflows/quote.yaml"]);
    assert_eq!(stdout(&output), "1 file is valid\n");
    let output = flotilla(&["test", "files/shop/workflows/quote.test.yaml"]);
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
}

#[test]
fn mistakes_are_found_in_every_file_of_a_pack() {
    let flow =
        "ref: shop.a\ntasks: [{name: x, action: shop.y, input: {v: \"{{ pack.config.k }}\"}}]\n";
    let action = "ref: shop.y\npool: fast\n";
    let good = [
        ("pack.yaml", "ref: shop\nconfig: {k: 1}\n"),
        ("actions/y.yaml", action),
        ("workflows/deep/a.yaml", flow),
    ];
    assert_eq!(errors(&pack("good", &good)), []);
    let is = |name: &str, code: &str| vec![(name.to_owned(), code.to_owned())];
    for (name, change, expected) in [
        (
            "config",
            ("pack.yaml", "ref: shop\nconfig: {}\n"),
            is("a.yaml", "unknown_config"),
        ),
        (
            "key",
            ("pack.yaml", "ref: shop\nconfig: {k: 1}\nx: 1\n"),
            Vec::new(),
        ),
        (
            "action",
            ("actions/y.yaml", "ref: other.y\n"),
            is("y.yaml", "wrong_pack"),
        ),
        (
            "flow",
            ("workflows/b.yaml", "ref: shopper.b\ntasks: [{name: x}]\n"),
            is("b.yaml", "wrong_pack"),
        ),
        (
            "pool",
            ("actions/y.yaml", "ref: shop.y\npool: a b\n"),
            is("y.yaml", "invalid_name"),
        ),
    ] {
        let folder = pack(name, &[&good[..], &[change]].concat());
        let found = errors(&folder);
        if name == "key" {
            // Without a head that can be read nothing is known of its configuration.
            let of_head = ("pack.yaml".to_owned(), "unknown_key".to_owned());
            assert!(found.contains(&of_head), "{found:?}");
        } else {
            assert_eq!(found, expected, "{name}");
        }
    }
}

#[test]
fn a_child_of_another_file_is_a_warning_that_says_what_to_do() {
    let parent = "ref: shop.a\ntasks: [{name: x, type: workflow, action: post.deliver}]\n";
    let folder = pack("child", &[("a.yaml", parent)]);
    let output = flotilla(&["validate", folder.to_str().expect("text")]);
    assert_eq!(output.status.code(), Some(0));
    let text = stdout(&output);
    assert!(
        text.contains(
            "warning[unknown_workflow]: there is no workflow `post.deliver` among these files"
        ) && text.contains("= help: name its file in the same command, or register it before"),
        "{text}"
    );
}

#[test]
fn a_pack_that_holds_nothing_is_refused() {
    let folder = pack("empty", &[("pack.yaml", "ref: shop\n")]);
    let output = flotilla(&["validate", folder.to_str().expect("text")]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("holds nothing") && said.contains("workflows/"),
        "{said}"
    );
}
