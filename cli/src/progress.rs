//! How long work goes on, on a terminal: one line on stderr that goes when the work is done.

use std::borrow::Cow;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::Output;

/// How often the line moves.
const MOVES_EVERY: Duration = Duration::from_millis(120);

/// Work of unknown length.
pub fn spinner(output: Output, text: impl Into<Cow<'static, str>>) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, target(output));
    bar.set_style(style("{spinner} {msg}  {elapsed}"));
    bar.set_message(text);
    bar.enable_steady_tick(MOVES_EVERY);
    bar
}

/// Work of so many parts.
pub fn bar(output: Output, parts: usize, text: &'static str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(u64::try_from(parts).ok(), target(output));
    bar.set_style(style("{msg} [{bar:30}] {pos}/{len}  {elapsed}"));
    bar.set_message(text);
    bar
}

/// Nothing is drawn for scripts; indicatif itself draws nothing where stderr is no terminal.
fn target(output: Output) -> ProgressDrawTarget {
    if output == Output::Table {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
        .progress_chars("=> ")
}
