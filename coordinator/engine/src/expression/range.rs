//! `range()`: a list within an expression, or the items of a task, which are never written out.

use minijinja::{Error, Value};

use super::guard;
use crate::items::Range;
use crate::workflow::MOST_ITEMS;

/// Most elements of a range within an expression.
const RANGE_LIMIT: usize = 100_000;

/// `range(stop)`, `range(start, stop)`, `range(start, stop, step)`.
pub(super) fn range(
    lower: isize,
    upper: Option<isize>,
    step: Option<isize>,
) -> Result<Value, Error> {
    let (start, stop) = upper.map_or((0, lower), |upper| (lower, upper));
    let step = step.unwrap_or(1);
    let distance = if step > 0 {
        stop.saturating_sub(start)
    } else {
        start.saturating_sub(stop)
    };
    let count = match step {
        0 => 0,
        _ => distance.max(0).unsigned_abs().div_ceil(step.unsigned_abs()),
    };
    if guard::is_items() && step != 0 {
        return item_range(start, step, count);
    }
    if count > RANGE_LIMIT {
        return Err(guard::limit("the range has more than 100000 elements"));
    }
    minijinja::functions::range(lower, upper, Some(step))
}

/// A range that gives the items of a task: it is counted, and never written out.
fn item_range(start: isize, step: isize, count: usize) -> Result<Value, Error> {
    let whole = |number: isize| i64::try_from(number).ok();
    match (whole(start), whole(step), u32::try_from(count)) {
        (Some(first), Some(step), Ok(count)) if count <= MOST_ITEMS => {
            Ok(Value::from_object(Range { first, step, count }))
        }
        _ => Err(guard::limit("the range has more than 10000000 elements")),
    }
}
