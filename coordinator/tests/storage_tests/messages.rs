//! Dead letters and suspects.

use flotilla_coordinator::storage::{self, DeadLetter, DeadLetterRow, Resolution};
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

async fn only_letter(pool: &PgPool) -> DeadLetter {
    let rows = storage::list_dead_letters(pool, true, 10).await;
    let rows = rows.expect("they are listed");
    let [row] = rows.as_slice() else {
        panic!("{rows:?}");
    };
    let id = row["id"].as_i64().expect("a number");
    let loaded = storage::load_dead_letter(pool, id).await;
    let loaded = loaded.expect("it is loaded");
    loaded.expect("it exists")
}

#[sqlx::test(migrations = false)]
async fn a_dead_letter_that_was_resolved_and_comes_again_is_open_again(pool: PgPool) {
    drop(ready(&pool).await);
    let first = letter("m-1", b"{}");
    storage::insert_dead_letter(&pool, &first).await.unwrap();
    let loaded = only_letter(&pool).await;
    assert!(
        storage::resolve_dead_letter(&pool, &loaded, Resolution::Retried)
            .await
            .unwrap()
    );
    assert!(
        !storage::resolve_dead_letter(&pool, &loaded, Resolution::Discarded)
            .await
            .unwrap(),
        "it is resolved"
    );
    assert_eq!(
        storage::list_dead_letters(&pool, false, 10).await.unwrap(),
        [] as [serde_json::Value; 0]
    );
    let resolved = only_letter(&pool).await;
    assert_eq!(resolved.resolution.as_deref(), Some("retried"));

    let again = DeadLetterRow {
        reason: "rejected".to_owned(),
        ..first
    };
    assert!(storage::insert_dead_letter(&pool, &again).await.unwrap());
    let open = only_letter(&pool).await;
    assert_eq!(
        (open.id, open.resolution, open.row["reason"].as_str()),
        (loaded.id, None, Some("rejected"))
    );
    assert!(open.received_at > loaded.received_at);
    assert_eq!(
        storage::list_dead_letters(&pool, false, 10)
            .await
            .unwrap()
            .len(),
        1
    );
}

#[sqlx::test(migrations = false)]
async fn a_dead_letter_that_comes_again_while_it_is_retried_stays_open(pool: PgPool) {
    drop(ready(&pool).await);
    storage::insert_dead_letter(&pool, &letter("m-1", b"a\0"))
        .await
        .unwrap();
    let loaded = only_letter(&pool).await;
    assert_eq!(loaded.body, b"a\0");
    let is_new = storage::insert_dead_letter(&pool, &letter("m-1", b"a\0")).await;
    assert!(!is_new.unwrap());
    assert!(
        !storage::resolve_dead_letter(&pool, &loaded, Resolution::Retried)
            .await
            .unwrap()
    );
    assert_eq!(only_letter(&pool).await.resolution, None);
    assert_eq!(storage::load_dead_letter(&pool, 99).await.unwrap(), None);
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
