//! One pass over the bytes of a body, before any parser sees it: what Postgres or a recursive parser
//! could not take is refused here. Takes no stack and copies nothing, however hostile the body is.

use crate::refusal::{Refusal, Refused};

/// Longest number in characters; Postgres would take more, nobody means it.
const MAX_NUMBER_CHARACTERS: usize = 1_000;
/// Largest exponent; keeps the number within `numeric` together with [`MAX_NUMBER_CHARACTERS`].
const MAX_EXPONENT: i64 = 4_096;

/// Checks that `body` is UTF-8, nests no deeper than `max_depth`, and holds no U+0000, no half of a
/// surrogate pair and no number that Postgres or a double cannot hold.
///
/// # Errors
/// Says which of these it found first. That the body is JSON at all is left to the parser.
pub fn check_json(body: &[u8], max_depth: usize) -> Result<(), Refused> {
    if let Err(error) = std::str::from_utf8(body) {
        return Err(Refused::new(
            Refusal::NotJson,
            format!("not UTF-8: {error}"),
        ));
    }
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(&byte) = body.get(at) {
        at = match byte {
            b'"' => check_string(body, at + 1)?,
            b'-' | b'0'..=b'9' => check_number(body, at)?,
            b'{' | b'[' => {
                depth += 1;
                if depth > max_depth {
                    return Err(Refused::new(
                        Refusal::TooDeep,
                        format!("nested deeper than {max_depth} at byte {at}"),
                    ));
                }
                at + 1
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                at + 1
            }
            _ => at + 1,
        };
    }
    Ok(())
}

/// Returns the place after the closing quote, or the end where there is none.
fn check_string(body: &[u8], start: usize) -> Result<usize, Refused> {
    let mut at = start;
    loop {
        let rest = body.get(at..).unwrap_or_default();
        let Some(skip) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\')) else {
            return Ok(body.len());
        };
        at += skip;
        if body[at] == b'"' {
            return Ok(at + 1);
        }
        at = if body.get(at + 1) == Some(&b'u') {
            check_escape(body, at)?
        } else {
            at + 2
        };
    }
}

/// Checks the `\uXXXX` at `at`, with its second half if it is the first of a pair.
fn check_escape(body: &[u8], at: usize) -> Result<usize, Refused> {
    let refused = |what: &str| {
        Err(Refused::new(
            Refusal::InvalidValue,
            format!("{what} at byte {at}"),
        ))
    };
    match escaped_unit(body, at) {
        Some(0) => refused("the character U+0000"),
        Some(0xd800..=0xdbff) => match escaped_unit(body, at + 6) {
            Some(0xdc00..=0xdfff) => Ok(at + 12),
            _ => refused("half of a surrogate pair"),
        },
        Some(0xdc00..=0xdfff) => refused("half of a surrogate pair"),
        // What is no escape at all is for the parser to refuse.
        Some(_) | None => Ok(at + 2),
    }
}

/// The UTF-16 unit of the escape at `at`, if there is one.
fn escaped_unit(body: &[u8], at: usize) -> Option<u16> {
    let escape = body.get(at..at + 6)?;
    let digits = escape.strip_prefix(b"\\u")?;
    digits.iter().try_fold(0_u16, |unit, &digit| {
        let value = char::from(digit).to_digit(16)?;
        Some((unit << 4) | u16::try_from(value).ok()?)
    })
}

/// Returns the place after the number that begins at `start`.
fn check_number(body: &[u8], start: usize) -> Result<usize, Refused> {
    let length = body[start..]
        .iter()
        .position(|byte| !matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'))
        .unwrap_or(body.len() - start);
    let number = &body[start..start + length];
    if is_storable_number(number) {
        return Ok(start + length);
    }
    Err(Refused::new(
        Refusal::InvalidValue,
        format!("a number that cannot be stored at byte {start}"),
    ))
}

fn is_storable_number(number: &[u8]) -> bool {
    let exponent_at = number.iter().position(|byte| matches!(byte, b'e' | b'E'));
    // Fewer than 300 digits are always within a double; this is the way of nearly all numbers.
    if exponent_at.is_none() && number.len() < 300 {
        return true;
    }
    if number.len() > MAX_NUMBER_CHARACTERS {
        return false;
    }
    let Ok(text) = std::str::from_utf8(number) else {
        return false;
    };
    if let Some(exponent_at) = exponent_at {
        match text[exponent_at + 1..].parse::<i64>() {
            Ok(exponent) if exponent.abs() <= MAX_EXPONENT => {}
            Ok(_) => return false,
            Err(error) => {
                return !matches!(
                    error.kind(),
                    std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow
                );
            }
        }
    }
    // What does not parse is no number, and the parser will say so.
    text.parse::<f64>().map_or(true, f64::is_finite)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::MAX_DEPTH;

    fn refusal(body: &[u8]) -> Option<Refusal> {
        check_json(body, MAX_DEPTH)
            .err()
            .map(|refused| refused.refusal)
    }

    #[test]
    fn ordinary_json_passes() {
        for body in [
            r#"{"a": [1, -2.5, 1e300, 1E-300, 12345678901234567890123], "b": "x\\u0000 \" \n"}"#,
            r#""\ud83d\ude00 \u0041 \u0001""#,
            "\"😀\"",
            "",
        ] {
            assert_eq!(refusal(body.as_bytes()), None, "{body}");
        }
    }

    #[test]
    fn what_postgres_cannot_hold_is_an_invalid_value() {
        let long = "1".repeat(1_001);
        for body in [
            r#""\u0000""#,
            r#"{"a\u0000": 1}"#,
            r#""\\\u0000""#,
            r#""\ud83d""#,
            r#""\ude00""#,
            r#""\ud83d\u0041""#,
            "1e400",
            "-1e400",
            "1e-99999",
            "0e99999999999999999999999",
            long.as_str(),
        ] {
            assert_eq!(
                refusal(body.as_bytes()),
                Some(Refusal::InvalidValue),
                "{body}"
            );
        }
    }

    #[test]
    fn what_is_not_utf8_is_not_json() {
        assert_eq!(refusal(b"\"\xff\""), Some(Refusal::NotJson));
        assert_eq!(refusal(b"\"\xed\xa0\x80\""), Some(Refusal::NotJson));
    }

    #[test]
    fn depth_counts_open_brackets_outside_of_strings() {
        let fits = "[".repeat(MAX_DEPTH) + &"]".repeat(MAX_DEPTH);
        assert_eq!(refusal(fits.as_bytes()), None);
        assert_eq!(refusal("[{}]".repeat(1_000).as_bytes()), None);
        assert_eq!(
            refusal(format!("\"{}\"", "[".repeat(1_000)).as_bytes()),
            None
        );
        assert_eq!(
            refusal("[".repeat(100_000).as_bytes()),
            Some(Refusal::TooDeep)
        );
    }

    #[test]
    fn torn_bodies_end_the_scan() {
        for body in ["\"abc", "\"\\", "\"\\u", "\"\\u00", "-", "1e", "1e+", "]]"] {
            assert_eq!(refusal(body.as_bytes()), None, "{body}");
        }
    }
}
