//! A rules file into the kernel, all of it or nothing, then read back and compared.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use ipvs_netlink::{Ruleset, blocking::Client};

/// Adds the services of a rules file to the kernel's IPVS, then reads them back and compares.
///
/// The file has the format of ipvsadm-save. What is in the table already stays; where anything
/// goes wrong, what was added is removed again.
#[derive(Parser)]
struct Arguments {
    /// The rules file, such as examples/rules/web.ipvs
    file: PathBuf,
}

fn main() -> ExitCode {
    match restore(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn restore(arguments: &Arguments) -> anyhow::Result<()> {
    let file = arguments.file.display();
    let text = match std::fs::read_to_string(&arguments.file) {
        Ok(text) => text,
        Err(error) => bail!("cannot read {file}: {error}"),
    };
    let rules: Ruleset = match text.parse() {
        Ok(rules) => rules,
        Err(error) => bail!("{file}: {error}"),
    };

    let mut ipvs = Client::connect()?;
    let before = ipvs.ruleset()?;
    for rules in rules.services() {
        let key = rules.service().key;
        ensure!(before.service(key).is_none(), "service {key} is in the table already");
    }
    let written = write(&mut ipvs, &rules).and_then(|()| compare(&mut ipvs, &rules));
    if let Err(error) = written {
        // Whichever were added: those that were not are not there to be removed.
        for rules in rules.services() {
            match ipvs.remove_service(rules.service().key) {
                Err(failure) if !failure.is_not_found() => {
                    bail!("{error}; and undoing it: {failure}");
                }
                _ => {}
            }
        }
        return Err(error);
    }
    println!(
        "{file}: {} services with {} destinations are in the kernel as written",
        rules.services().len(),
        rules.destination_count()
    );
    Ok(())
}

fn write(ipvs: &mut Client, rules: &Ruleset) -> anyhow::Result<()> {
    let steps = rules.services().len() + rules.destination_count();
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} rules, {eta} left")?;
    let progress = ProgressBar::new(steps as u64).with_style(style);
    for rules in rules.services() {
        ipvs.add_service(rules.service())?;
        progress.inc(1);
        for destination in rules.destinations() {
            ipvs.add_destination(rules.service().key, destination)?;
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    Ok(())
}

fn compare(ipvs: &mut Client, rules: &Ruleset) -> anyhow::Result<()> {
    let table = ipvs.ruleset()?;
    for wanted in rules.services() {
        let key = wanted.service().key;
        let found = table.service(key).with_context(|| format!("service {key} is gone again"))?;
        ensure!(found == wanted, "service {key} is not in the table as it was written");
    }
    Ok(())
}
