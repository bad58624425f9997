//! `rerun`: publishes `workflow.control`, or says what would run again without publishing anything.

use std::collections::BTreeMap;

use clap::Args;
use flotilla_coordinator::rehearsal::{ItemsKept, Rehearsal};
use flotilla_engine::Json;
use flotilla_engine::execution::RerunOrder;
use flotilla_protocol::ExecutionId;
use flotilla_protocol::message::WorkflowControl;
use serde_json::json;

use super::control;
use super::start::{object_of, pair};
use crate::arguments::Global;
use crate::database::Database;
use crate::failure::{Exit, Failure};
use crate::output::{print, print_json, table};

/// What becomes of a visit that is repeated.
const AGAIN: &str = "runs again";

const AFTER_HELP: &str = "\
Without --from, what has failed without being handled runs again, and what the end has cut off. What has succeeded \
is kept: of a task with items only those run again that have not succeeded.

Example: flotilla rerun 0190b6a4-0000-7000-8000-000000000001 --from charge -p amount=12";

/// What `rerun` takes.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct RerunArguments {
    /// The execution, which has ended
    #[arg(value_name = "ID")]
    id: ExecutionId,
    /// A task to run again, with all that follows it [default: those that have failed]
    #[arg(long, value_name = "TASK")]
    from: Vec<String>,
    /// Run items again that have succeeded, too
    #[arg(long)]
    reset_items: bool,
    /// A parameter that replaces the one that the execution has; the value is JSON if it parses as JSON, else text
    #[arg(short = 'p', long = "param", value_name = "key=value", value_parser = pair)]
    parameters: Vec<(String, String)>,
    /// A variable that replaces the one that the tasks had; likewise
    #[arg(long = "var", value_name = "key=value", value_parser = pair)]
    vars: Vec<(String, String)>,
    /// Say what would run again and what is kept, and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// Runs tasks of an execution again.
pub async fn run(global: &Global, arguments: &RerunArguments) -> Result<Exit, Failure> {
    let control = WorkflowControl {
        from: arguments.from.clone(),
        reset_items: arguments.reset_items,
        parameters: object_of("-p", &arguments.parameters)?,
        vars: object_of("--var", &arguments.vars)?,
        ..control::command("rerun", arguments.id)
    };
    if arguments.dry_run {
        rehearse(global, &control).await
    } else {
        control::run(global, &control).await
    }
}

async fn rehearse(global: &Global, control: &WorkflowControl) -> Result<Exit, Failure> {
    let order = RerunOrder {
        from: control.from.clone(),
        reset_items: control.reset_items,
        parameters: control.parameters.clone().map(Json::new),
        vars: control.vars.clone().map(Json::new),
    };
    let url = global.database_url()?;
    let id = control.execution_id;
    match Database::rehearse(&url, id, &order).await? {
        Ok(rehearsal) => {
            if global.output.is_json() {
                print_json(&json!({
                    "execution_id": id, "command": "rerun", "accepted": true, "reason": null,
                    "plan": rehearsal,
                }));
            } else {
                print(&sheet(&rehearsal));
            }
            Ok(Exit::Done)
        }
        Err(refusal) => {
            let reply = flotilla_protocol::message::WorkflowControlReply {
                execution_id: id,
                command: "rerun".to_owned(),
                accepted: false,
                reason: Some(refusal.kind().word().to_owned()),
                detail: Some(refusal.to_string()),
            };
            Ok(control::show(global, &reply))
        }
    }
}

/// A line for each task and what becomes of it.
fn sheet(rehearsal: &Rehearsal) -> String {
    let parts = [
        (AGAIN, &rehearsal.again),
        ("was held back, and runs", &rehearsal.held_back),
        ("waits again", &rehearsal.reopened),
        ("leads on", &rehearsal.followed),
        ("is kept", &rehearsal.kept),
    ];
    let rows = parts
        .into_iter()
        .flat_map(|(what, tasks)| lines(what, tasks, &rehearsal.items));
    table(&["task", "visit", "what becomes of it"], rows)
}

/// Only of what runs again are there items to tell of.
fn lines(
    what: &str,
    tasks: &BTreeMap<String, Vec<u32>>,
    items: &BTreeMap<String, ItemsKept>,
) -> Vec<Vec<String>> {
    let line = |(task, visits): (&String, &Vec<u32>)| {
        let visits: Vec<String> = visits.iter().map(ToString::to_string).collect();
        let what = match items.get(task).filter(|_| what == AGAIN) {
            Some(ItemsKept { again, kept }) => {
                format!("{what}: {again} of {} items, {kept} are kept", again + kept)
            }
            None => what.to_owned(),
        };
        vec![task.clone(), visits.join(", "), what]
    };
    tasks.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_task_has_a_line_that_says_what_becomes_of_it() {
        let task =
            |name: &str, visits: &[u32]| BTreeMap::from([(name.to_owned(), visits.to_vec())]);
        let sheet = sheet(&Rehearsal {
            again: task("charge", &[1, 2]),
            kept: task("fetch", &[1]),
            ..Rehearsal::default()
        });
        let lines: Vec<&str> = sheet.lines().collect();
        assert_eq!(lines.len(), 3, "{sheet}");
        assert!(
            lines[1].contains("charge")
                && lines[1].contains("1, 2")
                && lines[1].contains("runs again")
        );
        assert!(lines[2].contains("fetch") && lines[2].contains("is kept"));
    }

    #[test]
    fn of_a_task_with_items_it_is_said_how_many_run_again() {
        let task = BTreeMap::from([("each".to_owned(), vec![1])]);
        let items = ItemsKept { again: 1, kept: 11 };
        let sheet = sheet(&Rehearsal {
            again: task.clone(),
            items: BTreeMap::from([("each".to_owned(), items)]),
            kept: task,
            ..Rehearsal::default()
        });
        let lines: Vec<&str> = sheet.lines().collect();
        assert!(lines[1].ends_with("runs again: 1 of 12 items, 11 are kept"));
        assert!(lines[2].ends_with("is kept"), "{sheet}");
    }
}
