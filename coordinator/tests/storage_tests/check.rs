//! `check`: clean on a sound history, and each invariant is seen to be violated where something
//! was planted that violates it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use flotilla_coordinator::storage::check::{self, Checked, Since};
use flotilla_coordinator::storage::{self, DeadLetterRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, PgPool};

use crate::history::{self, DISPATCHED, FAILED, PARENT, RUNNING, SUCCEEDED, sql_id};
use crate::planted::PLANTED;
use crate::support::id;

async fn sound(pool: &PgPool) -> PgConnection {
    history::run(pool).await;
    let letter = DeadLetterRow {
        key: "key".to_owned(),
        queue: "flotilla.start".to_owned(),
        reason: "not_json".to_owned(),
        message_id: None,
        execution_id: Some(id(RUNNING)),
        task_id: None,
        properties: serde_json::json!({}),
        body: Vec::new(),
    };
    storage::insert_dead_letter(pool, &letter)
        .await
        .expect("a dead letter is recorded");
    read_only(pool).await
}

async fn read_only(pool: &PgPool) -> PgConnection {
    let url = pool.connect_options().to_url_lossy();
    storage::connect_read_only(url.as_str())
        .await
        .expect("it connects")
}

async fn all(conn: &mut PgConnection) -> Checked {
    check::check(conn, Since::Ever).await.expect("it checks")
}

async fn statements(conn: &mut PgConnection) -> Checked {
    let checked = check::check_statements(conn, Since::Ever).await;
    checked.expect("it checks")
}

async fn execute(conn: &mut PgConnection, statement: &str) {
    let mut sql = statement.to_owned();
    for (name, number) in [
        ("$SUCCEEDED", SUCCEEDED),
        ("$RUNNING", RUNNING),
        ("$FAILED", FAILED),
        ("$DISPATCHED", DISPATCHED),
        ("$PARENT", PARENT),
        ("$NOBODY", 99),
    ] {
        sql = sql.replace(name, &sql_id(number));
    }
    sqlx::raw_sql(AssertSqlSafe(sql.clone()))
        .execute(conn)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
}

#[sqlx::test(migrations = false)]
async fn each_invariant_sees_what_violates_it(pool: PgPool) {
    let mut conn = sound(&pool).await;
    assert_eq!(all(&mut conn).await.findings, []);
    let mut blind = BTreeMap::new();
    for (name, planted) in PLANTED {
        // It is undone, constraints included; `check` runs in the middle of it.
        execute(&mut conn, "BEGIN READ WRITE").await;
        execute(&mut conn, planted).await;
        let checked = statements(&mut conn).await;
        execute(&mut conn, "ROLLBACK").await;
        let found: BTreeSet<_> = checked
            .findings
            .iter()
            .map(|finding| finding.invariant)
            .collect();
        if !found.contains(name) {
            blind.insert(*name, found);
        }
    }
    assert_eq!(blind, BTreeMap::new(), "what else was seen in their place");
    assert_eq!(
        all(&mut conn).await.findings,
        [],
        "all of it has been undone"
    );
}

#[test]
fn every_invariant_has_something_planted() {
    // The fold has a test of its own, since it cannot look into a transaction of somebody else.
    let planted = PLANTED.iter().map(|(name, _)| *name).chain(["fold"]);
    let names: Vec<&str> = check::invariants()
        .map(|invariant| invariant.name)
        .collect();
    let unique: BTreeSet<&str> = names.iter().copied().collect();
    assert_eq!(names.len(), unique.len(), "names are unique");
    let planted: BTreeSet<&str> = planted.collect();
    assert_eq!(planted, unique);
    for invariant in check::invariants() {
        assert!(
            invariant.rule.len() > 20 && !invariant.rule.ends_with('.'),
            "{}",
            invariant.rule
        );
    }
}

#[sqlx::test(migrations = false)]
async fn the_fold_sees_what_no_statement_can(pool: PgPool) {
    let mut conn = sound(&pool).await;
    assert_eq!(all(&mut conn).await, statements(&mut conn).await);
    execute(
        &mut pool.acquire().await.expect("a connection"),
        "UPDATE workflow_task SET input = '{\"seen\": 2}' \
         WHERE execution_id = $SUCCEEDED AND task = 'a'",
    )
    .await;
    assert_eq!(statements(&mut conn).await.findings, []);
    let findings = all(&mut conn).await.findings;
    let found: Vec<_> = findings
        .iter()
        .map(|finding| (finding.invariant, finding.execution_id))
        .collect();
    assert_eq!(found, [("fold", Some(id(SUCCEEDED)))], "{findings:?}");
    assert!(findings[0].detail.contains("input"), "{findings:?}");
}

#[sqlx::test(migrations = false)]
async fn the_fold_says_what_it_leaves_out(pool: PgPool) {
    let mut conn = sound(&pool).await;
    let mut writing = pool.acquire().await.expect("a connection");
    execute(
        &mut writing,
        "UPDATE workflow_execution SET last_seq = 200001 WHERE execution_id = $SUCCEEDED; \
         UPDATE workflow_transition SET from_status = 'nowhere' WHERE execution_id = $SUCCEEDED; \
         UPDATE workflow_task SET arrived = '{-1}' WHERE execution_id = $FAILED AND run = 1",
    )
    .await;
    let checked = all(&mut conn).await;
    assert!(
        checked.notes[0].contains("too large"),
        "{:?}",
        checked.notes
    );
    let folded = checked.findings.iter();
    let folded: Vec<_> = folded
        .filter(|finding| finding.invariant == "fold")
        .map(|finding| (finding.execution_id, finding.detail.as_str()))
        .collect();
    let problem = "cannot read arrived of workflow_task: a number is negative";
    assert_eq!(folded, [(Some(id(FAILED)), problem)]);
}

#[sqlx::test(migrations = false)]
async fn only_executions_of_the_time_are_looked_at(pool: PgPool) {
    let mut conn = sound(&pool).await;
    sqlx::query(AssertSqlSafe(format!(
        "UPDATE workflow_execution SET last_seq = last_seq + 1, \
             created_at = created_at - interval '3 hours' WHERE execution_id = {}",
        sql_id(FAILED)
    )))
    .execute(&pool)
    .await
    .unwrap();
    let since = |checked: Checked| {
        let gaps = checked.findings.into_iter();
        let gaps = gaps.filter(|finding| finding.invariant == "log_without_gap");
        (checked.executions, gaps.count())
    };
    let ever = check::check(&mut conn, Since::Ever).await.unwrap();
    assert_eq!(since(ever), (6, 1));
    let ago = Since::Ago(Duration::from_secs(7200));
    let late = check::check(&mut conn, ago).await.unwrap();
    assert_eq!(since(late), (5, 0));
    let time = Since::Time(Utc::now() - TimeDelta::hours(4));
    let early = check::check(&mut conn, time).await.unwrap();
    assert_eq!(since(early), (6, 1));
}

#[sqlx::test(migrations = false)]
async fn findings_are_bounded_and_more_are_told_of(pool: PgPool) {
    let mut conn = sound(&pool).await;
    execute(
        &mut pool.acquire().await.unwrap(),
        "INSERT INTO workflow_start (execution_id, workflow, partition) \
             SELECT gen_random_uuid(), 'demo.gone', 0 FROM generate_series(1, 5000)",
    )
    .await;
    let checked = all(&mut conn).await;
    let found: BTreeSet<_> = checked
        .findings
        .iter()
        .map(|finding| (finding.invariant, finding.execution_id))
        .collect();
    assert_eq!(found.len(), 100, "each of them is of another execution");
    assert!(checked.notes[0].contains("starts_have_their_execution"));
}

#[sqlx::test(migrations = false)]
async fn a_check_cannot_write(pool: PgPool) {
    storage::migrate(&pool, None).await.unwrap();
    let mut conn = read_only(&pool).await;
    let written = sqlx::query("DELETE FROM workflow_start")
        .execute(&mut conn)
        .await;
    let error = written.expect_err("it is refused");
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    assert_eq!(code.as_deref(), Some("25006"));
    conn.close().await.unwrap();
}
