//! Lines of logs.

use flotilla_coordinator::storage::{self, ReadUpTo, TaskLogRow};
use serde_json::Value;
use sqlx::PgPool;

use crate::support::{at, committed, count, id, ready, start_turn, task_id};

fn line(execution: u128, attempt: i32, line_no: i32, seconds: i64) -> TaskLogRow {
    TaskLogRow {
        execution_id: id(execution),
        task_id: task_id(id(execution), 1),
        attempt,
        line_no,
        at: at(seconds),
        stream: "stdout".to_owned(),
        text: format!("{attempt}.{line_no}"),
    }
}

async fn read(pool: &PgPool, task: Option<&str>, read: &[ReadUpTo]) -> Vec<Value> {
    let mut lines = Vec::new();
    storage::read_task_log(pool, id(1), task, read, |line| lines.push(line))
        .await
        .expect("the log can be read");
    lines
}

fn texts(lines: &[Value]) -> Vec<&str> {
    let texts = lines
        .iter()
        .map(|line| line["text"].as_str().expect("a text"));
    texts.collect()
}

#[sqlx::test(migrations = false)]
async fn lines_are_stored_once_and_only_for_executions_that_exist(pool: PgPool) {
    let mut conn = ready(&pool).await;
    committed(&mut conn, &start_turn(1, id(1))).await;
    let lines = [line(1, 1, 1, 0), line(1, 1, 2, 0), line(2, 1, 1, 0)];
    assert_eq!(storage::insert_task_log(&pool, &lines).await.unwrap(), 2);
    let mut again = line(1, 1, 2, 9);
    again.text = "another".to_owned();
    let more = [again, line(1, 1, 3, 1), line(1, 1, 3, 1)];
    assert_eq!(storage::insert_task_log(&pool, &more).await.unwrap(), 1);
    assert_eq!(count(&mut conn, "workflow_task_log").await, 3);
    assert_eq!(texts(&read(&pool, None, &[]).await), ["1.1", "1.2", "1.3"]);
}

#[sqlx::test(migrations = false)]
async fn lines_are_read_in_the_order_of_time_behind_what_was_read(pool: PgPool) {
    let mut conn = ready(&pool).await;
    committed(&mut conn, &start_turn(1, id(1))).await;
    let mut of_nobody = line(1, 1, 1, 3);
    of_nobody.task_id = task_id(id(1), 7);
    of_nobody.text = "nobody".to_owned();
    let lines = [
        line(1, 2, 1, 5),
        line(1, 1, 2, 2),
        line(1, 1, 1, 2),
        of_nobody,
    ];
    storage::insert_task_log(&pool, &lines).await.unwrap();
    let all = read(&pool, None, &[]).await;
    assert_eq!(texts(&all), ["1.1", "1.2", "nobody", "2.1"]);
    assert_eq!(all[0]["visit"], 1);
    assert_eq!(all[2]["task"], Value::Null);
    let name = all[0]["task"].as_str().unwrap();
    assert_eq!(
        texts(&read(&pool, Some(name), &[]).await),
        ["1.1", "1.2", "2.1"]
    );
    assert!(read(&pool, Some("other"), &[]).await.is_empty());
    let up_to = [ReadUpTo {
        task_id: task_id(id(1), 1),
        attempt: 1,
        line_no: 1,
    }];
    assert_eq!(
        texts(&read(&pool, Some(name), &up_to).await),
        ["1.2", "2.1"]
    );
}
