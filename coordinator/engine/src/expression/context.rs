//! What an expression sees: objects over the shared data, so that nothing is converted or copied
//! for an evaluation.

use std::sync::Arc;

use minijinja::value::{Enumerator, Object, ObjectRepr};
use minijinja::{Error, ErrorKind, Value};

use super::emit::END;
use super::names::Names;
use crate::json::Json;
use crate::scope::{Ended, ItemView, Scope, System, TaskView};
use crate::variables::Variables;

/// What an expression needs of a scope beside `parameters` and `vars`.
#[derive(Debug, Clone, Default)]
pub(super) struct Needs {
    /// Names of `task.<name>`.
    pub tasks: Vec<String>,
    /// `system`, and `pack`, which is a fact of the execution as well.
    pub system: bool,
    pub item: bool,
    pub end: bool,
}

impl Needs {
    /// What the names that an expression reads ask for.
    pub(super) fn of(names: &Names) -> Self {
        let paths = || names.reads.iter().map(|read| &read.path);
        let reads_one_of = |roots: &[&str]| paths().any(|path| roots.contains(&path[0].as_str()));
        let tasks = paths().filter(|path| path[0] == "task");
        Self {
            tasks: tasks.filter_map(|path| path.get(1).cloned()).collect(),
            system: reads_one_of(&["system", "pack"]),
            item: reads_one_of(&["item", "index", "batch"]),
            end: names.read_end(),
        }
    }
}

/// The top-level names.
#[derive(Debug)]
pub(super) struct Context {
    parameters: Json,
    vars: Variables,
    tasks: Vec<(Arc<str>, Arc<TaskView>)>,
    system: Option<System>,
    item: Option<ItemView>,
    ended: Option<Ended>,
}

impl Context {
    /// Lays out what an expression needs.
    pub(super) fn new(scope: &Scope, needs: &Needs) -> Self {
        let task = |name: &String| {
            let (name, view) = scope.tasks.get_key_value(name.as_str())?;
            Some((Arc::clone(name), Arc::clone(view)))
        };
        Self {
            parameters: scope.parameters.clone(),
            vars: scope.vars.clone(),
            tasks: needs.tasks.iter().filter_map(task).collect(),
            system: needs.system.then(|| scope.system.clone()),
            item: scope.item.filter(|_| needs.item).cloned(),
            ended: if needs.end {
                scope.ended.cloned()
            } else {
                None
            },
        }
    }
}

impl Object for Context {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        match key {
            "vars" => Some(Value::from_object(Vars(self.vars.clone()))),
            "parameters" => Some(self.parameters.value().clone()),
            "task" => Some(Value::from_object(Tasks(self.tasks.clone()))),
            "system" => self
                .system
                .clone()
                .map(|system| Value::from_object(Facts(system))),
            "item" => self.item.as_ref().map(|item| item.value.clone()),
            "index" => self.item.as_ref().map(|item| Value::from(item.index)),
            "batch" => self
                .item
                .as_ref()
                .filter(|item| item.is_batch)
                .map(|item| item.value.clone()),
            "pack" => {
                let pack = self.system.as_ref()?.pack.as_ref()?;
                Some(pack.value().clone())
            }
            END => Some(match &self.ended {
                Some(ended) => Value::from_object(End(ended.clone())),
                None => Value::from(Error::new(
                    ErrorKind::InvalidOperation,
                    "result(), error(), status() and their kin exist only where a task has ended",
                )),
            }),
            _ => None,
        }
    }
}

#[derive(Debug)]
struct Vars(Variables);

impl Object for Vars {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        self.0.get(key).map(|write| write.value.value().clone())
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(
            self.0
                .iter()
                .map(|write| Value::from(&write.name))
                .collect(),
        )
    }
}

#[derive(Debug)]
struct Tasks(Vec<(Arc<str>, Arc<TaskView>)>);

impl Object for Tasks {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        let (_, view) = self.0.iter().find(|(name, _)| &**name == key)?;
        Some(Value::from_object(Ran(Arc::clone(view))))
    }
}

#[derive(Debug)]
struct Ran(Arc<TaskView>);

impl Object for Ran {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        match key {
            "status" => Some(Value::from(self.0.status.word())),
            "result" => Some(self.0.result.value().clone()),
            "error" => Some(self.0.error.value().clone()),
            "visits" => Some(Value::from(self.0.visits)),
            _ => None,
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Str(&["status", "result", "error", "visits"])
    }
}

#[derive(Debug)]
struct Facts(System);

impl Object for Facts {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Map
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        let system = &self.0;
        match key {
            "execution_id" => Some(Value::from(system.execution_id.to_string())),
            "workflow" => Some(Value::from(&system.workflow)),
            "version" => Some(Value::from(&system.version)),
            "started_at" => Some(Value::from(system.started_at.to_rfc3339())),
            "parent_id" => Some(Value::from(system.parent_id.map(|id| id.to_string()))),
            "visit" => system.visit.map(Value::from),
            "attempt" => system.attempt.map(Value::from),
            "status" => system.status.map(Value::from),
            _ => None,
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let keys = SYSTEM_FACTS
            .iter()
            .filter(|key| self.get_value_by_str(key).is_some());
        Enumerator::Values(keys.map(|key| Value::from(*key)).collect())
    }
}

/// What `system` can tell.
pub(crate) const SYSTEM_FACTS: [&str; 8] = [
    "execution_id",
    "workflow",
    "version",
    "started_at",
    "parent_id",
    "visit",
    "attempt",
    "status",
];

/// The functions of the end of a task; a call of one is rewritten to an attribute of this.
#[derive(Debug)]
struct End(Ended);

impl Object for End {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        let ended = &self.0;
        match key {
            "result" => Some(ended.result.value().clone()),
            "error" => Some(ended.error.value().clone()),
            "status" => Some(Value::from(ended.status.word())),
            "succeeded" => Some(Value::from(ended.has_succeeded())),
            "failed" => Some(Value::from(ended.has_failed())),
            "timed_out" => Some(Value::from(ended.has_timed_out())),
            _ => None,
        }
    }
}
