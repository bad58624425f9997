//! The bar that people watch meanwhile, on stderr; nothing where nobody watches.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::arguments::Output;

/// What `indicatif` draws.
const TEMPLATE: &str = "{prefix:>10} [{bar:30}] {percent:>3} %  {msg}";

/// A bar, or none.
pub struct Progress(ProgressBar);

impl Progress {
    /// A bar if stderr is a terminal and stdout is for people.
    pub fn new(output: Output) -> Self {
        let is_watched = match output {
            Output::Table => std::io::stderr().is_terminal(),
            Output::Json | Output::Nothing => false,
        };
        let target = if is_watched {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let style = ProgressStyle::with_template(TEMPLATE).expect("the template is valid");
        let bar = ProgressBar::with_draw_target(Some(0), target);
        Self(bar.with_style(style.progress_chars("=> ")))
    }

    /// Something begins that takes `total` steps of some kind; 0 if nobody knows.
    pub fn begin(&self, what: &'static str, total: u64) {
        self.0.set_prefix(what);
        self.0.set_message("");
        self.0.set_length(total);
        self.0.set_position(0);
    }

    /// It has come so far.
    pub fn at(&self, position: u64, message: String) {
        self.0.set_message(message);
        self.0.set_position(position);
    }

    /// All is done; nothing is left of the bar.
    pub fn end(&self) {
        self.0.finish_and_clear();
    }
}
