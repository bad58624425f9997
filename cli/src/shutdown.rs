//! SIGINT and SIGTERM: the first asks to drain, the second ends the process at once.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::failure::Failure;
use crate::output::explain;

/// What a shell reports for a process that SIGINT ended.
const INTERRUPTED: i32 = 130;

/// Hears the signals. Clones wait for the same one.
#[derive(Debug, Clone)]
pub struct Shutdown {
    asked: watch::Receiver<bool>,
}

impl Shutdown {
    /// Starts to listen, in place of the default that ends the process.
    pub fn listen() -> Result<Self, Failure> {
        let could_not = |error| Failure::refused("could not listen for signals").because(error);
        let mut interrupt = signal(SignalKind::interrupt()).map_err(could_not)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(could_not)?;
        let (sender, asked) = watch::channel(false);
        tokio::spawn(async move {
            next(&mut interrupt, &mut terminate).await;
            tracing::info!("draining; a second signal ends the process at once");
            sender.send_replace(true);
            next(&mut interrupt, &mut terminate).await;
            explain("ended at once, without draining");
            std::process::exit(INTERRUPTED);
        });
        Ok(Self { asked })
    }

    /// Waits until somebody asked.
    pub async fn asked(mut self) {
        // The listener lives as long as the process, so an error cannot be seen.
        let _ = self.asked.wait_for(|asked| *asked).await;
    }

    /// Whether somebody has asked.
    pub fn is_asked(&self) -> bool {
        *self.asked.borrow()
    }
}

async fn next(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
