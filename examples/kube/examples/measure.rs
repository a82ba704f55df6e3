//! How long it takes from JSON to a plan, and how much memory, for a large cluster and for half of it. Times are the
//! processor's, so that they hold on a busy machine.
//!
//! `cargo run --release --example measure`, or `-- SERVICES ENDPOINTS`. Each size is measured in a process of its own, so
//! that its memory is its own.
//!
//! `-- --ranges RANGES` prints the nft script of one load balancer that so many networks may come to, half of them /24 and
//! half of them /28: `nft -f` shows how long the kernel takes, in a network namespace of its own without root.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ipvs_kube::{Cluster, Desired, Options};
use ipvs_netlink::Ruleset;
use serde_json::Value;

const NODES: usize = 100;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--one", file, endpoints] => measure(Path::new(file), endpoints),
        [] => compare(5000, 50),
        ["--ranges", ranges] => print_script(ranges.parse()?),
        [services, endpoints] => compare(services.parse()?, endpoints.parse()?),
        _ => anyhow::bail!("give no arguments, SERVICES ENDPOINTS, or --ranges RANGES"),
    }
}

fn compare(services: usize, endpoints: usize) -> Result<()> {
    println!("services  endpoints  JSON     read      desired   plan      all       memory");
    for services in [services / 2, services] {
        let file = std::env::temp_dir().join(format!("kube-measure-{}.json", std::process::id()));
        std::fs::write(&file, cluster(services, endpoints))?;
        let mut one = Command::new(std::env::current_exe()?);
        let status = one.arg("--one").arg(&file).arg((services * endpoints).to_string()).status();
        std::fs::remove_file(&file)?;
        ensure!(status?.success(), "the measurement failed");
    }
    Ok(())
}

fn print_script(ranges: u32) -> Result<()> {
    ensure!(ranges <= 1 << 16, "at most {} ranges", 1 << 16);
    let mut objects: Value = serde_json::from_str(&cluster(1, 1))?;
    let networks = (0..ranges).map(|index| {
        let network = Ipv4Addr::from(0x0b00_0000 + (index << 8));
        format!("{network}/{}", if index % 2 == 0 { 24 } else { 28 })
    });
    let service = objects["items"].as_array_mut().context("a List has items")?;
    let service = service.iter_mut().find(|item| item["kind"] == "Service").context("a Service")?;
    service["spec"]["loadBalancerSourceRanges"] = networks.collect();
    let mut cluster = Cluster::default();
    cluster.read(&objects.to_string())?;
    let desired = Desired::new(&cluster.objects("node-0")?, &Options::default());
    print!("{}", desired.nft.context("a script")?);
    Ok(())
}

fn measure(file: &Path, endpoints: &str) -> Result<()> {
    let text = std::fs::read_to_string(file)?;
    let size = text.len();
    let start = processor_time()?;
    let mut cluster = Cluster::default();
    cluster.read(&text)?;
    drop(text);
    let read = processor_time()?.saturating_sub(start);
    let options = Options::default();
    let desired = Desired::new(&cluster.objects("node-0")?, &options);
    let made = processor_time()?.saturating_sub(start);
    let plan = desired.plan(&Ruleset::new(), &options.policy());
    let all = processor_time()?.saturating_sub(start);
    ensure!(plan.changes().len() >= desired.rules.services().len(), "the plan lacks services");
    let time = |time: Duration| format!("{:.3} s", time.as_secs_f64());
    println!(
        "{:>8}  {endpoints:>9}  {:>3} MB   {:<8}  {:<8}  {:<8}  {:<8}  {} MB",
        cluster.services.iter().flatten().count(),
        size / 1_000_000,
        time(read),
        time(made.saturating_sub(read)),
        time(all.saturating_sub(made)),
        time(all),
        peak()?,
    );
    Ok(())
}

/// How long a processor has been at this thread, which is all that there is of the process.
fn processor_time() -> Result<Duration> {
    let times = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds = times.split_whitespace().next().context("no time in schedstat")?;
    Ok(Duration::from_nanos(nanoseconds.parse()?))
}

/// The most memory that the process had, in MB.
fn peak() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse::<u64>()? / 1000)
}

/// A cluster as kubectl prints it: each tenth Service has node ports, each hundredth a load balancer, and no slice has
/// more than 100 endpoints.
fn cluster(services: usize, endpoints: usize) -> String {
    let mut items = String::new();
    for node in 0..NODES {
        let _ = write!(
            items,
            r#"{{"apiVersion":"v1","kind":"Node","metadata":{{"name":"node-{node}","labels":{{"topology.kubernetes.io/zone":"zone-{}"}}}},"spec":{{"podCIDRs":["10.{node}.0.0/16"]}},"status":{{"addresses":[{{"type":"InternalIP","address":"192.168.0.{}"}}]}}}},"#,
            node % 3,
            node + 1,
        );
    }
    for service in 0..services {
        let (kind, more, ingress) = match service {
            _ if service % 100 == 0 => (
                "LoadBalancer",
                String::new(),
                format!(r#"[{{"ip":"100.64.{}.{}"}}]"#, service >> 8, service & 255),
            ),
            _ if service % 10 == 0 => {
                ("NodePort", format!(r#","nodePort":{}"#, 20000 + service), "[]".to_owned())
            }
            _ => ("ClusterIP", String::new(), "[]".to_owned()),
        };
        let _ = write!(
            items,
            r#"{{"apiVersion":"v1","kind":"Service","metadata":{{"namespace":"n","name":"s{service}","creationTimestamp":"2026-01-01T00:00:00Z","labels":{{"app":"s{service}"}}}},"spec":{{"type":"{kind}","clusterIP":"172.16.{0}.{1}","clusterIPs":["172.16.{0}.{1}"],"ipFamilies":["IPv4"],"internalTrafficPolicy":"Cluster","sessionAffinity":"None","ports":[{{"name":"http","port":80,"protocol":"TCP","targetPort":8080{more}}}]}},"status":{{"loadBalancer":{{"ingress":{ingress}}}}}}},"#,
            service >> 8,
            service & 255,
        );
        for slice in 0..endpoints.div_ceil(100) {
            let _ = write!(
                items,
                r#"{{"apiVersion":"discovery.k8s.io/v1","kind":"EndpointSlice","metadata":{{"namespace":"n","name":"s{service}-{slice}","labels":{{"kubernetes.io/service-name":"s{service}"}}}},"addressType":"IPv4","ports":[{{"name":"http","port":8080,"protocol":"TCP"}}],"endpoints":["#
            );
            for endpoint in slice * 100..endpoints.min(slice * 100 + 100) {
                let node = (service + endpoint) % NODES;
                let pod = service * endpoints + endpoint;
                let _ = write!(
                    items,
                    r#"{{"addresses":["10.{node}.{}.{}"],"conditions":{{"ready":true,"serving":true,"terminating":false}},"nodeName":"node-{node}","zone":"zone-{}","targetRef":{{"kind":"Pod","namespace":"n","name":"s{service}-{endpoint}","uid":"{pod:032x}"}}}},"#,
                    (pod / NODES) >> 8 & 255,
                    (pod / NODES) & 255,
                    node % 3,
                );
            }
            items.truncate(items.trim_end_matches(',').len());
            items.push_str("]},");
        }
    }
    items.truncate(items.trim_end_matches(',').len());
    format!(r#"{{"apiVersion":"v1","kind":"List","items":[{items}]}}"#)
}
