//! The end of a schedule: faults stop, and everything must come to its end in bounded time.

use flotilla_protocol::ExecutionId;
use flotilla_turn::Input;
use flotilla_turn::message::ChannelId;

use crate::broker::QueueNo;
use crate::coverage::Happening;
use crate::message::show_id;
use crate::planted::ShellMutant;
use crate::random::Random;
use crate::world::World;

/// Time that passes at most when nothing else can happen: a third of a lease.
const LONGEST_WAIT_US: i64 = 1_000_000;
const SHORTEST_WAIT_US: i64 = 5_000;
/// Time within which everything must have come to its end.
const PATIENCE_US: i64 = 150_000_000;
/// The same, where a retry waits for minutes.
const LONG_PATIENCE_US: i64 = 900_000_000;
/// How long one stands still at most after the faults have ended.
const STANDS_STILL_US: i64 = 5_000_000;
/// Rounds of work without time passing; more are a loop without end.
const MAX_ROUNDS: usize = 400;

impl World {
    /// Lets everything come to its end.
    pub fn converge(&mut self) {
        let mut random = Random::new(self.setup.seed ^ 0xca1f);
        self.end_faults(&mut random);
        let patience = if self.setup.slow_workflow {
            LONG_PATIENCE_US
        } else {
            PATIENCE_US
        };
        let begun = self.time_us;
        let until = begun + patience;
        while self.violation.is_none() {
            if self.time_us > begun + STANDS_STILL_US {
                for place in 0..self.coordinators.len() {
                    self.resume_in_calm(place);
                }
            }
            self.come_to_rest(&mut random);
            // What only a silent channel holds back, nobody but a watchdog of the broker ends.
            if self.violation.is_some() || (self.is_over() && !self.close_silent()) {
                break;
            }
            if self.time_us > until {
                let what = self.what_is_left();
                self.violate(|| format!("it does not come to its end: {what}"));
                break;
            }
            self.wait();
        }
        if self.violation.is_none() {
            for place in 0..self.coordinators.len() {
                self.check_memory(place);
            }
            self.check_end();
        }
    }

    fn end_faults(&mut self, random: &mut Random) {
        self.say(|| "the faults end".to_owned());
        self.has_faults = false;
        self.checks.calm_since = Some(self.store.now);
        self.broker.set_alarm(false);
        for no in 0..self.workers.len() {
            self.workers[no].is_paused = false;
            let hangs =
                |held: &crate::worker::HeldJob| matches!(held.phase, crate::worker::Phase::Hanging);
            if self.workers[no].held.iter().any(hangs) {
                self.crash_worker(no);
            }
        }
        while self.late_step(random) {}
        self.resume_executions(random);
        let mut living = self.coordinators.iter().flatten();
        if living.all(|held| held.is_stopping) {
            match self.coordinators.iter().position(Option::is_none) {
                Some(place) => self.start_coordinator(place),
                None => {
                    self.crash_coordinator(0, random);
                    self.start_coordinator(0);
                }
            }
        }
    }

    /// What is paused goes on, in half of the schedules.
    fn resume_executions(&mut self, random: &mut Random) {
        if !self.setup.has_commands || random.percent(50) {
            return;
        }
        for no in 0..self.clients.asked.len() {
            if let Some(id) = self.execution_of(no) {
                self.send_command(id, "resume", None);
            }
        }
    }

    /// A coordinator goes on; its leases may have run out meanwhile.
    fn resume_in_calm(&mut self, place: usize) -> bool {
        let goes_on = self.resume_coordinator(place);
        if goes_on {
            self.checks.calm_since = Some(self.store.now);
        }
        goes_on
    }

    /// Everything that can happen without time passing.
    fn come_to_rest(&mut self, random: &mut Random) {
        for _ in 0..MAX_ROUNDS {
            let mut is_busy = self.late_step(random);
            for place in 0..self.coordinators.len() {
                if self.is_active(place) {
                    is_busy |= self.work_off(place, random);
                } else if self.is_alive(place) {
                    // The broker knows no better than to give it some of the messages.
                    is_busy |= random.percent(30) && self.deliver_one(place, random);
                    // Amid the work of others, it goes on where it was.
                    is_busy |= random.percent(5) && self.resume_in_calm(place);
                }
            }
            for no in 0..self.workers.len() {
                is_busy |= self.work(no, random);
            }
            if self.violation.is_some() || !is_busy {
                return;
            }
        }
        let what = self.what_is_left();
        self.violate(|| format!("it never comes to rest: {what}"));
    }

    fn work_off(&mut self, place: usize, random: &mut Random) -> bool {
        let mut is_busy = self.deliver_all(place);
        is_busy |= self.run(place);
        for _ in 0..MAX_ROUNDS {
            if !self.is_alive(place) || !self.carry_out_any(place, random) {
                break;
            }
            is_busy = true;
        }
        is_busy
    }

    fn deliver_one(&mut self, place: usize, random: &mut Random) -> bool {
        let channels = &self.coordinator(place).channels;
        let keys: Vec<(ChannelId, u64)> = channels.keys().copied().collect();
        !keys.is_empty() && self.deliver(place, random.pick(&keys))
    }

    /// Everything that the broker has for a coordinator.
    pub fn deliver_all(&mut self, place: usize) -> bool {
        let channels = &self.coordinator(place).channels;
        let keys: Vec<(ChannelId, u64)> = channels.keys().copied().collect();
        let mut is_busy = false;
        for key in keys {
            while self.deliver(place, key) {
                is_busy = true;
            }
        }
        is_busy
    }

    /// Something that a coordinator has asked for.
    pub fn carry_out_any(&mut self, place: usize, random: &mut Random) -> bool {
        if self.commit_step(place, random)
            || self.load_step(place, random)
            || self.order_step(place, random)
            || self.publish_step(place, random)
            || self.answer_step(place, random)
        {
            return true;
        }
        let channels = self.coordinator(place).channels.iter();
        let due = channels.filter(|(_, own)| !own.orders.is_empty());
        let keys: Vec<(ChannelId, u64)> = due.map(|(key, _)| *key).collect();
        let mut is_busy = false;
        for key in keys {
            while self.channel_step(place, key) {
                is_busy = true;
            }
        }
        is_busy
    }

    fn work(&mut self, no: usize, random: &mut Random) -> bool {
        let mut is_busy = false;
        while self.take_job(no, random) {
            is_busy = true;
        }
        // Each job once: whoever announces a job waits a moment before running it.
        for at in (0..self.workers[no].held.len()).rev() {
            if at < self.workers[no].held.len() {
                is_busy |= self.go_on_with(no, at, random);
            }
        }
        while self.send_completions(no, random) {
            is_busy = true;
        }
        while self.acknowledge_job(no) {
            is_busy = true;
        }
        is_busy
    }

    /// Time passes until something is due.
    fn wait(&mut self) {
        let mut wait = LONGEST_WAIT_US;
        for held in self.coordinators.iter().flatten() {
            if let Some(due) = held.turns.next_due() {
                let left = due - held.clock(self.time_us);
                wait = wait.min(left.num_microseconds().unwrap_or(i64::MAX));
            }
        }
        self.pass(wait.clamp(SHORTEST_WAIT_US, LONGEST_WAIT_US));
        for held in self.coordinators.iter_mut().flatten() {
            if !held.is_paused {
                held.mailbox.push_back(Input::Tick);
            }
        }
        if self.is_planted(ShellMutant::StateReadBeforeEpoch) {
            self.remember_outbox();
        }
    }

    fn is_over(&self) -> bool {
        let store = &self.store;
        store.jobs.is_empty()
            && store.replies.is_empty()
            && self
                .coordinators
                .iter()
                .flatten()
                .all(|held| held.turns.is_idle() && !held.is_paused)
            && (0..self.clients.asked.len()).all(|asked| {
                self.clients.asked[asked].is_poison
                    || self
                        .execution_of(asked)
                        .is_some_and(|id| self.has_ended(id))
            })
            && self.busy_queues().next().is_none()
    }

    /// Whether nothing more will happen to an execution by itself.
    fn has_ended(&self, id: ExecutionId) -> bool {
        let state = &self.store.executions[&id].state;
        state.finished_at.is_some() || state.status == "paused"
    }

    fn busy_queues(&self) -> impl Iterator<Item = &str> {
        let queues = [
            self.queues.start,
            self.queues.control,
            self.queues.dead,
            self.queues.pool,
        ];
        let all = queues
            .into_iter()
            .chain(self.queues.inboxes.iter().copied());
        // What is acknowledged on a channel that is silent is not heard, and nobody is told.
        let is_busy = |queue: &QueueNo| {
            let mut taken = self.broker.unacknowledged_by_channel(*queue);
            !self.broker.ready(*queue).is_empty()
                || taken.any(|(channel, _)| !self.broker.is_silent(channel))
        };
        all.filter(is_busy).map(|queue| self.broker.name(queue))
    }

    fn what_is_left(&self) -> String {
        let live = self.store.executions.values();
        let live = live.filter(|row| row.state.finished_at.is_none());
        let live: Vec<String> = live.map(|row| show_id(row.state.execution_id)).collect();
        format!(
            "executions {live:?}, {} jobs and {} replies owed, queues {:?}",
            self.store.jobs.len(),
            self.store.replies.len(),
            self.busy_queues().collect::<Vec<_>>(),
        )
    }

    /// A child belongs to an attempt of a task that is a sub-workflow, and is in the partition of its
    /// parent. Two attempts are two children.
    fn check_children(&mut self) {
        let mut problem = None;
        for (id, row) in &self.store.executions {
            let Some(parent) = row.parent else {
                continue;
            };
            let task = self.store.tasks.get(&(parent.execution_id, parent.run));
            let is_attempt = task.is_some_and(|task| {
                (1..=task.attempt).any(|no| ExecutionId::of_child(task.task_id, no) == *id)
            });
            let beside = self.store.executions.get(&parent.execution_id);
            if !is_attempt || beside.is_none_or(|beside| beside.partition != row.partition) {
                problem = Some(format!("{} is nobody's child", show_id(*id)));
            }
        }
        if let Some(problem) = problem {
            self.violate(|| problem);
        }
    }

    fn check_end(&mut self) {
        let mut timers = self.store.timers.keys();
        if timers.any(|(id, _)| self.store.executions[id].state.finished_at.is_some()) {
            self.violate(|| "timers outlive their executions".to_owned());
        }
        let mut expected = std::collections::BTreeSet::new();
        for no in 0..self.clients.asked.len() {
            let id = self.execution_of(no);
            if id.is_some_and(|id| self.store.executions[&id].state.status == "paused") {
                self.note(Happening::Paused);
            }
            expected.extend(id);
            self.check_answers(no);
        }
        let all = self.store.executions.iter();
        let (children, asked): (Vec<_>, Vec<_>) = all.partition(|(_, row)| row.parent.is_some());
        let (children, is_right) = (children.len(), expected.len() == asked.len());
        if !is_right {
            self.violate(|| "there are executions that nobody asked for".to_owned());
        }
        if children > 0 {
            self.note(Happening::Children);
        }
        self.check_children();
        if self.setup.seed.is_multiple_of(4) {
            let all: Vec<ExecutionId> = self.store.executions.keys().copied().collect();
            for id in all {
                let differences = self.store.fold(id);
                if !differences.is_empty() {
                    let id = show_id(id);
                    self.violate(|| format!("{id} is not what its log says: {differences:?}"));
                }
            }
        }
        let unknown = |row: &flotilla_turn::rows::IgnoredRow| row.reason == "unknown_execution";
        if self.store.ignored.iter().any(unknown) {
            self.violate(|| "a message of a known execution is called unknown".to_owned());
        }
    }

    /// Whoever asked has been answered, and told the end if theirs was the first request.
    fn check_answers(&mut self, no: usize) {
        let asked = &self.clients.asked[no];
        let Some(client) = asked.reply_to.filter(|_| !asked.is_poison) else {
            return;
        };
        let Some(id) = self.execution_of(no) else {
            return;
        };
        let name = id.to_string();
        let has_come = |message_type: &str| {
            self.clients.replies.iter().any(|(to, reply)| {
                *to == client && reply.message_type == message_type && reply.text.contains(&name)
            })
        };
        let what = show_id(id);
        let (started, finished) = (has_come("workflow.started"), has_come("workflow.finished"));
        let same = self
            .clients
            .asked
            .iter()
            .filter(|other| other.id == asked.id);
        let is_only = same.count() == 1;
        if !started {
            self.violate(|| format!("client {client} was never told that {what} started"));
        }
        let is_over = self.store.executions[&id].state.finished_at.is_some();
        if is_only && is_over && !finished {
            self.violate(|| format!("client {client} was never told that {what} ended"));
        }
    }
}
