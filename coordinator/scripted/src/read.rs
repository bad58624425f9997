//! Reads the parts of a script from YAML: answers and events.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use flotilla_engine::execution::RerunOrder;
use flotilla_engine::yaml::{Fields, Node, Reader, Value, did_you_mean, join, literal};
use flotilla_engine::{Json, Workflow};
use flotilla_protocol::message::TaskError;
use serde_json::value::to_raw_value;

use crate::script::{
    Action, Answer, AnswerStatus, Children, DEFAULT_TAKES, ScriptEvent, TaskAnswers,
};

const ANSWER: [&str; 9] = [
    "status",
    "result",
    "echo",
    "error",
    "takes",
    "duplicates",
    "duplicate_gap",
    "on_cancel",
    "silent_after",
];
const EVENT: [&str; 10] = [
    "at",
    "after",
    "do",
    "signal",
    "payload",
    "from",
    "reset_items",
    "parameters",
    "vars",
    "reason",
];
const ACTIONS: [&str; 8] = [
    "pause",
    "resume",
    "cancel",
    "check",
    "signal",
    "rerun",
    "restart_coordinator",
    "start_again",
];
/// The longest time that is told from for ever, in seconds: ten years.
const LONGEST_S: f64 = 10.0 * 366.0 * 86_400.0;

/// Seconds as a length of time.
pub(crate) fn time(seconds: f64) -> TimeDelta {
    let micros = (seconds.clamp(0.0, LONGEST_S) * 1e6).round();
    #[expect(
        clippy::cast_possible_truncation,
        reason = "it was bounded to ten years"
    )]
    TimeDelta::microseconds(micros as i64)
}

/// Reads the parts of one script.
pub(crate) struct ScriptReader<'r, 's> {
    pub reader: &'r mut Reader<'s>,
    pub workflow: &'r Workflow,
    /// Workflows that may be run as its children.
    pub children: &'r Children,
    /// What is asked for that cannot be played.
    pub unsupported: Vec<String>,
}

impl ScriptReader<'_, '_> {
    /// `task_results`.
    pub(crate) fn answers(&mut self, node: &Node, path: &str) -> BTreeMap<String, TaskAnswers> {
        let mut answers = BTreeMap::new();
        for (key, node) in self.reader.map(node, path) {
            let path = join(path, &key.text);
            self.task(&key.text, &key.place, &path);
            answers.insert(key.text.clone(), self.task_answers(node, &path));
        }
        answers
    }

    /// Notes a name that is none of the workflow's tasks, and none of a child.
    pub(crate) fn task(&mut self, name: &str, place: &flotilla_engine::yaml::Place, path: &str) {
        if self.workflow.by_name.contains_key(name) || self.is_task_of_child(name) {
            return;
        }
        let names = self.workflow.by_name.keys().map(|name| &**name);
        let message = format!("workflow {} has no task `{name}`", self.workflow.reference);
        let hint = did_you_mean(name, names);
        self.reader.error("unknown_task", place, path, message).hint = hint;
    }

    /// Whether a name is `task` or `workflow.task` of a child.
    fn is_task_of_child(&self, name: &str) -> bool {
        let mut children = self.children.iter();
        children.any(|(reference, child)| {
            let own = reference.rsplit('.').next().unwrap_or_default();
            let task = name
                .strip_prefix(own)
                .and_then(|rest| rest.strip_prefix('.'));
            child.by_name.contains_key(task.unwrap_or(name))
        })
    }

    fn task_answers(&mut self, node: &Node, path: &str) -> TaskAnswers {
        let per_item = match &node.value {
            Value::Map(entries) => {
                let fields = Fields(entries);
                (fields.get("items").is_some() || fields.get("default").is_some()).then_some(fields)
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_) => {
                None
            }
        };
        let Some(fields) = per_item else {
            return TaskAnswers::InOrder(self.list(node, path));
        };
        self.reader.fields(node, path, &["items", "default"], &[]);
        let mut items = BTreeMap::new();
        if let Some(node) = fields.get("items") {
            let path = join(path, "items");
            for (key, node) in self.reader.map(node, &path) {
                let path = join(&path, &key.text);
                let Ok(index) = key.text.parse() else {
                    let message =
                        format!("`{}` is no index of an item, which count from 0", key.text);
                    self.reader
                        .error("invalid_value", &key.place, &path, message);
                    continue;
                };
                items.insert(index, self.list(node, &path));
            }
        }
        let default = fields.get("default");
        let default = default.map(|node| self.list(node, &join(path, "default")));
        TaskAnswers::PerItem {
            items,
            default: default.unwrap_or_default(),
        }
    }

    fn list(&mut self, node: &Node, path: &str) -> Vec<Answer> {
        let Value::List(items) = &node.value else {
            return vec![self.answer(node, path)];
        };
        if items.is_empty() {
            let message = "a list of answers needs at least one; the last one is repeated";
            self.reader
                .error("invalid_value", &node.place, path, message);
        }
        let answers = items.iter().enumerate();
        answers
            .map(|(index, item)| self.answer(item, &format!("{path}[{index}]")))
            .collect()
    }

    fn answer(&mut self, node: &Node, path: &str) -> Answer {
        let Some(fields) = self.reader.fields(node, path, &ANSWER, &[]) else {
            return Answer::default();
        };
        let status = self.status(fields, path);
        let takes = self.seconds(fields, path, "takes").unwrap_or(DEFAULT_TAKES);
        let echo = fields
            .get("echo")
            .is_some_and(|node| self.boolean(node, &join(path, "echo")));
        Answer {
            status,
            result: fields.get("result").map(|node| literal(&node.value)),
            echo,
            error: fields
                .get("error")
                .map(|node| self.error(node, &join(path, "error"))),
            takes,
            duplicates: self.count(fields, path, "duplicates").unwrap_or(0),
            duplicate_gap: self
                .seconds(fields, path, "duplicate_gap")
                .unwrap_or_default(),
            silent_after: self.seconds(fields, path, "silent_after"),
            stops_after: fields.get("on_cancel").and_then(|node| {
                let path = join(path, "on_cancel");
                let fields = self.reader.fields(node, &path, &["takes"], &[])?;
                Some(
                    self.seconds(fields, &path, "takes")
                        .unwrap_or(DEFAULT_TAKES),
                )
            }),
        }
    }

    fn status(&mut self, fields: Fields, path: &str) -> AnswerStatus {
        const WORDS: [&str; 5] = ["succeeded", "failed", "timed_out", "lost", "never"];
        let Some(node) = fields.get("status") else {
            return AnswerStatus::Succeeded;
        };
        let path = join(path, "status");
        match self.reader.text(node, &path) {
            Some("succeeded") | None => AnswerStatus::Succeeded,
            Some("failed") => AnswerStatus::Failed,
            Some("timed_out") => AnswerStatus::TimedOut,
            Some("lost") => AnswerStatus::Lost,
            Some("never") => AnswerStatus::Never,
            Some(word) => {
                self.unknown_word(node, &path, word, &WORDS);
                AnswerStatus::Succeeded
            }
        }
    }

    fn error(&mut self, node: &Node, path: &str) -> TaskError {
        let mut error = TaskError {
            kind: "task_failed".to_owned(),
            message: String::new(),
            retryable: None,
            details: None,
        };
        let mut details = serde_json::Map::new();
        for (key, node) in self.reader.map(node, path) {
            let path = join(path, &key.text);
            match key.text.as_str() {
                // The neutral form says `code` where we say `kind`.
                "kind" | "code" => {
                    let kind = self.reader.text(node, &path).unwrap_or("task_failed");
                    kind.clone_into(&mut error.kind);
                }
                "message" => {
                    let message = self.reader.text(node, &path).unwrap_or_default();
                    message.clone_into(&mut error.message);
                }
                "retryable" => error.retryable = Some(self.boolean(node, &path)),
                _ => {
                    details.insert(key.text.clone(), value(&literal(&node.value)));
                }
            }
        }
        if let Some(serde_json::Value::Object(given)) = details.remove("details") {
            details.extend(given);
        }
        if !details.is_empty() {
            error.details = to_raw_value(&details).ok();
        }
        error
    }

    /// `events`.
    pub(crate) fn events(&mut self, node: &Node, path: &str) -> Vec<ScriptEvent> {
        let mut events = Vec::new();
        let items = self.reader.list(node, path, "a list of `{at, do}`");
        for (index, item) in items.iter().enumerate() {
            let path = format!("{path}[{index}]");
            if let Some(fields) = self.reader.fields(item, &path, &EVENT, &[]) {
                events.extend(self.event(item, fields, &path));
            }
        }
        events
    }

    fn event(&mut self, item: &Node, fields: Fields, path: &str) -> Option<ScriptEvent> {
        let Some(node) = fields.get("do") else {
            let message = "an event needs `do`";
            self.reader.error("missing_key", &item.place, path, message);
            return None;
        };
        let at = self.seconds(fields, path, "at");
        if at.is_none() && fields.get("at").is_none() && fields.get("after").is_none() {
            let message = "an event needs `at`, in seconds from the start";
            self.reader.error("missing_key", &item.place, path, message);
        }
        let place = join(path, "do");
        let word = self.reader.text(node, &place)?;
        let action = match word {
            "pause" => Action::Pause,
            "resume" => Action::Resume,
            "cancel" => Action::Cancel,
            "check" => Action::Check,
            "restart_coordinator" => Action::Restart,
            "start_again" => Action::StartAgain,
            "rerun" => Action::Rerun(self.rerun(fields, path)),
            "signal" => {
                self.unsupported
                    .push(format!("{place}: `{word}` is not supported yet"));
                return None;
            }
            _ => {
                self.unknown_word(node, &place, word, &ACTIONS);
                return None;
            }
        };
        if at.is_none() && !matches!(action, Action::Rerun(_)) {
            self.unsupported
                .push(format!("{path}: only a rerun comes `after: final`"));
            return None;
        }
        Some(ScriptEvent { at, action })
    }

    fn rerun(&mut self, fields: Fields, path: &str) -> RerunOrder {
        let from = fields.get("from").map(|node| {
            if let Value::Text(name) = &node.value {
                return vec![name.clone()];
            }
            let path = join(path, "from");
            let items = self.reader.list(node, &path, "names of tasks");
            let names = items
                .iter()
                .filter_map(|item| self.reader.text(item, &path));
            names.map(ToOwned::to_owned).collect()
        });
        RerunOrder {
            from: from.unwrap_or_default(),
            reset_items: fields
                .get("reset_items")
                .is_some_and(|node| self.boolean(node, &join(path, "reset_items"))),
            parameters: fields.get("parameters").map(|node| literal(&node.value)),
            vars: fields.get("vars").map(|node| literal(&node.value)),
        }
    }

    pub(crate) fn unknown_word(&mut self, node: &Node, path: &str, word: &str, words: &[&str]) {
        let message = format!("`{word}` is none of {}", words.join(", "));
        let hint = did_you_mean(word, words.iter().copied());
        self.reader
            .error("invalid_value", &node.place, path, message)
            .hint = hint;
    }

    fn seconds(&mut self, fields: Fields, path: &str, name: &str) -> Option<TimeDelta> {
        let node = fields.get(name)?;
        let path = join(path, name);
        let seconds = self.reader.number(node, &path)?;
        if !(0.0..=LONGEST_S).contains(&seconds) {
            let message = format!("expected seconds, 0 or more, found {seconds}");
            self.reader
                .error("invalid_value", &node.place, &path, message);
        }
        Some(time(seconds))
    }

    fn count(&mut self, fields: Fields, path: &str, name: &str) -> Option<u32> {
        const MOST: u32 = 1_000;
        let node = fields.get(name)?;
        let path = join(path, name);
        if let Value::Number(text) = &node.value
            && let Ok(count) = text.parse()
            && count <= MOST
        {
            return Some(count);
        }
        let expected = format!("a whole number, 0 to {MOST}");
        self.reader.wrong_type(node, &path, &expected);
        None
    }

    pub(crate) fn boolean(&mut self, node: &Node, path: &str) -> bool {
        if let Value::Bool(value) = node.value {
            return value;
        }
        self.reader.wrong_type(node, path, "true or false");
        false
    }
}

/// A value of the engine as one that can be compared.
pub(crate) fn value(json: &Json) -> serde_json::Value {
    serde_json::from_str(json.text()).unwrap_or_default()
}
