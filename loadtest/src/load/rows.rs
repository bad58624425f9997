//! Ends as rows tell them: starts ask for no answer then, as those of users who do not wait, and the
//! load costs neither the broker nor the coordinator anything beside its starts.

use std::str::FromStr;
use std::time::{Duration, Instant};

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgConnection};
use uuid::Uuid;

use crate::failure::Failure;

/// Executions that one look asks for at most, the oldest: of more, one that ends before so many older ones is
/// seen only when fewer of these are left. To ask for all of 10,000 each time would cost what is measured.
pub const MAX_LOOKED_AT: usize = 2000;
/// A look takes at most one part in so many of the time, so that it costs Postgres little.
const SHARE: u32 = 20;
/// The shortest and the longest time between two looks.
const WAITS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));
/// Executions that a question asks for at least, the oldest first. They end nearly in the order in which they
/// began: where more are under way, few of them have ended since the last look, and to ask for all of a
/// thousand each time took an eighth of what Postgres did.
const PART: usize = 100;
/// One look in so many asks for all that it may, since some end before older ones.
const THOROUGH: u32 = 5;
/// Executions above which looks are as rare as may be, however little time one takes.
const MANY: usize = 500;
/// Executions up to which the system is idle, and what is asked is how long one execution takes.
const FEW: usize = 4;
/// The time between two looks then: the least (the system adds some 50 µs), and one part in so many of
/// how long the oldest has taken.
const FEW_WAIT: (Duration, u32) = (Duration::from_micros(20), 100);
/// A wait up to which this thread waits itself, and the load stands still: to hand so short a one to another
/// thread and back wakes two, on cores that the system needs.
const SHORT: Duration = Duration::from_micros(200);
/// The part of the shortest time of late before which nobody looks for an end then: each look takes a
/// core from what it looks at, and cost half a millisecond where there are two.
const UNSEEN: (u32, u32) = (7, 8);
/// The part of the shortest time of late below which an execution is too young to be asked for. Among many,
/// most are; one that is quicker than all of late is seen a little later.
const TOO_YOUNG: (u32, u32) = (1, 2);
/// Ends after which the shortest time before them is forgotten: those at the beginning, when nothing was
/// under way yet, say nothing of later ones.
const FORGET_AFTER: u32 = 1000;
/// What a timer counts in; it rounds up.
const TIMER_STEP: Duration = Duration::from_millis(1);

/// Looks at the rows from time to time.
pub struct Rows {
    connection: PgConnection,
    last: Look,
    looks: u32,
    shortest: Shortest,
}

/// The shortest time that an execution has taken of late: among the last ends, at least 1,000 if there are
/// so many.
#[derive(Debug, Clone, Copy, Default)]
struct Shortest {
    /// Among ends that were counted before.
    before: Option<Duration>,
    /// Among those that are being counted.
    counted: Option<Duration>,
    count: u32,
}

/// The last look.
#[derive(Debug, Clone, Copy)]
struct Look {
    /// When its answer came.
    at: Instant,
    took: Duration,
    /// How many were under way, asked for or too young.
    under_way: usize,
    /// How many had ended.
    found: usize,
}

impl Rows {
    /// Connects.
    pub async fn connect(url: &str) -> Result<Self, Failure> {
        // A plan by the key that is made once, also while the tables are empty: to plan each look takes
        // longer than to look.
        let options = PgConnectOptions::from_str(url)?.options([
            ("plan_cache_mode", "force_generic_plan"),
            ("enable_seqscan", "off"),
        ]);
        Ok(Self {
            connection: options.connect().await?,
            last: Look {
                at: Instant::now(),
                took: Duration::ZERO,
                under_way: 0,
                found: 0,
            },
            looks: 0,
            shortest: Shortest::default(),
        })
    }

    /// Learns how long an execution has taken.
    pub fn learn(&mut self, latency: Duration) {
        self.shortest.learn(latency);
    }

    /// When an execution has to have begun at the latest for it to be asked for.
    pub fn begun_until(&self, now: Instant) -> Instant {
        let too_young = self.shortest.get() * TOO_YOUNG.0 / TOO_YOUNG.1;
        now.checked_sub(too_young).unwrap_or(now)
    }

    /// Waits until it is time to look again, where the oldest that has not ended began then; for ever
    /// where all have. Cancel-safe.
    pub async fn look_due(&self, oldest: Option<Instant>) {
        let Some(oldest) = oldest else {
            return std::future::pending().await;
        };
        let due = self.last.next(oldest, self.shortest.get());
        // Among many, a look that comes a step later makes no difference, and a thread for each would cost.
        let exact = if self.last.under_way > FEW {
            Duration::ZERO
        } else {
            2 * TIMER_STEP
        };
        let left = due.saturating_duration_since(Instant::now());
        if left > exact {
            tokio::time::sleep(left - exact).await;
        }
        let left = due.saturating_duration_since(Instant::now());
        if left <= SHORT {
            pause(left);
        } else {
            // It ends early only if it is cancelled, with the runtime.
            let _ = tokio::task::spawn_blocking(move || pause(left)).await;
        }
    }

    /// Which of these, the oldest first, have ended, and whether well; so many are under way, these among
    /// them. Of many, one that has ended before older ones may be left out up to four times.
    pub async fn ended(
        &mut self,
        ids: &[Uuid],
        under_way: usize,
    ) -> Result<Vec<(Uuid, bool)>, Failure> {
        let began = Instant::now();
        self.looks = self.looks.wrapping_add(1);
        let mut ended = Vec::new();
        for part in ids.chunks(part_size(self.looks, self.last.found)) {
            let found = self.ask(part).await?;
            let are_few = 2 * found.len() < part.len();
            ended.extend(found);
            if are_few {
                break;
            }
        }
        let at = Instant::now();
        self.last = Look {
            at,
            took: at - began,
            under_way,
            found: ended.len(),
        };
        Ok(ended)
    }

    async fn ask(&mut self, ids: &[Uuid]) -> Result<Vec<(Uuid, bool)>, Failure> {
        let ended = sqlx::query_as(
            "SELECT execution_id, status = 'succeeded' FROM workflow_execution
             WHERE execution_id = ANY ($1) AND finished_at IS NOT NULL",
        );
        Ok(ended.bind(ids).fetch_all(&mut self.connection).await?)
    }
}

/// How many executions a question of the look of this number asks for, where the look before has found so many.
fn part_size(look: u32, found_before: usize) -> usize {
    if look.is_multiple_of(THOROUGH) {
        MAX_LOOKED_AT
    } else {
        PART.max(2 * found_before)
    }
}

/// Takes a thread for so long, more exactly than a timer would.
#[expect(
    clippy::disallowed_methods,
    reason = "it runs on a thread for what blocks, or is short"
)]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

impl Shortest {
    fn learn(&mut self, latency: Duration) {
        if self.count == FORGET_AFTER {
            self.before = self.counted.take();
            self.count = 0;
        }
        self.count += 1;
        self.counted = Some(self.counted.map_or(latency, |counted| counted.min(latency)));
    }

    /// Zero where nothing has ended.
    fn get(self) -> Duration {
        let known = [self.before, self.counted].into_iter().flatten();
        known.min().unwrap_or_default()
    }
}

impl Look {
    /// When the next one is due, where the oldest execution began then, and none has taken less than
    /// the shortest.
    fn next(self, oldest: Instant, shortest: Duration) -> Instant {
        if self.under_way > MANY {
            return self.at + WAITS.1;
        }
        if self.under_way > FEW {
            return self.at + (self.took * SHARE).clamp(WAITS.0, WAITS.1);
        }
        let age = self.at.saturating_duration_since(oldest);
        let wait = (age / FEW_WAIT.1).clamp(FEW_WAIT.0, WAITS.1);
        (self.at + wait).max(oldest + shortest * UNSEEN.0 / UNSEEN.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn us(count: u64) -> Duration {
        Duration::from_micros(count)
    }

    /// How long after a look the next one is.
    fn wait(took: Duration, under_way: usize, age: Duration, shortest: Duration) -> Duration {
        let oldest = Instant::now();
        let at = oldest + age;
        let look = Look {
            at,
            took,
            under_way,
            found: 0,
        };
        look.next(oldest, shortest) - at
    }

    #[test]
    fn looks_that_take_long_are_rare() {
        let wait = |took| wait(took, 9, us(50_000), us(4000));
        let waits = (wait(us(10)), wait(us(100)), wait(us(5000)));
        assert_eq!(waits, (us(1000), us(2000), us(20_000)));
    }

    #[test]
    fn a_look_asks_first_for_twice_what_the_last_has_found_and_now_and_then_for_all() {
        assert_eq!((part_size(1, 0), part_size(2, 300)), (PART, 600));
        assert_eq!(
            (part_size(THOROUGH, 0), part_size(2 * THOROUGH, 300)),
            (2000, 2000)
        );
    }

    #[test]
    fn where_many_are_under_way_looks_are_rare_however_short() {
        assert_eq!(wait(us(10), MANY + 1, us(50_000), us(4000)), us(20_000));
    }

    #[test]
    fn where_few_are_under_way_looks_are_as_far_apart_as_the_oldest_is_old() {
        let wait = |age| wait(us(90), 1, age, us(4000));
        assert_eq!((wait(us(4500)), wait(us(8000))), (us(45), us(80)));
        assert_eq!(wait(us(60_000_000)), us(20_000));
    }

    #[test]
    fn what_ended_long_ago_is_forgotten() {
        let mut shortest = Shortest::default();
        assert_eq!(shortest.get(), us(0));
        shortest.learn(us(50));
        (1..FORGET_AFTER).for_each(|_| shortest.learn(us(900)));
        (0..FORGET_AFTER).for_each(|_| shortest.learn(us(800)));
        assert_eq!(shortest.get(), us(50));
        shortest.learn(us(850));
        assert_eq!(shortest.get(), us(800));
    }

    #[test]
    fn nobody_looks_for_an_end_long_before_one_can_come() {
        let wait = |age| wait(us(90), 1, age, us(4000));
        assert_eq!(
            (wait(us(0)), wait(us(3490))),
            (us(3500), Duration::from_nanos(34_900))
        );
    }
}
