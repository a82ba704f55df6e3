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

mod facts;
mod judge;
mod routes;
mod tunnels;

use std::fmt;

use crate::blocking;
use crate::error::Error;
use crate::model::{EngineName, Family, Scheduler, Tunnel};
use crate::options::Options;
use crate::proc::Proc;
use crate::ruleset::Ruleset;
use facts::Facts;

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

/// A problem, or a fact that is good to know.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Finding {
    /// How bad the finding is.
    pub severity: Severity,
    /// The kind of problem.
    pub problem: Problem,
    /// The problem in words.
    pub text: String,
    /// What to do, in words.
    pub advice: String,
    /// The advice as commands for root's shell in the network namespace, if commands can carry it
    /// out.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Vec::is_empty"))]
    pub commands: Vec<String>,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Severity {
    /// The kernel refuses the rules, or a part of them.
    Refused,
    /// The kernel takes the rules, but connections do not come through.
    Broken,
    /// Connections come through, but this kernel or the settings of this host limit them.
    Limited,
}

/// The kind of a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Problem {
    /// The caller lacks `CAP_NET_ADMIN`.
    Permission,
    /// The caller is in a user namespace of its own, where no capability counts for IPVS.
    UserNamespace,
    /// The kernel has no IPVS, or its module is not loaded.
    Ipvs,
    /// The kernel did not answer, or gave an answer that is not known.
    Unanswered,
    /// The kernel lacks a scheduler.
    Scheduler(Scheduler),
    /// The kernel lacks a persistence engine.
    Engine(EngineName),
    /// The network namespace has no IPv4 address, not even that of its loopback.
    NoAddress,
    /// The host has no IPv6, or its interfaces have none.
    NoIpv6,
    /// Virtual addresses are not addresses of this network namespace.
    VirtualAddress,
    /// The host does not forward packets of a family, which replies to masqueraded connections
    /// need.
    Forwarding(Family),
    /// The kernel is too old for a tunnel, and takes another in its place.
    Tunnel(Tunnel),
    /// This host is a destination behind a tunnel, and has no device that unpacks the packets of
    /// other directors.
    TunnelDevice(Tunnel),
    /// A device has a name that is not UTF-8, and its settings were not looked at.
    DeviceName,
    /// This host is a destination behind a tunnel, and drops the unpacked packets: the reverse path
    /// filter expects their clients behind another device.
    ReversePath,
    /// A tunnel makes packets longer: packets of full size do not fit.
    PacketSize(Tunnel),
    /// The kernel takes no connection of IPVS.
    NoConnections,
    /// A destination of weight 0 keeps its persistent clients.
    KeptTemplates,
    /// A destination of weight 0 keeps its share of new clients under a scheduler by hash.
    WeightZero,
    /// Changing the scheduler of a service refuses connections for a moment.
    ChangedScheduler,
    /// Many services share a bucket of the kernel's table.
    SharedBucket,
    /// Adding destinations is slow for minutes after many were removed.
    SlowAfterRemoval,
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
        let answer = connected.and_then(|mut client| client.info().map(drop));
        let facts = Facts::gather(proc, answer);
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

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Refused => "refused",
            Severity::Broken => "broken",
            Severity::Limited => "limited",
        };
        write!(f, "{severity}: {}\n  {}", self.text, self.advice)?;
        for command in &self.commands {
            write!(f, "\n    {command}")?;
        }
        Ok(())
    }
}

impl Options {
    /// Tells whether this host can do what a ruleset needs, and how to mend the host where it
    /// cannot.
    ///
    /// The diagnosis connects, asks for [`Info`](crate::Info) and reads files below `/proc` and
    /// `/lib/modules`, all in the options' network namespace. It changes nothing, except that
    /// connecting loads the module `ip_vs` where the kernel can load modules by itself.
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
