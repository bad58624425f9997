//! The texts of the workflows.

use std::fmt::Write;

use super::{Sizes, Workflow};

/// Items up to which a task looks at the list of its results: above, that list is not made unless
/// somebody asks for it.
const LISTED_ITEMS: u32 = 10_000;
/// Items above which a workflow has to say how many it may have.
const UNASKED_ITEMS: u32 = 100_000;
/// Shares of failures are counted in so many parts.
const PARTS: f64 = 1000.0;

/// A task of a graph.
pub struct Task<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its number, from 1.
    pub number: u32,
    /// The tasks that follow.
    pub next: &'a [String],
    /// Whether it waits for all that lead to it.
    pub joins: bool,
}

/// Tasks one after another.
pub fn chain(name: &str, length: u32, sizes: &Sizes) -> Workflow {
    let mut text = Text::begin(name, version(sizes, length), sizes);
    for number in 1..=length {
        let next = (number < length).then(|| format!("step_{}", number + 1));
        text.task(&Task {
            name: &format!("step_{number}"),
            number,
            next: next.as_slice(),
            joins: false,
        });
    }
    text.end(length, length)
}

/// One task, two, and one that waits for both.
pub fn diamond(sizes: &Sizes) -> Workflow {
    let mut text = Text::begin("diamond", version(sizes, 2), sizes);
    text.split(&["left".to_owned(), "right".to_owned()]);
    text.end(4, 4)
}

/// One task, `width` tasks, and one that waits for all of them.
pub fn fanout(sizes: &Sizes) -> Workflow {
    let width = sizes.width;
    let mut text = Text::begin("fanout", version(sizes, width), sizes);
    let parts: Vec<String> = (1..=width).map(|number| format!("part_{number}")).collect();
    text.split(&parts);
    text.end(width + 2, width + 2)
}

/// One task with `width` items; the task as a whole is one run more than its items.
pub fn items(sizes: &Sizes) -> Workflow {
    let width = sizes.width;
    let mut text = Text::begin("items", version(sizes, width), sizes);
    let concurrency = sizes.concurrency;
    let concurrency = concurrency.map_or_else(String::new, |n| format!("    concurrency: {n}\n"));
    let published = if width <= LISTED_ITEMS {
        "result() | length"
    } else {
        "vars.value + 1"
    };
    let action = text.action("item + vars.value", "index");
    text.add(format_args!(
        "  - name: each\n    with_items: \"{{{{ range({width}) }}}}\"\n{concurrency}{action}    \
         publish:\n      - value: \"{{{{ {published} }}}}\"\n"
    ));
    text.end(width, width + 1)
}

/// Two definitions that differ have different versions, whatever the sizes are made of.
pub fn version(sizes: &Sizes, size: u32) -> String {
    let failing = failing_parts(sizes.failures);
    let concurrency = sizes.concurrency.unwrap_or(0);
    match (sizes.payload, failing, concurrency) {
        (0, 0, 0) => format!("1.0.{size}"),
        (payload, failing, concurrency) => {
            format!("1.0.{size}-{payload}.{failing}.{concurrency}")
        }
    }
}

/// Of so many tasks, how many fail once: a failed attempt is followed by one that does not fail.
fn failing_parts(share: f64) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of at most a half"
    )]
    let parts = (share / (1.0 - share) * PARTS).round() as u32;
    parts
}

/// A workflow that is being written.
pub struct Text {
    name: String,
    version: String,
    text: String,
    has_payload: bool,
    failing: u32,
}

impl Text {
    /// Its head.
    pub fn begin(name: &str, version: String, sizes: &Sizes) -> Self {
        let has_payload = sizes.payload > 0;
        let mut text = format!(
            "ref: loadtest.{name}\nlabel: Load test\nversion: \"{version}\"\n\
             parameters:\n  start: {{type: integer, required: true}}\n"
        );
        if has_payload {
            text.push_str("  payload: {type: string, required: true}\n");
        }
        if sizes.width > UNASKED_ITEMS {
            text.push_str(&format!("max_items: {}\n", sizes.width));
        }
        text.push_str("vars:\n  value: \"{{ parameters.start }}\"\n");
        if has_payload {
            text.push_str("  payload: \"{{ parameters.payload }}\"\n");
        }
        text.push_str("tasks:\n");
        Self {
            name: name.to_owned(),
            version,
            text,
            has_payload,
            failing: failing_parts(sizes.failures),
        }
    }

    /// A task.
    pub fn task(&mut self, task: &Task<'_>) {
        let action = self.action("vars.value + 1", &task.number.to_string());
        self.add(format_args!(
            "  - name: {}\n{action}    publish:\n      - value: \"{{{{ result().value }}}}\"\n",
            task.name
        ));
        if self.has_payload {
            self.text
                .push_str("      - payload: \"{{ result().payload }}\"\n");
        }
        match task.next {
            [] => {}
            [one] => self.add(format_args!("    on_success: {one}\n")),
            several => self.add(format_args!("    on_success: [{}]\n", several.join(", "))),
        }
        if task.joins {
            self.text.push_str("    join: all\n");
        }
    }

    /// One task, these, and one that waits for all of them.
    fn split(&mut self, parts: &[String]) {
        let merge = ["merge".to_owned()];
        let task = |name, number, next| Task {
            name,
            number,
            next,
            joins: false,
        };
        self.task(&task("split", 1, parts));
        for (part, number) in parts.iter().zip(2..) {
            self.task(&task(part, number, &merge));
        }
        let number = u32::try_from(parts.len()).unwrap_or(u32::MAX) + 2;
        self.task(&Task {
            joins: true,
            ..task("merge", number, &[])
        });
    }

    /// The action with its input: it gives back a value and the payload. `which` tells tasks of one
    /// execution from each other, so that another part of them fails in each execution.
    fn action(&self, value: &str, which: &str) -> String {
        let payload = if self.has_payload {
            ", payload: \"{{ vars.payload }}\""
        } else {
            ""
        };
        let result = format!("{{value: \"{{{{ {value} }}}}\"{payload}}}");
        if self.failing == 0 {
            return format!("    action: core.echo\n    input: {result}\n");
        }
        let failing = self.failing;
        format!(
            "    action: core.fail\n    input:\n      \
             times: \"{{{{ 1 if (parameters.start * 7919 + {which} * 127) % {PARTS} < {failing} else 0 }}}}\"\n      \
             result: {result}\n    retry: {{count: 2, delay: 0.1}}\n"
        )
    }

    /// Its end: so many jobs, and so many runs of tasks.
    pub fn end(mut self, tasks: u32, runs: u32) -> Workflow {
        self.text
            .push_str("output_map:\n  value: \"{{ vars.value }}\"\n");
        Workflow {
            reference: format!("loadtest.{}", self.name),
            version: self.version,
            source: self.text,
            tasks,
            runs,
        }
    }

    /// Writing into a text cannot fail.
    fn add(&mut self, what: std::fmt::Arguments<'_>) {
        let _ = self.text.write_fmt(what);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_a_share_of_attempts_and_not_of_tasks() {
        assert_eq!(failing_parts(0.0), 0);
        // Of 1,250 attempts of 1,000 tasks 250 fail.
        assert_eq!(failing_parts(0.2), 250);
        assert_eq!(failing_parts(0.5), 1000);
    }

    #[test]
    fn definitions_that_differ_have_different_versions() {
        let plain = Sizes::small();
        let others = [
            Sizes {
                payload: 5,
                ..plain
            },
            Sizes {
                failures: 0.1,
                ..plain
            },
            Sizes {
                concurrency: Some(3),
                ..plain
            },
        ];
        assert_eq!(version(&plain, 4), "1.0.4");
        for other in others {
            assert_ne!(version(&other, 4), version(&plain, 4), "{other:?}");
        }
    }
}
