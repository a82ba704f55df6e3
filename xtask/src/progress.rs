//! The display while work takes time: a spinner on a terminal, a plain line elsewhere.

use std::borrow::Cow;
use std::io::IsTerminal;
use std::time::Duration;

use indicatif::ProgressBar;

/// A running piece of work; the spinner goes when this is dropped.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Work that is seldom done (a download): a log without a terminal gets a line for it, too.
    pub(crate) fn start(message: impl Into<Cow<'static, str>>) -> Self {
        let message = message.into();
        if !std::io::stderr().is_terminal() {
            eprintln!("{message} …");
        }
        Self::start_quietly(message)
    }

    /// Work of every run (a boot), which leaves no trace in the output of the program that follows.
    pub(crate) fn start_quietly(message: impl Into<Cow<'static, str>>) -> Self {
        let bar = ProgressBar::new_spinner().with_message(message);
        bar.enable_steady_tick(Duration::from_millis(100));
        Self(bar)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
