//! Writes a rules file into the kernel, all of it or nothing, then reads it back and compares.

mod support;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use clap::Parser;
use ipvs_netlink::{BatchOptions, Change, Plan, Policy, Ruleset, blocking::Client};
use support::output::{counted, progress_bar, say};

/// Adds the services of a rules file to IPVS, then reads them back and compares.
///
/// Services that are in the table already stay. If anything goes wrong, the added services are
/// removed again.
#[derive(Parser)]
struct Arguments {
    /// The rules file, such as examples/rules/web.ipvs: JSON if its name ends with .json, YAML with
    /// .yaml or .yml, else the format of ipvsadm-save
    file: PathBuf,
    #[command(flatten)]
    kernel: support::KernelOption,
}

fn main() -> ExitCode {
    support::end(restore(&Arguments::parse()))
}

fn restore(arguments: &Arguments) -> anyhow::Result<()> {
    let file = arguments.file.display();
    let rules = support::read_rules(&arguments.file)?;
    let connected =
        arguments.kernel.connect().and_then(|mut ipvs| ipvs.ruleset().map(|before| (ipvs, before)));
    let (mut ipvs, before) = connected.inspect_err(|_| support::explain(&rules))?;
    for rules in rules.services() {
        let key = rules.key();
        ensure!(before.service(key).is_none(), "service {key} is in the table already");
    }
    let written = write(&mut ipvs, &rules).and_then(|()| compare(&mut ipvs, &rules));
    if let Err(error) = written {
        support::explain(&rules);
        // Not all of them were added, so a missing service is no failure.
        for rules in rules.services() {
            match ipvs.remove_service(rules.key()) {
                Err(failure) if !failure.is_not_found() => {
                    bail!("{error}; undoing it failed, too: {failure}");
                }
                _ => {}
            }
        }
        return Err(error);
    }
    say!(
        "{file}: in the kernel as written: {} with {}",
        counted(rules.services().len(), "service"),
        counted(rules.destination_count(), "destination")
    );
    Ok(())
}

fn write(ipvs: &mut Client, rules: &Ruleset) -> anyhow::Result<()> {
    let plan = Plan::new(&Ruleset::new(), rules, &Policy::new());
    let operations: Vec<_> = plan.changes().iter().filter_map(Change::operation).collect();
    let progress = progress_bar("{bar:40} {pos}/{len} rules, {eta} left");
    progress.set_length(operations.len() as u64);
    let mut failed = None;
    ipvs.batch_each(operations, BatchOptions::default().stop_at_first_error(true), |_, result| {
        progress.inc(1);
        if let Err(error) = result {
            failed.get_or_insert(error);
        }
    })?;
    progress.finish_and_clear();
    failed.map_or(Ok(()), |error| Err(error.into()))
}

fn compare(ipvs: &mut Client, rules: &Ruleset) -> anyhow::Result<()> {
    let table = ipvs.ruleset()?;
    for wanted in rules.services() {
        let key = wanted.key();
        let found = table.service(key).with_context(|| format!("service {key} is gone again"))?;
        ensure!(found == wanted, "service {key} was read back other than written");
    }
    Ok(())
}
