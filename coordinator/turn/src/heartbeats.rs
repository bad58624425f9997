//! Heartbeats of workers whose jobs are acknowledged: they move the time at which silence counts, in
//! memory alone. A row keeps the time that the acknowledgement gave; whoever loads it gets a fresh
//! window, by the database.

use chrono::{DateTime, TimeDelta, Utc};
use flotilla_engine::execution::{AttemptId, DEADLINE_SLACK_S, Event, Execution, Run, TimerKind};
use flotilla_protocol::message::{TaskCancel, TaskStarted};
use flotilla_protocol::{ExecutionId, RunNo};

use crate::Turns;
use crate::decision::Deciding;
use crate::rows::{Commit, PartitionNo, TimerRow};
use crate::timers::{Timers, Watch};

/// Seconds of silence where a worker does not say how many it means.
const USUAL_SILENCE_S: f64 = 60.0;
/// The fewest and the most seconds of silence that a worker can ask for.
const SILENCES_S: (f64, f64) = (1.0, 86_400.0);

/// What a turn has heard of an attempt, to be noted once its commit stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Beat {
    pub partition: PartitionNo,
    pub execution_id: ExecutionId,
    pub run: RunNo,
    /// Seconds of silence that the worker means, if it says so.
    pub silence_s: Option<f64>,
    /// Whether the attempt begins now, by its worker's word. If it is acknowledged, the timer of its limit
    /// has given way to that of the silence.
    pub begins: bool,
    /// When an attempt that begins now has had its time. One that has begun before ends then at the
    /// latest, where nothing else is known, as after a take-over.
    pub ends_at: Option<DateTime<Utc>>,
    /// When all attempts of the run together have had their time.
    pub until: Option<DateTime<Utc>>,
}

/// Seconds of silence that mean the death of a worker, by its word.
pub(crate) fn silence_s(alive: &TaskStarted) -> f64 {
    let (fewest, most) = SILENCES_S;
    alive
        .heartbeat
        .unwrap_or(USUAL_SILENCE_S)
        .clamp(fewest, most)
}

impl Deciding<'_> {
    /// What a start says beside that the attempt has started.
    pub(crate) fn is_alive(&mut self, partition: PartitionNo, started: &TaskStarted) {
        let run = started.task_id.run();
        self.decision.heard.insert((started.execution_id, run));
        let Some(held) = self.turns.cache.use_mut(started.execution_id) else {
            return;
        };
        let own_silence_s = silence_of(&held.execution, run);
        if !started.acknowledged && own_silence_s.is_none() {
            return;
        }
        let live = held.execution.live.get(&run);
        let until = live.and_then(|run| run.until);
        let ends_at = end_of(live, self.now);
        self.decision.beats.push(Beat {
            partition,
            execution_id: started.execution_id,
            run,
            silence_s: Some(own_silence_s.unwrap_or_else(|| silence_s(started))),
            begins: true,
            ends_at,
            until,
        });
    }

    /// Whether a worker has broken its silence in this very turn, before its timer came.
    pub(crate) fn has_heard(&self, timer: &TimerRow) -> bool {
        let key = (timer.execution_id, timer.run);
        timer.kind == TimerKind::Heartbeat && self.decision.heard.contains(&key)
    }

    /// An attempt is alive. Where nobody waits for it, its worker is told to stop, each time.
    pub(crate) fn heartbeat(&mut self, partition: PartitionNo, alive: &TaskStarted) {
        let held = self.turns.cache.use_mut(alive.execution_id);
        let Some(held) = held.filter(|held| held.partition == partition) else {
            return;
        };
        let attempt = AttemptId {
            task_id: alive.task_id,
            attempt: alive.attempt,
        };
        let reason = match held.execution.hear(attempt) {
            Ok(run) => {
                self.decision.heard.insert((alive.execution_id, run));
                let said_s = alive.heartbeat.map(|_| silence_s(alive));
                let live = held.execution.live.get(&run);
                self.decision.beats.push(Beat {
                    partition,
                    execution_id: alive.execution_id,
                    run,
                    silence_s: silence_of(&held.execution, run).or(said_s),
                    begins: false,
                    ends_at: end_of(live, self.now),
                    until: live.and_then(|run| run.until),
                });
                if !live.is_some_and(|run| held.execution.is_told_to_stop(run)) {
                    return;
                }
                None
            }
            Err(_) => Some("the attempt has ended".to_owned()),
        };
        self.decision.cancels.push(TaskCancel {
            execution_id: alive.execution_id,
            task_id: alive.task_id,
            attempt: alive.attempt,
            reason,
        });
    }
}

/// When an attempt that begins now has had its time; `None`: it has no limit.
fn end_of(run: Option<&Run>, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let timeout = run?.timeout?;
    Some(now + seconds(timeout + DEADLINE_SLACK_S))
}

/// Seconds that an attempt may be silent by its task, whatever its worker says.
fn silence_of(execution: &Execution, run: RunNo) -> Option<f64> {
    let run = execution.live.get(&run)?;
    execution.workflow.tasks[run.task.0].heartbeat
}

/// The event of a start, acknowledged or not.
pub(crate) fn start_event(started: &TaskStarted) -> Event {
    let attempt = AttemptId {
        task_id: started.task_id,
        attempt: started.attempt,
    };
    let (worker, started_at) = (started.worker.clone(), started.started_at);
    if started.acknowledged {
        Event::AttemptAcknowledged {
            attempt,
            worker,
            started_at,
            heartbeat_s: silence_s(started),
        }
    } else {
        Event::AttemptStarted {
            attempt,
            worker,
            started_at,
        }
    }
}

impl Turns {
    /// Timers that did not fire stay, unless the commit has changed them.
    pub(crate) fn keep_timers(&mut self, kept: &[TimerRow], commit: &Commit) {
        for timer in kept {
            let key = (timer.execution_id, timer.run);
            let set = commit.timers_set.iter();
            let is_changed = commit.timers_cleared.contains(&key)
                || set
                    .map(|set| (set.execution_id, set.run))
                    .any(|set| set == key);
            if !is_changed && self.partitions.contains_key(&timer.partition) {
                self.timers.set(*timer);
            }
        }
    }

    /// The commit of a turn stands: what it has heard counts.
    pub(crate) fn note_beats(&mut self, beats: &[Beat]) {
        for beat in beats {
            let key = (beat.execution_id, beat.run);
            if self.timers.partition_of(beat.execution_id, beat.run) == Some(beat.partition) {
                self.timers.hear(key, beat, self.now);
            }
        }
    }

    /// The inbox of a partition is read again: what was said meanwhile is still to come.
    pub(crate) fn listen_anew(&mut self, partition: PartitionNo) {
        self.timers.refresh(partition, self.now);
    }
}

impl Timers {
    /// Moves the time at which the silence of a worker counts.
    fn hear(&mut self, key: (ExecutionId, RunNo), beat: &Beat, now: DateTime<Utc>) {
        let Some(mut timer) = self.heartbeat(key) else {
            return;
        };
        let known = self.watch_of(key);
        let silence = match (beat.silence_s, known) {
            (Some(silence_s), _) => seconds(silence_s),
            (None, Some(known)) => known.silence,
            (None, None) => seconds(USUAL_SILENCE_S),
        };
        let known_end = known.and_then(|known| known.ends_at);
        let ends_at = match beat.begins {
            true => beat.ends_at.or(known_end),
            false => known_end.or(beat.ends_at),
        };
        timer.due_at = now + silence;
        let limits = [
            (TimerKind::Deadline, ends_at),
            (TimerKind::TotalTimeout, beat.until),
        ];
        for (kind, at) in limits {
            if let Some(at) = at.filter(|at| *at <= timer.due_at) {
                timer.kind = kind;
                timer.due_at = at;
            }
        }
        self.set(timer);
        self.watch(key, Watch { silence, ends_at });
    }
}

fn seconds(seconds: f64) -> TimeDelta {
    #[expect(clippy::cast_possible_truncation, reason = "the cast saturates")]
    TimeDelta::try_milliseconds((seconds * 1000.0) as i64).unwrap_or(TimeDelta::MAX)
}
