//! The error for a table that could not be made as wanted.

use std::fmt;

use super::report::Report;

/// A table that is not as wanted, or not entirely: a change failed, the table could not be read,
/// changes are withheld until they are confirmed, or the caller called off the rest.
///
/// The error holds the [`Report`]. Its text says how much failed, why, and what to do; changes that
/// failed for the same reason share one line. Its source is the first [`Error`](crate::Error), if
/// one was the cause.
///
/// ```no_run
/// # use ipvs_netlink::{Policy, Ruleset, blocking::Client};
/// # let mut ipvs = Client::connect()?;
/// # let wanted = Ruleset::new();
/// match ipvs.sync(&wanted, &Policy::new()) {
///     Ok(report) => println!("{report}"),
///     Err(incomplete) => {
///         eprintln!("{incomplete}");
///         for failed in &incomplete.report().failed {
///             eprintln!("{}", failed.change);
///         }
///     }
/// }
/// # Ok::<(), ipvs_netlink::Error>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "it holds what was not done"]
pub struct Incomplete(Box<Report>);

impl Report {
    /// The report, if it is a [success](Self::is_success).
    ///
    /// # Errors
    /// A part of the work was not done. The error holds the report.
    pub fn into_result(self) -> Result<Self, Incomplete> {
        if self.is_success() { Ok(self) } else { Err(Incomplete(Box::new(self))) }
    }
}

impl Incomplete {
    /// The report of what was done, and what was not.
    pub fn report(&self) -> &Report {
        &self.0
    }

    /// The report by itself.
    pub fn into_report(self) -> Report {
        *self.0
    }
}

impl fmt::Display for Incomplete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { changed, failed, called_off, draining, error, .. } = self.report();
        let plural = |count| if count == 1 { "" } else { "s" };
        f.write_str("cannot make the table as wanted: ")?;
        if *called_off {
            f.write_str("the caller called off the rest; plan again to go on; ")?;
        }
        write!(f, "{changed} change{} made", plural(*changed))?;
        if !failed.is_empty() {
            write!(f, ", {} failed", failed.len())?;
        }
        if *draining > 0 {
            write!(f, ", {draining} destination{} left at weight 0", plural(*draining))?;
        }
        if error.is_some() && !called_off {
            f.write_str("; plan again to go on")?;
        }
        self.report().write_reasons(f)
    }
}

impl std::error::Error for Incomplete {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let report = self.report();
        let failed = || report.failed.first().map(|failed| &failed.error);
        Some(report.error.as_ref().or_else(failed)?)
    }
}
