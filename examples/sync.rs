//! A rules file into the kernel, and nothing but the difference: once, or whenever it changes.

mod support;

use std::net::IpAddr;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use ipvs_netlink::blocking::Client;
use ipvs_netlink::sync::{Event, Report, Stage};
use ipvs_netlink::{Allowed, Draining, Policy, Protocol, Ruleset, Scope, Syncer};
use notify::{RecursiveMode, Watcher};

/// Makes the IPVS table what a rules file says, by the least change.
///
/// Exit status: 0 all done, 1 failed in part, 2 bad input and nothing changed.
#[derive(Parser)]
#[allow(clippy::struct_excessive_bools)] // They are the options.
struct Arguments {
    /// The rules file, such as examples/rules/web.ipvs: in the format of ipvsadm-save, or as JSON
    /// or YAML where its name ends so
    file: PathBuf,
    #[command(flatten)]
    kernel: support::KernelOption,
    /// Print what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Print the changes as ipvsadm commands
    #[arg(long)]
    commands: bool,
    /// Own the services of this network, as 10.0.0.0/24 (repeatable; unless told, all are owned)
    #[arg(long, value_name = "NETWORK", value_parser = network)]
    own_network: Vec<(IpAddr, u8)>,
    /// Own the services of this protocol: tcp, udp, sctp or a number (repeatable)
    #[arg(long, value_name = "PROTOCOL", value_parser = protocol)]
    own_protocol: Vec<Protocol>,
    /// Own the services of these firewall marks, as 7 or 100-199 (repeatable)
    #[arg(long, value_name = "MARKS", value_parser = marks)]
    own_marks: Vec<(u32, u32)>,
    /// Remove nothing
    #[arg(long)]
    keep: bool,
    /// Keep the weights of destinations that are there, whoever set them
    #[arg(long)]
    keep_weights: bool,
    /// Let the connections of removed destinations end, for this long at most, as 30s or 5min
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    drain: Option<Duration>,
    /// Go on, and do it again whenever the file changes
    #[arg(long, conflicts_with = "dry_run")]
    watch: bool,
    /// While watching, read the table anew at least this often, to see what others changed
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "5min")]
    max_age: Duration,
}

const FAILED_IN_PART: u8 = 1;
const BAD_INPUT: u8 = 2;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match prepare(&arguments) {
        Err(error) => {
            eprintln!("error: {error:#}; nothing was changed");
            return ExitCode::from(BAD_INPUT);
        }
        Ok((client, rules)) if arguments.watch => watch(&arguments, client, rules),
        Ok((client, rules)) => sync(&arguments, client, &rules),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED_IN_PART),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(FAILED_IN_PART)
        }
    }
}

fn prepare(arguments: &Arguments) -> anyhow::Result<(Client, Ruleset)> {
    let rules = support::read_rules(&arguments.file)?;
    Ok((arguments.kernel.connect()?, rules))
}

impl Arguments {
    fn policy(&self) -> Policy {
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
        if self.own_network.is_empty() && self.own_protocol.is_empty() && self.own_marks.is_empty()
        {
            scope = Scope::all();
        }
        let mut allowed = Allowed::all();
        allowed.set(Allowed::REMOVE_SERVICES | Allowed::REMOVE_DESTINATIONS, !self.keep);
        allowed.set(Allowed::WEIGHTS, !self.keep_weights);
        let draining = self.drain.map_or(Draining::at_once(), Draining::within);
        Policy::new().scope(scope).allowed(allowed).draining(draining)
    }
}

fn sync(arguments: &Arguments, mut ipvs: Client, rules: &Ruleset) -> anyhow::Result<bool> {
    let plan = ipvs.plan(rules, &arguments.policy())?;
    if arguments.commands {
        print!("{}", plan.commands());
    } else {
        print!("{plan}");
    }
    if arguments.dry_run {
        eprintln!("{} changes, none made", plan.changes().len());
        return Ok(true);
    }
    let style = ProgressStyle::with_template("{msg} {bar:40} {pos}/{len}")?;
    let bar = ProgressBar::new(0).with_style(style);
    let report = ipvs.apply_with(plan, |event| {
        let Event::Progress(progress) = event else { return ControlFlow::Continue(()) };
        bar.set_message(match progress.stage {
            Stage::Writing => "writing",
            Stage::Verifying => "verifying",
            Stage::Draining => "draining",
            _ => "working",
        });
        bar.set_length(progress.total as u64);
        bar.set_position(progress.done as u64);
        ControlFlow::Continue(())
    })?;
    bar.finish_and_clear();
    Ok(summarize(&report))
}

fn summarize(report: &Report) -> bool {
    if report.is_success() {
        println!("{report}");
    } else {
        eprintln!("error: {report}");
    }
    report.is_success()
}

fn watch(arguments: &Arguments, mut ipvs: Client, rules: Ruleset) -> anyhow::Result<bool> {
    let (sender, changes) = channel();
    let mut watcher = notify::recommended_watcher(move |event| drop(sender.send(event)))?;
    // The folder is watched: editors put a new file in the place of the old one.
    let file = arguments.file.canonicalize()?;
    let folder = file.parent().context("the file is in no folder")?;
    watcher.watch(folder, RecursiveMode::NonRecursive)?;

    let mut syncer = Syncer::new(arguments.policy()).max_age(arguments.max_age);
    syncer.want(rules);
    loop {
        let report = ipvs.pass(&mut syncer)?;
        if report.changed > 0 || !report.is_success() {
            summarize(&report);
        }
        let wait = report.next.unwrap_or(arguments.max_age).min(arguments.max_age);
        if !wait_for_change(&changes, &file, wait)? {
            continue;
        }
        match support::read_rules(&file) {
            Ok(rules) => syncer.want(rules),
            Err(error) => eprintln!("error: {error:#}; what was wanted before stays wanted"),
        }
    }
}

/// Waits until the file has changed; tells whether it did within the time.
fn wait_for_change(
    changes: &Receiver<notify::Result<notify::Event>>,
    file: &Path,
    time: Duration,
) -> anyhow::Result<bool> {
    match changes.recv_timeout(time) {
        Err(RecvTimeoutError::Timeout) => Ok(false),
        Err(RecvTimeoutError::Disconnected) => bail!("the file is not watched any more"),
        Ok(event) => {
            let event = event?;
            let written = !event.kind.is_access() && event.paths.iter().any(|path| path == file);
            // One change is several events, and the file is whole after the last.
            while written && changes.recv_timeout(Duration::from_millis(50)).is_ok() {}
            Ok(written)
        }
    }
}

fn network(text: &str) -> Result<(IpAddr, u8), String> {
    let (address, prefix) = text.split_once('/').unwrap_or((text, "128"));
    let parsed = address.parse().ok().zip(prefix.parse().ok());
    parsed.ok_or_else(|| "expected a network, as 10.0.0.0/24 or 2001:db8::/32".to_owned())
}

fn protocol(text: &str) -> Result<Protocol, String> {
    match text {
        "tcp" => Ok(Protocol::TCP),
        "udp" => Ok(Protocol::UDP),
        "sctp" => Ok(Protocol::SCTP),
        number => number.parse().map(Protocol).map_err(|_| "expected tcp, udp, sctp".to_owned()),
    }
}

fn marks(text: &str) -> Result<(u32, u32), String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let parsed = first.parse().ok().zip(last.parse().ok());
    parsed.ok_or_else(|| "expected marks, as 7 or 100-199".to_owned())
}
