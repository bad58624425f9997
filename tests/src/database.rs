//! The database of a fleet, as the tests read it.

use sqlx::postgres::{PgPool, PgPoolOptions, PgRow};
use sqlx::{AssertSqlSafe, Connection as _, FromRow, PgConnection};
use uuid::Uuid;

use crate::servers::with_path;
use crate::wait::{LIMIT, wait_until};

/// A database of its own.
#[derive(Debug, Clone)]
pub struct Database {
    /// Where it is.
    pub url: String,
    /// Connections to it.
    pub pool: PgPool,
    name: String,
    server_url: String,
}

impl Database {
    /// Makes a database on the server of `server_url`.
    ///
    /// # Panics
    /// When Postgres refuses.
    pub async fn create(server_url: &str, name: &str) -> Self {
        let connecting = PgConnection::connect(server_url).await;
        let mut connection = connecting.expect("Postgres answers");
        let create = format!("CREATE DATABASE {name}");
        sqlx::query(AssertSqlSafe(create))
            .execute(&mut connection)
            .await
            .expect("a database can be made");
        let url = with_path(server_url, name);
        let options = PgPoolOptions::new().max_connections(4);
        let pool = options.connect_lazy(&url).expect("the URL is valid");
        Self {
            url,
            pool,
            name: name.to_owned(),
            server_url: server_url.to_owned(),
        }
    }

    /// Removes it, with whoever is still connected. Called when a test ends, also by a panic.
    pub fn remove(&self) {
        let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        let url = self.server_url.clone();
        // The test's own runtime cannot be waited on from a destructor.
        let removing = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                let mut connection = PgConnection::connect(&url)
                    .await
                    .map_err(std::io::Error::other)?;
                let dropped = sqlx::query(AssertSqlSafe(drop))
                    .execute(&mut connection)
                    .await;
                dropped.map(|_| ()).map_err(std::io::Error::other)
            })
        });
        match removing.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => eprintln!("the database {} was not removed: {error}", self.name),
            Err(_) => eprintln!("the database {} was not removed", self.name),
        }
    }

    /// The number that a query gives.
    ///
    /// # Panics
    /// When the query fails.
    pub async fn number(&self, query: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(query))
            .fetch_one(&self.pool)
            .await
            .unwrap_or_else(|error| panic!("{query}: {error}"))
    }

    /// The rows that a query gives.
    ///
    /// # Panics
    /// When the query fails.
    pub async fn rows<T>(&self, query: &str) -> Vec<T>
    where
        T: for<'row> FromRow<'row, PgRow> + Send + Unpin,
    {
        sqlx::query_as(AssertSqlSafe(query))
            .fetch_all(&self.pool)
            .await
            .unwrap_or_else(|error| panic!("{query}: {error}"))
    }

    /// Runs a statement.
    ///
    /// # Panics
    /// When it fails.
    pub async fn run(&self, statement: &str) {
        sqlx::query(AssertSqlSafe(statement))
            .execute(&self.pool)
            .await
            .unwrap_or_else(|error| panic!("{statement}: {error}"));
    }

    /// The number of executions in a status.
    pub async fn executions(&self, status: &str) -> i64 {
        let query =
            format!("SELECT count(*) FROM workflow_execution_summary WHERE status = '{status}'");
        self.number(&query).await
    }

    /// The status of an execution; `None` if there is no such execution.
    pub async fn status(&self, id: Uuid) -> Option<String> {
        let query = format!(
            "SELECT status::text FROM workflow_execution_summary WHERE execution_id = '{id}'"
        );
        let rows: Vec<(String,)> = self.rows(&query).await;
        rows.into_iter().next().map(|(status,)| status)
    }

    /// Waits until `count` executions have succeeded.
    pub async fn succeeded(&self, count: i64) {
        let what = format!("{count} executions succeeded");
        wait_until(&what, LIMIT, async || {
            self.executions("succeeded").await >= count
        })
        .await;
    }
}
