//! What came of it, and how far it has come.

use std::fmt;
use std::time::Duration;

use crate::error::Error;
use crate::ruleset::{Change, Left};

/// What came of making a table as wanted.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// How many changes were made.
    pub changed: usize,
    /// The changes that failed for good, each with the reason.
    pub failed: Vec<Failed>,
    /// What ended it early, if anything did: what comes after it was not done.
    pub error: Option<Error>,
    /// What is not as wanted, and left so.
    pub left: Vec<Left>,
    /// How often what others had changed meanwhile was read and planned again.
    pub rounds: usize,
    /// How many destinations were drained: removed when their connections had ended.
    pub drained: usize,
    /// How many destinations were removed at the deadline, with connections.
    pub cut_off: usize,
    /// How many destinations are being drained still.
    pub draining: usize,
    /// When a pass is of use again, to go on draining; of passes of a syncer alone.
    pub next: Option<Duration>,
    /// How long each part took.
    pub times: Times,
}

impl Report {
    /// Whether all was done that was planned.
    pub fn is_success(&self) -> bool {
        self.failed.is_empty() && self.error.is_none()
    }
}

/// A change that failed.
#[derive(Debug)]
#[non_exhaustive]
pub struct Failed {
    /// The change.
    pub change: Change,
    /// Why.
    pub error: Error,
}

/// How long each part took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Times {
    /// Reading what was there.
    pub read: Duration,
    /// Writing, with mending what others had changed.
    pub write: Duration,
    /// Reading back and comparing.
    pub verify: Duration,
    /// Waiting for destinations to drain, and removing them.
    pub drain: Duration,
}

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// What is being done.
    pub stage: Stage,
    /// How much of the stage is done.
    pub done: usize,
    /// How much there is to do in it, as far as is known.
    pub total: usize,
}

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// Changes are made; counted in changes.
    Writing,
    /// What was written is read back; counted in services.
    Verifying,
    /// Destinations drain; counted in destinations.
    Draining,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} changes made", self.changed)?;
        for (count, what) in [
            (self.failed.len(), "failed"),
            (self.left.len(), "left as they are"),
            (self.drained, "drained"),
            (self.cut_off, "cut off at the deadline"),
            (self.draining, "draining"),
        ] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        let Times { read, write, verify, drain } = self.times;
        let times = [(read, "read"), (write, "wrote"), (verify, "verified"), (drain, "drained")];
        for (time, what) in times.into_iter().filter(|(time, _)| !time.is_zero()) {
            write!(f, "; {what} in {time:.1?}")?;
        }
        for Failed { error, .. } in &self.failed {
            write!(f, "\n{error}")?;
        }
        if let Some(error) = &self.error {
            write!(f, "\n{error}")?;
        }
        Ok(())
    }
}
