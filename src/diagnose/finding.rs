//! What a diagnosis finds, in words, with the advice.

use std::fmt;

use crate::error::quoted;
use crate::model::{EngineName, Family, Scheduler, Tunnel};

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
    /// The network namespace has had no IPv4 address yet, not even that of its loopback.
    NoAddress,
    /// The host has no IPv6, or its interfaces have none.
    NoIpv6,
    /// No destination can have an address such as that of a group of hosts.
    DestinationAddress,
    /// No destination can have another family than its service while a sync daemon runs.
    DestinationFamily,
    /// The kernel takes no upper threshold that high.
    Threshold,
    /// No route leads to a destination.
    Route,
    /// Virtual addresses are not addresses of this network namespace, or can be no host's.
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
    /// The kernel drops a share of the new connections, whether it is under attack or not.
    Drops,
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

impl Finding {
    pub(super) fn new(
        severity: Severity,
        problem: Problem,
        text: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        let (text, advice) = (text.into(), advice.into());
        Self { severity, problem, text, advice, commands: Vec::new() }
    }

    /// Adds a command, whose operands can be names that a stranger has chosen.
    pub(super) fn command(mut self, command: &str, operands: &[&str]) -> Self {
        let words = [command.into()].into_iter().chain(operands.iter().map(|it| quoted(it)));
        self.commands.push(words.collect::<Vec<_>>().join(" "));
        self
    }

    /// Adds the command that sets a sysctl of a device. The program `sysctl` takes all text behind
    /// the first `=` for the value, also where that `=` is part of the device's name.
    pub(super) fn sysctl(self, folder: &str, device: &str, setting: &str, value: u8) -> Self {
        if device.contains('=') {
            let folder = folder.replace('.', "/");
            let file = format!("/proc/sys/{folder}/{device}/{setting}");
            return self.command(&format!("echo {value} >"), &[&file]);
        }
        let device = device.replace('.', "/");
        self.command("sysctl -w", &[&format!("{folder}.{device}.{setting}={value}")])
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
