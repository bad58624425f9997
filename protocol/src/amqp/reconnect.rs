//! How long to wait between attempts to connect: the only place that names `backoff`.
//!
//! The crate's own retry future builds the next attempt before it sleeps, which would hand an
//! attempt that is seconds old to the broker; so only its schedule is used.

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff;

/// The waits between attempts: short at first, then longer, with chance in them so that a fleet
/// does not come back all at once. It never gives up.
pub(super) struct Waits(ExponentialBackoff);

impl Waits {
    pub(super) fn new() -> Self {
        Self(ExponentialBackoff {
            initial_interval: Duration::from_millis(50),
            current_interval: Duration::from_millis(50),
            max_interval: Duration::from_secs(3),
            multiplier: 2.0,
            // The default gives up after 15 minutes.
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        })
    }

    /// Waits once more.
    pub(super) async fn wait(&mut self) {
        let wait = self.0.next_backoff().unwrap_or(self.0.max_interval);
        tokio::time::sleep(wait).await;
    }
}
