//! Whether a host can do what a ruleset needs, and how to mend the host where it cannot.
//!
//! ```no_run
//! use ipvs_netlink::{Options, Ruleset};
//!
//! let rules: Ruleset = std::fs::read_to_string("web.ipvs")?.parse()?;
//! let diagnosis = Options::new().diagnose(&rules);
//! if !diagnosis.is_able() {
//!     eprintln!("{diagnosis}");
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod addresses;
#[cfg(all(test, feature = "fake"))]
mod altered;
mod facts;
mod finding;
mod forwarding;
mod judge;
mod limits;
mod lines;
mod refusals;
mod routes;
mod tunnels;
mod virtual_addresses;

use std::fmt;

use crate::blocking;
use crate::error::Error;
use crate::options::Options;
use crate::proc::Proc;
use crate::ruleset::Ruleset;
use facts::Facts;

pub use finding::{Finding, Problem, Severity};

/// The problems of a host with a ruleset.
///
/// Printed, each finding is a paragraph: what is wrong, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
#[must_use = "a diagnosis does nothing by itself"]
pub struct Diagnosis {
    /// The kernel's release, as `uname -r` prints it.
    pub kernel: String,
    /// The findings, the worst first.
    pub findings: Vec<Finding>,
}

impl Diagnosis {
    /// Whether no finding is worse than a limit.
    pub fn is_able(&self) -> bool {
        self.findings.iter().all(|finding| finding.severity == Severity::Limited)
    }

    /// The finding of a problem, if it was found.
    pub fn finding(&self, problem: Problem) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.problem == problem)
    }

    pub(crate) fn new(
        proc: &Proc,
        connected: Result<blocking::Client, Error>,
        rules: &Ruleset,
    ) -> Self {
        let answer = connected.and_then(|mut client| {
            client.info()?;
            client.daemons()
        });
        let facts = Facts::gather(proc, answer, rules);
        let mut findings = judge::judge(&facts, rules);
        findings.sort_by_key(|finding| finding.severity);
        Self { kernel: facts.release, findings }
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kernel = if self.kernel.is_empty() { "of an unknown release" } else { &self.kernel };
        if self.findings.is_empty() {
            return write!(f, "Linux {kernel}: nothing stands in the way");
        }
        write!(f, "Linux {kernel}:")?;
        for finding in &self.findings {
            write!(f, "\n{finding}")?;
        }
        Ok(())
    }
}

impl Options {
    /// Tells whether this host can do what a ruleset needs, and how to mend the host where it
    /// cannot.
    ///
    /// The diagnosis connects, asks for [`Info`](crate::Info) and for the sync daemons, and reads files
    /// below `/proc` and `/lib/modules`, all in the options' network namespace. It changes nothing, except that
    /// connecting loads the module `ip_vs` where the kernel can load modules by itself.
    ///
    /// If a rule is of IPv6, the diagnosis reads `/proc/net/ipv6_route`, for which the kernel takes time that
    /// grows with the square of the number of routes: seconds for 50,000.
    pub fn diagnose(&self, rules: &Ruleset) -> Diagnosis {
        match self.entered() {
            Ok(proc) => Diagnosis::new(&proc, self.connect(), rules),
            // A namespace that does not exist, or that the caller may not enter, has no facts to
            // judge.
            Err(error) => {
                let proc = Proc::new();
                let is_in_user_namespace = facts::is_in_user_namespace(&proc);
                let finding = judge::unentered(&error, is_in_user_namespace);
                Diagnosis { kernel: proc.release(), findings: vec![finding] }
            }
        }
    }
}
