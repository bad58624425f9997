//! The actions that every worker has.

mod http;
mod output;
mod process;
mod python;
mod shell;
mod simple;

use serde_json::Value;

use crate::action::{Actions, Handler, typed};

/// Adds them all.
pub(crate) fn insert(actions: &mut Actions, allow_shell: bool) {
    actions.insert("core.noop", Handler::Instant(simple::noop));
    actions.insert("core.echo", Handler::Instant(simple::echo));
    actions.insert("core.fail", Handler::Instant(simple::fail));
    actions.insert("core.log", Handler::Instant(simple::log));
    actions.insert("core.sleep", typed(simple::sleep));
    let client = http::HttpClient::new();
    actions.insert(
        "core.http",
        typed(move |context, input| http::run(client.clone(), context, input)),
    );
    let (shell, python) = if allow_shell {
        (typed(shell::run), typed(python::run))
    } else {
        let refuse = Handler::Instant(shell::refuse);
        (refuse.clone(), refuse)
    };
    actions.insert("core.shell", shell);
    actions.insert("core.python", python);
}

/// Text as it is, anything else as JSON.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            value.to_string()
        }
    }
}
