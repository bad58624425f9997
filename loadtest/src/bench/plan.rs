//! The kinds of runs, and what each of them asks for.

use crate::arguments::{
    EndsBy, FleetArguments, LoadArguments, Output, ResultArguments, RunArguments,
};
use crate::shape::Shape;

/// Starts a second at which a system idles between them.
const IDLE_RATE: f64 = 20.0;
/// The part of the highest rate at which latency is asked for.
const HALF: f64 = 0.5;

/// Seconds of load before a measurement.
const WARM_UP_S: u64 = 3;
/// About how many seconds an execution with 100,000 items takes.
const LARGE_TAKES_S: u64 = 8;
/// Executions of which each is alive while most others are.
const LIVE: u64 = 10_000;

/// A kind of run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Single tasks, in a closed loop.
    Single,
    /// The same where the tables are full.
    Full,
    /// Chains of 10.
    Chain,
    /// 1 → 100 → 1.
    Fanout,
    /// Tasks with 10 items.
    Items10,
    /// With 1,000.
    Items1000,
    /// With 100,000.
    Items100000,
    /// Single tasks, one now and then.
    Idle,
    /// Single tasks at half of their highest rate.
    Half,
    /// 10,000 chains at a time.
    Live,
    /// One task with 1,000,000 items.
    Million,
}

/// The load of a kind: what, how wide, how many at a time.
struct Load {
    shape: Shape,
    width: u32,
    in_flight: u32,
}

impl Kind {
    /// In the order in which they run.
    pub const ALL: [Self; 11] = [
        Self::Single,
        Self::Full,
        Self::Chain,
        Self::Fanout,
        Self::Items10,
        Self::Items1000,
        Self::Items100000,
        Self::Idle,
        Self::Half,
        Self::Live,
        Self::Million,
    ];

    /// Its name in tables and files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Full => "full",
            Self::Chain => "chain",
            Self::Fanout => "fanout",
            Self::Items10 => "items-10",
            Self::Items1000 => "items-1000",
            Self::Items100000 => "items-100000",
            Self::Idle => "idle",
            Self::Half => "half",
            Self::Live => "live",
            Self::Million => "million",
        }
    }

    /// What it is, for people.
    pub fn title(self) -> &'static str {
        match self {
            Self::Single => "single task, 1,000 in flight",
            Self::Full => "single task, 1,000 in flight, full tables",
            Self::Chain => "chain of 10, 1,000 in flight",
            Self::Fanout => "fan-out 1 → 100 → 1, 100 in flight",
            Self::Items10 => "10 items, 500 in flight",
            Self::Items1000 => "1,000 items, 20 in flight",
            Self::Items100000 => "100,000 items, 1 in flight",
            Self::Idle => "single task, 20 a second",
            Self::Half => "single task, at half of the rate above",
            Self::Live => "chain of 10, 10,000 in flight",
            Self::Million => "1,000,000 items, once",
        }
    }

    /// Whether the median of several runs counts, or one run is enough: of memory, the most counts.
    pub fn is_repeated(self) -> bool {
        match self {
            Self::Live | Self::Million => false,
            Self::Single
            | Self::Full
            | Self::Chain
            | Self::Fanout
            | Self::Items10
            | Self::Items1000
            | Self::Items100000
            | Self::Idle
            | Self::Half => true,
        }
    }

    fn load(self) -> Load {
        let load = |shape, width, in_flight| Load {
            shape,
            width,
            in_flight,
        };
        match self {
            Self::Single | Self::Full | Self::Idle | Self::Half => load(Shape::Single, 1, 1000),
            Self::Chain => load(Shape::Chain, 1, 1000),
            Self::Fanout => load(Shape::Fanout, 100, 100),
            Self::Items10 => load(Shape::Items, 10, 500),
            Self::Items1000 => load(Shape::Items, 1000, 20),
            Self::Items100000 => load(Shape::Items, 100_000, 1),
            Self::Live => load(Shape::Chain, 1, 10_000),
            Self::Million => load(Shape::Items, 1_000_000, 1),
        }
    }
}

/// What a run of a kind asks for. `single_per_s` is the rate that single tasks have reached.
pub fn arguments(
    kind: Kind,
    seconds: u64,
    single_per_s: Option<f64>,
    fleet: &FleetArguments,
) -> RunArguments {
    let Load {
        shape,
        width,
        in_flight,
    } = kind.load();
    let rate = match kind {
        Kind::Idle => Some(IDLE_RATE),
        Kind::Half => single_per_s.map(|rate| rate * HALF),
        Kind::Single
        | Kind::Full
        | Kind::Chain
        | Kind::Fanout
        | Kind::Items10
        | Kind::Items1000
        | Kind::Items100000
        | Kind::Live
        | Kind::Million => None,
    };
    let count = count(kind, seconds);
    RunArguments {
        load: LoadArguments {
            shape,
            length: 10,
            width,
            concurrency: None,
            payload: 0,
            failures: 0.0,
            seed: Some(0),
            ends: EndsBy::Rows,
        },
        count,
        seconds: count.is_none().then_some(seconds),
        in_flight,
        rate,
        // What ends seldom is measured as a whole, and what is to fill memory is no rate.
        warm_up: if count.is_some() { 0 } else { WARM_UP_S },
        fleet: fleet.clone(),
        profile: false,
        results: ResultArguments {
            json: None,
            html: None,
            output: Output::Nothing,
        },
    }
}

/// How many executions are measured, where their number says more than a time.
fn count(kind: Kind, seconds: u64) -> Option<u64> {
    match kind {
        Kind::Million => Some(1),
        Kind::Items100000 => Some(seconds.div_ceil(LARGE_TAKES_S)),
        Kind::Live => Some(LIVE),
        Kind::Single
        | Kind::Full
        | Kind::Chain
        | Kind::Fanout
        | Kind::Items10
        | Kind::Items1000
        | Kind::Idle
        | Kind::Half => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::DatabaseArguments;

    fn asked(kind: Kind) -> RunArguments {
        let fleet = FleetArguments {
            coordinators: 1,
            workers: 1,
            flotilla: None,
            database: DatabaseArguments { url: String::new() },
            amqp_url: String::new(),
        };
        arguments(kind, 20, Some(5000.0), &fleet)
    }

    #[test]
    fn names_are_unique() {
        let names: std::collections::BTreeSet<_> = Kind::ALL.map(Kind::name).into();
        assert_eq!(names.len(), Kind::ALL.len());
    }

    #[test]
    fn latency_is_asked_for_at_half_of_the_highest_rate() {
        assert_eq!(asked(Kind::Half).rate, Some(2500.0));
        assert_eq!(asked(Kind::Single).rate, None);
    }

    #[test]
    fn a_million_items_run_once() {
        let asked = asked(Kind::Million);
        assert_eq!((asked.count, asked.seconds), (Some(1), None));
        assert_eq!(asked.load.width, 1_000_000);
    }
}
