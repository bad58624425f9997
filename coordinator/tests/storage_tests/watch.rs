//! What somebody who watches asks for.

use flotilla_coordinator::storage::{self, NEWS_LIMIT};
use flotilla_engine::DefinitionHash;
use sqlx::PgPool;

use crate::support::{HASH, committed, definition, id, ready, start_turn, task_id};

#[sqlx::test(migrations = false)]
async fn only_what_is_new_is_read(pool: PgPool) {
    let mut conn = ready(&pool).await;
    let execution = id(1);
    assert_eq!(storage::load_news(&pool, execution, 0).await.unwrap(), None);
    committed(&mut conn, &start_turn(1, execution)).await;
    let news = storage::load_news(&pool, execution, 0).await.unwrap();
    let news = news.expect("it exists");
    assert_eq!(news.execution["status"], "running");
    let last = news.execution["last_seq"].as_i64().expect("a number");
    assert_eq!(i64::try_from(news.transitions.len()).unwrap(), last);
    assert!(last < NEWS_LIMIT);
    let named = news
        .transitions
        .iter()
        .filter_map(|transition| transition["task_id"].as_str());
    for name in named {
        assert!(
            news.tasks.iter().any(|task| task["task_id"] == name),
            "{name}"
        );
    }
    let nothing = storage::load_news(&pool, execution, last).await.unwrap();
    let nothing = nothing.expect("it exists");
    assert_eq!((nothing.transitions.len(), nothing.tasks.len()), (0, 0));
}

#[sqlx::test(migrations = false)]
async fn live_tasks_come_with_what_they_may_wait_for(pool: PgPool) {
    let mut conn = ready(&pool).await;
    let execution = id(1);
    assert_eq!(storage::load_live(&pool, execution).await.unwrap(), None);
    committed(&mut conn, &start_turn(1, execution)).await;
    let live = storage::load_live(&pool, execution).await.unwrap();
    let live = live.expect("it exists");
    assert_eq!((live.status.as_str(), live.definition), ("running", HASH));
    assert!(live.is_owned, "the tests hold the partitions");
    let first = task_id(execution, 1);
    let task = live.tasks.iter().find(|task| task.task_id == first);
    assert!(task.is_some(), "{live:?}");
    let summary = storage::summary(&pool, execution).await.unwrap();
    assert_eq!(summary.expect("it exists")["status"], "running");
    assert_eq!(storage::summary(&pool, id(2)).await.unwrap(), None);
}

#[sqlx::test(migrations = false)]
async fn workflows_are_named_once(pool: PgPool) {
    drop(ready(&pool).await);
    for (number, name) in [(1, "demo.b"), (2, "demo.a"), (3, "demo.b")] {
        let stored = definition(DefinitionHash([number; 32]), "text");
        storage::register_definition(&pool, &stored, name, "1")
            .await
            .unwrap();
    }
    let names = storage::workflow_names(&pool).await.unwrap();
    assert_eq!(names, ["demo.a", "demo.b"]);
}
