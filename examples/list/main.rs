//! The table as `ipvsadm -Ln` shows it.

#[path = "../support/mod.rs"]
mod support;
mod table;

use std::process::ExitCode;

use clap::Parser;
use ipvs_netlink::Ruleset;

use crate::table::{Listing, View};

/// Lists the IPVS table, as ipvsadm -Ln does.
#[derive(Parser)]
#[allow(clippy::struct_excessive_bools)] // These are the program's options.
struct Arguments {
    /// Show the connections, packets and bytes that each service and destination has carried
    #[arg(long, conflicts_with_all = ["rate", "thresholds"])]
    stats: bool,
    /// Show the connections, packets and bytes that each carries per second
    #[arg(long, conflicts_with = "thresholds")]
    rate: bool,
    /// Show the thresholds of each destination: the number of connections from which it gets no new
    /// ones, and the number below which it gets some again
    #[arg(long)]
    thresholds: bool,
    /// Show numbers in full, however long
    #[arg(long)]
    exact: bool,
    /// Print everything as JSON
    #[arg(long, conflicts_with_all = ["stats", "rate", "thresholds", "exact"])]
    json: bool,
    #[command(flatten)]
    kernel: support::KernelOption,
}

fn main() -> ExitCode {
    support::end(list(&Arguments::parse()).and_then(|text| Ok(support::output::print(text)?)))
}

fn list(arguments: &Arguments) -> anyhow::Result<String> {
    let read = arguments.kernel.connect().and_then(|mut ipvs| Ok((ipvs.info()?, ipvs.table()?)));
    let (info, table) = read.inspect_err(|_| support::explain(&Ruleset::new()))?;
    if arguments.json {
        return Ok(serde_json::to_string_pretty(&table)? + "\n");
    }
    let view = match arguments {
        Arguments { stats: true, .. } => View::Stats,
        Arguments { rate: true, .. } => View::Rate,
        Arguments { thresholds: true, .. } => View::Thresholds,
        _ => View::Connections,
    };
    Ok(Listing { info, table, view, exact: arguments.exact }.to_string())
}
