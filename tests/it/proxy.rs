//! The example `kube` as the proxy of a node: real traffic by each of its ways, taking a node over, being killed and started
//! again, and going away.

mod cluster;
mod monitor;
mod place;
pub(crate) mod watched;

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use ipvs_netlink::wire::Command::{DelService, NewService, SetService};
use ipvs_netlink::{Ruleset, ServiceKey};

use self::monitor::Monitor;
use self::place::{
    CALLER, NODE, OUTSIDE, POD, Place, SSH, addresses, ask, ask_udp, clean_up, connect, echo, get,
    ip, ipvs, rules, sysctl, udp_client, unspecified,
};
use crate::case::{Outcome, cases};
use crate::nft::serve;
use crate::subject::{Subject, program};
use crate::traffic::{Namespace, PATIENCE, wait_until};

cases![
    traffic_comes_by_each_way_and_strangers_are_refused,
    a_node_of_kube_proxy_is_taken_over_without_a_failed_request,
    a_flow_of_udp_follows_the_endpoints,
    a_proxy_that_was_killed_goes_on_and_mends_what_others_took,
    cleaning_up_leaves_nothing_of_the_proxys_and_all_of_others,
];

/// The cluster's objects, as a file has them and as an API server has them.
const CLUSTER: &str = include_str!("proxy/cluster.yaml");

/// What the cluster is about, in one family.
struct Site {
    cluster_ip: SocketAddr,
    node_port: SocketAddr,
    external: SocketAddr,
    /// A load balancer of policy Local with source ranges.
    restricted: SocketAddr,
    /// A client in the ranges, and one that is not.
    allowed: IpAddr,
    stranger: IpAddr,
    /// The endpoint of the cluster IP, and another pod.
    endpoint: IpAddr,
    caller: IpAddr,
    /// The node, as the endpoint sees it.
    at_pods: IpAddr,
}

impl Site {
    fn both() -> anyhow::Result<[Self; 2]> {
        let v4 = Self {
            cluster_ip: "10.96.0.22:80".parse()?,
            node_port: "192.168.1.11:30080".parse()?,
            external: "203.0.113.20:80".parse()?,
            restricted: "203.0.113.11:443".parse()?,
            allowed: "192.0.2.5".parse()?,
            stranger: "192.168.1.99".parse()?,
            endpoint: "10.244.0.37".parse()?,
            caller: "10.244.1.5".parse()?,
            at_pods: "10.244.0.1".parse()?,
        };
        let v6 = Self {
            cluster_ip: "[fd00:96::16]:80".parse()?,
            node_port: "[fd00:1::11]:30080".parse()?,
            external: "[2001:db8:113::20]:80".parse()?,
            restricted: "[2001:db8:113::11]:443".parse()?,
            allowed: "2001:db8:2::5".parse()?,
            stranger: "fd00:1::99".parse()?,
            endpoint: "fd00:244::25".parse()?,
            caller: "fd00:244:0:1::5".parse()?,
            at_pods: "fd00:244::1".parse()?,
        };
        Ok([v4, v6])
    }

    /// Each way from each place; as whom the endpoint sees the client tells what was masqueraded.
    fn check(&self) -> Outcome {
        let any = unspecified(self.at_pods);
        let ways = [
            (CALLER, self.caller, self.cluster_ip, self.caller),
            // Its own client: what comes back from the node comes back at all.
            (POD, self.endpoint, self.cluster_ip, self.at_pods),
            (NODE, any, self.cluster_ip, self.at_pods),
            (OUTSIDE, self.stranger, self.cluster_ip, self.at_pods),
            (OUTSIDE, self.stranger, self.node_port, self.at_pods),
            (CALLER, self.caller, self.node_port, self.at_pods),
            (NODE, any, self.node_port, self.at_pods),
            (OUTSIDE, self.stranger, self.external, self.at_pods),
            (CALLER, self.caller, self.external, self.at_pods),
            (OUTSIDE, self.allowed, self.restricted, self.allowed),
        ];
        for (namespace, from, to, expected) in ways {
            let seen = namespace.run(|| ask(from, to)).with_context(|| namespace.0.to_owned())?;
            ensure!(seen == expected, "{} {from} to {to} is seen as {seen}", namespace.0);
        }
        for address in [self.cluster_ip, self.external, self.restricted] {
            let ssh = SocketAddr::new(address.ip(), SSH);
            for namespace in [OUTSIDE, NODE, CALLER] {
                let kind = connects(namespace, any, ssh, PATIENCE)?;
                let refused = kind == Some(ErrorKind::ConnectionRefused);
                ensure!(refused, "{} to {ssh}: {kind:?}", namespace.0);
            }
        }
        // It is the host's own port, and open at the host's own address.
        let ssh = SocketAddr::new(self.node_port.ip(), SSH);
        OUTSIDE.run(|| ask(self.stranger, ssh)).map(drop)
    }
}

/// Each way of each site, and who is in none of the source ranges gets no answer.
fn check(sites: &[Site]) -> Outcome {
    sites.iter().try_for_each(Site::check)?;
    let strangers = sites.iter().flat_map(|site| {
        let any = unspecified(site.stranger);
        [(OUTSIDE, site.stranger, site.restricted), (NODE, any, site.restricted)]
    });
    fail(strangers, ErrorKind::TimedOut)
}

/// Has all of these connect at once, since each whose packets are dropped takes its time; each fails for this reason.
fn fail(
    clients: impl Iterator<Item = (Namespace, IpAddr, SocketAddr)>,
    reason: ErrorKind,
) -> Outcome {
    std::thread::scope(|scope| {
        let connect = |(namespace, from, to): (Namespace, _, _)| {
            let ended = scope.spawn(move || connects(namespace, from, to, REFUSAL));
            (ended, format!("{} {from} to {to}", namespace.0))
        };
        let clients: Vec<_> = clients.map(connect).collect();
        for (ended, who) in clients {
            let kind = ended.join().expect("a client does not panic")?;
            ensure!(kind == Some(reason), "{who}: {kind:?}");
        }
        Ok(())
    })
}

/// How long a client tries where its packets are dropped.
const REFUSAL: Duration = Duration::from_secs(3);

/// Why a connection is not had; `None` where it is.
fn connects(
    namespace: Namespace,
    from: IpAddr,
    to: SocketAddr,
    patience: Duration,
) -> anyhow::Result<Option<ErrorKind>> {
    namespace.run(|| Ok(connect(from, to, patience).err().map(|error| error.kind())))
}

const BOUND: [&str; 8] = [
    "10.96.0.22/32",
    "10.96.0.30/32",
    "2001:db8:113::11/128",
    "2001:db8:113::20/128",
    "203.0.113.11/32",
    "203.0.113.20/32",
    "fd00:96::16/128",
    "fd00:96::30/128",
];

async fn traffic_comes_by_each_way_and_strangers_are_refused(_: &mut Subject) -> Outcome {
    let place = Place::build()?;
    place.apply(&[])?;
    ensure!(addresses("kube-ipvs0")? == BOUND);
    for (name, value) in
        [("ipv4/vs/conntrack", "1"), ("ipv4/ip_forward", "1"), ("ipv4/conf/all/arp_ignore", "1")]
    {
        ensure!(sysctl(name)? == value, "{name}");
    }
    let sites = Site::both()?;
    check(&sites)?;

    // Once more is nothing more.
    let said = place.apply(&[])?;
    ensure!(!said.contains("bound") && rules()?.services().len() == 10, "{said}");
    // A Service that goes takes its addresses along, once its connections have ended, and nothing else.
    place.want(&without("api"))?;
    place.apply(&["--drain", "0"])?;
    ensure!(rules()?.services().len() == 6 && addresses("kube-ipvs0")?.len() == 4);
    for site in &sites {
        CALLER.run(|| ask(site.caller, site.cluster_ip))?;
    }
    // The node has no such address any more, and no way to it.
    let clients = sites.iter().map(|site| (OUTSIDE, site.allowed, site.restricted));
    fail(clients, ErrorKind::NetworkUnreachable)?;
    // Without endpoints a Service refuses, wherever the client is.
    let none = CLUSTER
        .replace("[{ addresses: [10.244.0.37], nodeName: node }]", "[]")
        .replace("[{ addresses: [\"fd00:244::25\"], nodeName: node }]", "[]");
    place.want(&none)?;
    place.apply(&["--drain", "0", "--at-most", "1"])?;
    let clients = sites.iter().flat_map(|site| {
        [(CALLER, site.caller, site.cluster_ip), (OUTSIDE, site.stranger, site.node_port)]
    });
    fail(clients, ErrorKind::ConnectionRefused)
}

/// The cluster without a Service.
fn without(name: &str) -> String {
    let other = format!("name: {name} ");
    CLUSTER.split("---").filter(|object| !object.contains(&other)).collect::<Vec<_>>().join("---")
}

/// Requests by several ways until they are stopped; each must be answered.
struct Requests {
    stop: Arc<AtomicBool>,
    ways: Vec<Way>,
}

/// Makes one request after the other, and counts those that were answered.
struct Way {
    answered: Arc<AtomicUsize>,
    thread: std::thread::JoinHandle<anyhow::Result<()>>,
}

impl Requests {
    fn start(sites: &[Site]) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let ways = sites.iter().flat_map(|site| {
            [(CALLER, site.caller, site.cluster_ip), (OUTSIDE, site.stranger, site.node_port)]
        });
        let ways = ways.map(|(namespace, from, to)| {
            let (stop, answered) = (Arc::clone(&stop), Arc::<AtomicUsize>::default());
            let count = Arc::clone(&answered);
            let thread = std::thread::spawn(move || {
                namespace.enter()?;
                while !stop.load(Ordering::Relaxed) {
                    ask(from, to)?;
                    count.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(5));
                }
                Ok(())
            });
            Way { answered, thread }
        });
        let ways = ways.collect();
        Self { stop, ways }
    }

    /// Waits until so many more are answered by each way, or one has failed.
    fn wait_for(&self, more: usize) -> anyhow::Result<()> {
        let answered = |way: &Way| way.answered.load(Ordering::Relaxed);
        let goals: Vec<_> = self.ways.iter().map(|way| answered(way) + more).collect();
        wait_until("requests are answered by each way", || {
            let has_failed = self.ways.iter().any(|way| way.thread.is_finished());
            let mut ways = self.ways.iter().zip(&goals);
            Ok(has_failed || ways.all(|(way, goal)| answered(way) >= *goal))
        })
    }

    fn stop(self) -> Outcome {
        self.stop.store(true, Ordering::Relaxed);
        for way in self.ways {
            way.thread.join().expect("a request does not panic")?;
        }
        Ok(())
    }
}

/// The table that kube-proxy leaves for the same objects, with an endpoint that it was draining, and of a Service that
/// was deleted while no proxy ran.
const KUBE_PROXYS: &str = "
-A -t 10.96.0.22:80 -s rr
-a -t 10.96.0.22:80 -r 10.244.0.37:8080 -m -w 1
-a -t 10.96.0.22:80 -r 10.244.0.38:8080 -m -w 0
-A -t 192.168.1.11:30080 -s rr
-a -t 192.168.1.11:30080 -r 10.244.0.37:8080 -m -w 1
-A -t 203.0.113.20:80 -s rr
-a -t 203.0.113.20:80 -r 10.244.0.37:8080 -m -w 1
-A -t [fd00:96::16]:80 -s rr
-a -t [fd00:96::16]:80 -r [fd00:244::25]:8080 -m -w 1
-A -t [fd00:1::11]:30080 -s rr
-a -t [fd00:1::11]:30080 -r [fd00:244::25]:8080 -m -w 1
-A -t 10.96.0.99:80 -s rr
";

/// kube-proxy's chains and sets of a family: they masquerade what is for the Service. With those of others among them.
struct Leftovers {
    save: &'static str,
    restore: &'static str,
    family: &'static str,
    set: &'static str,
    /// With the protocol's number, since the guest has no names of protocols.
    targets: [&'static str; 2],
}

const LEFTOVERS: [Leftovers; 2] = [
    Leftovers {
        save: "iptables-nft-save",
        restore: "iptables-nft-restore",
        family: "inet",
        set: "KUBE-CLUSTER-IP",
        targets: ["10.96.0.22,6:80", "192.168.1.11,6:30080"],
    },
    Leftovers {
        save: "ip6tables-nft-save",
        restore: "ip6tables-nft-restore",
        family: "inet6",
        set: "KUBE-6-CLUSTER-IP",
        targets: ["fd00:96::16,6:80", "fd00:1::11,6:30080"],
    },
];

const CHAINS: &str = r#"*nat
:KUBE-SERVICES - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-MARK-MASQ - [0:0]
:OTHERS - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A PREROUTING -m comment --comment "to -j KUBE-SERVICES" -j OTHERS
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-SERVICES -m set --match-set SET dst,dst -j KUBE-MARK-MASQ
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-POSTROUTING -m mark --mark 0x4000/0x4000 -j MASQUERADE
COMMIT
*filter
:KUBE-FIREWALL - [0:0]
-A INPUT -j KUBE-FIREWALL
COMMIT
"#;

fn fill_filter() -> Outcome {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("chains");
    for Leftovers { restore, family, set, targets, .. } in &LEFTOVERS {
        std::fs::write(&file, CHAINS.replace("SET", set))?;
        NODE.run(|| {
            program("ipset", &["create", set, "hash:ip,port", "family", family])?;
            for target in targets {
                program("ipset", &["add", set, target])?;
            }
            program(restore, &[&file.to_string_lossy()])
        })?;
    }
    NODE.run(|| program("ipset", &["create", "KUBE-SRC-OTHERS", "hash:ip,port"])).map(drop)
}

/// kube-proxy's are gone, and those of others are there.
fn check_filter() -> Outcome {
    for Leftovers { save, .. } in &LEFTOVERS {
        let left = NODE.run(|| program(save, &[]))?;
        let chains: Vec<_> = left.lines().filter_map(|line| line.strip_prefix(":")).collect();
        let own = |name: &&&str| name.starts_with("KUBE-") && !name.starts_with("KUBE-FIREWALL ");
        ensure!(chains.iter().find(own).is_none(), "{save}\n{left}");
        for rule in ["-j OTHERS", "-A INPUT -j KUBE-FIREWALL"] {
            ensure!(left.contains(rule), "{rule} is not in {save}\n{left}");
        }
    }
    let sets = NODE.run(|| program("ipset", &["list", "-name"]))?;
    ensure!(sets.trim() == "KUBE-SRC-OTHERS", "{sets}");
    Ok(())
}

async fn a_node_of_kube_proxy_is_taken_over_without_a_failed_request(_: &mut Subject) -> Outcome {
    let place = Place::build()?;
    ip(
        NODE,
        &[
            "link add kube-ipvs0 type dummy",
            "address add 10.96.0.22/32 dev kube-ipvs0",
            "address add 10.96.0.99/32 dev kube-ipvs0",
            "address add 203.0.113.20/32 dev kube-ipvs0",
            "address add fd00:96::16/128 dev kube-ipvs0 nodad",
        ],
    )?;
    NODE.run(|| {
        for name in ["ipv4/ip_forward", "ipv4/vs/conntrack"] {
            std::fs::write(format!("/proc/sys/net/{name}"), "1")?;
        }
        Ok(())
    })?;
    fill_filter()?;
    let before: Ruleset = KUBE_PROXYS.parse()?;
    let report = ipvs()?.sync(&before, &ipvs_netlink::Policy::new())?;
    ensure!(report.is_success(), "{report}");

    let sites = Site::both()?;
    let requests = Requests::start(&sites);
    requests.wait_for(10)?;
    let monitor = Monitor::start()?;
    let said = place.apply(&["--take-over"])?;
    let sent = monitor.sent()?.concat();
    requests.wait_for(10)?;
    requests.stop()?;
    check_filter().context(said.clone())?;

    ensure!(addresses("kube-ipvs0")? == BOUND, "{said}");
    let rules = rules()?;
    ensure!(rules.services().len() == 10, "{rules}");
    // What stood was not touched: of the services that are sent, one is removed and five are added.
    let count = |command| sent.iter().filter(|sent| **sent == command).count();
    let counts = [DelService, NewService, SetService].map(count);
    ensure!(counts == [1, 5, 0], "{sent:?}");
    check(&sites)
}

/// The cluster, and a Service of UDP with these endpoints.
fn with_dns(v4: &[&str], v6: &[&str]) -> String {
    let endpoints = |addresses: &[&str]| -> String {
        let lines =
            addresses.iter().map(|it| format!("\n  - {{ addresses: [\"{it}\"], nodeName: node }}"));
        lines.collect()
    };
    [CLUSTER, &DNS.replace("V4", &endpoints(v4)).replace("V6", &endpoints(v6))].concat()
}

const DNS: &str = r#"
---
apiVersion: v1
kind: Service
metadata: { namespace: shop, name: dns }
spec:
  clusterIP: 10.96.0.10
  clusterIPs: [10.96.0.10, "fd00:96::a"]
  ports: [{ port: 53, protocol: UDP }]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { namespace: shop, name: dns-4, labels: { kubernetes.io/service-name: dns } }
addressType: IPv4
endpoints: V4
ports: [{ port: 5353, protocol: UDP }]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { namespace: shop, name: dns-6, labels: { kubernetes.io/service-name: dns } }
addressType: IPv6
endpoints: V6
ports: [{ port: 5353, protocol: UDP }]
"#;

async fn a_flow_of_udp_follows_the_endpoints(_: &mut Subject) -> Outcome {
    let place = Place::build()?;
    let (before, after) = (["10.244.0.37", "fd00:244::25"], ["10.244.0.53", "fd00:244::35"]);
    for address in before.into_iter().chain(after) {
        echo(address.parse()?)?;
    }
    place.apply(&[])?;
    // Nobody has the virtual address yet: the flow leaves the node, and connection tracking remembers that.
    ip(NODE, &["route add default via 192.168.1.99", "route add default via fd00:1::99"])?;
    let clients = ["10.96.0.10:53", "[fd00:96::a]:53"].map(|to| udp_client(to.parse()?));
    let [v4, v6] = clients;
    let clients = [v4?, v6?];
    for client in &clients {
        client.send(b"?")?;
    }
    place.want(&with_dns(&before[..1], &before[1..]))?;
    let said = place.apply(&[])?;
    ensure!(said.contains("2 tracked UDP flows forgotten"), "{said}");
    for (client, endpoint) in clients.iter().zip(before) {
        let seen = ask_udp(client)?;
        ensure!(seen == endpoint, "{seen}");
    }
    // A client of UDP keeps its port, and comes to the endpoint that there is.
    place.want(&with_dns(&after[..1], &after[1..]))?;
    place.apply(&[])?;
    // Answers to questions that were asked twice may still come from the one before.
    for (client, endpoint) in clients.iter().zip(after) {
        wait_until("UDP comes to the new endpoint", || Ok(ask_udp(client)? == endpoint))?;
    }
    Ok(())
}

async fn a_proxy_that_was_killed_goes_on_and_mends_what_others_took(_: &mut Subject) -> Outcome {
    let place = Place::build()?;
    let sites = Site::both()?;
    let arguments = ["--check-interval", "1"];
    let mut proxy = place.keep(&arguments)?;
    proxy.wait_for("rules:");
    sites.iter().try_for_each(|site| CALLER.run(|| ask(site.caller, site.cluster_ip)).map(drop))?;
    check_answers()?;

    let requests = Requests::start(&sites);
    requests.wait_for(5)?;
    // It is killed by being dropped.
    drop(proxy);
    requests.wait_for(5)?;
    // Another endpoint meanwhile: those of one Service are those of the other now.
    let other =
        CLUSTER.replace("10.244.0.37", "10.244.0.53").replace("fd00:244::25", "fd00:244::35");
    place.want(&other)?;
    let proxy = place.keep(&arguments)?;
    wait_until("the new endpoint is there", || has_endpoints(&["10.244.0.53", "fd00:244::35"]))?;
    requests.wait_for(5)?;
    requests.stop()?;

    // Read again at a signal.
    place.want(CLUSTER)?;
    let pid = rustix::process::Pid::from_raw(proxy.id().try_into()?).context("a process")?;
    rustix::process::kill_process(pid, rustix::process::Signal::HUP)?;
    wait_until("the file is read", || has_endpoints(&["10.244.0.37", "fd00:244::25"]))?;

    // All is taken away by others.
    ipvs()?.flush()?;
    ip(NODE, &["link delete kube-ipvs0"])?;
    NODE.run(|| program("nft", &["flush", "ruleset"]))?;
    wait_until("all is there again", is_whole)?;
    // The module does not go while services use its schedulers, and the proxy brings them back.
    rustix::process::kill_process(pid, rustix::process::Signal::STOP)?;
    wait_until("the proxy rests", || rests(pid))?;
    reload()?;
    // A new module has none of the settings either.
    ensure!(sysctl("ipv4/vs/conntrack")? == "0");
    rustix::process::kill_process(pid, rustix::process::Signal::CONT)?;
    wait_until("all is there in the new module", is_whole)?;
    check(&sites)?;

    // It ends and leaves all as it is.
    rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
    let (status, said) = proxy.end();
    ensure!(status == Some(0), "{said:#?}");
    ensure!(is_whole()?);
    sites.iter().try_for_each(|site| CALLER.run(|| ask(site.caller, site.cluster_ip)).map(drop))
}

/// Whether each thread of a process has stopped: the first one tells nothing of the others.
fn rests(process: rustix::process::Pid) -> anyhow::Result<bool> {
    let threads = std::fs::read_dir(format!("/proc/{process}/task"))?;
    for thread in threads {
        let status = std::fs::read_to_string(thread?.path().join("status"))?;
        if !status.contains("State:\tT") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// `/healthz`, a health-check node port and the metrics.
fn check_answers() -> Outcome {
    let healthz = get("127.0.0.1:10256".parse()?, "/healthz")?;
    ensure!(
        healthz.starts_with("HTTP/1.1 200") && healthz.contains(r#""synced":true"#),
        "{healthz}"
    );
    for at in ["127.0.0.1:32000", "[::1]:32000"] {
        let check = get(at.parse()?, "/")?;
        ensure!(check.starts_with("HTTP/1.1 200"), "{at}: {check}");
        ensure!(check.contains("x-load-balancing-endpoint-weight: 1"), "{at}: {check}");
        ensure!(check.contains(r#""localEndpoints":1"#), "{at}: {check}");
    }
    let metrics = get("127.0.0.1:10249".parse()?, "/metrics")?;
    for line in [
        "node_ipvs_connections_total ",
        r#"node_ipvs_backend_weight{local_address="fd00:96::16",local_mark="",local_port="80",proto="TCP",remote_address="fd00:244::25",remote_port="8080"} 1"#,
    ] {
        ensure!(metrics.contains(line), "{line}\n{metrics}");
    }
    Ok(())
}

/// Whether the cluster IPs of the first Service have these endpoints with weight, and no others.
fn has_endpoints(wanted: &[&str]) -> anyhow::Result<bool> {
    let rules = rules()?;
    for site in Site::both()? {
        let key = ServiceKey::tcp(site.cluster_ip.ip(), 80);
        let Some(service) = rules.service(key) else { return Ok(false) };
        let serving: Vec<_> = service.destinations().filter(|to| to.weight > 0).collect();
        let is_wanted = |address: IpAddr| wanted.contains(&&*address.to_string());
        if serving.len() != 1 || !serving.iter().all(|to| is_wanted(to.key.address)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether each address, each service with an endpoint, the packet filter and the settings are there.
fn is_whole() -> anyhow::Result<bool> {
    let is_bound = addresses("kube-ipvs0").is_ok_and(|bound| bound == BOUND);
    let tables = NODE.run(|| program("nft", &["list", "tables"]))?;
    let rules = rules()?;
    let serves = rules.services().all(|rules| rules.destinations().any(|to| to.weight > 0));
    let has_all = serves && rules.services().len() == 10 && sysctl("ipv4/vs/conntrack")? == "1";
    Ok(is_bound && has_all && tables.contains("inet ipvs-kube"))
}

/// Unloads IPVS, and loads it again.
fn reload() -> Outcome {
    ipvs()?.flush()?;
    crate::recovery::reload()
}

async fn cleaning_up_leaves_nothing_of_the_proxys_and_all_of_others(_: &mut Subject) -> Outcome {
    let place = Place::build()?;
    let others = "-A -f 7 -s rr\n-A -t 172.16.0.1:80 -s rr\n";
    let exclude = ["--exclude", "172.16.0.0/16"];
    let report = ipvs()?.sync(&others.parse()?, &ipvs_netlink::Policy::new())?;
    ensure!(report.is_success(), "{report}");
    NODE.run(|| program("nft", &["add table inet others"]))?;
    place.apply(&exclude)?;
    ensure!(rules()?.services().len() == 12);
    // In a network of others, and of another length: neither is the proxy's.
    ip(
        NODE,
        &["address add 172.16.0.1/32 dev kube-ipvs0", "address add 10.99.0.1/24 dev kube-ipvs0"],
    )?;
    let said = clean_up(&exclude);
    ensure!(said.is_err_and(|error| format!("{error:#}").contains("2 addresses on it are not")));
    ensure!(addresses("kube-ipvs0")? == ["10.99.0.1/24", "172.16.0.1/32"]);
    let left: Ruleset = others.parse()?;
    ensure!(rules()? == left, "{}", rules()?);
    let tables = NODE.run(|| program("nft", &["list", "tables"]))?;
    ensure!(tables.trim() == "table inet others", "{tables}");

    ip(NODE, &["address flush dev kube-ipvs0"])?;
    clean_up(&exclude)?;
    ensure!(addresses("kube-ipvs0").is_err() && rules()? == left);
    // A second time is nothing more.
    clean_up(&exclude)?;
    // The node's own servers answer at the node port, and at addresses that were virtual.
    serve(NODE, 30080)?;
    for site in Site::both()? {
        ip(NODE, &[&format!("address add {} dev lo", site.cluster_ip.ip())])?;
        for at in [site.node_port, SocketAddr::new(site.cluster_ip.ip(), SSH)] {
            let seen = OUTSIDE.run(|| ask(site.stranger, at))?;
            ensure!(seen == site.stranger, "at {at} {seen} is seen");
        }
    }
    Ok(())
}
