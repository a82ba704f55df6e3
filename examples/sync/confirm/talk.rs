//! What the operator's process and the guard, which goes back, say to each other, a line each.

use std::io::{self, Write as _};

use ipvs_netlink::Progress;

use crate::apply::name;
use crate::support::output::origin;

/// What the guard is asked for.
pub(super) const KEEP: &str = "keep";
pub(super) const GO_BACK: &str = "go back";

/// Its answer to one who confirms from elsewhere, after what begins each line.
pub(super) const KEPT: &str = "kept";

/// What the guard's standard output says: text to print, and how it goes.
pub(super) enum Said {
    Text(String),
    Progress(String, usize, usize),
    /// The change is made, and waits to be confirmed; with what begins each line.
    Waits(String),
}

/// Begins a line that is no text to print.
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

/// How far the change has come: the operator's process has a terminal for a bar.
pub(super) fn show(progress: Progress) {
    let Progress { stage, done, total, .. } = progress;
    let _ = writeln!(io::stdout(), "{MARK}{}{} {done} {total}", origin(), name(stage));
}
