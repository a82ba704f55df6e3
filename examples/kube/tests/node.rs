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
use ipvs_kube::node::{Extent, Host, NotDone, Pass, Proxy, Status, serve_health};
use ipvs_kube::{Cluster, Desired, HealthCheck, Options};
use ipvs_netlink::fake::Kernel;
use ipvs_netlink::{Client, DestinationKey, Ruleset, ServiceKey};

/// What a pass did to the node, in order, with the services that IPVS had then.
type Log = Rc<RefCell<Vec<String>>>;

/// A node that does as it is told, unless something of it is broken.
#[derive(Clone, Default)]
struct Node {
    kernel: Kernel,
    log: Log,
    addresses: Rc<RefCell<BTreeSet<IpAddr>>>,
    filter: Rc<RefCell<Option<String>>>,
    broken: Rc<RefCell<BTreeSet<&'static str>>>,
    /// How many steps of the kernel the log took.
    own_steps: Rc<Cell<u64>>,
}

impl Node {
    fn act(&self, what: &'static str, details: &str) -> Result<()> {
        if self.broken.borrow().contains(what) {
            return Err(anyhow!("{what} is broken"));
        }
        let line = format!("{what} {details}, {} services", self.rules().services().len());
        self.log.borrow_mut().push(line);
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
        Vec::new()
    }

    fn set_sysctls(&mut self) -> Result<Vec<String>> {
        self.act("sysctls", "").map(|()| Vec::new())
    }

    async fn addresses(&mut self) -> Result<BTreeSet<IpAddr>> {
        self.act("addresses", "").map(|()| self.addresses.borrow().clone())
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
        *self.filter.borrow_mut() = Some(script.to_owned());
        Ok(())
    }

    async fn answer(&mut self, checks: &BTreeMap<u16, HealthCheck>) -> Vec<NotDone<u16>> {
        checks.keys().filter_map(|port| Some((*port, self.act("port", "").err()?))).collect()
    }

    async fn forget(
        &mut self,
        stale: &BTreeSet<(SocketAddr, Option<SocketAddr>)>,
    ) -> Result<usize> {
        let stale: Vec<_> = stale.iter().map(|(to, from)| format!("{to} {from:?}")).collect();
        self.act("forget", &stale.join(" ")).map(|()| stale.len())
    }

    async fn remove_leftovers(&mut self) -> Result<Vec<String>> {
        self.act("leftovers", "").map(|()| Vec::new())
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
        "sysctls , 0 services",
        "addresses , 0 services",
        "filter , 0 services",
        "bind 10.96.0.1, 0 services",
    ];
    assert_eq!(node.take_log(), order);

    let steps = node.steps();
    let pass = succeeds(&mut proxy, &web).await;
    assert_eq!(node.steps(), steps, "nothing differs, and nothing is sent");
    assert!(pass.is_quiet() && pass.next > Duration::ZERO);
    node.take_log();

    let _ = succeeds(&mut proxy, &desired(&[])).await;
    let log = node.take_log();
    assert_eq!(
        log,
        ["sysctls , 1 services", "filter , 1 services", "unbind 10.96.0.1, 0 services",]
    );
    // The address was closed for as long as it was bound, though nobody wants it any more.
    assert!(node.filter.borrow().as_ref().unwrap().contains("            10.96.0.1\n"));
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
    assert!(node.take_log().is_empty() && !node.rules().is_empty());
    assert!(!proxy.status().health().synced);
}

#[tokio::test]
async fn one_thing_that_fails_does_not_make_the_node_unhealthy() {
    let node = Node::default();
    node.break_down("bind");
    let mut proxy = proxy(&node);
    let pass = proxy.pass(&desired(&[service("web", "10.96.0.1", "TCP", &["10.244.0.1"])])).await;
    assert!(!pass.is_success() && pass.is_in_sync());
    let health = proxy.status().health();
    assert!(health.synced && health.failures == ["bind is broken"], "{health:?}");
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
    let web = desired(&[service("web", "10.96.0.1", "TCP", &["10.244.0.1"])]);
    node.break_down("filter");
    let _ = proxy.pass(&web).await;
    assert!(!node.take_log().iter().any(|line| line.starts_with("leftovers")));
    node.repair();
    let _ = succeeds(&mut proxy, &web).await;
    assert_eq!(node.take_log().last().unwrap(), "leftovers , 1 services");
    let _ = succeeds(&mut proxy, &web).await;
    assert!(!node.take_log().iter().any(|line| line.starts_with("leftovers")), "once is enough");
}

#[tokio::test]
async fn too_much_at_once_is_withheld_until_it_is_confirmed() {
    let node = Node::default();
    let mut proxy = Proxy::new(node.clone(), &Options::default(), Arc::<Status>::default());
    let all: Vec<_> = (1..=4)
        .map(|n| service(&format!("s{n}"), &format!("10.96.0.{n}"), "TCP", &["10.244.0.1"]))
        .collect();
    let _ = succeeds(&mut proxy, &desired(&all)).await;
    let pass = proxy.pass(&desired(&[])).await;
    assert!(pass.to_string().contains("SIGUSR1") && !pass.is_in_sync(), "{pass}");
    assert_eq!((node.rules().services().len(), node.addresses.borrow().len()), (4, 4));
    proxy.confirm();
    let _ = succeeds(&mut proxy, &desired(&[])).await;
    assert!(node.rules().is_empty() && node.addresses.borrow().is_empty());
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
    let at = serve_health(([127, 0, 0, 1], 0).into(), proxy.status()).await.unwrap();
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
