//! For tests: a wire to Postgres that goes silent. Nobody is told of it, as where a machine has gone
//! without a word.

use sqlx::{ConnectOptions, PgPool};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Passes connections on to Postgres.
pub(crate) struct SilentWire {
    /// Leads to the database of a test.
    pub url: String,
    /// How often the wire has gone silent.
    silences: watch::Sender<u64>,
}

impl SilentWire {
    pub async fn to(pool: &PgPool) -> Self {
        let options = pool.connect_options();
        let postgres = format!("{}:{}", options.get_host(), options.get_port());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("it listens").port();
        let near = (*options).clone().host("127.0.0.1").port(port);
        let (silences, watched) = watch::channel(0);
        tokio::spawn(accept(listener, postgres, watched));
        Self {
            url: near.to_url_lossy().to_string(),
            silences,
        }
    }

    /// From now on nothing passes over the connections that there are; new ones work.
    pub fn silence(&self) {
        self.silences.send_modify(|silences| *silences += 1);
    }
}

async fn accept(listener: TcpListener, postgres: String, mut silences: watch::Receiver<u64>) {
    while let Ok((mut near, _)) = listener.accept().await {
        silences.mark_unchanged();
        let (postgres, mut silences) = (postgres.clone(), silences.clone());
        tokio::spawn(async move {
            let Ok(mut far) = TcpStream::connect(&postgres).await else {
                return;
            };
            tokio::select! {
                biased;
                silenced = silences.changed() => {
                    // The end of the coordinator stays open; that of the server would be in the way of
                    // what cleans up.
                    drop(far);
                    if silenced.is_ok() {
                        std::future::pending::<()>().await;
                    }
                }
                _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
            }
        });
    }
}
