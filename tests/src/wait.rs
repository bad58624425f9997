//! Waiting on conditions, within limits that only a failing test reaches.

use std::future::Future;
use std::time::Duration;

/// How long anything may take before a test fails; generous, since test machines are busy.
pub const LIMIT: Duration = Duration::from_secs(60);
/// Time between two looks at a condition of which nobody tells.
const LOOK: Duration = Duration::from_millis(10);

/// Waits until a condition holds of which nobody tells.
///
/// # Panics
/// When it does not hold within `limit`.
pub async fn wait_until(what: &str, limit: Duration, mut condition: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(LOOK).await;
        }
    };
    assert!(
        tokio::time::timeout(limit, waiting).await.is_ok(),
        "within {limit:?} it did not happen that {what}"
    );
}

/// Waits for something that must come.
///
/// # Panics
/// When it does not come within [`LIMIT`].
pub async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(LIMIT, future).await {
        Ok(output) => output,
        Err(_) => panic!("within {LIMIT:?} there was no {what}"),
    }
}
