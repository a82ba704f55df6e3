//! The messages between the operator's process and the guard, one a line.

use std::io::{self, Write as _};

use ipvs_netlink::Progress;

use crate::apply::name;
use crate::support::output::origin;

/// The requests to the guard.
pub(super) const KEEP: &str = "keep";
pub(super) const GO_BACK: &str = "go back";

/// The guard's answer to a process that confirms from elsewhere; the beginning of each line
/// precedes it.
pub(super) const KEPT: &str = "kept";

/// A line of the guard's standard output: text to print, or the state of the change.
pub(super) enum Said {
    Text(String),
    Progress(String, usize, usize),
    /// The change is made and waits to be confirmed; with the beginning of each line.
    Waits(String),
}

/// The beginning of a line that is no text to print.
const MARK: char = '\u{1}';
const WAITS: &str = "waits";

impl Said {
    pub(super) fn parse(line: String) -> Self {
        let Some(words) = line.strip_prefix(MARK) else { return Self::Text(line) };
        if let Some(origin) = words.strip_suffix(WAITS) {
            return Self::Waits(origin.to_owned());
        }
        let mut words = words.rsplitn(3, ' ');
        let mut number = || words.next()?.parse().ok();
        let (total, done) = (number().unwrap_or_default(), number().unwrap_or_default());
        Self::Progress(words.next().unwrap_or_default().to_owned(), done, total)
    }
}

pub(super) fn say_that_it_waits() {
    let _ = writeln!(io::stdout(), "{MARK}{}{WAITS}", origin());
}

/// Tells the progress to the operator's process, which has a terminal for a bar.
pub(super) fn show(progress: Progress) {
    let Progress { stage, done, total, .. } = progress;
    let _ = writeln!(io::stdout(), "{MARK}{}{} {done} {total}", origin(), name(stage));
}
