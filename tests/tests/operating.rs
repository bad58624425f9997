//! The queries of `docs/operating.md` are what they are said to be: each runs, on a fleet that has
//! something to show, and shows it.

use flotilla_tests::binary::root;
use flotilla_tests::{Fleet, LIMIT, Start, wait_until};
use serde_json::json;
use sqlx::AssertSqlSafe;

/// What stands in the page in place of an execution.
const VARIABLE: &str = ":'id'";

/// The statements of the page, each with the heading that it stands under.
fn queries() -> Vec<(String, String)> {
    let path = root().join("docs/operating.md");
    let page = std::fs::read_to_string(&path).expect("the page is there");
    let mut heading = String::new();
    let mut queries: Vec<(String, String)> = Vec::new();
    let mut statement: Option<String> = None;
    for line in page.lines() {
        if let Some(text) = line.strip_prefix("## ") {
            text.clone_into(&mut heading);
        }
        match (line, &mut statement) {
            ("```sql", _) => statement = Some(String::new()),
            ("```", Some(sql)) => {
                let all = sql
                    .split(";\n")
                    .map(str::trim)
                    .filter(|sql| !sql.is_empty());
                queries.extend(all.map(|sql| (heading.clone(), sql.to_owned())));
                statement = None;
            }
            (line, Some(sql)) => {
                sql.push_str(line);
                sql.push('\n');
            }
            (_, None) => {}
        }
    }
    queries
}

#[tokio::test]
async fn every_query_of_the_page_has_something_to_show() {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator().await;
    let _worker = fleet.worker().await;
    let mut client = fleet.client().await;
    let order = json!({"order_id": 7, "amount": 10});
    client
        .run(&Start::of("examples.order").parameters(&order))
        .await;
    let batches = Start::of("tests.batches");
    client.run(&batches).await;
    let family = Start::of("tests.family").parameters(&json!({"count": 1}));
    client.run(&family).await;
    let unknown = Start::of("tests.nothing").silent();
    client.start(&unknown).await;
    let failing = json!({"count": -1, "concurrency": 0});
    let failing = Start::of("tests.items").parameters(&failing);
    client.run(&failing).await;
    let sleeping = Start::of("tests.sleep").parameters(&json!({"seconds": 60, "timeout": 90}));
    client.start(&sleeping.silent()).await;
    fleet.database.tasks("running", 1).await;
    let dead = "SELECT count(*) FROM workflow_dead_letter";
    wait_until("the start is refused", LIMIT, async || {
        fleet.database.number(dead).await == 1
    })
    .await;

    let queries = queries();
    assert_eq!(queries.len(), 13, "{queries:#?}");
    for (heading, sql) in queries {
        let shown = if sql.contains("parent_execution_id") {
            &family
        } else {
            &batches
        };
        let sql = sql.replace(VARIABLE, &format!("'{}'", shown.execution_id()));
        let rows = sqlx::raw_sql(AssertSqlSafe(sql.clone()))
            .fetch_all(&fleet.database.pool)
            .await
            .unwrap_or_else(|error| panic!("{heading}: {error}\n{sql}"));
        // Nothing was ignored or logged in a fleet that nobody has disturbed.
        let may_be_empty = sql.contains("workflow_ignored_message") || sql.contains("task_log");
        assert!(
            may_be_empty || !rows.is_empty(),
            "{heading} shows nothing:\n{sql}"
        );
    }
}
