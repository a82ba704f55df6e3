//! The program: prints what a node is to have for the Services of its cluster, or makes the node have it.

mod keep;

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use ipvs_kube::node::{Linux, Proxy, Status};
use ipvs_kube::watch::{Watch, WatchOptions};
use ipvs_kube::{Cluster, Desired, Options};
use ipvs_netlink::{Client, Draining, Ruleset};

use crate::keep::Source;

/// From a Kubernetes cluster's objects to IPVS rules, addresses and an nft script, and to a node that has them
///
/// The files are what `kubectl get services,endpointslices,nodes -A -o json` (or yaml) prints. Without --dry-run the node
/// that the program runs on is changed, once; with --keep it is kept as the files
/// say, and with --watch as the API server says.
#[derive(Parser)]
#[command(about, long_about)]
#[allow(clippy::struct_excessive_bools, reason = "each is an option of the command line")]
struct Arguments {
    /// Files with the cluster's objects
    #[arg(required_unless_present_any = ["cleanup", "watch"])]
    files: Vec<PathBuf>,
    /// The Node that the rules are for
    #[arg(long, value_name = "NAME", required_unless_present = "cleanup")]
    node: Option<String>,
    /// Print what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// The table to plan from, in the format of ipvsadm-save; an empty one unless given
    #[arg(long, value_name = "FILE", requires = "dry_run")]
    table: Option<PathBuf>,
    /// Stay: end drains, mend what others change, answer health checks, and read the files again at SIGHUP. At SIGTERM
    /// the program ends and leaves the node as it is
    #[arg(long, conflicts_with = "dry_run")]
    keep: bool,
    /// Like --keep, but the objects are watched at the API server instead of read from files
    #[arg(long, conflicts_with_all = ["dry_run", "files"])]
    watch: bool,
    /// Once changes come through and the packet filter is loaded, remove kube-proxy's chains, sets and tables: what to use
    /// where kube-proxy ran, since its rules hinder later changes
    #[arg(long, conflicts_with_all = ["dry_run", "without_nft"])]
    take_over: bool,
    /// Take away all that the proxy owns and nothing else: its services, kube-ipvs0, its table of nft. Where kube-proxy runs
    /// in its IPVS mode, the services and kube-ipvs0 are kube-proxy's, and go as well
    #[arg(long, conflicts_with_all = ["dry_run", "keep", "watch", "take_over", "files"])]
    cleanup: bool,
    /// With --keep: after how long the whole node is looked at again, in seconds
    #[arg(long, default_value = "30", value_name = "SECONDS", value_parser = parse_check_interval)]
    check_interval: Duration,
    /// With --keep: where /healthz and /livez are (repeatable); [::] is every address of both families
    #[arg(long, default_value = "[::]:10256", value_name = "ADDRESS")]
    healthz_bind_address: Vec<SocketAddr>,
    /// With --keep: where /metrics is (repeatable)
    #[arg(long, default_values = ["127.0.0.1:10249", "[::1]:10249"], value_name = "ADDRESS")]
    metrics_bind_address: Vec<SocketAddr>,
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    api: WatchOptions,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if arguments.cleanup {
        return clean_up(&arguments.options).await;
    }
    if arguments.dry_run {
        return dry_run(&arguments);
    }
    let source = match &arguments.node {
        Some(node) if arguments.watch => {
            Source::Api(Box::new(Watch::new(node, &arguments.api).await?))
        }
        _ => Source::Files(Box::new(arguments.desired()?)),
    };
    let status = Arc::<Status>::default();
    let host = Linux::new(&arguments.options, Arc::clone(&status));
    let mut proxy = Proxy::new(host, &arguments.options, status)
        .check_interval(arguments.check_interval)
        .take_over(arguments.take_over);
    let desired = match source {
        Source::Files(desired) if !arguments.keep => desired,
        source => return keep::keep(&mut proxy, source, &arguments).await,
    };
    for note in &desired.notes {
        eprintln!("note: {note}");
    }
    let pass = proxy.pass(&desired).await;
    eprintln!("{pass}");
    if !pass.is_success() {
        bail!("the node is not as desired");
    }
    Ok(())
}

impl Arguments {
    /// What the files say.
    fn desired(&self) -> Result<Desired> {
        let mut cluster = Cluster::default();
        for file in &self.files {
            cluster.read(&read(file)?).with_context(|| file.display().to_string())?;
        }
        let node = self.node.as_deref().context("the rules are for a Node: name it with --node")?;
        Ok(Desired::new(&cluster.objects(node)?, &self.options))
    }
}

fn dry_run(arguments: &Arguments) -> Result<()> {
    let desired = arguments.desired()?;
    let actual: Ruleset = match &arguments.table {
        None => Ruleset::new(),
        Some(file) => read(file)?.parse().with_context(|| file.display().to_string())?,
    };
    let rules = &desired.rules;
    let (services, destinations) = (rules.services().len(), rules.destination_count());
    let plan = desired.plan(&actual, &arguments.options.policy());
    let text =
        format!("== IPVS: {services} services with {destinations} destinations\n{plan}\n{desired}");
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Whoever reads has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("the plan cannot be printed"),
    }
}

const STAYS: &str = "services stay, and with them their addresses and the packet filter";

/// First the services, so that nobody is sent to an address that is not there, nor past the packet filter.
async fn clean_up(options: &Options) -> Result<()> {
    match Client::connect_tokio().await {
        Err(error) if error.is_ipvs_not_found() => {}
        Err(error) => return Err(error).context(STAYS),
        Ok(ipvs) => {
            let policy = options.policy().draining(Draining::at_once()).at_most(1.0);
            let cleared = ipvs.sync(&Ruleset::new(), &policy).await;
            let report = cleared.context(STAYS)?;
            eprintln!("rules: {report}");
        }
    }
    let (done, failures) = Linux::new(options, Arc::default()).clean_up().await;
    for what in done {
        eprintln!("{what}");
    }
    for failure in &failures {
        eprintln!("failed: {failure:#}");
    }
    if !failures.is_empty() {
        bail!("something is left");
    }
    Ok(())
}

fn read(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).with_context(|| file.display().to_string())
}

fn parse_check_interval(text: &str) -> Result<Duration, String> {
    ipvs_kube::parse_seconds(text, 1, 24 * 60 * 60)
}
