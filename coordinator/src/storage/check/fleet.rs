//! What must hold of the tables that belong to no execution: partitions, outbox, dead letters and
//! definitions. None of them is large.

use super::{Invariant, Query::Fleet};

/// The invariants of the fleet.
pub(super) const INVARIANTS: &[Invariant] = &[
    Invariant {
        name: "turns_add_up",
        rule: "a partition is dispatched through a turn that it has taken, and has an epoch if it has taken one",
        query: Fleet(
            "SELECT NULL::uuid, concat('partition ', p.id, ' is dispatched through turn ', \
                 p.dispatched_through, ' of ', p.last_turn, ', epoch ', p.epoch) \
             FROM coordinator_partition AS p \
             WHERE p.dispatched_through NOT BETWEEN 0 AND p.last_turn \
                 OR (p.last_turn > 0 AND p.epoch < 1)",
        ),
    },
    Invariant {
        name: "leases_have_owners",
        rule: "a partition whose lease has not expired has an owner, and that is a coordinator",
        query: Fleet(
            "SELECT NULL::uuid, concat('partition ', p.id, ' is leased until ', \
                 p.lease_expires_at, ' to ', coalesce(p.owner::text, 'nobody')) \
             FROM coordinator_partition AS p \
             WHERE p.lease_expires_at > clock_timestamp() \
                 AND (SELECT c.id FROM coordinator AS c WHERE c.id = p.owner) IS NULL",
        ),
    },
    Invariant {
        name: "partitions_are_owned",
        rule: "while a coordinator lives, no partition that was ever owned is without an owner for more than a minute",
        query: Fleet(
            "SELECT NULL::uuid, \
                 concat('partition ', p.id, ' has had no owner since ', p.lease_expires_at) \
             FROM coordinator_partition AS p \
             WHERE p.lease_expires_at > '-infinity' \
                 AND p.lease_expires_at < clock_timestamp() - interval '1 minute' \
                 AND EXISTS (SELECT FROM coordinator AS c \
                     WHERE c.stopped_at IS NULL \
                         AND c.seen_at > clock_timestamp() - interval '10 seconds' \
                         AND c.started_at < clock_timestamp() - interval '1 minute')",
        ),
    },
    Invariant {
        name: "outbox_is_of_open_turns",
        rule: "the outbox holds turns of partitions that exist, taken and not yet dispatched",
        query: Fleet(
            "SELECT NULL::uuid, concat('turn ', o.turn, ' of partition ', o.partition, ', which ', \
                 CASE WHEN p.id IS NULL THEN 'does not exist' ELSE concat('has taken turn ', \
                 p.last_turn, ' and is dispatched through ', p.dispatched_through) END) \
             FROM workflow_outbox AS o \
             LEFT JOIN coordinator_partition AS p ON p.id = o.partition \
             WHERE p.id IS NULL OR o.turn <= p.dispatched_through OR o.turn > p.last_turn",
        ),
    },
    Invariant {
        name: "outbox_names_attempts",
        rule: "the jobs of the outbox are attempts of runs that exist, of executions of that partition",
        query: Fleet(
            "SELECT j.execution_id, concat('turn ', o.turn, ' of partition ', o.partition, \
                 ' owes attempt ', j.attempt, ' of run ', j.run) \
             FROM workflow_outbox AS o \
             CROSS JOIN LATERAL unnest(o.execution_ids, o.runs, o.attempts) \
                 AS j (execution_id, run, attempt) \
             WHERE NOT coalesce((SELECT j.attempt BETWEEN 1 AND t.attempt FROM workflow_task AS t \
                     WHERE t.execution_id = j.execution_id AND t.run = j.run), false) \
                 OR NOT coalesce((SELECT e.partition = o.partition FROM workflow_execution AS e \
                     WHERE e.execution_id = j.execution_id), false)",
        ),
    },
    Invariant {
        name: "dead_letters_are_resolved_as_known",
        rule: "a dead letter that is resolved was retried or discarded, after it was received; one that is not says neither",
        query: Fleet(
            "SELECT d.execution_id, concat('dead letter ', d.id, ', received at ', d.received_at, \
                 ', was resolved at ', d.resolved_at, ' as ', coalesce(d.resolution, 'nothing')) \
             FROM workflow_dead_letter AS d \
             WHERE (d.resolved_at IS NULL) <> (d.resolution IS NULL) \
                 OR d.resolution NOT IN ('retried', 'discarded') \
                 OR d.resolved_at < d.received_at - interval '1 minute'",
        ),
    },
    Invariant {
        name: "definitions_are_what_their_hash_says",
        rule: "the hash of a definition is that of its text, and of what it gets of its pack",
        query: Fleet(
            "SELECT NULL::uuid, concat('the definition ', encode(d.hash, 'hex'), ' of ', \
                 d.workflow, ' ', d.version) \
             FROM workflow_definition AS d \
             WHERE d.hash <> sha256(convert_to(d.source, 'UTF8') || CASE WHEN d.pack IS NULL \
                 THEN ''::bytea ELSE '\\x00'::bytea || convert_to(d.pack, 'UTF8') END)",
        ),
    },
];
