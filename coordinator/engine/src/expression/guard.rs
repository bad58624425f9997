//! The bounds of an evaluation. The engine's fuel counts steps, not what a step makes: a text
//! times a number, a join, or a nested list that holds itself twice at each level grows without
//! bound within a few steps. So operands are measured, and what is measured or made is charged.

use std::cell::Cell;

use minijinja::value::{Rest, ValueKind};
use minijinja::{Error, ErrorKind, Value};

use super::output;

/// Steps of one evaluation.
pub(super) const FUEL: u64 = 100_000;
/// Most bytes that an expression, or a template as a whole, gives.
pub(super) const OUTPUT_LIMIT: usize = 1024 * 1024;
/// Most bytes of one value within an expression.
pub(super) const VALUE_LIMIT: usize = 8 * 1024 * 1024;
/// Most bytes that one evaluation measures and makes.
const WORK_LIMIT: usize = 32 * 1024 * 1024;
/// What a value counts beside the bytes of its text.
const VALUE_COST: usize = 8;
/// Deepest nesting of a value.
pub(super) const DEPTH_LIMIT: usize = 128;

thread_local! {
    /// What the evaluation under way has been charged. An evaluation neither waits nor moves.
    static WORK: Cell<usize> = const { Cell::new(0) };
    /// Whether the evaluation under way is of a range that is not to be written out.
    static IS_ITEMS: Cell<bool> = const { Cell::new(false) };
}

/// Begins an evaluation.
pub(super) fn begin() {
    WORK.set(0);
    IS_ITEMS.set(false);
}

/// Begins the evaluation of a `range()` that gives the items of a task.
pub(super) fn begin_items() {
    begin();
    IS_ITEMS.set(true);
}

/// Whether the evaluation under way began with [`begin_items`].
pub(super) fn is_items() -> bool {
    IS_ITEMS.get()
}

/// Charges `bytes` of work.
pub(super) fn charge(bytes: usize) -> Result<(), Error> {
    let work = WORK.get().saturating_add(bytes);
    WORK.set(work);
    if work > WORK_LIMIT {
        return Err(limit("the expression works on too much data"));
    }
    Ok(())
}

/// The error of a bound that was exceeded.
pub(super) fn limit(message: &'static str) -> Error {
    Error::new(ErrorKind::OutOfFuel, message)
}

/// Charges for something of `bytes` that is about to be made.
pub(super) fn make(bytes: usize) -> Result<(), Error> {
    if bytes > VALUE_LIMIT {
        return Err(limit("a value within the expression is too large"));
    }
    charge(bytes)
}

/// `__m`: passes a value on that is not too large.
pub(super) fn measured(value: Value) -> Result<Value, Error> {
    measure(&value)?;
    Ok(value)
}

/// The bytes of a value, as if all that it shares were written out.
pub(super) fn measure(value: &Value) -> Result<usize, Error> {
    let mut size = 0;
    add_size(value, &mut size, 0)?;
    charge(size)?;
    Ok(size)
}

fn add_size(value: &Value, size: &mut usize, depth: usize) -> Result<(), Error> {
    *size += VALUE_COST + value.as_str().map_or(0, str::len);
    if *size > VALUE_LIMIT {
        return Err(limit("a value within the expression is too large"));
    }
    if depth > DEPTH_LIMIT {
        return Err(limit("a value within the expression is nested too deeply"));
    }
    let kind = value.kind();
    if !matches!(kind, ValueKind::Seq | ValueKind::Iterable | ValueKind::Map) {
        return Ok(());
    }
    value.try_iter()?.try_for_each(|item| {
        add_size(&item, size, depth + 1)?;
        if kind == ValueKind::Map {
            add_size(&value.get_item(&item)?, size, depth + 1)?;
        }
        Ok(())
    })
}

/// `a + b + …`
pub(super) fn add(values: Rest<Value>) -> Result<Value, Error> {
    fold(values.0, |left, right| match (left.kind(), right.kind()) {
        (ValueKind::Number | ValueKind::Bool, ValueKind::Number | ValueKind::Bool) => {
            arithmetic(left, right, "+", i128::checked_add, |a, b| a + b)
        }
        (ValueKind::String, ValueKind::String) => {
            let (left, right) = (left.as_str().unwrap_or(""), right.as_str().unwrap_or(""));
            make(left.len() + right.len())?;
            Ok(Value::from(format!("{left}{right}")))
        }
        (ValueKind::Seq | ValueKind::Iterable, ValueKind::Seq | ValueKind::Iterable) => {
            make(measure(left)? + measure(right)?)?;
            Ok(Value::from(
                left.try_iter()?
                    .chain(right.try_iter()?)
                    .collect::<Vec<_>>(),
            ))
        }
        _ => Err(unsupported("+", left, right)),
    })
}

/// `a * b * …`
pub(super) fn mul(values: Rest<Value>) -> Result<Value, Error> {
    fold(values.0, |left, right| match (left.kind(), right.kind()) {
        (ValueKind::Number | ValueKind::Bool, ValueKind::Number | ValueKind::Bool) => {
            arithmetic(left, right, "*", i128::checked_mul, |a, b| a * b)
        }
        (ValueKind::String | ValueKind::Seq | ValueKind::Iterable, ValueKind::Number) => {
            repeat(left, right)
        }
        (ValueKind::Number, ValueKind::String | ValueKind::Seq | ValueKind::Iterable) => {
            repeat(right, left)
        }
        _ => Err(unsupported("*", left, right)),
    })
}

/// `a ~ b ~ …`: the texts of the values, one after the other.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the engine hands arguments over"
)]
pub(super) fn cat(values: Rest<Value>) -> Result<Value, Error> {
    let mut text = String::new();
    for value in values.iter() {
        let before = text.len();
        output::write_text(&mut text, value, OUTPUT_LIMIT)?;
        charge(text.len() - before)?;
    }
    Ok(Value::from(text))
}

fn fold(
    values: Vec<Value>,
    step: impl Fn(&Value, &Value) -> Result<Value, Error>,
) -> Result<Value, Error> {
    let mut values = values.into_iter();
    let first = values.next().unwrap_or_default();
    values.try_fold(first, |left, right| step(&left, &right))
}

fn arithmetic(
    left: &Value,
    right: &Value,
    operator: &str,
    integers: fn(i128, i128) -> Option<i128>,
    floats: fn(f64, f64) -> f64,
) -> Result<Value, Error> {
    if let (Some(a), Some(b)) = (integer(left), integer(right)) {
        return integers(a, b)
            .map(narrow)
            .ok_or_else(|| invalid(format!("{a} {operator} {b} is too large")));
    }
    match (f64::try_from(left.clone()), f64::try_from(right.clone())) {
        (Ok(a), Ok(b)) => Ok(Value::from(floats(a, b))),
        _ => Err(unsupported(operator, left, right)),
    }
}

fn integer(value: &Value) -> Option<i128> {
    (value.is_integer() || value.kind() == ValueKind::Bool)
        .then(|| i128::try_from(value.clone()).ok())
        .flatten()
}

fn narrow(value: i128) -> Value {
    i64::try_from(value).map_or_else(|_| Value::from(value), Value::from)
}

fn repeat(value: &Value, times: &Value) -> Result<Value, Error> {
    let times = integer(times)
        .ok_or_else(|| invalid("a text or list can only be repeated a whole number of times"))?;
    let times = usize::try_from(times.max(0)).unwrap_or(usize::MAX);
    make(measure(value)?.saturating_mul(times))?;
    if let Some(text) = value.as_str() {
        return Ok(Value::from(text.repeat(times)));
    }
    let items: Vec<Value> = value.try_iter()?.collect();
    Ok(Value::from(
        std::iter::repeat_n(items, times)
            .flatten()
            .collect::<Vec<_>>(),
    ))
}

fn unsupported(operator: &str, left: &Value, right: &Value) -> Error {
    if left.is_undefined() || right.is_undefined() {
        return Error::from(ErrorKind::UndefinedError);
    }
    invalid(format!(
        "{} {operator} {} is not defined",
        left.kind(),
        right.kind()
    ))
}

/// The error of an operation that makes no sense.
pub(super) fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}
