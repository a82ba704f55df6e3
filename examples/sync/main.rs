//! Brings the kernel's table in line with a rules file, writing only the difference: once, whenever
//! the file changes, or on trial until the change is confirmed.

mod apply;
mod arguments;
mod confirm;
mod file;
#[path = "../support/mod.rs"]
mod support;
mod watch;

use std::process::ExitCode;

use clap::Parser;
use ipvs_netlink::Progress;
use ipvs_netlink::blocking::Client;
use ipvs_netlink::{Error, Plan, Ruleset};

use apply::Bar;
use arguments::Arguments;
use file::RulesFile;
use support::output::{complain, counted, say};

const DONE: u8 = 0;
const FAILED_IN_PART: u8 = 1;
const BAD_INPUT: u8 = 2;
const WENT_BACK: u8 = 3;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.confirm_now {
        return ExitCode::from(confirm::confirm_now(&arguments).unwrap_or_else(|error| {
            complain!("error: {error:#}");
            BAD_INPUT
        }));
    }
    let outcome = if arguments.guard {
        confirm::guard(&arguments)
    } else if arguments.confirm.is_some() {
        confirm::run(&arguments)
    } else if arguments.watch {
        watch::watch(&arguments)
    } else {
        prepare(&arguments).and_then(|(ipvs, rules)| once(&arguments, ipvs, &rules))
    };
    ExitCode::from(outcome.unwrap_or_else(|error| {
        complain!("error: {error:#}; nothing was changed");
        BAD_INPUT
    }))
}

/// Reads the rules, and then connects.
fn prepare(arguments: &Arguments) -> anyhow::Result<(Client, Ruleset)> {
    let mut file = RulesFile::new(arguments.file()?, arguments.quiet);
    let rules = arguments.accept(file.wait()?)?;
    Ok((connect(arguments, &rules)?, rules))
}

fn connect(arguments: &Arguments, rules: &Ruleset) -> Result<Client, Error> {
    arguments.kernel.connect().inspect_err(|_| support::explain(rules))
}

/// Brings the table in line with the rules once. An error means that nothing was changed.
fn once(arguments: &Arguments, mut ipvs: Client, rules: &Ruleset) -> anyhow::Result<u8> {
    let plan = ipvs.plan(rules, &arguments.policy());
    let plan = plan.inspect_err(|_| support::explain(rules))?;
    arguments.print_plan(&plan)?;
    if arguments.dry_run {
        complain!("{}, none made", counted(plan.changes().len(), "change"));
        return Ok(DONE);
    }
    let mut bar = Bar::default();
    let outcome = apply::apply(&mut ipvs, plan, |progress| {
        if let Some(Progress { stage, done, total, .. }) = progress {
            bar.show(apply::name(stage), done, total);
        }
        true
    });
    drop(bar);
    Ok(match outcome {
        Ok(report) => {
            say!("{report}");
            DONE
        }
        Err(report) => {
            support::explain(rules);
            complain!("error: {report}");
            FAILED_IN_PART
        }
    })
}

impl Arguments {
    fn print_plan(&self, plan: &Plan) -> std::io::Result<()> {
        if self.commands {
            return support::output::print(plan.commands());
        }
        support::output::print(plan)
    }
}
