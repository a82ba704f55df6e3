//! Prints what a node is to have for the Services of its cluster.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Parser;
use ipvs_kube::{Cluster, Desired, Options};
use ipvs_netlink::Ruleset;

/// From a Kubernetes cluster's objects to IPVS rules, addresses and an nft script
///
/// The files are what `kubectl get services,endpointslices,nodes -A -o json` (or yaml) prints.
#[derive(Parser)]
#[command(about, long_about)]
struct Arguments {
    /// Files with the cluster's objects
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The Node that the rules are for
    #[arg(long, value_name = "NAME")]
    node: String,
    /// Print what would be done, and change nothing: all that this program does so far
    #[arg(long, required = true)]
    dry_run: bool,
    /// The table to plan from, in the format of ipvsadm-save; an empty one unless given
    #[arg(long, value_name = "FILE")]
    table: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
}

fn main() -> Result<()> {
    let Arguments { files, node, table, options, .. } = Arguments::parse();
    let mut cluster = Cluster::default();
    for file in &files {
        cluster.read(&read(file)?).with_context(|| file.display().to_string())?;
    }
    let actual: Ruleset = match &table {
        None => Ruleset::new(),
        Some(file) => read(file)?.parse().with_context(|| file.display().to_string())?,
    };
    let desired = Desired::new(&cluster.objects(&node)?, &options);
    let rules = &desired.rules;
    let (services, destinations) = (rules.services().len(), rules.destination_count());
    let plan = desired.plan(&actual, &options.policy());
    let text =
        format!("== IPVS: {services} services with {destinations} destinations\n{plan}\n{desired}");
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Whoever reads has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("the plan cannot be printed"),
    }
}

fn read(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).with_context(|| file.display().to_string())
}
