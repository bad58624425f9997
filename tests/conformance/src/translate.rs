//! Workflows of the neutral form in our language. Only the spelling changes, and defaults that differ
//! are written out.

use serde_json::{Map, Value, json};

use crate::expression::{Site, named};
use crate::{Translated, list};

/// Keys of which the name alone differs.
const KEYS: &str = "if when sleep delay items with_items batch batch_size";
/// The short forms of transitions that depend on the status alone.
const SHORT: &str =
    "succeeded on_success failed on_failure timed_out on_timeout completed on_complete";

type Entries = Map<String, Value>;

/// Translates the workflow `name`; what the language does not have is added to `unsupported`.
pub(crate) fn workflow(name: &str, of: &Value, unsupported: &mut Vec<String>) -> Translated<Value> {
    // Without a list of outputs the output is empty, not none.
    let mut out = json!({"ref": format!("neutral.{name}"), "output_map": {}});
    for (key, value) in object(of)? {
        match key.as_str() {
            "input" => out["parameters"] = in_order(value, |of| json!({ "default": of }))?,
            "vars" => out["vars"] = in_order(value, |value| value)?,
            "output" => out["output_map"] = in_order(value, |value| value)?,
            "tasks" => {
                let tasks = object(value)?.iter();
                let tasks = tasks.map(|(name, fields)| task(name, object(fields)?, unsupported));
                out["tasks"] = tasks.collect::<Translated<_>>()?;
            }
            key => out[key] = Site::default().value(value)?,
        }
    }
    Ok(out)
}

fn object(value: &Value) -> Translated<&Entries> {
    let found = || format!("expected an object, found {value}");
    value.as_object().ok_or_else(found)
}

/// A list of maps with one key each as one map; a bare name is a required parameter.
fn in_order(value: &Value, of: fn(Value) -> Value) -> Translated<Value> {
    let mut out = json!({});
    for entry in list(value) {
        if let Some(name) = entry.as_str() {
            out[name] = json!({"required": true});
            continue;
        }
        for (name, value) in object(entry)? {
            if out.get(name).is_some() {
                return Err(format!("`{name}` has two values in one list"));
            }
            out[name] = of(Site::default().value(value)?);
        }
    }
    Ok(out)
}

fn task(name: &str, fields: &Entries, unsupported: &mut Vec<String>) -> Translated<Value> {
    let parts = fields.get("with").and_then(|with| with.get("as"));
    let parts = parts.map_or(&[][..], list);
    let out = json!({ "name": name });
    let site = Site { parts };
    let mut task = Task { site, fields, out };
    for (key, value) in fields {
        match key.as_str() {
            "wait" | "approval" => unsupported.push(format!("tasks.{name}.{key}")),
            "workflow" => {
                let child = site.value(value)?;
                task.out["type"] = json!("workflow");
                task.out["action"] = json!(format!("neutral.{}", child.as_str().unwrap_or("?")));
            }
            "with" => task.items(object(value)?)?,
            "next" => task.next(value)?,
            "decide" => {
                let branches = list(value).iter().map(|one| task.branch(object(one)?));
                task.out["decision"] = branches.collect::<Translated<_>>()?;
            }
            key => task.out[named(KEYS, key).unwrap_or(key)] = site.value(value)?,
        }
    }
    if fields.contains_key("action") && !fields.contains_key("timeout") {
        task.out["timeout"] = Value::Null;
    }
    Ok(task.out)
}

/// A task under translation.
struct Task<'a> {
    site: Site<'a>,
    fields: &'a Entries,
    out: Value,
}

impl Task<'_> {
    fn items(&mut self, fields: &Entries) -> Translated<()> {
        self.out["on_item_failure"] = json!("drain");
        for (key, value) in fields {
            self.out[named(KEYS, key).unwrap_or(key)] = match key.as_str() {
                "as" => continue,
                "tolerate" => match (value.get("count"), value.get("percent")) {
                    (Some(count), None) => count.clone(),
                    (None, Some(share)) => json!(format!("{share}%")),
                    _ => return Err(format!("`tolerate` is a count or a share, not {value}")),
                },
                _ => self.site.value(value)?,
            };
        }
        Ok(())
    }

    /// A branch of a decision.
    fn branch(&mut self, fields: &Entries) -> Translated<Value> {
        let mut out = json!({});
        for (key, value) in fields {
            match key.as_str() {
                "do" => out["next"] = json!(self.targets(value, None)),
                key => out[named(KEYS, key).unwrap_or(key)] = self.site.value(value)?,
            }
        }
        Ok(out)
    }

    fn next(&mut self, value: &Value) -> Translated<()> {
        let mut routes = Vec::new();
        for entry in list(value) {
            let mut route = object(entry)?.clone();
            let (status, when) = self.when(route.remove("when").as_ref())?;
            let targets = route.remove("do");
            let targets = targets.map(|value| self.targets(&value, when.as_deref()));
            if self.fields.contains_key("decide") {
                let short = named(SHORT, &status).filter(|_| route.is_empty());
                let short = short.ok_or_else(|| format!("{entry} beside `decide`"))?;
                self.out[short] = json!(targets.unwrap_or_default());
                continue;
            }
            let mut route = self.site.value(&Value::Object(route))?;
            if let Some(when) = when {
                route["when"] = json!(when);
            }
            if let Some(targets) = targets.filter(|targets| !targets.is_empty()) {
                route["do"] = json!(targets);
            }
            routes.push(route);
        }
        if !routes.is_empty() {
            self.out["next"] = json!(routes);
        }
        Ok(())
    }

    /// The status that alone decides on a transition, and its condition; it has none where it is always
    /// taken.
    fn when(&self, when: Option<&Value>) -> Translated<(String, Option<String>)> {
        let parts = when.and_then(Value::as_object);
        let status = parts.map_or(when, |parts| parts.get("status"));
        let status = status.and_then(Value::as_str).unwrap_or("completed");
        let guard = parts.and_then(|parts| parts.get("if"));
        let guard = guard.map(|guard| self.site.text(guard)).transpose()?;
        let of_status = match status {
            "completed" => None,
            "succeeded" | "failed" | "timed_out" => Some(format!("{status}()")),
            "canceled" => Some("status() == \"cancelled\"".to_owned()),
            status => Some(format!("status() == \"{status}\"")),
        };
        let alone = if guard.is_some() { "" } else { status };
        let text = match (of_status, guard) {
            (Some(status), Some(guard)) => Some(format!("{status} and ({guard})")),
            (status, guard) => status.or(guard),
        };
        Ok((
            alone.to_owned(),
            text.map(|text| format!("{{{{ {text} }}}}")),
        ))
    }

    /// Names of tasks and commands. `$retry` is a retry of the task under the same condition.
    fn targets(&mut self, value: &Value, when: Option<&str>) -> Vec<String> {
        let mut targets = Vec::new();
        for target in list(value).iter().filter_map(Value::as_str) {
            match target {
                "$continue" => {}
                "$retry" if self.fields.contains_key("retry") => {}
                "$retry" => {
                    let when = when.unwrap_or("{{ failed() }}");
                    self.out["retry"] = json!({"count": 3, "when": when});
                }
                name => targets.push(name.strip_prefix('$').unwrap_or(name).to_owned()),
            }
        }
        targets
    }
}
