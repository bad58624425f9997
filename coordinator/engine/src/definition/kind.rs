//! What a task is: an action for a worker, a sub-workflow, or parallel.

use super::reader::{Fields, Reader, join};
use super::task::field;
use super::tree::{Place, Value};

/// What a task is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Action,
    /// Its action is a workflow, which is run as a child.
    Workflow,
    Parallel,
}

/// What belongs to a job, which a sub-workflow has none of.
const OF_JOBS: [&str; 3] = ["pool", "heartbeat", "max_redeliveries"];

pub(super) fn kind(reader: &mut Reader, fields: Fields, path: &str) -> Kind {
    let Some((node, path)) = field(fields, path, "type") else {
        return kind_of_action(reader, fields);
    };
    match reader.text(node, &path) {
        Some("action") | None => {}
        Some("parallel") => return Kind::Parallel,
        Some("workflow") => return Kind::Workflow,
        Some(kind) => {
            let message = format!("unknown type `{kind}`");
            let hint = super::text::did_you_mean(kind, ["action", "workflow", "parallel"]);
            reader
                .error("invalid_value", &node.place, &path, message)
                .hint = hint;
        }
    }
    Kind::Action
}

/// An action that names a workflow is one.
fn kind_of_action(reader: &Reader, fields: Fields) -> Kind {
    match fields.get("action").map(|node| &node.value) {
        Some(Value::Text(action)) if reader.pack.is_workflow(action) => Kind::Workflow,
        Some(_) | None => Kind::Action,
    }
}

/// A sub-workflow needs the name of the workflow, and no worker has it.
pub(super) fn demand_workflow(reader: &mut Reader, fields: Fields, path: &str, place: &Place) {
    if fields.get("action").is_none() {
        let message = "a task of `type: workflow` needs `action`, the workflow that it runs";
        reader.error("missing_key", place, path, message);
    }
    for name in OF_JOBS {
        if let Some((key, _)) = fields.entry(name) {
            let message = format!("no worker runs a sub-workflow, so `{name}` has no place here");
            let path = join(path, name);
            reader.error("misplaced_key", &key.place, &path, message);
        }
    }
}
