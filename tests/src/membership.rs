//! Who owns which partition, as the rows say.

use crate::database::Database;
use crate::service::Service;
use crate::wait::{LIMIT, wait_until};

impl Service {
    /// The partitions that this coordinator owns.
    pub async fn partitions(&self, database: &Database) -> Vec<i32> {
        let query = "SELECT p.id FROM coordinator_partition p JOIN coordinator c ON c.id = p.owner
            WHERE c.pid = $1 AND p.lease_expires_at > clock_timestamp() ORDER BY p.id";
        let ids = sqlx::query_scalar(query)
            .bind(i32::try_from(self.id()).expect("process ids are small"))
            .fetch_all(&database.pool)
            .await;
        ids.expect("the database answers")
    }
}

/// Waits until every partition is owned, and by these coordinators evenly.
pub async fn wait_for_even_shares(database: &Database, coordinators: &[Service]) {
    let total: i64 = database
        .number("SELECT count(*) FROM coordinator_partition")
        .await;
    let total = usize::try_from(total).expect("a count");
    let share = total.div_ceil(coordinators.len());
    wait_until("the partitions are shared evenly", LIMIT, async || {
        let mut held = 0;
        for coordinator in coordinators {
            let partitions = coordinator.partitions(database).await.len();
            if partitions > share {
                return false;
            }
            held += partitions;
        }
        held == total
    })
    .await;
}
