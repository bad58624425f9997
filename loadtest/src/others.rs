//! Who takes part of the work beside the processes of the harness: coordinators and workers that somebody
//! else runs on the same servers. What they use is in no figure, so that these would be too good.

use flotilla_coordinator::storage::connect_read_only;
use flotilla_protocol::amqp::{ConnectOptions, Connection, queue_state};
use flotilla_protocol::names;
use sqlx::Connection as _;

use crate::arguments::FleetArguments;
use crate::failure::Failure;

/// The pool of the jobs of the load.
const POOL: &str = "default";
/// Seconds for which a coordinator counts as living after it was seen; it says so once a second.
const LIVES_S: f64 = 3.0;

/// How many there are of each kind of which the harness has started some. Of a kind of which it has
/// started none others are what it was asked to use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Others {
    /// Coordinators.
    pub coordinators: u32,
    /// Workers.
    pub workers: u32,
}

impl Others {
    /// Looks for them once those of the harness consume, and tells people.
    pub async fn look(fleet: &FleetArguments) -> Result<Self, Failure> {
        let others = Self {
            coordinators: beyond(coordinators(&fleet.database.url).await?, fleet.coordinators),
            workers: beyond(consumers(&fleet.amqp_url).await?, fleet.workers),
        };
        if let Some(warning) = others.warning() {
            eprintln!("flotilla-loadtest: {warning}");
        }
        Ok(others)
    }

    fn warning(self) -> Option<String> {
        if self == Self::default() {
            return None;
        }
        Some(format!(
            "coordinators and workers that were not started here take part of the work ({} and {}): what these \
             kinds of process use and send is not known, nor any sum over all processes",
            self.coordinators, self.workers
        ))
    }
}

fn beyond(found: u32, started: u16) -> u32 {
    match started {
        0 => 0,
        started => found.saturating_sub(u32::from(started)),
    }
}

async fn coordinators(url: &str) -> Result<u32, Failure> {
    let mut connection = connect_read_only(url).await?;
    let living: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM coordinator
         WHERE stopped_at IS NULL AND seen_at > clock_timestamp() - make_interval(secs => $1)",
    )
    .bind(LIVES_S)
    .fetch_one(&mut connection)
    .await?;
    // All that was asked has been answered.
    let _ = connection.close().await;
    Ok(u32::try_from(living).unwrap_or(u32::MAX))
}

async fn consumers(url: &str) -> Result<u32, Failure> {
    let options = ConnectOptions::new(url, "flotilla-loadtest");
    let connection = Connection::open_with(&options).await?;
    let state = queue_state(&connection, &names::jobs_queue(POOL)).await;
    connection.close().await;
    Ok(state?.map_or(0, |state| state.consumers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_are_those_beyond_what_was_started() {
        assert_eq!((beyond(1, 1), beyond(3, 1), beyond(1, 2)), (0, 2, 0));
        assert_eq!(beyond(5, 0), 0, "those are what is to be used");
    }

    #[test]
    fn people_are_told_only_where_there_are_others() {
        assert_eq!(Others::default().warning(), None);
        let others = Others {
            coordinators: 0,
            workers: 2,
        };
        let warning = others.warning().unwrap();
        assert!(warning.contains("(0 and 2)"), "{warning}");
    }
}
