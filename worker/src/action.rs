//! The actions that a worker knows, by name, with the border between JSON and typed handlers.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use flotilla_protocol::RawJson;
use futures::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::{RawValue, to_raw_value};

use crate::context::Context;
use crate::error::ActionError;

/// What an action answers.
pub(crate) type Answer = Result<RawJson, ActionError>;

/// A handler that waits for something, and so runs in a task of its own.
pub(crate) type Waiting = Arc<dyn Fn(Context, RawJson) -> BoxFuture<'static, Answer> + Send + Sync>;

/// A handler that answers at once.
pub(crate) type Instant = fn(&Context, &RawValue) -> Answer;

/// How an action is run.
#[derive(Clone)]
pub(crate) enum Handler {
    /// It answers at once: called where the job arrives, without the price of a task.
    Instant(Instant),
    /// It may wait.
    Waiting(Waiting),
}

/// The actions by name.
#[derive(Default)]
pub(crate) struct Actions(BTreeMap<String, Handler>);

impl Actions {
    pub(crate) fn insert(&mut self, name: impl Into<String>, handler: Handler) {
        self.0.insert(name.into(), handler);
    }

    /// The handler of an action.
    pub(crate) fn find(&self, name: &str) -> Result<Handler, ActionError> {
        self.0.get(name).cloned().ok_or_else(|| self.unknown(name))
    }

    fn unknown(&self, name: &str) -> ActionError {
        let known: Vec<&str> = self.0.keys().map(String::as_str).collect();
        let message = format!(
            "this worker does not know the action `{name}`; it knows {}",
            known.join(", ")
        );
        ActionError::fatal("unknown_action", message)
    }
}

/// A handler of JSON, made of a typed one.
pub(crate) fn typed<I, O, F, Fut>(handler: F) -> Handler
where
    I: DeserializeOwned + Send,
    O: Serialize,
    F: Fn(Context, I) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<O, ActionError>> + Send + 'static,
{
    Handler::Waiting(Arc::new(move |context, input| match parse::<I>(&input) {
        Ok(input) => {
            let running = handler(context, input);
            Box::pin(async move { write(&running.await?) })
        }
        Err(error) => Box::pin(std::future::ready(Err(error))),
    }))
}

/// Reads an action's input.
pub(crate) fn parse<I: DeserializeOwned>(input: &RawValue) -> Result<I, ActionError> {
    serde_json::from_str(input.get())
        .map_err(|error| ActionError::fatal("invalid_input", error.to_string()))
}

/// Writes an action's result.
pub(crate) fn write<O: Serialize + ?Sized>(output: &O) -> Answer {
    to_raw_value(output).map_err(|error| ActionError::fatal("invalid_result", error.to_string()))
}
