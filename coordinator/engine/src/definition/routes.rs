//! Reads what follows a task: `on_*`, `decision` and `next`, which become one form.

use super::draft::{DraftBranch, DraftRoute, DraftRoutes, Target};
use super::reader::{Fields, Moment, Reader, Site, join};
use super::task::publish;
use super::tree::{Node, Value};
use crate::workflow::On;

/// The keys of an entry of `next`.
pub(super) const ENTRY: [&str; 3] = ["when", "publish", "do"];
/// The keys of a branch of `decision`.
pub(super) const BRANCH: [&str; 4] = ["when", "default", "publish", "next"];

/// The keys of a task that `next` stands for.
pub(super) const BESIDE_NEXT: [&str; 5] = [
    "on_success",
    "on_failure",
    "on_timeout",
    "on_complete",
    "decision",
];

/// Reads the routes of the task at `index`, and whether it handles timeouts by themselves.
pub(super) fn read(
    reader: &mut Reader,
    fields: Fields,
    path: &str,
    index: usize,
) -> (DraftRoutes, bool) {
    let mut routes = Routes {
        reader,
        index,
        lists: 0,
        handles_timeout: false,
    };
    let draft = routes.read(fields, path);
    (draft, routes.handles_timeout)
}

struct Routes<'r, 'a> {
    reader: &'r mut Reader<'a>,
    /// Of the task.
    index: usize,
    /// Publish lists so far.
    lists: usize,
    handles_timeout: bool,
}

impl Routes<'_, '_> {
    fn read(&mut self, fields: Fields, path: &str) -> DraftRoutes {
        let mut draft = DraftRoutes::default();
        for (key, node) in fields.0 {
            let path = join(path, &key.text);
            let on = match key.text.as_str() {
                "on_success" => On::Success,
                "on_failure" => On::Failure,
                "on_timeout" => On::Timeout,
                "on_complete" => On::Complete,
                "decision" => {
                    draft.branches = Some(self.decision(node, &path));
                    continue;
                }
                "next" => {
                    self.next(node, &path, &mut draft);
                    continue;
                }
                _ => continue,
            };
            self.handles_timeout |= matches!(on, On::Timeout);
            let targets = self.targets(node, &path);
            draft.routes.push(DraftRoute {
                on,
                publish: Vec::new(),
                targets,
                list: self.list(),
            });
        }
        self.refuse_mixture(fields, path);
        draft
    }

    fn refuse_mixture(&mut self, fields: Fields, path: &str) {
        let Some((next, _)) = fields.entry("next") else {
            return;
        };
        let other = fields
            .0
            .iter()
            .find(|(key, _)| BESIDE_NEXT.contains(&key.text.as_str()));
        if let Some((other, _)) = other {
            let message = format!("`next` does not go together with `{}`", other.text);
            let hint = "write all routes as entries of `next`".to_owned();
            let path = join(path, "next");
            self.reader
                .error("mixed_routes", &next.place, &path, message)
                .hint = Some(hint);
        }
    }

    fn next(&mut self, node: &Node, path: &str, draft: &mut DraftRoutes) {
        let items = self
            .reader
            .list(node, path, "a list of `{when, publish, do}`");
        for (index, item) in items.iter().enumerate() {
            let path = format!("{path}[{index}]");
            let Some(fields) = self.reader.fields(item, &path, &ENTRY, &[]) else {
                continue;
            };
            let list = self.list();
            let on = match fields.get("when") {
                Some(node) => self.condition(node, &join(&path, "when")).map(On::When),
                None => Some(On::Complete),
            };
            let publish = self.publish(fields, &path, list);
            let targets = match fields.get("do") {
                Some(node) => self.targets(node, &join(&path, "do")),
                None => Vec::new(),
            };
            let on = on.unwrap_or(On::Complete);
            draft.routes.push(DraftRoute {
                on,
                publish,
                targets,
                list,
            });
        }
    }

    fn decision(&mut self, node: &Node, path: &str) -> Vec<DraftBranch> {
        let mut branches = Vec::new();
        let items = self
            .reader
            .list(node, path, "a list of `{when, publish, next}`");
        if items.is_empty() && matches!(node.value, Value::List(_)) {
            self.reader.error(
                "invalid_value",
                &node.place,
                path,
                "a decision needs a branch",
            );
        }
        for (index, item) in items.iter().enumerate() {
            let path = format!("{path}[{index}]");
            let Some(fields) = self.reader.fields(item, &path, &BRANCH, &[]) else {
                continue;
            };
            let is_last = index + 1 == items.len();
            let when = self.branch_condition(fields, item, &path, is_last);
            let list = self.list();
            let publish = self.publish(fields, &path, list);
            let targets = match fields.get("next") {
                Some(node) => self.targets(node, &join(&path, "next")),
                None => Vec::new(),
            };
            branches.push(DraftBranch {
                when,
                publish,
                targets,
                list,
            });
        }
        branches
    }

    fn branch_condition(
        &mut self,
        fields: Fields,
        item: &Node,
        path: &str,
        is_last: bool,
    ) -> Option<crate::expression::Condition> {
        match (fields.get("when"), fields.entry("default")) {
            (Some(node), None) => self.condition(node, &join(path, "when")),
            (None, Some((key, node))) => {
                let path = join(path, "default");
                if !matches!(node.value, Value::Bool(true)) {
                    self.reader.wrong_type(node, &path, "`true`");
                } else if !is_last {
                    let message = "the default stands last, and there is at most one";
                    self.reader
                        .error("default_not_last", &key.place, &path, message);
                }
                None
            }
            (Some(_), Some((key, _))) => {
                let message = "a branch has `when` or `default`, not both";
                self.reader
                    .error("invalid_value", &key.place, &join(path, "default"), message);
                None
            }
            (None, None) => {
                let place = fields.0.first().map_or(&item.place, |(key, _)| &key.place);
                let message = "a branch needs `when`, or `default: true`";
                self.reader.error("missing_key", place, path, message);
                None
            }
        }
    }

    fn condition(&mut self, node: &Node, path: &str) -> Option<crate::expression::Condition> {
        let site = Site::Task(self.index, Moment::Ended);
        let (condition, asks_for_timeout) = self.reader.condition(node, path, site)?;
        self.handles_timeout |= asks_for_timeout;
        Some(condition)
    }

    fn publish(
        &mut self,
        fields: Fields,
        path: &str,
        list: usize,
    ) -> Vec<crate::workflow::Publish> {
        let Some(node) = fields.get("publish") else {
            return Vec::new();
        };
        let index = self.index;
        publish(self.reader, node, &join(path, "publish"), |entry| {
            Site::Task(index, Moment::Route(list, entry))
        })
    }

    fn targets(&mut self, node: &Node, path: &str) -> Vec<Target> {
        names(self.reader, node, path)
    }

    fn list(&mut self) -> usize {
        self.lists += 1;
        self.lists - 1
    }
}

/// One name or a list of names, each at most once.
pub(super) fn names(reader: &mut Reader, node: &Node, path: &str) -> Vec<Target> {
    let mut targets: Vec<Target> = Vec::new();
    let items = match &node.value {
        Value::Text(_) => std::slice::from_ref(node),
        Value::List(items) => items.as_slice(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Map(_) => {
            reader.wrong_type(node, path, "the name of a task, or a list of names");
            &[]
        }
    };
    for (index, item) in items.iter().enumerate() {
        let is_list = matches!(node.value, Value::List(_));
        let path = if is_list {
            format!("{path}[{index}]")
        } else {
            path.to_owned()
        };
        let Value::Text(name) = &item.value else {
            reader.wrong_type(item, &path, "the name of a task");
            continue;
        };
        if targets.iter().any(|target| target.name == *name) {
            let message = format!("`{name}` stands twice in one list");
            reader.error("duplicate_target", &item.place, &path, message);
            continue;
        }
        targets.push(Target {
            name: name.clone(),
            place: item.place.clone(),
            path,
        });
    }
    targets
}
