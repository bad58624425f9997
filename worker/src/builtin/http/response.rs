//! What a server has answered: a result, or a failure with what helps to understand it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use flotilla_protocol::RawJson;
use flotilla_protocol::names::{MAX_DEPTH, MAX_MESSAGE_BYTES};
use flotilla_protocol::scan::check_json;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use serde::Serialize;
use serde_json::value::to_raw_value;

use super::shown;
use crate::error::ActionError;

/// The most bytes of an unexpected answer that the error shows.
const MAX_EXCERPT_BYTES: usize = 4 * 1024;
/// The longest time that a server can put off the next attempt, in seconds: a day.
const MAX_RETRY_AFTER_S: i64 = 86_400;
/// How deep the body is nested in the completion.
const NESTING: usize = 2;

/// The result of `core.http`.
#[derive(Debug, Serialize)]
pub(in crate::builtin) struct Response {
    status: u16,
    /// Names in lower case; a header that comes several times has its values joined by `, `.
    headers: BTreeMap<String, String>,
    /// JSON if it is JSON, text otherwise.
    body: RawJson,
}

/// What the error of an unexpected answer tells beside its message.
#[derive(Serialize)]
struct Details {
    status: u16,
    headers: BTreeMap<String, String>,
    body: RawJson,
    /// Seconds that the server wants to be left alone, which the coordinator respects.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<i64>,
}

/// The beginning of a body.
struct Body {
    bytes: Vec<u8>,
    is_whole: bool,
}

impl Response {
    /// Reads the whole answer.
    pub(super) async fn read(
        mut response: reqwest::Response,
        failed: impl Fn(reqwest::Error) -> ActionError,
    ) -> Result<Self, ActionError> {
        let body = Body::read(&mut response, MAX_MESSAGE_BYTES)
            .await
            .map_err(failed)?;
        if !body.is_whole {
            let message = format!(
                "the response from {} has more than {MAX_MESSAGE_BYTES} bytes, which is the most that a result may have",
                shown(response.url())
            );
            return Err(ActionError::fatal("limit_exceeded", message));
        }
        Ok(Self {
            status: response.status().as_u16(),
            headers: texts(response.headers()),
            body: body.value(is_json(response.headers())),
        })
    }
}

/// An answer whose status is not expected.
pub(super) async fn unexpected(mut response: reqwest::Response) -> ActionError {
    let status = response.status();
    // The status is what counts; a body that breaks off only has a shorter excerpt.
    let body = Body::read(&mut response, MAX_EXCERPT_BYTES)
        .await
        .unwrap_or_else(|_| Body {
            bytes: Vec::new(),
            is_whole: false,
        });
    let details = Details {
        status: status.as_u16(),
        headers: texts(response.headers()),
        body: body.value(is_json(response.headers())),
        retry_after: retry_after(response.headers(), Utc::now()),
    };
    let message = format!("{} from {}", status.as_u16(), shown(response.url()));
    let may_pass = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
    let error = if may_pass {
        ActionError::retryable("http_status", message)
    } else {
        ActionError::fatal("http_status", message)
    };
    error.with_details(details)
}

impl Body {
    async fn read(response: &mut reqwest::Response, limit: usize) -> Result<Self, reqwest::Error> {
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            let room = limit - bytes.len();
            if chunk.len() > room {
                bytes.extend_from_slice(&chunk[..room]);
                return Ok(Self {
                    bytes,
                    is_whole: false,
                });
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Self {
            bytes,
            is_whole: true,
        })
    }

    /// As JSON if it is JSON. A bare word or number has to be said to be JSON: `42` may be a text.
    fn value(&self, is_said_to_be_json: bool) -> RawJson {
        let first = self.bytes.trim_ascii_start().first();
        let looks_like_json = is_said_to_be_json || matches!(first, Some(b'{' | b'['));
        if looks_like_json
            && self.is_whole
            && check_json(&self.bytes, MAX_DEPTH - NESTING).is_ok()
            && let Ok(json) = serde_json::from_slice(&self.bytes)
        {
            return json;
        }
        // Postgres cannot hold U+0000.
        let text = String::from_utf8_lossy(&self.bytes).replace('\0', "\u{fffd}");
        to_raw_value(&text).expect("a text can be written")
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    content_type.is_some_and(|content_type| {
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        let media_type = media_type.to_ascii_lowercase();
        media_type == "application/json" || media_type.ends_with("+json")
    })
}

fn texts(headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut texts: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        texts
            .entry(name.as_str().to_owned())
            .and_modify(|all| {
                all.push_str(", ");
                all.push_str(&value);
            })
            .or_insert_with(|| value.clone().into_owned());
    }
    texts
}

/// Seconds, as a number or as the time when they are over; nothing that is no such thing counts.
fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<i64> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let seconds = match value.parse::<u64>() {
        Ok(seconds) => i64::try_from(seconds).unwrap_or(i64::MAX),
        Err(_) => {
            let until = DateTime::parse_from_rfc2822(value).ok()?.to_utc();
            // Rounded up: a second too early is too early.
            (until - now).num_seconds() + 1
        }
    };
    (seconds > 0).then_some(seconds.min(MAX_RETRY_AFTER_S))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;
    use reqwest::header::HeaderValue;

    fn value(bytes: &[u8], is_said_to_be_json: bool) -> String {
        let body = Body {
            bytes: bytes.to_vec(),
            is_whole: true,
        };
        body.value(is_said_to_be_json).get().to_owned()
    }

    #[test]
    fn a_body_is_json_if_it_is_json() {
        assert_eq!(value(b" {\"a\":1}", false), "{\"a\":1}");
        assert_eq!(value(b"42", true), "42");
        assert_eq!(value(b"42", false), "\"42\"");
        assert_eq!(value(b"{not", true), "\"{not\"");
        assert_eq!(value(b"[\"\\u0000\"]", true), "\"[\\\"\\\\u0000\\\"]\"");
        assert_eq!(value(b"\xff\0", false), "\"\u{fffd}\u{fffd}\"");
        let deep = "[".repeat(99) + &"]".repeat(99);
        assert!(value(deep.as_bytes(), true).starts_with('"'));
    }

    #[test]
    fn retry_after_is_read_in_both_forms_and_bounded() {
        let now = DateTime::parse_from_rfc3339("2026-03-01T12:00:00Z")
            .unwrap()
            .to_utc();
        let read = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_str(value).unwrap());
            retry_after(&headers, now)
        };
        assert_eq!(read("120"), Some(120));
        assert_eq!(read("99999999999999999999"), None);
        assert_eq!(read("9999999999"), Some(MAX_RETRY_AFTER_S));
        let later = now + TimeDelta::seconds(30);
        let date = later.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
        assert_eq!(read(&date), Some(31));
        for useless in ["0", "-1", "soon", "Sun, 01 Mar 2026 11:00:00 GMT"] {
            assert_eq!(read(useless), None, "{useless}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn a_content_type_says_whether_a_body_is_json() {
        let said = |content_type: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
            is_json(&headers)
        };
        assert!(said("Application/JSON; charset=utf-8"));
        assert!(said("application/problem+json"));
        assert!(!said("text/plain"));
    }
}
