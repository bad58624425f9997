//! A database for each run, on the given server: what one run leaves does not slow the next one down.

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use uuid::Uuid;

use crate::arguments::{DatabaseArguments, FleetArguments};
use crate::failure::Failure;

/// One of them, with the arguments of a fleet that works on it.
pub struct Database {
    /// As given, with this database.
    pub fleet: FleetArguments,
    server: String,
    name: String,
}

impl Database {
    /// Creates one that is empty.
    pub async fn create(fleet: &FleetArguments) -> Result<Self, Failure> {
        let name = name_beside(&fleet.database.url, Uuid::now_v7());
        order(&fleet.database.url, format!("CREATE DATABASE {name}")).await?;
        Ok(Self {
            fleet: FleetArguments {
                database: DatabaseArguments {
                    url: with_database(&fleet.database.url, &name),
                },
                ..fleet.clone()
            },
            server: fleet.database.url.clone(),
            name,
        })
    }

    /// Drops it, whoever is still connected.
    pub async fn drop(self) -> Result<(), Failure> {
        let statement = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        order(&self.server, statement).await
    }
}

async fn order(url: &str, statement: String) -> Result<(), Failure> {
    let mut connection = PgConnection::connect(url).await?;
    sqlx::raw_sql(AssertSqlSafe(statement))
        .execute(&mut connection)
        .await?;
    // It was carried out.
    let _ = connection.close().await;
    Ok(())
}

/// A name that begins with that of the database in the URL, so that people see whose it is.
fn name_beside(url: &str, id: Uuid) -> String {
    const LONGEST_GIVEN: usize = 24;
    let (_, begin, end, _) = parts(url);
    let given = url.get(begin + 1..end).unwrap_or_default();
    let is_plain = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '_';
    let given: String = given.chars().filter(is_plain).take(LONGEST_GIVEN).collect();
    format!("{given}_bench_{}", id.simple())
}

/// A URL with another database.
fn with_database(url: &str, name: &str) -> String {
    let (address, begin, _, options) = parts(url);
    format!("{}/{name}{options}", &address[..begin])
}

/// The URL without its options, where the database begins in it (at the slash) and ends, and the
/// options with their question mark.
fn parts(url: &str) -> (&str, usize, usize, String) {
    let (address, options) = url
        .split_once('?')
        .map_or((url, None), |(address, options)| (address, Some(options)));
    let begin = address.find("://").map_or(0, |at| at + 3);
    let end = address[begin..]
        .find('/')
        .map_or(address.len(), |at| begin + at);
    let options = options.map_or_else(String::new, |options| format!("?{options}"));
    (address, end, address.len(), options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_whose_it_is() {
        let name = |url| name_beside(url, Uuid::from_u128(255));
        let id = "000000000000000000000000000000ff";
        assert_eq!(name("postgres://h/a_1?x=y"), format!("a_1_bench_{id}"));
        assert_eq!(name("postgres://h"), format!("_bench_{id}"));
        let long = name(&format!("postgres://h/{}", "a".repeat(60)));
        assert!(long.len() <= 63, "{long}");
    }

    #[test]
    fn only_the_database_of_a_url_changes() {
        for (url, expected) in [
            ("postgres://u:p@h:1/a", "postgres://u:p@h:1/b"),
            ("postgres://h", "postgres://h/b"),
            (
                "postgres://h/a?sslmode=disable",
                "postgres://h/b?sslmode=disable",
            ),
        ] {
            assert_eq!(with_database(url, "b"), expected);
        }
    }
}
