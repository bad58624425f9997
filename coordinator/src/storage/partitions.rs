//! Partitions: taking them over, what their former owners owed, giving them back.

use chrono::{DateTime, Utc};
use flotilla_engine::execution::TimerKind;
use flotilla_protocol::ExecutionId;
use flotilla_turn::rows::{Epoch, OutboxJob, PartitionNo, TakenPartition, TimerRow};
use sqlx::postgres::{PgBindIterExt, PgRow};
use sqlx::{PgExecutor, PgPool};
use uuid::Uuid;

use super::StorageError;
use super::load_rows::{self, Reader};
use super::outbox::KeptReply;

/// The channel on which coordinators tell each other that partitions are free.
pub const FREED_CHANNEL: &str = "flotilla_partitions";
/// Seconds for which a coordinator counts as living after it was seen, however short its lease.
const SHORTEST_LIFE_S: f64 = 2.0;
/// Seconds ahead for which a take-over loads timers.
const TIMER_HORIZON_S: f64 = 300.0;

/// Takes partitions whose lease has expired, up to an even share: raises their epochs, and when
/// that is committed reads what their former owners owed, and the timers that are due soon.
///
/// # Errors
///
/// When the database fails. If that is after the epochs were raised, the partitions lie idle until
/// their new lease has expired.
pub async fn take_partitions(
    pool: &PgPool,
    owner: Uuid,
    lease_s: f64,
) -> Result<(Vec<TakenPartition>, Share), StorageError> {
    let share = even_share(pool, owner, lease_s).await?;
    if share.held >= share.partitions {
        return Ok((Vec::new(), share));
    }
    let mut taken = raise_epochs(pool, owner, lease_s, share.partitions - share.held).await?;
    if !taken.is_empty() {
        let partitions: Vec<PartitionNo> = taken.iter().map(|taken| taken.partition).collect();
        add_outbox(pool, &partitions, &mut taken).await?;
        add_timers(pool, &partitions, &mut taken).await?;
    }
    Ok((taken, share))
}

/// How many partitions a coordinator is to hold, and holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub struct Share {
    /// An even share of all partitions, rounded up.
    pub partitions: i32,
    /// Those that it holds, by the word of the database.
    pub held: i32,
}

/// Says that a coordinator lives, and counts those that do: who has been seen within a lease, has
/// not stopped, and so can take partitions.
async fn even_share(pool: &PgPool, owner: Uuid, lease_s: f64) -> Result<Share, StorageError> {
    sqlx::query_as(
        "WITH here AS ( \
             UPDATE coordinator SET seen_at = clock_timestamp() WHERE id = $1 \
         ), others AS ( \
             SELECT count(*) AS living FROM coordinator \
             WHERE id <> $1 AND stopped_at IS NULL \
                 AND seen_at > clock_timestamp() - make_interval(secs => $2) \
         ), partitions AS ( \
             SELECT count(*) AS total, \
                 count(*) FILTER (WHERE owner = $1 AND lease_expires_at > clock_timestamp()) AS held \
             FROM coordinator_partition \
         ) \
         SELECT ((total + living) / (living + 1))::integer AS partitions, held::integer AS held \
         FROM others CROSS JOIN partitions",
    )
    .bind(owner)
    .bind(lease_s.max(SHORTEST_LIFE_S))
    .fetch_one(pool)
    .await
    .map_err(StorageError::step("count the coordinators"))
}

async fn raise_epochs(
    pool: &PgPool,
    owner: Uuid,
    lease_s: f64,
    limit: i32,
) -> Result<Vec<TakenPartition>, StorageError> {
    // Locks the rows that it takes, in the order of their ids; a row that is locked belongs to a
    // commit or to another take-over that is under way, and is left to it.
    let rows = sqlx::query(
        "WITH expired AS ( \
             SELECT id FROM coordinator_partition \
             WHERE lease_expires_at <= clock_timestamp() \
             ORDER BY id LIMIT $3 \
             FOR UPDATE SKIP LOCKED \
         ), taken AS ( \
             UPDATE coordinator_partition AS p \
             SET owner = $1, epoch = p.epoch + 1, \
                 lease_expires_at = clock_timestamp() + make_interval(secs => $2) \
             FROM expired WHERE p.id = expired.id \
             RETURNING p.id, p.epoch, p.last_turn, p.dispatched_through \
         ), clock AS MATERIALIZED (SELECT clock_timestamp() AS now) \
         SELECT t.id, t.epoch, t.last_turn, t.dispatched_through, c.now, \
             c.now + make_interval(secs => $4) AS timers_until \
         FROM taken AS t CROSS JOIN clock AS c \
         ORDER BY t.id",
    )
    .bind(owner)
    .bind(lease_s)
    .bind(i64::from(limit))
    .bind(TIMER_HORIZON_S)
    .fetch_all(pool)
    .await
    .map_err(StorageError::step("take partitions"))?;
    rows.iter().map(taken_partition).collect()
}

fn taken_partition(row: &PgRow) -> Result<TakenPartition, StorageError> {
    let reader = Reader {
        table: "coordinator_partition",
        row,
    };
    Ok(TakenPartition {
        partition: reader.read("id")?,
        epoch: reader.read("epoch")?,
        last_turn: reader.read("last_turn")?,
        dispatched_through: reader.read("dispatched_through")?,
        jobs: Vec::new(),
        replies: Vec::new(),
        timers: Vec::new(),
        timers_until: reader.read("timers_until")?,
        now: reader.read("now")?,
    })
}

async fn add_outbox(
    pool: &PgPool,
    partitions: &[PartitionNo],
    taken: &mut [TakenPartition],
) -> Result<(), StorageError> {
    let rows = sqlx::query(
        "SELECT o.partition, o.turn, o.execution_ids, o.runs, o.attempts, o.replies::text \
         FROM workflow_outbox AS o \
         JOIN coordinator_partition AS p ON p.id = o.partition \
         WHERE o.partition = ANY ($1) AND o.turn > p.dispatched_through \
         ORDER BY o.partition, o.turn",
    )
    .bind(partitions)
    .fetch_all(pool)
    .await
    .map_err(StorageError::step("load the outbox"))?;
    for row in &rows {
        add_outbox_row(row, taken)?;
    }
    Ok(())
}

fn add_outbox_row(row: &PgRow, taken: &mut [TakenPartition]) -> Result<(), StorageError> {
    let reader = Reader {
        table: "workflow_outbox",
        row,
    };
    let partition: PartitionNo = reader.read("partition")?;
    let turn = reader.read("turn")?;
    let Some(taken) = taken.iter_mut().find(|taken| taken.partition == partition) else {
        return Ok(());
    };
    let executions: Vec<Uuid> = reader.read("execution_ids")?;
    let runs: Vec<i32> = reader.read("runs")?;
    let attempts: Vec<i32> = reader.read("attempts")?;
    for ((execution_id, run), attempt) in executions.into_iter().zip(runs).zip(attempts) {
        let number = |column, value: i32| {
            u32::try_from(value).map_err(|_| reader.problem(column, "it is negative".to_owned()))
        };
        taken.jobs.push(OutboxJob {
            partition,
            turn,
            execution_id: ExecutionId(execution_id),
            run: number("runs", run)?,
            attempt: number("attempts", attempt)?,
        });
    }
    let replies: Option<String> = reader.read("replies")?;
    let replies: Vec<KeptReply> = replies
        .map_or(Ok(Vec::new()), |text| serde_json::from_str(&text))
        .map_err(|error| reader.problem("replies", error.to_string()))?;
    for reply in replies {
        let reply = reply
            .into_reply(partition, turn)
            .ok_or_else(|| reader.problem("replies", "it has no message".to_owned()))?;
        taken.replies.push(reply);
    }
    Ok(())
}

async fn add_timers(
    pool: &PgPool,
    partitions: &[PartitionNo],
    taken: &mut [TakenPartition],
) -> Result<(), StorageError> {
    let Some(until) = taken.first().map(|taken| taken.timers_until) else {
        return Ok(());
    };
    for timer in timers_due(pool, partitions, None, until).await? {
        if let Some(taken) = taken
            .iter_mut()
            .find(|taken| taken.partition == timer.partition)
        {
            taken.timers.push(timer);
        }
    }
    Ok(())
}

/// Timers of a partition that are due at `from` or later and before `until`, in the order in which
/// they are due.
///
/// # Errors
///
/// When the database fails.
pub async fn load_timers(
    database: impl PgExecutor<'_>,
    partition: PartitionNo,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<Vec<TimerRow>, StorageError> {
    timers_due(database, &[partition], Some(from), until).await
}

async fn timers_due(
    database: impl PgExecutor<'_>,
    partitions: &[PartitionNo],
    from: Option<DateTime<Utc>>,
    until: DateTime<Utc>,
) -> Result<Vec<TimerRow>, StorageError> {
    // Heartbeats move a timer in the memory of an owner alone. Whoever loads it has heard of none, and
    // gives the worker a fresh window: as long as the start of the attempt, or the acknowledgement of its
    // job, says in the log.
    let rows = sqlx::query(
        "SELECT t.execution_id, t.run::bigint, t.partition, t.kind::text, \
             CASE WHEN t.kind::text <> 'heartbeat' THEN t.due_at \
             ELSE greatest(t.due_at, clock_timestamp() + make_interval(secs => ( \
                 SELECT (l.detail ->> 'heartbeat')::double precision \
                 FROM workflow_transition AS l \
                 JOIN workflow_task AS r ON r.execution_id = l.execution_id \
                     AND r.task_id = l.task_id AND r.run = t.run \
                 WHERE l.execution_id = t.execution_id AND l.kind = 'task_started' \
                     AND l.detail ->> 'heartbeat' IS NOT NULL \
                 ORDER BY l.seq DESC LIMIT 1 \
             ))) END AS due_at \
         FROM workflow_timer AS t \
         WHERE t.partition = ANY ($1) \
             AND t.due_at >= coalesce($2, '-infinity') AND t.due_at < $3 \
         ORDER BY t.partition, 5, t.execution_id, t.run",
    )
    .bind(partitions)
    .bind(from)
    .bind(until)
    .fetch_all(database)
    .await
    .map_err(StorageError::step("load timers"))?;
    rows.iter().map(timer).collect()
}

pub(super) fn timer(row: &PgRow) -> Result<TimerRow, StorageError> {
    let reader = Reader {
        table: "workflow_timer",
        row,
    };
    let kind: &str = reader.read("kind")?;
    Ok(TimerRow {
        execution_id: load_rows::execution_id(&reader)?,
        run: reader.number("run")?,
        partition: reader.read("partition")?,
        kind: TimerKind::from_word(kind)
            .ok_or_else(|| reader.problem("kind", format!("{kind} is not known")))?,
        due_at: reader.read("due_at")?,
    })
}

/// Gives partitions back and tells the others, so that they take them at once; those that belong to
/// somebody else by now are left alone. With `resigns` the coordinator counts no more where
/// partitions are shared. The number of those given back.
///
/// # Errors
///
/// When the database fails; their leases expire on their own.
pub async fn release_partitions(
    database: impl PgExecutor<'_>,
    owner: Uuid,
    partitions: &[(PartitionNo, Epoch)],
    resigns: bool,
) -> Result<i64, StorageError> {
    // Locks the rows, in the order of ids as everybody else does.
    sqlx::query_scalar(
        "WITH mine AS ( \
             SELECT p.id FROM unnest($1, $2) AS m (id, epoch) \
             JOIN coordinator_partition AS p \
                 ON p.id = m.id AND p.epoch = m.epoch AND p.owner = $3 \
             ORDER BY p.id FOR UPDATE OF p \
         ), released AS ( \
             UPDATE coordinator_partition AS p \
             SET owner = NULL, lease_expires_at = clock_timestamp() \
             FROM mine WHERE p.id = mine.id \
             RETURNING p.id \
         ), resigned AS ( \
             UPDATE coordinator SET stopped_at = clock_timestamp() WHERE $4 AND id = $3 \
         ), told AS MATERIALIZED ( \
             SELECT count(*) AS released, pg_notify($5, '') FROM released \
         ) \
         SELECT released FROM told",
    )
    .bind(partitions.iter().map(|(id, _)| *id).bind_iter())
    .bind(partitions.iter().map(|(_, epoch)| *epoch).bind_iter())
    .bind(owner)
    .bind(resigns)
    .bind(FREED_CHANNEL)
    .fetch_one(database)
    .await
    .map_err(StorageError::step("release partitions"))
}

/// Renews the leases of partitions, where no commit does: those that belong to somebody else by now are
/// left alone, and so are those that a commit is about to renew. The number of those renewed.
///
/// # Errors
///
/// When the database fails; they expire on their own.
pub async fn renew_leases(
    database: impl PgExecutor<'_>,
    owner: Uuid,
    partitions: &[(PartitionNo, Epoch)],
    lease_s: f64,
) -> Result<i64, StorageError> {
    sqlx::query_scalar(
        "WITH mine AS ( \
             SELECT p.id FROM unnest($1, $2) AS m (id, epoch) \
             JOIN coordinator_partition AS p \
                 ON p.id = m.id AND p.epoch = m.epoch AND p.owner = $3 \
             ORDER BY p.id FOR UPDATE OF p SKIP LOCKED \
         ), renewed AS ( \
             UPDATE coordinator_partition AS p \
             SET lease_expires_at = clock_timestamp() + make_interval(secs => $4) \
             FROM mine WHERE p.id = mine.id \
             RETURNING p.id \
         ) \
         SELECT count(*) FROM renewed",
    )
    .bind(partitions.iter().map(|(id, _)| *id).bind_iter())
    .bind(partitions.iter().map(|(_, epoch)| *epoch).bind_iter())
    .bind(owner)
    .bind(lease_s)
    .fetch_one(database)
    .await
    .map_err(StorageError::step("renew leases"))
}
