//! `docs/reference.md` says what is so: its generated parts are those of this program and schema, and
//! what was written by hand names all that there is.
//!
//! `FLOTILLA_RENEW=1 cargo test -p flotilla-tests --test reference` writes the generated parts anew.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use flotilla_tests::Fleet;
use flotilla_tests::binary::{flotilla, root};

const RENEW: &str = "FLOTILLA_RENEW=1 cargo test -p flotilla-tests --test reference";

fn page() -> PathBuf {
    root().join("docs/reference.md")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The page with another text between the marks of a part.
fn with_part(page: &str, name: &str, text: &str) -> String {
    let (begin, end) = (
        format!("<!-- begin {name} -->\n"),
        format!("<!-- end {name} -->"),
    );
    let from = page.find(&begin).expect("the part begins") + begin.len();
    let to = from + page[from..].find(&end).expect("the part ends");
    format!("{}{text}\n{}", &page[..from], &page[to..])
}

#[tokio::test]
async fn the_page_is_not_stale() {
    let fleet = Fleet::new().await;
    let old = read(&page());
    let mut new = with_part(&old, "commands", &commands());
    new = with_part(&new, "kinds", &kinds());
    new = with_part(&new, "tables", &tables(&fleet).await);
    if std::env::var_os("FLOTILLA_RENEW").is_some() {
        std::fs::write(page(), &new).expect("it can be written");
        return;
    }
    let differs = old.lines().zip(new.lines()).find(|(old, new)| old != new);
    assert_eq!(
        old, new,
        "docs/reference.md is stale, first at {differs:?}; renew it with\n  {RENEW}"
    );
}

/// The help of every command.
fn commands() -> String {
    let mut text = vec![block("flotilla", &help(&[]))];
    for name in below(&help(&[])) {
        let own = help(&[&name]);
        text.push(block(&format!("flotilla {name}"), &own));
        for part in below(&own) {
            text.push(block(
                &format!("flotilla {name} {part}"),
                &help(&[&name, &part]),
            ));
        }
    }
    text.join("\n")
}

fn block(title: &str, help: &str) -> String {
    format!("### {title}\n\n```text\n{}\n```\n", help.trim_end())
}

fn help(command: &[&str]) -> String {
    let output = Command::new(flotilla())
        .args(command)
        .arg("--help")
        .env_remove("DATABASE_URL")
        .env_remove("AMQP_URL")
        .output()
        .expect("the binary runs");
    assert!(output.status.success(), "{command:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    lines.join("\n")
}

/// The commands that a help lists.
fn below(help: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let lines = lines.take_while(|line| !line.is_empty());
    // What a line goes on with is further to the right.
    let names = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

/// The kinds that the engine gives, with what their constants are explained with.
fn kinds() -> String {
    let source = read(&root().join("coordinator/engine/src/execution/failure.rs"));
    let from = source.find("pub mod kind {").expect("the kinds are there");
    let mut text = vec!["| kind | meaning |".to_owned(), "| --- | --- |".to_owned()];
    let mut meaning = Vec::new();
    for line in source[from..].lines().take_while(|line| *line != "}") {
        let line = line.trim();
        if let Some(comment) = line.strip_prefix("/// ") {
            meaning.push(comment);
        } else if let Some(kind) = line.strip_prefix("pub const ") {
            let kind = kind.split('"').nth(1).expect("a text");
            text.push(format!("| `{kind}` | {} |", cell(&meaning.join(" "))));
            meaning.clear();
        }
    }
    assert!(text.len() > 8, "{text:?}");
    text.join("\n")
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// All types, views and tables, as their comments explain them.
async fn tables(fleet: &Fleet) -> String {
    let types: Vec<(String, String, String)> = fleet
        .database
        .rows(
            "SELECT t.typname::text, obj_description(t.oid, 'pg_type'), \
                 string_agg(e.enumlabel, ', ' ORDER BY e.enumsortorder) \
             FROM pg_type AS t JOIN pg_enum AS e ON e.enumtypid = t.oid \
             WHERE t.typnamespace = 'public'::regnamespace GROUP BY t.oid, t.typname ORDER BY 1",
        )
        .await;
    let relations: Vec<(String, String)> = fleet
        .database
        .rows(
            "SELECT c.relname::text, obj_description(c.oid, 'pg_class') FROM pg_class AS c \
             WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v', 'p') \
                 AND c.relname <> '_sqlx_migrations' \
             ORDER BY c.relkind = 'v' DESC, c.relname",
        )
        .await;
    let columns: Vec<(String, String, String, String)> = fleet
        .database
        .rows(
            "SELECT c.relname::text, a.attname::text, format_type(a.atttypid, a.atttypmod), \
                 col_description(c.oid, a.attnum) \
             FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid \
             WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'v', 'p') \
                 AND c.relname <> '_sqlx_migrations' \
                 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY c.relname, a.attnum",
        )
        .await;
    let mut text = vec![
        "| type | values | meaning |".to_owned(),
        "| --- | --- | --- |".to_owned(),
    ];
    for (name, meaning, values) in types {
        text.push(format!("| `{name}` | {values} | {} |", cell(&meaning)));
    }
    for (relation, meaning) in relations {
        text.push(format!("\n### {relation}\n\n{meaning}\n"));
        text.push("| column | type | meaning |\n| --- | --- | --- |".to_owned());
        for (_, name, kind, meaning) in columns.iter().filter(|(of, ..)| *of == relation) {
            text.push(format!("| `{name}` | {kind} | {} |", cell(meaning)));
        }
    }
    text.join("\n")
}

#[test]
fn built_in_actions_and_their_errors_are_named() {
    let page = read(&page());
    let actions = read(&root().join("worker/src/builtin/mod.rs"));
    let actions: BTreeSet<&str> = actions
        .split('"')
        .filter(|text| text.starts_with("core."))
        .collect();
    assert!(actions.len() >= 6, "{actions:?}");
    let mut kinds = BTreeSet::new();
    for file in sources(&root().join("worker/src")) {
        let text = read(&file);
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for call in ["::fatal(\"", "::retryable(\""] {
            let found = code.split(call).skip(1);
            kinds.extend(found.filter_map(|rest| Some(rest.split('"').next()?.to_owned())));
        }
    }
    let starts = read(&root().join("coordinator/turn/src/starts.rs"));
    let starts = starts.split("kind: \"").skip(1);
    kinds.extend(starts.filter_map(|rest| Some(rest.split('"').next()?.to_owned())));
    assert!(kinds.len() >= 8, "{kinds:?}");
    let named = actions
        .iter()
        .copied()
        .chain(kinds.iter().map(String::as_str));
    let missing: Vec<&str> = named
        .filter(|name| !page.contains(&format!("`{name}`")))
        .collect();
    assert_eq!(
        missing,
        Vec::<&str>::new(),
        "docs/reference.md does not name them"
    );
}

/// All Rust files below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("it can be read") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}
