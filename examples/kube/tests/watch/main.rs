//! The watch against an API server in the process, and what passes over its objects send to a fake kernel.
#![allow(clippy::unwrap_used)] // A test may fail by a panic.

#[path = "../../../../tests/support/api.rs"]
mod api;
#[path = "../../../../tests/support/noting.rs"]
mod noting;
mod passes;
mod program;
mod server;

use std::future::Future;
use std::time::Duration;

use clap::Parser;
use ipvs_kube::watch::{Status, Watch, WatchOptions};
use ipvs_kube::{Cluster, Desired, Objects, Options};
use serde_json::{Value, json};

use api::{Api, Nodes, Services, Slices};

const OWN: &str = "node-a";

/// After this long something hangs, however slow the machine is.
const PATIENCE: Duration = Duration::from_secs(120);

/// An API server with two Nodes and two Services, and a watch that has seen them all.
struct World {
    api: Api,
    watch: Watch,
}

impl World {
    async fn new() -> Self {
        let api = Api::start().await;
        populate(&api);
        let mut watch = watch(&api).await;
        let _ = watch.next().await;
        for kind in [Services, Slices, Nodes] {
            // The list and the watch from its version on.
            idle(&mut watch, api.until_asked(kind, 2)).await;
        }
        Self { api, watch }
    }

    /// Waits for a status while nothing changes.
    async fn until(&mut self, wanted: impl Fn(&Status) -> bool) -> Status {
        let mut status = self.watch.status();
        let mut found = Status::default();
        idle(&mut self.watch, async {
            found = status.wait_for(|status| wanted(status)).await.unwrap().clone();
        })
        .await;
        found
    }

    fn desired(&self) -> Desired {
        desired(&self.watch.objects().unwrap())
    }
}

async fn idle(watch: &mut Watch, until: impl Future<Output = ()>) {
    let status = watch.status();
    tokio::select! {
        biased;
        objects = watch.next() => panic!("it changed: {objects:?}"),
        () = until => {}
        () = tokio::time::sleep(PATIENCE) => panic!("waited in vain:\n{}", status.borrow().clone()),
    }
}

async fn watch(api: &Api) -> Watch {
    Watch::new(OWN, &options(api)).await.unwrap()
}

fn options(api: &Api) -> WatchOptions {
    WatchOptions {
        api: Some(api.url()),
        gather: Duration::ZERO,
        api_pause: Duration::from_millis(10),
        ..WatchOptions::default()
    }
}

fn populate(api: &Api) {
    for (node, last) in [(OWN, 11), ("node-b", 12)] {
        api.put(Nodes, node_object(node, last));
    }
    api.put(Services, service("web", "10.96.0.10", "TCP", 80));
    api.put(Slices, slice("web", "TCP", 8080, &[1, 2]));
    api.put(Services, service("dns", "10.96.0.53", "UDP", 53));
    api.put(Slices, slice("dns", "UDP", 5353, &[3, 4]));
}

fn desired(objects: &Objects<'_>) -> Desired {
    Desired::new(objects, &Options::default())
}

fn node_object(name: &str, last: u8) -> Value {
    json!({
        "metadata": { "name": name, "labels": { "topology.kubernetes.io/zone": "zone-a" } },
        "spec": { "podCIDRs": [format!("10.244.{last}.0/24")] },
        "status": {
            "addresses": [{ "type": "InternalIP", "address": format!("192.168.1.{last}") }],
            "images": [{ "names": ["image"], "sizeBytes": 1 }],
        },
    })
}

fn service(name: &str, address: &str, protocol: &str, port: u16) -> Value {
    json!({
        "metadata": { "namespace": "shop", "name": name, "managedFields": [{ "manager": "test" }] },
        "spec": { "clusterIP": address, "ports": [{ "port": port, "protocol": protocol }] },
    })
}

/// The slice of a Service, with endpoints 10.244.0.N.
fn slice(service: &str, protocol: &str, port: u16, endpoints: &[u8]) -> Value {
    let endpoints: Vec<_> = endpoints
        .iter()
        .map(|last| json!({ "addresses": [format!("10.244.0.{last}")], "targetRef": { "kind": "Pod" } }))
        .collect();
    json!({
        "metadata": {
            "namespace": "shop", "name": format!("{service}-1"),
            "labels": { "kubernetes.io/service-name": service },
        },
        "addressType": "IPv4",
        "ports": [{ "port": port, "protocol": protocol }],
        "endpoints": endpoints,
    })
}

fn rules(desired: &Desired) -> String {
    desired.rules.to_string()
}

/// What is trimmed away of an object, no rule depends on.
#[tokio::test]
async fn what_is_watched_gives_the_same_as_what_kubectl_prints() {
    let text = include_str!("../../cluster.json");
    let api = Api::start().await;
    let list: Value = serde_json::from_str(text).unwrap();
    for object in list["items"].as_array().unwrap() {
        match object["kind"].as_str().unwrap() {
            "Service" => api.put(Services, object.clone()),
            "EndpointSlice" => api.put(Slices, object.clone()),
            "Node" => api.put(Nodes, object.clone()),
            _ => {}
        }
    }
    api.page(Services, 3);
    let mut watch = watch(&api).await;
    let watched = desired(&watch.next().await);
    let mut cluster = Cluster::default();
    cluster.read(text).unwrap();
    let read = desired(&cluster.objects(OWN).unwrap());
    assert_eq!(watched.rules.services().len(), read.rules.services().len());
    assert!(watched == read, "{watched}\n{read}");
    assert!(api.asked(Services).len() > 10, "its pages are asked for: {:?}", api.asked(Services));
}

#[test]
fn options_that_exclude_each_other_are_refused() {
    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        _options: WatchOptions,
    }
    assert!(Line::try_parse_from(["x", "--api", "http://[::1]:8001", "--context", "c"]).is_err());
    assert!(Line::try_parse_from(["x", "--gather", "fast"]).is_err());
    assert!(Line::try_parse_from(["x", "--kubeconfig", "file", "--context", "c"]).is_ok());
}

#[tokio::test]
async fn an_api_server_that_cannot_be_asked_is_an_error_with_its_cause() {
    let of = |api: Option<&str>, kubeconfig: Option<&str>| WatchOptions {
        api: api.map(str::to_owned),
        kubeconfig: kubeconfig.map(Into::into),
        ..WatchOptions::default()
    };
    for (options, words) in [
        (of(Some("no url"), None), "--api no url is no URL: "),
        (of(None, Some("/nowhere/config")), "/nowhere/config: "),
        (of(None, Some("Cargo.toml")), "Cargo.toml: "),
    ] {
        let error = Watch::new(OWN, &options).await.unwrap_err();
        assert!(format!("{error:#}").starts_with(words), "{error:#}");
    }
}
