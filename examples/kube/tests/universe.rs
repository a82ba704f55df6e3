//! Every small cluster: which endpoints serve is held against the rules said once more, one endpoint at a time.
#![allow(clippy::unwrap_used, missing_docs)]

use std::net::IpAddr;

use ipvs_kube::{Desired, Objects, Options};
use ipvs_netlink::ServiceKey;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, from_value, json};

/// What an endpoint says of itself.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Condition {
    Ready,
    Ends,
    Down,
}

/// What an endpoint is hinted for.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Hint {
    Nothing,
    Zone(&'static str),
    /// A node's hints come with its zone's.
    Node(&'static str, &'static str),
}

#[derive(Debug, Clone, Copy)]
struct Endpoint {
    is_local: bool,
    condition: Condition,
    hint: Hint,
}

/// How the Service and the proxy are set up.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::struct_excessive_bools, reason = "each goes through both of its values")]
struct Setup {
    internal_local: bool,
    external_local: bool,
    has_node_port: bool,
    strict: bool,
    zone: Option<&'static str>,
}

/// Whether an endpoint serves the traffic of a policy.
fn serves(one: &Endpoint, all: &[Endpoint], is_local: bool, setup: Setup) -> bool {
    if is_local && all.iter().any(|other| other.is_local && other.condition != Condition::Down) {
        let near: Vec<_> = all.iter().filter(|other| other.is_local).collect();
        let none_is_ready = near.iter().all(|other| other.condition != Condition::Ready);
        return one.is_local && is_used(one, none_is_ready);
    }
    if is_local && (setup.strict || !setup.has_node_port) {
        return false;
    }
    let ready: Vec<_> = all.iter().filter(|other| other.condition == Condition::Ready).collect();
    let preferred: &dyn Fn(&Endpoint) -> bool = if ready.iter().all(|other| node(other).is_some())
        && ready.iter().any(|other| node(other) == Some("a"))
    {
        &|endpoint| node(endpoint) == Some("a")
    } else if setup.zone.is_some()
        && ready.iter().all(|other| zone(other).is_some())
        && ready.iter().any(|other| zone(other) == setup.zone)
    {
        &|endpoint| zone(endpoint) == setup.zone
    } else {
        &|_| true
    };
    is_used(one, ready.is_empty()) && (ready.is_empty() || preferred(one))
}

fn is_used(endpoint: &Endpoint, none_is_ready: bool) -> bool {
    match endpoint.condition {
        Condition::Ready => true,
        Condition::Ends => none_is_ready,
        Condition::Down => false,
    }
}

fn zone(endpoint: &Endpoint) -> Option<&'static str> {
    match endpoint.hint {
        Hint::Nothing => None,
        Hint::Zone(zone) | Hint::Node(_, zone) => Some(zone),
    }
}

fn node(endpoint: &Endpoint) -> Option<&'static str> {
    match endpoint.hint {
        Hint::Node(node, _) => Some(node),
        Hint::Nothing | Hint::Zone(_) => None,
    }
}

fn address(index: usize) -> String {
    format!("10.244.0.{}", index + 1)
}

fn slice(endpoints: &[Endpoint]) -> EndpointSlice {
    let endpoint = |(index, endpoint): (usize, &Endpoint)| {
        let hints = match endpoint.hint {
            Hint::Nothing => Value::Null,
            Hint::Zone(zone) => json!({ "forZones": [{ "name": zone }] }),
            Hint::Node(node, zone) => {
                json!({ "forNodes": [{ "name": node }], "forZones": [{ "name": zone }] })
            }
        };
        let (ready, ends) = match endpoint.condition {
            Condition::Ready => (true, false),
            Condition::Ends => (false, true),
            Condition::Down => (false, false),
        };
        json!({
            "addresses": [address(index)],
            "nodeName": if endpoint.is_local { "a" } else { "b" },
            "conditions": { "ready": ready, "serving": ready || ends, "terminating": ends },
            "hints": hints,
        })
    };
    let endpoints: Vec<_> = endpoints.iter().enumerate().map(endpoint).collect();
    from_value(json!({
        "metadata": { "namespace": "n", "name": "s-1", "labels": { "kubernetes.io/service-name": "s" } },
        "addressType": "IPv4",
        "ports": [{ "name": "", "port": 8080 }],
        "endpoints": endpoints,
    }))
    .unwrap()
}

fn check(endpoints: &[Endpoint], slice: &EndpointSlice, setup: Setup) {
    let policy = |is_local| if is_local { "Local" } else { "Cluster" };
    let service: Service = from_value(json!({
        "metadata": { "namespace": "n", "name": "s" },
        "spec": {
            "type": "NodePort",
            "clusterIP": "10.96.0.1",
            "internalTrafficPolicy": policy(setup.internal_local),
            "externalTrafficPolicy": policy(setup.external_local),
            "ports": [{ "port": 80, "nodePort": if setup.has_node_port { 30080 } else { 0 } }],
        },
    }))
    .unwrap();
    let labels = setup.zone.map(|zone| json!({ "topology.kubernetes.io/zone": zone }));
    let node: Node = from_value(json!({
        "metadata": { "name": "a", "labels": labels },
        "status": { "addresses": [{ "type": "InternalIP", "address": "192.168.1.1" }] },
    }))
    .unwrap();
    let objects = Objects {
        services: vec![&service],
        slices: vec![slice],
        node: &node,
        nodes: vec![&node],
        notes: vec![],
    };
    let options = Options { strict_local: setup.strict, ..Options::default() };
    let desired = Desired::new(&objects, &options);

    let frontends = [
        ("10.96.0.1", 80, setup.internal_local, true),
        ("192.168.1.1", 30080, setup.external_local, setup.has_node_port),
    ];
    for (frontend, port, is_local, is_there) in frontends {
        let key = ServiceKey::tcp(frontend.parse::<IpAddr>().unwrap(), port);
        let rules = desired.rules.service(key);
        assert_eq!(rules.is_some(), is_there, "{key}: {setup:?}");
        let Some(rules) = rules else { continue };
        let found: Vec<String> = rules.destinations().map(|found| found.key.to_string()).collect();
        let wanted: Vec<String> = endpoints
            .iter()
            .enumerate()
            .filter(|(_, one)| serves(one, endpoints, is_local, setup))
            .map(|(index, _)| format!("{}:8080", address(index)))
            .collect();
        assert_eq!(found, wanted, "{key}: {setup:?} {endpoints:#?}");
    }
}

/// All sets of up to so many endpoints.
fn sets(kinds: &[Endpoint], most: usize) -> Vec<Vec<Endpoint>> {
    fn grow(kinds: &[Endpoint], most: usize, set: &[Endpoint], sets: &mut Vec<Vec<Endpoint>>) {
        sets.push(set.to_vec());
        if set.len() == most {
            return;
        }
        // Their order says nothing: each set is made once.
        for (index, kind) in kinds.iter().enumerate() {
            grow(&kinds[index..], most, &[set, &[*kind]].concat(), sets);
        }
    }
    let mut sets = Vec::new();
    grow(kinds, most, &[], &mut sets);
    sets
}

fn kinds(hints: &[Hint]) -> Vec<Endpoint> {
    let mut kinds = Vec::new();
    for is_local in [false, true] {
        for condition in [Condition::Ready, Condition::Ends, Condition::Down] {
            kinds.extend(hints.iter().map(|hint| Endpoint { is_local, condition, hint: *hint }));
        }
    }
    kinds
}

fn check_all(hints: &[Hint], most: usize, zones: &[Option<&'static str>]) {
    let bools = [false, true];
    for endpoints in sets(&kinds(hints), most) {
        let slice = slice(&endpoints);
        for bits in 0..16 {
            let [internal_local, external_local, has_node_port, strict] =
                [0, 1, 2, 3].map(|bit| bools[bits >> bit & 1]);
            for &zone in zones {
                let setup = Setup { internal_local, external_local, has_node_port, strict, zone };
                check(&endpoints, &slice, setup);
            }
        }
    }
}

#[test]
fn two_endpoints_of_all_kinds() {
    let hints = [
        Hint::Nothing,
        Hint::Zone("z1"),
        Hint::Zone("z2"),
        Hint::Node("a", "z1"),
        Hint::Node("b", "z1"),
        Hint::Node("b", "z2"),
    ];
    check_all(&hints, 2, &[None, Some("z1")]);
}

#[test]
fn three_endpoints_that_differ_in_condition_and_place() {
    check_all(&[Hint::Nothing, Hint::Zone("z1")], 3, &[Some("z1")]);
}
