//! Where Postgres and RabbitMQ are: flags, then the environment, then `.flotilla/env`.

use std::path::PathBuf;

use crate::arguments::Global;
use crate::failure::Failure;

/// What to do where no server is known.
const HOW_TO_START: &str = "`make up` or `flotilla dev` starts private servers and writes .flotilla/env; \
     or set DATABASE_URL and AMQP_URL";

impl Global {
    /// The URL of the database.
    pub fn database_url(&self) -> Result<String, Failure> {
        self.known_database_url()
            .ok_or_else(|| unknown("Postgres", "--database-url", "DATABASE_URL"))
    }

    /// The URL of the database, if one is known.
    pub fn known_database_url(&self) -> Option<String> {
        given(self.database_url.as_deref()).or_else(|| from_file("DATABASE_URL"))
    }

    /// The file that names the database, as a shell reads it, if no flag and no variable does.
    pub fn env_file(&self) -> Option<String> {
        if given(self.database_url.as_deref()).is_some() {
            return None;
        }
        let file = home().join("env").display().to_string();
        Some(format!("'{}'", file.replace('\'', r"'\''")))
    }

    /// The URL of the broker.
    pub fn amqp_url(&self) -> Result<String, Failure> {
        given(self.amqp_url.as_deref())
            .or_else(|| from_file("AMQP_URL"))
            .ok_or_else(|| unknown("RabbitMQ", "--amqp-url", "AMQP_URL"))
    }
}

/// The folder of the private servers.
pub fn home() -> PathBuf {
    match std::env::var_os("FLOTILLA_HOME") {
        Some(home) if !home.is_empty() => PathBuf::from(home),
        Some(_) | None => PathBuf::from(".flotilla"),
    }
}

/// A value that was given; an empty one counts as none.
pub fn given(value: Option<&str>) -> Option<String> {
    value
        .filter(|value| !value.trim().is_empty())
        .map(str::to_owned)
}

/// The value of `name` in the file that `make up` and `flotilla dev` write.
pub fn from_file(name: &str) -> Option<String> {
    let text = std::fs::read_to_string(home().join("env")).ok()?;
    text.lines().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        (key.trim() == name).then(|| unquoted(value.trim()))
    })
}

/// The file is one that a shell reads: a word is plain, or stands in single quotes.
fn unquoted(word: &str) -> String {
    let inner = word
        .strip_prefix('\'')
        .and_then(|rest| rest.strip_suffix('\''));
    match inner {
        Some(inner) => inner.replace(r"'\''", "'"),
        None => word.to_owned(),
    }
}

fn unknown(server: &str, flag: &str, variable: &str) -> Failure {
    Failure::refused(format!(
        "where is {server}? Neither {flag} nor {variable} is given, and .flotilla/env does not say"
    ))
    .hint(HOW_TO_START)
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
    fn words_of_a_shell_are_read_as_it_does() {
        assert_eq!(unquoted("postgres://a@b/c"), "postgres://a@b/c");
        assert_eq!(unquoted(r"'it'\''s'"), "it's");
    }

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(
            without_password("postgres://u:p@h:5432/db?password=x"),
            "postgres://h:5432/db"
        );
        assert_eq!(without_password("amqp://h"), "amqp://h");
    }
}
