//! A pass on a node that is made up: in which order it changes what, and what it does where something fails. The table
//! of IPVS is the fake kernel's.
#![allow(clippy::unwrap_used, missing_docs)]

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};
use ipvs_kube::node::{
    Addresses, Extent, Host, Leftovers, NotDone, Pass, Proxy, Status, serve_health,
};
use ipvs_kube::{Cluster, Desired, HealthCheck, Options};
use ipvs_netlink::fake::{Fault, Kernel};
use ipvs_netlink::{Client, DestinationKey, Ruleset, ServiceKey};

/// What a pass did to the node, in order, with the services that IPVS had then.
type Log = Rc<RefCell<Vec<String>>>;

/// The sets of the proxy's table of nft, and their elements.
type Table = BTreeMap<String, BTreeSet<String>>;

/// Loads a script of nft, as far as it is about sets: all of it or nothing.
fn load(table: Option<&Table>, script: &str) -> Result<Table> {
    let mut table = table.cloned();
    let (mut set, mut verb) = (String::new(), "add");
    for line in script.lines().map(|line| line.trim().trim_end_matches(',')) {
        let words: Vec<_> = line.split(' ').collect();
        match words[..] {
            ["delete", "table", ..] => table = Some(Table::new()),
            ["set" | "map", name, "{"]
            | ["add" | "delete", "element", "inet", "ipvs-kube", name, "{"] => {
                verb = if words[0] == "delete" { "delete" } else { "add" };
                name.clone_into(&mut set);
                let known = table.as_mut().ok_or_else(|| anyhow!("no such table"))?;
                known.entry(set.clone()).or_default();
            }
            ["chain", ..] => set.clear(),
            ["elements", ..] => {}
            [first, ..]
                if !set.is_empty()
                    && first.starts_with(|c: char| c.is_ascii_hexdigit() || c == ':')
                    || ["tcp", "udp"].contains(&words[0]) && words.get(1) == Some(&".") =>
            {
                let elements = table.as_mut().unwrap().get_mut(&set).unwrap();
                let is_done = match verb {
                    "add" => elements.insert(line.to_owned()),
                    _ => elements.remove(line),
                };
                if !is_done {
                    return Err(anyhow!("{verb} {line} in {set}: no such element"));
                }
            }
            _ => {}
        }
    }
    table.ok_or_else(|| anyhow!("no such table"))
}

/// What strikes IPVS after an act of the proxy, and from which step on.
type LaterFault = (&'static str, u64, fn() -> Fault);

/// A node that does as it is told, unless something of it is broken.
#[derive(Clone, Default)]
struct Node {
    kernel: Kernel,
    log: Log,
    addresses: Rc<RefCell<BTreeSet<IpAddr>>>,
    /// Those of other interfaces.
    others: Rc<RefCell<BTreeSet<IpAddr>>>,
    filter: Rc<RefCell<Option<Table>>>,
    /// The last script of nft.
    script: Rc<RefCell<String>>,
    /// The ports of health checks, and how many endpoints each tells of.
    answers: Rc<RefCell<BTreeMap<u16, usize>>>,
    broken: Rc<RefCell<BTreeSet<&'static str>>>,
    /// What stands in the way of rules. The sysctls mend forwarding.
    lacking: Rc<RefCell<BTreeSet<&'static str>>>,
    /// How many steps of the kernel the log took.
    own_steps: Rc<Cell<u64>>,
    faults: Rc<RefCell<Vec<LaterFault>>>,
}

impl Node {
    fn act(&self, what: &'static str, details: &str) -> Result<()> {
        let broken = self.broken.borrow();
        if broken.contains(what) || broken.contains(&*format!("{what} {details}")) {
            return Err(anyhow!("{what} is broken"));
        }
        self.kernel.clear_faults();
        let line = format!("{what} {details}, {} services", self.rules().services().len());
        self.log.borrow_mut().push(line);
        for (_, begin, fault) in
            self.faults.borrow_mut().extract_if(.., |(after, ..)| *after == what)
        {
            (begin..begin + 40).for_each(|step| self.kernel.inject(step, fault()));
        }
        Ok(())
    }

    fn break_down(&self, what: &'static str) {
        self.broken.borrow_mut().insert(what);
    }

    fn repair(&self) {
        self.broken.borrow_mut().clear();
    }

    fn rules(&self) -> Ruleset {
        let begin = self.kernel.steps();
        let options = ipvs_netlink::Options::new();
        let rules = options.connect_with(self.kernel.link()).unwrap().ruleset().unwrap();
        self.own_steps.set(self.own_steps.get() + self.kernel.steps() - begin);
        rules
    }

    /// How many steps of the kernel the proxy took.
    fn steps(&self) -> u64 {
        self.kernel.steps() - self.own_steps.get()
    }

    /// The elements of a set of the packet filter.
    fn set(&self, name: &str) -> Vec<String> {
        let table = self.filter.borrow();
        let set = table.as_ref().and_then(|table| table.get(name));
        set.into_iter().flatten().cloned().collect()
    }

    fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut *self.log.borrow_mut())
    }
}

impl Host for Node {
    async fn connect(&mut self) -> Result<Client> {
        self.act("connect", "")?;
        Ok(Client::connect_with(self.kernel.link()).await?)
    }

    async fn diagnose(&mut self, _: &Ruleset) -> Vec<String> {
        let _ = self.act("diagnose", "");
        let lacking = self.lacking.borrow();
        lacking.iter().map(|what| format!("{what} is lacking\nbuy it")).collect()
    }

    fn set_sysctls(&mut self) -> Result<Vec<String>> {
        self.act("sysctls", "")?;
        self.lacking.borrow_mut().remove("forwarding");
        Ok(Vec::new())
    }

    async fn addresses(&mut self) -> Result<Addresses> {
        self.act("addresses", "")?;
        let (own, others) = (self.addresses.borrow().clone(), self.others.borrow().clone());
        Ok(Addresses { own, others })
    }

    async fn bind(&mut self, address: IpAddr) -> Result<()> {
        self.act("bind", &address.to_string())?;
        self.addresses.borrow_mut().insert(address);
        Ok(())
    }

    async fn unbind(&mut self, address: IpAddr) -> Result<()> {
        self.act("unbind", &address.to_string())?;
        self.addresses.borrow_mut().remove(&address);
        Ok(())
    }

    async fn has_filter(&mut self) -> Result<bool> {
        Ok(self.filter.borrow().is_some())
    }

    async fn load_filter(&mut self, script: &str) -> Result<()> {
        self.act("filter", "")?;
        script.clone_into(&mut self.script.borrow_mut());
        let loaded = load(self.filter.borrow().as_ref(), script)?;
        *self.filter.borrow_mut() = Some(loaded);
        Ok(())
    }

    async fn remove_filter(&mut self) -> Result<bool> {
        self.act("remove filter", "").map(|()| self.filter.take().is_some())
    }

    async fn answer(&mut self, checks: &BTreeMap<u16, HealthCheck>) -> Vec<NotDone<u16>> {
        let count = |check: &HealthCheck| check.local_endpoints.len();
        *self.answers.borrow_mut() = checks.iter().map(|(port, it)| (*port, count(it))).collect();
        checks.keys().filter_map(|port| Some((*port, self.act("port", "").err()?))).collect()
    }

    async fn forget(
        &mut self,
        stale: &BTreeSet<(SocketAddr, Option<SocketAddr>)>,
    ) -> Result<usize> {
        let stale: Vec<_> = stale.iter().map(|(to, from)| format!("{to} {from:?}")).collect();
        self.act("forget", &stale.join(" ")).map(|()| stale.len())
    }

    async fn find_leftovers(&mut self) -> Vec<String> {
        let _ = self.act("find leftovers", "");
        vec!["chains are left".to_owned()]
    }

    async fn remove_leftovers(&mut self) -> Leftovers {
        let failures = self.act("leftovers", "").err().into_iter().collect();
        Leftovers { failures, ..Leftovers::default() }
    }
}

const NODE: &str = "
{apiVersion: v1, kind: Node, metadata: {name: a}, spec: {podCIDRs: [10.244.0.0/24]},
 status: {addresses: [{type: InternalIP, address: 192.168.1.11}]}}
---
{apiVersion: v1, kind: ServiceList, items: []}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSliceList, items: []}
";

/// A Service at an address and port of a protocol, with endpoints.
fn service(name: &str, address: &str, protocol: &str, endpoints: &[&str]) -> String {
    let endpoints: Vec<_> = endpoints.iter().map(|it| format!("{{addresses: [{it}]}}")).collect();
    format!(
        "---
{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{clusterIP: {address}, ports: [
  {{port: 80, protocol: {protocol}}}]}}}}
---
{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4,
 metadata: {{name: {name}-1, labels: {{kubernetes.io/service-name: {name}}}}},
 endpoints: [{}], ports: [{{port: 8080, protocol: {protocol}}}]}}
",
        endpoints.join(", ")
    )
}

/// A load balancer with these source ranges.
fn restricted(ranges: &str) -> String {
    let plain = service("lb", "10.96.0.9", "TCP", &["10.244.0.9"]);
    plain
        .replace(
            "ports: [\n",
            &format!("type: LoadBalancer, loadBalancerSourceRanges: [{ranges}], ports: [\n"),
        )
        .replacen("]}}", "]}, status: {loadBalancer: {ingress: [{ip: 203.0.113.9}]}}}", 1)
}

/// A load balancer of policy Local, whose endpoint is on the node.
fn local(endpoint: &str) -> String {
    let plain = restricted("192.0.2.0/24").replace("10.244.0.9", endpoint);
    let policy = "type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: 32000,";
    plain
        .replace("type: LoadBalancer,", policy)
        .replace("endpoints: [{", "endpoints: [{nodeName: a, ")
}

fn desired(objects: &[String]) -> Desired {
    let mut cluster = Cluster::default();
    cluster.read(&format!("{NODE}{}", objects.concat())).unwrap();
    Desired::new(&cluster.objects("a").unwrap(), &Options::default())
}

fn proxy(node: &Node) -> Proxy<Node> {
    let options = Options { at_most: 1.0, ..Options::default() };
    Proxy::new(node.clone(), &options, Arc::<Status>::default())
}

async fn succeeds(proxy: &mut Proxy<Node>, desired: &Desired) -> Pass {
    let pass = proxy.pass(desired).await;
    assert!(pass.is_success(), "{pass}");
    pass
}

#[tokio::test]
async fn an_address_is_closed_and_bound_before_its_service_and_unbound_after_it() {
    let node = Node::default();
    let mut proxy = proxy(&node);
    let web = desired(&[service("web", "10.96.0.1", "TCP", &["10.244.0.1"])]);
    let _ = succeeds(&mut proxy, &web).await;
    assert_eq!(node.rules(), web.rules);
    let order = [
        "connect , 0 services",
        // Before what is told is mended.
        "diagnose , 0 services",
        "sysctls , 0 services",
        "addresses , 0 services",
        "filter , 0 services",
        "bind 10.96.0.1, 0 services",
        // A module that was loaded anew meanwhile has none of the settings.
        "sysctls , 1 services",
        "find leftovers , 1 services",
    ];
    assert_eq!(node.take_log(), order);

    let steps = node.steps();
    let pass = succeeds(&mut proxy, &web).await;
    assert_eq!(node.steps(), steps, "nothing differs, and nothing is sent");
    assert!(pass.is_quiet() && pass.next > Duration::ZERO);
    node.take_log();

    let _ = succeeds(&mut proxy, &desired(&[])).await;
    let log = node.take_log();
    // The address is closed for as long as it is bound.
    let order = [
        "sysctls , 1 services",
        "sysctls , 0 services",
        "unbind 10.96.0.1, 0 services",
        "filter , 0 services",
    ];
    assert_eq!(log, order);
    assert!(node.set("bound4").is_empty());
}

#[tokio::test]
async fn a_proxy_that_starts_again_finds_all_as_it_is() {
    let node = Node::default();
    let web = desired(&[service("web", "10.96.0.1", "TCP", &["10.244.0.1"])]);
    let _ = succeeds(&mut proxy(&node), &web).await;
    node.take_log();
    let pass = succeeds(&mut proxy(&node), &web).await;
    assert_eq!(pass.report.unwrap().changed, 0);
    let log = node.take_log();
    assert!(!log.iter().any(|line| line.starts_with("bind")), "{log:?}");
    // What went while it was away is unbound.
    let _ = succeeds(&mut proxy(&node), &desired(&[])).await;
    assert!(node.addresses.borrow().is_empty() && node.rules().is_empty());
}

/// The filter is what keeps strangers out.
#[tokio::test]
async fn without_the_filter_nothing_is_opened_and_endpoints_follow_all_the_same() {
    let node = Node::default();
    let mut proxy = proxy(&node);
    let ingress = ServiceKey::tcp("203.0.113.9".parse::<IpAddr>().unwrap(), 80);
    let plain = |endpoint| service("web", "10.96.0.1", "TCP", &[endpoint]);
    node.break_down("filter");
    let pass = proxy.pass(&desired(&[plain("10.244.0.1"), restricted("192.0.2.0/24")])).await;
    assert!(!pass.is_in_sync() && pass.to_string().contains("filter is broken"), "{pass}");
    assert!(node.rules().service(ingress).is_none(), "nothing keeps strangers out");
    assert!(node.addresses.borrow().is_empty(), "the host's own ports would answer there");

    node.repair();
    let open = desired(&[plain("10.244.0.1"), restricted("192.0.2.0/24")]);
    let _ = succeeds(&mut proxy, &open).await;
    assert_eq!(node.rules(), open.rules);
    assert_eq!(node.addresses.borrow().len(), 3);

    // The ranges of the filter that is loaded are others than those that are wanted.
    node.break_down("filter");
    let tighter = desired(&[plain("10.244.0.2"), restricted("198.51.100.0/24")]);
    let pass = proxy.pass(&tighter).await;
    assert!(!pass.is_in_sync());
    let rules = node.rules();
    assert_eq!(rules.service(ingress), open.rules.service(ingress), "it stays as it is");
    let web = ServiceKey::tcp("10.96.0.1".parse::<IpAddr>().unwrap(), 80);
    let new = DestinationKey::new("10.244.0.2".parse::<IpAddr>().unwrap(), 8080);
    let to = rules.service(web).unwrap().destination(new);
    assert_eq!(to.unwrap().weight, 1);
}

/// A table that could not be read says nothing of which addresses are in use.
#[tokio::test]
async fn nothing_is_taken_away_where_ipvs_cannot_be_reached() {
    let node = Node::default();
    let web = desired(&[service("web", "10.96.0.1", "TCP", &["10.244.0.1"])]);
    let _ = succeeds(&mut proxy(&node), &web).await;
    node.break_down("connect");
    node.take_log();
    let mut proxy = proxy(&node);
    let pass = proxy.pass(&desired(&[])).await;
    assert!(pass.failures.iter().any(|failure| failure.extent == Extent::Node));
    assert!(pass.next <= Duration::from_secs(1), "it is tried again soon");
    assert_eq!(node.take_log(), ["diagnose , 1 services", "find leftovers , 1 services"]);
    assert!(!node.rules().is_empty());
    assert!(!proxy.status().health().synced);
}

#[tokio::test]
async fn one_thing_that_fails_does_not_make_the_node_unhealthy() {
    let node = Node::default();
    node.break_down("bind 10.96.0.1");
    let mut proxy = proxy(&node);
    let both = desired(&[
        service("web", "10.96.0.1", "TCP", &["10.244.0.1"]),
        service("api", "10.96.0.2", "TCP", &["10.244.0.2"]),
    ]);
    let pass = proxy.pass(&both).await;
    assert!(!pass.is_success() && pass.is_in_sync());
    let health = proxy.status().health();
    assert!(health.synced && health.failures == ["bind is broken"], "{health:?}");

    // A node that has none of its addresses serves nobody.
    let node = Node::default();
    node.break_down("bind");
    let mut proxy = self::proxy(&node);
    assert!(!proxy.pass(&both).await.is_in_sync() && !proxy.status().health().synced);
}

#[tokio::test]
async fn what_others_change_is_mended_once_the_node_is_looked_at_again() {
    let node = Node::default();
    let mut proxy = proxy(&node).check_interval(Duration::ZERO);
    let web = desired(&[service("web", "10.96.0.1", "TCP", &["10.244.0.1"])]);
    let _ = succeeds(&mut proxy, &web).await;
    let mut other = ipvs_netlink::Options::new().connect_with(node.kernel.link()).unwrap();
    other.flush().unwrap();
    node.addresses.borrow_mut().clear();
    *node.filter.borrow_mut() = None;
    let _ = succeeds(&mut proxy, &web).await;
    assert_eq!(node.rules(), web.rules);
    assert_eq!(*node.addresses.borrow(), web.addresses);
    assert!(node.filter.borrow().is_some());
}

#[tokio::test]
async fn udp_flows_are_forgotten_that_would_go_astray() {
    let node = Node::default();
    let mut proxy = proxy(&node);
    let dns = |endpoints: &[&str]| desired(&[service("dns", "10.96.0.10", "UDP", endpoints)]);
    let forgotten = |log: Vec<String>| -> Vec<String> {
        log.into_iter().filter(|line| line.starts_with("forget")).collect()
    };
    let _ = succeeds(&mut proxy, &dns(&[])).await;
    assert!(forgotten(node.take_log()).is_empty());
    let _ = succeeds(&mut proxy, &dns(&["10.244.0.1", "10.244.0.2"])).await;
    assert_eq!(forgotten(node.take_log()), ["forget 10.96.0.10:80 None, 1 services"]);
    // One more endpoint changes nothing for those that have one.
    let _ = succeeds(&mut proxy, &dns(&["10.244.0.1", "10.244.0.2", "10.244.0.3"])).await;
    assert!(forgotten(node.take_log()).is_empty());
    let _ = succeeds(&mut proxy, &dns(&["10.244.0.1", "10.244.0.3"])).await;
    let gone = "forget 10.96.0.10:80 Some(10.244.0.2:8080), 1 services";
    assert_eq!(forgotten(node.take_log()), [gone]);
}

/// kube-proxy's chains are what lets traffic through until then.
#[tokio::test]
async fn what_kube_proxy_left_goes_once_all_stands() {
    let node = Node::default();
    let mut proxy = proxy(&node).take_over(true);
    let web_object = || service("web", "10.96.0.1", "TCP", &["10.244.0.1"]);
    let web = desired(&[web_object()]);
    node.break_down("filter");
    let _ = proxy.pass(&web).await;
    assert!(!node.take_log().iter().any(|line| line.starts_with("leftovers")));
    node.repair();
    // What cannot be removed now is tried again, and not at each pass.
    node.break_down("filter");
    for _ in 0..8 {
        // The wait of failures grows to its longest.
        let _ = proxy.look_again().pass(&web).await;
    }
    node.repair();
    node.break_down("leftovers");
    let first = proxy.look_again().pass(&web).await;
    assert!(first.is_in_sync() && !first.is_success());
    node.repair();
    node.take_log();
    let second = proxy.pass(&web).await;
    assert!(!node.take_log().iter().any(|line| line.starts_with("leftovers")), "it waits");
    assert_eq!(second.failures[0].to_string(), first.failures[0].to_string());
    // A part that fails for good, such as one port, keeps nothing of kube-proxy's.
    node.break_down("port");
    let pass = proxy.look_again().pass(&desired(&[web_object(), local("10.244.0.9")])).await;
    assert!(pass.is_in_sync() && !pass.is_success());
    assert!(node.take_log().last().unwrap().starts_with("leftovers"));
    node.repair();
    let _ = succeeds(&mut proxy, &web).await;
    assert!(!node.take_log().iter().any(|line| line.starts_with("leftovers")), "once is enough");
}

#[tokio::test]
async fn what_kube_proxy_left_is_told_once_where_it_is_not_to_be_removed() {
    let node = Node::default();
    let mut proxy = proxy(&node);
    assert_eq!(succeeds(&mut proxy, &desired(&[])).await.notes, ["chains are left"]);
    assert!(succeeds(proxy.look_again(), &desired(&[])).await.notes.is_empty());
    let mut taking_over = self::proxy(&node).take_over(true);
    for _ in 0..2 {
        assert!(succeeds(&mut taking_over, &desired(&[])).await.notes.is_empty());
    }
}

/// A node with a guard against losing too much, which has four Services and a load balancer of policy Local.
async fn guarded_node() -> (Node, Proxy<Node>) {
    let node = Node::default();
    let mut proxy = Proxy::new(node.clone(), &Options::default(), Arc::<Status>::default());
    let mut all: Vec<_> = (1..=4)
        .map(|n| service(&format!("s{n}"), &format!("10.96.0.{n}"), "TCP", &["10.244.0.1"]))
        .collect();
    all.push(local("10.244.0.9"));
    let _ = succeeds(&mut proxy, &desired(&all)).await;
    node.take_log();
    (node, proxy)
}

/// What is there for the rules: the packet filter, the addresses and the answers to health checks.
fn surroundings(node: &Node) -> (Option<Table>, BTreeSet<IpAddr>, BTreeMap<u16, usize>) {
    (node.filter.borrow().clone(), node.addresses.borrow().clone(), node.answers.borrow().clone())
}

/// Once: the rules stayed, and the packet filter refused whoever came to them from outside, and load balancers were told
/// that no endpoint is here.
#[tokio::test]
async fn too_much_at_once_is_withheld_with_all_that_it_needs_until_it_is_confirmed() {
    let (node, mut proxy) = guarded_node().await;
    let before = surroundings(&node);
    assert_eq!((before.1.len(), before.2.get(&32000)), (6, Some(&1)));
    let pass = proxy.pass(&desired(&[])).await;
    let text = pass.to_string();
    assert!(text.matches("SIGUSR1").count() == 1 && !pass.is_in_sync(), "{text}");
    assert_eq!(text.matches("the plan").count(), 1, "it is told once: {text}");
    assert_eq!(node.rules().services().len(), 6);
    assert_eq!(surroundings(&node), before);
    // All nodes withhold at once, and each of them serves as it did.
    let health = proxy.status().health();
    assert!(health.synced && health.withheld && health.failures.len() == 1, "{health:?}");

    // So it stays while the node is looked at again, and what others take away comes back.
    node.addresses.borrow_mut().clear();
    *node.filter.borrow_mut() = None;
    let _ = proxy.look_again().pass(&desired(&[])).await;
    assert_eq!(surroundings(&node), before);

    proxy.confirm();
    let _ = succeeds(&mut proxy, &desired(&[])).await;
    assert!(node.rules().is_empty() && node.addresses.borrow().is_empty());
    assert!(node.set("cluster_ips4").is_empty() && node.answers.borrow().is_empty());
    assert!(!proxy.status().health().withheld);
}

/// What is new is guarded, though what stands is kept.
#[tokio::test]
async fn while_losses_are_withheld_ranges_of_sources_are_tightened_all_the_same() {
    let (node, mut proxy) = guarded_node().await;
    let tighter = local("10.244.0.9").replace("192.0.2.0/24", "192.0.2.0/28");
    let emptied =
        [service("new", "10.96.0.7", "TCP", &[]), tighter.replace("10.244.0.9", "10.244.0.8")];
    let emptied = Desired { rules: Ruleset::new(), ..desired(&emptied) };
    assert!(!proxy.pass(&emptied).await.is_in_sync());
    assert_eq!(node.set("sources4_1"), ["192.0.2.0/28"]);
    let cluster_ips = node.set("cluster_ips4");
    for address in ["10.96.0.1", "10.96.0.4", "10.96.0.7"] {
        assert!(cluster_ips.contains(&format!("tcp . {address} . 80")), "{cluster_ips:?}");
    }
}

/// A proxy that starts does not know what the table of nft has, and the API server may have lost its objects meanwhile.
#[tokio::test]
async fn a_proxy_that_starts_with_losses_to_withhold_leaves_the_packet_filter_alone() {
    let (node, proxy) = guarded_node().await;
    drop(proxy);
    let before = surroundings(&node);
    let mut proxy = Proxy::new(node.clone(), &Options::default(), Arc::<Status>::default());
    for _ in 0..2 {
        assert!(!proxy.pass(&desired(&[])).await.is_in_sync());
        let now = surroundings(&node);
        assert_eq!((now.0, now.1), (before.0.clone(), before.1.clone()));
    }
    proxy.confirm();
    let _ = succeeds(&mut proxy, &desired(&[])).await;
    assert!(node.rules().is_empty() && node.addresses.borrow().is_empty());
    assert!(node.set("cluster_ips4").is_empty());
}

const INGRESS: &str = "tcp . 203.0.113.9 . 80";

/// Once: a load balancer that was deleted while no proxy ran was open to all for as long as IPVS did not remove it, since
/// the packet filter was loaded first.
#[tokio::test]
async fn a_load_balancer_that_stands_is_open_to_nobody_else_whatever_fails() {
    let ingress = ServiceKey::tcp("203.0.113.9".parse::<IpAddr>().unwrap(), 80);
    let mut stood = [0, 0];
    let faults: [fn() -> Fault; 3] =
        [|| Fault::Refuse(16), || Fault::Fail(5), || Fault::FailListing(12)];
    for (fault, step) in faults.iter().flat_map(|fault| (1..9).map(move |step| (*fault, step))) {
        for (count, is_new) in stood.iter_mut().zip([true, false]) {
            let node = Node::default();
            let mut proxy = proxy(&node);
            let web = service("web", "10.96.0.1", "TCP", &["10.244.0.1"]);
            let _ =
                succeeds(&mut proxy, &desired(&[web.clone(), restricted("192.0.2.0/24")])).await;
            if is_new {
                proxy = self::proxy(&node);
            }
            node.faults.borrow_mut().push(("filter", step, fault));
            // An endpoint on the node has the packet filter loaded in any case.
            let web = web.replace("endpoints: [{", "endpoints: [{nodeName: a, ");
            let _ = proxy.pass(&desired(std::slice::from_ref(&web))).await;
            node.kernel.clear_faults();
            let closed = node.set("closed4").contains(&INGRESS.to_owned());
            let is_guarded =
                closed || node.set("restricted4")[..] == [format!("{INGRESS} : jump sources4_1")];
            let stands = node.rules().service(ingress).is_some();
            assert!(is_guarded || !stands, "{:?} at {step}: {:?}", fault(), node.filter);
            assert!(!closed || is_new, "a proxy that runs knows who may come");
            *count += usize::from(stands);
            // Once IPVS does as it is told, nothing of it is left.
            let passed = loop {
                let pass = proxy.look_again().pass(&desired(std::slice::from_ref(&web))).await;
                if pass.is_success() && node.rules().service(ingress).is_none() {
                    break pass;
                }
                tokio::time::sleep(pass.next).await;
            };
            assert!(passed.is_in_sync());
            for set in ["closed4", "restricted4", "external4"] {
                assert!(node.set(set).is_empty(), "{set}: {:?}", node.set(set));
            }
            assert_eq!(node.addresses.borrow().len(), 1);
        }
    }
    assert!(stood.iter().all(|count| *count > 2), "the faults strike: {stood:?}");
}

/// Once: the source ranges of a load balancer went before the load balancer did, where one of its connections was yet to end.
#[tokio::test]
async fn what_drains_keeps_its_source_ranges() {
    let node = Node::default();
    let mut proxy = proxy(&node);
    let _ = succeeds(&mut proxy, &desired(&[restricted("192.0.2.0/24")])).await;
    let ingress = ServiceKey::tcp("203.0.113.9".parse::<IpAddr>().unwrap(), 80);
    let connection = node.kernel.open(ingress).unwrap();
    for _ in 0..2 {
        let pass = succeeds(&mut proxy, &desired(&[])).await;
        assert!(node.rules().service(ingress).is_some(), "it drains: {pass}");
        assert_eq!(node.set("restricted4"), [format!("{INGRESS} : jump sources4_1")]);
        assert!(node.set("cluster_ips4").is_empty() && node.addresses.borrow().len() == 1);
    }
    node.kernel.close(connection);
    while node.rules().service(ingress).is_some() {
        let pass = succeeds(&mut proxy, &desired(&[])).await;
        node.kernel.advance(pass.next.max(Duration::from_secs(300)));
        proxy.look_again();
    }
    let _ = succeeds(&mut proxy, &desired(&[])).await;
    assert!(node.set("restricted4").is_empty() && node.addresses.borrow().is_empty());
}

/// Once: addresses of Services that were not made were bound all the same, and what a proxy took for standing grew with
/// each pass that withheld something.
#[tokio::test]
async fn while_losses_are_withheld_only_addresses_of_services_that_stand_are_bound() {
    let (node, mut proxy) = guarded_node().await;
    let before = surroundings(&node).1;
    for number in 7..9 {
        let address = format!("10.96.0.{number}");
        let new = service("new", &address, "TCP", &[]);
        assert!(!proxy.pass(&desired(&[new])).await.is_in_sync());
        assert_eq!(surroundings(&node).1, before);
        let cluster_ips = node.set("cluster_ips4");
        let has = |number| cluster_ips.contains(&format!("tcp . 10.96.0.{number} . 80"));
        assert!(has(1) && has(number) && !(number == 8 && has(7)), "{cluster_ips:?}");
    }
    // What is missing of what stands is bound.
    node.addresses.borrow_mut().clear();
    let _ = proxy.look_again().pass(&desired(&[])).await;
    assert_eq!(surroundings(&node).1, before);
    proxy.confirm();
    let new = desired(&[service("new", "10.96.0.7", "TCP", &[])]);
    let _ = succeeds(&mut proxy, &new).await;
    assert_eq!(*node.addresses.borrow(), new.addresses);
}

/// Once: addresses were bound for as long as IPVS failed, and no service was made for them.
#[tokio::test]
async fn no_address_is_bound_where_the_table_cannot_be_read() {
    let node = Node::default();
    let mut proxy = proxy(&node);
    for after in ["addresses", "filter"] {
        node.faults.borrow_mut().push((after, 1, || Fault::FailListing(12)));
    }
    let web = desired(&[service("web", "10.96.0.1", "TCP", &["10.244.0.1"])]);
    assert!(!proxy.pass(&web).await.is_in_sync());
    assert!(node.addresses.borrow().is_empty());
    node.kernel.clear_faults();
    let _ = succeeds(&mut proxy, &web).await;
    assert_eq!(*node.addresses.borrow(), web.addresses);
}

/// Once: it was bound to `kube-ipvs0`, too, and the ports of the host there were closed.
#[tokio::test]
async fn an_address_that_another_interface_has_is_left_to_it() {
    let node = Node::default();
    let mut proxy = proxy(&node);
    let own: IpAddr = "10.96.0.1".parse().unwrap();
    node.others.borrow_mut().insert(own);
    let both = desired(&[
        service("web", "10.96.0.1", "TCP", &["10.244.0.1"]),
        service("api", "10.96.0.2", "TCP", &["10.244.0.2"]),
    ]);
    let pass = succeeds(&mut proxy, &both).await;
    assert_eq!(pass.notes[0], "10.96.0.1 is not bound: another interface of the node has it");
    assert_eq!(node.rules(), both.rules, "it is served there");
    assert_eq!(node.set("bound4"), ["10.96.0.2"]);
    assert!(!node.addresses.borrow().contains(&own));

    // The interface loses it, and gets it again.
    node.others.borrow_mut().clear();
    let _ = succeeds(&mut proxy, &both).await;
    assert_eq!(node.set("bound4").len(), 2);
    node.others.borrow_mut().insert(own);
    let mut proxy = self::proxy(&node);
    let _ = succeeds(&mut proxy, &both).await;
    assert!(!node.addresses.borrow().contains(&own) && node.set("bound4") == ["10.96.0.2"]);
}

/// Once: an address that was bound before its Node was known, by kube-proxy for one, stayed bound, and this node took
/// what was for that one.
#[tokio::test]
async fn an_address_of_another_node_is_unbound_though_its_service_stays() {
    let node = Node::default();
    let external = service("web", "10.96.0.1", "TCP", &["10.244.0.1"])
        .replace("ports: [\n", "externalIPs: [192.168.1.12], ports: [\n");
    let other = "---
{apiVersion: v1, kind: Node, metadata: {name: b}, status: {addresses: [{type: InternalIP, address: 192.168.1.12}]}}
";
    let alone = desired(std::slice::from_ref(&external));
    let both = desired(&[external, other.to_owned()]);
    assert_eq!((alone.addresses.len(), both.addresses.len()), (2, 1));
    // The Node registers while the proxy runs.
    let mut proxy = proxy(&node);
    let _ = succeeds(&mut proxy, &alone).await;
    let _ = succeeds(&mut proxy, &both).await;
    assert_eq!(*node.addresses.borrow(), both.addresses);
    assert_eq!((node.rules(), node.set("bound4")), (both.rules.clone(), vec!["10.96.0.1".into()]));
    // Somebody else bound it before the proxy started.
    node.addresses.borrow_mut().insert("192.168.1.12".parse().unwrap());
    let _ = succeeds(&mut self::proxy(&node), &both).await;
    assert_eq!(*node.addresses.borrow(), both.addresses);
}

/// Once: flows that the kernel did not forget at once went astray for as long as their clients asked.
#[tokio::test]
async fn flows_that_could_not_be_forgotten_are_tried_again() {
    let node = Node::default();
    let mut proxy = proxy(&node);
    let dns = |endpoints: &[&str]| desired(&[service("dns", "10.96.0.10", "UDP", endpoints)]);
    let _ = succeeds(&mut proxy, &dns(&["10.244.0.1", "10.244.0.2"])).await;
    node.take_log();
    node.break_down("forget");
    let one = dns(&["10.244.0.1"]);
    let pass = proxy.pass(&one).await;
    assert!(pass.is_in_sync() && !pass.is_success() && pass.next <= Duration::from_secs(1));
    node.repair();
    let _ = succeeds(&mut proxy, &one).await;
    let log = node.take_log();
    let gone = "forget 10.96.0.10:80 Some(10.244.0.2:8080), 1 services";
    assert_eq!(log.iter().filter(|line| *line == gone).count(), 1, "{log:?}");
    let _ = succeeds(&mut proxy, &one).await;
    assert!(!node.take_log().iter().any(|line| line.starts_with("forget")));
}

#[tokio::test]
async fn of_the_packet_filter_only_what_differs_is_loaded_unless_others_changed_it() {
    let node = Node::default();
    let mut proxy = proxy(&node);
    let on_node = |endpoint: &str| {
        service("web", "10.96.0.1", "TCP", &[endpoint])
            .replace("endpoints: [{", "endpoints: [{nodeName: a, ")
    };
    let _ = succeeds(&mut proxy, &desired(&[on_node("10.244.0.1")])).await;
    assert!(node.script.borrow().contains("delete table"));
    let _ = succeeds(&mut proxy, &desired(&[on_node("10.244.0.2")])).await;
    let element = |endpoint: &str| format!("tcp . {endpoint} . 8080 . {endpoint}");
    let expected =
        format!("delete element inet ipvs-kube hairpins4 {{\n    {}\n}}\n", element("10.244.0.1"));
    assert_eq!(*node.script.borrow(), expected);
    assert_eq!(node.set("hairpins4"), [element("10.244.0.2")]);

    // Somebody else took the element that is to go.
    node.filter.borrow_mut().as_mut().unwrap().get_mut("hairpins4").unwrap().clear();
    let _ = succeeds(&mut proxy, &desired(&[on_node("10.244.0.3")])).await;
    assert_eq!(node.set("hairpins4"), [element("10.244.0.3")]);
    assert!(node.script.borrow().contains("delete table"));
}

/// Once: the table of a proxy that had nft stayed, and refused what was to be open.
#[tokio::test]
async fn without_nft_the_table_of_a_proxy_before_goes() {
    let node = Node::default();
    let web = [service("web", "10.96.0.1", "TCP", &["10.244.0.1"])];
    let _ = succeeds(&mut proxy(&node), &desired(&web)).await;
    assert!(node.filter.borrow().is_some());
    let options = Options { without_nft: true, ..Options::default() };
    let mut proxy = Proxy::new(node.clone(), &options, Arc::<Status>::default());
    let without = Desired { nft: None, ..desired(&web) };
    let _ = succeeds(&mut proxy, &without).await;
    assert!(node.filter.borrow().is_none());
}

/// Once: what the first pass mended was not told, since it looked only after that.
#[tokio::test]
async fn what_a_node_lacks_is_told_before_it_is_mended_and_advised_where_it_is_not() {
    let node = Node::default();
    node.lacking.borrow_mut().extend(["forwarding", "a module"]);
    let mut proxy = proxy(&node);
    let pass = succeeds(&mut proxy, &desired(&[])).await;
    assert!(pass.done.contains(&"mended: forwarding is lacking".to_owned()), "{pass}");
    assert_eq!(pass.advice, ["a module is lacking\nbuy it"]);
    assert!(succeeds(&mut proxy, &desired(&[])).await.advice.is_empty());
}

/// Once: an interval that reaches beyond the end of time was a panic.
#[tokio::test]
async fn the_longest_interval_is_one() {
    let node = Node::default();
    let mut proxy = proxy(&node).check_interval(Duration::MAX);
    for _ in 0..2 {
        let _ = succeeds(&mut proxy, &desired(&[])).await;
    }
    assert!(proxy.status().health().synced);
}

#[tokio::test]
async fn health_tells_of_the_api_server_and_stays_well_without_it() {
    let node = Node::default();
    let mut proxy = proxy(&node);
    let at = serve_health(([127, 0, 0, 1], 0).into(), proxy.status()).unwrap();
    let _ = succeeds(&mut proxy, &desired(&[])).await;
    assert!(!get(at, "/healthz").await.1.contains("apiServer"), "none is asked");
    proxy.status().set_api_server(vec!["Services: it is away".to_owned()]);
    let (status, body) = get(at, "/healthz").await;
    assert_eq!(status, "HTTP/1.1 200 OK");
    let expected = r#""apiServer":{"connected":false,"errors":["Services: it is away"]}"#;
    assert!(body.contains(expected), "{body}");
}

/// What a server answers to a request for a path: the first line, and the body.
async fn get(at: SocketAddr, path: &str) -> (String, String) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(at).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

#[tokio::test]
async fn health_is_503_until_the_node_is_in_sync_and_while_it_is_about_to_go() {
    let node = Node::default();
    let mut proxy = proxy(&node);
    let at = serve_health(([127, 0, 0, 1], 0).into(), proxy.status()).unwrap();
    for path in ["/healthz", "/livez"] {
        let (status, body) = get(at, path).await;
        assert_eq!(status, "HTTP/1.1 503 Service Unavailable");
        assert!(
            body.contains(r#""synced":false"#) && body.contains(r#""lastUpdated":null"#),
            "{body}"
        );
    }
    let _ = succeeds(&mut proxy, &desired(&[])).await;
    assert_eq!(get(at, "/healthz").await.0, "HTTP/1.1 200 OK");

    let going = NODE.replace("spec: {", "spec: {taints: [{key: ToBeDeletedByClusterAutoscaler}], ");
    let mut cluster = Cluster::default();
    cluster.read(&going).unwrap();
    let going = Desired::new(&cluster.objects("a").unwrap(), &Options::default());
    let _ = succeeds(&mut proxy, &going).await;
    let (status, body) = get(at, "/healthz").await;
    assert_eq!(status, "HTTP/1.1 503 Service Unavailable");
    assert!(body.contains(r#""nodeEligible":false"#), "{body}");
    assert_eq!(get(at, "/livez").await.0, "HTTP/1.1 200 OK");
    assert!(get(at, "/other").await.0.contains("404"));
}
