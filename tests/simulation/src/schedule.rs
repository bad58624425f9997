//! A schedule: a setup, some hundred steps, and the end. All of it follows from a seed.

use std::cell::RefCell;
use std::panic::AssertUnwindSafe;
use std::sync::Once;

use flotilla_turn::Input;
use flotilla_turn::message::ChannelId;
use flotilla_turn::rows::PartitionNo;

use crate::coverage::Coverage;
use crate::planted::{Planted, ShellMutant};
use crate::random::{Random, mix};
use crate::store::{Call, Recorded};
use crate::world::{Setup, World};

/// How much time passes in one step.
const WAITS_US: [i64; 8] = [
    20_000, 100_000, 100_000, 300_000, 600_000, 1_100_000, 3_100_000, 11_000_000,
];
/// Half of the time for which timers are kept in memory.
const LONG_WAIT_US: i64 = 160_000_000;

/// What became of a schedule.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What happened in it.
    pub coverage: Coverage,
    /// What went wrong, if anything did.
    pub failure: Option<Failure>,
}

/// A schedule that broke a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// The rule.
    pub message: String,
    /// What happened, if it was asked for.
    pub trace: Vec<String>,
}

/// The numbers of the steps of a seed's schedule.
#[must_use]
pub fn steps_of(seed: u64) -> Vec<u64> {
    let mut random = Random::new(mix(seed));
    let count = random.pick(&[60, 120, 200, 300]);
    (0..count).map(|_| random.next_number()).collect()
}

/// Runs the schedule of a seed.
#[must_use]
pub fn run_seed(seed: u64, planted: Option<Planted>) -> Outcome {
    run_steps(seed, &steps_of(seed), planted, false)
}

/// Runs a schedule with the setup of a seed and the steps that are given.
#[must_use]
pub fn run_steps(seed: u64, steps: &[u64], planted: Option<Planted>, with_trace: bool) -> Outcome {
    hook_panics();
    take_panic();
    let mut world = World::new(Setup::new(seed), planted);
    world.trace = with_trace.then(Vec::new);
    LISTENS.set(true);
    let ran = std::panic::catch_unwind(AssertUnwindSafe(|| run(&mut world, steps)));
    LISTENS.set(false);
    if ran.is_err() {
        let what = take_panic().unwrap_or_else(|| "a panic".to_owned());
        world.violate(|| what);
    }
    world.coverage.steps += steps.len() as u64;
    let message = world.violation.take();
    Outcome {
        coverage: world.coverage,
        failure: message.map(|message| Failure {
            seed,
            message,
            trace: world.trace.take().unwrap_or_default(),
        }),
    }
}

/// The number of partitions of a seed's schedule, and what its coordinators ask of the store.
#[must_use]
pub fn record_seed(seed: u64) -> (PartitionNo, Vec<Recorded>) {
    let mut world = World::new(Setup::new(seed), None);
    let now = world.store.now;
    let started = world.store.coordinators.keys();
    let mut calls: Vec<Recorded> = started.map(|id| (now, Call::Register(*id))).collect();
    world.store.record();
    run(&mut world, &steps_of(seed));
    calls.append(&mut world.store.recorded());
    (world.setup.partitions, calls)
}

fn run(world: &mut World, steps: &[u64]) {
    for number in steps {
        world.step(*number);
        notice_panic(world);
        if world.violation.is_some() {
            return;
        }
    }
    world.converge();
    notice_panic(world);
}

/// The turn logic catches panics of the engine; here they are not to be overlooked.
fn notice_panic(world: &mut World) {
    if let Some(what) = take_panic() {
        world.violate(|| what);
    }
}

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
    static LISTENS: RefCell<bool> = const { RefCell::new(false) };
}

fn take_panic() -> Option<String> {
    PANIC.with_borrow_mut(Option::take)
}

/// Panics of a thread that runs schedules are kept and not printed.
fn hook_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let others = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if LISTENS.with_borrow(|listens| *listens) {
                PANIC.set(Some(format!("panic: {info}")));
            } else {
                others(info);
            }
        }));
    });
}

impl World {
    /// One step. What it does depends on its number, and on what there is to do.
    fn step(&mut self, number: u64) {
        let mut random = Random::new(number);
        if random.below(1000) < self.setup.faulty {
            self.fault_step(&mut random);
            return;
        }
        let place = random.below(self.coordinators.len());
        match random.below(100) {
            0..32 => self.turn_step(place, &mut random),
            32..44 => self.deliver_step(place, &mut random),
            44..64 => self.carry_out_step(place, &mut random),
            64..84 => {
                let no = random.below(self.workers.len());
                for _ in 0..=random.below(4) {
                    self.worker_step(no, &mut random);
                }
            }
            84..89 => drop(self.client_step(&mut random)),
            89 => drop(self.setup.has_commands && self.command_step(&mut random)),
            90..96 => self.time_step(&mut random),
            96..98 => drop(self.late_step(&mut random)),
            _ => {
                if self.is_alive(place) {
                    self.check_memory(place);
                }
            }
        }
    }

    /// A coordinator takes what has come; a part of what it asks for is done at once.
    fn turn_step(&mut self, place: usize, random: &mut Random) {
        if !self.is_active(place) {
            return;
        }
        if random.percent(self.setup.eager) {
            self.deliver_all(place);
        }
        self.run(place);
        while self.is_active(place)
            && random.percent(self.setup.eager)
            && self.carry_out_any(place, random)
        {}
    }

    fn deliver_step(&mut self, place: usize, random: &mut Random) {
        if !self.is_alive(place) {
            return;
        }
        let channels = &self.coordinator(place).channels;
        let at = random.below(channels.len());
        let key: Option<(ChannelId, u64)> = channels.keys().nth(at).copied();
        if let Some(key) = key {
            for _ in 0..=random.below(3) {
                self.deliver(place, key);
            }
        }
    }

    fn carry_out_step(&mut self, place: usize, random: &mut Random) {
        if !self.is_alive(place) {
            return;
        }
        // A process that stands still sends nothing; what it has sent goes on.
        match random.below(8) {
            0 | 1 => drop(self.commit_step(place, random)),
            2 => drop(self.load_step(place, random)),
            3 => drop(self.publish_step(place, random)),
            4 => drop(self.order_step(place, random)),
            5 | 6 => {
                let channels = self.coordinator(place).channels.iter();
                let due = channels.filter(|(_, own)| !own.orders.is_empty());
                let keys: Vec<(ChannelId, u64)> = due.map(|(key, _)| *key).collect();
                if !keys.is_empty() {
                    self.channel_step(place, random.pick(&keys));
                }
            }
            _ => drop(self.answer_step(place, random)),
        }
    }

    fn time_step(&mut self, random: &mut Random) {
        if self.is_planted(ShellMutant::StateReadBeforeEpoch) {
            self.remember_outbox();
        }
        let mut micros = random.pick(&WAITS_US);
        if self.setup.slow_workflow && random.percent(20) {
            micros = LONG_WAIT_US;
        }
        self.pass_with_ticks(micros);
    }

    /// Time passes, and whoever does not stand still notices.
    pub(crate) fn pass_with_ticks(&mut self, micros: i64) {
        self.say(|| format!("{} ms pass", micros / 1000));
        self.pass(micros);
        for place in 0..self.coordinators.len() {
            if self.is_active(place) {
                self.coordinator(place).mailbox.push_back(Input::Tick);
            }
        }
    }
}
