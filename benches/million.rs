//! A million destinations, planned on the host and synced into the fake kernel, in 1 GiB of memory
//! altogether: `cargo bench --bench million`.

use std::net::IpAddr;
use std::time::Instant;

use anyhow::{Context, ensure};
use ipvs_netlink::fake::Kernel;
use ipvs_netlink::{Destination, Plan, Policy, Ruleset, Scheduler, Service};

const SERVICES: u32 = 100_000;
const DESTINATIONS: u32 = 10;
const ALL: usize = 1_000_000;
const MOST_MEMORY: usize = 1 << 30;

fn rules() -> anyhow::Result<Ruleset> {
    let mut rules = Ruleset::new();
    for n in 0..SERVICES {
        let [_, a, b, c] = n.to_be_bytes();
        let service =
            Service::tcp(IpAddr::from([10, a, b, c]), 80).scheduler(Scheduler::RoundRobin);
        rules.insert_service(service)?;
        for host in 0..DESTINATIONS {
            let [.., d] = host.to_be_bytes();
            let server = Destination::masquerade(IpAddr::from([10, 200, 0, d]), 8080);
            rules.insert_destination(service.key, server)?;
        }
    }
    Ok(rules)
}

/// The bytes that a row of `/proc/self/status` tells: `VmRSS`, the memory that this process has
/// now, or `VmHWM`, the most that it has had.
fn memory(of: &str) -> anyhow::Result<usize> {
    let status = std::fs::read_to_string("/proc/self/status").context("needs Linux")?;
    let line = status.lines().find_map(|line| line.strip_prefix(of)).context("no such row")?;
    let kib: usize = line.trim_start_matches(':').trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}

fn main() -> anyhow::Result<()> {
    println!("### A million destinations\n");
    println!("| stage | time | bytes a destination |\n|---|---:|---:|");
    let mut before = memory("VmRSS")?;
    let mut start = Instant::now();
    let mut stage = |name: &str| -> anyhow::Result<()> {
        let now = memory("VmRSS")?;
        let bytes = now.saturating_sub(before) / ALL;
        println!("| {name} | {:.2?} | {bytes} |", start.elapsed());
        (before, start) = (now, Instant::now());
        Ok(())
    };

    let rules = rules()?;
    stage("the ruleset")?;
    let plan = Plan::new(&Ruleset::new(), &rules, &Policy::new().verify(false));
    stage("the plan that adds all of it, with the ruleset")?;
    let kernel = Kernel::new();
    let mut client = kernel.connect()?;
    let report = client.apply(plan)?;
    ensure!(report.changed == ALL + 100_000, "{report}");
    stage("applied: the fake kernel's table, without the plan")?;
    let left = client.plan(&rules, &Policy::new())?;
    ensure!(left.is_empty(), "something is left to do: {left}");
    stage("read back and compared")?;

    let most = memory("VmHWM")?;
    println!("\nat most {} MiB in all, {} bytes a destination", most >> 20, most / ALL);
    ensure!(most <= MOST_MEMORY, "more than 1 GiB");
    Ok(())
}
