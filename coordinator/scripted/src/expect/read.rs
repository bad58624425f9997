//! Reads an expectation from YAML.

use std::collections::BTreeMap;

use flotilla_engine::yaml::{Key, Node, Value as Yaml, join, literal};
use serde_json::{Map, Value};

use super::{ByTask, Expectation, Expected};
use crate::read::{ScriptReader, value};

const KEYS: [&str; 21] = [
    "status",
    "runs",
    "executions",
    "item_executions",
    "skipped",
    "omitted",
    "task_status",
    "order",
    "sequence",
    "overlap",
    "max_parallel",
    "inputs",
    "actions",
    "output",
    "vars",
    "errors",
    "elapsed",
    "started_at",
    "checkpoints",
    "stale_results",
    "start_count",
];
const STATUSES: [&str; 11] = [
    "succeeded",
    "failed",
    "cancelled",
    "timed_out",
    "running",
    "pausing",
    "paused",
    "cancelling",
    "failing",
    "invalid",
    "rejected",
];
const TASK_STATUSES: [&str; 11] = [
    "waiting",
    "delayed",
    "dispatched",
    "running",
    "retrying",
    "succeeded",
    "failed",
    "timed_out",
    "cancelled",
    "skipped",
    "omitted",
];
const ERROR_KEYS: [&str; 10] = [
    "kind",
    "category",
    "code",
    "message",
    "task",
    "field",
    "where",
    "expression",
    "name",
    "items",
];

/// Reads `expect`.
pub(crate) fn read(reader: &mut ScriptReader, node: &Node, path: &str) -> Expectation {
    let mut expected = Vec::new();
    if let Some(fields) = reader.reader.fields(node, path, &KEYS, &[]) {
        if fields.0.is_empty() {
            let message = "an empty `expect` would hold for anything";
            reader
                .reader
                .error("invalid_value", &node.place, path, message);
        }
        for (key, node) in fields.0 {
            expected.extend(reader.expected(&key.text, node, &join(path, &key.text)));
        }
    }
    Expectation { expected }
}

impl ScriptReader<'_, '_> {
    fn expected(&mut self, key: &str, node: &Node, path: &str) -> Option<Expected> {
        Some(match key {
            "status" => Expected::Status(self.status_of(node, path, &STATUSES)?),
            "runs" => Expected::Runs(self.by_task(node, path, Self::count_of)),
            "executions" => Expected::Executions(self.by_task(node, path, Self::count_of)),
            "item_executions" => {
                Expected::ItemExecutions(self.by_task(node, path, Self::item_counts))
            }
            "skipped" => Expected::Skipped(self.tasks(node, path).into_iter().collect()),
            "omitted" => Expected::Omitted(self.tasks(node, path).into_iter().collect()),
            "task_status" => {
                Expected::TaskStatus(self.by_task(node, path, |reader, node, path| {
                    reader.status_of(node, path, &TASK_STATUSES)
                }))
            }
            "order" => Expected::Order(self.pairs(node, path)),
            "sequence" => Expected::Sequence(self.tasks(node, path)),
            "overlap" => Expected::Overlap(self.pairs(node, path)),
            "max_parallel" => Expected::MaxParallel(self.by_task(node, path, Self::count_of)),
            "inputs" => Expected::Inputs(self.by_task(node, path, |reader, node, path| {
                let inputs = reader.reader.list(node, path, "a list of inputs");
                Some(
                    inputs
                        .iter()
                        .map(|node| value(&literal(&node.value)))
                        .collect(),
                )
            })),
            "actions" => Expected::Actions(self.by_task(node, path, |reader, node, path| {
                let actions = reader.reader.list(node, path, "a list of names of actions");
                let texts = actions.iter();
                Some(texts.filter_map(|node| reader.word(node, path)).collect())
            })),
            "output" => Expected::Output(value(&literal(&node.value))),
            "vars" => Expected::Vars(self.object(node, path)),
            "errors" => Expected::Errors(self.errors(node, path)),
            "elapsed" => Expected::Elapsed(self.reader.number(node, path)?),
            "started_at" => Expected::StartedAt(self.by_task(node, path, |reader, node, path| {
                let times = reader.reader.list(node, path, "a list of seconds");
                let times = times.iter();
                Some(
                    times
                        .filter_map(|node| reader.reader.number(node, path))
                        .collect(),
                )
            })),
            "checkpoints" => Expected::Checkpoints(self.checkpoints(node, path)),
            "stale_results" => Expected::StaleResults(self.count_of(node, path)?),
            "start_count" => Expected::StartCount(self.count_of(node, path)?),
            // An unknown key has been noted.
            _ => return None,
        })
    }

    /// A status, also as the neutral form spells it.
    fn status_of(&mut self, node: &Node, path: &str, words: &[&str]) -> Option<String> {
        let word = self.reader.text(node, path)?;
        let word = match word {
            "canceled" => "cancelled",
            "canceling" => "cancelling",
            word => word,
        };
        if !words.contains(&word) {
            self.unknown_word(node, path, word, words);
        }
        Some(word.to_owned())
    }

    fn by_task<T>(
        &mut self,
        node: &Node,
        path: &str,
        read: impl Fn(&mut Self, &Node, &str) -> Option<T>,
    ) -> ByTask<T> {
        let mut tasks = BTreeMap::new();
        for (Key { text, place }, node) in self.reader.map(node, path) {
            let path = join(path, text);
            self.task(text, place, &path);
            if let Some(value) = read(self, node, &path) {
                tasks.insert(text.clone(), value);
            }
        }
        tasks
    }

    fn tasks(&mut self, node: &Node, path: &str) -> Vec<String> {
        let items = self.reader.list(node, path, "a list of tasks");
        let mut tasks = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let path = format!("{path}[{index}]");
            if let Some(name) = self.word(item, &path) {
                self.task(&name, &item.place, &path);
                tasks.push(name);
            }
        }
        tasks
    }

    fn pairs(&mut self, node: &Node, path: &str) -> Vec<(String, String)> {
        let items = self.reader.list(node, path, "a list of pairs of tasks");
        let mut pairs = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let path = format!("{path}[{index}]");
            match self.tasks(item, &path).as_slice() {
                [first, second] => pairs.push((first.clone(), second.clone())),
                _ => self
                    .reader
                    .wrong_type(item, &path, "a pair of tasks, `[a, b]`"),
            }
        }
        pairs
    }

    fn checkpoints(&mut self, node: &Node, path: &str) -> Vec<(f64, String)> {
        let items = self.reader.list(node, path, "a list of `{at, status}`");
        let mut checkpoints = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let path = format!("{path}[{index}]");
            let Some(fields) = self.reader.fields(item, &path, &["at", "status"], &[]) else {
                continue;
            };
            let (Some(at), Some(status)) = (fields.get("at"), fields.get("status")) else {
                let message = "a checkpoint has `at` and `status`";
                self.reader
                    .error("missing_key", &item.place, &path, message);
                continue;
            };
            let at = self.reader.number(at, &join(&path, "at"));
            let status = self.status_of(status, &join(&path, "status"), &STATUSES);
            checkpoints.extend(at.zip(status));
        }
        checkpoints
    }

    fn errors(&mut self, node: &Node, path: &str) -> Vec<Map<String, Value>> {
        let items = self.reader.list(node, path, "a list of `{kind, task}`");
        let mut errors = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let path = format!("{path}[{index}]");
            if let Some(fields) = self.reader.fields(item, &path, &ERROR_KEYS, &[]) {
                if let Some(Node {
                    value: Yaml::Text(name),
                    place,
                }) = fields.get("task")
                {
                    self.task(name, place, &join(&path, "task"));
                }
                errors.push(self.object(item, &path));
            }
        }
        errors
    }

    fn object(&mut self, node: &Node, path: &str) -> Map<String, Value> {
        let entries = self.reader.map(node, path).iter();
        entries
            .map(|(key, node)| (key.text.clone(), value(&literal(&node.value))))
            .collect()
    }

    fn item_counts(&mut self, node: &Node, path: &str) -> Option<BTreeMap<u32, u64>> {
        let mut counts = BTreeMap::new();
        for (key, node) in self.reader.map(node, path) {
            let path = join(path, &key.text);
            let Ok(index) = key.text.parse() else {
                let message = format!("`{}` is no index of an item, which count from 0", key.text);
                self.reader
                    .error("invalid_value", &key.place, &path, message);
                continue;
            };
            counts.insert(index, self.count_of(node, &path)?);
        }
        Some(counts)
    }

    fn word(&mut self, node: &Node, path: &str) -> Option<String> {
        self.reader.text(node, path).map(str::to_owned)
    }

    fn count_of(&mut self, node: &Node, path: &str) -> Option<u64> {
        if let Yaml::Number(text) = &node.value
            && let Ok(count) = text.parse()
        {
            return Some(count);
        }
        self.reader
            .wrong_type(node, path, "a whole number of 0 or more");
        None
    }
}
