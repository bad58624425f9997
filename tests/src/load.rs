//! A load of orders: starts of `examples.order` that take every way through it, so many at a time.

use std::time::Duration;

use flotilla_protocol::amqp::{ConnectOptions, Outgoing, Publisher, PublisherOptions};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::client::{Start, publish};
use crate::database::Database;
use crate::fleet::Fleet;
use crate::wait::wait_until;

/// Names this run's number of orders, for a longer run than that of `make test`.
const COUNT_VARIABLE: &str = "FLOTILLA_TEST_ORDERS";
/// How long a load may take, whatever happens meanwhile.
const LOAD_LIMIT: Duration = Duration::from_secs(300);

/// Time between two looks at what has finished.
const LOOK: Duration = Duration::from_millis(10);

/// Orders under way.
#[derive(Debug)]
pub struct Load {
    /// Their ids, in the order of their starts.
    pub ids: Vec<Uuid>,
    publishing: JoinHandle<()>,
}

/// The number of orders that a test makes: `usual`, unless the environment asks for more.
#[must_use]
pub fn order_count(usual: usize) -> usize {
    let given = std::env::var(COUNT_VARIABLE).ok();
    given
        .and_then(|text| text.parse().ok())
        .map_or(usual, |given: usize| given.max(usual))
}

/// What order number `number` asks for.
#[must_use]
pub fn order(number: usize) -> Value {
    let mut parameters = json!({"order_id": number, "amount": 100});
    match number % 20 {
        3 | 13 => parameters["payment_failures"] = json!(1),
        5 | 15 => parameters["amount"] = json!(1200),
        7 => parameters["stock_seconds"] = json!(30),
        9 | 19 => parameters["fail_payment"] = json!(true),
        _ => {}
    }
    parameters
}

/// The tasks that order number `number` runs, and the attempts that it makes.
#[must_use]
pub fn order_tasks(number: usize) -> (usize, usize) {
    match number % 20 {
        3 | 13 => (3, 4),
        5 | 15 | 7 => (4, 4),
        _ => (3, 3),
    }
}

impl Load {
    /// Starts `count` orders, at most `in_flight` of them unfinished at a time.
    #[must_use]
    pub fn start(fleet: &Fleet, count: usize, in_flight: usize) -> Self {
        let ids: Vec<Uuid> = (0..count).map(|_| Uuid::now_v7()).collect();
        let starts = ids.iter().enumerate().map(|(number, id)| {
            let start = Start::of("examples.order")
                .id(Some(*id))
                .parameters(&order(number));
            Outgoing::start(&start.body)
        });
        let connect = ConnectOptions::new(&fleet.amqp_url, "flotilla test load");
        let publisher = Publisher::start(PublisherOptions::new(connect));
        let publishing = publish_all(
            publisher,
            starts.collect(),
            fleet.database.clone(),
            in_flight,
        );
        Self {
            publishing: tokio::spawn(publishing),
            ids,
        }
    }

    /// Waits until this share of the orders has finished, in percent.
    pub async fn finished(&self, database: &Database, percent: usize) {
        let wanted = self.ids.len() * percent / 100;
        wait_until(
            &format!("{wanted} orders have finished"),
            LOAD_LIMIT,
            async || {
                finished(database)
                    .await
                    .is_some_and(|count| count >= wanted)
            },
        )
        .await;
    }

    /// Waits until all orders have finished, and checks that each ran exactly the tasks, and made
    /// exactly the attempts, that it had to.
    ///
    /// # Panics
    /// When one did not.
    pub async fn end(self, database: &Database) {
        self.finished(database, 100).await;
        self.publishing.await.expect("all starts were published");
        let query = "SELECT execution_id, status::text, tasks_total, attempts_total FROM workflow_execution_summary";
        let mut rows: Vec<(Uuid, String, i32, i32)> = database.rows(query).await;
        rows.sort();
        let mut expected: Vec<_> = self.ids.iter().enumerate().collect();
        expected.sort_by_key(|(_, id)| **id);
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(number, id)| {
                let (tasks, attempts) = order_tasks(number);
                let as_column = |count: usize| i32::try_from(count).expect("small");
                (
                    *id,
                    "succeeded".to_owned(),
                    as_column(tasks),
                    as_column(attempts),
                )
            })
            .collect();
        let differing = rows
            .iter()
            .zip(&expected)
            .find(|(row, wanted)| row != wanted);
        assert_eq!(
            (rows.len(), differing),
            (expected.len(), None),
            "(seen, expected)"
        );
    }
}

async fn publish_all(
    publisher: Publisher,
    starts: Vec<Outgoing>,
    database: Database,
    in_flight: usize,
) {
    let mut ended = 0;
    for (number, start) in starts.into_iter().enumerate() {
        while ended + in_flight <= number {
            ended = finished(&database).await.unwrap_or(0);
            tokio::time::sleep(LOOK).await;
        }
        publish(&publisher, start).await;
    }
}

/// How many executions have finished; `None` while the database does not answer.
pub(crate) async fn finished(database: &Database) -> Option<usize> {
    let query = "SELECT count(*) FROM workflow_execution_summary WHERE finished_at IS NOT NULL";
    let count: i64 = sqlx::query_scalar(query)
        .fetch_one(&database.pool)
        .await
        .ok()?;
    usize::try_from(count).ok()
}
