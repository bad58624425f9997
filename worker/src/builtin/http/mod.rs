//! `core.http`: one request, and what became of it.
//!
//! ```text
//! input ── request.rs ──> reqwest ──> response.rs ──> result, or an error that says whether to retry
//! ```
//!
//! A request waits for nothing but its answer: that a server asks for patience (`Retry-After`) is told
//! to the coordinator, which puts off the next attempt. The worker does not wait.

mod request;
mod response;

use std::sync::Arc;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, Url};

use crate::context::Context;
use crate::error::{ActionError, chain};
pub(super) use request::Http;
use response::Response;

/// How many redirects are followed.
const MAX_REDIRECTS: usize = 10;

/// What sends requests. Connections are kept and shared by all attempts.
#[derive(Debug, Clone)]
pub(super) struct HttpClient {
    /// Follows redirects.
    following: Client,
    /// Does not, for those who expect one.
    staying: Client,
}

impl HttpClient {
    pub(super) fn new() -> Self {
        let following = build(Policy::limited(MAX_REDIRECTS));
        let staying = build(Policy::none());
        Self { following, staying }
    }
}

/// The roots are compiled in, so that it works in a container that has no certificates of its own.
fn build(redirects: Policy) -> Client {
    let roots = webpki_roots::TLS_SERVER_ROOTS.to_vec();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring has the default versions of TLS")
        .with_root_certificates(rustls::RootCertStore { roots })
        .with_no_client_auth();
    Client::builder()
        .use_preconfigured_tls(tls)
        .redirect(redirects)
        .user_agent(concat!("flotilla-worker/", env!("CARGO_PKG_VERSION")))
        .build()
        .expect("the client is made of constants")
}

/// Sends the request and reads the answer.
pub(super) async fn run(
    client: HttpClient,
    context: Context,
    input: Http,
) -> Result<Response, ActionError> {
    let expected = input.expected()?;
    let client = if expected.redirects() {
        &client.staying
    } else {
        &client.following
    };
    let (request, timeout) = input.request(client, &context.idempotency_key)?;
    let place = format!("{} {}", request.method(), shown(request.url()));
    let failed = |error| failure(&place, timeout, error);
    let response = client.execute(request).await.map_err(failed)?;
    if expected.contains(response.status()) {
        return Response::read(response, failed).await;
    }
    Err(response::unexpected(response).await)
}

/// A request that got no answer, or not all of one.
fn failure(place: &str, timeout: Duration, error: reqwest::Error) -> ActionError {
    if error.is_timeout() {
        let message = format!(
            "{place} was not answered within {} s",
            timeout.as_secs_f64()
        );
        return ActionError::retryable("http_timeout", message);
    }
    let leads_nowhere = error.is_redirect();
    let message = format!("{place}: {}", chain(&error.without_url()));
    if leads_nowhere {
        return ActionError::fatal("http_redirect", message);
    }
    ActionError::retryable("http_connection", message)
}

/// A URL without what may be secret: user, password, query.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // A URL that cannot have them has none.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_query(None);
    url.set_fragment(None);
    url.into()
}
