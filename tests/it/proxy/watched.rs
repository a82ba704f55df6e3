//! The proxy as it watches the cluster's API server: what it sends for a change, a rolling update under traffic, and an API
//! server that is away.

use std::net::IpAddr;

use anyhow::{Context as _, ensure};
use ipvs_netlink::wire::Command::{DelDest, GetService, NewDest};
use ipvs_netlink::{DestinationEntry, ServiceKey};
use serde_json::{Value, json};

use super::cluster::Cluster;
use super::monitor::Monitor;
use super::place::{POD, Place, get, ip, ipvs, rules};
use super::{CLUSTER, Requests, Site, has_endpoints, is_whole, with_dns};
use crate::case::{Outcome, cases};
use crate::subject::Subject;
use crate::traffic::wait_until;

cases![
    an_endpoint_added_or_removed_is_one_send_and_one_replaced_is_two,
    a_rolling_update_fails_no_request,
    while_the_api_server_is_away_traffic_goes_on,
];

/// The proxy looks at the node by itself so rarely that all it does follows from what the API server tells.
const BY_EVENTS: [&str; 2] = ["--check-interval", "3600"];

async fn an_endpoint_added_or_removed_is_one_send_and_one_replaced_is_two(
    _: &mut Subject,
) -> Outcome {
    let place = Place::build()?;
    let [a, b, c] = ["10.244.0.37", "10.244.0.53", "10.244.0.54"];
    let [a6, b6, c6] = ["fd00:244::25", "fd00:244::35", "fd00:244::36"];
    let mut cluster = Cluster::start(&with_dns(&[a], &[a6]))?;
    let mut proxy = place.watch(&cluster, &BY_EVENTS)?;
    proxy.wait_for("rules: ");
    let monitor = Monitor::start()?;
    for (v4, v6, expected) in [
        (&[a, b][..], &[a6][..], &[NewDest][..]),
        (&[a, b], &[a6, b6], &[NewDest]),
        (&[b], &[a6, b6], &[DelDest]),
        (&[b], &[b6], &[DelDest]),
        (&[c], &[b6], &[NewDest, DelDest]),
        (&[c], &[c6], &[NewDest, DelDest]),
    ] {
        cluster.set(&with_dns(v4, v6))?;
        proxy.wait_for("rules: ");
        let sent = monitor.sent()?;
        let expected: Vec<_> = expected.iter().map(|command| vec![*command]).collect();
        ensure!(sent == expected, "{v4:?} and {v6:?}: {sent:?}");
    }
    // The monitor hears what reads, too.
    let rules = rules()?;
    ensure!(monitor.sent()?.concat().contains(&GetService));
    for (service, endpoint) in [("10.96.0.10", c), ("fd00:96::a", c6)] {
        let rules = rules.service(ServiceKey::udp(service.parse::<IpAddr>()?, 53));
        let endpoints = rules.context("a service")?.destinations().map(|to| to.key.address);
        ensure!(endpoints.eq([endpoint.parse::<IpAddr>()?]), "{rules:?}");
    }
    Ok(())
}

/// How many endpoints are replaced, and how many of them at once: a Deployment replaces several.
const PODS: u16 = 50;
const TOGETHER: usize = 5;

/// A pod of the Service `web`: its address in each family.
#[derive(Clone)]
struct Pod {
    addresses: [IpAddr; 2],
    is_ending: bool,
}

impl Pod {
    fn new(number: u16) -> anyhow::Result<Self> {
        let v4 = format!("10.244.0.{}", 100 + number).parse()?;
        let v6 = format!("fd00:244::{:x}", 0x100 + number).parse()?;
        Ok(Self { addresses: [v4, v6], is_ending: false })
    }

    /// It serves from now on, or no more.
    fn change(&self, act: &str) -> Outcome {
        let [v4, v6] = self.addresses;
        let lines = [
            format!("address {act} {v4}/24 dev eth0"),
            format!("address {act} {v6}/64 dev eth0 nodad"),
        ];
        ip(POD, &lines.each_ref().map(String::as_str))
    }

    /// As an `EndpointSlice` has it.
    fn endpoint(&self, family: usize) -> Value {
        let conditions = json!({
            "ready": !self.is_ending, "serving": true, "terminating": self.is_ending,
        });
        let addresses = [self.addresses[family]];
        json!({ "addresses": addresses, "nodeName": "node", "conditions": conditions })
    }
}

/// Tells that the Service `web` has these pods.
fn set_pods(cluster: &Cluster, pods: &[Pod]) -> Outcome {
    for (family, name) in ["web-4", "web-6"].into_iter().enumerate() {
        let mut slice = cluster.object(name)?;
        slice["endpoints"] = pods.iter().map(|pod| pod.endpoint(family)).collect();
        cluster.put(&slice)?;
    }
    Ok(())
}

/// Whether these pods get no new connections by the Service `web`, and have none.
fn have_ended(pods: &[Pod], sites: &[Site]) -> anyhow::Result<bool> {
    let mut ipvs = ipvs()?;
    for at in sites.iter().flat_map(|site| [site.cluster_ip, site.node_port]) {
        let entries = ipvs.destinations(ServiceKey::tcp(at.ip(), at.port()))?;
        let is_used = |entry: &DestinationEntry| {
            let to = entry.destination;
            let is_of = |pod: &Pod| pod.addresses.contains(&to.key.address);
            (to.weight > 0 || entry.active_connections > 0) && pods.iter().any(is_of)
        };
        if entries.iter().any(is_used) {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn a_rolling_update_fails_no_request(_: &mut Subject) -> Outcome {
    let place = Place::build()?;
    let mut pods = (0..PODS).map(Pod::new).collect::<anyhow::Result<Vec<_>>>()?;
    pods.iter().try_for_each(|pod| pod.change("add"))?;
    let cluster = Cluster::start(CLUSTER)?;
    set_pods(&cluster, &pods)?;
    let mut proxy = place.watch(&cluster, &BY_EVENTS)?;
    proxy.wait_for("rules: ");
    let sites = Site::both()?;
    let requests = Requests::start(&sites);
    requests.wait_for(1)?;
    for numbers in (PODS..2 * PODS).collect::<Vec<_>>().chunks(TOGETHER) {
        for number in numbers {
            let new = Pod::new(*number)?;
            new.change("add")?;
            pods.push(new);
        }
        pods[..TOGETHER].iter_mut().for_each(|pod| pod.is_ending = true);
        set_pods(&cluster, &pods)?;
        proxy.wait_for("rules: ");
        wait_until("the endpoints that end have no connections", || {
            have_ended(&pods[..TOGETHER], &sites)
        })?;
        // The API server tells of their end along with the next change.
        pods.drain(..TOGETHER).try_for_each(|pod| pod.change("delete"))?;
        requests.wait_for(1)?;
    }
    set_pods(&cluster, &pods)?;
    proxy.wait_for("rules: ");
    requests.wait_for(1)?;
    requests.stop()?;
    let rules = rules()?;
    for site in &sites {
        for at in [site.cluster_ip, site.node_port, site.external] {
            let service =
                rules.service(ServiceKey::tcp(at.ip(), at.port())).context("a service")?;
            let mut serving: Vec<_> = service
                .destinations()
                .filter(|to| to.weight > 0)
                .map(|to| to.key.address)
                .collect();
            serving.sort();
            let family = usize::from(at.is_ipv6());
            let wanted: Vec<_> = pods.iter().map(|pod| pod.addresses[family]).collect();
            ensure!(serving == wanted, "{at} has {serving:?}");
        }
    }
    Ok(())
}

async fn while_the_api_server_is_away_traffic_goes_on(_: &mut Subject) -> Outcome {
    let place = Place::build()?;
    let (before, after) = (["10.244.0.37", "fd00:244::25"], ["10.244.0.53", "fd00:244::35"]);
    let changed = CLUSTER.replace(before[0], after[0]).replace(before[1], after[1]);
    // What changed in both families is gathered for one pass, however slow the machine is.
    let gather = ["--gather", "1s", "--gather-at-most", "10s", "--api-pause", "1s"];
    let arguments = [&BY_EVENTS[..], &gather].concat();
    let mut cluster = Cluster::start(CLUSTER)?;
    let mut proxy = place.watch(&cluster, &arguments)?;
    proxy.wait_for("rules: ");
    let requests = Requests::start(&Site::both()?);
    requests.wait_for(5)?;

    // The first pass once it is back has what changed meanwhile.
    cluster.go()?;
    cluster.set(&changed)?;
    requests.wait_for(5)?;
    ensure!(has_endpoints(&before)?);
    cluster.come()?;
    proxy.wait_for("rules: ");
    ensure!(has_endpoints(&after)? && is_whole()?, "{:#?}", proxy.said);
    requests.wait_for(5)?;

    // A proxy that starts meanwhile leaves the node as it is, and says that it knows nothing yet.
    cluster.go()?;
    drop(proxy);
    cluster.set(CLUSTER)?;
    requests.wait_for(5)?;
    let mut proxy = place.watch(&cluster, &arguments)?;
    proxy.wait_for("health is told");
    let healthz = get("127.0.0.1:10256".parse()?, "/healthz")?;
    ensure!(healthz.starts_with("HTTP/1.1 503"), "{healthz}");
    requests.wait_for(5)?;
    ensure!(has_endpoints(&after)? && is_whole()?);
    cluster.come()?;
    proxy.wait_for("rules: ");
    ensure!(has_endpoints(&before)? && is_whole()?, "{:#?}", proxy.said);
    requests.wait_for(5)?;
    requests.stop()
}
