//! The table on a terminal: drawn over itself, as wide and as high as the terminal is.

use console::{Term, truncate_str};
use flotilla_coordinator::waits::items;
use serde_json::Value;

use super::Known;
use crate::command::show::{duration, error_cell, task_cells, text};
use crate::output::{Shade, paint, shade_of, terminal_size, wide_table};

/// Columns and rows of a terminal that does not say how large it is.
const UNKNOWN_SIZE: (u16, u16) = (80, 24);

/// A terminal with lines of ours on it.
pub struct Screen {
    term: Term,
    /// Lines that were drawn.
    drawn: usize,
}

impl Screen {
    /// Begins below what is there. The cursor would only blink about.
    pub fn open() -> Self {
        let term = Term::stdout();
        // A terminal that cannot hide its cursor shows it.
        let _ = term.hide_cursor();
        Self { term, drawn: 0 }
    }

    /// Leaves the terminal as it was, with what was drawn last on it.
    pub fn close(&self) {
        let _ = self.term.show_cursor();
    }

    /// Draws what is known over what was drawn before.
    pub fn draw(&mut self, known: &Known) {
        let (width, height) = terminal_size().unwrap_or(UNKNOWN_SIZE);
        let lines = lines(known, usize::from(height.saturating_sub(1)));
        let _ = self.term.clear_last_lines(self.drawn);
        for line in &lines {
            let _ = self
                .term
                .write_line(&truncate_str(line, usize::from(width), "…"));
        }
        self.drawn = lines.len();
    }
}

/// At most so many lines: tasks that have ended give way to those that have not.
fn lines(known: &Known, height: usize) -> Vec<String> {
    let execution = &known.execution;
    let status = text(&execution["status"]);
    let mut lines = vec![format!(
        "{} {}  {}  {}",
        text(&execution["workflow"]),
        text(&execution["version"]),
        paint(&status, shade_of(&status)),
        duration(&execution["created_at"], &execution["finished_at"]),
    )];
    if let Some(reason) = &known.waits.execution {
        lines.push(paint(reason, Shade::Bad));
    }
    lines.push(counts(known));
    lines.push(String::new());
    let room = height.saturating_sub(lines.len() + 2).max(1);
    let (shown, hidden) = choose(known, room);
    let header = [
        "task",
        "status",
        "attempt",
        "elapsed",
        "worker",
        "waits for / error",
    ];
    let rows = shown.into_iter().map(|task| row(known, task));
    lines.extend(wide_table(&header, rows).lines().map(str::to_owned));
    if hidden > 0 {
        lines.push(paint(&format!("… and {hidden} more"), Shade::Faint));
    }
    lines
}

fn counts(known: &Known) -> String {
    let live = |task: &&Value| task["finished_at"].is_null();
    let open = known.tasks.values().filter(live).count();
    format!("{} tasks, {open} of them open", known.tasks.len())
}

/// So many tasks, in their order: all that are open first, then the newest of the rest.
fn choose(known: &Known, room: usize) -> (Vec<&Value>, usize) {
    if known.tasks.len() <= room {
        return (known.tasks.values().collect(), 0);
    }
    let is_open = |task: &Value| task["finished_at"].is_null();
    let ids = known.tasks.iter().rev();
    let (open, ended): (Vec<_>, Vec<_>) = ids.partition(|(_, task)| is_open(task));
    let mut chosen: Vec<_> = open.into_iter().rev().take(room).collect();
    let rest = room - chosen.len();
    chosen.extend(ended.into_iter().take(rest));
    chosen.sort_by_key(|(id, _)| id.as_str());
    let hidden = known.tasks.len() - chosen.len();
    (chosen.into_iter().map(|(_, task)| task).collect(), hidden)
}

fn row(known: &Known, task: &Value) -> Vec<String> {
    let mut row = task_cells(task);
    row.push(remark(known, task));
    row
}

/// How far it is with its items, what it waits for, or what went wrong.
fn remark(known: &Known, task: &Value) -> String {
    let is_open = task["finished_at"].is_null();
    if let Some(progress) = items(&task["item_progress"]).filter(|_| is_open) {
        return progress;
    }
    match known.waits_for(task) {
        Some(reason) => reason.to_owned(),
        None => error_cell(task),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::command::show::task_name;

    /// Ten tasks, of which the third and the last are open.
    fn ten() -> Known {
        let mut known = Known {
            execution: json!({"workflow": "a.b", "version": "1", "status": "running"}),
            ..Known::default()
        };
        for no in 0..10 {
            let finished = if no == 2 || no == 9 {
                Value::Null
            } else {
                json!("2026-01-01T00:00:01Z")
            };
            let task = json!({
                "task_id": format!("t{no}"), "task": format!("task_{no}"), "visit": 1,
                "status": "running", "attempt": 1, "max_attempts": 1, "finished_at": finished
            });
            known.tasks.insert(format!("t{no}"), task);
        }
        known
    }

    #[test]
    fn what_is_open_is_shown_before_what_has_ended() {
        let known = ten();
        let names = |room| {
            let (shown, hidden) = choose(&known, room);
            let names: Vec<String> = shown.into_iter().map(task_name).collect();
            (names.join(" "), hidden)
        };
        assert_eq!(names(10).1, 0);
        assert_eq!(names(4), ("task_2 task_7 task_8 task_9".to_owned(), 6));
        assert_eq!(names(1), ("task_2".to_owned(), 9));
    }

    #[test]
    fn the_table_is_no_higher_than_the_terminal() {
        let known = ten();
        for height in [6, 10, 24] {
            let lines = lines(&known, height);
            assert!(lines.len() <= height, "{height}: {lines:#?}");
        }
        let text = lines(&known, 8).join("\n");
        assert!(text.contains("10 tasks, 2 of them open"), "{text}");
        assert!(text.contains("… and 7 more"), "{text}");
    }
}
