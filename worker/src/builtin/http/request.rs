//! The input of `core.http` as a request.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, Request, StatusCode, Url};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::builtin::text;
use crate::error::ActionError;

/// How long a request may take where the input does not say.
const TIMEOUT_S: f64 = 60.0;
/// Names the piece of work, so that a server that knows the header acts once for all its attempts.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The input of `core.http`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::builtin) struct Http {
    url: String,
    #[serde(default = "get")]
    method: String,
    #[serde(default)]
    headers: Map<String, Value>,
    #[serde(default)]
    query: Map<String, Value>,
    json: Option<Value>,
    form: Option<Map<String, Value>>,
    body: Option<Value>,
    expect: Option<Vec<u16>>,
    /// Seconds for the whole of it, from the first byte sent to the last byte read.
    timeout: Option<f64>,
}

/// The statuses that are no failures.
#[derive(Debug)]
pub(super) enum Expected {
    /// 200 to 299.
    Success,
    /// These.
    Listed(Vec<u16>),
}

impl Expected {
    pub(super) fn contains(&self, status: StatusCode) -> bool {
        match self {
            Self::Success => status.is_success(),
            Self::Listed(statuses) => statuses.contains(&status.as_u16()),
        }
    }

    /// Whether a redirect is an answer and is not to be followed.
    pub(super) fn redirects(&self) -> bool {
        match self {
            Self::Success => false,
            Self::Listed(statuses) => statuses.iter().any(|status| (300..400).contains(status)),
        }
    }
}

impl Http {
    pub(super) fn expected(&self) -> Result<Expected, ActionError> {
        match &self.expect {
            None => Ok(Expected::Success),
            Some(statuses)
                if !statuses.is_empty() && statuses.iter().all(|s| (100..600).contains(s)) =>
            {
                Ok(Expected::Listed(statuses.clone()))
            }
            Some(_) => Err(invalid(
                "expect: a list of statuses is needed, as [200, 404]",
            )),
        }
    }

    /// The request, and how long it may take.
    pub(super) fn request(
        self,
        client: &Client,
        idempotency_key: &str,
    ) -> Result<(Request, Duration), ActionError> {
        let method = Method::from_bytes(self.method.to_ascii_uppercase().as_bytes())
            .map_err(|_| invalid(format!("method: `{}` is no method", self.method)))?;
        let mut url = parse_url(&self.url)?;
        let pairs = pairs(&self.query);
        if !pairs.is_empty() {
            url.query_pairs_mut().extend_pairs(pairs);
        }
        let seconds = self.timeout.unwrap_or(TIMEOUT_S);
        let timeout = Duration::try_from_secs_f64(seconds)
            .ok()
            .filter(|timeout| !timeout.is_zero())
            .ok_or_else(|| invalid(format!("timeout: {seconds} is no number of seconds")))?;
        let mut headers = headers(&self.headers)?;
        let is_repeatable = method.is_safe();
        let request = client.request(method, url).timeout(timeout);
        let request = match (self.json, self.form, self.body) {
            (None, None, None) => request,
            (Some(json), None, None) => {
                let content_type = HeaderValue::from_static("application/json");
                headers.entry(CONTENT_TYPE).or_insert(content_type);
                request.body(json.to_string())
            }
            (None, Some(form), None) => request.form(&self::pairs(&form)),
            (None, None, Some(body)) => request.body(text(&body)),
            (Some(_) | None, Some(_) | None, Some(_) | None) => {
                return Err(invalid(
                    "at most one of `json`, `form` and `body` can be sent",
                ));
            }
        };
        if !is_repeatable && let Ok(key) = HeaderValue::from_str(idempotency_key) {
            headers.entry(IDEMPOTENCY_KEY).or_insert(key);
        }
        let request = request
            .headers(headers)
            .build()
            .map_err(|error| invalid(error.without_url().to_string()))?;
        Ok((request, timeout))
    }
}

fn parse_url(text: &str) -> Result<Url, ActionError> {
    let url = Url::parse(text).map_err(|error| invalid(format!("url: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        let scheme = url.scheme();
        let message = format!("url: `{scheme}` is not supported, only http and https are");
        return Err(invalid(message));
    }
    Ok(url)
}

/// Null leaves a header out.
fn headers(given: &Map<String, Value>) -> Result<HeaderMap, ActionError> {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs(given) {
        let header = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| invalid(format!("headers: `{name}` is no name of a header")))?;
        let value = HeaderValue::from_str(&value)
            .map_err(|_| invalid(format!("headers: `{name}` has a value that cannot be sent")))?;
        headers.append(header, value);
    }
    Ok(headers)
}

/// Names with values as text. A list is a name with several values, null is none.
fn pairs(given: &Map<String, Value>) -> Vec<(&str, String)> {
    let mut pairs = Vec::with_capacity(given.len());
    for (name, value) in given {
        let values = match value {
            Value::Array(values) => values.as_slice(),
            Value::Null => &[],
            Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
                std::slice::from_ref(value)
            }
        };
        pairs.extend(values.iter().map(|value| (name.as_str(), text(value))));
    }
    pairs
}

fn invalid(message: impl Into<String>) -> ActionError {
    ActionError::fatal("invalid_input", message)
}

fn get() -> String {
    "GET".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin::http::{HttpClient, shown};
    use reqwest::header::AUTHORIZATION;
    use serde_json::json;

    fn request(input: Value) -> Result<Request, ActionError> {
        let input: Http = serde_json::from_value(input).unwrap();
        input.expected()?;
        let (request, _) = input.request(&HttpClient::new().following, "key-1")?;
        Ok(request)
    }

    #[test]
    fn a_url_gets_its_query_and_is_shown_without_it() {
        let query = json!({"a b": "ä&", "list": [1, 2], "none": null});
        let input = json!({"url": "http://me:secret@host/x?y=1#z", "query": query});
        let request = request(input).unwrap();
        assert_eq!(
            request.url().as_str(),
            "http://host/x?y=1&a+b=%C3%A4%26&list=1&list=2#z"
        );
        assert_eq!(request.headers()[AUTHORIZATION], "Basic bWU6c2VjcmV0");
        let url = Url::parse("http://me:secret@host/x?y=1#z").unwrap();
        assert_eq!(shown(&url), "http://host/x");
    }

    #[test]
    fn what_the_user_sets_is_not_overwritten() {
        let headers = json!({"Content-Type": "application/x", "idempotency-key": "mine"});
        let input =
            json!({"url": "http://host", "method": "post", "json": {"a": 1}, "headers": headers});
        let request = request(input).unwrap();
        assert_eq!(request.method(), Method::POST);
        assert_eq!(request.headers()[CONTENT_TYPE], "application/x");
        assert_eq!(request.headers()[IDEMPOTENCY_KEY], "mine");
        assert_eq!(request.headers().len(), 2);
    }

    #[test]
    fn a_request_that_cannot_be_sent_says_where_it_is_wrong() {
        for (input, place) in [
            (json!({"url": "host/x"}), "url"),
            (json!({"url": "ftp://host"}), "url"),
            (json!({"url": "http://h", "method": "A B"}), "method"),
            (json!({"url": "http://h", "headers": {"a b": 1}}), "headers"),
            (
                json!({"url": "http://h", "headers": {"a": "\n"}}),
                "headers",
            ),
            (json!({"url": "http://h", "timeout": 0}), "timeout"),
            (json!({"url": "http://h", "timeout": -1}), "timeout"),
            (json!({"url": "http://h", "expect": []}), "expect"),
            (json!({"url": "http://h", "expect": [2]}), "expect"),
            (
                json!({"url": "http://h", "json": 1, "body": "1"}),
                "at most one",
            ),
            (
                json!({"url": "http://h", "json": 1, "form": {}}),
                "at most one",
            ),
        ] {
            let error = request(input).unwrap_err();
            assert_eq!(
                (error.kind.as_str(), error.retryable),
                ("invalid_input", false)
            );
            assert!(error.message.starts_with(place), "{}", error.message);
        }
    }
}
