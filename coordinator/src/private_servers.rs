//! Where servers are that nobody names: `make up` and `flotilla dev` start private ones and write their
//! URLs into a file. Whoever is given a URL, by a flag or a variable, takes that instead.

use std::path::{Path, PathBuf};

use thiserror::Error;

/// The two servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// The database.
    Postgres,
    /// The broker.
    RabbitMq,
}

/// Nobody says where a server is.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("where is {}? Neither {} nor {} is given, and {} does not say",
    .server.name(), .server.flag(), .server.variable(), .file.display())]
pub struct UnknownServer {
    server: Server,
    file: PathBuf,
}

impl Server {
    /// What people call it.
    fn name(self) -> &'static str {
        match self {
            Self::Postgres => "Postgres",
            Self::RabbitMq => "RabbitMQ",
        }
    }

    fn flag(self) -> &'static str {
        match self {
            Self::Postgres => "--database-url",
            Self::RabbitMq => "--amqp-url",
        }
    }

    /// The variable that holds its URL, in the environment and in the file.
    #[must_use]
    pub fn variable(self) -> &'static str {
        match self {
            Self::Postgres => "DATABASE_URL",
            Self::RabbitMq => "AMQP_URL",
        }
    }

    /// Its URL: as it is given, or else as the file says.
    ///
    /// # Errors
    ///
    /// When nobody says.
    pub fn url(self, url: Option<&str>) -> Result<String, UnknownServer> {
        self.url_or_in(url, env_file())
    }

    /// Its URL in the file of the private servers, if it is there.
    #[must_use]
    pub fn url_in_file(self) -> Option<String> {
        url_in(&env_file(), self)
    }

    fn url_or_in(self, url: Option<&str>, file: PathBuf) -> Result<String, UnknownServer> {
        given(url)
            .or_else(|| url_in(&file, self))
            .ok_or(UnknownServer { server: self, file })
    }
}

impl UnknownServer {
    /// What to do then.
    #[must_use]
    pub fn hint(&self) -> String {
        format!(
            "`make up` or `flotilla dev` starts private servers and writes {}; or set {} and {}",
            self.file.display(),
            Server::Postgres.variable(),
            Server::RabbitMq.variable()
        )
    }
}

/// The folder of the private servers.
#[must_use]
pub fn home() -> PathBuf {
    match std::env::var_os("FLOTILLA_HOME") {
        Some(home) if !home.is_empty() => PathBuf::from(home),
        Some(_) | None => PathBuf::from(".flotilla"),
    }
}

/// The file that names them.
#[must_use]
pub fn env_file() -> PathBuf {
    home().join("env")
}

/// A value that was given; an empty one counts as none.
#[must_use]
pub fn given(value: Option<&str>) -> Option<String> {
    value
        .filter(|value| !value.trim().is_empty())
        .map(str::to_owned)
}

fn url_in(file: &Path, server: Server) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let url = text.lines().find_map(|line| {
        let (key, value) = line.split_once('=')?;
        (key.trim() == server.variable()).then(|| unquoted(value.trim()))
    });
    given(url.as_deref())
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that goes away with the test.
    struct File(PathBuf);

    impl File {
        fn with(text: &str) -> Self {
            let path = std::env::temp_dir().join(format!("flotilla-env-{}", uuid::Uuid::now_v7()));
            std::fs::write(&path, text).expect("it can be written");
            Self(path)
        }
    }

    impl Drop for File {
        fn drop(&mut self) {
            // A file in a temporary folder does no harm.
            let _ = std::fs::remove_file(&self.0);
        }
    }

    #[test]
    fn words_of_a_shell_are_read_as_it_does() {
        assert_eq!(unquoted("postgres://a@b/c"), "postgres://a@b/c");
        assert_eq!(unquoted(r"'it'\''s'"), "it's");
    }

    #[test]
    fn what_is_given_wins_over_the_file() {
        let file = File::with("# servers\nDATABASE_URL='postgres://file'\nAMQP_URL=amqp://file\n");
        let url = |server: Server, url| server.url_or_in(url, file.0.clone()).unwrap();
        assert_eq!(url(Server::Postgres, Some("postgres://x")), "postgres://x");
        assert_eq!(url(Server::Postgres, None), "postgres://file");
        assert_eq!(url(Server::RabbitMq, Some(" ")), "amqp://file");
    }

    #[test]
    fn where_nobody_says_the_file_is_named_that_could() {
        let file = File::with("DATABASE_URL=\n");
        let unknown = |server: Server| server.url_or_in(None, file.0.clone()).unwrap_err();
        let path = file.0.display();
        let postgres = unknown(Server::Postgres);
        assert_eq!(
            postgres.to_string(),
            format!(
                "where is Postgres? Neither --database-url nor DATABASE_URL is given, and {path} does not say"
            )
        );
        assert!(postgres.hint().contains(&format!("writes {path};")));
        let rabbitmq = unknown(Server::RabbitMq).to_string();
        assert!(
            rabbitmq.contains("Neither --amqp-url nor AMQP_URL"),
            "{rabbitmq}"
        );
    }
}
