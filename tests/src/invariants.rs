//! What must hold of the rows of any fleet: what `flotilla check` looks at, and what more can be said
//! of a fleet at rest.

use flotilla_coordinator::storage::check::{self, Since};
use flotilla_coordinator::storage::connect_read_only;

use crate::database::Database;

/// What must hold besides once everything has finished and all coordinators have stopped cleanly.
const AT_REST: [(&str, &str); 3] = [
    (
        "every execution has finished",
        "SELECT execution_id::text, status::text FROM workflow_execution_summary WHERE finished_at IS NULL",
    ),
    (
        "the outbox is empty",
        "SELECT partition::text, concat('turn ', turn) FROM workflow_outbox o",
    ),
    (
        "no partition is owned",
        "SELECT id::text, concat('owned by ', owner) FROM coordinator_partition
         WHERE owner IS NOT NULL AND lease_expires_at > now()",
    ),
];

/// Checks what must hold at any time.
pub async fn check(database: &Database) {
    assert_none(&always(database).await);
}

/// Checks what must hold after a clean stop with nothing left to do.
pub async fn check_at_rest(database: &Database) {
    // At once: a lease that was not released runs out by itself.
    let mut found = Vec::new();
    for (rule, query) in AT_REST {
        let rows: Vec<(String, String)> = database.rows(query).await;
        let rows = rows.into_iter();
        found.extend(rows.map(|(subject, detail)| format!("{rule}: {subject}: {detail}")));
    }
    found.extend(always(database).await);
    assert_none(&found);
}

async fn always(database: &Database) -> Vec<String> {
    let connecting = connect_read_only(&database.url).await;
    let mut connection = connecting.expect("Postgres answers");
    let checked = check::check(&mut connection, Since::Ever).await;
    let findings = checked.expect("the rows can be checked").findings;
    let lines = findings.iter().map(|finding| {
        let execution = finding.execution_id.map(|id| id.to_string());
        let execution = execution.unwrap_or_default();
        format!("{}: {execution}: {}", finding.invariant, finding.detail)
    });
    lines.collect()
}

fn assert_none(found: &[String]) {
    let told: Vec<&String> = found.iter().take(20).collect();
    assert!(
        found.is_empty(),
        "{} invariants do not hold:\n{told:#?}",
        found.len()
    );
}
