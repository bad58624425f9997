//! A secret on a whole fleet: it reaches the action, and is in no table, no message and no log.

use flotilla_tests::{Fleet, Start, invariants};
use serde_json::json;

const CANARY: &str = "canary-7f3a-\"quoted\"";

#[tokio::test]
async fn a_secret_reaches_the_action_and_nothing_else() {
    let fleet = Fleet::new().await;
    let coordinator = fleet.coordinator().await;
    let worker = fleet
        .spawn(
            &["worker", "--allow-shell"],
            &[("FLOTILLA_SECRET_CANARY", CANARY)],
        )
        .ready()
        .await;
    let mut client = fleet.client().await;
    let finished = client.run(&Start::of("tests.secrets")).await;
    assert_eq!(finished["status"], "succeeded", "{finished}");
    let said = &finished["output"]["said"];
    let expected = format!("***\n{}", CANARY.len());
    assert_eq!(said["stdout"].as_str().map(str::trim), Some(&*expected));
    let failed = Start::of("tests.secrets").parameters(&json!({"fails": true}));
    let failed = client.run(&failed).await;
    assert_eq!(failed["status"], "failed", "{failed}");
    let (said, told) = (worker.log(), coordinator.log());
    worker.stop().await;
    coordinator.stop().await;
    let seen = [finished.to_string(), failed.to_string(), said, told].concat();
    assert!(!seen.contains("canary-7f3a"), "{seen}");
    let tables: Vec<(String,)> = fleet
        .database
        .rows("SELECT quote_ident(table_name) FROM information_schema.tables WHERE table_schema = 'public' AND table_type = 'BASE TABLE'")
        .await;
    assert!(tables.len() > 10, "{tables:?}");
    for (table,) in tables {
        let rows = format!("SELECT count(*) FROM {table} AS t WHERE t::text LIKE '%canary-7f3a%'");
        assert_eq!(fleet.database.number(&rows).await, 0, "in {table}");
    }
    let masked = "SELECT count(*) FROM workflow_task_log WHERE text LIKE '%***%'";
    assert!(fleet.database.number(masked).await >= 3);
    invariants::check_at_rest(&fleet.database).await;
}

#[tokio::test]
async fn a_worker_without_the_secret_says_what_to_set() {
    let fleet = Fleet::new().await;
    let coordinator = fleet.coordinator().await;
    let worker = fleet.worker_with(&["--allow-shell"]).await;
    let mut client = fleet.client().await;
    let finished = client.run(&Start::of("tests.secrets")).await;
    assert_eq!(finished["errors"][0]["kind"], "unknown_secret");
    let message = finished["errors"][0]["message"].as_str();
    assert!(message.is_some_and(|message| message.contains("FLOTILLA_SECRET_CANARY")));
    worker.stop().await;
    coordinator.stop().await;
    invariants::check_at_rest(&fleet.database).await;
}
