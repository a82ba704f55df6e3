//! Small clusters with what a node is to have for them, each with the documentation or the code of kube-proxy that says
//! so. They are in the files of `tests/clusters`.
//!
//! A cluster is one Service, `shop/web`, with an endpoint on this node, `a`, and one on another. A case gives what is
//! different of its objects, in the words of the API, and all that is expected:
//!
//! - `rules`: each service with its endpoints, scheduled by `rr` unless `-s` says otherwise.
//! - `addresses`: those of `kube-ipvs0`, which the set `bound` of their family has, too.
//! - `sets`: the sets and maps of the nft script that are not empty. `hairpins`, `pod_networks` and `node_addresses` are compared
//!   where a case names them; nothing else is left out.
//! - `script`: lines that the script has.
//! - `health`: the ports, each with its endpoints on this node of IPv4 and IPv6.
//! - `notes`: all of them.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use clap::Parser;
use ipvs_kube::{Cluster, Desired, Options};
use ipvs_netlink::{Family, Ruleset};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    #[serde(rename = "case")]
    name: String,
    source: String,
    #[serde(default)]
    options: String,
    #[serde(default)]
    node: Value,
    #[serde(default)]
    service: Value,
    /// Of the slice that there is otherwise.
    endpoints: Option<Value>,
    /// In the place of that slice.
    slices: Option<Vec<Value>>,
    /// Objects besides, in full.
    #[serde(default)]
    more: Vec<Value>,
    rules: BTreeMap<String, String>,
    #[serde(default)]
    addresses: String,
    #[serde(default)]
    sets: BTreeMap<String, Words>,
    #[serde(default)]
    script: Vec<String>,
    #[serde(default)]
    health: BTreeMap<u16, [usize; 2]>,
    #[serde(default)]
    notes: Vec<String>,
}

/// One or several.
#[derive(Deserialize, Clone)]
#[serde(untagged)]
enum Words {
    One(String),
    Several(Vec<String>),
}

impl Words {
    fn sorted(self) -> Vec<String> {
        let mut words = match self {
            Self::One(word) => vec![word],
            Self::Several(words) => words,
        };
        words.sort();
        words
    }
}

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: Options,
}

impl Case {
    fn objects(&self) -> Value {
        let mut node = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": { "name": "a", "labels": { "topology.kubernetes.io/zone": "z1" } },
            "spec": { "podCIDRs": ["10.244.0.0/24", "fd00:244::/64"] },
            "status": { "addresses": [{ "type": "InternalIP", "address": "192.168.1.1" }] },
        });
        merge(&mut node, &self.node);
        let mut service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": { "namespace": "shop", "name": "web" },
            "spec": { "type": "ClusterIP", "clusterIP": "10.96.0.1", "ports": [{ "port": 80, "protocol": "TCP" }] },
        });
        merge(&mut service, &self.service);
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "namespace": "shop", "name": "web-1", "labels": { "kubernetes.io/service-name": "web" },
            },
            "addressType": "IPv4",
            "ports": [{ "name": "", "port": 8080, "protocol": "TCP" }],
            "endpoints": [
                { "addresses": ["10.244.0.5"], "nodeName": "a" },
                { "addresses": ["10.244.1.5"], "nodeName": "b" },
            ],
        });
        let of_endpoints =
            || self.endpoints.iter().map(|endpoints| json!({ "endpoints": endpoints })).collect();
        let mut differences: Vec<Value> = self.slices.clone().unwrap_or_else(of_endpoints);
        if differences.is_empty() && self.slices.is_none() {
            differences.push(Value::Null);
        }
        let slices = differences.iter().zip(1..).map(|(difference, number)| {
            let mut slice = slice.clone();
            slice["metadata"]["name"] = format!("web-{number}").into();
            merge(&mut slice, difference);
            slice
        });
        let items: Vec<Value> =
            [node, service].into_iter().chain(slices).chain(self.more.clone()).collect();
        json!({ "apiVersion": "v1", "kind": "List", "items": items })
    }

    fn check(self) {
        let name = self.name.clone();
        let documented =
            self.source.starts_with("https://kubernetes.io/docs/") && self.source.contains('#');
        let coded = self.source.starts_with("https://github.com/kubernetes/")
            && self.source.contains("/blob/v");
        assert!(documented || coded, "{name}: {} is no heading and no permalink", self.source);

        let mut cluster = Cluster::default();
        cluster
            .read(&self.objects().to_string())
            .unwrap_or_else(|error| panic!("{name}: {error:#}"));
        if self.slices.as_ref().is_some_and(Vec::is_empty) {
            cluster.slices.get_or_insert_default();
        }
        let words = std::iter::once("ipvs-kube").chain(self.options.split_whitespace());
        let options = Line::parse_from(words).options;
        let desired = Desired::new(&cluster.objects("a").unwrap(), &options);

        let notes: Vec<String> = desired.notes.iter().map(ToString::to_string).collect();
        assert_eq!(notes, self.notes, "{name}: notes");
        let wanted: Ruleset =
            rules(&self.rules).parse().unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(desired.rules.to_string(), wanted.to_string(), "{name}: rules");
        let addresses: Vec<String> = desired.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(
            addresses,
            self.addresses.split_whitespace().collect::<Vec<_>>(),
            "{name}: addresses"
        );
        let health = desired.health_checks.iter().map(|(port, check)| {
            (*port, [Family::V4, Family::V6].map(|family| check.local_endpoints(family)))
        });
        assert_eq!(health.collect::<BTreeMap<_, _>>(), self.health, "{name}: health checks");

        let Some(script) = &desired.nft else {
            assert!(self.sets.is_empty() && self.script.is_empty(), "{name}: there is no script");
            return;
        };
        let text = script.to_string();
        let found = sets(&text);
        let bound =
            ["bound4", "bound6"].into_iter().flat_map(|set| found.get(set).into_iter().flatten());
        assert_eq!(
            bound.collect::<Vec<_>>(),
            addresses.iter().collect::<Vec<_>>(),
            "{name}: bound addresses"
        );
        let is_compared = |set: &String| {
            let set_apart = ["bound", "hairpins", "pod_networks", "node_addresses"];
            self.sets.contains_key(set) || !set_apart.iter().any(|apart| set.starts_with(apart))
        };
        let found: BTreeMap<_, _> = found.into_iter().filter(|(set, _)| is_compared(set)).collect();
        let wanted = self.sets.iter().map(|(set, words)| (set.clone(), words.clone().sorted()));
        assert_eq!(found, wanted.collect(), "{name}: sets");
        for line in &self.script {
            assert!(
                text.lines().any(|found| found.trim() == line),
                "{name}: {line}\nis not in\n{text}"
            );
        }
    }
}

/// Puts what is different over an object: maps go together, all else is replaced, and null leaves what there is.
fn merge(object: &mut Value, difference: &Value) {
    match (object, difference) {
        (_, Value::Null) => {}
        (Value::Object(object), Value::Object(difference)) => {
            for (key, value) in difference {
                merge(object.entry(key).or_insert(Value::Null), value);
            }
        }
        (object, difference) => *object = difference.clone(),
    }
}

/// The rules in ipvsadm's format.
fn rules(rules: &BTreeMap<String, String>) -> String {
    let mut text = String::new();
    for (service, endpoints) in rules {
        let mut words = service.splitn(3, ' ');
        let (protocol, address) = (words.next().unwrap(), words.next().unwrap());
        let protocol = match protocol {
            "tcp" => "-t",
            "udp" => "-u",
            "sctp" => "--sctp-service",
            other => panic!("{other}"),
        };
        let options = words.next().unwrap_or_default();
        let scheduler = if options.contains("-s ") { "" } else { "-s rr" };
        writeln!(text, "-A {protocol} {address} {scheduler} {options}").unwrap();
        for endpoint in endpoints.split_whitespace() {
            writeln!(text, "-a {protocol} {address} -r {endpoint} -m").unwrap();
        }
    }
    text
}

/// The sets of a script that are not empty, read from its text.
fn sets(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut sets: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut name = String::new();
    let mut in_elements = false;
    for line in text.lines().map(str::trim) {
        if let Some(set) = line.strip_prefix("set ").or(line.strip_prefix("map ")) {
            set.trim_end_matches(" {").clone_into(&mut name);
        } else if line == "elements = {" {
            in_elements = true;
        } else if line == "}" {
            in_elements = false;
        } else if in_elements {
            sets.entry(name.clone()).or_default().push(line.trim_end_matches(',').to_owned());
        }
    }
    for (name, elements) in &mut sets {
        // Addresses are in their own order, which that of the texts is not.
        if !name.starts_with("bound") {
            elements.sort();
        }
    }
    sets
}

macro_rules! files {
    ($($name:ident),* $(,)?) => {
        const FILES: &[&str] = &[$(include_str!(concat!("clusters/", stringify!($name), ".yaml"))),*];

        $(#[test]
        fn $name() {
            let text = include_str!(concat!("clusters/", stringify!($name), ".yaml"));
            cases(text).into_iter().for_each(Case::check);
        })*
    };
}

files! {
    affinity_and_schedulers,
    filter,
    frontends,
    health,
    node_ports,
    policies,
    source_ranges,
    terminating,
    topology,
    wrong,
}

fn cases(text: &str) -> Vec<Case> {
    serde_saphyr::from_str(text).unwrap()
}

#[test]
fn the_table_has_more_than_eighty_clusters() {
    let cases: Vec<Case> = FILES.iter().flat_map(|text| cases(text)).collect();
    assert!(cases.len() > 80, "{}", cases.len());
    let names: BTreeSet<&str> = cases.iter().map(|case| &*case.name).collect();
    assert_eq!(names.len(), cases.len(), "two cases have one name");
}
