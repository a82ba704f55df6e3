//! The error of a table that was to be made as wanted, and is not.

use std::fmt;

use super::report::Report;

/// Not all was done that was to be done to make a table as wanted: a change failed, the table could
/// not be read, something is withheld until it is confirmed, or the caller called off the rest.
///
/// It holds the [`Report`]. Its text says how much failed, why, and what to do; what failed for the
/// same reason is one line. Its source is the first [`Error`](crate::Error), where one was the cause.
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
pub struct Incomplete(Box<Report>);

impl Incomplete {
    pub(super) fn new(report: Report) -> Self {
        Self(Box::new(report))
    }

    /// What was done, and what was not.
    pub fn report(&self) -> &Report {
        &self.0
    }

    pub(super) fn report_mut(&mut self) -> &mut Report {
        &mut self.0
    }

    /// The report by itself.
    pub fn into_report(self) -> Report {
        *self.0
    }
}

impl fmt::Display for Incomplete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { changed, failed, called_off, draining, .. } = self.report();
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
            write!(f, ", {draining} destination{} draining", plural(*draining))?;
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
