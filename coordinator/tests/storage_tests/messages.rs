//! Dead letters and suspects.

use flotilla_coordinator::storage::{self, DeadLetterRow};
use flotilla_turn::Mark;
use serde_json::json;
use sqlx::PgPool;
use uuid::Uuid;

use crate::support::{count, id, ready, task_id};

fn letter(key: &str, body: &[u8]) -> DeadLetterRow {
    DeadLetterRow {
        key: key.to_owned(),
        queue: "flotilla.start".to_owned(),
        reason: "not_json".to_owned(),
        message_id: Some("m-1".to_owned()),
        execution_id: Some(id(1)),
        task_id: Some(task_id(id(1), 1)),
        properties: json!({"headers": {"flotilla-version": "1"}}),
        body: body.to_vec(),
    }
}

#[sqlx::test(migrations = false)]
async fn a_dead_letter_is_recorded_once(pool: PgPool) {
    let mut conn = ready(&pool).await;
    assert!(
        storage::insert_dead_letter(&pool, &letter("m-1", b"{}"))
            .await
            .unwrap()
    );
    assert!(
        !storage::insert_dead_letter(&pool, &letter("m-1", b"{}"))
            .await
            .unwrap()
    );
    assert!(
        storage::insert_dead_letter(&pool, &letter("m-2", b"{}"))
            .await
            .unwrap()
    );
    assert_eq!(count(&mut conn, "workflow_dead_letter").await, 2);
}

#[sqlx::test(migrations = false)]
async fn any_dead_letter_can_be_recorded(pool: PgPool) {
    let mut conn = ready(&pool).await;
    let mut odd = letter("k\0ey", b"a\0\xff");
    odd.message_id = Some("m\0".to_owned());
    odd.properties = json!({"a\0": ["\0", 1]});
    assert!(storage::insert_dead_letter(&pool, &odd).await.unwrap());
    let row: (String, Option<Vec<u8>>, serde_json::Value) =
        sqlx::query_as("SELECT body, body_bytes, properties FROM workflow_dead_letter")
            .fetch_one(&mut conn)
            .await
            .unwrap();
    assert_eq!(row.0, "a\u{fffd}\u{fffd}");
    assert_eq!(row.1.as_deref(), Some(&b"a\0\xff"[..]));
    assert_eq!(row.2, json!({"a\u{fffd}": ["\u{fffd}", 1]}));
    assert!(
        storage::insert_dead_letter(&pool, &letter("plain", b"text"))
            .await
            .unwrap()
    );
    let exact = "workflow_dead_letter WHERE body = 'text' AND body_bytes IS NULL";
    assert_eq!(count(&mut conn, exact).await, 1);
}

#[sqlx::test(migrations = false)]
async fn a_suspect_is_known_until_it_is_cleared(pool: PgPool) {
    drop(ready(&pool).await);
    let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
    for id in [one, two] {
        storage::register_coordinator(&pool, id, "one of two")
            .await
            .unwrap();
    }
    let mark = async |owner| {
        let marked = storage::mark_suspect(&pool, "m-1", owner, 3.0).await;
        marked.unwrap()
    };
    assert_eq!(mark(one).await, Mark::Ours);
    assert_eq!(
        mark(one).await,
        Mark::Ours,
        "it lives, so it was not killed"
    );
    assert_eq!(mark(two).await, Mark::OfTheLiving);
    storage::clear_suspect(&pool, "m-1", two).await.unwrap();
    assert_eq!(mark(two).await, Mark::OfTheLiving, "only its own mark");
    storage::clear_suspect(&pool, "m-1", one).await.unwrap();
    assert_eq!(mark(two).await, Mark::Ours);
    sqlx::query("UPDATE coordinator SET seen_at = now() - interval '4 s' WHERE id = $1")
        .bind(two)
        .execute(&pool)
        .await
        .unwrap();
    assert_eq!(mark(one).await, Mark::OfTheDead);
    storage::release_partitions(&pool, one, &[], true)
        .await
        .unwrap();
    assert_eq!(mark(two).await, Mark::Ours, "a clean stop is no death");
}
