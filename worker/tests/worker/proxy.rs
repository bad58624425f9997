//! A wire between a worker and the broker that can be cut and mended.

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Passes connections on to the broker.
pub struct Proxy {
    /// Leads to the broker, with its user and vhost.
    pub url: String,
    is_cut: watch::Sender<bool>,
}

impl Proxy {
    pub async fn start(broker_url: &str) -> Self {
        let (user, rest) = broker_url.rsplit_once('@').unwrap();
        let (broker, vhost) = rest.split_once('/').unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("{user}@{}/{vhost}", listener.local_addr().unwrap());
        let (is_cut, watched) = watch::channel(false);
        tokio::spawn(accept(listener, broker.to_owned(), watched));
        Self { url, is_cut }
    }

    /// Cuts all connections, and new ones too.
    pub fn cut(&self) {
        self.is_cut.send_replace(true);
    }

    /// Lets new connections through.
    pub fn mend(&self) {
        self.is_cut.send_replace(false);
    }
}

async fn accept(listener: TcpListener, broker: String, is_cut: watch::Receiver<bool>) {
    while let Ok((mut near, _)) = listener.accept().await {
        let (broker, mut is_cut) = (broker.clone(), is_cut.clone());
        tokio::spawn(async move {
            let Ok(mut far) = TcpStream::connect(&broker).await else {
                return;
            };
            tokio::select! {
                biased;
                _ = is_cut.wait_for(|is_cut| *is_cut) => {}
                _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
            }
        });
    }
}
