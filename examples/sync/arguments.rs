//! The arguments of `sync`, and the policy that follows from them.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Parser;
use ipvs_netlink::{Allowed, Draining, Policy, Protocol, Ruleset, Scope, ServiceKey};

use crate::support::KernelOption;

/// Brings the IPVS table in line with a rules file, writing only the difference.
///
/// Exit status: 0 all done, 1 failed in part, 2 bad input and nothing changed, 3 went back to the old
/// rules.
#[derive(Parser)]
#[command(after_long_help = ON_TRIAL)]
#[allow(clippy::struct_excessive_bools)] // These are the program's options.
pub(crate) struct Arguments {
    /// The rules file, such as examples/rules/web.ipvs: JSON if its name ends with .json, YAML with
    /// .yaml or .yml, else the format of ipvsadm-save
    #[arg(required_unless_present = "confirm_now")]
    file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) kernel: KernelOption,
    /// Print the changes without making them
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print the changes as ipvsadm commands
    #[arg(long)]
    pub(crate) commands: bool,
    /// Own the services of this network, such as 10.0.0.0/24 (repeatable; without these options all
    /// services are owned)
    #[arg(long, value_name = "NETWORK", value_parser = network)]
    own_network: Vec<(IpAddr, u8)>,
    /// Own the services of this protocol: tcp, udp, sctp or a number (repeatable)
    #[arg(long, value_name = "PROTOCOL", value_parser = protocol)]
    own_protocol: Vec<Protocol>,
    /// Own the services of these firewall marks, such as 7 or 100-199 (repeatable)
    #[arg(long, value_name = "MARKS", value_parser = marks)]
    own_marks: Vec<(u32, u32)>,
    /// Remove nothing
    #[arg(long)]
    keep: bool,
    /// Keep the weights of existing destinations, whoever set them
    #[arg(long)]
    keep_weights: bool,
    /// Accept a file without rules of owned services, and remove every owned service. Without this
    /// option such a file is an error, since a file that is being written is empty at first
    #[arg(long)]
    allow_empty: bool,
    /// Let the connections of removed destinations end before removing them, for at most this long,
    /// such as 30s or 5min
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    drain: Option<Duration>,
    /// Read the file only after nothing has been written to it for this long
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "200ms")]
    pub(crate) quiet: Duration,
    /// Keep running, and sync again whenever the file changes, or the target of its path
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) watch: bool,
    /// With --watch, read the table anew at least this often, to see changes by others; 1s or more
    #[arg(long, value_name = "TIME", value_parser = age, default_value = "5min")]
    pub(crate) max_age: Duration,
    /// Make the change on trial: go back to the old rules unless it is confirmed within this time,
    /// such as 60s (see --help)
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    #[arg(conflicts_with_all = ["dry_run", "watch", "drain"])]
    pub(crate) confirm: Option<Duration>,
    /// Confirm the change on trial, which then stays
    #[arg(long, conflicts_with_all = ["file", "dry_run", "watch", "confirm"])]
    pub(crate) confirm_now: bool,
    /// The folder where --confirm keeps the old rules [default: /run/ipvs-sync; for users other
    /// than root, $XDG_RUNTIME_DIR/ipvs-sync]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) state: Option<PathBuf>,
    /// Be the process in the background that goes back to the old rules
    #[arg(long, hide = true, requires = "confirm")]
    pub(crate) guard: bool,
}

const ON_TRIAL: &str = "\
On trial, as network routers do it:
  sync --confirm 60s FILE makes the change, and goes back to the old rules after 60 seconds unless Enter
  is pressed on its terminal or sync --confirm-now is run. Ctrl-C, SIGINT, SIGTERM and a change that
  fails in part make it go back at once.

  A process in the background goes back. It has a session of its own and ignores SIGHUP and SIGPIPE,
  since the change may cut the connection over which it is made. Without a terminal, and as a shell's
  job in the background (&), the command ends once the change is made, while the process in the
  background keeps running. Where logind has KillUserProcesses=yes, systemd ends this process together
  with its user's session: it then goes back at once.

  The old rules are in a file before the first write: net-N.ipvs in the folder of --state, where N is
  the number of the network namespace. The file net-N.log beside it tells the outcome of the last
  change. Only one change at a time can be on trial in a network namespace. Going back touches no
  services but those of the change. It adds removed destinations again, which thereby get back the
  connections that the kernel still has.

  If the process is killed (SIGKILL), the change stays, and so does the file of old rules. Its first
  lines say how to go back by hand: sync FILE. Remove the file to keep the change. After a restart of
  the machine the kernel's table is empty, whatever was confirmed.";

impl Arguments {
    /// The rules file.
    pub(crate) fn file(&self) -> anyhow::Result<&Path> {
        self.file.as_deref().context("no rules file is named")
    }

    /// Refuses rules of which none is owned, unless the user allows it.
    pub(crate) fn accept(&self, rules: Ruleset) -> anyhow::Result<Ruleset> {
        let scope = self.scope();
        let is_any_owned = rules.services().any(|rules| scope.owns(&rules.service().key));
        let none = if rules.is_empty() { "it has no rules" } else { "none of its rules is owned" };
        ensure!(
            self.allow_empty || is_any_owned,
            "{}: {none}; --allow-empty removes all services that are owned",
            self.file()?.display()
        );
        Ok(rules)
    }

    pub(crate) fn policy(&self) -> Policy {
        let mut allowed = self.allowed();
        allowed.set(Allowed::REMOVE_SERVICES | Allowed::REMOVE_DESTINATIONS, !self.keep);
        let draining = self.drain.map_or(Draining::at_once(), Draining::within);
        Policy::new().scope(self.scope()).allowed(allowed).draining(draining)
    }

    /// The policy by which the services of a change become as they were before.
    pub(crate) fn way_back(&self, touched: impl Iterator<Item = ServiceKey>) -> Policy {
        Policy::new().scope(Scope::none().services(touched)).allowed(self.allowed())
    }

    /// The changes that are allowed both for a change and for going back.
    fn allowed(&self) -> Allowed {
        let mut allowed = Allowed::all();
        allowed.set(Allowed::WEIGHTS, !self.keep_weights);
        allowed
    }

    fn scope(&self) -> Scope {
        if self.own_network.is_empty() && self.own_protocol.is_empty() && self.own_marks.is_empty()
        {
            return Scope::all();
        }
        let mut scope = Scope::none();
        for (address, prefix) in &self.own_network {
            scope = scope.network(*address, *prefix);
        }
        for protocol in &self.own_protocol {
            scope = scope.protocol(*protocol);
        }
        for (first, last) in &self.own_marks {
            scope = scope.marks(*first..=*last);
        }
        scope
    }

    /// The options with which another run owns the same services and keeps the same weights.
    pub(crate) fn own_options(&self) -> String {
        let mut words = String::new();
        for (address, prefix) in &self.own_network {
            let _ = write!(words, " --own-network {address}/{prefix}");
        }
        for protocol in &self.own_protocol {
            let _ = write!(words, " --own-protocol {protocol}");
        }
        for (first, last) in &self.own_marks {
            let _ = write!(words, " --own-marks {first}-{last}");
        }
        if self.keep_weights {
            words.push_str(" --keep-weights");
        }
        words
    }
}

fn age(text: &str) -> Result<Duration, String> {
    let age = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if age < Duration::from_secs(1) {
        return Err("expected 1s or more: reading takes the kernel time".to_owned());
    }
    Ok(age)
}

fn network(text: &str) -> Result<(IpAddr, u8), String> {
    let expected = || "expected a network, as 10.0.0.0/24 or 2001:db8::/32".to_owned();
    let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
    let address: IpAddr = address.parse().map_err(|_| expected())?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let prefix = prefix.map_or(Ok(longest), str::parse).map_err(|_| expected())?;
    if prefix > longest {
        return Err(format!("the prefix of {address} has at most {longest} bits"));
    }
    Ok((address, prefix))
}

fn protocol(text: &str) -> Result<Protocol, String> {
    match text.parse::<Protocol>() {
        Ok(protocol) if protocol.number() > 255 => {
            Err("a protocol number is at most 255".to_owned())
        }
        parsed => parsed.map_err(|error| error.to_string()),
    }
}

fn marks(text: &str) -> Result<(u32, u32), String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) if 0 < first && first <= last => Ok((first, last)),
        _ => Err("expected marks above 0, the lower first, as 7 or 100-199".to_owned()),
    }
}
