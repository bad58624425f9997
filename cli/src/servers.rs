//! Where Postgres and RabbitMQ are: flags, then the environment, then `.flotilla/env`.

use flotilla_coordinator::private_servers::{Server, UnknownServer, env_file, given};

use crate::arguments::Global;
use crate::failure::Failure;

impl Global {
    /// The URL of the database.
    pub fn database_url(&self) -> Result<String, Failure> {
        let url = Server::Postgres.url(self.database_url.as_deref());
        url.map_err(|unknown| not_given(&unknown))
    }

    /// The URL of the database, if one is known.
    pub fn known_database_url(&self) -> Option<String> {
        Server::Postgres.url(self.database_url.as_deref()).ok()
    }

    /// The file that names the database, as a shell reads it, if no flag and no variable does.
    pub fn env_file(&self) -> Option<String> {
        if given(self.database_url.as_deref()).is_some() {
            return None;
        }
        let file = env_file().display().to_string();
        Some(format!("'{}'", file.replace('\'', r"'\''")))
    }

    /// The URL of the broker.
    pub fn amqp_url(&self) -> Result<String, Failure> {
        let url = Server::RabbitMq.url(self.amqp_url.as_deref());
        url.map_err(|unknown| not_given(&unknown))
    }
}

fn not_given(unknown: &UnknownServer) -> Failure {
    Failure::refused(unknown.to_string())
        .hint(unknown.hint())
        .of_kind("no_server_given")
}

/// A URL as it may be shown: without the password.
pub fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let authority_end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(authority_end);
    let path = path.split('?').next().unwrap_or_default();
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(
            without_password("postgres://u:p@h:5432/db?password=x"),
            "postgres://h:5432/db"
        );
        assert_eq!(without_password("amqp://h"), "amqp://h");
    }
}
